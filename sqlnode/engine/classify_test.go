package engine

import (
	"strings"
	"testing"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

var classCorpus = []struct {
	sql  string
	want class
}{
	{"", classEmpty}, {" \t\r\n\f", classEmpty}, {";;", classEmpty}, {"-- x", classEmpty}, {"/* x */ -- y\n;", classEmpty}, {"/* open", classEmpty}, {"\uFEFF", classEmpty},
	{"SELECT 1", classRead}, {"select 1", classRead}, {"sElEcT 1", classRead}, {"VALUES(1)", classRead}, {"/**/SELECT 1", classRead}, {"\uFEFFSELECT 1", classRead},
	{"--x\nSELECT 1", classRead}, {";SELECT 1", classRead}, {"(SELECT 1)", classRead}, {"EXPLAIN INSERT INTO t VALUES(1)", classRead}, {"EXPLAIN QUERY PLAN DELETE FROM t", classRead},
	{"nonsense", classRead}, {"SELECTED", classRead}, {"a_very_long_word_that_is_none", classRead}, {"'SELECT'", classRead}, {"[INSERT]", classRead}, {"\x00", classRead},
	{"INSERT INTO t VALUES(1)", classWrite}, {"insert into t values(1)", classWrite}, {"REPLACE INTO t VALUES(1)", classWrite}, {"UPDATE t SET a=1", classWrite}, {"DELETE FROM t", classWrite},
	{"/* SELECT */ DELETE FROM t", classWrite}, {"\uFEFFDELETE FROM t", classWrite}, {"; ; DELETE FROM t", classWrite},
	{"WITH x AS (SELECT 1) SELECT * FROM x", classRead}, {"WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", classWrite}, {"WITH x(a) AS (VALUES(1)) UPDATE t SET a=(SELECT a FROM x)", classWrite},
	{"WITH x AS (SELECT ')'), y AS MATERIALIZED (SELECT 1) DELETE FROM t", classWrite}, {"WITH RECURSIVE c(i) AS (SELECT 1 UNION SELECT i FROM c) VALUES(1)", classRead},
	{"WITH replace AS (SELECT 1) SELECT * FROM replace", classRead}, {"WITH x AS (SELECT 1) REPLACE INTO t SELECT * FROM x", classWrite}, {"WITH [delete] AS (SELECT 1) SELECT * FROM [delete]", classRead},
	{"WITH x AS (SELECT '' -- )\n) SELECT 1", classRead}, {"WITH x AS (SELECT 1)", classRead}, {"WITH", classRead}, {"WITH \"a\"\"(\" AS (SELECT 1) DELETE FROM t", classWrite},
	{"CREATE TABLE x(a)", classAlone}, {"DROP TABLE x", classAlone}, {"ALTER TABLE t ADD COLUMN b", classAlone}, {"REINDEX", classAlone}, {"ANALYZE", classAlone},
	{"VACUUM", classVacuum}, {"VACUUM main", classVacuum}, {"VACUUM INTO 'x'", classRefused}, {"VACUUM main INTO 'x'", classRefused}, {"ATTACH 'x' AS y", classRefused}, {"DETACH y", classRefused},
	{"BEGIN", classControl}, {"COMMIT", classControl}, {"END", classControl}, {"ROLLBACK", classControl}, {"SAVEPOINT x", classControl}, {"RELEASE x", classControl}, {"\uFEFFROLLBACK TO x", classControl},
	{"PRAGMA", classRead}, {"PRAGMA main.", classRead}, {"PRAGMA table_info(t)", classRead}, {"PRAGMA table_info='t'", classRead}, {"PRAGMA integrity_check(5)", classCheck}, {"PRAGMA main.Quick_Check", classCheck}, {"PRAGMA foreign_keys", classRead},
	{"PRAGMA foreign_keys=off", classSession}, {"PRAGMA main.foreign_keys(0)", classSession}, {"PRAGMA \"foreign_keys\" = off", classSession}, {"pragma Case_Sensitive_Like = 1", classSession},
	{"PRAGMA user_version", classRead}, {"PRAGMA user_version=5", classAlone}, {"PRAGMA main . user_version ( 5 )", classAlone}, {"PRAGMA incremental_vacuum", classAlone}, {"PRAGMA optimize", classAlone}, {"PRAGMA nothing=1", classRead},
}

func TestClassify(t *testing.T) {
	for _, c := range classCorpus {
		if got := classify(c.sql); got != c.want {
			t.Errorf("%q: got %d, want %d", c.sql, got, c.want)
		}
	}
}

// TestClassifyAllocatesNothing: every request comes by.
func TestClassifyAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { classify("select a, b from t where id=?") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestRenames(t *testing.T) {
	for sql, want := range map[string]bool{
		"ALTER TABLE t RENAME TO _nearsql_x": true, "alter table t rename to '__crr_''x'": true, "EXPLAIN QUERY PLAN ALTER TABLE t RENAME TO _nearsql_x": true,
		"ALTER TABLE t RENAME a TO _nearsql_x": true, // not even a column
		"ALTER TABLE t RENAME TO x":            false, "ALTER TABLE t ADD COLUMN x DEFAULT '_nearsql_'": false, "SELECT 1 AS [TO], _nearsql_x": false, "ALTER TABLE t RENAME TO": false, "": false,
	} {
		if _, got := renamesToInternal(sql); got != want {
			t.Errorf("%q: got %t", sql, got)
		}
	}
}

// classOracle says what SQLite makes of sql: whether it prepares, and whether that only reads.
func classOracle(c *sqlite.Conn, sql string) (prepared, readOnly bool) {
	s, _, err := c.Prepare(sql, false)
	if err != nil || s == nil {
		return false, false
	}
	defer s.Finalize()
	return true, s.ReadOnly()
}

func FuzzClassify(f *testing.F) {
	for _, c := range classCorpus {
		f.Add(c.sql)
	}
	for _, tmpl := range plainTemplates {
		f.Add(strings.NewReplacer("%d", "1", "%s", "a").Replace(tmpl))
	}
	c, err := sqlite.Open(":memory:", "", sqlite.ReadWrite|sqlite.Create)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { c.Close() })
	for _, sql := range plainSchema {
		if err := c.Exec(sql); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, sql string) {
		end := 0
		for tok, ok := next(sql, 0); ok; tok, ok = next(sql, tok.end) {
			if tok.start < end || tok.end <= tok.start || tok.end > len(sql) || sql[tok.start:tok.end] != tok.text {
				t.Fatalf("token %q from %d to %d behind %d", tok.text, tok.start, tok.end, end)
			}
			end = tok.end
			_ = unquote(tok.text) // must not panic
		}
		_ = verb(sql)
		_, _ = renamesToInternal(sql)
		k := classify(sql)
		prepared, readOnly := classOracle(c, sql)
		if !prepared {
			return
		}
		t1, _ := first(sql)
		switch {
		case k == classEmpty || blank(sql):
			t.Errorf("%q is no statement here; SQLite prepares it", sql)
		case k == classRead && !readOnly && !t1.is("EXPLAIN") && !t1.is("PRAGMA"):
			// A PRAGMA that is not on the list is refused by the authorizer, wherever it runs.
			t.Errorf("%q is a read here; to SQLite it writes", sql)
		case (k == classWrite || k == classAlone) && readOnly && !t1.is("PRAGMA"):
			// Harmless; but it would not be served by a replica.
			t.Logf("%q writes here; to SQLite it reads", sql)
		}
	})
}
