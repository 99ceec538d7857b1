package wire

import (
	"fmt"
	"math"
)

// Kind is the storage class of a Value (https://www.sqlite.org/datatype3.html).
type Kind uint8

// The five storage classes of SQLite.
const (
	KindNull Kind = iota
	KindInteger
	KindFloat
	KindText
	KindBlob
)

// String returns the name that SQLite's typeof() gives the class.
func (k Kind) String() string {
	switch k {
	case KindNull:
		return "null"
	case KindInteger:
		return "integer"
	case KindFloat:
		return "real"
	case KindText:
		return "text"
	case KindBlob:
		return "blob"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Value is one SQLite value. The zero Value is NULL. Values are immutable and
// comparable by ==, which compares class and content (NaN is never stored:
// SQLite turns it into NULL, and so does Float).
type Value struct {
	kind Kind
	num  uint64 // an integer, or the bits of a float
	str  string // text, or the bytes of a blob
}

// Null is the NULL value.
var Null = Value{}

// Integer returns an integer value.
func Integer(i int64) Value { return Value{kind: KindInteger, num: uint64(i)} }

// Float returns a real value; NaN becomes NULL, as in SQLite.
func Float(f float64) Value {
	if math.IsNaN(f) {
		return Null
	}
	return Value{kind: KindFloat, num: math.Float64bits(f)}
}

// Text returns a text value. The caller vouches for valid UTF-8.
func Text(s string) Value { return Value{kind: KindText, str: s} }

// Blob returns a blob value with a copy of b.
func Blob(b []byte) Value { return Value{kind: KindBlob, str: string(b)} }

// BlobString returns a blob value with the bytes of s, without a copy.
func BlobString(s string) Value { return Value{kind: KindBlob, str: s} }

// Kind returns the storage class.
func (v Value) Kind() Kind { return v.kind }

// IsNull says whether v is NULL.
func (v Value) IsNull() bool { return v.kind == KindNull }

// Int returns the integer of a KindInteger value, else 0.
func (v Value) Int() int64 {
	if v.kind != KindInteger {
		return 0
	}
	return int64(v.num)
}

// Float64 returns the number of a KindFloat value, else 0.
func (v Value) Float64() float64 {
	if v.kind != KindFloat {
		return 0
	}
	return math.Float64frombits(v.num)
}

// Str returns the text of a KindText value or the bytes of a KindBlob value, else "".
func (v Value) Str() string { return v.str }

// Size is the number of bytes that v holds in memory, about.
func (v Value) Size() int { return 32 + len(v.str) }

// String prints v as an SQL literal, for messages and tests.
func (v Value) String() string {
	switch v.kind {
	case KindInteger:
		return fmt.Sprintf("%d", int64(v.num))
	case KindFloat:
		return fmt.Sprintf("%g", v.Float64())
	case KindText:
		return fmt.Sprintf("%q", v.str)
	case KindBlob:
		return fmt.Sprintf("x'%x'", v.str)
	}
	return "NULL"
}
