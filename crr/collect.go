package crr

import (
	"fmt"

	"github.com/nearsql/nearsql/wire"
)

// Collected is what Collect did.
type Collected struct {
	Tombstones int  // of dead rows, dropped
	Forgotten  int  // deletes that live rows had survived
	More       bool // the limit was met
}

// Collect drops tombstones that no member can contradict any more, up to limit of them: each member that
// is not retired has the delete, and all that it had written when it said so is here. A silent member holds
// them until it is retired.
//
// What was dropped is noted in the file: somebody who comes back from before it (a restored file) is
// answered with a *BehindError, since a batch could not tell him of those deletes.
func (s *Site) Collect(limit int) (Collected, error) {
	var out Collected
	if s.members == nil {
		return out, nil
	}
	stable := s.stable()
	collected := s.me.collected.Clone()
	err := s.inTx(func() error {
		for _, t := range s.track.tables {
			if err := s.collectTable(t, stable, collected, limit, &out); err != nil {
				return fmt.Errorf("table %s: %w", t.def.Name, err)
			}
		}
		for site, p := range s.peers {
			if err := s.storePeer(site, p); err != nil {
				return err
			}
		}
		return s.exec("UPDATE crr.__crr_self SET collected=?", wire.Blob(collected.Append(nil)))
	})
	if err != nil {
		return Collected{}, fmt.Errorf("collect tombstones: %w", err)
	}
	s.me.collected = collected
	return out, nil
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

func (s *Site) collectTable(t *table, stable, collected Vector, limit int, out *Collected) error {
	type cleared struct {
		key wire.Value
		st  []byte // nil: drop it
	}
	var rows []cleared
	row := &s.track.row
	err := query(s.conn, "SELECT k,st FROM crr."+t.meta(), func(st Stmt) error {
		if out.More {
			return nil
		}
		if err := row.decode(st.ColumnBytes(1)); err != nil {
			return err
		}
		if row.Del.Zero() || !stable.Has(row.Del) {
			return nil
		}
		if len(rows)+out.Tombstones+out.Forgotten >= limit {
			out.More = true
			return nil
		}
		collected[row.Del.Site] = max(collected[row.Del.Site], row.Del.HLC)
		c := cleared{key: st.Column(0)}
		if row.Live() {
			row.Del = Stamp{}
			c.st = row.append(nil)
		}
		rows = append(rows, c)
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range rows {
		if c.st == nil {
			out.Tombstones++
			err = t.stmts.forget(s.conn, t, c.key)
		} else { // lseq stays: there is nothing to tell
			out.Forgotten++
			err = query(s.conn, fmt.Sprintf("UPDATE crr.%s SET st=? WHERE k=?", t.meta()), nil, wire.Blob(c.st), c.key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
