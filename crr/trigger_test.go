package crr

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/wire"
)

// An UPDATE is a write of what it changes in any way, and of nothing else, whatever the values are and the column is declared as.
func TestWritesAreWhatChanges(t *testing.T) {
	s := newSite(t, 1, Config{}, ":memory:",
		"CREATE TABLE crr.v(k INTEGER PRIMARY KEY NOT NULL, a, b TEXT COLLATE nocase, c REAL, d INTEGER, n COUNTER NOT NULL DEFAULT 0)")
	s.do("INSERT INTO v(k) VALUES(1)")
	values := []wire.Value{wire.Null, wire.Integer(0), wire.Integer(1), wire.Integer(math.MaxInt64), wire.Integer(math.MinInt64),
		wire.Float(1), wire.Float(0.3), wire.Float(0.1 + 0.2), wire.Float(math.Nextafter(1, 2)), wire.Float(9.223372036854775807e18), wire.Float(1.5),
		wire.Text(""), wire.Text("1"), wire.Text("a"), wire.Text("A"), wire.Text("a\x00b"), wire.Text("a\x00c"), wire.Blob([]byte("a")), wire.Blob(nil), wire.Blob([]byte{0, 1})}
	columns := s.state.Table("v").Live()
	for _, c := range columns {
		if c.Name == "n" {
			continue
		}
		for _, from := range values {
			for _, to := range values {
				s.do("UPDATE v SET "+c.Name+"=?1", from)
				was := s.rowOf("v", 1)
				before := s.one("SELECT " + c.Name + " FROM v")
				s.do("UPDATE v SET "+c.Name+"=?1", to)
				after := s.one("SELECT " + c.Name + " FROM v")
				now := s.rowOf("v", 1)
				for _, o := range columns {
					if wrote, want := now.CellAt(o.ID) != was.CellAt(o.ID), o.ID == c.ID && before != after; wrote != want {
						t.Fatalf("%s from %s to %s: is %v a write of %s, want %v", c.Name, before, after, wrote, o.Name, want)
					}
				}
			}
		}
	}
	// Assigning a counter what it is already is a write all the same: it replaces what others add.
	was := s.rowOf("v", 1)
	s.do("UPDATE v SET a=a, n=0")
	if now := s.rowOf("v", 1); now.counter(columns[4].ID).Base == nil || len(now.Cells) != len(was.Cells) {
		t.Errorf("an assignment of the same value: %+v", now)
	}
	s.sound()
}

// A file whose triggers another version made gets those of this one when it is opened.
func TestTriggersOfOtherVersions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	c := openEngine(t, path)
	s := openTester(t, c, 1, Config{}, pair, likes)
	s.do("INSERT INTO pair VALUES(1,'a',1)")
	kept := s.one("SELECT group_concat(rowid) FROM crr.sqlite_schema WHERE tbl_name='likes'")
	if err := c.Exec("DROP TRIGGER crr.__crr_u1; DROP TRIGGER crr.__crr_d1; CREATE TRIGGER crr.__crr_u1 AFTER UPDATE ON pair WHEN crr_local() BEGIN SELECT 1; END"); err != nil {
		t.Fatal(err)
	}
	before := s.rowOf("pair", 1)
	s.do("UPDATE pair SET a='unseen'") // the older version tracks nothing, in this test
	if now := s.rowOf("pair", 1); now.CellAt(1) != before.CellAt(1) {
		t.Fatal("the stand-in tracks")
	}
	s.stop()
	c.Close()
	s = newSite(t, 1, Config{}, path)
	s.do("UPDATE pair SET a='seen'")
	if now := s.rowOf("pair", 1); len(now.Cells) != 1 {
		t.Errorf("an update is not tracked: %+v", now)
	}
	s.do("DELETE FROM pair")
	if now := s.rowOf("pair", 1); now.Live() {
		t.Errorf("a delete is not tracked: %+v", now)
	}
	if now := s.one("SELECT group_concat(rowid) FROM crr.sqlite_schema WHERE tbl_name='likes'"); now != kept {
		t.Errorf("what was up to date is made anew: %s, was %s", now, kept)
	}
	if n := s.one("SELECT count(*) FROM crr.sqlite_schema WHERE type='trigger'"); n.Int() != 9 || strings.Contains(s.one("SELECT sql FROM crr.sqlite_schema WHERE name='__crr_u1'").Str(), "SELECT 1") {
		t.Errorf("%s triggers", n)
	}
	s.sound()
}

// A table may have as many columns as masks have bits: functions take that many arguments.
func TestWidestTable(t *testing.T) {
	var ddl strings.Builder
	ddl.WriteString("CREATE TABLE crr.wide(k INTEGER PRIMARY KEY NOT NULL")
	const columns = 63
	for i := range columns {
		fmt.Fprintf(&ddl, ", c%d", i)
		if i%3 == 2 {
			ddl.WriteString(" COUNTER NOT NULL DEFAULT 0")
		}
	}
	_, a, b := two(t, ddl.String()+")")
	a.do("INSERT INTO wide(k) VALUES(1)")
	for i := range columns {
		a.do(fmt.Sprintf("UPDATE wide SET c%d=%d.0", i, i+1)) // a counter takes it for an integer
	}
	a.do("UPDATE wide SET c0=c0+0.5, c62=c62+1")
	settle(a, b)
	if v := b.one("SELECT c0||','||c1||','||c62 FROM wide"); v != wire.Text("1.5,2.0,64") {
		t.Error("merged:", v)
	}
	same(t, "the widest table", a, b)
}
