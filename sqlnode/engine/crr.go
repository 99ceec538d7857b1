package engine

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// Conflict-free tables are the schema crr of a tenant: a file of its own (package crrfiles) that every
// connection of the tenant has attached, read-only, and that one connection writes. A statement that writes
// one runs here, on whatever node this is; their schema changes at the primary, as rows of main.

// Registrar gives a file of this node its site number: by the tenant's primary, through the log. The number is used when main shows it here.
type Registrar func(ctx context.Context, t *pagestore.Tenant, file crr.FileID) error

// lookForCRR finds the tenant's file of conflict-free tables when the tenant is opened. It looks no further than
// whether there is one.
func (db *DB) lookForCRR() {
	m := db.e.cfg.CRR
	if m == nil || !db.e.keeps(db.t) {
		return
	}
	f := m.Lookup(db.t)
	if f == nil {
		return
	}
	if f.Schema() == nil {
		if err := f.Sync(context.Background()); err != nil {
			db.e.cfg.Log.Warn("conflict-free tables can't be used now", "tenant", db.t.ID(), "error", err)
		}
	}
	db.crr.Store(f)
}

// crrState is the conflict-free schema as this node's file has it; nil while it has none.
func (db *DB) crrState() *schema.State {
	if f := db.crr.Load(); f != nil {
		return f.Schema()
	}
	return nil
}

// discover looks, after a statement that named something unknown, whether main says more of conflict-free tables than
// this node's file did before the statement, which is was: others look too, and may have found it meanwhile.
// true: the statement may do better now. An error is what is to be answered instead.
func (db *DB) discover(ctx context.Context, was *schema.State, err error) (bool, error) {
	m := db.e.cfg.CRR
	if m == nil || !namesUnknown(err) || !db.e.keeps(db.t) {
		return false, nil
	}
	at := uint64(db.t.Position().TXID) + 1
	if db.crr.Load() == nil && db.bare.Load() == at {
		return false, nil
	}
	f, err := m.Open(ctx, db.t)
	if errors.Is(err, crrfiles.ErrNone) {
		db.bare.Store(at)
		return false, nil
	}
	if err != nil {
		return false, crrError(err)
	}
	db.crr.Store(f)
	now := f.Schema()
	return now != nil && (was == nil || was.Version != now.Version), nil
}

// namesUnknown says whether a statement named what the schemas here don't have.
func namesUnknown(err error) bool {
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != wire.CodeSQLiteError {
		return false
	}
	for _, p := range []string{"no such table", "no such column", "no such function: crr_", "no such index", "no such view"} {
		if strings.HasPrefix(e.Message, p) {
			return true
		}
	}
	return strings.Contains(e.Message, "has no column named")
}

// NeedsPrimary says whether a request on tenant t must run on the primary of its group. It knows which statements write conflict-free
// tables, which are written where the request arrives.
func (e *Engine) NeedsPrimary(t *pagestore.Tenant, req *wire.Request) bool {
	if !NeedsPrimary(req) {
		return false
	}
	if e.cfg.CRR == nil {
		return true
	}
	db, err := e.acquire(t)
	if err != nil {
		return true
	}
	defer e.release(db)
	state := db.names()
	if state == nil {
		return true
	}
	for i := range req.Statements {
		switch k := classify(req.Statements[i].SQL); k {
		case classEmpty, classRead, classCheck, classRefused:
		case classWrite:
			if to, _ := target(req.Statements[i].SQL, k, state); to != toCRR {
				return true
			}
		default:
			return true
		}
	}
	return false
}

// RegisterSite gives a file of conflict-free tables, of a node, its site number, or says the one it has: a transaction of the tenant, so this node must be
// its primary. Once it returned, the number is in main.
func (e *Engine) RegisterSite(ctx context.Context, t *pagestore.Tenant, q Quorum, node string, file crr.FileID) (crr.SiteID, error) {
	var site crr.SiteID
	err := e.within(ctx, t, q, func(c *conn) *wire.Error {
		if err := c.internally(func() (err error) {
			site, err = crrfiles.Register(c.Conn.Conn, t.ID(), node, file)
			return err
		}); err != nil {
			return c.fail(err)
		}
		return nil
	})
	return site, err
}

// within runs the engine's own statements as one transaction of the tenant.
func (e *Engine) within(ctx context.Context, t *pagestore.Tenant, q Quorum, own func(c *conn) *wire.Error) error {
	for {
		db, err := e.acquire(t)
		if err != nil {
			return err
		}
		_, err = db.write(ctx, q, &wire.Request{}, plan{write: true, alone: true, first: classAlone, own: own}, noSink{})
		e.release(db)
		if err != errDBClosed {
			return err
		}
		if err := ctx.Err(); err != nil {
			return wire.AsError(err)
		}
	}
}

// noSink is for what has no answer.
type noSink struct{}

// Begin implements wire.Sink.
func (noSink) Begin(int, []wire.Column) error { return nil }

// Row implements wire.Sink.
func (noSink) Row([]wire.Value) error { return nil }

// End implements wire.Sink.
func (noSink) End(wire.Summary) error { return nil }

// crrError converts errors of packages crr, schema and crrfiles; nil for others.
func crrError(err error) *wire.Error {
	var (
		damaged *crrfiles.DamagedError
		ahead   *crrfiles.AheadError
		refusal *schema.Refusal
		syntax  *schema.SyntaxError
		clock   *crr.ClockError
	)
	switch {
	case errors.As(err, &damaged):
		return wire.NewError(wire.CodeCorrupt, "%w", damaged)
	case errors.As(err, &ahead):
		return wire.NewError(wire.CodeStale, "%w", ahead)
	case errors.As(err, &refusal):
		return wire.NewError(wire.CodeSQLNotAllowed, "%w", refusal)
	case errors.As(err, &syntax):
		return wire.NewError(wire.CodeSQLiteError, "%w", syntax)
	case errors.As(err, &clock):
		return wire.NewError(wire.CodeNotReady, "%w", clock)
	case errors.Is(err, crr.ErrLeaving):
		return wire.NewError(wire.CodeNotReady, "this node takes no writes to the tenant's conflict-free tables: %w", err)
	case errors.Is(err, crr.ErrNoSite):
		return wire.NewError(wire.CodeUnreachable, "this node has no site number for the tenant's conflict-free tables yet: %w", err)
	case errors.Is(err, crrfiles.ErrClosed):
		return errShutDown
	}
	return convert(err, nil)
}

// siteWait bounds how long a write waits until this node has a site number.
const siteWait = 10 * time.Second
