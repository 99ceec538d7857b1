package cluster

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/nearsql/nearsql/wire"
)

// Version is the version of the hello that this package writes and reads.
const Version = 1

// helloMagic begins every hello, of every version.
const helloMagic = "nearsqlC"

// Sizes of a hello in bytes; see FORMAT.md.
const (
	helloPrefix = 12  // the part that is the same in all versions
	helloFixed  = 46  // up to the names
	helloMax    = 512 // of any version
	nodeMax     = 63
	crcSize     = 4
)

// castagnoli is the polynomial of the checksums; never written.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ID names a cluster. It is made once, at random, with the cluster.
type ID [16]byte

// String returns 32 hexadecimal digits.
func (id ID) String() string { return fmt.Sprintf("%x", id[:]) }

// ParseID reads what String gives.
func ParseID(s string) (ID, error) {
	var id ID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return ID{}, fmt.Errorf("cluster id %.40q: want %d hexadecimal digits", s, 2*len(id))
	}
	return ID(b), nil
}

// MarshalText gives String's form.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is ParseID.
func (id *ID) UnmarshalText(text []byte) error {
	parsed, err := ParseID(string(text))
	if err == nil {
		*id = parsed
	}
	return err
}

// Hello is how a connection begins.
type Hello struct {
	Cluster ID
	From    string // the node that dialled
	To      string // the node that it means to have reached
	Purpose Purpose
	Group   wire.GroupID // 0 where the purpose knows no groups
	Nonce   uint64       // chosen by the dialer, comes back in the answer; both ends' logs name the connection by it
}

// ErrNotHello is returned for bytes that no version of a hello begins with. Who sends such is not answered.
var ErrNotHello = errors.New("not a hello of a cluster's node")

// HelloError says why a hello can't be read.
type HelloError struct {
	Code Code // CodeVersion or CodeMalformed
	Text string
}

// Error implements error.
func (e *HelloError) Error() string { return e.Code.String() + ": " + e.Text }

func malformed(format string, args ...any) error {
	return &HelloError{Code: CodeMalformed, Text: fmt.Sprintf(format, args...)}
}

// CheckNode refuses what can't be the id of a node: 1 to 63 of a-z, 0-9, '-' and '_'.
func CheckNode(s string) error {
	if s == "" || len(s) > nodeMax {
		return fmt.Errorf("node id of %d bytes: want 1 to %d", len(s), nodeMax)
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return fmt.Errorf("node id %q has %q: only a-z, 0-9, '-' and '_' are allowed", s, c)
		}
	}
	return nil
}

// Append appends the hello's bytes to b.
func (h Hello) Append(b []byte) ([]byte, error) {
	if err := h.check(); err != nil {
		return b, err
	}
	start := len(b)
	b = append(b, helloMagic...)
	b = append(b, Version, byte(h.Purpose))
	b = binary.BigEndian.AppendUint16(b, uint16(helloFixed+len(h.From)+len(h.To)+crcSize))
	b = binary.BigEndian.AppendUint32(b, 0) // flags
	b = binary.BigEndian.AppendUint32(b, uint32(h.Group))
	b = binary.BigEndian.AppendUint64(b, h.Nonce)
	b = append(b, h.Cluster[:]...)
	b = append(b, byte(len(h.From)), byte(len(h.To)))
	b = append(b, h.From...)
	b = append(b, h.To...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli)), nil
}

func (h Hello) check() error {
	if h.Purpose == 0 {
		return malformed("purpose is 0")
	}
	if err := CheckNode(h.From); err != nil {
		return malformed("from: %v", err)
	}
	if err := CheckNode(h.To); err != nil {
		return malformed("to: %v", err)
	}
	return nil
}

// ParseHello reads one hello, and nothing after it. Its error is ErrNotHello, a *HelloError, or io.ErrUnexpectedEOF for a
// hello that is cut off.
func ParseHello(b []byte) (Hello, error) {
	r := bytes.NewReader(b)
	h, err := ReadHello(r)
	if err == nil && r.Len() > 0 {
		return Hello{}, malformed("%d bytes behind the hello", r.Len())
	}
	return h, err
}

// ReadHello reads one hello from r, and not a byte more. Its error is ErrNotHello, a *HelloError, io.ErrUnexpectedEOF, or r's.
// After a *HelloError the hello as it announced its size has been read, so that an answer is not lost by closing the connection.
func ReadHello(r io.Reader) (Hello, error) {
	var buf [helloMax]byte
	if err := readFull(r, buf[:helloPrefix]); err != nil {
		return Hello{}, err
	}
	if string(buf[:len(helloMagic)]) != helloMagic {
		return Hello{}, ErrNotHello
	}
	size := int(binary.BigEndian.Uint16(buf[10:]))
	if size < helloPrefix || size > helloMax {
		return Hello{}, malformed("size is %d, want %d to %d", size, helloPrefix, helloMax)
	}
	if err := readFull(r, buf[helloPrefix:size]); err != nil {
		return Hello{}, err
	}
	if buf[8] != Version {
		return Hello{}, &HelloError{Code: CodeVersion, Text: fmt.Sprintf("the hello has version %d, known is %d", buf[8], Version)}
	}
	return parseBody(buf[:size])
}

// parseBody reads a whole hello of our version.
func parseBody(b []byte) (Hello, error) {
	if len(b) < helloFixed+crcSize {
		return Hello{}, malformed("size is %d, want at least %d", len(b), helloFixed+crcSize)
	}
	body, sum := b[:len(b)-crcSize], binary.BigEndian.Uint32(b[len(b)-crcSize:])
	if got := crc32.Checksum(body, castagnoli); got != sum {
		return Hello{}, malformed("the checksum is %08x, the bytes have %08x", sum, got)
	}
	if flags := binary.BigEndian.Uint32(body[12:]); flags != 0 {
		return Hello{}, malformed("unknown flags %08x", flags)
	}
	from, to := int(body[44]), int(body[45])
	if helloFixed+from+to != len(body) {
		return Hello{}, malformed("names of %d and %d bytes in a hello of %d", from, to, len(b))
	}
	h := Hello{
		Purpose: Purpose(body[9]),
		Group:   wire.GroupID(binary.BigEndian.Uint32(body[16:])),
		Nonce:   binary.BigEndian.Uint64(body[20:]),
		Cluster: ID(body[28:44]),
		From:    string(body[helloFixed : helloFixed+from]),
		To:      string(body[helloFixed+from:]),
	}
	if err := h.check(); err != nil {
		return Hello{}, err
	}
	return h, nil
}

// readFull is io.ReadFull whose error is never io.EOF: there is always more to come.
func readFull(r io.Reader, p []byte) error {
	_, err := io.ReadFull(r, p)
	if err == io.EOF && len(p) > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}
