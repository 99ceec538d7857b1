package sqldriver

import (
	"context"
	"database/sql/driver"

	"github.com/nearsql/nearsql/wire"
)

// conn is a connection: a name for the node, and a goroutine for queries from the first of them to Close. Package sql
// uses it for one thing at a time.
type conn struct {
	c       *Connector
	queries chan query // nil before the first
	pieces  chan piece // of the query under way
}

var (
	_ driver.ExecerContext     = (*conn)(nil)
	_ driver.QueryerContext    = (*conn)(nil)
	_ driver.ConnBeginTx       = (*conn)(nil)
	_ driver.Pinger            = (*conn)(nil)
	_ driver.NamedValueChecker = (*conn)(nil)
	_ driver.StmtExecContext   = (*stmt)(nil)
	_ driver.StmtQueryContext  = (*stmt)(nil)
)

// Close implements driver.Conn.
func (c *conn) Close() error {
	if c.queries != nil {
		close(c.queries)
		c.queries = nil
	}
	return nil
}

// ExecContext implements driver.ExecerContext.
func (c *conn) ExecContext(ctx context.Context, sql string, args []driver.NamedValue) (driver.Result, error) {
	st, err := statement(sql, args)
	if err != nil {
		return nil, err
	}
	req, m, s := c.c.request(ctx, []wire.Statement{st})
	req.Stream = true // rows are let go of as they come
	var sum summary
	if err := c.c.execute(ctx, req, m, s, &sum); err != nil {
		return nil, err
	}
	return &sum, nil
}

// summary is the wire.Sink and driver.Result of a statement whose rows nobody wants.
type summary struct{ wire.Summary }

// Begin implements wire.Sink.
func (s *summary) Begin(int, []wire.Column) error { return nil }

// Row implements wire.Sink.
func (s *summary) Row([]wire.Value) error { return nil }

// End implements wire.Sink.
func (s *summary) End(sum wire.Summary) error {
	s.Summary = sum
	return nil
}

// LastInsertId implements driver.Result: 0 where the statement inserted no row that has one.
func (s *summary) LastInsertId() (int64, error) { return s.LastInsertRowID, nil }

// RowsAffected implements driver.Result.
func (s *summary) RowsAffected() (int64, error) { return s.Summary.RowsAffected, nil }

// Ping implements driver.Pinger: the tenant exists, and reads of it are answered.
func (c *conn) Ping(ctx context.Context) error {
	_, err := c.ExecContext(ctx, "select 1", nil)
	return err
}

// errNoTransactions answers BeginTx.
var errNoTransactions = wire.NewError(wire.CodeTransactionControlNotAllowed,
	"there are no interactive transactions: each statement is one, and sqldriver.Batch runs several that happen all or not at all")

// BeginTx implements driver.ConnBeginTx.
func (c *conn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) {
	return nil, errNoTransactions
}

// Begin implements driver.Conn.
func (c *conn) Begin() (driver.Tx, error) { return nil, errNoTransactions }

// PrepareContext implements driver.ConnPrepareContext. The node keeps what it has compiled by the text; nothing is looked at before the statement runs.
func (c *conn) PrepareContext(_ context.Context, sql string) (driver.Stmt, error) {
	return &stmt{c, sql}, nil
}

// Prepare implements driver.Conn.
func (c *conn) Prepare(sql string) (driver.Stmt, error) { return &stmt{c, sql}, nil }

// stmt is a statement by its text.
type stmt struct {
	*conn
	sql string
}

// NumInput implements driver.Stmt: the node knows.
func (s *stmt) NumInput() int { return -1 }

// Exec implements driver.Stmt.
func (s *stmt) Exec(args []driver.Value) (driver.Result, error) {
	return s.ExecContext(context.Background(), positional(args))
}

// Query implements driver.Stmt.
func (s *stmt) Query(args []driver.Value) (driver.Rows, error) {
	return s.QueryContext(context.Background(), positional(args))
}

// ExecContext implements driver.StmtExecContext.
func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.conn.ExecContext(ctx, s.sql, args)
}

// QueryContext implements driver.StmtQueryContext.
func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.conn.QueryContext(ctx, s.sql, args)
}

func positional(args []driver.Value) []driver.NamedValue {
	list := make([]driver.NamedValue, len(args))
	for i, v := range args {
		list[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return list
}
