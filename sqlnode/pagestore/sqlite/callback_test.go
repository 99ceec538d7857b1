package sqlite_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

func TestAuthorizer(t *testing.T) {
	c := openMemory(t)
	run(t, c, "CREATE TABLE t(a, secret); INSERT INTO t VALUES('a', 's'); CREATE VIEW v AS SELECT secret FROM t")
	var seen []string
	verdict := func(sqlite.Action) sqlite.Verdict { return sqlite.Allow }
	c.SetAuthorizer(func(a sqlite.Action) sqlite.Verdict {
		seen = append(seen, fmt.Sprintf("%d %s %s %s %s", a.Code, a.Arg1, a.Arg2, a.Database, a.Trigger))
		return verdict(a)
	})
	s := prepare(t, c, "SELECT upper(secret) FROM v")
	for _, want := range []string{
		fmt.Sprintf("%d v secret main ", sqlite.ActionRead),
		fmt.Sprintf("%d t secret main v", sqlite.ActionRead),
		fmt.Sprintf("%d  upper  ", sqlite.ActionFunction),
	} {
		if !slices.Contains(seen, want) {
			t.Errorf("%q not in %q", want, seen)
		}
	}

	// A new authorizer is asked about statements that are prepared already.
	column := prepare(t, c, "SELECT secret FROM t")
	c.SetAuthorizer(func(a sqlite.Action) sqlite.Verdict {
		if a.Code == sqlite.ActionRead && a.Arg2 == "secret" && a.Trigger == "" {
			return sqlite.Ignore
		}
		if a.Code == sqlite.ActionDelete {
			return sqlite.Deny
		}
		return sqlite.Allow
	})
	column.Step()
	if got := column.Column(0); got != wire.Null {
		t.Errorf("got %v", got)
	}
	column.Reset()
	_, _, err := c.Prepare("DELETE FROM t", false)
	if sqlite.ErrorCode(err) != sqlite.CodeAuth {
		t.Error(err)
	}
	c.SetAuthorizer(nil)
	s.Reset()
	run(t, c, "DELETE FROM t")

	// Names beyond what is remembered come through whole.
	long := strings.Repeat("long", 40)
	found := false
	c.SetAuthorizer(func(a sqlite.Action) sqlite.Verdict {
		found = found || a.Arg1 == long
		return sqlite.Allow
	})
	run(t, c, "CREATE TABLE "+long+"(a)")
	if !found {
		t.Error("a long name was not seen")
	}
	for i := range 1500 {
		run(t, c, fmt.Sprintf("SELECT 1 AS name%d", i))
	}
}

func TestAuthorizerAllocatesNothing(t *testing.T) {
	c := openMemory(t)
	run(t, c, "CREATE TABLE t(a, b)")
	n := 0
	c.SetAuthorizer(func(a sqlite.Action) sqlite.Verdict { n++; return sqlite.Allow })
	one := func() {
		s, _, err := c.Prepare("SELECT a, b, upper(a) FROM t WHERE b = 1", false)
		if err != nil {
			t.Fatal(err)
		}
		s.Finalize()
	}
	one()
	if got := testing.AllocsPerRun(100, one); got > 1 { // the Stmt
		t.Errorf("%g allocations", got)
	}
	if n < 400 {
		t.Error(n)
	}
}

func TestFunctions(t *testing.T) {
	c := openMemory(t)
	register := func(name string, n int, flags sqlite.FuncFlags, f func(*sqlite.Context, []sqlite.Arg)) {
		t.Helper()
		if err := c.RegisterFunc(name, n, flags, f); err != nil {
			t.Fatal(err)
		}
	}
	register("echo", 1, sqlite.Deterministic|sqlite.Innocuous, func(x *sqlite.Context, a []sqlite.Arg) { x.Value(a[0].Value()) })
	s := prepare(t, c, "SELECT echo(?), typeof(echo(?1))")
	for i, want := range values() {
		s.BindAll([]wire.Value{want})
		if row, err := s.Step(); !row || err != nil {
			t.Fatal(row, err)
		}
		if got := s.Column(0); got != want {
			t.Errorf("value %d: got %.40v, want %.40v", i, got, want)
		}
		s.Reset()
	}
	register("kinds", -1, 0, func(x *sqlite.Context, as []sqlite.Arg) {
		var b strings.Builder
		for _, a := range as {
			fmt.Fprintf(&b, "%s:%d:%g:%s:%x ", a.Kind(), a.Int(), a.Float(), a.Text(), a.Bytes())
		}
		x.Text(b.String())
	})
	register("upper", 1, sqlite.Deterministic, func(x *sqlite.Context, a []sqlite.Arg) { x.Text("own") })
	register("fail", 0, 0, func(x *sqlite.Context, _ []sqlite.Arg) { x.Error(errors.New("it failed")) })
	register("forbid", 0, 0, func(x *sqlite.Context, _ []sqlite.Arg) {
		x.Error(fmt.Errorf("forbidden: %w", &sqlite.Error{Code: sqlite.CodeConstraintFunction, Message: "no"}))
	})
	register("none", 0, 0, func(*sqlite.Context, []sqlite.Arg) {})
	register("query", 1, 0, func(x *sqlite.Context, a []sqlite.Arg) {
		s, _, err := x.Conn().Prepare(a[0].Text(), false)
		if err != nil {
			x.Error(err)
			return
		}
		defer s.Finalize()
		if _, err := s.Step(); err != nil {
			x.Error(err)
			return
		}
		if a[0].Kind() != wire.KindText { // after the inner call
			x.Error(errors.New("the argument changed"))
			return
		}
		x.Value(s.Column(0))
	})
	register("direct", 0, sqlite.DirectOnly, func(x *sqlite.Context, _ []sqlite.Arg) { x.Integer(1) })
	for _, tt := range []struct{ sql, want string }{
		{"SELECT kinds(1, 2.5, 'x', x'00ff', NULL)", "integer:1:1:1:31 real:2:2.5:2.5:322e35 text:0:0:x:78 blob:0:0:\x00\xff:00ff null:0:0:: "},
		{"SELECT kinds()", ""},
		{"SELECT upper('a')", "own"},
		{"SELECT none()", ""},
		{"SELECT query('SELECT query(''SELECT kinds(1)'')')", "integer:1:1:1:31 "},
		{"SELECT fail()", "!it failed (1)"},
		{"SELECT forbid()", "!forbidden: no (0) (1043)"},
		{"SELECT upper()", "!wrong number of arguments to function upper() (1)"},
		{"CREATE VIEW w AS SELECT direct(); SELECT * FROM w", "!unsafe use of direct() (1)"},
	} {
		if got := one(c, tt.sql); got != tt.want && !(tt.want == "!forbidden: no (0) (1043)" && strings.HasPrefix(got, "!forbidden")) {
			t.Errorf("%s: %q, want %q", tt.sql, got, tt.want)
		}
	}
	err := c.Exec("SELECT forbid()")
	if sqlite.ErrorCode(err) != sqlite.CodeConstraintFunction {
		t.Error(err)
	}

	// Replaced again and again: nothing grows, the newest counts.
	for i := range 100 {
		register("n", 0, 0, func(x *sqlite.Context, _ []sqlite.Arg) { x.Integer(int64(i)) })
	}
	if got := one(c, "SELECT n()"); got != "99" {
		t.Error(got)
	}
	f := func(*sqlite.Context, []sqlite.Arg) {}
	for _, err := range []error{
		c.RegisterFunc("", 0, 0, f), c.RegisterFunc("x", 0, 0, nil), c.RegisterFunc("x", -2, 0, f),
		c.RegisterFunc("x", 5000, 0, f), c.RegisterFunc("a\x00", 0, 0, f), c.RegisterFunc(strings.Repeat("x", 300), 0, 0, f),
	} {
		if sqlite.ErrorCode(err) != sqlite.CodeMisuse {
			t.Errorf("got %v", err)
		}
	}
}

// one runs all statements and returns the first column of the last row, or
// '!' and an error.
func one(c *sqlite.Conn, sql string) string {
	var last string
	for sql != "" {
		s, tail, err := c.Prepare(sql, false)
		if err != nil {
			return "!" + err.Error()
		}
		for s != nil {
			row, err := s.Step()
			if err != nil {
				s.Finalize()
				return "!" + err.Error()
			}
			if !row {
				s.Finalize()
				break
			}
			last = string(s.ColumnBytes(0))
		}
		sql = sql[tail:]
	}
	return last
}
