package crr

import (
	"errors"
	"slices"

	"github.com/nearsql/nearsql/wire"
)

// Delta is what one state of a row has and another lacks.
type Delta struct {
	Del Stamp
	// Ins is set whenever the sender's row is live, since cells and counters hang on it.
	Ins Stamp
	// New says that the receiver lacks Ins itself; then Cells are all LWW cells.
	New      bool
	Cells    []CellValue
	Counters []CounterState
}

// CellValue is an LWW cell with its value.
type CellValue struct {
	Col   uint32
	At    Stamp
	Value wire.Value
}

// Since returns what a holder of v lacks of the row, the values of cells left
// out; some is false when that is nothing. columns are the LWW columns of the table. The slices are r's in part.
func (r *Row) Since(v Vector, columns []uint32) (d Delta, some bool) {
	if !r.Del.Zero() && !v.Has(r.Del) {
		d.Del, some = r.Del, true
	}
	if !r.Live() {
		return d, some
	}
	d.Ins = r.Ins
	if d.New = !v.Has(r.Ins); d.New {
		some = true
		for _, c := range columns {
			d.Cells = append(d.Cells, CellValue{Col: c, At: r.CellAt(c)})
		}
	} else {
		for _, c := range r.Cells {
			if !v.Has(c.At) {
				d.Cells, some = append(d.Cells, CellValue{Col: c.Col, At: c.At}), true
			}
		}
	}
	for _, c := range r.Counters {
		o := CounterState{Col: c.Col}
		if c.Base != nil && !v.Has(c.Base.At) {
			o.Base = c.Base
		}
		for _, e := range c.Entries {
			if !v.Has(Stamp{e.HLC, e.Site}) {
				o.Entries = append(o.Entries, e)
			}
		}
		if o.Base != nil || o.Entries != nil {
			d.Counters, some = append(d.Counters, o), true
		}
	}
	return d, some
}

// ErrOrphan is a change of an incarnation that the receiver has never seen. Batches are
// taken only when all they follow is there, so it is a fault of a sender or of a file.
var ErrOrphan = errors.New("crr: change of a row whose insert has not arrived")

// Merge joins d into r. It returns the cells that win, which are to be written
// to the tenant's table; a d.New that wins may lack columns that the sender's schema did not have: they take their default.
// Merge is commutative, associative and idempotent.
func (r *Row) Merge(d *Delta) (won []CellValue, err error) {
	del, ins := newest(r.Del, d.Del), newest(r.Ins, d.Ins)
	if ins.Zero() || ins.Before(del) {
		r.reset()
		r.Del = del
		return nil, nil
	}
	switch {
	case d.Ins.Zero() || d.Ins.Before(del):
		// The sender's incarnation is gone, or it has none: ours is younger than del.
	case r.Ins.Before(d.Ins):
		if !d.New {
			return nil, ErrOrphan
		}
		if r.Ins.Before(del) {
			r.Counters = r.Counters[:0]
		}
		r.Ins, r.Cells = d.Ins, r.Cells[:0]
		for _, c := range d.Cells {
			won = append(won, c)
			if c.At != d.Ins {
				r.Cells = append(r.Cells, Cell{c.Col, c.At})
			}
		}
	case r.Ins == d.Ins:
		for _, c := range d.Cells {
			if r.CellAt(c.Col).Before(c.At) {
				r.setCell(c.Col, c.At)
				won = append(won, c)
			}
		}
	}
	r.Del = del
	for i := range d.Counters {
		r.counter(d.Counters[i].Col).merge(&d.Counters[i])
	}
	r.prune()
	return won, nil
}

func (c *CounterState) merge(o *CounterState) {
	if b := o.Base; b != nil && (c.Base == nil || c.Base.Birth.Before(b.Birth) || c.Base.Birth == b.Birth && c.Base.At.Before(b.At)) {
		c.Base = b
	}
	for _, e := range o.Entries {
		i := slices.IndexFunc(c.Entries, e.same)
		if i < 0 {
			c.Entries = append(c.Entries, e)
		} else if c.Entries[i].HLC < e.HLC {
			c.Entries[i] = e
		}
	}
}

// prune drops the parts of counters that the newest DELETE removed.
func (r *Row) prune() {
	if r.Del.Zero() {
		return
	}
	dead := func(e Entry) bool { return e.Birth.Before(r.Del) }
	for i := range r.Counters {
		c := &r.Counters[i]
		c.Entries = slices.DeleteFunc(c.Entries, dead)
		switch b := c.Base; {
		case b == nil:
		case b.Birth.Before(r.Del):
			c.Base = nil
		case slices.ContainsFunc(b.Seen, dead):
			cut := *b // the delta's Base is shared with its batch
			cut.Seen = slices.DeleteFunc(slices.Clone(b.Seen), dead)
			c.Base = &cut
		}
	}
}

// unknown takes out of d what a holder of v has had before. A late answer may tell of
// a row whose tombstone is collected already, and would bring the row back.
func (d *Delta) unknown(v Vector, r *Row) {
	if v.Has(d.Del) {
		d.Del = Stamp{}
	}
	if !d.Ins.Zero() && v.Has(d.Ins) {
		d.New = false
		if r.Ins.Before(d.Ins) { // known, and not here any more: deleted
			d.Ins = Stamp{}
		}
		d.Cells = slices.DeleteFunc(d.Cells, func(c CellValue) bool { return v.Has(c.At) })
	}
	for i := range d.Counters {
		c := &d.Counters[i]
		if c.Base != nil && v.Has(c.Base.At) {
			c.Base = nil
		}
		c.Entries = slices.DeleteFunc(c.Entries, func(e Entry) bool { return v.Has(Stamp{e.HLC, e.Site}) })
	}
	d.Counters = slices.DeleteFunc(d.Counters, func(c CounterState) bool { return c.Base == nil && len(c.Entries) == 0 })
}
