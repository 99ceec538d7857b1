package crr

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Flags of a row's metadata.
const (
	rowIns = 1 << iota
	rowDel
	rowCells
	rowCounters
	rowFlags = rowIns | rowDel | rowCells | rowCounters
)

// minState is the length to which a shorter state is filled up with zeros. A row that was only inserted has room for cells that are written
// later: SQLite then overwrites the state where it is, instead of moving rows of metadata, and splitting pages that are full.
const minState = 24

const padding = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// Encode returns the row's metadata as it is in the file: canonical, so that
// equal states have equal bytes. The state of a row never seen has none.
func (r *Row) Encode() []byte { return r.append(nil) }

func (r *Row) append(b []byte) []byte {
	r.tidy()
	var f byte
	if !r.Del.Zero() {
		f |= rowDel
	}
	if r.Live() {
		f |= rowIns
		if len(r.Cells) > 0 {
			f |= rowCells
		}
		if len(r.Counters) > 0 {
			f |= rowCounters
		}
	}
	if f == 0 {
		return b
	}
	start := len(b)
	b = append(b, f)
	if f&rowDel != 0 {
		b = appendStamp(b, r.Del)
	}
	if f&rowIns != 0 {
		b = appendStamp(b, r.Ins)
	}
	if f&rowCells != 0 {
		b = binary.AppendUvarint(b, uint64(len(r.Cells)))
		last := r.Ins
		for _, c := range r.Cells {
			if c.At == last {
				b = binary.AppendUvarint(b, uint64(c.Col)<<1)
				continue
			}
			b = appendStamp(binary.AppendUvarint(b, uint64(c.Col)<<1|1), c.At)
			last = c.At
		}
	}
	if f&rowCounters != 0 {
		b = binary.AppendUvarint(b, uint64(len(r.Counters)))
		for i := range r.Counters {
			b = r.Counters[i].append(b, r.Ins)
		}
	}
	if n := minState - (len(b) - start); n > 0 {
		b = append(b, padding[:n]...)
	}
	return b
}

// tidy drops what says nothing and sorts the rest.
func (r *Row) tidy() {
	if !r.Live() {
		r.Ins, r.Cells, r.Counters = Stamp{}, r.Cells[:0], r.Counters[:0]
		return
	}
	r.Cells = slices.DeleteFunc(r.Cells, func(c Cell) bool { return c.At == r.Ins })
	if len(r.Cells) > 1 {
		slices.SortFunc(r.Cells, func(a, b Cell) int { return cmp.Compare(a.Col, b.Col) })
	}
	if len(r.Counters) == 0 {
		return
	}
	r.Counters = slices.DeleteFunc(r.Counters, func(c CounterState) bool { return c.Base == nil && len(c.Entries) == 0 })
	slices.SortFunc(r.Counters, func(a, b CounterState) int { return cmp.Compare(a.Col, b.Col) })
	for i := range r.Counters {
		sortEntries(r.Counters[i].Entries)
		if base := r.Counters[i].Base; base != nil {
			sortEntries(base.Seen)
		}
	}
}

func sortEntries(es []Entry) {
	slices.SortFunc(es, func(a, b Entry) int {
		if c := cmp.Compare(a.Site, b.Site); c != 0 {
			return c
		}
		if a.Birth.Before(b.Birth) {
			return -1
		}
		if b.Birth.Before(a.Birth) {
			return 1
		}
		return 0
	})
}

func (c *CounterState) append(b []byte, ins Stamp) []byte {
	has := uint64(0)
	if c.Base != nil {
		has = 1
	}
	b = binary.AppendUvarint(b, uint64(c.Col)<<1|has)
	if c.Base != nil {
		b = appendStamp(b, c.Base.At)
		b = appendStamp(b, c.Base.Birth)
		b = binary.AppendVarint(b, c.Base.Value)
		b = appendEntries(b, ins, c.Base.Seen)
	}
	return appendEntries(b, ins, c.Entries)
}

func appendEntries(b []byte, ins Stamp, es []Entry) []byte {
	b = binary.AppendUvarint(b, uint64(len(es)))
	for _, e := range es {
		other := uint64(0)
		if e.Birth != ins {
			other = 1
		}
		b = binary.AppendUvarint(b, uint64(e.Site)<<1|other)
		if other == 1 {
			b = appendStamp(b, e.Birth)
		}
		b = binary.BigEndian.AppendUint64(b, uint64(e.HLC))
		b = binary.AppendVarint(b, e.Sum)
	}
	return b
}

// DecodeRow reads what Encode wrote. No bytes are the state of a row never seen.
func DecodeRow(b []byte) (Row, error) {
	var r Row
	err := r.decode(b)
	return r, err
}

// decode reads b into r, whose memory it uses again.
func (r *Row) decode(b []byte) error {
	r.reset()
	if len(b) == 0 {
		return nil
	}
	d := decoder{b: b}
	f := d.byte()
	if f&^rowFlags != 0 || f&(rowIns|rowDel) == 0 || f&rowIns == 0 && f != rowDel {
		return fmt.Errorf("%w: flags %#x of a row", ErrCorrupt, f)
	}
	if f&rowDel != 0 {
		r.Del = d.stamp()
	}
	if f&rowIns != 0 {
		r.Ins = d.stamp()
		if r.Ins.Before(r.Del) {
			d.fault()
		}
	}
	if f&rowCells != 0 {
		d.cells(r)
	}
	if f&rowCounters != 0 {
		d.rowCounters(r)
	}
	d.padding(minState - (len(b) - len(d.b)))
	return d.end("row state")
}

func (d *decoder) cells(r *Row) {
	n := d.count(1)
	if n == 0 {
		d.fault()
	}
	last, at := int64(-1), r.Ins
	for ; n > 0 && !d.bad; n-- {
		k := d.uvarint(math.MaxUint32<<1 | 1)
		c := Cell{Col: uint32(k >> 1), At: at}
		if k&1 == 1 {
			if c.At = d.stamp(); c.At == at {
				d.fault()
			}
		}
		if int64(c.Col) <= last || c.At == r.Ins {
			d.fault()
		}
		last, at = int64(c.Col), c.At
		r.Cells = append(r.Cells, c)
	}
}

func (d *decoder) rowCounters(r *Row) {
	n := d.count(2)
	if n == 0 {
		d.fault()
	}
	last := int64(-1)
	for ; n > 0 && !d.bad; n-- {
		k := d.uvarint(math.MaxUint32<<1 | 1)
		c := CounterState{Col: uint32(k >> 1)}
		if int64(c.Col) <= last {
			d.fault()
		}
		last = int64(c.Col)
		if k&1 == 1 {
			c.Base = &Base{At: d.stamp(), Birth: d.stamp(), Value: d.varint()}
			c.Base.Seen = d.entries(r.Ins)
		}
		if c.Entries = d.entries(r.Ins); c.Base == nil && len(c.Entries) == 0 {
			d.fault()
		}
		r.Counters = append(r.Counters, c)
	}
}

func (d *decoder) entries(ins Stamp) []Entry {
	n := d.count(10)
	if n == 0 {
		return nil
	}
	es := make([]Entry, 0, n)
	for ; n > 0 && !d.bad; n-- {
		k := d.uvarint(math.MaxUint32<<1 | 1)
		e := Entry{Site: SiteID(k >> 1), Birth: ins}
		if k&1 == 1 {
			if e.Birth = d.stamp(); e.Birth == ins {
				d.fault()
			}
		}
		e.HLC, e.Sum = d.hlc(), d.varint()
		if e.Site == 0 || e.Sum > maxContribution || e.Sum < -maxContribution || len(es) > 0 && !entryBefore(es[len(es)-1], e) {
			d.fault()
		}
		es = append(es, e)
	}
	return es
}

func entryBefore(a, b Entry) bool {
	return a.Site < b.Site || a.Site == b.Site && a.Birth.Before(b.Birth)
}
