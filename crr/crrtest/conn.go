package crrtest

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/wire"
	"modernc.org/sqlite"
)

// Conn is a crr.Conn over the driver of modernc.org/sqlite.
type Conn struct {
	c       driver.Conn
	funcs   map[string]crr.Func
	changes int64
	inTx    bool
}

// functions are all that Register takes: the driver wants them before it opens.
var functions = map[string]int32{"crr_local": 0, "crr_lseq": 0, "crr_changed": -1, "crr_floats": -1, "crr_ins": -1, "crr_upd": 3, "crr_del": 2, "crr_key": -1, "uuid7": 0, "crr_stamp": -1}

// Open opens a connection whose main is an empty database in memory and whose schema crr is the file at path.
func Open(path string) (*Conn, error) {
	c := &Conn{funcs: make(map[string]crr.Func)}
	d := &sqlite.Driver{}
	for name, n := range functions {
		err := d.RegisterFunction(name, &sqlite.FunctionImpl{NArgs: n, VolatileArgs: true, Scalar: func(_ *sqlite.FunctionContext, a []driver.Value) (driver.Value, error) {
			f, ok := c.funcs[name]
			if !ok {
				return nil, fmt.Errorf("function %s is not registered on this connection", name)
			}
			var r result
			f.Call(&r, args(a))
			return r.v, r.err
		}})
		if err != nil {
			return nil, err
		}
	}
	var err error
	if c.c, err = d.Open("file::memory:"); err != nil {
		return nil, err
	}
	if h, ok := c.c.(interface{ RegisterRollbackHook(sqlite.RollbackHookFn) }); ok {
		h.RegisterRollbackHook(func() { c.inTx = false })
	}
	uri := (&url.URL{Scheme: "file", Path: path}).String()
	if err := c.Exec("ATTACH '" + uri + "' AS crr"); err != nil {
		return nil, errors.Join(err, c.c.Close())
	}
	return c, nil
}

// Close closes the connection.
func (c *Conn) Close() error { return c.c.Close() }

// Driver returns the driver's connection.
func (c *Conn) Driver() driver.Conn { return c.c }

// Exec runs all statements in sql.
func (c *Conn) Exec(sql string) error {
	st, err := c.c.Prepare(sql)
	if err != nil {
		return err
	}
	defer st.Close()
	//lint:ignore SA1019 the driver's own interface, without a context
	_, err = st.Exec(nil)
	if err == nil {
		c.note(sql)
	}
	return err
}

// note follows BEGIN and COMMIT: the driver doesn't tell whether a transaction is open.
func (c *Conn) note(sql string) {
	switch {
	case len(sql) >= 5 && sql[:5] == "BEGIN":
		c.inTx = true
	case sql == "COMMIT" || sql == "ROLLBACK":
		c.inTx = false
	}
}

// Changes returns the rows changed by the newest statement of Prepare that wrote.
func (c *Conn) Changes() int64 { return c.changes }

// Autocommit says whether no transaction is open.
func (c *Conn) Autocommit() bool { return !c.inTx }

// Register makes f a function of the connection.
func (c *Conn) Register(f crr.Func) error {
	if n, ok := functions[f.Name]; !ok || int(n) != f.NArgs {
		return fmt.Errorf("function %s with %d arguments is not foreseen", f.Name, f.NArgs)
	}
	c.funcs[f.Name] = f
	return nil
}

// Prepare compiles one statement.
func (c *Conn) Prepare(sql string) (crr.Stmt, error) {
	st, err := c.c.Prepare(sql)
	if err != nil {
		return nil, err
	}
	return &stmt{c: c, st: st}, nil
}

type stmt struct {
	c    *Conn
	st   driver.Stmt
	args []driver.Value
	rows driver.Rows
	row  []driver.Value
}

func (s *stmt) BindAll(vs []wire.Value) error {
	s.args = s.args[:0]
	for _, v := range vs {
		switch v.Kind() {
		case wire.KindInteger:
			s.args = append(s.args, v.Int())
		case wire.KindFloat:
			s.args = append(s.args, v.Float64())
		case wire.KindText:
			s.args = append(s.args, v.Str())
		case wire.KindBlob:
			s.args = append(s.args, []byte(v.Str()))
		default:
			s.args = append(s.args, nil)
		}
	}
	return nil
}

func (s *stmt) Step() (bool, error) {
	if s.rows == nil {
		//lint:ignore SA1019 the driver's own interface, without a context
		rows, err := s.st.Query(s.args)
		if err != nil {
			return false, err
		}
		s.rows, s.row = rows, make([]driver.Value, len(rows.Columns()))
	}
	err := s.rows.Next(s.row)
	if err == nil {
		return true, nil
	}
	cerr := s.Reset()
	if err == io.EOF {
		s.c.countChanges()
		return false, cerr
	}
	return false, err
}

// countChanges asks SQLite: rows of a query don't tell.
func (c *Conn) countChanges() {
	st, err := c.c.Prepare("SELECT changes()")
	if err != nil {
		return
	}
	defer st.Close()
	//lint:ignore SA1019 the driver's own interface, without a context
	rows, err := st.Query(nil)
	if err != nil {
		return
	}
	defer rows.Close()
	row := make([]driver.Value, 1)
	if rows.Next(row) == nil {
		c.changes, _ = row[0].(int64)
	}
}

func (s *stmt) Column(i int) wire.Value {
	switch v := s.row[i].(type) {
	case int64:
		return wire.Integer(v)
	case float64:
		return wire.Float(v)
	case string:
		return wire.Text(v)
	case []byte:
		return wire.Blob(v)
	}
	return wire.Null
}

func (s *stmt) ColumnBytes(i int) []byte {
	switch v := s.row[i].(type) {
	case string:
		return []byte(v)
	case []byte:
		return v
	}
	return nil
}

func (s *stmt) Reset() error {
	if s.rows == nil {
		return nil
	}
	rows := s.rows
	s.rows = nil
	return rows.Close()
}

func (s *stmt) Finalize() error { return errors.Join(s.Reset(), s.st.Close()) }

// args are a call's arguments.
type args []driver.Value

func (a args) Len() int { return len(a) }

func (a args) Kind(i int) wire.Kind {
	switch a[i].(type) {
	case int64:
		return wire.KindInteger
	case float64:
		return wire.KindFloat
	case string:
		return wire.KindText
	case []byte:
		return wire.KindBlob
	}
	return wire.KindNull
}

func (a args) Int(i int) int64 { n, _ := a[i].(int64); return n }

func (a args) Bytes(i int) []byte {
	switch v := a[i].(type) {
	case string:
		return []byte(v)
	case []byte:
		return v
	}
	return nil
}

// result is a call's result.
type result struct {
	v   driver.Value
	err error
}

func (r *result) Null()           { r.v = nil }
func (r *result) Integer(i int64) { r.v = i }
func (r *result) Text(s string)   { r.v = s }
func (r *result) Blob(b []byte)   { r.v = append([]byte{}, b...) }
func (r *result) Error(err error) { r.err = err }
