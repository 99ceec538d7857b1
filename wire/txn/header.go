package txn

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"

	"github.com/nearsql/nearsql/wire"
)

// magic and version are the first two bytes of each entry. Entries of oldest are read too: they have no copies.
const (
	magic   = 'N'
	version = 2
	oldest  = 1
)

// MaxEntry is the length in bytes that an entry of the Raft log should not
// exceed; a larger transaction goes in parts.
const MaxEntry = 64 << 10

// MaxHeader is the length in bytes that no header exceeds.
const MaxHeader = 128

// trailerSize is the length of the CRC-32C that ends an entry.
const trailerSize = 4

// MaxPayload is the payload of a control entry or part that always fits MaxEntry.
const MaxPayload = MaxEntry - MaxHeader - trailerSize

// Kind is what an entry is.
type Kind uint8

// Kinds of entries.
const (
	Transaction Kind = 1 // pages of one commit
	Control     Kind = 2 // a fact about the tenant; the payload is opaque here
	Part        Kind = 3 // a piece of the body of a later transaction
)

// String names the kind.
func (k Kind) String() string {
	switch k {
	case Transaction:
		return "transaction"
	case Control:
		return "control"
	case Part:
		return "part"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Flags of a transaction.
type Flags uint8

const (
	// FlagParts: the body came before, in Header.Parts entries of kind Part
	// with the same tenant and Header.Operation.
	FlagParts Flags = 1 << iota
	// FlagImport: the transaction creates or replaces the whole database, and
	// no limit on the size of transactions holds for it.
	FlagImport

	flagsKnown = FlagParts | FlagImport
)

// Header is what is known of an entry without its body. Fields that the kind
// and flags do not have must be zero.
type Header struct {
	Kind   Kind
	Flags  Flags
	Tenant wire.TenantID
	Epoch  wire.Epoch
	Group  wire.GroupID
	Policy uint32 // number of the tenant's policy (placement, jurisdiction) that the writer knew
	// PageSize in bytes: a power of two, 512 to 65536. May be 0 in control entries and parts.
	PageSize uint32

	PrevTXID wire.TXID     // position before the entry
	PrevSum  wire.Checksum // rolling checksum before the entry
	NextTXID wire.TXID
	NextSum  wire.Checksum

	Commit        uint32 // pages of the database after the entry
	TimeUnixMilli uint64 // the writer's clock

	// Of a transaction:
	Pages uint32 // pages in the body; at most Commit

	// Of a transaction with FlagParts, and Operation of a part too:
	Operation uint64 // joins parts to their transaction; chosen by the writer
	Parts     uint32 // number of part entries, at least 1
	BodyLen   uint64 // bytes of all their payloads
	BodyCRC   uint32 // CRC-32C of all their payloads in order

	// Of a control entry:
	Code uint16 // what the payload is

	// Of a part:
	Part uint32 // counts from 0
}

// Prev is the position that the entry follows.
func (h *Header) Prev() wire.Pos {
	return wire.Pos{Tenant: h.Tenant, Epoch: h.Epoch, TXID: h.PrevTXID, Checksum: h.PrevSum}
}

// Next is the position that the entry leads to.
func (h *Header) Next() wire.Pos {
	return wire.Pos{Tenant: h.Tenant, Epoch: h.Epoch, TXID: h.NextTXID, Checksum: h.NextSum}
}

// Inline says whether h is of a transaction whose pages are in the entry itself.
func (h *Header) Inline() bool { return h.Kind == Transaction && h.Flags&FlagParts == 0 }

// maxPageOverhead bounds what a page takes in a body beyond its bytes:
// number, encoding, sum and length.
const maxPageOverhead = 5 + 1 + 8 + 3

// check says what is wrong with h; all that AppendHeader accepts is decoded
// to the same Header, and nothing else is decoded.
func (h *Header) check() string {
	switch {
	case h.Flags&^flagsKnown != 0:
		return "unknown flags"
	case h.Flags != 0 && h.Kind != Transaction:
		return "flags without a transaction"
	case h.PageSize != 0 && !ValidPageSize(h.PageSize):
		return "page size is no power of two from 512 to 65536"
	case h.Kind != Transaction && h.Pages != 0, h.Kind != Control && h.Code != 0, h.Kind != Part && h.Part != 0:
		return "field of another kind"
	case h.Flags&FlagParts == 0 && (h.Parts != 0 || h.BodyLen != 0 || h.BodyCRC != 0):
		return "parts without their flag"
	case h.Flags&FlagParts == 0 && h.Kind != Part && h.Operation != 0:
		return "operation without parts"
	}
	switch h.Kind {
	case Control, Part:
		return ""
	case Transaction:
	default:
		return "unknown kind"
	}
	switch {
	case h.PageSize == 0:
		return "transaction without a page size"
	case h.Pages > h.Commit:
		return "more pages than the database has"
	case h.Flags&FlagParts == 0:
		return ""
	case h.Parts == 0 || uint64(h.Parts) > h.BodyLen:
		return "number of parts does not fit the length of the body"
	case h.BodyLen > uint64(h.Pages)*uint64(h.PageSize+maxPageOverhead):
		return "body is longer than its pages can be"
	}
	return ""
}

// ValidPageSize says whether SQLite has databases of pages of n bytes.
func ValidPageSize(n uint32) bool { return n >= 512 && n <= 65536 && n&(n-1) == 0 }

// LockPage is the page that holds SQLite's lock bytes (from 2^30 on), which no
// transaction contains.
func LockPage(pageSize uint32) uint32 {
	if pageSize == 0 {
		return 0
	}
	return 1<<30/pageSize + 1
}

// AppendHeader appends the encoding of h to dst. An error names the field that
// has no encoding; dst is then returned as it was.
func AppendHeader(dst []byte, h *Header) ([]byte, error) {
	if what := h.check(); what != "" {
		return dst, &FormatError{What: "cannot encode header: " + what, Offset: -1}
	}
	dst = append(dst, magic, version, byte(h.Kind), byte(h.Flags))
	dst = append(dst, h.Tenant[:]...)
	dst = binary.AppendUvarint(dst, uint64(h.Epoch))
	dst = binary.AppendUvarint(dst, uint64(h.Group))
	dst = binary.AppendUvarint(dst, uint64(h.Policy))
	shift := byte(0)
	if h.PageSize != 0 {
		shift = byte(bits.TrailingZeros32(h.PageSize))
	}
	dst = append(dst, shift)
	dst = binary.AppendUvarint(dst, uint64(h.PrevTXID))
	dst = binary.AppendUvarint(dst, uint64(h.NextTXID-h.PrevTXID)) // modulo 2^64: almost always 1
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.PrevSum))
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.NextSum))
	dst = binary.AppendUvarint(dst, uint64(h.Commit))
	dst = binary.AppendUvarint(dst, h.TimeUnixMilli)
	switch h.Kind {
	case Transaction:
		dst = binary.AppendUvarint(dst, uint64(h.Pages))
		if h.Flags&FlagParts != 0 {
			dst = binary.BigEndian.AppendUint64(dst, h.Operation)
			dst = binary.AppendUvarint(dst, uint64(h.Parts))
			dst = binary.AppendUvarint(dst, h.BodyLen)
			dst = binary.BigEndian.AppendUint32(dst, h.BodyCRC)
		}
	case Control:
		dst = binary.BigEndian.AppendUint16(dst, h.Code)
	case Part:
		dst = binary.BigEndian.AppendUint64(dst, h.Operation)
		dst = binary.AppendUvarint(dst, uint64(h.Part))
	}
	return dst, nil
}

// DecodeHeader reads the header of an entry. It checks magic, version, kind and
// lengths, not the CRC: see Verify. It does not allocate unless it fails.
func DecodeHeader(entry []byte) (Header, error) {
	h, _, err := Split(entry)
	return h, err
}

// Split is DecodeHeader that also returns the body: pages, payload of a control
// entry, or payload of a part. The body is part of entry.
func Split(entry []byte) (h Header, body []byte, err error) {
	d := headerDecoder{b: entry}
	d.header(&h)
	if d.err == nil && len(entry)-d.off < trailerSize {
		d.fail("entry ends before its trailer")
	}
	if d.err != nil {
		return Header{}, nil, d.err
	}
	body = entry[d.off : len(entry)-trailerSize]
	switch {
	case h.Flags&FlagParts != 0 && len(body) != 0:
		return Header{}, nil, formatErr(d.off, "%d bytes of body in a transaction whose body is in parts", len(body))
	case h.Inline() && len(body) == 0 && h.Pages != 0:
		return Header{}, nil, formatErr(d.off, "no body for %d pages", h.Pages)
	case h.Inline() && uint64(len(body)) > uint64(h.Pages)*uint64(h.PageSize+maxPageOverhead):
		return Header{}, nil, formatErr(d.off, "%d bytes of body are more than %d pages can be", len(body), h.Pages)
	}
	return h, body, nil
}

// Verify checks the CRC-32C of a whole entry.
func Verify(entry []byte) error {
	if len(entry) < trailerSize {
		return formatErr(0, "entry of %d bytes has no trailer", len(entry))
	}
	end := len(entry) - trailerSize
	got, want := crc32.Checksum(entry[:end], castagnoli), binary.BigEndian.Uint32(entry[end:])
	if got != want {
		return formatErr(end, "CRC-32C is %08x, want %08x", got, want)
	}
	return nil
}

// AppendEntry appends a whole entry with the body given: the payload of a control
// entry or part, or pages that an Encoder made.
func AppendEntry(dst []byte, h *Header, body []byte) ([]byte, error) {
	start := len(dst)
	if h.Flags&FlagParts != 0 && len(body) != 0 {
		return dst, &FormatError{What: "cannot encode entry: inline body of a transaction in parts", Offset: -1}
	}
	dst, err := AppendHeader(dst, h)
	if err != nil {
		return dst, err
	}
	dst = append(dst, body...)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli)), nil
}

// headerDecoder reads fields one after another; after the first error the
// others read zeros.
type headerDecoder struct {
	b   []byte
	off int
	err error
}

func (d *headerDecoder) fail(what string) {
	if d.err == nil {
		d.err = &FormatError{What: what, Offset: int64(d.off)}
	}
}

func (d *headerDecoder) take(n int, what string) []byte {
	if d.err != nil || len(d.b)-d.off < n {
		d.fail("entry ends within its " + what)
		return nil
	}
	d.off += n
	return d.b[d.off-n : d.off]
}

func (d *headerDecoder) uvarint(limit uint64, what string) uint64 {
	if d.err != nil {
		return 0
	}
	v, n := uvarint(d.b[d.off:])
	if n == 0 || v > limit {
		d.fail("bad " + what)
		return 0
	}
	d.off += n
	return v
}

func (d *headerDecoder) u64(what string) uint64 {
	if b := d.take(8, what); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *headerDecoder) header(h *Header) {
	const max32, max64 = 1<<32 - 1, 1<<64 - 1
	start := d.take(4, "first four bytes")
	if start == nil {
		return
	}
	switch {
	case start[0] != magic:
		d.off = 0
		d.fail("no entry: first byte is wrong")
		return
	case start[1] < oldest || start[1] > version:
		d.err = &VersionError{Found: start[1], Known: []uint8{oldest, version}}
		return
	}
	h.Kind, h.Flags = Kind(start[2]), Flags(start[3])
	copy(h.Tenant[:], d.take(len(h.Tenant), "tenant id"))
	h.Epoch = wire.Epoch(d.uvarint(max32, "epoch"))
	h.Group = wire.GroupID(d.uvarint(max32, "group"))
	h.Policy = uint32(d.uvarint(max32, "policy number"))
	if b := d.take(1, "page size"); b != nil && b[0] != 0 {
		if b[0] < 9 || b[0] > 16 {
			d.off--
			d.fail("page size is no power of two from 512 to 65536")
			return
		}
		h.PageSize = 1 << b[0]
	}
	h.PrevTXID = wire.TXID(d.uvarint(max64, "previous TXID"))
	h.NextTXID = h.PrevTXID + wire.TXID(d.uvarint(max64, "next TXID"))
	h.PrevSum = wire.Checksum(d.u64("previous checksum"))
	h.NextSum = wire.Checksum(d.u64("next checksum"))
	h.Commit = uint32(d.uvarint(max32, "page count"))
	h.TimeUnixMilli = d.uvarint(max64, "time")
	switch h.Kind {
	case Transaction:
		h.Pages = uint32(d.uvarint(max32, "number of pages"))
		if h.Flags&FlagParts != 0 {
			h.Operation = d.u64("operation id")
			h.Parts = uint32(d.uvarint(max32, "number of parts"))
			h.BodyLen = d.uvarint(max64, "length of the body")
			if b := d.take(4, "CRC of the body"); b != nil {
				h.BodyCRC = binary.BigEndian.Uint32(b)
			}
		}
	case Control:
		if b := d.take(2, "control code"); b != nil {
			h.Code = binary.BigEndian.Uint16(b)
		}
	case Part:
		h.Operation = d.u64("operation id")
		h.Part = uint32(d.uvarint(max32, "part number"))
	}
	if d.err == nil {
		if what := h.check(); what != "" {
			d.fail(what)
		}
	}
}
