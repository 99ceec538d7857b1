package crr

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrCorrupt is bytes that no version of this package can have written.
var ErrCorrupt = errors.New("crr: corrupt data")

// decoder reads the forms of FORMAT.md from memory. After the first fault it
// returns zeros, and end tells.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fault() { d.b, d.bad = nil, true }

// uvarint reads a varint in its shortest form, up to most.
func (d *decoder) uvarint(most uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || n > 1 && d.b[n-1] == 0 || v > most {
		d.fault()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	u := d.uvarint(math.MaxUint64)
	return int64(u>>1) ^ -int64(u&1)
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fault()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) bytes(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.fault()
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

// count reads how many things follow that take at least size bytes each.
func (d *decoder) count(size int) int {
	n := d.uvarint(uint64(len(d.b)))
	if n*uint64(size) > uint64(len(d.b)) {
		d.fault()
		return 0
	}
	return int(n)
}

// padding reads n zeros.
func (d *decoder) padding(n int) {
	for ; n > 0; n-- {
		if len(d.b) == 0 || d.b[0] != 0 {
			d.fault()
			return
		}
		d.b = d.b[1:]
	}
}

func (d *decoder) hlc() HLC {
	b := d.bytes(8)
	if b == nil {
		return 0
	}
	h := HLC(binary.BigEndian.Uint64(b))
	if h == 0 {
		d.fault()
	}
	return h
}

func (d *decoder) site() SiteID {
	s := SiteID(d.uvarint(math.MaxUint32))
	if s == 0 {
		d.fault()
	}
	return s
}

func (d *decoder) stamp() Stamp {
	s := d.site()
	return Stamp{HLC: d.hlc(), Site: s}
}

func (d *decoder) vector() Vector {
	v := Vector{}
	last := SiteID(0)
	for n := d.count(9); n > 0 && !d.bad; n-- {
		s := d.site()
		if s <= last {
			d.fault()
		}
		last, v[s] = s, d.hlc()
	}
	return v
}

// end says whether all was read, and was well.
func (d *decoder) end(what string) error {
	if d.bad || len(d.b) != 0 {
		return fmt.Errorf("%w: %s", ErrCorrupt, what)
	}
	return nil
}

func appendStamp(b []byte, s Stamp) []byte {
	b = binary.AppendUvarint(b, uint64(s.Site))
	return binary.BigEndian.AppendUint64(b, uint64(s.HLC))
}
