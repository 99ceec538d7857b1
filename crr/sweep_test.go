package crr

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// A pass in steps drops what Collect drops at once, over all tables; then nothing is looked at until a member acknowledges more.
func TestSweep(t *testing.T) {
	clock, ss := several(t, 2, likes, pair)
	a, b := ss[0], ss[1]
	for i := range 25 {
		a.do(fmt.Sprintf("INSERT INTO likes(id,n) VALUES('r%02d',1)", i))
		a.do(fmt.Sprintf("INSERT INTO pair VALUES(%d,'a','b')", i))
	}
	clock.add(time.Second)
	a.do("DELETE FROM likes WHERE id<'r20'")
	a.do("DELETE FROM pair WHERE rowid%2=0")
	a.do("INSERT INTO likes(id,n) VALUES('r00',5)")
	step := func() Collected {
		t.Helper()
		got, err := a.Sweep(7)
		if err != nil {
			t.Fatal(err)
		}
		if got.Looked > 7 {
			t.Fatalf("a step looked at %d rows", got.Looked)
		}
		return got
	}
	pass := func() (sum Collected) {
		t.Helper()
		for range 100 {
			got := step()
			sum.Tombstones, sum.Forgotten, sum.Looked = sum.Tombstones+got.Tombstones, sum.Forgotten+got.Forgotten, sum.Looked+got.Looked
			if !got.More {
				return sum
			}
		}
		t.Fatal("a pass does not end")
		return sum
	}
	if got := step(); got.Looked != 0 {
		t.Errorf("before anybody has anything: %+v", got)
	}
	settle(a, b)
	if err := a.Heard(2, b.me.File, b.vv); err != nil {
		t.Fatal(err)
	}
	dead := 19 + int(a.one("SELECT count(*) FROM __crr_m2 WHERE k NOT IN (SELECT "+a.keyOf("pair")+" FROM pair)").Int())
	if got := pass(); got.Tombstones != dead || got.Forgotten != 1 {
		t.Errorf("collected %+v, want %d and 1", got, dead)
	}
	if got, err := a.Collect(100); err != nil || got.Tombstones+got.Forgotten != 0 {
		t.Errorf("it left %+v, %v", got, err)
	}
	if got := step(); got.Looked != 0 {
		t.Errorf("looked again for nothing: %+v", got)
	}
	a.sound()
}

// keyOf is how the metadata names the rows of a table.
func (s *tester) keyOf(table string) string {
	for _, def := range s.state.Tables {
		if def.Name == table {
			if len(def.Key) > 1 {
				return "crr_key(" + newTable(def).keyNames("%", ",") + ")"
			}
			return newTable(def).keyNames("%", ",")
		}
	}
	s.t.Fatalf("no table %s", table)
	return ""
}

// A file takes the rows of a copy, as another site without a number; its tables are tracked as before, and it converges with the others.
func TestReplace(t *testing.T) {
	clock := newTestClock()
	cfg := Config{Now: clock.off(0)}
	dir := t.TempDir()
	a := newSite(t, 1, cfg, filepath.Join(dir, "a"), likes, pair)
	b := newSite(t, 2, cfg, ":memory:", likes, pair)
	a.do("INSERT INTO likes(id,n,note) VALUES('x',1,'a'),('y',1,'a')")
	a.do("INSERT INTO pair VALUES(1,'a','b')")
	b.pull(a)
	clock.add(time.Second)
	a.do("DELETE FROM likes WHERE id='y'")
	a.do("UPDATE likes SET n=n+5, note='later'")
	b.do("INSERT INTO likes(id,n) VALUES('only b',1)")
	path := filepath.Join(dir, "copy")
	if err := Snapshot(openEngine(t, filepath.Join(dir, "a")), "file:"+path+"?vfs=unix"); err != nil {
		t.Fatal(err)
	}
	r := OpenReader(openEngine(t, path))
	copied, err := r.CheckCopy(b.me.Tenant)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Accepts(copied); err != nil {
		t.Fatal(err)
	}
	r.Close()
	was, seq := b.me.File, b.Head().Seq
	id := FileID{7}
	if err := b.Begin(); err != nil {
		t.Fatal(err)
	}
	if err := b.Replace("file:"+path+"?vfs=unix", id); err == nil {
		t.Fatal("replaced within a transaction")
	}
	if err := b.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := b.Replace("file:"+path+"?vfs=unix", id); err != nil {
		t.Fatal(err)
	}
	h := b.Head()
	if h.File != id || h.File == was || h.Site != 0 || h.Seq < seq || !h.Vector.Covers(a.vv) || h.Vector[2] != 0 {
		t.Errorf("it is %+v", h)
	}
	if err := b.try(upsertX); err != ErrNoSite {
		t.Fatalf("it writes without a number: %v", err)
	}
	if err := b.Adopt(id, 3); err != nil {
		t.Fatal(err)
	}
	clock.add(time.Second)
	b.do(upsertX)
	settle(a, b)
	if g := a.one("SELECT group_concat(id||n||coalesce(note,'')) FROM likes"); g.Str() != "x7later" {
		t.Errorf("got %s", g)
	}
	same(t, "after a replacement", a, b)
	a.sound()
	b.sound()
	// Another schema, a file with a number, none at all: nothing is changed.
	before := b.dump(true)
	other := newSite(t, 0, cfg, filepath.Join(dir, "other"), likes)
	_ = other
	var schemaErr *SchemaError
	if err := b.Replace("file:"+filepath.Join(dir, "other")+"?vfs=unix", FileID{8}); !errors.As(err, &schemaErr) {
		t.Errorf("another schema: %v", err)
	}
	var copyErr *CopyError
	if err := b.Replace("file:"+filepath.Join(dir, "a")+"?vfs=unix", FileID{8}); !errors.As(err, &copyErr) {
		t.Errorf("a file with a number: %v", err)
	}
	if err := b.Replace("file:"+filepath.Join(dir, "none")+"?vfs=unix", FileID{8}); err == nil {
		t.Error("no file")
	}
	if b.me.File != id || b.dump(true) != before {
		t.Error("it is not what it was")
	}
	b.do(upsertX)
}

// A member that has more of a retired site than counts is found by itself, and what it has is no copy for others.
func TestTainted(t *testing.T) {
	_, ss := several(t, 3, likes)
	a, b, c := ss[0], ss[1], ss[2]
	a.do(upsertX)
	final := a.me.hlc
	c.pull(a)
	a.do(upsertX)
	b.pull(a)
	ms := []Member{{1, a.me.File, Retired, final}, {2, b.me.File, Active, 0}, {3, c.me.File, Active, 0}}
	b.SetMembers(ms)
	c.SetMembers(ms)
	if b.Tainted() != 1 || c.Tainted() != 0 {
		t.Errorf("tainted are %d and %d", b.Tainted(), c.Tainted())
	}
	copied := b.Head()
	copied.Site = 0
	if err := c.Accepts(copied); !errors.As(err, new(*MemberError)) {
		t.Errorf("got %v", err)
	}
}
