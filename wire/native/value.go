package native

import (
	"encoding/base64"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/nearsql/nearsql/wire"
)

// Options are what a client may choose of its answer's form.
type Options struct {
	Objects       bool // rows are objects instead of arrays
	IntegerString bool // integers of rows, and rowids, are strings
}

// AppendValue appends v.
func AppendValue(dst []byte, v wire.Value, o Options) []byte {
	switch v.Kind() {
	case wire.KindInteger:
		return appendInteger(dst, v.Int(), o)
	case wire.KindFloat:
		return appendFloat(dst, v.Float64())
	case wire.KindText:
		return AppendString(dst, v.Str())
	case wire.KindBlob:
		dst = append(dst, `{"base64":"`...)
		dst = appendBase64(dst, v.Str())
		return append(dst, `"}`...)
	}
	return append(dst, "null"...)
}

func appendInteger(dst []byte, i int64, o Options) []byte {
	if !o.IntegerString {
		return strconv.AppendInt(dst, i, 10)
	}
	dst = append(dst, '"')
	dst = strconv.AppendInt(dst, i, 10)
	return append(dst, '"')
}

// appendFloat appends f so that it reads as a real again: with a point or an exponent.
func appendFloat(dst []byte, f float64) []byte {
	switch abs := math.Abs(f); {
	case math.IsInf(f, 1):
		return append(dst, `{"float":"inf"}`...)
	case math.IsInf(f, -1):
		return append(dst, `{"float":"-inf"}`...)
	case abs != 0 && (abs < 1e-6 || abs >= 1e21):
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
	for _, c := range dst[start:] {
		if c == '.' {
			return dst
		}
	}
	return append(dst, ".0"...)
}

// appendBase64 appends s in base64 with padding.
func appendBase64(dst []byte, s string) []byte {
	// In pieces of whole groups, through an array, since package base64 takes no strings.
	var piece [768]byte
	for len(s) > len(piece) {
		copy(piece[:], s)
		dst = base64.StdEncoding.AppendEncode(dst, piece[:])
		s = s[len(piece):]
	}
	return base64.StdEncoding.AppendEncode(dst, piece[:copy(piece[:], s)])
}

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string; bytes that are not UTF-8 become U+FFFD.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	done := 0 // s[:done] is in dst
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(dst, s[done:i]...)
				dst = append(dst, "\uFFFD"...)
				done = i + 1
			}
			i += n
			continue
		}
		dst = append(dst, s[done:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		done = i
	}
	dst = append(dst, s[done:]...)
	return append(dst, '"')
}
