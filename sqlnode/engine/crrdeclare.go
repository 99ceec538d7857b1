package engine

import (
	"context"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/wire"
)

// declare changes the conflict-free schema: the change is numbered in main, by a transaction of the tenant like others, and is answered when it is
// committed and this node's own file has made it.
func (db *DB) declare(ctx context.Context, q Quorum, req *wire.Request, p plan, sink wire.Sink) (Executed, error) {
	if err := crr.CheckText(req.Statements[0].SQL); err != nil {
		return Executed{}, crrError(err).At(1)
	}
	if ts, err := schema.Lex(req.Statements[0].SQL); err == nil {
		for _, t := range ts {
			if why := movingReason(t.Text); why != "" && t.Kind != schema.String {
				return Executed{}, wire.NewError(wire.CodeSQLNotAllowed, "%s", why).At(1)
			}
		}
	}
	var at uint64
	p.own = func(c *conn) *wire.Error {
		at = 0
		err := c.internally(func() error {
			state, _, err := crrfiles.Declare(c.Conn.Conn, req.Statements[0].SQL)
			if err == nil {
				at = state.Version
			}
			return err
		})
		if err == nil {
			return nil
		}
		if e := c.fail(err); e.Code != wire.CodeInternal {
			return e.At(1)
		}
		return crrError(err).At(1)
	}
	x, err := db.write(ctx, q, req, p, sink)
	if err != nil || at == 0 {
		return x, err
	}
	f, err := db.e.cfg.CRR.Open(ctx, db.t)
	if err != nil {
		e := crrError(err)
		return x, wire.NewError(e.Code, "the change was made, and is not in use on this node: %s", e.Message)
	}
	db.crr.Store(f)
	return x, nil
}

// taken returns the names of the conflict-free schema as the writer's connection sees them: main may not have them, too.
func (w *writer) taken() (func(string) bool, error) {
	if w.db.e.cfg.CRR == nil {
		return nil, nil
	}
	var state *schema.State
	err := w.conn.internally(func() error {
		done, err := crrfiles.Changes(w.conn.Conn.Conn, 0)
		if err != nil || len(done) == 0 {
			return err
		}
		state, err = schema.Replay(done)
		return err
	})
	if err != nil || state == nil {
		return nil, err
	}
	return state.Has, nil
}

// meansAll says whether a statement works on all that is attached when it names nothing.
func meansAll(sql string) bool {
	switch verb(sql) {
	case "ANALYZE", "REINDEX", "VACUUM":
		return true
	case "PRAGMA":
		return containsFold(sql, "optimize") || containsFold(sql, "vacuum")
	}
	return false
}

// fit gives the writer's connection the conflict-free tables, to read, but for statements that would take them for their own.
func (w *writer) fit(group []*job) error {
	f := w.db.crr.Load()
	if f == nil {
		return nil
	}
	if len(group) == 1 && group[0].first != classWrite {
		for i := range group[0].req.Statements {
			if meansAll(group[0].req.Statements[i].SQL) {
				return w.conn.detachCRR()
			}
		}
	}
	return w.conn.attachCRR(f)
}
