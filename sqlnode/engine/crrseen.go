package engine

import (
	"context"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// keeps says whether this node keeps the conflict-free tables of a tenant.
func (e *Engine) keeps(t *pagestore.Tenant) bool { return e.cfg.Site == nil || e.cfg.Site(t) }

// names is the conflict-free schema, to know its names by: as this node's file has it or, where there is none, as main has. nil: there
// are none, as far as is known here.
func (db *DB) names() *schema.State {
	if st := db.crrState(); st != nil {
		return st
	}
	told := db.t.Record().Tables
	if told == 0 {
		return nil
	}
	if st := db.away.Load(); st != nil && st.Version >= told {
		return st
	}
	st, err := db.declaredHere()
	if err != nil {
		return db.away.Load() // who meets a name that is not known here asks another node
	}
	if st != nil {
		db.away.Store(st)
	}
	return st
}

// declaredHere reads the conflict-free schema that main declares.
func (db *DB) declaredHere() (*schema.State, error) {
	c, epoch, err := db.reader(context.Background(), false)
	if err != nil {
		return nil, err
	}
	var done []schema.Change
	err = c.internally(func() (err error) {
		done, err = crrfiles.Changes(c.Conn.Conn, 0)
		return err
	})
	db.giveBack(c, epoch, err != nil)
	if err != nil || len(done) == 0 {
		return nil, err
	}
	return schema.Replay(done)
}

// seenCRR is what a connection's newest statement can have seen of the conflict-free tables: what their file has now, which is as much or more.
func (c *conn) seenCRR() (crr.Vector, error) {
	v := crr.Vector{}
	err := c.own("SELECT site, hlc FROM crr.__crr_vv UNION ALL SELECT site, hlc FROM crr.__crr_self WHERE site IS NOT NULL AND hlc<>0", func(row []wire.Value) {
		site, at := crr.SiteID(row[0].Int()), crr.HLC(row[1].Int())
		v[site] = max(v[site], at)
	})
	return v, err
}
