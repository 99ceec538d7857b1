package envelope

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Fields reads a payload from front to back and keeps the first fault. Its methods are named as the documents of formats name the fields:
// u8, u64 big-endian, uv32 and uv64 for unsigned LEB128 varints of at most 32 and 64 bits in their shortest form.
type Fields struct {
	b    []byte
	what string
	err  error
}

// Of begins to read a payload.
func Of(payload []byte) Fields { return Fields{b: payload} }

// Fail notes a fault; of several the first counts. Nothing is left to read then.
func (d *Fields) Fail(format string, args ...any) {
	if d.OK() {
		d.what = fmt.Sprintf(format, args...)
	}
	d.b = nil
}

// Check notes an error of the format's own, if it is one.
func (d *Fields) Check(err error) {
	if d.OK() && err != nil {
		d.err, d.b = err, nil
	}
}

// OK says that no fault was found so far.
func (d *Fields) OK() bool { return d.what == "" && d.err == nil }

// End says what was wrong with the payload, by Fail or in that bytes are left (what), or by Check (err); neither: all is right.
func (d *Fields) End() (what string, err error) {
	if d.OK() && len(d.b) > 0 {
		d.Fail("%d bytes are left", len(d.b))
	}
	return d.what, d.err
}

// Uv returns the next varint, which is at most limit; 0 after a fault.
func (d *Fields) Uv(limit uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	switch {
	case n <= 0:
		d.Fail("a number is cut short or has more than 64 bits")
		return 0
	case n > 1 && d.b[n-1] == 0:
		d.Fail("a number is not in its shortest form")
		return 0
	case v > limit:
		d.Fail("the number %d is above %d", v, limit)
		return 0
	}
	d.b = d.b[n:]
	return v
}

// Uv32 returns the next varint of at most 32 bits.
func (d *Fields) Uv32() uint32 { return uint32(d.Uv(math.MaxUint32)) }

// Uv64 returns the next varint.
func (d *Fields) Uv64() uint64 { return d.Uv(math.MaxUint64) }

// Take returns the next n bytes, zeros after a fault.
func (d *Fields) Take(n int) []byte {
	if len(d.b) < n {
		d.Fail("it is cut short")
		return make([]byte, n)
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

// U8 returns the next byte.
func (d *Fields) U8() uint8 { return d.Take(1)[0] }

// U64 returns the next 8 bytes as a number.
func (d *Fields) U64() uint64 { return binary.BigEndian.Uint64(d.Take(8)) }

// Flag returns the next byte, which must be 0 or 1.
func (d *Fields) Flag() bool {
	v := d.U8()
	if v > 1 {
		d.Fail("a flag is %d", v)
	}
	return v == 1
}

// Left is the number of bytes that were not read.
func (d *Fields) Left() int { return len(d.b) }

// Rest returns what is left.
func (d *Fields) Rest() []byte {
	p := d.b
	d.b = nil
	return p
}
