package crr

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/wire"
)

// tracker is the state behind the SQL functions of one writing connection: the
// triggers call them for each row that a statement changes.
type tracker struct {
	tables map[uint32]*table

	site  SiteID
	clock *clock
	ring  *ring

	local bool       // triggers track; false while the connection merges
	open  bool       // a local transaction is begun
	use   Classified // of the statement in hand
	tx    txState

	row    Row    // memory for the state in hand
	buf    []byte // and for its bytes
	change change // the UPDATE in hand
	rows   int    // most changes of rows that a transaction may have
}

// change is what an UPDATE makes of one row: crr_changed, the trigger's condition, finds it, and crr_upd, its only statement, notes it.
type change struct {
	tab      *table  // nil: none is in hand
	mask     uint64  // columns that changed, by place
	assigned uint64  // COUNTERs that the statement assigns, changed or not
	amounts  []int64 // by place: what a COUNTER is assigned, or what is added to it
}

// txState is the local transaction in progress.
type txState struct {
	stamp Stamp // zero before the first change of a row
	lseq  int64 // its number, 0 before the first change
	count int   // changes of rows
}

// Errors of local writes.
var (
	errOutside  = errors.New("crr: a conflict-free table is written outside of a transaction of its site")
	errTxLarge  = errors.New("crr: transaction changes too many rows of conflict-free tables")
	errCounter  = errors.New("must hold an integer")
	errNoMember = errors.New("crr: unknown table")
	errNoChange = errors.New("crr: an UPDATE of a row that was not looked at")
)

// now returns the transaction's stamp, which is taken when it is first needed.
func (t *tracker) now() (Stamp, error) {
	if !t.open {
		return Stamp{}, errOutside
	}
	if t.tx.stamp.Zero() {
		t.tx.stamp = Stamp{HLC: t.clock.tick(), Site: t.site}
		t.tx.lseq = t.ring.next()
	}
	return t.tx.stamp, nil
}

// touch notes a changed row.
func (t *tracker) touch(tab *table, key wire.Value) error {
	if err := tab.checkKey(key); err != nil {
		return err
	}
	if t.tx.count++; t.tx.count > t.rows {
		return errTxLarge
	}
	t.ring.add(t.tx.lseq, tab.def.ID, key)
	return nil
}

// begin reads what all three functions on a row begin with: table, key, state.
func (t *tracker) begin(a Args, state int) (*table, Stamp, error) {
	tab := t.tables[uint32(a.Int(0))]
	if tab == nil {
		return nil, Stamp{}, errNoMember
	}
	now, err := t.now()
	if err != nil {
		return nil, now, err
	}
	t.row.reset()
	if state < a.Len() && a.Kind(state) != wire.KindNull {
		if err := t.row.decode(a.Bytes(state)); err != nil {
			return nil, now, err
		}
	}
	return tab, now, t.touch(tab, value(a, 1))
}

func (t *tracker) answer(r Result, err error) {
	if err != nil {
		r.Error(err)
		return
	}
	t.buf = t.row.append(t.buf[:0])
	r.Blob(t.buf)
}

func counterError(tab *table, c schema.Column) error {
	return fmt.Errorf("crr: COUNTER column %s.%s %w", tab.def.Name, c.Name, errCounter)
}

// insert is crr_ins(table, key, state, value of each counter…).
func (t *tracker) insert(r Result, a Args) {
	tab, now, err := t.begin(a, 2)
	if err != nil {
		r.Error(err)
		return
	}
	t.row.forget(tab.gone)
	replaced := t.row.localInsert(now)
	i := 3
	for _, c := range tab.cols {
		if c.Kind != schema.Counter {
			continue
		}
		if i >= a.Len() || a.Kind(i) != wire.KindInteger {
			r.Error(counterError(tab, c))
			return
		}
		v := a.Int(i)
		i++
		if replaced {
			t.row.localAssign(c.ID, v, now)
		} else if v != 0 {
			err = errors.Join(err, t.row.localAdd(c.ID, v, now))
		}
	}
	t.answer(r, err)
}

// changed is crr_changed(table, old and new value of each column…). It says whether the UPDATE is a write of the row: a value that is set
// to what it was is none. Where it can't tell, which takes two floats, it answers NULL, and is called again with one more argument for
// each column: whether SQL takes the values for different.
func (t *tracker) changed(r Result, a Args) {
	c := &t.change
	c.tab = nil
	tab := t.tables[uint32(a.Int(0))]
	if tab == nil || a.Len() != 1+2*len(tab.cols) && a.Len() != 1+3*len(tab.cols) {
		r.Error(errNoMember)
		return
	}
	c.mask, c.assigned, c.amounts = 0, t.use.mask(tab), append(c.amounts[:0], make([]int64, len(tab.cols))...)
	told := 1 + 2*len(tab.cols)
	for p, col := range tab.cols {
		old := 1 + 2*p
		value := old + 1
		differ, known := different(a, old, value)
		if !known {
			if told >= a.Len() {
				r.Null()
				return
			}
			differ = a.Int(told+p) != 0
		}
		if differ {
			c.mask |= 1 << p
		}
		assign := c.assigned>>p&1 == 1
		if col.Kind != schema.Counter || !differ && !assign {
			continue
		}
		if a.Kind(value) != wire.KindInteger || a.Kind(old) != wire.KindInteger {
			r.Error(counterError(tab, col))
			return
		}
		if c.amounts[p] = a.Int(value); !assign {
			c.amounts[p] = difference(a.Int(value), a.Int(old))
		}
	}
	write := c.mask|c.assigned != 0
	if write {
		c.tab = tab
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
	if err == nil && c.tab != tab {
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

// remove is crr_del(table, key).
func (t *tracker) remove(r Result, a Args) {
	_, now, err := t.begin(a, a.Len())
	t.row.localDelete(now)
	t.answer(r, err)
}

func boolean(r Result, b bool) {
	if b {
		r.Integer(1)
	} else {
		r.Integer(0)
	}
}

// funcs are the SQL functions of the connection.
func (t *tracker) funcs() []Func {
	return []Func{
		{"crr_local", 0, func(r Result, _ Args) { boolean(r, t.local) }},
		{"crr_lseq", 0, func(r Result, _ Args) {
			if _, err := t.now(); err != nil {
				r.Error(err)
				return
			}
			r.Integer(t.tx.lseq)
		}},
		{"crr_changed", -1, t.changed},
		{"crr_ins", -1, t.insert},
		{"crr_upd", 3, t.update},
		{"crr_del", 2, t.remove},
		{"crr_key", -1, func(r Result, a Args) {
			var err error
			b := t.buf[:0]
			for i := range a.Len() {
				if b, err = packKey(b, value(a, i)); err != nil {
					r.Error(err)
					return
				}
			}
			t.buf = b
			r.Blob(b)
		}},
	}
}
