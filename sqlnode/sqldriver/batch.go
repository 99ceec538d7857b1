package sqldriver

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/nearsql/nearsql/wire"
)

// Statement is one of a batch: SQL and its arguments, as for sql.DB.ExecContext.
type Statement struct {
	SQL  string
	Args []any
}

// Batch runs statements that happen all or not at all, and that see one state: a transaction, in one request. It gives the
// results of all of them; wire.Error.Statement says which one failed. An answer is held in memory, within the tenant's limits.
func Batch(ctx context.Context, db *sql.DB, statements ...Statement) ([]wire.Result, error) {
	one, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer one.Close()
	var results []wire.Result
	err = one.Raw(func(raw any) error {
		c, ok := raw.(*conn)
		if !ok {
			return fmt.Errorf("nearsql: a batch on a connection of another driver, %T", raw)
		}
		var err error
		results, err = c.batch(ctx, statements)
		return err
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

func (c *conn) batch(ctx context.Context, statements []Statement) ([]wire.Result, error) {
	list := make([]wire.Statement, len(statements))
	for i, st := range statements {
		args := make([]driver.NamedValue, len(st.Args))
		for j, a := range st.Args {
			args[j] = driver.NamedValue{Ordinal: j + 1, Value: a}
			if n, ok := a.(sql.NamedArg); ok {
				args[j].Name, args[j].Value = n.Name, n.Value
			}
			if err := c.CheckNamedValue(&args[j]); err != nil {
				return nil, at(err, i+1)
			}
		}
		var err error
		if list[i], err = statement(st.SQL, args); err != nil {
			return nil, at(err, i+1)
		}
	}
	req, m, s := c.c.request(ctx, list)
	req.Batch = true
	all := &collector{}
	if err := c.c.execute(ctx, req, m, s, all); err != nil {
		return nil, err
	}
	return all.results, nil
}

// at is err about a statement.
func at(err error, number int) error {
	var e *wire.Error
	if errors.As(err, &e) {
		return e.At(number)
	}
	return err
}

// collector is the wire.Sink that keeps an answer.
type collector struct{ results []wire.Result }

// Begin implements wire.Sink.
func (c *collector) Begin(_ int, columns []wire.Column) error {
	c.results = append(c.results, wire.Result{Columns: columns})
	return nil
}

// Row implements wire.Sink.
func (c *collector) Row(row []wire.Value) error {
	r := &c.results[len(c.results)-1]
	r.Rows = append(r.Rows, append([]wire.Value(nil), row...))
	return nil
}

// End implements wire.Sink.
func (c *collector) End(s wire.Summary) error {
	c.results[len(c.results)-1].Summary = s
	return nil
}
