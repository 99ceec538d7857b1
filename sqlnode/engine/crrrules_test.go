package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// What copies at many sites could not keep is refused with a text that says so, and leaves nothing.
func TestDeclarationsRefused(t *testing.T) {
	r, m := newCRRRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE strong(a)")
	for _, c := range []struct{ sql, text string }{
		{"CREATE TABLE crr.t(a TEXT)", "crr table t: a PRIMARY KEY is required: it names the row on every site"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY)", "crr table t: primary key column a must be NOT NULL"},
		{"CREATE TABLE crr.t(a INTEGER PRIMARY KEY AUTOINCREMENT)", "two sites would give one number to two rows; use TEXT PRIMARY KEY NOT NULL DEFAULT (uuid7())"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, b UNIQUE)", "cannot be kept across sites; make it the PRIMARY KEY, or use a strong table"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, b REFERENCES strong(a))", "a parent may be deleted elsewhere"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, b COUNTER)", "NOT NULL DEFAULT 0"},
		{"CREATE TABLE crr.t(a REAL PRIMARY KEY NOT NULL)", "crr table t"},
		{"CREATE TABLE crr.strong(a TEXT PRIMARY KEY NOT NULL)", "a name may be in one of both only"},
		{"CREATE TABLE crr.crr_x(a TEXT PRIMARY KEY NOT NULL)", "kept for nearsql"},
		{"CREATE TRIGGER crr.x AFTER INSERT ON likes BEGIN SELECT 1; END", "trigger"},
		{"CREATE VIRTUAL TABLE crr.f USING fts5(a)", ""},
		{"CREATE TABLE crr.t AS SELECT 1", ""},
	} {
		_, err := r.do(tn, one(c.sql))
		if err == nil || !strings.Contains(err.Message, c.text) || err.Code == wire.CodeInternal || err.Statement != 1 {
			t.Errorf("%s: %v, want %q", c.sql, err, c.text)
		}
	}
	if f := m.Lookup(tn); f != nil {
		t.Error("a refused declaration made a file")
	}
	r.exec(tn, createLikes)
	for _, c := range []struct{ sql, text string }{
		{createLikes, "there is a table, view or index of that name"},
		{"CREATE UNIQUE INDEX crr.u ON likes(title)", "cannot be kept across sites"},
		{"CREATE INDEX u ON likes(none)", ""},
		{"CREATE TRIGGER x AFTER INSERT ON likes BEGIN SELECT 1; END", "trigger"},
		{"ALTER TABLE likes DROP COLUMN post", "make a new table"},
		{"ALTER TABLE likes RENAME TO strong", "a name may be in one of both only"},
		{"DROP TABLE crr.none", "no such conflict-free table"},
		// And the other way round: main may not take its names.
		{"CREATE TABLE likes(a)", "a name may be in one of both only"},
		{"CREATE TABLE main.likes(a)", "a name may be in one of both only"},
		{"CREATE VIEW Likes AS SELECT 1", "a name may be in one of both only"},
		{"ALTER TABLE strong RENAME TO likes", "a name may be in one of both only"},
	} {
		_, err := r.do(tn, one(c.sql))
		if err == nil || !strings.Contains(err.Message, c.text) || err.Code == wire.CodeInternal {
			t.Errorf("%s: %v, want %q", c.sql, err, c.text)
		}
	}
	r.exec(tn, "ALTER TABLE strong RENAME COLUMN a TO likes")
	r.exec(tn, "CREATE TABLE IF NOT EXISTS crr.likes(post TEXT PRIMARY KEY NOT NULL)")
	r.exec(tn, "DROP VIEW IF EXISTS crr.none")
	if v := m.Lookup(tn).Schema().Version; v != 1 {
		t.Errorf("the schema is at change %d, want 1", v)
	}
	// The order of two changes is that of the log, so the second sees the first.
	r.log.setHold(true)
	a := r.start(t.Context(), tn, one("CREATE TABLE crr.x(a TEXT PRIMARY KEY NOT NULL)"))
	r.waitEntry()
	b := r.start(t.Context(), tn, one("CREATE TABLE x(a)"))
	b.pending(t, "it rests on the first")
	r.log.setHold(false)
	r.log.letGo(-1)
	a.wait(t)
	b.wait(t)
	if a.err != nil || b.err == nil || !strings.Contains(b.err.Message, "one of both only") {
		t.Errorf("%v; %v", a.err, b.err)
	}
}

// A transaction writes one schema only, and what can't hold for local writes is refused.
func TestBothSchemasRefused(t *testing.T) {
	r, _ := newCRRRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE posts(id TEXT PRIMARY KEY)")
	r.exec(tn, createLikes)
	e := r.refused(tn, batch("INSERT INTO posts VALUES('a')", "INSERT INTO likes(post) VALUES('a')"), wire.CodeSQLNotAllowed)
	if !strings.Contains(e.Message, "posts is in main, likes in crr") || e.Statement != 1 {
		t.Errorf("%v", e)
	}
	e = r.refused(tn, batch("UPDATE crr.likes SET n=1", "WITH x AS (SELECT 1) DELETE FROM [posts]"), wire.CodeSQLNotAllowed)
	if !strings.Contains(e.Message, "posts is in main, likes in crr") || e.Statement != 2 {
		t.Errorf("%v", e)
	}
	r.refused(tn, batch("UPDATE likes SET n=1", "CREATE TABLE b(a)"), wire.CodeSQLNotAllowed)
	r.refused(tn, batch("PRAGMA recursive_triggers=on", "UPDATE likes SET n=1"), wire.CodeSQLNotAllowed)
	r.refused(tn, batch("DROP TABLE likes", "SELECT 1"), wire.CodeSQLNotAllowed)
	keyed := one("INSERT INTO likes(post) VALUES('k')")
	keyed.IdempotencyKey = "k"
	if e := r.refused(tn, keyed, wire.CodeBadRequest); !strings.Contains(e.Message, "Idempotency-Key") {
		t.Errorf("%v", e)
	}
	only := one("INSERT INTO likes(post) VALUES('k')")
	only.ReadOnly = true
	r.refused(tn, only, wire.CodeReadOnlyRequest)
	r.want(tn, "SELECT (SELECT count(*) FROM likes) + (SELECT count(*) FROM posts)", "[[0]]")
	// A declaration is a strong write and takes a key.
	declare := one("CREATE TABLE crr.twice(a TEXT PRIMARY KEY NOT NULL)")
	declare.IdempotencyKey = "d"
	r.ok(tn, declare)
	_, x, err := r.doCtx(t.Context(), tn, declare)
	if err != nil || !x.Replayed {
		t.Errorf("%+v, %v", x, err)
	}
	for sql, want := range map[string]bool{
		"SELECT 1": false, "INSERT INTO likes(post) VALUES(1)": false, "INSERT INTO posts VALUES(1)": true, "UPDATE crr.likes SET n=1": false,
		"DROP TABLE likes": true, "DELETE FROM main.posts": true, "CREATE TABLE crr.z(a TEXT PRIMARY KEY NOT NULL)": true, "VACUUM": true,
	} {
		if got := r.e.NeedsPrimary(tn, one(sql)); got != want {
			t.Errorf("NeedsPrimary(%s) = %v", sql, got)
		}
	}
	if !r.e.NeedsPrimary(tn, batch("UPDATE likes SET n=1", "UPDATE posts SET id=1")) || r.e.NeedsPrimary(tn, batch("UPDATE likes SET n=1", "SELECT 1")) {
		t.Error("NeedsPrimary of batches")
	}
}

// What tracks the tables is out of reach, on the connections that read and on the one that writes.
func TestConflictFreeInternals(t *testing.T) {
	r, _ := newCRRRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE posts(id TEXT PRIMARY KEY)")
	r.exec(tn, createLikes)
	r.exec(tn, "INSERT INTO likes(post,n) VALUES('a',1)")
	for _, sql := range []string{
		"SELECT * FROM __crr_ddl", "SELECT * FROM __crr_site", "SELECT * FROM crr.__crr_self", "SELECT * FROM __crr_m1",
		"DELETE FROM __crr_ddl", "INSERT INTO __crr_site(number) VALUES(9)", "UPDATE crr.__crr_self SET site=7", "DELETE FROM crr.__crr_m1",
		"INSERT INTO likes(post) SELECT k FROM __crr_m1", "UPDATE likes SET title=(SELECT st FROM crr.__crr_m1)",
		"UPDATE likes SET n=crr_lseq()", "UPDATE likes SET title=crr_local()", "INSERT INTO likes(post) VALUES(crr_ins(1,'a',NULL,3))",
		"WITH __crr_i1 AS (SELECT k FROM crr.__crr_m1) INSERT INTO likes(post) SELECT k FROM __crr_i1",
		"WITH \"__crr_u1\" AS (SELECT 1) UPDATE likes SET n=1",
		"DROP TRIGGER crr.__crr_i1", "DROP TABLE crr.__crr_m1", "ALTER TABLE crr.__crr_self ADD COLUMN a",
		"CREATE TEMP TRIGGER x AFTER INSERT ON likes BEGIN SELECT 1; END", "CREATE TABLE __crr_ddl2(a)",
		"PRAGMA crr.journal_mode=delete", "PRAGMA temp_store=file", "PRAGMA crr.synchronous=off", "PRAGMA crr.user_version=9",
		"INSERT INTO crr.sqlite_schema(name) VALUES('x')", "DETACH crr", "ATTACH 'x' AS y", "ANALYZE crr.likes", "REINDEX likes", "ANALYZE likes",
		"CREATE TABLE crr.t2(a TEXT PRIMARY KEY NOT NULL, b CHECK(b <> crr_local()))",
	} {
		_, err := r.do(tn, one(sql))
		if err == nil || err.Code == wire.CodeInternal {
			t.Errorf("%s: %v", sql, err)
		}
	}
	// Nor by a CTE in a view's body, where the statement's text does not show it.
	r.exec(tn, "CREATE VIEW hidden AS WITH __crr_i1 AS (SELECT node FROM __crr_site) SELECT node FROM __crr_i1")
	for _, sql := range []string{
		"SELECT * FROM hidden", "UPDATE likes SET title=(SELECT node FROM hidden)",
		"CREATE VIEW crr.hidden2 AS WITH __crr_i1 AS (SELECT k FROM __crr_m1) SELECT k FROM __crr_i1",
	} {
		r.refused(tn, one(sql), wire.CodeSQLNotAllowed)
	}
	r.want(tn, "SELECT post, n, title FROM likes", `[["a" 1 NULL]]`)
	// Statements about everything mean main, and leave the conflict-free tables attached for the next.
	for _, sql := range []string{"ANALYZE", "REINDEX", "VACUUM", "PRAGMA optimize", "PRAGMA integrity_check", "INSERT INTO posts SELECT post FROM likes"} {
		r.exec(tn, sql)
	}
	r.want(tn, "SELECT id, n FROM posts, likes WHERE id=post", `[["a" 1]]`)
}

func TestTargets(t *testing.T) {
	state, err := schema.Replay([]schema.Change{{Version: 1, SQL: createLikes}, {Version: 2, SQL: "CREATE VIEW crr.v AS SELECT 1"}})
	if err != nil {
		t.Fatal(err)
	}
	for sql, want := range map[string]string{
		"INSERT INTO likes(post) VALUES(1)": "crr likes", "insert or replace into Likes values(1)": "crr Likes", "REPLACE INTO crr.likes VALUES(1)": "crr likes",
		"/* x */ UPDATE OR IGNORE \"likes\" SET n=1": "crr likes", "DELETE FROM [likes]": "crr likes", "DELETE FROM main.likes": "main likes",
		"WITH a AS (SELECT 1 FROM posts), b(x) AS (DELETE) UPDATE likes SET n=1": "crr likes", "WITH replace AS (SELECT 1) REPLACE INTO likes VALUES(1)": "crr likes",
		"INSERT INTO posts SELECT * FROM likes": "main posts", "UPDATE posts SET a=(SELECT 1 FROM crr.likes)": "main posts", "INSERT INTO 'crr' . 'x' VALUES(1)": "crr x",
		"DELETE FROM v": "crr v", "INSERT INTO": "main ", "UPDATE": "main ", "WITH": "main ", "DELETE FROM crr.": "crr ",
		"CREATE TABLE crr.x(a)": "declare x", "CREATE TABLE IF NOT EXISTS crr.x(a)": "declare x", "CREATE TABLE x(crr)": "main x", "DROP TABLE likes": "declare likes",
		"DROP TABLE IF EXISTS likes": "declare likes", "ALTER TABLE likes ADD COLUMN x": "declare likes", "CREATE UNIQUE INDEX i ON likes(a)": "declare i",
		"CREATE INDEX i ON posts(a)": "main i", "CREATE TRIGGER x AFTER UPDATE OF n ON likes BEGIN SELECT 1; END": "declare x", "DROP VIEW v": "declare v", "CREATE TABLE likes(a)": "main likes", "CREATE VIEW likes AS SELECT 1": "main likes",
		"CREATE VIRTUAL TABLE crr.f USING fts5(a)": "declare f", "ANALYZE likes": "main ", "CREATE TEMP TABLE crr.x(a)": "declare x", "CREATE": "main ", "DROP": "main ",
	} {
		to, name := target(sql, classify(sql), state)
		if got := fmt.Sprint([]string{"main", "crr", "declare"}[to], " ", name); got != want {
			t.Errorf("%s: %s, want %s", sql, got, want)
		}
	}
	for sql, want := range map[string]string{"ALTER TABLE a RENAME TO b": "b", "alter table main.a rename to [b c]": "b c", "ALTER TABLE a RENAME COLUMN x TO y": "", "ALTER TABLE a RENAME x TO y": "", "SELECT 1": "", "ALTER": ""} {
		if got, _ := renamedTo(sql); got != want {
			t.Errorf("renamedTo(%s) = %q", sql, got)
		}
	}
}

// Whatever the text, the target is read without a panic, and the same for a tenant with and without conflict-free tables when it names crr.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{"INSERT INTO crr.likes VALUES(1)", "WITH a AS (SELECT 1) DELETE FROM likes", "CREATE INDEX i ON likes(a)", "ALTER TABLE likes RENAME TO x", "UPDATE OR", "DROP TABLE IF"} {
		f.Add(s)
	}
	state, err := schema.Replay([]schema.Change{{Version: 1, SQL: createLikes}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		k := classify(sql)
		with, _ := target(sql, k, state)
		without, _ := target(sql, k, nil)
		if without != toMain && with != without {
			t.Errorf("%q: %d with a schema, %d without", sql, with, without)
		}
		renamedTo(sql)
	})
}

// A change of the schema that the log does not take is in no file.
func TestDeclareNotCommitted(t *testing.T) {
	r, m := newCRRRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	r.log.setHold(true)
	p := r.start(t.Context(), tn, one(createLikes))
	r.waitEntry()
	if m.Lookup(tn) != nil {
		t.Error("the file was made before the change was committed")
	}
	p.pending(t, "not committed yet")
	r.log.setHold(false)
	r.log.lose(errors.New("lost"))
	p.wait(t)
	if p.err == nil || p.err.Code != wire.CodeUnknownOutcome {
		t.Errorf("%v", p.err)
	}
	if m.Lookup(tn) != nil {
		t.Error("a change that was lost made a file")
	}
	r.g.LostPrimary()
	r.exec(tn, createLikes)
	r.exec(tn, "INSERT INTO likes(post) VALUES('a')")
}
