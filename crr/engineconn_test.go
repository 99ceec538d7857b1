package crr

import (
	"net/url"
	"testing"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

// engineConn is a Conn over the engine's own binding of SQLite, as a node has it.
type engineConn struct{ *sqlite.Conn }

func (c engineConn) Prepare(sql string) (Stmt, error) {
	st, _, err := c.Conn.Prepare(sql, true)
	if err != nil {
		return nil, err
	}
	return st, nil
}

func (c engineConn) Register(f Func) error {
	a := &engineArgs{}
	return c.RegisterFunc(f.Name, f.NArgs, sqlite.Innocuous, func(x *sqlite.Context, args []sqlite.Arg) {
		was := a.a // functions may nest
		a.a = args
		f.Call(x, a)
		a.a = was
	})
}

type engineArgs struct{ a []sqlite.Arg }

func (a *engineArgs) Len() int             { return len(a.a) }
func (a *engineArgs) Kind(i int) wire.Kind { return a.a[i].Kind() }
func (a *engineArgs) Int(i int) int64      { return a.a[i].Int() }
func (a *engineArgs) Bytes(i int) []byte   { return a.a[i].Bytes() }

// openEngine opens a connection with the file attached, as the engine would.
func openEngine(t testing.TB, path string) engineConn {
	t.Helper()
	c, err := sqlite.Open(":memory:", "", sqlite.ReadWrite|sqlite.Create|sqlite.URI)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	for op, on := range map[sqlite.ConfigOp]bool{sqlite.Defensive: true, sqlite.TrustedSchema: false, sqlite.DQSInDDL: false} {
		if err := c.Config(op, on); err != nil {
			t.Fatal(err)
		}
	}
	uri := (&url.URL{Scheme: "file", Path: path, RawQuery: "vfs=unix"}).String()
	if path == ":memory:" {
		uri = path
	}
	if err := c.Exec("ATTACH '" + uri + "' AS crr"); err != nil {
		t.Fatal(err)
	}
	return engineConn{c}
}
