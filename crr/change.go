package crr

import (
	"bytes"
	"errors"

	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/wire"
)

// change is what an UPDATE makes of one row: crr_changed, the trigger's condition, finds it, and crr_upd, its only statement, notes it.
type change struct {
	tab      *table  // nil: none is in hand
	mask     uint64  // columns that changed, by place
	assigned uint64  // COUNTERs that the statement assigns, changed or not
	floats   uint64  // columns with two floats, which crr_floats has still to compare
	amounts  []int64 // by place: what a COUNTER is assigned, or what is added to it
}

// changed is crr_changed(table, old and new value of each column…). It says whether the UPDATE is a local write of the row: a value that
// is set to what it was is none. Where it can't tell, which takes two floats, it answers NULL, and crr_floats is asked.
func (t *tracker) changed(r Result, a Args) {
	c := &t.change
	c.tab = nil
	if !t.local {
		r.Integer(0)
		return
	}
	tab := t.table(a.Int(0))
	if tab == nil || a.Len() != 1+2*len(tab.cols) {
		r.Error(errNoMember)
		return
	}
	c.mask, c.floats, c.assigned = 0, 0, t.use.mask(tab)
	for p := range tab.cols {
		col := &tab.cols[p]
		old := 1 + 2*p
		differ, known := different(a, old, old+1)
		if differ {
			c.mask |= 1 << p
		}
		if !known {
			c.floats |= 1 << p
		}
		if col.Kind == schema.Counter {
			if err := c.count(tab, p, a, old, differ, known); err != nil {
				r.Error(err)
				return
			}
		}
	}
	switch {
	case c.floats != 0:
		c.tab = tab
		r.Null()
	case c.mask|c.assigned != 0:
		c.tab = tab
		r.Integer(1)
	default:
		r.Integer(0)
	}
}

// count notes what an UPDATE does to a COUNTER.
func (c *change) count(tab *table, p int, a Args, old int, differ, known bool) error {
	assign := c.assigned>>p&1 == 1
	if !differ && !assign && known {
		return nil
	}
	value := old + 1
	if a.Kind(value) != wire.KindInteger || a.Kind(old) != wire.KindInteger {
		return counterError(tab, tab.cols[p])
	}
	if len(c.amounts) <= p {
		c.amounts = append(c.amounts, make([]int64, len(tab.cols)-len(c.amounts))...)
	}
	if c.amounts[p] = a.Int(value); !assign {
		c.amounts[p] = difference(a.Int(value), a.Int(old))
	}
	return nil
}

// compared is crr_floats(whether SQL takes old and new value for different, of each column…), and answers what crr_changed could not.
func (t *tracker) compared(r Result, a Args) {
	c := &t.change
	if c.tab == nil || c.floats == 0 || a.Len() != len(c.tab.cols) {
		r.Error(errNoChange)
		return
	}
	for p := range c.tab.cols {
		if c.floats>>p&1 == 1 && a.Int(p) != 0 {
			c.mask |= 1 << p
		}
	}
	c.floats = 0
	write := c.mask|c.assigned != 0
	if !write {
		c.tab = nil
	}
	boolean(r, write)
}

// different says whether two values differ in any way: 1 and 1.0 do, and so do texts that a collation takes for equal. Of floats it
// knows nothing.
func different(a Args, i, j int) (differ, known bool) {
	k := a.Kind(i)
	if k != a.Kind(j) {
		return true, true
	}
	switch k {
	case wire.KindInteger:
		return a.Int(i) != a.Int(j), true
	case wire.KindText, wire.KindBlob:
		return !bytes.Equal(a.Bytes(i), a.Bytes(j)), true
	case wire.KindFloat:
		return false, false
	}
	return false, true
}

// update is crr_upd(table, key, state): the state after the change that crr_changed has found.
func (t *tracker) update(r Result, a Args) {
	tab, now, err := t.begin(a, 2)
	c := &t.change
	if err == nil && (c.tab != tab || c.floats != 0) {
		err = errNoChange
	}
	c.tab = nil
	if err != nil {
		r.Error(err)
		return
	}
	t.row.forget(tab.gone)
	for p, col := range tab.cols {
		switch changed := c.mask>>p&1 == 1; {
		case col.Kind != schema.Counter:
			if changed {
				t.row.setCell(col.ID, now)
			}
		case c.assigned>>p&1 == 1:
			t.row.localAssign(col.ID, c.amounts[p], now)
		case changed:
			err = errors.Join(err, t.row.localAdd(col.ID, c.amounts[p], now))
		}
	}
	t.answer(r, err)
}

// difference is a-b, or beyond what localAdd takes when that is no int64.
func difference(a, b int64) int64 {
	d := a - b
	if (d < 0) != (a < b) {
		if a < b {
			return -1 << 63
		}
		return 1<<63 - 1
	}
	return d
}
