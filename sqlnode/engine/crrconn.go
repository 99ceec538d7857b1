package engine

import (
	"fmt"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/wire"
)

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
