package crr

import (
	"errors"
	"fmt"

	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/wire"
)

// tracker is the state behind the SQL functions of one writing connection: the
// triggers call them for each row that a statement changes.
type tracker struct {
	tables map[uint32]*table
	newest *table // of tables: the one in hand

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

// table returns a live table; nil for one that there is not.
func (t *tracker) table(id int64) *table {
	if t.newest == nil || int64(t.newest.def.ID) != id {
		t.newest = t.tables[uint32(id)]
	}
	return t.newest
}

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
	tab := t.table(a.Int(0))
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
		{"crr_floats", -1, t.compared},
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
