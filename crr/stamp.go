package crr

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// CellStamp says who wrote something, and when by that site's clock.
type CellStamp struct {
	Site SiteID    `json:"site"`
	Time time.Time `json:"time"`
	HLC  HLC       `json:"hlc"`
	// What is insert or delete of a row; write of a cell that was written after its row's insert; add or assign of a counter.
	What string `json:"what"`
}

// StampFunc is crr_stamp(table, key…, column): a JSON text that says who wrote a cell
// last, NULL when nothing is known. With column NULL it is of the row: its insert, or the delete that removed it. c is the connection that
// the function is registered on.
func StampFunc(c Conn) Func {
	return Func{"crr_stamp", -1, func(r Result, a Args) {
		if a.Len() < 3 {
			r.Error(fmt.Errorf("crr_stamp(table, key…, column): %d arguments", a.Len()))
			return
		}
		var keys []wire.Value
		for i := 1; i < a.Len()-1; i++ {
			keys = append(keys, value(a, i))
		}
		st, err := FindStamp(c, string(a.Bytes(0)), keys, string(a.Bytes(a.Len()-1)))
		if err != nil {
			r.Error(err)
			return
		}
		if st == nil {
			r.Null()
			return
		}
		text, err := json.Marshal(st)
		if err != nil {
			r.Error(err)
			return
		}
		r.Text(string(text))
	}}
}

// FindStamp is what crr_stamp shows; column "" is the row. nil: nothing is known.
func FindStamp(c Conn, name string, keys []wire.Value, column string) (*CellStamp, error) {
	me, err := readSelf(c)
	if err != nil {
		return nil, err
	}
	state, err := readState(c, me.schema)
	if err != nil {
		return nil, err
	}
	def := state.Table(name)
	if def == nil {
		return nil, fmt.Errorf("crr_stamp: no such conflict-free table: %s", name)
	}
	if len(keys) != len(def.Key) {
		return nil, fmt.Errorf("crr_stamp: %s has a key of %d columns, not %d", def.Name, len(def.Key), len(keys))
	}
	t := newTable(def)
	key := keys[0]
	if len(keys) > 1 {
		var b []byte
		for _, k := range keys {
			if b, err = packKey(b, k); err != nil {
				return nil, err
			}
		}
		key = wire.Blob(b)
	}
	var row Row
	if err := query(c, "SELECT st FROM crr."+t.meta()+" WHERE k=?", func(st Stmt) error { return row.decode(st.ColumnBytes(0)) }, key); err != nil {
		return nil, err
	}
	if column == "" {
		if row.Live() {
			return newStamp(row.Ins, "insert"), nil
		}
		return newStamp(row.Del, "delete"), nil
	}
	col, ok := def.Column(column)
	if !ok {
		return nil, fmt.Errorf("crr_stamp: no column %s beside the key of %s", column, strings.ToLower(def.Name))
	}
	return row.stampOf(col.ID), nil
}

func newStamp(s Stamp, what string) *CellStamp {
	if s.Zero() {
		return nil
	}
	return &CellStamp{Site: s.Site, Time: s.HLC.Time(), HLC: s.HLC, What: what}
}

// stampOf returns the newest write of a column.
func (r *Row) stampOf(col uint32) *CellStamp {
	if !r.Live() {
		return nil
	}
	at, what := r.CellAt(col), "write"
	if at == r.Ins {
		what = "insert"
	}
	for _, c := range r.Counters {
		if c.Col != col {
			continue
		}
		if c.Base != nil && at.Before(c.Base.At) {
			at, what = c.Base.At, "assign"
		}
		for _, e := range c.Entries {
			if s := (Stamp{e.HLC, e.Site}); at.Before(s) {
				at, what = s, "add"
			}
		}
	}
	return newStamp(at, what)
}
