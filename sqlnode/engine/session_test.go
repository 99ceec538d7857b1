package engine

import (
	"testing"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

func TestNothingOfASessionStays(t *testing.T) {
	r := newRig(t, Config{InFlight: 1})
	tn := r.create(1, tenant.Limits{Readers: 1})
	r.exec(tn, "CREATE TABLE t(id INTEGER PRIMARY KEY, a)")
	r.exec(tn, "CREATE TABLE w(id PRIMARY KEY) WITHOUT ROWID")

	const state = "SELECT last_insert_rowid(), changes(), total_changes()"
	fresh := func(when string) {
		t.Helper()
		for _, req := range []*wire.Request{one(state), batch("DELETE FROM t WHERE 0", state), batch("DELETE FROM t WHERE 0", "SELECT 1", state)} {
			res := r.ok(tn, req)
			equal(t, "state after "+when, res[len(res)-1].Rows[0], values([]any{0, 0, 0}))
		}
	}
	fresh("nothing")
	r.exec(tn, "INSERT INTO t(a) VALUES(1), (2), (3)")
	fresh("an insert")
	res := r.ok(tn, batch("INSERT INTO t(a) VALUES(4), (5)", state, "INSERT INTO t SELECT 100, last_insert_rowid()", state, "SELECT a FROM t WHERE id=100"))
	equal(t, "state in a request", [][]wire.Value{res[1].Rows[0], res[3].Rows[0], res[4].Rows[0]}, [][]wire.Value{values([]any{5, 2, 2}), values([]any{100, 1, 3}), values([]any{5})})
	fresh("a batch")
	// The first statement of a request sees no earlier one's, wherever it looks.
	res = r.ok(tn, batch("INSERT INTO t(a) SELECT changes()+10*last_insert_rowid()+100*total_changes()", "SELECT a FROM t ORDER BY id DESC LIMIT 1"))
	equal(t, "first statement", res[1].Rows[0], values([]any{0}))
	if _, err := r.do(tn, batch("INSERT INTO t(a) VALUES(1)", "INSERT INTO t VALUES(1, 1)")); err == nil {
		t.Fatal("no error")
	}
	fresh("an error in the middle")
	r.refused(tn, one("INSERT OR ROLLBACK INTO t VALUES(1, 1)"), wire.CodeSQLiteConstraintPrimaryKey)
	fresh("OR ROLLBACK")

	// In a group, too.
	replies := r.group(tn, one("INSERT INTO t(a) VALUES(9) RETURNING changes(), total_changes()"),
		batch("UPDATE t SET a=a", state), batch("DELETE FROM t WHERE 0", state))
	equal(t, "state in a group", replies[2].res[1].Rows[0], values([]any{0, 0, 0}))
	equal(t, "rowid in a group", replies[1].res[1].Rows[0][0], wire.Integer(0))
}

func TestLastInsertRowID(t *testing.T) {
	r := newRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE)")
	r.exec(tn, "CREATE TABLE w(id PRIMARY KEY) WITHOUT ROWID")
	r.exec(tn, "CREATE TABLE log(id INTEGER PRIMARY KEY, x)")
	r.exec(tn, "CREATE TRIGGER tr AFTER INSERT ON w BEGIN INSERT INTO log VALUES(77, last_insert_rowid()); END")
	res := r.ok(tn, batch(
		"INSERT INTO t VALUES(5, 1)",                                  // 5
		"INSERT OR IGNORE INTO t VALUES(6, 1)",                        // none
		"INSERT INTO t VALUES(6, 1) ON CONFLICT(a) DO UPDATE SET a=2", // an update: none
		"INSERT INTO w VALUES('x')",                                   // none; the trigger's stays inside
		"SELECT last_insert_rowid(), (SELECT x FROM log)",
		"INSERT INTO t VALUES(0, 3)",  // 0
		"REPLACE INTO t VALUES(9, 3)", // 9
		"WITH x AS (SELECT 10) INSERT INTO t SELECT 10, 10",
		"UPDATE t SET a=11 WHERE id=10",
		"SELECT last_insert_rowid()",
	))
	type id struct {
		id  int64
		set bool
	}
	var got []id
	for _, r := range res {
		got = append(got, id{r.LastInsertRowID, r.Inserted})
	}
	equal(t, "rowids", got, []id{{5, true}, {}, {}, {}, {}, {0, true}, {9, true}, {10, true}, {}, {}})
	equal(t, "seen by SQL", res[4].Rows[0], values([]any{5, 5}))
	equal(t, "seen at the end", res[9].Rows[0], values([]any{10}))
	if x := r.ok(tn, one("; INSERT INTO t(a) VALUES('z')"))[0]; !x.Inserted || x.LastInsertRowID != 11 {
		t.Errorf("after a semicolon: %v", x)
	}
}

// TestFunctionsInTriggers: what stands in for SQLite's own functions may be used where they may.
func TestFunctionsInTriggers(t *testing.T) {
	r := newRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE t(id INTEGER PRIMARY KEY, a)")
	r.exec(tn, "CREATE TABLE log(rowids, changed, total, d DEFAULT (changes()))")
	r.exec(tn, "CREATE VIEW v AS SELECT last_insert_rowid() AS l, changes() AS c")
	r.exec(tn, "CREATE TRIGGER tr AFTER INSERT ON t BEGIN UPDATE t SET a=a WHERE id<3; INSERT INTO log(rowids, changed, total) VALUES(last_insert_rowid(), changes(), total_changes()); END")
	r.exec(tn, "INSERT INTO t(a) VALUES(1)")
	r.exec(tn, "INSERT INTO t(a) VALUES(2)")
	r.want(tn, "SELECT * FROM log", "[[1 1 1 1] [2 2 2 2]]")
	r.want(tn, "SELECT * FROM v", "[[0 0]]")
}

func TestSwitchesOfTheConnection(t *testing.T) {
	r := newRig(t, Config{})
	tn := r.create(1, tenant.Limits{Readers: 1})
	r.exec(tn, "CREATE TABLE p(id INTEGER PRIMARY KEY)")
	r.exec(tn, "CREATE TABLE c(id INTEGER PRIMARY KEY, p REFERENCES p(id))")
	r.exec(tn, "CREATE TABLE n(i)")
	r.exec(tn, "CREATE TRIGGER again AFTER INSERT ON n WHEN new.i < 5 BEGIN INSERT INTO n VALUES(new.i+1); END")
	const fk = wire.CodeSQLiteConstraintForeignKey

	defaults := func(when string) {
		t.Helper()
		for _, lead := range []string{"SELECT 1", "DELETE FROM n"} { // on the reader, on the writer
			res := r.ok(tn, batch(lead, "PRAGMA foreign_keys", "PRAGMA defer_foreign_keys", "PRAGMA recursive_triggers", "SELECT 'A' LIKE 'a'"))
			for i, want := range []int{1, 0, 0, 1} {
				if got := res[i+1].Rows[0][0]; got != wire.Integer(int64(want)) {
					t.Errorf("after %s, %s, switch %d: got %v", when, lead, i, got)
				}
			}
		}
		r.refused(tn, one("INSERT INTO c VALUES(1, 99)"), fk)
		r.refused(tn, batch("INSERT INTO c VALUES(1, 99)", "INSERT INTO p VALUES(99)"), fk)
	}
	defaults("nothing")

	// The pattern of `migrate`: off outside of the transaction, on again behind it.
	r.ok(tn, batch("PRAGMA foreign_keys=off", "INSERT INTO c VALUES(1, 42)", "PRAGMA foreign_keys=on"))
	r.want(tn, "SELECT count(*) FROM c", "[[1]]")
	r.exec(tn, "DELETE FROM c")
	defaults("migrate")
	r.ok(tn, batch("PRAGMA foreign_keys(0)", "INSERT INTO c VALUES(1, 42)"))
	r.exec(tn, "DELETE FROM c")
	defaults("foreign_keys=off without on")
	r.refused(tn, batch("PRAGMA foreign_keys=off", "INSERT INTO c VALUES(1, 42)", "INSERT INTO c VALUES(1, 43)"), wire.CodeSQLiteConstraintPrimaryKey)
	defaults("an error after foreign_keys=off")
	// What fails behind the statements undoes them: nothing is committed before the last has run.
	r.refused(tn, &wire.Request{Batch: true, Statements: []wire.Statement{st("INSERT INTO p VALUES(1)"), st("PRAGMA foreign_keys=on", 5)}}, wire.CodeArgumentCount)
	r.refused(tn, batch("INSERT INTO p VALUES(1)", "PRAGMA foreign_keys=on nonsense"), wire.CodeSQLiteError)
	r.want(tn, "SELECT count(*) FROM p", "[[0]]")

	r.ok(tn, batch("PRAGMA defer_foreign_keys=on", "INSERT INTO c VALUES(1, 7)", "INSERT INTO p VALUES(7)"))
	r.exec(tn, "DELETE FROM c")
	r.exec(tn, "DELETE FROM p")
	r.ok(tn, batch("DELETE FROM p", "PRAGMA defer_foreign_keys=on", "INSERT INTO c VALUES(1, 7)", "INSERT INTO p VALUES(7)"))
	r.exec(tn, "DELETE FROM c")
	r.exec(tn, "DELETE FROM p")
	defaults("defer_foreign_keys")
	r.refused(tn, batch("PRAGMA defer_foreign_keys=on", "INSERT INTO c VALUES(1, 7)"), fk)
	defaults("a broken deferred key")

	r.ok(tn, batch("PRAGMA recursive_triggers=on", "INSERT INTO n VALUES(1)"))
	r.want(tn, "SELECT count(*) FROM n", "[[5]]")
	defaults("recursive_triggers")
	res := r.ok(tn, batch("PRAGMA case_sensitive_like=on", "SELECT 'A' LIKE 'a'"))
	equal(t, "case_sensitive_like", res[1].Rows[0][0], wire.Integer(0))
	defaults("case_sensitive_like")
	r.refused(tn, batch("PRAGMA case_sensitive_like=on", "SELECT nothing"), wire.CodeSQLiteError)
	defaults("an error after case_sensitive_like")

	// SQLite sets switches while it prepares: EXPLAIN does it, too.
	r.do(tn, one("EXPLAIN PRAGMA case_sensitive_like=on"))
	defaults("EXPLAIN on the reader")
	r.do(tn, batch("DELETE FROM n", "EXPLAIN PRAGMA recursive_triggers=on", "EXPLAIN PRAGMA defer_foreign_keys=on", "EXPLAIN PRAGMA foreign_keys=off"))
	defaults("EXPLAIN on the writer")
	res = r.ok(tn, batch("PRAGMA recursive_triggers=on", "PRAGMA recursive_triggers=off", "PRAGMA recursive_triggers=on", "PRAGMA recursive_triggers"))
	equal(t, "set thrice", res[3].Rows[0][0], wire.Integer(1))
	defaults("set thrice")
}
