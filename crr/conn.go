package crr

import "github.com/nearsql/nearsql/wire"

// Conn is one SQLite connection that has the file of conflict-free tables attached as
// schema crr. It is used by one goroutine at a time.
//
// What this package runs on it is trusted: an authorizer has to let it pass, and
// limits of requests (statement time, length of values, PRAGMA query_only) must not end it.
type Conn interface {
	// Exec runs all statements in sql.
	Exec(sql string) error
	// Prepare compiles one statement, to be kept.
	Prepare(sql string) (Stmt, error)
	// Changes returns the rows changed by the newest INSERT, UPDATE or DELETE, without those of triggers.
	Changes() int64
	// Autocommit says whether the connection is outside of a transaction.
	Autocommit() bool
	// Register makes f an SQL function of the connection: never taken for deterministic, and usable in triggers
	// (innocuous, where trusted_schema is off).
	Register(f Func) error
}

// Stmt is a prepared statement. BindAll, Step and Finalize are as in sqlite3: Step says whether
// there is a row, and a statement that returned its last one can be bound and stepped anew.
type Stmt interface {
	BindAll(args []wire.Value) error
	Step() (row bool, err error)
	// Column returns a copy of a column of the row.
	Column(i int) wire.Value
	// ColumnBytes returns a column's text or blob, good until the next call of Step or Reset.
	ColumnBytes(i int) []byte
	Reset() error
	Finalize() error
}

// Func is an SQL function.
type Func struct {
	Name  string
	NArgs int // -1: any number
	Call  func(r Result, args Args)
}

// Args are the arguments of one call, good until it returns.
type Args interface {
	Len() int
	Kind(i int) wire.Kind
	Int(i int) int64
	// Bytes returns a text's or blob's bytes, which are SQLite's: not to be written or kept.
	Bytes(i int) []byte
}

// Result takes the result of one call.
type Result interface {
	Null()
	Integer(int64)
	Text(string)
	Blob([]byte) // copies
	Error(error)
}

// value returns a copy of an argument that may be a key.
func value(a Args, i int) wire.Value {
	switch a.Kind(i) {
	case wire.KindInteger:
		return wire.Integer(a.Int(i))
	case wire.KindText:
		return wire.Text(string(a.Bytes(i)))
	case wire.KindBlob:
		return wire.Blob(a.Bytes(i))
	}
	return wire.Null
}

// query runs one statement once and calls row, which may be nil, for each of its rows.
func query(c Conn, sql string, row func(s Stmt) error, args ...wire.Value) error {
	s, err := c.Prepare(sql)
	if err != nil {
		return err
	}
	defer s.Finalize()
	return run(s, row, args...)
}

// run runs a prepared statement and leaves it reset.
func run(s Stmt, row func(s Stmt) error, args ...wire.Value) error {
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
			s.Reset()
			return err
		}
	}
}
