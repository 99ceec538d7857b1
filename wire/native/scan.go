package native

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/nearsql/nearsql/wire"
)

// sharedMax is the length of a body, in bytes, up to which all its strings share one copy
// of it. Beyond, each has its own, so that a short text does not keep a long body alive.
const sharedMax = 8 << 10

// scanner reads the tokens of one JSON document (RFC 8259).
type scanner struct {
	b      []byte
	off    int
	shared string // the same bytes as b, or "" when b is long
}

func newScanner(b []byte) (scanner, error) {
	if !utf8.Valid(b) {
		return scanner{}, wire.NewError(wire.CodeInvalidUTF8, "the body is not UTF-8: bad byte at offset %d", badUTF8(b))
	}
	s := scanner{b: b}
	if len(b) <= sharedMax {
		s.shared = string(b)
	}
	return s, nil
}

func badUTF8(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(b)
}

// errorf is a BAD_JSON error at the current offset.
func (s *scanner) errorf(format string, args ...any) error {
	return wire.NewError(wire.CodeBadJSON, "malformed JSON at offset %d: "+format, append([]any{s.off}, args...)...)
}

// peek skips white space and returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	for s.off < len(s.b) {
		switch c := s.b[s.off]; c {
		case ' ', '\t', '\n', '\r':
			s.off++
		default:
			return c
		}
	}
	return 0
}

// found names what comes next, for messages.
func (s *scanner) found() string {
	switch c := s.peek(); {
	case s.off >= len(s.b):
		return "the end"
	case c == '"':
		return "a string"
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == '-' || c >= '0' && c <= '9':
		return "a number"
	case c == 't' || c == 'f':
		return "a boolean"
	case c == 'n':
		return "null"
	default:
		r, _ := utf8.DecodeRune(s.b[s.off:])
		return strconv.QuoteRune(r)
	}
}

// accept takes c if it is next.
func (s *scanner) accept(c byte) bool {
	if s.peek() != c || s.off >= len(s.b) {
		return false
	}
	s.off++
	return true
}

// expect takes c, or says that it is missing.
func (s *scanner) expect(c byte) error {
	if !s.accept(c) {
		found := s.found()
		return s.errorf("want '%c', found %s", c, found)
	}
	return nil
}

// more goes on to the next element of an object or array that ends with end: it takes
// a comma or the end. first is true before the first element.
func (s *scanner) more(end byte, first bool) (bool, error) {
	switch {
	case s.accept(end):
		return false, nil
	case first:
		return true, nil
	case !s.accept(','):
		found := s.found()
		return false, s.errorf("want ',' or '%c', found %s", end, found)
	case s.peek() == end:
		return false, s.errorf("comma before '%c'", end)
	}
	return true, nil
}

// key reads the name of a field and its colon.
func (s *scanner) key() (string, error) {
	if s.peek() != '"' {
		found := s.found()
		return "", s.errorf("want the name of a field, found %s", found)
	}
	k, err := s.str()
	if err != nil {
		return "", err
	}
	return k, s.expect(':')
}

// literal takes word, one of true, false and null.
func (s *scanner) literal(word string) error {
	end := s.off + len(word)
	if end > len(s.b) || string(s.b[s.off:end]) != word {
		return s.errorf("want %s", word)
	}
	s.off = end
	return nil
}

// str reads a string, which is next.
func (s *scanner) str() (string, error) {
	s.off++
	start := s.off
	for ; s.off < len(s.b); s.off++ {
		switch c := s.b[s.off]; {
		case c == '"':
			s.off++
			return s.text(start, s.off-1), nil
		case c == '\\':
			return s.escaped(start)
		case c < 0x20:
			return "", s.errorf("control character in a string")
		}
	}
	return "", s.errorf("the string does not end")
}

func (s *scanner) text(from, to int) string {
	if s.shared != "" {
		return s.shared[from:to]
	}
	return string(s.b[from:to])
}

// escaped reads the rest of a string that began at start and has an escape at the current offset.
func (s *scanner) escaped(start int) (string, error) {
	out := append(make([]byte, 0, s.off-start+64), s.b[start:s.off]...)
	for s.off < len(s.b) {
		c := s.b[s.off]
		switch {
		case c == '"':
			s.off++
			return string(out), nil
		case c < 0x20:
			return "", s.errorf("control character in a string")
		case c != '\\':
			out = append(out, c)
			s.off++
			continue
		}
		if s.off+1 >= len(s.b) {
			break
		}
		switch e := s.b[s.off+1]; e {
		case '"', '\\', '/':
			out = append(out, e)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, err := s.unicode()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
			continue
		default:
			return "", s.errorf("unknown escape in a string")
		}
		s.off += 2
	}
	return "", s.errorf("the string does not end")
}

// unicode reads \uXXXX, or two of them that are a surrogate pair.
func (s *scanner) unicode() (rune, error) {
	r, ok := s.hex4()
	if !ok {
		return 0, s.errorf("want four hexadecimal digits after \\u")
	}
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	if s.off+1 < len(s.b) && s.b[s.off] == '\\' && s.b[s.off+1] == 'u' {
		low, ok := s.hex4()
		if !ok {
			return 0, s.errorf("want four hexadecimal digits after \\u")
		}
		if both := utf16.DecodeRune(r, low); both != utf8.RuneError {
			return both, nil
		}
	}
	return 0, wire.NewError(wire.CodeInvalidUTF8, "lone surrogate \\u%04x in a string before offset %d", r, s.off)
}

func (s *scanner) hex4() (rune, bool) {
	if s.off+6 > len(s.b) {
		return 0, false
	}
	var r rune
	for _, c := range s.b[s.off+2 : s.off+6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	s.off += 6
	return r, true
}

// number reads a number, which is next, and says whether it has no fraction and no exponent.
func (s *scanner) number() (text string, integer bool, err error) {
	start := s.off
	if s.b[s.off] == '-' {
		s.off++
	}
	whole := s.digits()
	switch {
	case whole == 0:
		return "", false, s.errorf("want a digit")
	case whole > 1 && s.b[s.off-whole] == '0':
		return "", false, s.errorf("number with a leading zero")
	}
	integer = true
	if s.off < len(s.b) && s.b[s.off] == '.' {
		s.off++
		integer = false
		if s.digits() == 0 {
			return "", false, s.errorf("want a digit after the point")
		}
	}
	if s.off < len(s.b) && s.b[s.off]|0x20 == 'e' {
		s.off++
		integer = false
		if s.off < len(s.b) && (s.b[s.off] == '+' || s.b[s.off] == '-') {
			s.off++
		}
		if s.digits() == 0 {
			return "", false, s.errorf("want a digit in the exponent")
		}
	}
	return s.text(start, s.off), integer, nil
}

func (s *scanner) digits() int {
	start := s.off
	for s.off < len(s.b) && s.b[s.off] >= '0' && s.b[s.off] <= '9' {
		s.off++
	}
	return s.off - start
}
