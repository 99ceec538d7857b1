package sqlite_test

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

func TestErrors(t *testing.T) {
	c := open(t)
	run(t, c, "CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE, n NOT NULL DEFAULT 1, c CHECK(c > 0)); INSERT INTO t(id, u) VALUES(1, 'a')")
	for _, tt := range []struct {
		sql     string
		code    int
		offset  int
		message string
	}{
		{"SELEC 1", sqlite.CodeError, 0, `near "SELEC": syntax error`},
		{"SELECT 1; SELECT nope FROM t", sqlite.CodeError, 17, "no such column: nope"},
		{"SELECT * FROM missing", sqlite.CodeError, -1, "no such table: missing"},
		{"SELECT 'é', ¤¤", sqlite.CodeError, -2, ""},
		{"SELECT", sqlite.CodeError, -1, "incomplete input"},
		{"SELECT 1\x00; DROP TABLE t", sqlite.CodeError, 8, "NUL in the text of a statement"},
		{"INSERT INTO t(u) VALUES('a')", sqlite.CodeConstraintUnique, -1, "UNIQUE constraint failed: t.u"},
		{"INSERT INTO t(id) VALUES(1)", sqlite.CodeConstraintPrimaryKey, -1, "UNIQUE constraint failed: t.id"},
		{"INSERT INTO t(n) VALUES(NULL)", sqlite.CodeConstraintNotNull, -1, "NOT NULL constraint failed: t.n"},
		{"INSERT INTO t(c) VALUES(0)", sqlite.CodeConstraintCheck, -1, "CHECK constraint failed: c > 0"},
		{"SELECT abs(-9223372036854775808)", sqlite.CodeError, -1, "integer overflow"},
		{"COMMIT", sqlite.CodeError, -1, "cannot commit - no transaction is active"},
	} {
		err := c.Exec(tt.sql)
		e, ok := errors.AsType[*sqlite.Error](err)
		if !ok {
			t.Errorf("%q: %v", tt.sql, err)
			continue
		}
		if e.Code != tt.code || tt.offset != -2 && e.Offset != tt.offset || tt.message != "" && e.Message != tt.message {
			t.Errorf("%q: code %d at %d: %s; want %d at %d: %s", tt.sql, e.Code, e.Offset, e.Message, tt.code, tt.offset, tt.message)
		}
	}
	if err := c.Exec("INSERT INTO t(u) VALUES('a')"); err.Error() != "UNIQUE constraint failed: t.u (2067)" {
		t.Error(err)
	}
	c.Exec("SELECT nope")
	if got := c.ErrorOffset(); got != 7 {
		t.Error(got)
	}
	if got := sqlite.CodeName(2067); got != "SQLITE_CONSTRAINT_UNIQUE" {
		t.Error(got)
	}
	if got := sqlite.CodeName(19 | 99<<8); got != "SQLITE_CONSTRAINT" {
		t.Error(got)
	}
	if got := sqlite.CodeName(77); got != "SQLITE_77" {
		t.Error(got)
	}
}

func TestStepAfterAnErrorStartsAgain(t *testing.T) {
	c := openMemory(t)
	run(t, c, "CREATE TABLE t(a UNIQUE)")
	s := prepare(t, c, "INSERT INTO t VALUES(?)")
	for i := range 3 {
		s.BindAll([]wire.Value{wire.Integer(1)})
		_, err := s.Step()
		if (err != nil) != (i > 0) {
			t.Errorf("run %d: %v", i, err)
		}
		if err := s.Reset(); err != nil {
			t.Errorf("reset after run %d: %v", i, err) // Step told it
		}
	}
	if err := s.Finalize(); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := s.Finalize(); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Step(); sqlite.ErrorCode(err) != sqlite.CodeMisuse {
		t.Error(err)
	}
	if err := s.Bind(1, wire.Null); sqlite.ErrorCode(err) != sqlite.CodeMisuse {
		t.Error(err)
	}
}

func TestOpenFails(t *testing.T) {
	for _, tt := range []struct {
		name, vfs string
		flags     sqlite.OpenFlags
		code      int
	}{
		{t.TempDir() + "/none/x.db", "", sqlite.ReadWrite | sqlite.Create, sqlite.CodeCantOpen},
		{t.TempDir() + "/x.db", "", sqlite.ReadWrite, sqlite.CodeCantOpen},
		{t.TempDir() + "/x.db", "no-such-vfs", sqlite.ReadWrite | sqlite.Create, sqlite.CodeError},
		{"a\x00b", "", sqlite.ReadWrite, sqlite.CodeMisuse},
		{"x", "", sqlite.Create, sqlite.CodeMisuse},
	} {
		c, err := sqlite.Open(tt.name, tt.vfs, tt.flags)
		if c != nil || sqlite.ErrorCode(err)&0xff != tt.code {
			t.Errorf("open %q: %v, want code %d", tt.name, err, tt.code)
		}
	}
	name := t.TempDir() + "/ro.db"
	run(t, openAt(t, name), "CREATE TABLE t(a)")
	c, err := sqlite.Open("file:"+name+"?mode=ro", "unix", sqlite.ReadWrite|sqlite.URI)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Exec("INSERT INTO t VALUES(1)"); sqlite.ErrorCode(err) != sqlite.CodeReadOnly {
		t.Error(err)
	}
	m, err := sqlite.Open("any name", "", sqlite.ReadWrite|sqlite.Memory)
	if err != nil {
		t.Fatal(err)
	}
	run(t, m, "CREATE TABLE t(a)")
	m.Close()
	if _, err := os.Stat("any name"); err == nil {
		t.Error("a database in memory made a file")
	}
}

func TestPrepareTail(t *testing.T) {
	c := openMemory(t)
	text := "SELECT 1 ; -- two\n SELECT 2;  /* three */ "
	var got []string
	for rest := text; ; {
		s, tail, err := c.Prepare(rest, false)
		if err != nil {
			t.Fatal(err)
		}
		if s == nil {
			if tail != len(rest) {
				t.Errorf("%d bytes left of %q", len(rest)-tail, rest)
			}
			break
		}
		got = append(got, s.SQL())
		s.Finalize()
		rest = rest[tail:]
	}
	if !slices.Equal(got, []string{"SELECT 1 ;", " -- two\n SELECT 2;"}) {
		t.Errorf("%q", got)
	}
	for _, empty := range []string{"", " ", "-- x", "/* x", ";", " ; "} {
		if s, _, err := c.Prepare(empty, false); s != nil || err != nil {
			t.Errorf("%q: %v %v", empty, s, err)
		}
		if err := c.Exec(empty); err != nil {
			t.Errorf("%q: %v", empty, err)
		}
	}
	c.Limit(sqlite.LimitSQLLength, 50)
	if _, _, err := c.Prepare("SELECT "+strings.Repeat(" ", 60)+"1", false); sqlite.ErrorCode(err) != sqlite.CodeTooBig {
		t.Error(err)
	}
}

func TestConnState(t *testing.T) {
	c := open(t)
	run(t, c, "PRAGMA foreign_keys=ON; CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE k(p REFERENCES p DEFERRABLE INITIALLY DEFERRED)")
	run(t, c, "INSERT INTO p VALUES(41),(42)")
	if c.Changes() != 2 || c.TotalChanges() != 2 || c.LastInsertRowID() != 42 || !c.Autocommit() {
		t.Error(c.Changes(), c.TotalChanges(), c.LastInsertRowID(), c.Autocommit())
	}
	c.SetLastInsertRowID(7)
	if c.LastInsertRowID() != 7 {
		t.Error("the rowid was not set")
	}
	if c.TxnState("main") != sqlite.TxnNone || c.TxnState("nope") != sqlite.TxnNone {
		t.Error("in a transaction")
	}
	run(t, c, "BEGIN; SELECT * FROM p")
	if c.Autocommit() || c.TxnState("main") != sqlite.TxnRead || c.TxnState("") != sqlite.TxnRead {
		t.Error("not in a read transaction")
	}
	if c.DeferredForeignKeys() {
		t.Error("deferred foreign keys")
	}
	run(t, c, "INSERT INTO k VALUES(9)")
	if c.TxnState("main") != sqlite.TxnWrite || !c.DeferredForeignKeys() {
		t.Error("no write transaction, or no deferred foreign keys")
	}
	if err := c.CacheFlush(); err != nil {
		t.Error(err)
	}
	if err := c.Exec("COMMIT"); sqlite.ErrorCode(err) != sqlite.CodeConstraintForeignKey {
		t.Error(err)
	}
	run(t, c, "DELETE FROM k; COMMIT")

	if got := c.Limit(sqlite.LimitVariableNumber, 10); got < 999 {
		t.Error(got)
	}
	if got := c.Limit(sqlite.LimitVariableNumber, -1); got != 10 {
		t.Error(got)
	}
	if _, _, err := c.Prepare("SELECT ?11", false); err == nil {
		t.Error("a parameter beyond the limit")
	}

	if n, _, err := c.Status(sqlite.StatusCacheUsed, false); err != nil || n <= 0 {
		t.Error(n, err)
	}
	c.ReleaseMemory()
	if _, _, err := c.Status(sqlite.ConnStatus(99), false); err == nil {
		t.Error("no error")
	}

	// The version changes when another connection commits.
	v, err := c.DataVersion("main")
	if err != nil {
		t.Fatal(err)
	}
	s := prepare(t, c, "PRAGMA database_list")
	s.Step()
	other := openAt(t, s.Column(2).Str())
	s.Reset()
	run(t, other, "INSERT INTO p VALUES(1)")
	run(t, c, "SELECT count(*) FROM p")
	if w, err := c.DataVersion("main"); err != nil || v == w {
		t.Error(v, w, err)
	}
	if _, err := c.DataVersion("nope"); err == nil {
		t.Error("the version of no schema")
	}
}

func TestConfig(t *testing.T) {
	c := open(t)
	for _, op := range []sqlite.ConfigOp{
		sqlite.Defensive, sqlite.TrustedSchema, sqlite.DQSInDML, sqlite.DQSInDDL, sqlite.EnableForeignKeys,
		sqlite.EnableTriggers, sqlite.EnableViews, sqlite.NoCheckpointOnClose, sqlite.EnableAttachWrite,
		sqlite.EnableAttachCreate, sqlite.StablePlans, sqlite.EnableLoadExtension,
	} {
		for _, on := range []bool{true, false} {
			if err := c.Config(op, on); err != nil {
				t.Errorf("option %d to %t: %v", op, on, err)
			}
		}
	}
	if err := c.Exec(`SELECT "no such name"`); err == nil {
		t.Error("a string in double quotes")
	}
	run(t, c, "CREATE TABLE t(a)")
	c.Config(sqlite.Defensive, true)
	run(t, c, "PRAGMA writable_schema=ON")
	if err := c.Exec("DELETE FROM sqlite_schema"); err == nil {
		t.Error("defensive mode let the schema be written")
	}
	if err := c.Config(sqlite.ConfigOp(4711), true); err == nil {
		t.Error("no error")
	}
}

func TestInterrupt(t *testing.T) {
	c := openMemory(t)
	c.Interrupt() // while nothing runs: no effect
	s := prepare(t, c, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT count(*) FROM n")
	started := make(chan struct{})
	c.SetProgress(1000, sync.OnceValue(func() bool { close(started); return false }))
	var wg sync.WaitGroup
	wg.Go(func() { <-started; c.Interrupt() })
	if _, err := s.Step(); sqlite.ErrorCode(err) != sqlite.CodeInterrupt {
		t.Error(err)
	}
	wg.Wait()
	run(t, c, "SELECT 1")

	n := 0
	c.SetProgress(100, func() bool { n++; return n == 50 })
	if _, err := s.Step(); sqlite.ErrorCode(err) != sqlite.CodeInterrupt || n != 50 {
		t.Error(n, err)
	}
	c.SetProgress(0, nil)
	run(t, c, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT 100000) SELECT count(*) FROM n")
	if n != 50 {
		t.Error("progress is still called")
	}
}

func TestInterruptRacesClose(t *testing.T) {
	for range 50 {
		c, err := sqlite.Open(":memory:", "", sqlite.ReadWrite)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for range 100 {
					c.Interrupt()
				}
			})
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		c.Interrupt()
	}
}

func TestCloseEndsStatements(t *testing.T) {
	c, err := sqlite.Open(":memory:", "", sqlite.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	a, _, _ := c.Prepare("SELECT 'a', ?", true)
	b, _, _ := c.Prepare("SELECT 'b' UNION SELECT 'c'", true)
	a.Bind(1, wire.Text("text"))
	b.Step()
	err = c.Close()
	leak, ok := errors.AsType[*sqlite.LeakError](err)
	if !ok || leak.Statements != 2 || leak.SQL != b.SQL() {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	for _, s := range []*sqlite.Stmt{a, b} {
		if _, err := s.Step(); sqlite.ErrorCode(err) != sqlite.CodeMisuse {
			t.Error(err)
		}
		if s.Column(0) != wire.Null || s.ColumnCount() != 0 || s.ColumnName(0) != "" || s.Status(sqlite.StatusRuns, true) != 0 || !s.ReadOnly() || s.Explain() != 0 {
			t.Error("a statement that is gone has properties")
		}
		if err := s.Finalize(); err != nil {
			t.Error(err)
		}
		if err := s.Reset(); sqlite.ErrorCode(err) != sqlite.CodeMisuse {
			t.Error(err)
		}
	}
	// A closed connection answers, too.
	c.Interrupt()
	c.ReleaseMemory()
	c.SetProgress(1, func() bool { return true })
	c.SetAuthorizer(func(sqlite.Action) sqlite.Verdict { return sqlite.Deny })
	c.SetLastInsertRowID(1)
	if _, _, err := c.Prepare("SELECT 1", false); sqlite.ErrorCode(err) != sqlite.CodeMisuse {
		t.Error(err)
	}
	for _, err := range []error{c.Exec("SELECT 1"), c.CacheFlush(), c.Config(sqlite.Defensive, true), c.RegisterFunc("f", 0, 0, func(*sqlite.Context, []sqlite.Arg) {}), c.FileControl("main", 1, 0)} {
		if sqlite.ErrorCode(err) != sqlite.CodeMisuse {
			t.Error(err)
		}
	}
	if !c.Autocommit() || c.Changes()+c.TotalChanges()+c.LastInsertRowID() != 0 || c.TxnState("main") != sqlite.TxnNone || c.ErrorOffset() != -1 || c.Limit(sqlite.LimitLength, -1) != 0 {
		t.Error("a connection that is gone has state")
	}
}

func TestStmtProperties(t *testing.T) {
	c := open(t)
	run(t, c, "CREATE TABLE t(a VARCHAR(10), b INT, c); INSERT INTO t VALUES('x', 3, 1), ('y', 2, 1), ('z', 1, 1)")
	s := prepare(t, c, "SELECT *, a||b AS ab FROM t ORDER BY b")
	for i, want := range [][2]string{{"a", "VARCHAR(10)"}, {"b", "INT"}, {"c", ""}, {"ab", ""}} {
		if s.ColumnName(i) != want[0] || s.ColumnDeclType(i) != want[1] {
			t.Errorf("column %d: %s %s", i, s.ColumnName(i), s.ColumnDeclType(i))
		}
	}
	for n := 0; ; n++ {
		row, err := s.Step()
		if err != nil {
			t.Fatal(err)
		}
		if s.Running() != row {
			t.Error("Running is wrong")
		}
		if !row {
			if n != 3 {
				t.Error(n)
			}
			break
		}
	}
	if s.Status(sqlite.StatusFullScanSteps, false) != 2 || s.Status(sqlite.StatusSorts, false) != 1 || s.Status(sqlite.StatusVMSteps, true) < 10 || s.Status(sqlite.StatusRuns, false) != 1 {
		t.Error("counters", s.Status(sqlite.StatusFullScanSteps, false), s.Status(sqlite.StatusSorts, false), s.Status(sqlite.StatusRuns, false))
	}
	if s.Status(sqlite.StatusVMSteps, false) != 0 || s.Status(sqlite.StatusMemUsed, false) <= 0 || s.Status(sqlite.StmtStatus(50), false) != 0 {
		t.Error("counters")
	}
	for _, tt := range []struct {
		sql      string
		readOnly bool
		explain  int
		columns  int
	}{
		{"SELECT 1", true, 0, 1},
		{"INSERT INTO t VALUES(1,2,3)", false, 0, 0},
		{"DELETE FROM t RETURNING a, b", false, 0, 2},
		{"EXPLAIN DELETE FROM t", false, 1, 8},
		{"EXPLAIN QUERY PLAN SELECT 1", true, 2, 4},
		{"BEGIN", true, 0, 0},
		{"PRAGMA user_version=1", false, 0, 0},
	} {
		s := prepare(t, c, tt.sql)
		if s.ReadOnly() != tt.readOnly || s.Explain() != tt.explain || s.ColumnCount() != tt.columns {
			t.Errorf("%s: read-only %t, explain %d, %d columns", tt.sql, s.ReadOnly(), s.Explain(), s.ColumnCount())
		}
	}
}

func TestColumnsFollowTheSchema(t *testing.T) {
	name := t.TempDir() + "/test.db"
	c, other := openAt(t, name), openAt(t, name)
	run(t, c, "CREATE TABLE t(a INT); INSERT INTO t VALUES(1)")
	s := prepare(t, c, "SELECT * FROM t WHERE a = ?1")
	s.BindAll([]wire.Value{wire.Integer(1)})
	if s.ColumnCount() != 1 || s.ColumnName(0) != "a" {
		t.Fatal(s.ColumnCount(), s.ColumnName(0))
	}
	for i, change := range []struct {
		c    *sqlite.Conn
		sql  string
		want []string
	}{
		{c, "ALTER TABLE t ADD COLUMN b TEXT", []string{"a INT", "b TEXT"}},
		{other, "ALTER TABLE t ADD COLUMN c BLOB", []string{"a INT", "b TEXT", "c BLOB"}},
		{other, "ALTER TABLE t RENAME COLUMN b TO d", []string{"a INT", "d TEXT", "c BLOB"}},
		{other, "ALTER TABLE t DROP COLUMN d", []string{"a INT", "c BLOB"}},
	} {
		run(t, change.c, change.sql)
		if row, err := s.Step(); !row || err != nil {
			t.Fatal(row, err)
		}
		var got []string
		for i := range s.ColumnCount() {
			got = append(got, s.ColumnName(i)+" "+s.ColumnDeclType(i))
		}
		if !slices.Equal(got, change.want) {
			t.Errorf("after %s: %q, want %q", change.sql, got, change.want)
		}
		if got := s.Status(sqlite.StatusReprepares, i == 1); got == 0 {
			t.Error("not prepared again")
		}
		s.Reset()
	}
	run(t, other, "DROP TABLE t")
	if _, err := s.Step(); err == nil || !strings.Contains(err.Error(), "no such table") {
		t.Error(err)
	}
}

// A statement that writes and returns rows commits when it is reset.
func TestResetCommits(t *testing.T) {
	c := open(t)
	run(t, c, "PRAGMA foreign_keys=ON; CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE k(p REFERENCES p DEFERRABLE INITIALLY DEFERRED)")
	s := prepare(t, c, "INSERT INTO k VALUES(?),(NULL) RETURNING p")
	s.BindAll(nil)
	s.Step()
	if err := s.Reset(); err != nil {
		t.Error(err)
	}
	s.BindAll([]wire.Value{wire.Integer(5)})
	s.Step()
	if err := s.Reset(); sqlite.ErrorCode(err) != sqlite.CodeConstraintForeignKey {
		t.Error(err)
	}
	q := prepare(t, c, "SELECT count(*) FROM k")
	q.Step()
	if got := q.ColumnInt64(0); got != 2 {
		t.Error(got)
	}
}

func TestVersion(t *testing.T) {
	c := openMemory(t)
	s := prepare(t, c, "SELECT sqlite_version()")
	s.Step()
	if got := s.Column(0).Str(); got != sqlite.Version() {
		t.Errorf("%q, want %q", got, sqlite.Version())
	}
	if !slices.ContainsFunc(sqlite.CompileOptions(), func(o string) bool { return strings.HasPrefix(o, "THREADSAFE=1") }) {
		t.Errorf("%q", sqlite.CompileOptions())
	}
}

// Connections work at once, each on its goroutine.
func TestParallel(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 4 {
		c := open(t)
		wg.Go(func() {
			run(t, c, "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)")
			s, _, err := c.Prepare("INSERT INTO t(v) VALUES(?)", true)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Finalize()
			run(t, c, "BEGIN")
			for range 500 {
				s.BindAll([]wire.Value{wire.Text(strings.Repeat("v", 100*(i+1)))})
				if _, err := s.Step(); err != nil {
					t.Error(err)
				}
			}
			run(t, c, "COMMIT")
		})
	}
	wg.Wait()
}

// rerun runs tests of this program again with SQLite's own page cache.
func rerun(t *testing.T, pattern string, env ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run="+pattern, "-test.v")
	cmd.Env = append(os.Environ(), append(env, builtinCache+"=1")...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}
