package crr

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/nearsql/nearsql/wire"
)

// Collected is what Collect or Sweep did.
type Collected struct {
	Tombstones int  // of dead rows, dropped
	Forgotten  int  // deletes that live rows had survived
	Looked     int  // rows of metadata that were read
	More       bool // not all metadata was looked at
}

// Collect drops tombstones that no member can contradict any more, up to limit of them: each member that
// is not retired has the delete, and all that it had written when it said so is here. A silent member holds
// them until it is retired.
//
// What was dropped is noted in the file: somebody who comes back from before it (a restored file) is
// answered with a *BehindError, since a batch could not tell him of those deletes.
func (s *Site) Collect(limit int) (Collected, error) {
	if s.members == nil {
		return Collected{}, nil
	}
	g := gathering{stable: s.stable(), limit: limit, looks: math.MaxInt, collected: s.me.collected.Clone()}
	for _, t := range s.byID() {
		if err := g.look(s, t, nil); err != nil {
			return Collected{}, fmt.Errorf("collect tombstones of table %s: %w", t.def.Name, err)
		}
	}
	return g.out, s.drop(&g)
}

// sweep is where Sweep goes on.
type sweep struct {
	against uint64      // hash of what all members had when the newest pass began; 0: there was none
	table   uint32      // that is looked at next; 0: the pass is over
	after   *wire.Value // key of the row that was looked at last in it; nil: none
}

// Sweep is Collect in steps: it looks at no more than some rows of metadata, from where the call before ended, so that the site's
// writer is not held for long however large the tables are. Collected.More is false at the end of a pass. The next one begins when the members have
// acknowledged more than they had at the beginning of the newest; until then a call looks at nothing.
func (s *Site) Sweep(rows int) (Collected, error) {
	if s.members == nil {
		return Collected{}, nil
	}
	g := gathering{stable: s.stable(), limit: math.MaxInt, looks: rows, collected: s.me.collected.Clone()}
	w := &s.sweep
	if w.table == 0 {
		now := g.stable.Hash()
		if now == w.against {
			return Collected{}, nil
		}
		*w = sweep{against: now, table: 1}
	}
	next := *w
	for _, t := range s.byID() {
		if t.def.ID < next.table {
			continue
		}
		if t.def.ID > next.table {
			next.table, next.after = t.def.ID, nil
		}
		if err := g.look(s, t, next.after); err != nil {
			return Collected{}, fmt.Errorf("collect tombstones of table %s: %w", t.def.Name, err)
		}
		if g.out.More {
			next.after = g.last
			break
		}
		next.table, next.after = t.def.ID+1, nil
	}
	if !g.out.More {
		next.table, next.after = 0, nil
	}
	// At the end of a pass what the members acknowledged is stored too: a restart need not learn it anew.
	if len(g.rows) > 0 || next.table == 0 {
		if err := s.drop(&g); err != nil {
			return Collected{}, err
		}
	}
	*w = next
	return g.out, nil
}

// byID are the live tables in the order of their ids.
func (s *Site) byID() []*table {
	out := make([]*table, 0, len(s.track.tables))
	for _, id := range slices.Sorted(maps.Keys(s.track.tables)) {
		out = append(out, s.track.tables[id])
	}
	return out
}

// stable is what every member that counts is known to have: the least of all vectors.
func (s *Site) stable() Vector {
	v := s.vv.Clone()
	for site, m := range s.members {
		if m.State == Retired || site == s.me.Site {
			continue
		}
		acked := Vector{}
		if p := s.peers[site]; p != nil && p.file == m.File {
			p.settle(site, s.vv)
			acked = p.acked
		}
		for at := range v {
			v[at] = min(v[at], acked[at])
		}
	}
	return v
}

// gathering is a look for tombstones that may go.
type gathering struct {
	stable    Vector
	limit     int // of tombstones
	looks     int // of rows that are read
	rows      []collectable
	collected Vector      // the newest deletes that were dropped, these too
	last      *wire.Value // key of the row that was read last
	out       Collected
}

// collectable is a row that forgets a delete.
type collectable struct {
	t   *table
	key wire.Value
	st  []byte // nil: the row of metadata goes
}

// look reads a table's metadata, from behind a key.
func (g *gathering) look(s *Site, t *table, after *wire.Value) error {
	if g.out.More {
		return nil
	}
	where, args := "", []wire.Value(nil)
	if after != nil {
		where, args = " WHERE k>?", []wire.Value{*after}
	}
	row, stable, collected := &s.track.row, g.stable, g.collected
	st, err := s.conn.Prepare("SELECT k,st FROM crr." + t.meta() + where + " ORDER BY k")
	if err != nil {
		return err
	}
	defer st.Finalize()
	if err := st.BindAll(args); err != nil {
		return err
	}
	for {
		more, err := st.Step()
		if err != nil || !more {
			return err
		}
		if g.out.Looked == g.looks {
			g.out.More = true
			return nil
		}
		g.out.Looked++
		if err := row.decode(st.ColumnBytes(1)); err != nil {
			return err
		}
		if g.out.Looked == g.looks {
			key := st.Column(0)
			g.last = &key
		}
		if row.Del.Zero() || !stable.Has(row.Del) {
			continue
		}
		if len(g.rows) == g.limit {
			g.out.More = true
			return nil
		}
		collected[row.Del.Site] = max(collected[row.Del.Site], row.Del.HLC)
		c := collectable{t: t, key: st.Column(0)}
		if row.Live() {
			row.Del = Stamp{}
			c.st = row.append(nil)
		}
		g.rows = append(g.rows, c)
	}
}

// drop drops what was gathered, and stores what the members have acknowledged.
func (s *Site) drop(g *gathering) error {
	err := s.inTx(func() error {
		for _, c := range g.rows {
			var err error
			if c.st == nil {
				g.out.Tombstones++
				err = c.t.stmts.forget(s.conn, c.t, c.key)
			} else { // lseq stays: there is nothing to tell
				g.out.Forgotten++
				err = query(s.conn, fmt.Sprintf("UPDATE crr.%s SET st=? WHERE k=?", c.t.meta()), nil, wire.Blob(c.st), c.key)
			}
			if err != nil {
				return fmt.Errorf("table %s: %w", c.t.def.Name, err)
			}
		}
		for site, p := range s.peers {
			if err := s.storePeer(site, p); err != nil {
				return err
			}
		}
		return s.exec("UPDATE crr.__crr_self SET collected=?", wire.Blob(g.collected.Append(nil)))
	})
	if err != nil {
		g.out = Collected{}
		return fmt.Errorf("collect tombstones: %w", err)
	}
	s.me.collected = g.collected
	return nil
}
