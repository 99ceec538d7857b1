package engine

import (
	"strings"
	"testing"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

func TestPolicy(t *testing.T) {
	r := newRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	for _, sql := range []string{
		"CREATE TABLE t(a PRIMARY KEY, b)",
		"CREATE TABLE log(x)",
		"CREATE VIEW v AS SELECT * FROM _nearsql_outcome",
		"CREATE TRIGGER steal AFTER UPDATE ON t BEGIN INSERT INTO log SELECT outcome FROM _nearsql_outcome; END",
		"CREATE VIRTUAL TABLE ft USING fts5(x)",
		"CREATE VIRTUAL TABLE rt USING rtree(id, a, b)",
		"CREATE VIRTUAL TABLE ext USING fts5(outcome, content='_nearsql_outcome', content_rowid='at')",
		"INSERT INTO ft VALUES('some words')",
	} {
		r.exec(tn, sql)
	}
	key := one("INSERT INTO t VALUES(1, 2)")
	key.IdempotencyKey = "k" // makes _nearsql_outcome
	r.ok(tn, key)

	const no = wire.CodeSQLNotAllowed
	for _, c := range []struct {
		sql  string
		code wire.Code
		text string
	}{
		{"ATTACH 'x' AS y", no, "ATTACH"},
		{"attach database ':memory:' as y", no, "ATTACH"},
		{"DETACH main", no, "DETACH"},
		{"EXPLAIN ATTACH 'x' AS y", no, "ATTACH"},
		{"VACUUM INTO 'x'", no, "VACUUM"},
		{"VACUUM main INTO 'x'", no, "VACUUM"},
		{"EXPLAIN VACUUM INTO 'x'", "", ""}, // only shows the program
		{"SELECT load_extension('x')", no, "load_extension"},
		{"INSERT INTO t VALUES(load_extension('x'), 1)", no, "load_extension"},
		{"SELECT fts3_tokenizer('x')", wire.CodeSQLiteError, "no such function"}, // not compiled in
		{"UPDATE sqlite_schema SET sql=''", wire.CodeSQLiteError, "may not be modified"},
		{"DELETE FROM sqlite_master", wire.CodeSQLiteError, "may not be modified"},
		{"INSERT INTO sqlite_temp_schema(name) VALUES('x')", "*", ""},
		{"PRAGMA writable_schema=on", no, "PRAGMA writable_schema is not allowed"},
		{"PRAGMA journal_mode", no, "journal_mode"},
		{"PRAGMA main.journal_mode=WAL", no, "journal_mode"},
		{"PRAGMA locking_mode=exclusive", no, "locking_mode"},
		{"PRAGMA temp_store=2", no, "temp_store"},
		{"PRAGMA cache_size=1000000", no, "cache_size"},
		{"PRAGMA mmap_size=1000000", no, "mmap_size"},
		{"PRAGMA hard_heap_limit=1", no, "hard_heap_limit"},
		{"PRAGMA trusted_schema=on", no, "trusted_schema"},
		{"PRAGMA page_size=512", no, "read here, not set"},
		{"PRAGMA encoding='UTF-16'", no, "read here, not set"},
		{"PRAGMA schema_version=1", no, "read here, not set"},
		{"PRAGMA query_only=off", no, "read here, not set"},
		{"PRAGMA ignore_check_constraints=on", no, "read here, not set"},
		{"PRAGMA no_such", no, "no_such"},
		{"EXPLAIN PRAGMA journal_mode=WAL", no, "journal_mode"},
		{"SELECT * FROM pragma_journal_mode", no, "journal_mode"},
		{"SELECT * FROM pragma_cache_size", no, "cache_size"},

		{"SELECT * FROM _nearsql_outcome", no, "_nearsql_outcome is internal"},
		{"SELECT count(*) FROM _NearSQL_outcome", no, "internal"},
		{"SELECT * FROM v", no, "internal"},
		{"SELECT (SELECT outcome FROM _nearsql_outcome)", no, "internal"},
		{"WITH x AS (SELECT * FROM _nearsql_outcome) SELECT * FROM x", no, "internal"},
		{"SELECT * FROM ext", no, "internal"},
		{"SELECT * FROM t WHERE EXISTS (SELECT 1 FROM [_nearsql_outcome])", no, "internal"},
		{"INSERT INTO _nearsql_outcome SELECT * FROM _nearsql_outcome", no, "internal"},
		{"DELETE FROM _nearsql_outcome", no, "internal"},
		{"UPDATE t SET b=3", no, "internal"}, // the trigger reads it
		{"DROP TABLE _nearsql_outcome", no, "internal"},
		{"DROP INDEX _nearsql_outcome_at", no, "internal"},
		{"CREATE INDEX i ON _nearsql_outcome(at)", no, "internal"},
		{"CREATE INDEX _nearsql_i ON t(a)", no, "internal"},
		{"CREATE TRIGGER tr AFTER INSERT ON _nearsql_outcome BEGIN SELECT 1; END", no, "internal"},
		{"CREATE TRIGGER _nearsql_tr AFTER INSERT ON t BEGIN SELECT 1; END", no, "internal"},
		{"CREATE TABLE _nearsql_x(a)", no, "internal"},
		{"CREATE TABLE __crr_x(a)", no, "internal"},
		{"CREATE TABLE \"__CRR_x\"(a)", no, "internal"},
		{"CREATE VIEW _nearsql_v AS SELECT 1", no, "internal"},
		{"CREATE VIRTUAL TABLE _nearsql_f USING fts5(x)", no, "internal"},
		{"ALTER TABLE t RENAME TO _nearsql_x", no, "_nearsql_x is internal"},
		{"ALTER TABLE t RENAME TO \"__crr_x\"", no, "internal"},
		{"alter table main.t rename to [_NEARSQL_x]", no, "internal"},
		{"ALTER TABLE t RENAME /* c */ TO '_nearsql_x' -- c", no, "internal"},
		{"/* x */ ; ALTER TABLE t RENAME TO `_nearsql_x`", no, "internal"},
		{"EXPLAIN ALTER TABLE t RENAME TO _nearsql_x", no, "internal"},
		{"ALTER TABLE _nearsql_outcome RENAME TO mine", no, "internal"},
		{"ALTER TABLE _nearsql_outcome ADD COLUMN x", no, "internal"},
		{"ANALYZE _nearsql_outcome", "", ""}, // left out

		{"SELECT * FROM sqlite_dbpage", no, "raw pages"},
		{"UPDATE sqlite_dbpage SET data=zeroblob(4096)", no, "raw pages"},
		{"CREATE VIRTUAL TABLE raw USING sqlite_dbpage", no, "raw pages"},
		{"INSERT INTO ft_data VALUES(1, 'x')", wire.CodeSQLiteError, "may not be modified"}, // defensive: a shadow table
		{"DELETE FROM rt_node", wire.CodeSQLiteError, "may not be modified"},
		{"DROP TABLE ft_data", wire.CodeSQLiteError, "may not be dropped"},

		{"CREATE TEMP TABLE x(a)", no, "TEMP"},
		{"CREATE TEMPORARY VIEW x AS SELECT 1", no, "TEMP"},
		{"CREATE TABLE temp.x AS SELECT 1", no, "TEMP"},
		{"CREATE VIEW temp.x AS SELECT 1", no, "TEMP"},
		{"CREATE TRIGGER temp.x AFTER INSERT ON t BEGIN SELECT 1; END", no, "TEMP"},
		{"CREATE TRIGGER temp.x AFTER INSERT ON main.t BEGIN SELECT 1; END", "*", ""},
		{"CREATE INDEX temp.x ON t(a)", "*", ""},
		{"CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END", no, "TEMP"},
		{"CREATE VIRTUAL TABLE temp.x USING fts5(a)", no, "TEMP"},
		{"CREATE VIRTUAL TABLE temp.x USING fts5vocab('main', 'ft', 'row')", no, "TEMP"},

		{"BEGIN", wire.CodeTransactionControlNotAllowed, "BEGIN"},
		{"begin immediate", wire.CodeTransactionControlNotAllowed, "batch"},
		{"COMMIT", wire.CodeTransactionControlNotAllowed, "COMMIT"},
		{"END", wire.CodeTransactionControlNotAllowed, "END"},
		{"ROLLBACK", wire.CodeTransactionControlNotAllowed, "ROLLBACK"},
		{"SAVEPOINT x", wire.CodeTransactionControlNotAllowed, "SAVEPOINT"},
		{"RELEASE x", wire.CodeTransactionControlNotAllowed, "RELEASE"},
		{"\uFEFFCOMMIT", wire.CodeTransactionControlNotAllowed, "COMMIT"},
		{"; -- x\n COMMIT", wire.CodeTransactionControlNotAllowed, "COMMIT"},

		{"SELECT 1; SELECT 2", wire.CodeMultipleStatements, "byte 9"},
		{"INSERT INTO t VALUES(5,5); DELETE FROM t", wire.CodeMultipleStatements, "batch"},
		{"SELECT 1 ; ;; -- more\n /* x */", "", ""},
		{"", wire.CodeEmptyStatement, ""},
		{" ; -- x", wire.CodeEmptyStatement, ""},
		{"/* unterminated", wire.CodeEmptyStatement, ""},
		{"SELECT '\xff'", wire.CodeInvalidUTF8, "UTF-8"},
		{"SELECT 1\x00, 2", wire.CodeSQLiteError, "NUL"},
		{"SELEKT 1", wire.CodeSQLiteError, "SELEKT"},
		{"SELECT * FROM nowhere", wire.CodeSQLiteError, "no such table: nowhere"},
	} {
		res, err := r.do(tn, one(c.sql))
		switch {
		case c.code == "*":
			if err == nil {
				t.Errorf("%q went well", c.sql)
			}
		case c.code == "":
			if err != nil {
				t.Errorf("%q: %v", c.sql, err)
			}
		case err == nil:
			t.Errorf("%q: went well: %v", c.sql, res)
		case err.Code != c.code || !strings.Contains(err.Message, c.text):
			t.Errorf("%q: got %v; want %s with %q", c.sql, err, c.code, c.text)
		}
		// In a batch that writes, too, where it runs on the writer.
		if c.code == no && !strings.HasPrefix(strings.ToUpper(c.sql), "VACUUM") {
			req := batch("INSERT INTO log VALUES('batch')", c.sql)
			if _, err := r.do(tn, req); err == nil || err.Code != no || err.Statement != 2 {
				t.Errorf("%q in a batch: got %v", c.sql, err)
			}
		}
	}
	r.want(tn, "SELECT count(*) FROM log", "[[0]]")
	r.want(tn, "SELECT * FROM t", "[[1 2]]")

	// What looks alike is allowed, and our own tables hinder nothing.
	for _, sql := range []string{
		"ALTER TABLE log RENAME TO log2",
		"ALTER TABLE log2 ADD COLUMN y DEFAULT '_nearsql_x'",
		"ALTER TABLE log2 RENAME COLUMN y TO z",
		"ANALYZE", "PRAGMA optimize", "REINDEX", "VACUUM", "PRAGMA integrity_check", "PRAGMA incremental_vacuum",
		"PRAGMA user_version=7", "PRAGMA application_id=8", "SELECT * FROM pragma_table_info('t')", "PRAGMA table_info(t)",
		"PRAGMA foreign_key_check", "PRAGMA auto_vacuum=1", "PRAGMA compile_options", "DROP TRIGGER steal", "DROP VIEW v",
		"SELECT rtreecheck('rt')", "INSERT INTO ft(ft) VALUES('optimize')", "INSERT INTO ft(ft) VALUES('integrity-check')",
		"CREATE VIRTUAL TABLE vocab USING fts5vocab('ft', 'row')", "SELECT * FROM vocab", "SELECT * FROM dbstat LIMIT 1",
	} {
		if _, err := r.do(tn, one(sql)); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	r.want(tn, "PRAGMA user_version", "[[7]]")
	r.want(tn, "PRAGMA integrity_check", `[["ok"]]`)
	if got := r.ok(tn, key)[0].RowsAffected; got != 1 {
		t.Errorf("the outcome did not survive VACUUM: %d rows", got)
	}
}

func TestArguments(t *testing.T) {
	r := newRig(t, Config{})
	tn := r.create(1, tenant.Limits{Params: 3, Statement: 1024, BatchStatements: 3})
	r.exec(tn, "CREATE TABLE t(a, b)")
	named := func(sql string, args ...wire.NamedArg) *wire.Request {
		return &wire.Request{Statements: []wire.Statement{{SQL: sql, Named: args}}}
	}
	arg := func(name string, v int64) wire.NamedArg { return wire.NamedArg{Name: name, Value: wire.Integer(v)} }
	for _, c := range []struct {
		name string
		req  *wire.Request
		code wire.Code
		text string
	}{
		{"missing", one("SELECT ?, ?", 1), wire.CodeArgumentCount, "2 parameters; 1 arguments"},
		{"extra", one("INSERT INTO t VALUES(?, 1)", 1, 2), wire.CodeArgumentCount, "1 parameters; 2 arguments"},
		{"extra for a PRAGMA", one("PRAGMA foreign_keys=off", 1), wire.CodeArgumentCount, "0 parameters"},
		{"named missing", named("SELECT :a, @b", arg("a", 1)), wire.CodeArgumentCount, "(@b)"},
		{"named extra", named("SELECT :a", arg("a", 1), arg("b", 1)), wire.CodeArgumentCount, `no parameter "b"`},
		{"named twice", named("SELECT :a, $b", arg("a", 1), arg(":a", 1), arg("b", 2)), wire.CodeArgumentCount, "given twice"},
		{"named with NUL", named("SELECT :a", arg("a\x00", 1)), wire.CodeArgumentCount, "no parameter"},
		{"too many parameters", one("SELECT ?, ?, ?, ?", 1, 2, 3, 4), wire.CodeSQLiteError, "too many SQL variables"},
		{"too high a parameter", one("SELECT ?9999"), wire.CodeSQLiteError, ""},
		{"too long", one("SELECT '" + strings.Repeat("x", 1024) + "'"), wire.CodeStatementTooLong, "1024"},
		{"no statement", &wire.Request{}, wire.CodeEmptyStatement, ""},
		{"too many statements", batch("SELECT 1", "SELECT 1", "SELECT 1", "SELECT 1"), wire.CodeTooManyStatements, "4 statements"},
		{"VACUUM in a batch", batch("VACUUM", "SELECT 1"), wire.CodeSQLNotAllowed, "batch"},
		{"too long a key", &wire.Request{Statements: []wire.Statement{st("DELETE FROM t")}, IdempotencyKey: strings.Repeat("k", 256)}, wire.CodeBadRequest, "256 bytes"},
		{"read only", &wire.Request{Statements: []wire.Statement{st("DELETE FROM t")}, ReadOnly: true}, wire.CodeReadOnlyRequest, ""},
		{"too large a value", one("SELECT ?", strings.Repeat("x", maxValue+1)), wire.CodeSQLiteTooBig, ""},
		{"too large a result", one("SELECT zeroblob(16777217)"), wire.CodeSQLiteTooBig, ""},
	} {
		if len(c.req.Statements) == 0 {
			if _, err := r.e.Execute(t.Context(), tn, r.q, c.req, &sink{}); err == nil || err.(*wire.Error).Code != c.code {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err := r.refused(tn, c.req, c.code); !strings.Contains(err.Message, c.text) {
			t.Errorf("%s: %v does not say %q", c.name, err, c.text)
		}
	}
	got := r.ok(tn, named("SELECT :a, @b, $c", arg("c", 3), arg("a", 1), arg("@b", 2)))
	equal(t, "named arguments", got[0].Rows[0], values([]any{1, 2, 3}))
	equal(t, "numbered arguments", r.ok(tn, one("SELECT ?2, ?1", 1, 2))[0].Rows[0], values([]any{2, 1}))
	equal(t, "NUL in a text", r.ok(tn, one("SELECT ?1, length(CAST(?1 AS BLOB))", "a\x00b"))[0].Rows[0], values([]any{"a\x00b", 3}))
	equal(t, "all kinds", r.ok(tn, one("SELECT ?, ?, ?", -1<<63, []byte{}, ""))[0].Rows[0], values([]any{-1 << 63, []byte{}, ""}))
	r.exec(tn, "CREATE VIRTUAL TABLE f USING fts5(a, b, c, d, e)") // its own statements have more parameters than the tenant may
	r.exec(tn, "INSERT INTO f VALUES(1, 2, 3, 4, 5)")
	r.want(tn, "WITH replace(a) AS (SELECT 1) SELECT * FROM replace", "[[1]]")
	req := one("WITH replace(a) AS (SELECT 1) SELECT * FROM replace")
	req.ReadOnly = true
	r.ok(tn, req)
}
