package crr

import (
	"errors"
	"math"
	"math/bits"
	"slices"
)

// Row is the replicated state of one row, without the values of its LWW cells,
// which are in the tenant's table.
type Row struct {
	Del Stamp // the newest DELETE; zero: none is remembered
	Ins Stamp // the newest INSERT, the row's birth; invariant: zero, or not before Del
	// Cells are the LWW cells that were written after the birth. invariant: no column twice.
	Cells    []Cell
	Counters []CounterState // invariant: no column twice; empty while the row is dead
}

// Cell is one LWW cell that is newer than its row's birth.
type Cell struct {
	Col uint32
	At  Stamp
}

// CounterState is the state of one COUNTER column of a live row.
type CounterState struct {
	Col     uint32
	Base    *Base // the newest assignment; nil: none
	Entries []Entry
}

// Entry is what one site has added to one incarnation of a row. Only that site
// writes it, so of two readings of it the newer is right.
type Entry struct {
	Site  SiteID
	Birth Stamp // of the incarnation
	HLC   HLC   // of the site's newest addition
	Sum   int64 // of all its additions; within ±maxContribution
}

// Base is an assignment (SET n = 5): the value, and the part of every entry
// that the assigner had seen and so replaced.
type Base struct {
	At, Birth Stamp
	Value     int64
	Seen      []Entry
}

// Live says whether the row is in the tenant's table. A DELETE and an INSERT of one
// transaction have one stamp: such a row was deleted first.
func (r *Row) Live() bool { return !r.Ins.Zero() && !r.Ins.Before(r.Del) }

// reset makes r the state of a row never seen, and keeps its memory.
func (r *Row) reset() { *r = Row{Cells: r.Cells[:0], Counters: r.Counters[:0]} }

// CellAt returns the stamp of an LWW cell.
func (r *Row) CellAt(col uint32) Stamp {
	for i := range r.Cells {
		if r.Cells[i].Col == col {
			return r.Cells[i].At
		}
	}
	return r.Ins
}

func (r *Row) setCell(col uint32, at Stamp) {
	for i := range r.Cells {
		if r.Cells[i].Col == col {
			r.Cells[i].At = at
			return
		}
	}
	r.Cells = append(r.Cells, Cell{Col: col, At: at})
}

func (r *Row) counter(col uint32) *CounterState {
	for i := range r.Counters {
		if r.Counters[i].Col == col {
			return &r.Counters[i]
		}
	}
	r.Counters = append(r.Counters, CounterState{Col: col})
	return &r.Counters[len(r.Counters)-1]
}

// Value returns the value of a COUNTER column.
func (r *Row) Value(col uint32) int64 {
	for i := range r.Counters {
		if r.Counters[i].Col == col {
			return r.Counters[i].value()
		}
	}
	return 0
}

func (e Entry) same(o Entry) bool { return e.Site == o.Site && e.Birth == o.Birth }

// value sums in 128 bits and cuts at the end: it doesn't depend on the order of entries.
func (c *CounterState) value() int64 {
	var hi int64
	var lo uint64
	add := func(v int64) {
		var carry uint64
		lo, carry = bits.Add64(lo, uint64(v), 0)
		hi += v>>63 + int64(carry)
	}
	if c.Base != nil {
		add(c.Base.Value)
	}
	for _, e := range c.Entries {
		add(e.Sum)
		if c.Base == nil {
			continue
		}
		for _, s := range c.Base.Seen {
			if s.same(e) {
				add(-s.Sum)
			}
		}
	}
	switch {
	case hi < 0 && (hi != -1 || int64(lo) >= 0):
		return math.MinInt64
	case hi >= 0 && (hi != 0 || int64(lo) < 0):
		return math.MaxInt64
	}
	return int64(lo)
}

// maxContribution bounds what one site adds to one incarnation, so that sums of
// a few sites stay in range (Redis has the same bound).
const maxContribution = 1 << 59

var errContribution = errors.New("crr: what this site has added to a COUNTER is beyond 2^59")

// The local operations. now is the stamp of the transaction.

// localAdd adds d to a counter.
func (r *Row) localAdd(col uint32, d int64, now Stamp) error {
	c := r.counter(col)
	i := slices.IndexFunc(c.Entries, func(e Entry) bool { return e.Site == now.Site && e.Birth == r.Ins })
	if i < 0 {
		i = len(c.Entries)
		c.Entries = append(c.Entries, Entry{Site: now.Site, Birth: r.Ins})
	}
	e := &c.Entries[i]
	if d > 2*maxContribution || d < -2*maxContribution || e.Sum+d > maxContribution || e.Sum+d < -maxContribution {
		return errContribution
	}
	e.Sum += d
	e.HLC = now.HLC
	return nil
}

// localAssign sets a counter.
func (r *Row) localAssign(col uint32, v int64, now Stamp) {
	c := r.counter(col)
	c.Base = &Base{At: now, Birth: r.Ins, Value: v, Seen: slices.Clone(c.Entries)}
}

// localInsert is INSERT, or the insert half of REPLACE: then it says so.
func (r *Row) localInsert(now Stamp) (replaced bool) {
	replaced = r.Live()
	if !replaced {
		r.Counters = r.Counters[:0]
	}
	r.Ins, r.Cells = now, r.Cells[:0]
	return replaced
}

// localDelete is DELETE.
func (r *Row) localDelete(now Stamp) {
	r.reset()
	r.Del = now
}

// forget drops what r has of columns that are gone.
func (r *Row) forget(gone func(col uint32) bool) {
	r.Cells = slices.DeleteFunc(r.Cells, func(c Cell) bool { return gone(c.Col) })
	r.Counters = slices.DeleteFunc(r.Counters, func(c CounterState) bool { return gone(c.Col) })
}
