package crrfiles

import (
	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

// conn is a crr.Conn over the engine's binding of SQLite. Whoever sets an authorizer on the
// connection lets pass what is run through it.
type conn struct{ *sqlite.Conn }

// Prepare implements crr.Conn.
func (c conn) Prepare(sql string) (crr.Stmt, error) {
	st, _, err := c.Conn.Prepare(sql, true)
	if err != nil {
		return nil, err
	}
	return st, nil
}

// Register implements crr.Conn.
func (c conn) Register(f crr.Func) error {
	a := &arguments{}
	return c.RegisterFunc(f.Name, f.NArgs, sqlite.Innocuous, func(x *sqlite.Context, args []sqlite.Arg) {
		was := a.args // functions may nest
		a.args = args
		f.Call(x, a)
		a.args = was
	})
}

// arguments are crr.Args.
type arguments struct{ args []sqlite.Arg }

// Len implements crr.Args.
func (a *arguments) Len() int { return len(a.args) }

// Kind implements crr.Args.
func (a *arguments) Kind(i int) wire.Kind { return a.args[i].Kind() }

// Int implements crr.Args.
func (a *arguments) Int(i int) int64 { return a.args[i].Int() }

// Bytes implements crr.Args.
func (a *arguments) Bytes(i int) []byte { return a.args[i].Bytes() }

// Adapt makes c a connection that package crr can work on. Functions registered through it are innocuous.
func Adapt(c *sqlite.Conn) crr.Conn { return conn{c} }

// each runs one statement with arguments, and row for each of its rows.
func each(c *sqlite.Conn, sql string, row func(s *sqlite.Stmt) error, args ...wire.Value) error {
	s, _, err := c.Prepare(sql, false)
	if err != nil {
		return err
	}
	defer s.Finalize()
	if err := s.BindAll(args); err != nil {
		return err
	}
	for {
		more, err := s.Step()
		if err != nil || !more {
			return err
		}
		if row == nil {
			continue
		}
		if err := row(s); err != nil {
			return err
		}
	}
}
