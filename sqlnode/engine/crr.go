package engine

import (
	"context"
	"errors"
	"fmt"
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
	if m == nil {
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
// this node's file knew. true: the statement may do better now. An error is what is to be answered instead.
func (db *DB) discover(ctx context.Context, err error) (bool, error) {
	m := db.e.cfg.CRR
	if m == nil || !namesUnknown(err) {
		return false, nil
	}
	was := db.crrState()
	f, err := m.Open(ctx, db.t)
	if errors.Is(err, crrfiles.ErrNone) {
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
	for _, p := range []string{"no such table", "no such column", "no such function: crr_stamp", "no such index", "no such view"} {
		if strings.HasPrefix(e.Message, p) {
			return true
		}
	}
	return strings.Contains(e.Message, "has no column named")
}

// attachCRR attaches the tenant's conflict-free tables if it has some and c does not have them yet.
func (c *conn) attachCRR(f *crrfiles.File) error {
	if f == nil || c.attached || f.Failed() != nil {
		return nil
	}
	err := c.internally(func() error { return crrfiles.Attach(c.Conn, f.Path()) })
	if err == nil {
		err = c.registerStamp()
	}
	if err != nil {
		if f.Suspect(err) {
			return nil // main is fine; who names what the file has is told
		}
		return err
	}
	c.attached = true
	return nil
}

// detachCRR takes the conflict-free tables from a connection that has them read-only, for statements that mean all that is attached.
func (c *conn) detachCRR() error {
	if !c.attached {
		return nil
	}
	if err := c.internal("DETACH crr"); err != nil {
		return err
	}
	c.attached = false
	return nil
}

// registerStamp makes crr_stamp known to the connection.
func (c *conn) registerStamp() error {
	own := ownConn{Conn: crrfiles.Adapt(c.Conn.Conn), c: c}
	return own.Register(crr.StampFunc(own))
}

// ownConn is a crr.Conn whose statements run with the engine's own rights, also within a tenant's statement.
type ownConn struct {
	crr.Conn
	c *conn
}

// Exec implements crr.Conn.
func (o ownConn) Exec(sql string) error {
	return o.c.internally(func() error { return o.Conn.Exec(sql) })
}

// Prepare implements crr.Conn.
func (o ownConn) Prepare(sql string) (st crr.Stmt, err error) {
	err = o.c.internally(func() error { st, err = o.Conn.Prepare(sql); return err })
	if err != nil {
		return nil, err
	}
	return ownStmt{st, o.c}, nil
}

// ownStmt is a statement of an ownConn: SQLite may prepare it again in each step.
type ownStmt struct {
	crr.Stmt
	c *conn
}

// Step implements crr.Stmt.
func (s ownStmt) Step() (row bool, err error) {
	err = s.c.internally(func() error { row, err = s.Stmt.Step(); return err })
	return row, err
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
	state := db.crrState()
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

// aim decides which schema a request writes, and refuses one that writes both.
func (db *DB) aim(req *wire.Request, p *plan) *wire.Error {
	state := db.crrState()
	var main, local string
	mainAt := 0
	for i := range req.Statements {
		sql := req.Statements[i].SQL
		k := p.first
		if len(p.kinds) > 0 {
			k = p.kinds[i]
		}
		switch k {
		case classWrite, classAlone:
		case classSession:
			if main == "" {
				main, mainAt = verb(sql)+" …", i+1
			}
			continue
		default:
			continue
		}
		to, name := target(sql, k, state)
		switch to {
		case toDeclare:
			if len(req.Statements) > 1 {
				return wire.NewError(wire.CodeSQLNotAllowed, "a change of the conflict-free schema (%s) is a request of its own, not part of a batch", name).At(i + 1)
			}
			p.to, p.alone = toDeclare, true
		case toCRR:
			p.to = toCRR
			if local == "" {
				local = name
			}
		default:
			if main == "" {
				main, mainAt = name, i+1
			}
		}
	}
	if p.to != toCRR {
		return nil
	}
	if mainAt > 0 {
		if main == "" {
			main = "a strong table"
		}
		return wire.NewError(wire.CodeSQLNotAllowed,
			"a transaction writes strong tables or conflict-free ones, not both: %s is in main, %s in crr; send two requests", main, local).At(mainAt)
	}
	if req.IdempotencyKey != "" {
		return wire.NewError(wire.CodeBadRequest,
			"an Idempotency-Key holds for writes to strong tables only: %s is conflict-free, and a repeat at another node would not know of the first", local)
	}
	return nil
}

// blame finds out whether an error of a reading connection comes from the conflict-free tables, and takes their file out of service if it does.
func (db *DB) blame(c *conn, e *wire.Error) *wire.Error {
	switch e.Code {
	case wire.CodeSQLiteCorrupt, wire.CodeSQLiteNotADB:
	default:
		return nil
	}
	f := db.crr.Load()
	if f == nil {
		return nil
	}
	verdict := ""
	err := c.own("PRAGMA crr.quick_check(1)", func(v []wire.Value) { verdict = v[0].Str() })
	if err == nil && verdict == "ok" {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%w: %s", crr.ErrCorrupt, verdict)
	}
	if !f.Suspect(err) {
		return nil
	}
	db.renew()
	return crrError(f.Failed())
}
