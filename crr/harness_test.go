package crr

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/wire"
)

// tb is what a *testing.T and a *rapid.T have in common.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// tester is a site on a connection of its own, with a reader over the same connection.
type tester struct {
	*Site
	t     tb
	r     *Reader
	close func()
}

// testClock is a wall clock that only the test moves.
type testClock struct{ at time.Time }

func newTestClock() *testClock { return &testClock{time.UnixMilli(1_700_000_000_000)} }

func (c *testClock) add(d time.Duration) { c.at = c.at.Add(d) }

func (c *testClock) off(d time.Duration) func() time.Time {
	return func() time.Time { return c.at.Add(d) }
}

const (
	likes = "CREATE TABLE crr.likes(id TEXT PRIMARY KEY NOT NULL, n COUNTER NOT NULL DEFAULT 0, note TEXT)"
	pair  = "CREATE TABLE crr.pair(id INTEGER PRIMARY KEY, a TEXT, b)"
	kv    = "CREATE TABLE crr.kv(g INT NOT NULL, k TEXT NOT NULL COLLATE binary, v, PRIMARY KEY(g,k)) WITHOUT ROWID"
)

func changes(ddl ...string) (out []schema.Change) {
	for i, sql := range ddl {
		out = append(out, schema.Change{Version: uint64(i + 1), SQL: sql})
	}
	return out
}

// openTester opens a site over c; number 0 leaves it without one.
func openTester(t tb, c Conn, number SiteID, cfg Config, ddl ...string) *tester {
	t.Helper()
	if cfg.Tenant == "" {
		cfg.Tenant = "acme"
	}
	s, err := Open(c, cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	x := &tester{Site: s, t: t, r: s.NewReader(c), close: func() {}}
	for _, c := range changes(ddl...) {
		if err := s.ApplySchema(c); err != nil {
			t.Fatalf("%s: %v", c.SQL, err)
		}
	}
	if number != 0 && s.Identity().Site == 0 {
		if err := s.Adopt(s.Identity().File, number); err != nil {
			t.Fatalf("adopt: %v", err)
		}
	}
	return x
}

// newSite opens a site on an engine connection with a file in memory, or at a path.
func newSite(t *testing.T, number SiteID, cfg Config, path string, ddl ...string) *tester {
	t.Helper()
	s := openTester(t, openEngine(t, path), number, cfg, ddl...)
	t.Cleanup(s.stop)
	return s
}

func (s *tester) stop() { s.r.Close(); s.Close(); s.close() }

// stmt runs one statement in the open transaction.
func (s *tester) stmt(sql string, args ...any) error {
	if err := s.Use(Classify(sql)); err != nil {
		return err
	}
	return query(s.conn, sql, nil, values(args)...)
}

func values(args []any) (out []wire.Value) {
	for _, a := range args {
		switch a := a.(type) {
		case nil:
			out = append(out, wire.Null)
		case int:
			out = append(out, wire.Integer(int64(a)))
		case int64:
			out = append(out, wire.Integer(a))
		case float64:
			out = append(out, wire.Float(a))
		case string:
			out = append(out, wire.Text(a))
		case []byte:
			out = append(out, wire.Blob(a))
		case wire.Value:
			out = append(out, a)
		default:
			panic(fmt.Sprintf("argument of type %T", a))
		}
	}
	return out
}

// tx runs f as one local transaction.
func (s *tester) tx(f func() error) (Committed, error) {
	if err := s.Begin(); err != nil {
		return Committed{}, err
	}
	if err := f(); err != nil {
		if rb := s.Rollback(); rb != nil {
			s.t.Fatalf("rollback: %v", rb)
		}
		return Committed{}, err
	}
	return s.Commit()
}

// try runs one statement as a transaction.
func (s *tester) try(sql string, args ...any) error {
	_, err := s.tx(func() error { return s.stmt(sql, args...) })
	return err
}

func (s *tester) do(sql string, args ...any) {
	s.t.Helper()
	if err := s.try(sql, args...); err != nil {
		s.t.Fatalf("site %d: %s: %v", s.me.Site, sql, err)
	}
}

// one returns the first value of a query; NULL when there is none.
func (s *tester) one(sql string, args ...any) (v wire.Value) {
	s.t.Helper()
	if err := query(s.conn, sql, func(st Stmt) error { v = st.Column(0); return nil }, values(args)...); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// answer returns the frames of what s has and a holder of q's vector lacks.
func (s *tester) answer(q *Request) ([][]byte, error) {
	var out [][]byte
	err := s.r.Answer(q, func(f []byte) error { out = append(out, append([]byte{}, f...)); return nil })
	return out, err
}

// take merges frames.
func (s *tester) take(frames [][]byte) (r Received, err error) {
	for _, f := range frames {
		if r, err = s.Receive(f); err != nil {
			return r, err
		}
	}
	return r, nil
}

// pull brings s up to what from has.
func (s *tester) pull(from *tester) Received {
	s.t.Helper()
	frames, err := from.answer(s.Request(from.me.Site, from.me.File))
	if err != nil {
		s.t.Fatalf("answer of site %d to %d: %v", from.me.Site, s.me.Site, err)
	}
	r, err := s.take(frames)
	if err != nil {
		s.t.Fatalf("merge at site %d of %d: %v", s.me.Site, from.me.Site, err)
	}
	return r
}

func settle(ss ...*tester) {
	for range 2 {
		for _, a := range ss {
			for _, b := range ss {
				if a != b {
					a.pull(b)
				}
			}
		}
	}
}

// dump prints the tenant's tables, and with meta the metadata.
func (s *tester) dump(meta bool) string {
	s.t.Helper()
	var out []string
	for _, def := range s.state.Tables {
		if def.Gone != 0 {
			continue
		}
		tab := newTable(def)
		qs := []string{"SELECT * FROM crr." + schema.Quote(def.Name) + " ORDER BY " + tab.keyNames("%", ",")}
		if meta {
			qs = append(qs, "SELECT k,st FROM crr."+tab.meta()+" ORDER BY k")
		}
		for _, q := range qs {
			st, err := s.conn.Prepare(q)
			if err != nil {
				s.t.Fatalf("%s: %v", q, err)
			}
			n := st.(interface{ ColumnCount() int }).ColumnCount()
			err = run(st, func(st Stmt) error {
				line := def.Name
				for i := range n {
					line += " " + st.Column(i).String()
				}
				out = append(out, line)
				return nil
			})
			st.Finalize()
			if err != nil {
				s.t.Fatalf("%s: %v", q, err)
			}
		}
	}
	return strings.Join(out, "\n")
}

// rowOf returns the state of a row.
func (s *tester) rowOf(table string, key any) Row {
	s.t.Helper()
	t := newTable(s.state.Table(table))
	var r Row
	if err := query(s.conn, "SELECT st FROM crr."+t.meta()+" WHERE k=?", func(st Stmt) error { return r.decode(st.ColumnBytes(0)) }, values([]any{key})...); err != nil {
		s.t.Fatalf("%v", err)
	}
	r.Cells, r.Counters = append([]Cell(nil), r.Cells...), append([]CounterState(nil), r.Counters...)
	return r
}

// sound fails when the file contradicts itself.
func (s *tester) sound() {
	s.t.Helper()
	ts, err := s.r.Check()
	if err != nil {
		s.t.Fatalf("check: %v", err)
	}
	for _, x := range ts {
		if len(x.Faults) > 0 {
			s.t.Fatalf("site %d, table %s: %s", s.me.Site, x.Name, strings.Join(x.Faults, "; "))
		}
	}
}

func same(t tb, what string, ss ...*tester) {
	t.Helper()
	for _, s := range ss[1:] {
		if got, want := s.dump(true), ss[0].dump(true); got != want {
			t.Fatalf("%s: site %d differs from %d\ngot:\n%s\nwant:\n%s", what, s.me.Site, ss[0].me.Site, got, want)
		}
		if !s.vv.Equal(ss[0].vv) {
			t.Fatalf("%s: vectors differ: %s and %s", what, s.vv, ss[0].vv)
		}
	}
}

// membersOf tells all sites of each other.
func membersOf(ss ...*tester) {
	var ms []Member
	for _, s := range ss {
		ms = append(ms, Member{Site: s.me.Site, File: s.me.File, State: Active})
	}
	for _, s := range ss {
		s.SetMembers(ms)
	}
}
