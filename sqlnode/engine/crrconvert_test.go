package engine

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// converter is what a node does with the steps of a conversion.
type converter struct {
	r  *rig
	m  *crrfiles.Manager
	tn *pagestore.Tenant
}

func (c *converter) own(do func(x *sqlite.Conn) error) error {
	err := c.r.e.Own(c.r.t.Context(), c.tn, c.r.q, do)
	if err == nil {
		if _, open := c.m.Open(c.r.t.Context(), c.tn); open != nil && open != crrfiles.ErrNone {
			return open
		}
	}
	return err
}

// begin begins a conversion.
func (c *converter) begin(f func(x *sqlite.Conn, table, declare string) (*Moving, error), table, declare string) (t *Moving, err error) {
	err = c.own(func(x *sqlite.Conn) (err error) { t, err = f(x, table, declare); return err })
	return t, err
}

// fill copies the rows of a table that becomes conflict-free, at most chunks times.
func (c *converter) fill(t *Moving, chunks int) {
	c.r.t.Helper()
	f, err := c.m.Open(c.r.t.Context(), c.tn)
	if err != nil {
		c.r.t.Fatal(err)
	}
	var at Copied
	for ; !at.Done && chunks > 0; chunks-- {
		if _, err := c.r.e.OwnLocal(c.r.t.Context(), f, func(w *crrfiles.Writer) (err error) {
			at, err = t.CopyRows(w.Conn.Conn, at, 3, func(sql string) error { return w.Site.Use(crr.Classify(sql)) })
			return err
		}); err != nil {
			c.r.t.Fatal(err)
		}
	}
}

func (c *converter) drain(t *Moving) {
	c.r.t.Helper()
	var at Copied
	for !at.Done {
		next := at
		if err := c.own(func(x *sqlite.Conn) (err error) { next, err = t.CopyRows(x, at, 3, nil); return err }); err != nil {
			c.r.t.Fatal(err)
		}
		at = next
	}
}

func newConverter(t *testing.T) *converter {
	r, m := newCRRRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	c := &converter{r, m, tn}
	r.exec(tn, createLikes)
	r.exec(tn, "INSERT INTO likes(post) VALUES('first')") // the node has its number by that
	return c
}

// Wherever a conversion is cut off, the table is in one of both schemas with all rows, and it can be begun again or cancelled.
func TestConversionIsCutOff(t *testing.T) {
	const rows = `[[1 "a" 10] [2 "b" 20] [3 "c" 30] [4 "d" 40] [5 "e" 50] [6 "f" 60] [7 "g" 70]]`
	const declare = "CREATE TABLE Visits(id INTEGER PRIMARY KEY, page TEXT, n COUNTER NOT NULL DEFAULT 0)"
	c := newConverter(t)
	r, tn := c.r, c.tn
	r.exec(tn, "CREATE TABLE visits(id INTEGER PRIMARY KEY, page TEXT, n INTEGER NOT NULL DEFAULT 0)")
	r.exec(tn, "CREATE INDEX visits_page ON visits(page) WHERE page IS NOT NULL")
	r.exec(tn, "INSERT INTO visits VALUES(1,'a',10),(2,'b',20),(3,'c',30),(4,'d',40),(5,'e',50),(6,'f',60),(7,'g',70)")
	closed := func() {
		t.Helper()
		for _, sql := range []string{"INSERT INTO visits VALUES(8,'h',80)", "INSERT OR IGNORE INTO visits VALUES(8,'h',80)", "REPLACE INTO visits VALUES(1,'x',1)",
			"UPDATE visits SET n=n+1", "UPDATE OR IGNORE visits SET n=0", "DELETE FROM visits WHERE id=1"} {
			if _, err := r.do(tn, one(sql)); err == nil || !strings.Contains(err.Message, "being made conflict-free") {
				t.Fatalf("%s: %v", sql, err)
			}
		}
		r.want(tn, "SELECT * FROM main.visits ORDER BY 1", rows)
	}
	for _, chunks := range []int{0, 1, 2, 9} { // begun and cut off, again and again: never twice what was there
		m, err := c.begin(AdoptBegin, "VISITS", declare)
		if err != nil {
			t.Fatal(err)
		}
		closed()
		c.fill(m, chunks)
		closed()
	}
	// Nobody uses what is on its way.
	via := ""
	if err := c.own(func(x *sqlite.Conn) error {
		state, err := mover{x}.state()
		if list := moving(state, adoptingPrefix, "visits"); err == nil && len(list) == 1 {
			via = list[0].Name
		}
		return err
	}); err != nil || via == "" {
		t.Fatal(via, err)
	}
	for _, sql := range []string{"SELECT * FROM " + via, "INSERT INTO crr." + via + " VALUES(9,'x',1)", "DELETE FROM " + via, "DROP TABLE crr." + via,
		"ALTER TABLE crr." + via + " RENAME TO mine", "DROP TRIGGER _nearsql_frozen_insert_visits", "ALTER TABLE crr.likes RENAME TO nearsql_releasing_1_x", "CREATE TABLE crr.nearsql_adopting_7_y(id TEXT PRIMARY KEY NOT NULL)"} {
		r.refused(tn, one(sql), wire.CodeSQLNotAllowed)
	}
	if err := c.own(func(x *sqlite.Conn) error { _, err := AdoptCancel(x, "visits"); return err }); err != nil {
		t.Fatal(err)
	}
	r.exec(tn, "UPDATE visits SET n=n+1 WHERE id=1")
	r.exec(tn, "UPDATE visits SET n=n-1 WHERE id=1")
	m, err := c.begin(AdoptBegin, "visits", declare)
	if err != nil {
		t.Fatal(err)
	}
	c.fill(m, 9)
	if err := c.own(func(x *sqlite.Conn) error { return AdoptEnd(x, m) }); err != nil {
		t.Fatal(err)
	}
	r.want(tn, "SELECT * FROM crr.visits ORDER BY 1", rows)
	r.want(tn, "UPDATE visits SET n=n+1 WHERE id=7 RETURNING n", `[[71]]`)
	r.want(tn, "UPDATE visits SET n=n-1 WHERE id=7 RETURNING n", `[[70]]`)
	r.refused(tn, one("SELECT * FROM main.visits"), wire.CodeSQLiteError)
	r.want(tn, "SELECT name FROM crr.sqlite_schema WHERE type='index' AND tbl_name='visits'", `[["visits_page"]]`)
	if m, err := c.begin(AdoptBegin, "visits", ""); err != nil || !m.Done {
		t.Fatalf("%+v %v", m, err)
	}
	// The way back: from the first step on nobody writes it, and it is again what it was when it is cancelled.
	for range 2 {
		if m, err = c.begin(ReleaseBegin, "visits", ""); err != nil {
			t.Fatal(err)
		}
		r.refused(tn, one("UPDATE visits SET n=n+1"), wire.CodeSQLiteError)
	}
	if err := c.own(func(x *sqlite.Conn) error { _, err := ReleaseCancel(x, "visits"); return err }); err != nil {
		t.Fatal(err)
	}
	r.want(tn, "SELECT * FROM crr.visits ORDER BY 1", rows)
	if m, err = c.begin(ReleaseBegin, "visits", ""); err != nil {
		t.Fatal(err)
	}
	if m, err = c.begin(ReleaseBegin, "visits", ""); err != nil { // as after a crash
		t.Fatal(err)
	}
	c.drain(m)
	if err := c.own(func(x *sqlite.Conn) error { return ReleaseEnd(x, m) }); err != nil {
		t.Fatal(err)
	}
	r.want(tn, "SELECT * FROM main.visits ORDER BY 1", rows)
	r.want(tn, "SELECT name FROM main.sqlite_schema WHERE tbl_name='visits' ORDER BY 1", `[["visits"] ["visits_page"]]`)
	r.exec(tn, "INSERT INTO visits VALUES(8,'h',80)")
	r.want(tn, "SELECT count(*) FROM main.sqlite_schema WHERE name LIKE '\\_nearsql\\_frozen%' ESCAPE '\\' OR name LIKE '\\_nearsql\\_aside%' ESCAPE '\\'", `[[0]]`)
	if m, err := c.begin(ReleaseBegin, "visits", ""); err != nil || !m.Done {
		t.Fatalf("%+v %v", m, err)
	}
}

// What could not be kept is refused before anything is changed.
func TestConversionsRefused(t *testing.T) {
	c := newConverter(t)
	r, tn := c.r, c.tn
	for _, sql := range []string{
		"CREATE TABLE nokey(a, b)", "CREATE TABLE uniq(id TEXT PRIMARY KEY NOT NULL, a UNIQUE)", "CREATE TABLE idx(id TEXT PRIMARY KEY NOT NULL, a)", "CREATE UNIQUE INDEX idx_a ON idx(a)",
		"CREATE TABLE parent(id TEXT PRIMARY KEY NOT NULL)", "CREATE TABLE child(id TEXT PRIMARY KEY NOT NULL, p REFERENCES parent(id))",
		"CREATE TABLE seen(id TEXT PRIMARY KEY NOT NULL)", "CREATE VIEW of_seen AS SELECT id FROM seen",
		"CREATE TABLE fires(id TEXT PRIMARY KEY NOT NULL)", "CREATE TRIGGER fires_i AFTER INSERT ON fires BEGIN SELECT 1; END",
		"CREATE VIRTUAL TABLE words USING fts5(a)", "CREATE TABLE fine(id TEXT PRIMARY KEY NOT NULL, a, b AS (a+1))", "INSERT INTO fine(id,a) VALUES('x',1)",
		"CREATE VIEW crr.of_likes AS SELECT post FROM likes",
	} {
		r.exec(tn, sql)
	}
	for _, x := range []struct{ table, declare, want string }{
		{"nokey", "", "PRIMARY KEY"}, {"uniq", "", "UNIQUE"}, {"idx", "", "UNIQUE"}, {"child", "", "FOREIGN KEY"}, {"parent", "", "table child"}, {"seen", "", "view of_seen"},
		{"fires", "", "trigger fires_i"}, {"words", "", "CREATE TABLE"}, {"nothere", "", "no strong table"}, {"sqlite_schema", "", "no strong table"}, {"__crr_site", "", "not the tenant's own"},
		{"fine", "CREATE TABLE fine(id TEXT PRIMARY KEY NOT NULL)", "column a"}, {"fine", "CREATE TABLE other(id TEXT PRIMARY KEY NOT NULL, a)", "CREATE TABLE fine"},
		{"fine", "DROP TABLE fine", "CREATE TABLE fine"}, {"fine", "CREATE TABLE fine(id TEXT PRIMARY KEY NOT NULL, a", ""}, {"fine", "CREATE TABLE fine(id TEXT PRIMARY KEY NOT NULL, a); DROP TABLE likes", ""},
	} {
		_, err := c.begin(AdoptBegin, x.table, x.declare)
		if err == nil || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), adoptingPrefix) {
			t.Errorf("%s %s: got %v, want %s", x.table, x.declare, err, x.want)
		}
	}
	for _, x := range []struct{ table, declare, want string }{
		{"likes", "", "of_likes"}, {"nothere", "", "no conflict-free table"}, {"__crr_site", "", "not the tenant's own"},
	} {
		if _, err := c.begin(ReleaseBegin, x.table, x.declare); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: got %v, want %s", x.table, err, x.want)
		}
	}
	r.exec(tn, "DROP VIEW crr.of_likes")
	if _, err := c.begin(ReleaseBegin, "likes", "CREATE TABLE likes(post TEXT PRIMARY KEY, n)"); err == nil || !strings.Contains(err.Error(), "column title") {
		t.Error(err)
	}
	r.want(tn, "SELECT post FROM likes", `[["first"]]`)
	r.exec(tn, "INSERT INTO fine(id,a) VALUES('y',1)")
	// A column's values keep their place, whatever the order; generated ones are made anew.
	m, err := c.begin(AdoptBegin, "fine", "CREATE TABLE fine(b AS (a*10), more DEFAULT 'm', a, id TEXT NOT NULL PRIMARY KEY)")
	if err != nil {
		t.Fatal(err)
	}
	c.fill(m, 9)
	if err := c.own(func(x *sqlite.Conn) error { return AdoptEnd(x, m) }); err != nil {
		t.Fatal(err)
	}
	r.want(tn, "SELECT id, a, b, more FROM fine ORDER BY id", `[["x" 1 10 "m"] ["y" 1 10 "m"]]`)
}

// A table that was changed while its rows were copied is not given up.
func TestAdoptedTableWasChanged(t *testing.T) {
	c := newConverter(t)
	r, tn := c.r, c.tn
	r.exec(tn, "CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL) WITHOUT ROWID")
	r.exec(tn, "INSERT INTO t VALUES('a'),('b'),('c'),('d')")
	m, err := c.begin(AdoptBegin, "t", "")
	if err != nil {
		t.Fatal(err)
	}
	c.fill(m, 1)
	f, err := c.m.Open(t.Context(), tn)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Write(t.Context(), func(w *crrfiles.Writer) error { return m.CheckRows(w.Conn.Conn) }); err == nil {
		t.Error("a table of 4 rows of which 3 were copied was found whole")
	}
	r.exec(tn, "ALTER TABLE t ADD COLUMN more DEFAULT 7")
	if err := c.own(func(x *sqlite.Conn) error { return AdoptEnd(x, m) }); err == nil || !strings.Contains(err.Error(), "changed meanwhile") {
		t.Fatal(err)
	}
	r.want(tn, "SELECT count(*), sum(more) FROM t", `[[4 28]]`)
	// Under another name it is opened by the old one.
	r.exec(tn, "ALTER TABLE t RENAME TO u")
	if _, err := r.do(tn, one("DELETE FROM u")); err == nil {
		t.Error("it takes writes under another name")
	}
	if err := c.own(func(x *sqlite.Conn) error { _, err := AdoptCancel(x, "t"); return err }); err != nil {
		t.Fatal(err)
	}
	r.exec(tn, "DELETE FROM u")
}

// A read says what it saw of conflict-free tables, and where there are none of them here their names are known all the same.
func TestReadsOfConflictFreeTables(t *testing.T) {
	r, _ := newCRRRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE strong(a)")
	r.exec(tn, createLikes)
	_, w, err := r.doCtx(t.Context(), tn, one("INSERT INTO likes(post,n) VALUES('a',1)"))
	if err != nil || !w.Local || w.Stamp.Zero() {
		t.Fatalf("%+v %v", w, err)
	}
	_, x, err := r.doCtx(t.Context(), tn, one("SELECT * FROM likes"))
	if err != nil || !x.Tables || x.Seen[w.Stamp.Site] != w.Stamp.HLC {
		t.Fatalf("%+v %v", x, err)
	}
	if _, x, err = r.doCtx(t.Context(), tn, one("SELECT * FROM strong")); err != nil || x.Tables || x.Seen != nil {
		t.Fatalf("%+v %v", x, err)
	}
	// A node without such tables of its own knows their names from main, and nothing else.
	e, m := r.node(t, "n2")
	e.cfg.Site = func(*pagestore.Tenant) bool { return false }
	r.control(tn.ID(), tenant.TablesChanged{Time: tenant.Millis(time.Now()), Version: 1})
	for sql, reads := range map[string]bool{"SELECT * FROM strong": false, "SELECT * FROM likes": true, `SELECT * FROM "Likes"`: true} {
		if got := e.ReadsCRR(tn, one(sql)); got != reads {
			t.Errorf("%s: %v", sql, got)
		}
	}
	if e.NeedsPrimary(tn, one("UPDATE likes SET n=n+1")) || !e.NeedsPrimary(tn, one("UPDATE strong SET a=1")) {
		t.Error("writes are not told apart")
	}
	if _, err := e.Execute(t.Context(), tn, r.q, one("SELECT * FROM likes"), noSink{}); err == nil {
		t.Error("it answers for tables that it does not have")
	}
	if _, err := os.Stat(m.Path(tn.ID())); err == nil {
		t.Error("it has made a file")
	}
	for sql, says := range map[string]bool{"SELECT * FROM crr.likes": true, "INSERT INTO crr.likes(post) VALUES('b')": true, "SELECT * FROM likes": false,
		"INSERT INTO main.strong SELECT n FROM crr.likes": false, "CREATE TABLE crr.x(a)": false, "UPDATE likes SET n=1": false, "SELECT 'crr.likes'": false} {
		if got := SaysCRR(one(sql)); got != says {
			t.Errorf("%s: %v", sql, got)
		}
	}
}
