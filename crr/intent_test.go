package crr

import (
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/wire"
)

func two(t *testing.T, ddl ...string) (*testClock, *tester, *tester) {
	c := newTestClock()
	cfg := Config{Now: c.off(0)}
	return c, newSite(t, 1, cfg, ":memory:", ddl...), newSite(t, 2, cfg, ":memory:", ddl...)
}

// What concurrent statements mean, one by one.
func TestIntent(t *testing.T) {
	clock, a, b := two(t, likes, pair)
	do := func(s *tester, sql string) {
		t.Helper()
		clock.add(10 * time.Millisecond)
		s.do(sql)
	}
	want := func(name, sql string, v any) {
		t.Helper()
		settle(a, b)
		w := values([]any{v})[0]
		if x, y := a.one(sql), b.one(sql); x != w || y != w {
			t.Errorf("%s: %s and %s, want %s", name, x, y, w)
		}
	}
	const n = "SELECT n FROM likes WHERE id='x'"
	do(a, "INSERT INTO likes(id) VALUES('x')")
	settle(a, b)
	do(a, "UPDATE likes SET n=n+1")
	do(b, "UPDATE likes SET n = n + 1")
	want("increments add up", n, 2)
	do(a, "UPDATE likes SET n=0")
	do(b, "UPDATE likes SET n=0")
	want("two resets are one", n, 0)
	do(a, "UPDATE likes SET n=0")
	do(b, "UPDATE likes SET n=n+5")
	want("a reset spares what it did not see", n, 5)
	do(a, "UPDATE likes SET n=100")
	do(b, "UPDATE likes SET n=200")
	want("the later assignment wins", n, 200)
	do(a, "DELETE FROM likes")
	do(b, "UPDATE likes SET n=n+1, note='late'")
	want("an update does not bring a row back", "SELECT count(*) FROM likes", 0)
	do(a, "INSERT INTO likes(id,n) VALUES('x',3)")
	want("re-insert starts from its own value", n, 3)
	do(a, "REPLACE INTO likes(id,n) VALUES('x',50)")
	do(b, "UPDATE likes SET n=n+2")
	want("REPLACE of a live row assigns", n, 52)

	_, a, b = two(t, likes)
	const upsert = "INSERT INTO likes(id,n) VALUES('x',1) ON CONFLICT(id) DO UPDATE SET n=n+excluded.n"
	do(a, upsert)
	do(b, upsert)
	want("concurrent first upserts add up", n, 2)

	clock, a, b = two(t, likes)
	do(a, "INSERT INTO likes(id,n) VALUES('x',1)")
	do(a, "DELETE FROM likes")
	do(b, "INSERT INTO likes(id,n,note) VALUES('x',1,'again')")
	want("like and unlike here, like again there", "SELECT note FROM likes", "again")

	clock, a, b = two(t, pair)
	do(a, "INSERT INTO pair VALUES(1,'x',0)")
	settle(a, b)
	for _, v := range []string{"old1", "old2", "old3"} {
		do(a, "UPDATE pair SET a='"+v+"'")
	}
	do(b, "UPDATE pair SET a='new'")
	want("the later write wins, not the busier site", "SELECT a FROM pair", "new")
	do(a, "UPDATE pair SET a='zzz', b=1")
	do(b, "UPDATE pair SET a='aaa', b=2")
	want("a transaction wins whole", "SELECT a||b FROM pair", "aaa2")
	do(a, "UPDATE pair SET a='from a'")
	do(b, "UPDATE pair SET b='from b'")
	want("columns merge apart", "SELECT a||b FROM pair", "from afrom b")
	do(a, "UPDATE pair SET id=7")
	do(b, "UPDATE pair SET b='lost'")
	want("a key change is delete and insert", "SELECT group_concat(id||a||b) FROM pair", "7from afrom b")
}

// P9: every way to write is tracked; P10: merging again changes nothing.
func TestEveryStatementIsTracked(t *testing.T) {
	const nocase = "CREATE TABLE crr.nocase(k TEXT PRIMARY KEY NOT NULL, v TEXT COLLATE nocase)"
	const dates = "CREATE TABLE crr.dates(k BLOB PRIMARY KEY NOT NULL, d DATE, t BOOLEAN, g AS (d||t))"
	clock, a, b := two(t, likes, pair, nocase, dates, kv)
	for _, sql := range []string{
		"INSERT INTO likes(id,n) VALUES('x',1)",
		"INSERT OR IGNORE INTO likes(id,n) VALUES('x',5),('y',2)",
		"INSERT OR REPLACE INTO likes(id,n) VALUES('y',3),('z',1)",
		"UPDATE OR IGNORE likes SET id='x' WHERE id='z'",
		"UPDATE OR REPLACE likes SET id='y' WHERE id='z'",
		"INSERT INTO likes(id,n) VALUES('w',1) ON CONFLICT DO NOTHING",
		"DELETE FROM likes WHERE id='w' RETURNING id",
		"INSERT INTO likes(id,n) VALUES('w',9) RETURNING n",
		"UPDATE likes SET note='it''s '||char(0)||' nul' WHERE id='w'",
		"UPDATE likes SET note='it''s '||char(0)||' NUL' WHERE id='w'",
		"INSERT INTO pair VALUES(5,'x',1)",
		"UPDATE pair SET b=1.0",
		"UPDATE pair SET b='1'",
		"UPDATE pair SET b=NULL",
		"UPDATE pair SET b=x''",
		"DELETE FROM likes WHERE id='y'",
		"INSERT OR IGNORE INTO likes(id,n) VALUES('y',1)",
		"DELETE FROM likes WHERE id='y'",
		"UPDATE OR IGNORE likes SET id='y' WHERE id='x'",
		"INSERT OR IGNORE INTO likes(id,n) VALUES('x',1)",
		"INSERT INTO nocase VALUES('k','abc')",
		"UPDATE nocase SET v='ABC'",
		"INSERT INTO dates(k,d,t) VALUES(x'00ff','2026-11-21',1),(7,'x',NULL),('seven',0,0)",
		"UPDATE dates SET d='1999-01-01' WHERE k=7",
		"INSERT INTO kv VALUES(1,'a','v'),(1,'b','w')",
		"UPDATE kv SET g=g+1",
		"UPDATE kv SET v=v||'!' WHERE k='b'",
	} {
		clock.add(5 * time.Millisecond)
		a.do(sql)
		b.pull(a)
		again, err := a.answer(&Request{Tenant: "acme"})
		if err != nil {
			t.Fatal(err)
		}
		b.vv[a.me.Site]-- // so that it looks at every row
		if r, err := b.take(again); err != nil || r.Rows != 0 {
			t.Fatalf("%s: merged twice, changed %d rows (%v)", sql, r.Rows, err)
		}
		if x, y := a.dump(true), b.dump(true); x != y {
			t.Fatalf("after %s:\n%s\n---\n%s", sql, x, y)
		}
		a.sound()
		b.sound()
	}
	if g := b.one("SELECT group_concat(id||n) FROM (SELECT * FROM likes ORDER BY id)"); g.Str() != "w9,x1,y1" {
		t.Error(g)
	}
	a.do("INSERT INTO pair VALUES(99,'x',1)")
	if g := a.one("SELECT last_insert_rowid()"); g.Int() != 99 {
		t.Error("last_insert_rowid is", g)
	}
}

// What a trigger refuses, and that refusing leaves nothing (P8).
func TestRefusedValues(t *testing.T) {
	_, a, _ := two(t, likes, pair, kv, "CREATE TABLE crr.raw(k BLOB PRIMARY KEY NOT NULL, v)", "CREATE TABLE crr.num(k INT PRIMARY KEY NOT NULL, v)")
	a.do("INSERT INTO likes(id) VALUES('x')")
	before := a.dump(true)
	for _, x := range []struct{ sql, why string }{
		{"INSERT INTO pair(a) VALUES('no key')", "give the primary key a value"},
		{"INSERT INTO pair VALUES(NULL,'x',1)", "give the primary key a value"},
		{"UPDATE likes SET n=n+0.5", "COUNTER column likes.n must hold an integer"},
		{"UPDATE likes SET n='five'", "COUNTER column likes.n must hold an integer"},
		{"UPDATE likes SET n=NULL", "NOT NULL"},
		{"INSERT INTO likes(id,n) VALUES('y','many')", "COUNTER column likes.n must hold an integer"},
		{"INSERT INTO raw VALUES(1.5,1)", "integers, texts or blobs"},
		{"INSERT INTO num VALUES('abc',1)", "must hold an integer"},
		{"INSERT INTO num VALUES(1.5,1)", "integers, texts or blobs"},
		{"INSERT INTO kv VALUES(1.5,'a',1)", "integers, texts or blobs"},
		{"UPDATE likes SET n=n+9223372036854775807", "beyond 2^59"},
		{"INSERT INTO raw VALUES(zeroblob(70000),1)", "longer than"},
	} {
		if err := a.try(x.sql); err == nil || !strings.Contains(err.Error(), x.why) {
			t.Errorf("%s: %v, want %q", x.sql, err, x.why)
		}
		if g := a.dump(true); g != before {
			t.Fatalf("%s left\n%s", x.sql, g)
		}
	}
	// Outside of a transaction of the site nothing can be written.
	if err := a.conn.Exec("INSERT INTO likes(id) VALUES('sly')"); err == nil {
		t.Error("a write without Begin was taken")
	}
	if g := a.dump(true); g != before {
		t.Fatalf("a write without Begin left\n%s", g)
	}
}

// P8 and one transaction's own order: insert, delete, insert, add, savepoints, a failing statement.
func TestOneTransaction(t *testing.T) {
	_, a, b := two(t, likes)
	c, err := a.tx(func() error {
		for _, sql := range []string{"INSERT INTO likes(id,n) VALUES('q',1)", "DELETE FROM likes WHERE id='q'", "INSERT INTO likes(id,n) VALUES('q',10)", "UPDATE likes SET n=n+1 WHERE id='q'",
			"SAVEPOINT p", "UPDATE likes SET n=n+1000 WHERE id='q'", "INSERT INTO likes(id) VALUES('gone')", "ROLLBACK TO p", "UPDATE likes SET n=n+1 WHERE id='q'"} {
			if err := a.stmt(sql); err != nil {
				return err
			}
		}
		if err := a.stmt("INSERT INTO likes(id) VALUES('half'),('q')"); err == nil {
			t.Error("a duplicate key was taken")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Stamp.Site != 1 || c.Stamp.HLC == 0 || c.Seq == 0 {
		t.Errorf("committed %+v", c)
	}
	b.pull(a)
	if g := b.one("SELECT group_concat(id||n) FROM likes"); g != wire.Text("q12") {
		t.Error(g)
	}
	same(t, "after one transaction", a, b)

	// SQLite ends the transaction by itself: what follows is refused, not written outside of it.
	if err := a.Begin(); err != nil {
		t.Fatal(err)
	}
	if err := a.stmt("UPDATE likes SET n=n+1"); err != nil {
		t.Fatal(err)
	}
	if err := a.stmt("INSERT OR ROLLBACK INTO likes(id) VALUES('q')"); err == nil {
		t.Error("a duplicate key was taken")
	}
	if err := a.stmt("UPDATE likes SET n=n+1"); err != ErrRolledBack {
		t.Errorf("after OR ROLLBACK: %v", err)
	}
	if _, err := a.Commit(); err != ErrRolledBack {
		t.Errorf("commit after OR ROLLBACK: %v", err)
	}
	same(t, "after a transaction that SQLite rolled back", a, b)
}

func TestTransactionLimit(t *testing.T) {
	s := newSite(t, 1, Config{TxRows: 100}, ":memory:", pair)
	const many = "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM r WHERE i<?) INSERT INTO pair SELECT i,'a',1 FROM r"
	if err := s.try(many, 101); err == nil || !strings.Contains(err.Error(), "too many rows") {
		t.Fatalf("got %v", err)
	}
	s.do(many, 100)
	s.sound()
}

func TestClassify(t *testing.T) {
	for _, x := range []struct{ sql, assign string }{
		{"update t set n=n+1", ""},
		{"UPDATE crr.t AS u SET n = u.n - ?, m = 0 WHERE n > 3", "m"},
		{"update t set n = 0 where n > 5", "n"},
		{"update t set \"n\" = coalesce(t.n, 0) + 1 returning n", ""},
		{"update t set n = crr.t.n + 1", ""},
		{"insert into t(id,n) values(1,1) on conflict(id) do update set n=n+excluded.n", ""},
		{"insert into t(id,n) values(1,1) on conflict(id) do update set n=excluded.n", "n"},
		{"insert or ignore into t(id,n) values(1,1) on conflict(id) do update set n=excluded.n where n<5", "n"},
		{"with w(n) as (select 1) update t set n=(select n from w)", ""},
		{"update t set n = other.n from other where other.id=t.id", "n"},
		{"update t set (n, m) = (1, 2)", "n m"},
		{"update t set (n, m) = (n+1, 2)", "m"},
		{"update t set a = 'set n=n+1', n = 3 /* n+1 */ -- n", "a n"},
		{"update t set n = max(n-1, 0), m = ?2", "m"},
		{"update t set n = case when a is distinct from b then n+1 else 0 end", ""},
		{"update t set n = 'n' || [n]", ""},
		{"update t set n = 'n'", "n"},
		{"update or replace t indexed by i set n = :n, m=m", "n"},
		{"delete from t", ""},
		{"insert into t select id, n from u", ""},
		{"select 'unfinished", ""},
	} {
		if got := strings.Join(Classify(x.sql).assign, " "); got != x.assign {
			t.Errorf("%s: assigns %q, want %q", x.sql, got, x.assign)
		}
	}
}
