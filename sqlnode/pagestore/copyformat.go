package pagestore

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/superfly/ltx"

	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// copyHeader says what a copy is of. FORMAT.md is the specification.
type copyHeader struct {
	group wire.GroupID
	manifestTenant
	prev State // the older state that the pages change; TXID 0 when the copy is whole
}

const (
	copyMagic   = "NSQLCPY1"
	copyVersion = 1 // of a whole copy
	copySince   = 2 // of one with the pages that changed since an older state
	stateBytes  = 20
	copyFixed   = 80      // bytes before the record
	maxRecord   = 1 << 20 // bytes of the record
)

func (h *copyHeader) append(b []byte) ([]byte, error) {
	rec, err := json.Marshal(h.rec)
	if err != nil {
		return nil, fmt.Errorf("encode record of tenant %s: %w", h.rec.ID, err)
	}
	if len(rec) > maxRecord {
		return nil, fmt.Errorf("record of tenant %s: %d bytes are more than %d", h.rec.ID, len(rec), maxRecord)
	}
	from := len(b)
	b = append(b, copyMagic...)
	version := uint32(copyVersion)
	if h.prev != (State{}) {
		version = copySince
	}
	b = binary.BigEndian.AppendUint32(b, version)
	b = binary.BigEndian.AppendUint32(b, uint32(h.group))
	b = append(b, h.rec.ID[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(h.rec.Epoch))
	b = binary.BigEndian.AppendUint32(b, h.rec.PageSize)
	b = binary.BigEndian.AppendUint64(b, uint64(h.state.TXID))
	b = binary.BigEndian.AppendUint64(b, uint64(h.state.Checksum))
	b = binary.BigEndian.AppendUint32(b, h.state.Pages)
	b = binary.BigEndian.AppendUint64(b, uint64(h.time))
	b = binary.BigEndian.AppendUint64(b, h.index)
	b = binary.BigEndian.AppendUint32(b, uint32(len(rec)))
	b = append(b, rec...)
	if version == copySince {
		b = binary.BigEndian.AppendUint64(b, uint64(h.prev.TXID))
		b = binary.BigEndian.AppendUint64(b, uint64(h.prev.Checksum))
		b = binary.BigEndian.AppendUint32(b, h.prev.Pages)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[from:], castagnoli)), nil
}

// readCopyHeader reads a header and nothing after it.
func readCopyHeader(r io.Reader) (copyHeader, error) {
	var h copyHeader
	b := make([]byte, copyFixed)
	if _, err := io.ReadFull(r, b); err != nil {
		return h, fmt.Errorf("its header is cut short: %w", err)
	}
	if string(b[:8]) != copyMagic {
		return h, fmt.Errorf("it does not begin as a copy")
	}
	extra := 0
	switch v := binary.BigEndian.Uint32(b[8:]); v {
	case copyVersion:
	case copySince:
		extra = stateBytes
	default:
		return h, fmt.Errorf("copy format %d is not known here (known: %d, %d)", v, copyVersion, copySince)
	}
	n := binary.BigEndian.Uint32(b[76:])
	if n > maxRecord {
		return h, fmt.Errorf("its record has %d bytes, more than %d", n, maxRecord)
	}
	b = append(b, make([]byte, int(n)+extra+4)...)
	if _, err := io.ReadFull(r, b[copyFixed:]); err != nil {
		return h, fmt.Errorf("its header is cut short: %w", err)
	}
	end := len(b) - 4
	if crc32.Checksum(b[:end], castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return h, fmt.Errorf("the checksum of its header is wrong")
	}
	h.group = wire.GroupID(binary.BigEndian.Uint32(b[12:]))
	h.state.TXID = wire.TXID(binary.BigEndian.Uint64(b[40:]))
	h.state.Checksum = wire.Checksum(binary.BigEndian.Uint64(b[48:]))
	h.state.Pages = binary.BigEndian.Uint32(b[56:])
	h.time = int64(binary.BigEndian.Uint64(b[60:]))
	h.index = binary.BigEndian.Uint64(b[68:])
	if err := json.Unmarshal(b[copyFixed:end-extra], &h.rec); err != nil {
		return h, fmt.Errorf("its record: %w", err)
	}
	if p := b[end-extra : end]; extra > 0 {
		h.prev.TXID = wire.TXID(binary.BigEndian.Uint64(p))
		h.prev.Checksum = wire.Checksum(binary.BigEndian.Uint64(p[8:]))
		h.prev.Pages = binary.BigEndian.Uint32(p[16:])
		if h.prev.TXID == 0 || h.prev.TXID >= h.state.TXID || h.prev.Checksum&wire.ChecksumFlag == 0 {
			return h, fmt.Errorf("it goes from %s to %s", h.prev, h.state)
		}
	}
	id, epoch, size := wire.TenantID(b[16:32]), wire.Epoch(binary.BigEndian.Uint32(b[32:])), binary.BigEndian.Uint32(b[36:])
	switch {
	case h.rec.ID != id || h.rec.Epoch != epoch || h.rec.PageSize != size:
		return h, fmt.Errorf("its record is of tenant %s, epoch %d, pages of %d bytes; its header of %s, %d, %d",
			h.rec.ID, h.rec.Epoch, h.rec.PageSize, id, epoch, size)
	case !validPageSize(int(size)):
		return h, fmt.Errorf("it has pages of %d bytes", size)
	case (h.state.TXID == 0) != (h.state.Pages == 0) || h.state.TXID == 0 && h.state.Checksum != 0:
		return h, fmt.Errorf("it stands at %s", h.state)
	}
	return h, nil
}

// copyPages reads the pages after a header: each page of the copy's state is given to page, in order, but for that of the
// lock bytes. Those that don't come are read by old; nil means that all come. It returns nil only when nothing came after the copy, and all
// checksums fit: the rolling one is made of all pages, old ones too.
func copyPages(r io.Reader, h *copyHeader, lock uint32, old func(uint32, []byte) error, page func(uint32, wire.Checksum, []byte) error) error {
	if h.state.TXID == 0 {
		if n, err := io.ReadFull(r, make([]byte, 1)); n > 0 || err != io.EOF {
			return fmt.Errorf("bytes follow the copy of an empty database (%v)", err)
		}
		return nil
	}
	size := int(h.rec.PageSize)
	dec := ltx.NewDecoder(&blockGuard{r: r, limit: uint32(size + size/128 + 64)})
	dec.SetRetainPageIndex(false)
	if err := dec.DecodeHeader(); err != nil {
		return fmt.Errorf("LTX header: %w", noEOF(err))
	}
	if got, want := dec.Header(), h.ltxHeader(); got != want {
		return fmt.Errorf("its LTX header says %+v, its own header %+v", got, want)
	}
	rolling := wire.ChecksumFlag
	buf, kept := make([]byte, size), make([]byte, size)
	var next ltx.PageHeader
	ended, at := false, uint32(0)
	read := func() error {
		at = next.Pgno
		err := dec.DecodePage(&next, buf)
		if ended = err == io.EOF && next == (ltx.PageHeader{}); ended {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after page %d: %w", at, noEOF(err))
		}
		if next.Flags != ltx.PageHeaderFlagSize || next.Pgno <= at {
			return fmt.Errorf("page %d with flags %x after page %d", next.Pgno, next.Flags, at)
		}
		return nil
	}
	if err := read(); err != nil {
		return err
	}
	for pgno := uint32(1); pgno <= h.state.Pages; pgno++ {
		if pgno == lock {
			continue
		}
		comes := !ended && next.Pgno == pgno
		data := buf
		if !comes {
			if old == nil || pgno > h.prev.Pages {
				return fmt.Errorf("page %d does not come (%d does)", pgno, next.Pgno)
			}
			data = kept
			if err := old(pgno, data); err != nil {
				return err
			}
		}
		s := txn.PageSum(pgno, data)
		rolling ^= s &^ wire.ChecksumFlag
		if err := page(pgno, s, data); err != nil {
			return err
		}
		if !comes {
			continue
		}
		if err := read(); err != nil {
			return err
		}
	}
	if !ended {
		return fmt.Errorf("after its %d pages: page %d", h.state.Pages, next.Pgno)
	}
	if err := dec.Close(); err != nil {
		return fmt.Errorf("end of LTX: %w", noEOF(err))
	}
	if post := wire.Checksum(dec.Trailer().PostApplyChecksum); rolling != h.state.Checksum || post != rolling {
		return fmt.Errorf("%w: that of its pages is %s, its end says %s, its header %s", errMismatch, rolling, post, h.state.Checksum)
	}
	return nil
}

// errMismatch says that the pages of a copy are not those of its state.
var errMismatch = errors.New("the checksums differ")

// noEOF makes clear that an end of the stream came too early.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// blockGuard keeps ltx.Decoder from making room for a block of any size: it is the size of a block, and nothing
// else, that the decoder asks for with 4 bytes. So that it never asks for the last 4 bytes of something else, it gets all that
// it asks for at once.
type blockGuard struct {
	r     io.Reader
	limit uint32
}

func (g *blockGuard) Read(p []byte) (int, error) {
	n, err := io.ReadFull(g.r, p)
	switch {
	case n == len(p):
	case n > 0 && err == io.ErrUnexpectedEOF:
		return n, nil
	case len(p) == 4:
		return n, noEOF(err)
	default:
		return n, err
	}
	if n != 4 {
		return n, nil
	}
	if size := binary.BigEndian.Uint32(p); size > g.limit {
		return 0, fmt.Errorf("a compressed page of %d bytes", size)
	}
	return n, nil
}

// replacement is the record of a copy that came whole: the base with this number is the tenant as the header
// says, and sections in segments of smaller numbers are not of it.
type replacement struct {
	number uint64
	manifestTenant
}

const (
	replacedMagic   = "NSQLREP1"
	replacedVersion = 1
)

func (p *replacement) encode(group wire.GroupID) ([]byte, error) {
	b := append([]byte(nil), replacedMagic...)
	b = binary.BigEndian.AppendUint32(b, replacedVersion)
	b = binary.BigEndian.AppendUint64(b, p.number)
	h := copyHeader{group: group, manifestTenant: p.manifestTenant}
	b, err := h.append(b)
	if err != nil {
		return nil, err
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

func decodeReplacement(b []byte, id wire.TenantID) (replacement, error) {
	var p replacement
	if len(b) < 24 || string(b[:8]) != replacedMagic {
		return p, fmt.Errorf("it does not begin as the record of a copy")
	}
	if v := binary.BigEndian.Uint32(b[8:]); v != replacedVersion {
		return p, fmt.Errorf("format %d is not known here (known: %d)", v, replacedVersion)
	}
	end := len(b) - 4
	if crc32.Checksum(b[:end], castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return p, fmt.Errorf("its checksum is wrong")
	}
	r := bytes.NewReader(b[20:end])
	h, err := readCopyHeader(r)
	if err != nil {
		return p, err
	}
	p.number, p.manifestTenant = binary.BigEndian.Uint64(b[12:]), h.manifestTenant
	switch {
	case r.Len() > 0:
		return p, fmt.Errorf("%d bytes are left", r.Len())
	case p.rec.ID != id:
		return p, fmt.Errorf("it is of tenant %s", p.rec.ID)
	case h.prev != (State{}):
		return p, fmt.Errorf("it is not of a whole copy")
	case p.number == 0:
		return p, fmt.Errorf("it has no number")
	}
	return p, nil
}
