package crr

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/wire"
)

// Salvaged is what Salvage found in an old file.
type Salvaged struct {
	Rows int  // rows of which something was written anew
	Lost int  // writes that nothing could be made of; they are in __crr_lost
	Done bool // the file had been salvaged before: nothing was done
}

// Salvage writes what a retired or rewound file has and nobody else does as fresh local writes of this site, in one
// transaction, however large: cells that are newer than the others', what was added to counters whose row still lives, rows that nobody has, deletes of
// rows born before them. The rest goes to __crr_lost, for the tenant to look at. old is the file's reader; number is a site's that it was, now or before. Doing
// it again does nothing.
//
// What counts as had by nobody else is what is above this file's own vector: so that must have all that others took of the old site, and
// they must take no more (it is retired), or increments would count twice.
func (s *Site) Salvage(old *Reader, number SiteID) (Salvaged, error) {
	var out Salvaged
	if number == 0 || number == s.me.Site {
		return out, fmt.Errorf("crr: salvage of site %d, which is no other", number)
	}
	if err := s.Begin(); err != nil {
		return out, err
	}
	defer func(rows int) { s.track.rows = rows }(s.track.rows)
	s.track.rows = math.MaxInt // it is one transaction that is known to have been done, or not
	err := old.snapshot(func(v Vector) error {
		if old.me.Tenant != s.me.Tenant {
			return fmt.Errorf("crr: salvage of a file of tenant %q for %q", old.me.Tenant, s.me.Tenant)
		}
		id := salvageID(&old.me, number)
		done, err := s.salvagedBefore(id)
		if out.Done = done; err != nil || done {
			return err
		}
		g := &salvage{s: s, old: old, number: number, known: s.vv[number], out: &out}
		for _, t := range old.tables {
			if err := g.table(t); err != nil {
				return fmt.Errorf("table %s: %w", t.def.Name, err)
			}
		}
		return s.exec("INSERT INTO crr.__crr_salvaged VALUES(?,?)", wire.Blob(id), wire.Integer(int64(v[number])))
	})
	if err != nil {
		return Salvaged{}, errors.Join(fmt.Errorf("salvage of site %d: %w", number, err), s.Rollback())
	}
	if _, err := s.Commit(); err != nil {
		return Salvaged{}, err
	}
	return out, nil
}

// salvageID names what is salvaged: a file and, if that is not the file's own, the number.
func salvageID(old *self, number SiteID) []byte {
	id := append([]byte(nil), old.File[:]...)
	if number != old.Site {
		id = binary.BigEndian.AppendUint32(id, uint32(number))
	}
	return id
}

func (s *Site) salvagedBefore(id []byte) (done bool, err error) {
	err = query(s.conn, "SELECT 1 FROM crr.__crr_salvaged WHERE file=?", func(Stmt) error { done = true; return nil }, wire.Blob(id))
	return done, err
}

// salvage is one run of Salvage.
type salvage struct {
	s      *Site
	old    *Reader
	number SiteID
	known  HLC // up to here the others have the old site's transactions
	out    *Salvaged
}

// unsent says whether a stamp is one that only the old file has.
func (g *salvage) unsent(at Stamp) bool { return at.Site == g.number && at.HLC > g.known }

func (g *salvage) table(t *readTable) error {
	return query(g.old.conn, "SELECT k,st FROM crr."+t.table.meta(), func(st Stmt) error {
		row, err := DecodeRow(st.ColumnBytes(1))
		if err != nil {
			return err
		}
		return g.row(t, st.Column(0), &row)
	})
}

// row salvages one row; was is its state in the old file.
func (g *salvage) row(t *readTable, key wire.Value, was *Row) error {
	if !g.touched(was) {
		return nil
	}
	now := g.s.track.tables[t.def.ID]
	if now == nil {
		return g.lose(t, key, "table", wire.Null)
	}
	var have Row
	if _, err := now.stmts.get(g.s.conn, now, key, &have); err != nil {
		return err
	}
	w := &rowSalvage{salvage: g, was: was, have: &have, old: t, now: now, key: key}
	err := w.run()
	if w.wrote {
		g.out.Rows++
	}
	return err
}

// touched says whether the old site wrote anything of the row that is not known.
func (g *salvage) touched(r *Row) bool {
	if g.unsent(r.Del) || g.unsent(r.Ins) {
		return true
	}
	for _, c := range r.Cells {
		if g.unsent(c.At) {
			return true
		}
	}
	for _, c := range r.Counters {
		if c.Base != nil && g.unsent(c.Base.At) {
			return true
		}
		for _, e := range c.Entries {
			if g.unsent(Stamp{e.HLC, e.Site}) {
				return true
			}
		}
	}
	return false
}

// lose notes a write that nothing can be made of.
func (g *salvage) lose(t *readTable, key wire.Value, what string, v wire.Value) error {
	g.out.Lost++
	return g.s.exec("INSERT INTO crr.__crr_lost(file,tid,k,what,value) VALUES(?,?,?,?,?)",
		wire.Blob(g.old.me.File[:]), wire.Integer(int64(t.def.ID)), key, wire.Text(what), v)
}

// rowSalvage is one row: as it was in the old file, and as it is here.
type rowSalvage struct {
	*salvage
	was, have *Row
	old       *readTable
	now       *table
	key       wire.Value
	values    []wire.Value // of the old row, by its places; nil when it is dead
	wrote     bool
}

func (w *rowSalvage) run() (err error) {
	if !w.was.Live() {
		if w.have.Live() && w.have.Ins.Before(w.was.Del) {
			return w.exec(Classified{}, "DELETE FROM crr.%s WHERE %s", nil)
		}
		return nil // it is gone here too, or was born again since
	}
	if len(w.old.cols) > 0 {
		if w.values, err = w.salvage.old.values(w.old, w.key); err != nil {
			return err
		}
	}
	fresh := w.unsent(w.was.Ins)
	switch {
	case fresh && !w.have.Live() && w.have.Del.Before(w.was.Ins):
		return w.insert()
	case !w.have.Live():
		return w.lose(w.old, w.key, "row", wire.Null) // deleted after, or with what it changed
	}
	if err := w.cells(fresh); err != nil {
		return err
	}
	return w.counters()
}

// exec runs a statement on the tenant's table, which the triggers track. The first % of the format is the table, the last the key's condition.
func (w *rowSalvage) exec(c Classified, format string, args []wire.Value) error {
	keys, err := w.now.keyArgs(w.key)
	if err != nil {
		return err
	}
	if err := w.s.Use(c); err != nil {
		return err
	}
	w.wrote = true
	sql := fmt.Sprintf(format, schema.Quote(w.now.def.Name), w.now.keyNames("%=?", " AND "))
	return query(w.s.conn, sql, nil, append(args, keys...)...)
}

// insert makes a row that nobody has.
func (w *rowSalvage) insert() error {
	var cols []string
	var args []wire.Value
	for p, c := range w.old.cols {
		if i := w.now.place(c.ID); i >= 0 {
			cols, args = append(cols, schema.Quote(w.now.cols[i].Name)), append(args, w.values[p])
		}
	}
	keys, err := w.now.keyArgs(w.key)
	if err != nil {
		return err
	}
	if err := w.s.Use(Classified{}); err != nil {
		return err
	}
	w.wrote = true
	cols = append(cols, w.now.keyNames("%", ","))
	sql := fmt.Sprintf("INSERT INTO crr.%s(%s) VALUES(?%s)", schema.Quote(w.now.def.Name), strings.Join(cols, ","), strings.Repeat(",?", len(args)+len(keys)-1))
	return query(w.s.conn, sql, nil, append(args, keys...)...)
}

// cells writes the LWW cells that are newer than the others'.
func (w *rowSalvage) cells(fresh bool) error {
	for p, c := range w.old.cols {
		if c.Kind != schema.LWW {
			continue
		}
		at := w.was.CellAt(c.ID)
		if !w.unsent(at) {
			continue
		}
		i := w.now.place(c.ID)
		// A cell of another incarnation counts only if it came with a younger one.
		same := w.have.Ins == w.was.Ins || fresh && w.have.Ins.Before(w.was.Ins)
		if i < 0 || !same || !w.have.CellAt(c.ID).Before(at) {
			if err := w.lose(w.old, w.key, c.Name, w.values[p]); err != nil {
				return err
			}
			continue
		}
		set := "UPDATE crr.%s SET " + strings.ReplaceAll(schema.Quote(w.now.cols[i].Name), "%", "%%") + "=? WHERE %s"
		if err := w.exec(Classified{}, set, []wire.Value{w.values[p]}); err != nil {
			return err
		}
	}
	return nil
}

// counters adds what the old site added and nobody knows.
func (w *rowSalvage) counters() error {
	for _, c := range w.was.Counters {
		i := w.now.place(c.Col)
		p := w.old.place(c.Col)
		if i < 0 || p < 0 {
			continue
		}
		known := CounterState{}
		for _, k := range w.have.Counters {
			if k.Col == c.Col {
				known = k
			}
		}
		if err := w.counter(c, known, i); err != nil {
			return err
		}
	}
	return nil
}

func (w *rowSalvage) counter(c, known CounterState, place int) error {
	name := w.now.cols[place].Name
	quoted := strings.ReplaceAll(schema.Quote(name), "%", "%%")
	base := c.Base
	if base != nil && w.unsent(base.At) && w.lives(base.Birth, known) && (known.Base == nil || known.Base.At.Before(base.At)) {
		u := Classified{target: w.now.def.Name, assign: []string{name}}
		if err := w.exec(u, "UPDATE crr.%s SET "+quoted+"=? WHERE %s", []wire.Value{wire.Integer(base.Value)}); err != nil {
			return err
		}
	} else {
		base = nil
	}
	for _, e := range c.Entries {
		if !w.unsent(Stamp{e.HLC, e.Site}) {
			continue
		}
		d := e.Sum
		switch {
		case base != nil: // what the assignment replaced is not added again
			d -= sumOf(base.Seen, e)
		default:
			d -= sumOf(known.Entries, e)
		}
		if d == 0 {
			continue
		}
		if !w.lives(e.Birth, known) {
			if err := w.lose(w.old, w.key, name, wire.Integer(d)); err != nil {
				return err
			}
			continue
		}
		if err := w.exec(Classified{}, "UPDATE crr.%s SET "+quoted+"="+quoted+"+? WHERE %s", []wire.Value{wire.Integer(d)}); err != nil {
			return err
		}
	}
	return nil
}

// lives says whether an incarnation still counts in the row that is here: it is this one or was merged with it,
// or nobody has deleted the row since this new one was born.
func (w *rowSalvage) lives(birth Stamp, known CounterState) bool {
	if birth == w.have.Ins || w.unsent(birth) && !birth.Before(w.have.Del) {
		return true
	}
	for _, e := range known.Entries {
		if e.Birth == birth {
			return true
		}
	}
	return false
}

func sumOf(es []Entry, of Entry) int64 {
	for _, e := range es {
		if e.same(of) {
			return e.Sum
		}
	}
	return 0
}
