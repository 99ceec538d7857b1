package crr

import (
	"fmt"

	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/wire"
)

// TableStatus is what a full reading of a table's metadata found.
type TableStatus struct {
	Name       string
	Rows       int64 // in the tenant's table
	Live       int64 // in the metadata
	Tombstones int64
	Survived   int64    // live rows that remember a delete
	Bytes      int64    // of metadata, keys left out
	Faults     []string // what doesn't fit together, up to maxFaults
}

const maxFaults = 20

func (t *TableStatus) fault(format string, args ...any) {
	if len(t.Faults) < maxFaults {
		t.Faults = append(t.Faults, fmt.Sprintf(format, args...))
	}
}

// Check reads all metadata, and every row that it speaks of, in one snapshot: each live row has
// metadata and each live metadata a row, counters show what their state says, no stamp is above the file's vector.
func (r *Reader) Check() (out []TableStatus, err error) {
	err = r.snapshot(func(v Vector) error {
		for _, t := range r.tables {
			st, err := r.check(t, v)
			if err != nil {
				return fmt.Errorf("check table %s: %w", t.def.Name, err)
			}
			out = append(out, st)
		}
		return nil
	})
	return out, err
}

func (r *Reader) check(t *readTable, v Vector) (TableStatus, error) {
	out := TableStatus{Name: t.def.Name}
	count := func(s Stmt) error { out.Rows = s.Column(0).Int(); return nil }
	if err := query(r.conn, "SELECT count(*) FROM crr."+schema.Quote(t.def.Name), count); err != nil {
		return out, err
	}
	err := query(r.conn, "SELECT k,st FROM crr."+t.table.meta(), func(s Stmt) error {
		key := s.Column(0)
		out.Bytes += int64(len(s.ColumnBytes(1)))
		row, err := DecodeRow(s.ColumnBytes(1))
		if err != nil {
			out.fault("key %s: %v", key, err)
			return nil
		}
		if !v.Has(row.Ins) || !v.Has(row.Del) {
			out.fault("key %s: stamped above the file's vector", key)
		}
		if !row.Live() {
			out.Tombstones++
		} else {
			out.Live++
			if !row.Del.Zero() {
				out.Survived++
			}
		}
		return r.checkRow(t, key, &row, &out)
	})
	if err == nil && out.Rows != out.Live {
		out.fault("%d rows, and metadata of %d live ones", out.Rows, out.Live)
	}
	return out, err
}

func (r *Reader) checkRow(t *readTable, key wire.Value, row *Row, out *TableStatus) error {
	if len(t.cols) == 0 {
		return nil
	}
	values, err := r.values(t, key)
	switch {
	case !row.Live() && err == nil:
		out.fault("key %s: a row with the metadata of a dead one", key)
		return nil
	case !row.Live():
		return nil
	case err != nil:
		out.fault("%v", err)
		return nil
	}
	for p, c := range t.cols {
		if c.Kind == schema.Counter && values[p] != wire.Integer(row.Value(c.ID)) {
			out.fault("key %s: %s shows %s, its state says %d", key, c.Name, values[p], row.Value(c.ID))
		}
	}
	return nil
}

// PeerStatus is what a site knows of another.
type PeerStatus struct {
	Site  SiteID
	File  FileID
	Has   HLC    // newest transaction of it that is here
	Acked Vector // what it surely has
}

// Status is what `crr status` shows of a site.
type Status struct {
	Head
	Collected Vector // tombstones up to here may have been dropped
	Stable    Vector // what all members have
	Remember  int    // changed rows in memory
	Peers     []PeerStatus
	Refuses   error // why local writes are refused; nil when they are not
}

// Status returns the site's state.
func (s *Site) Status() Status {
	st := Status{Head: s.Head(), Collected: s.me.collected.Clone(), Stable: s.stable(), Remember: s.ring.size(), Refuses: s.writable()}
	all := Vector{}
	for site := range s.peers {
		all[site] = 1
	}
	for _, site := range all.sites() {
		p := s.peers[site]
		st.Peers = append(st.Peers, PeerStatus{Site: site, File: p.file, Has: s.vv[site], Acked: p.acked.Clone()})
	}
	return st
}
