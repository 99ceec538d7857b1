package cluster

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// answerMagic begins every answer to a hello.
const answerMagic = "nearsqlA"

const (
	answerFixed = 20  // bytes up to the text
	textMax     = 512 // bytes of the text
)

// Code says what became of a hello.
type Code uint8

// The codes. Numbers are never used again; one that a reader does not know is a refusal like the others.
const (
	CodeAccepted       Code = 0
	CodeVersion        Code = 1  // the hello is of a version that the acceptor does not know
	CodeMalformed      Code = 2  // the hello can't be read
	CodeWrongCluster   Code = 3  // the acceptor is of another cluster
	CodeWrongNode      Code = 4  // the acceptor is another node than the one that was meant
	CodeIdentity       Code = 5  // the dialer's certificate is not of the node that its hello names
	CodeNotAdmitted    Code = 6  // the dialer is no node of the cluster: unknown, or removed
	CodeUnknownPurpose Code = 7  // the acceptor takes no connections for this purpose
	CodeUnknownGroup   Code = 8  // the acceptor has no such group
	CodeBusy           Code = 9  // the acceptor has too many connections, or accepts them too slowly
	CodeStopping       Code = 10 // the acceptor is about to stop
)

// codeCount is the number of codes that have names.
const codeCount = 11

// String returns the code's name.
func (c Code) String() string {
	switch c {
	case CodeAccepted:
		return "accepted"
	case CodeVersion:
		return "unknown version"
	case CodeMalformed:
		return "malformed hello"
	case CodeWrongCluster:
		return "wrong cluster"
	case CodeWrongNode:
		return "wrong node"
	case CodeIdentity:
		return "identity not proven"
	case CodeNotAdmitted:
		return "not admitted"
	case CodeUnknownPurpose:
		return "unknown purpose"
	case CodeUnknownGroup:
		return "unknown group"
	case CodeBusy:
		return "busy"
	case CodeStopping:
		return "stopping"
	}
	return fmt.Sprintf("code(%d)", uint8(c))
}

// answer is what an acceptor says to a hello.
type answer struct {
	version byte // the hello's version that the acceptor knows
	code    Code
	nonce   uint64 // the hello's; 0 when it could not be read
	text    string
}

// append appends the answer's bytes to b, its text made printable and short enough.
func (a answer) append(b []byte) []byte {
	text := printable(a.text, textMax)
	start := len(b)
	b = append(b, answerMagic...)
	b = append(b, a.version, byte(a.code))
	b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
	b = binary.BigEndian.AppendUint64(b, a.nonce)
	b = append(b, text...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// readAnswer reads one answer from r, and not a byte more.
func readAnswer(r io.Reader) (answer, error) {
	var buf [answerFixed + textMax + crcSize]byte
	if err := readFull(r, buf[:answerFixed]); err != nil {
		return answer{}, fmt.Errorf("answer to the hello: %w", err)
	}
	if string(buf[:len(answerMagic)]) != answerMagic {
		return answer{}, fmt.Errorf("the answer to the hello begins with %q: not a node's", buf[:len(answerMagic)])
	}
	textLen := int(binary.BigEndian.Uint16(buf[10:]))
	if textLen > textMax {
		return answer{}, fmt.Errorf("answer to the hello: text of %d bytes, want at most %d", textLen, textMax)
	}
	end := answerFixed + textLen
	if err := readFull(r, buf[answerFixed:end+crcSize]); err != nil {
		return answer{}, fmt.Errorf("answer to the hello: %w", err)
	}
	sum := binary.BigEndian.Uint32(buf[end:])
	if got := crc32.Checksum(buf[:end], castagnoli); got != sum {
		return answer{}, fmt.Errorf("answer to the hello: the checksum is %08x, the bytes have %08x", sum, got)
	}
	a := answer{version: buf[8], code: Code(buf[9]), nonce: binary.BigEndian.Uint64(buf[12:]), text: string(buf[answerFixed:end])}
	if printable(a.text, textMax) != a.text {
		return answer{}, fmt.Errorf("answer to the hello: text %q is not printable", a.text)
	}
	return a, nil
}

// printable returns s with what no log line should have replaced, cut to limit bytes.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	for len(s) > limit {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}
