package catalogue

import (
	"context"

	"github.com/nearsql/nearsql/wire"
)

// DB is the database of the tenant `system`. All arguments are by position.
type DB interface {
	// Exec runs statements as one transaction: all or none. It returns a result
	// for each. An error with the code UNKNOWN_OUTCOME says that it may have been done;
	// any other, that it was not.
	Exec(ctx context.Context, stmts []wire.Statement) ([]wire.Result, error)
	// Query runs one statement that reads, in one snapshot, and calls row for each row; cols is
	// valid until row returns. An error of row ends it and is returned.
	Query(ctx context.Context, sql string, args []wire.Value, row func(cols []wire.Value) error) error
}

func stmt(sql string, args ...wire.Value) wire.Statement { return wire.Statement{SQL: sql, Args: args} }
