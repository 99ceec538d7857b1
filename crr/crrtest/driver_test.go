package crrtest_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/crr/crrtest"
)

const (
	likes  = "CREATE TABLE crr.likes(id TEXT PRIMARY KEY NOT NULL, n COUNTER NOT NULL DEFAULT 0)"
	kv     = "CREATE TABLE crr.kv(g INT NOT NULL, k TEXT NOT NULL, v, PRIMARY KEY(g,k))"
	dates  = "CREATE TABLE crr.dates(k BLOB PRIMARY KEY NOT NULL, d DATE, t BOOLEAN, x)"
	upsert = "INSERT INTO likes(id,n) VALUES('x',1) ON CONFLICT(id) DO UPDATE SET n=n+1"
)

// Tables over the driver of database/sql: types that it converts, NULs that it could cut, rollbacks that it doesn't tell of.
func TestOverTheDriver(t *testing.T) {
	clock := crrtest.NewClock()
	dir := t.TempDir()
	cfg := crr.Config{Now: clock.Now}
	a := crrtest.NewSite(t, filepath.Join(dir, "a"), 1, cfg, likes, kv, dates)
	b := crrtest.NewSite(t, filepath.Join(dir, "b"), 2, cfg, likes, kv, dates)
	settle := func() {
		for range 2 {
			a.Pull(b)
			b.Pull(a)
		}
	}
	a.Do("INSERT INTO dates VALUES(x'00ff','2026-11-21',1,x''),(7,'x',NULL,1.5),('seven'||char(0)||'!',0,0,'it'||char(0)||'s')")
	a.Do("INSERT INTO kv VALUES(1,'a',x'00')")
	a.Do(upsert)
	b.Do(upsert)
	settle()
	b.Do("UPDATE dates SET x='b' WHERE k=7")
	a.Do("UPDATE likes SET n=0")
	a.Do("UPDATE kv SET g=2")
	settle()
	for _, q := range []string{"SELECT n FROM likes", "SELECT group_concat(quote(k)||quote(d)||quote(t)||quote(x)) FROM (SELECT * FROM dates ORDER BY k)",
		"SELECT group_concat(hex(k)||hex(st)) FROM __crr_m3", "SELECT group_concat(hex(k)||hex(st)) FROM __crr_m2", "SELECT group_concat(g||k||quote(v)) FROM kv"} {
		if x, y := a.One(q), b.One(q); x != y || x.IsNull() {
			t.Errorf("%s: %s and %s", q, x, y)
		}
	}
	if g := a.One("SELECT n FROM likes"); g.Int() != 0 {
		t.Errorf("n is %s", g)
	}
	a.Check()
	b.Check()
	if _, err := a.Try("INSERT OR ROLLBACK INTO likes(id) VALUES('x')"); err == nil {
		t.Error("a duplicate key was taken")
	}
	a.Do(upsert)
	a.Check()
}

// A driver can't say that the functions are harmless: with trusted_schema off writes fail, they don't pass untracked.
func TestUntrustedSchema(t *testing.T) {
	a := crrtest.NewSite(t, filepath.Join(t.TempDir(), "a"), 1, crr.Config{}, likes)
	if err := a.Conn.Exec("PRAGMA trusted_schema=off"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Try(upsert); err == nil || !strings.Contains(err.Error(), "unsafe use of crr_") {
		t.Errorf("got %v", err)
	}
}
