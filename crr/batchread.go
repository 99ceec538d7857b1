package crr

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/nearsql/nearsql/wire"
)

// source is the bytes of a batch, from one frame or many.
type source interface {
	io.Reader
	io.ByteReader
}

// batchReader reads a batch, row by row. After the first fault err is set and all
// else returns zeros.
type batchReader struct {
	src   source
	err   error
	last  HLC
	table uint32
	rows  uint64
	buf   bytes.Buffer
}

// Bounds of what a batch may claim, so that a liar costs no memory: what is
// really sent is bounded by the frames.
const (
	maxTenant  = 255
	maxSites   = 1 << 16
	maxColumns = 1 << 16 // ids of one table that one row names
	maxEntries = 1 << 20
	maxValue   = 1 << 30 // SQLite's own limit is 10^9
)

func (r *batchReader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s in a batch", ErrCorrupt, what)
	}
}

// short is fail for what could not be read: a batch that ends early is corrupt, frames that can't be read from the file are not.
func (r *batchReader) short(what string, err error) {
	if r.err == nil && err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		r.err = fmt.Errorf("read a batch: %w", err)
	}
	r.fail(what)
}

func (r *batchReader) uvarint(most uint64, what string) uint64 {
	if r.err != nil {
		return 0
	}
	var v uint64
	for shift := 0; shift < 64; shift += 7 {
		b, err := r.src.ReadByte()
		if err != nil {
			r.short(what, err)
			return 0
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			if v > most || b == 0 && shift > 0 || shift == 63 && b > 1 {
				break
			}
			return v
		}
	}
	r.fail(what)
	return 0
}

func (r *batchReader) varint(what string) int64 {
	u := r.uvarint(math.MaxUint64, what)
	return int64(u>>1) ^ -int64(u&1)
}

func (r *batchReader) byte() byte {
	if r.err != nil {
		return 0
	}
	b, err := r.src.ReadByte()
	if err != nil {
		r.short("end", err)
	}
	return b
}

// bytes reads n bytes, good until its next call; memory grows with what arrives, not with what is claimed.
func (r *batchReader) bytes(n uint64, what string) []byte {
	if r.err != nil {
		return nil
	}
	r.buf.Reset()
	if m, err := io.CopyN(&r.buf, r.src, int64(n)); err != nil || uint64(m) != n {
		r.short(what, err)
		return nil
	}
	return r.buf.Bytes()
}

func (r *batchReader) u64(what string) uint64 {
	b := r.bytes(8, what)
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func (r *batchReader) hlc() HLC {
	r.last += HLC(r.varint("reading"))
	if r.last == 0 {
		r.fail("reading 0")
	}
	return r.last
}

func (r *batchReader) site() SiteID {
	s := SiteID(r.uvarint(math.MaxUint32, "site"))
	if s == 0 {
		r.fail("site 0")
	}
	return s
}

func (r *batchReader) stamp() Stamp {
	s := r.site()
	return Stamp{HLC: r.hlc(), Site: s}
}

func (r *batchReader) vector() Vector {
	v := Vector{}
	last := SiteID(0)
	for n := r.uvarint(maxSites, "vector"); n > 0 && r.err == nil; n-- {
		s := r.site()
		h := HLC(r.u64("reading"))
		if s <= last || h == 0 {
			r.fail("vector")
		}
		last, v[s] = s, h
	}
	return v
}

// header reads the head of a batch.
func (r *batchReader) header() (*Header, error) {
	h := &Header{Kind: BatchKind(r.byte())}
	if h.Kind != Pull && h.Kind != Push {
		r.fail("kind")
	}
	h.Tenant = string(r.bytes(r.uvarint(maxTenant, "tenant"), "tenant"))
	h.Site = r.site()
	copy(h.File[:], r.bytes(16, "file"))
	h.Schema = r.uvarint(math.MaxInt64, "schema")
	h.After = r.vector()
	if h.Kind == Push {
		h.Prev = HLC(r.u64("previous reading"))
		h.Deps = r.vector()
		r.last = h.Prev
		if len(h.After) != 1 || h.After[h.Site] <= h.Prev || h.Deps[h.Site] != 0 {
			r.fail("head of a push")
		}
	} else {
		h.Cursor = int64(r.uvarint(math.MaxInt64, "cursor"))
		h.Collected = r.vector()
	}
	return h, r.err
}

// next reads the next row into c; false is the end.
func (r *batchReader) next(c *RowChange) (bool, error) {
	op := r.byte()
	if op == opTable && r.err == nil {
		if r.table = uint32(r.uvarint(math.MaxUint32, "table")); r.table == 0 {
			r.fail("table 0")
		}
		op = r.byte()
	}
	switch {
	case r.err != nil:
	case op == opEnd:
		if n := r.uvarint(math.MaxUint64, "count"); r.err == nil && n != r.rows {
			r.fail("count")
		}
		if _, err := r.src.ReadByte(); r.err == nil && err != io.EOF {
			r.fail("bytes behind the end")
		}
		return false, r.err
	case op&wireRow == 0 || op&^(wireRow|rowFlags|wireNew) != 0 || r.table == 0 || op&rowIns == 0 && op&(rowCells|rowCounters|wireNew) != 0:
		r.fail("operation")
	default:
		r.rows++
		r.row(c, op)
	}
	return r.err == nil, r.err
}

func (r *batchReader) row(c *RowChange, f byte) {
	*c = RowChange{Table: r.table, Key: r.value()}
	c.New = f&wireNew != 0
	if f&rowIns != 0 {
		c.Ins = r.stamp()
	}
	if f&rowDel != 0 {
		c.Del = r.stamp()
	}
	if f&rowCells != 0 {
		for n := r.uvarint(maxColumns, "cells"); n > 0 && r.err == nil; n-- {
			k := r.uvarint(math.MaxUint32<<1|1, "column")
			x := CellValue{Col: uint32(k >> 1), At: c.Ins}
			if k&1 == 1 {
				x.At = r.stamp()
			}
			x.Value = r.value()
			if k := len(c.Cells); k > 0 && c.Cells[k-1].Col >= x.Col {
				r.fail("order of columns")
			}
			c.Cells = append(c.Cells, x)
		}
	}
	if f&rowCounters != 0 {
		for n := r.uvarint(maxColumns, "counters"); n > 0 && r.err == nil; n-- {
			x := r.counter(c.Ins)
			if k := len(c.Counters); k > 0 && c.Counters[k-1].Col >= x.Col {
				r.fail("order of columns")
			}
			c.Counters = append(c.Counters, x)
		}
	}
}

func (r *batchReader) counter(ins Stamp) CounterState {
	k := r.uvarint(math.MaxUint32<<1|1, "column")
	c := CounterState{Col: uint32(k >> 1)}
	if k&1 == 1 {
		c.Base = &Base{At: r.stamp(), Birth: r.stamp(), Value: r.varint("value")}
		c.Base.Seen = r.entries(ins)
	}
	c.Entries = r.entries(ins)
	return c
}

func (r *batchReader) entries(ins Stamp) (es []Entry) {
	for n := r.uvarint(maxEntries, "entries"); n > 0 && r.err == nil; n-- {
		k := r.uvarint(math.MaxUint32<<1|1, "entry")
		e := Entry{Site: SiteID(k >> 1), Birth: ins}
		if k&1 == 1 {
			e.Birth = r.stamp()
		}
		e.HLC, e.Sum = r.hlc(), r.varint("sum")
		if e.Site == 0 || e.Sum > maxContribution || e.Sum < -maxContribution || len(es) > 0 && !entryBefore(es[len(es)-1], e) {
			r.fail("entry")
		}
		es = append(es, e)
	}
	return es
}

func (r *batchReader) value() wire.Value {
	switch r.byte() {
	case tagNull:
		return wire.Null
	case tagInteger:
		return wire.Integer(r.varint("integer"))
	case tagFloat:
		return wire.Float(math.Float64frombits(r.u64("float")))
	case tagText:
		return wire.Text(string(r.bytes(r.uvarint(maxValue, "length"), "text")))
	case tagBlob:
		return wire.Blob(r.bytes(r.uvarint(maxValue, "length"), "blob"))
	}
	r.fail("value")
	return wire.Null
}
