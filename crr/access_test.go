package crr

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

// P15: a tenant's statements reach neither the functions nor the metadata; the triggers do.
func TestTenantReachesNothingInternal(t *testing.T) {
	s := newSite(t, 1, Config{}, ":memory:", likes, "CREATE VIEW top AS SELECT id FROM likes WHERE n>0")
	why, tenant := "", false
	s.conn.(engineConn).SetAuthorizer(func(a sqlite.Action) sqlite.Verdict {
		if !tenant {
			return sqlite.Allow
		}
		if r := Denied(Action{int(a.Code), a.Arg1, a.Arg2, a.Database, a.Trigger}); r != "" {
			why = r
			return sqlite.Deny
		}
		return sqlite.Allow
	})
	run := func(sql string) error {
		_, err := s.tx(func() error {
			if err := CheckText(sql); err != nil {
				return err
			}
			tenant, why = true, ""
			defer func() { tenant = false }()
			return s.stmt(sql)
		})
		return err
	}
	for _, sql := range []string{"INSERT INTO likes(id,n) VALUES('x',1)", "UPDATE likes SET n=n+1", "DELETE FROM likes", "INSERT INTO likes(id,n) VALUES('x',1) ON CONFLICT(id) DO UPDATE SET n=n+1 RETURNING n",
		"SELECT * FROM top", "SELECT name FROM crr.sqlite_schema", "PRAGMA recursive_triggers"} {
		if err := run(sql); err != nil {
			t.Errorf("%s: %v (%s)", sql, err, why)
		}
	}
	before := s.dump(true)
	for _, sql := range []string{"SELECT crr_lseq()", "SELECT CRR_INS(1,'x',NULL,1)", "UPDATE __crr_m1 SET st=x''", "DELETE FROM crr.__crr_vv", "SELECT * FROM __crr_self", "DROP TRIGGER crr.__crr_i1", "DROP TABLE crr.likes", "DROP VIEW top",
		"DROP TABLE crr.__crr_m1", "PRAGMA recursive_triggers=1", "PRAGMA trusted_schema=off", "PRAGMA ignore_check_constraints=1", "PRAGMA writable_schema=1",
		"CREATE TEMP TRIGGER z AFTER INSERT ON likes BEGIN SELECT 1; END", "CREATE TRIGGER crr.z AFTER INSERT ON likes BEGIN SELECT 1; END", "CREATE TABLE crr.t(a)", "CREATE INDEX crr.i ON likes(n)", "CREATE VIEW crr.w AS SELECT 1",
		"ALTER TABLE likes ADD COLUMN x", "INSERT INTO likes(id,n) SELECT 'y', crr_lseq()", "WITH __crr_i1 AS (SELECT crr_lseq() AS a) SELECT a FROM __crr_i1", "WITH '__crr_x' AS (SELECT st FROM crr.__crr_m1) SELECT * FROM \"__CRR_x\"",
		"UPDATE crr.sqlite_schema SET sql=''"} {
		if err := run(sql); err == nil {
			t.Errorf("%s: taken", sql)
		}
		if g := s.dump(true); g != before {
			t.Fatalf("%s changed something", sql)
		}
	}
	// Without the look at its text a CTE would pass for a trigger: what Denied says of itself holds.
	if Denied(Action{Code: 31, Arg2: "crr_lseq", Trigger: "__crr_i1"}) != "" {
		t.Error("the tracking is not let pass")
	}
}

// crr_stamp tells who wrote what.
func TestStamp(t *testing.T) {
	clock, a, b := two(t, likes, kv)
	a.do("INSERT INTO likes VALUES('x',0,'n'),('z',0,'n')")
	a.do("INSERT INTO kv VALUES(1,'k','v')")
	settle(a, b)
	clock.add(time.Minute)
	b.do("UPDATE likes SET note='late', n=n+1 WHERE id='x'")
	b.do("UPDATE kv SET v='w'")
	b.do("DELETE FROM likes WHERE id='z'")
	settle(a, b)
	if err := a.conn.Register(StampFunc(a.conn)); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ sql, want string }{
		{"crr_stamp('likes','x','note')", `"site":2,"time":"2023-11-14T22:14:20Z"`},
		{"crr_stamp('likes','x','note')", `"what":"write"`},
		{"crr_stamp('likes','x','n')", `"what":"add"`},
		{"crr_stamp('likes','x',NULL)", `"site":1,"time":"2023-11-14T22:13:20Z"`},
		{"crr_stamp('likes','z',NULL)", `"what":"delete"`},
		{"crr_stamp('kv',1,'k','v')", `"site":2`},
	} {
		if g := a.one("SELECT " + x.sql); !strings.Contains(g.Str(), x.want) {
			t.Errorf("%s: %s, want %s", x.sql, g, x.want)
		}
	}
	if g := a.one("SELECT crr_stamp('likes','none','n')"); !g.IsNull() {
		t.Error(g)
	}
	for _, sql := range []string{"crr_stamp('none',1,'n')", "crr_stamp('likes','x','none')", "crr_stamp('likes','x','y','n')", "crr_stamp('likes')"} {
		if err := query(a.conn, "SELECT "+sql, nil); err == nil {
			t.Errorf("%s: taken", sql)
		}
	}
}

// traps: what makes tracking slow or blind on some connection is set, and the plans are those that were meant.
func TestTraps(t *testing.T) {
	s := newSite(t, 1, Config{}, filepath.Join(t.TempDir(), "a"), likes, pair, kv, "CREATE TABLE num(k INT PRIMARY KEY NOT NULL, v TEXT COLLATE nocase)", "CREATE TABLE raw(k BLOB PRIMARY KEY NOT NULL, v)")
	for pragma, want := range map[string]string{"temp_store": "2", "crr.journal_mode": "wal", "crr.synchronous": "2"} {
		if g := s.one("PRAGMA " + pragma); strings.Trim(g.String(), `"`) != want {
			t.Errorf("PRAGMA %s is %s, want %s", pragma, g, want)
		}
	}
	// A key column of another type could not use the index to find the row.
	for _, x := range []struct {
		id  int
		key string
	}{{1, "t.id"}, {2, "t.id"}, {4, "t.k"}, {5, "t.k"}} {
		table := s.state.ByID(uint32(x.id)).Name
		plan := ""
		err := query(s.conn, fmt.Sprintf("EXPLAIN QUERY PLAN SELECT 1 FROM %s t CROSS JOIN __crr_m%d m ON m.k=%s", table, x.id, x.key), func(st Stmt) error { plan += st.Column(3).Str() + "; "; return nil })
		if err != nil || !strings.Contains(plan, "SEARCH m") {
			t.Errorf("metadata of %s: %s %v", table, plan, err)
		}
	}
	// An OR clause of the statement overrides those in triggers: the triggers have none.
	bad := s.one("SELECT count(*) FROM crr.sqlite_schema WHERE type='trigger' AND (sql LIKE '%OR REPLACE%' OR sql LIKE '%OR IGNORE%')")
	if bad.Int() != 0 {
		t.Errorf("%s triggers with an OR clause", bad)
	}
	// Another collation or type is another value.
	s.do("INSERT INTO num VALUES(1,'abc')")
	st := s.rowOf("num", 1)
	s.do("UPDATE num SET v='ABC'")
	after := s.rowOf("num", 1)
	if len(st.Cells) != 0 || len(after.Cells) != 1 {
		t.Errorf("a change of case was not tracked: %+v", after)
	}
	s.do("INSERT INTO raw VALUES(1,1)")
	s.do("UPDATE raw SET v=1.0")
	if r := s.rowOf("raw", 1); len(r.Cells) != 1 {
		t.Errorf("1 to 1.0 was not tracked: %+v", r)
	}
	// A write that changes nothing is none.
	seq := s.me.lseq
	c, err := s.tx(func() error { return s.stmt("UPDATE raw SET v=1.0") })
	if err != nil || !c.Stamp.Zero() || s.me.lseq != seq {
		t.Errorf("a write that changes nothing: %+v, %v", c, err)
	}
	// uuid7 makes keys that sort by time.
	s.do("INSERT INTO likes(id) VALUES(uuid7())")
	if g := s.one("SELECT id FROM likes"); len(g.Str()) != 36 || g.Str()[14] != '7' {
		t.Errorf("uuid7() made %s", g)
	}
	if s.one("SELECT count(*) FROM likes WHERE n=0") != wire.Integer(1) {
		t.Error("default of a COUNTER")
	}
	status := s.Status()
	if status.Site != 1 || status.Hash != s.vv.Hash() || status.Refuses != nil {
		t.Errorf("status %+v", status)
	}
}
