package crr

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/wire"
	"pgregory.net/rapid"
)

const upsertX = "INSERT INTO likes(id,n) VALUES('x',1) ON CONFLICT(id) DO UPDATE SET n=n+1"

// P11: a backup under a new number converges, and its counters are right.
func TestBackupUnderANewNumber(t *testing.T) {
	clock := newTestClock()
	cfg := Config{Now: clock.off(0)}
	dir := t.TempDir()
	backup := filepath.Join(dir, "backup")
	a := newSite(t, 1, cfg, filepath.Join(dir, "a"), likes)
	b := newSite(t, 2, cfg, ":memory:", likes)
	ex := func(s *tester, n int) {
		for range n {
			clock.add(3 * time.Millisecond)
			s.do(upsertX)
		}
	}
	ex(a, 5)
	ex(b, 3)
	settle(a, b)
	if err := Snapshot(openEngine(t, filepath.Join(dir, "a")), "file:"+backup+"?vfs=unix"); err != nil {
		t.Fatal(err)
	}
	ex(a, 7)
	settle(a, b) // 15, known to b
	ex(b, 1)
	// The machine is lost; the backup holds 8.
	c := newSite(t, 0, cfg, backup)
	if id := c.Identity(); id.Site != 0 || id.File == a.me.File {
		t.Fatalf("the backup has an identity: %+v", id)
	}
	if err := c.try(upsertX); err != ErrNoSite {
		t.Fatalf("a write without a number: %v", err)
	}
	if err := c.Adopt(c.me.File, 1); err == nil {
		t.Fatal("it took a number whose transactions it has")
	}
	if err := c.Adopt(a.me.File, 9); err == nil {
		t.Fatal("it took a number of another file")
	}
	if err := c.Adopt(c.me.File, 9); err != nil {
		t.Fatal(err)
	}
	ex(c, 2) // before it has talked to anybody
	settle(b, c)
	for _, s := range []*tester{b, c} {
		if g := s.one("SELECT n FROM likes"); g.Int() != 18 {
			t.Errorf("site %d: %s, want 18", s.me.Site, g)
		}
		s.sound()
	}
	same(t, "after a restore", b, c)
}

// A copy of a file with its identity is found out, by a peer or by the node, and writes under another number.
func TestRewoundFile(t *testing.T) {
	clock := newTestClock()
	cfg := Config{Now: clock.off(0)}
	for _, how := range []string{"request", "answer", "node"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			a := newSite(t, 1, cfg, filepath.Join(dir, "a"), likes)
			b := newSite(t, 2, cfg, ":memory:", likes)
			a.do(upsertX)
			if err := a.conn.Exec("VACUUM crr INTO '" + filepath.Join(dir, "old") + "'"); err != nil {
				t.Fatal(err)
			}
			clock.add(time.Second)
			a.do(upsertX)
			b.pull(a)
			old := newSite(t, 0, cfg, filepath.Join(dir, "old"))
			var err error
			switch how {
			case "request":
				err = old.Heard(2, b.me.File, b.vv)
			case "answer":
				frames, aerr := b.answer(old.Request(2, b.me.File))
				if aerr != nil {
					t.Fatal(aerr)
				}
				_, err = old.take(frames)
			case "node":
				err = old.CheckSent(a.me.File, a.me.hlc)
			}
			if e := new(RewoundError); !errors.As(err, &e) || e.Site != 1 {
				t.Fatalf("got %v", err)
			}
			if err := old.try(upsertX); err != ErrNoSite {
				t.Fatalf("a rewound file wrote: %v", err)
			}
			if err := old.Adopt(old.me.File, 3); err != nil {
				t.Fatal(err)
			}
			clock.add(time.Second)
			old.do(upsertX)
			settle(old, b)
			if g := b.one("SELECT n FROM likes"); g.Int() != 3 {
				t.Errorf("%s, want 3", g)
			}
			same(t, "after a rewind", old, b)
		})
	}
}

// Somebody who comes back from before collected tombstones can't be told of them by a batch: he is told so, and a
// row that was deleted stays away.
func TestReturnFromBeforeCollection(t *testing.T) {
	clock := newTestClock()
	cfg := Config{Now: clock.off(0)}
	dir := t.TempDir()
	a := newSite(t, 1, cfg, filepath.Join(dir, "a"), likes)
	b := newSite(t, 2, cfg, ":memory:", likes)
	membersOf(a, b)
	a.do(upsertX)
	settle(a, b)
	if err := Snapshot(openEngine(t, filepath.Join(dir, "a")), "file:"+filepath.Join(dir, "old")+"?vfs=unix"); err != nil {
		t.Fatal(err)
	}
	clock.add(time.Second)
	b.do("DELETE FROM likes")
	settle(a, b)
	for _, s := range []*tester{a, b} {
		if c, err := s.Collect(10); err != nil || c.Tombstones != 1 {
			t.Fatalf("collected %+v, %v", c, err)
		}
	}
	old := newSite(t, 0, cfg, filepath.Join(dir, "old"))
	_, err := a.answer(old.Request(1, a.me.File))
	if e := new(BehindError); !errors.As(err, &e) {
		t.Fatalf("an answer without the delete: %v", err)
	}
	// A new site that has nothing may pull, and knows then what it can't tell others.
	fresh := newSite(t, 3, cfg, ":memory:", likes)
	fresh.pull(a)
	_, err = fresh.answer(old.Request(3, fresh.me.File))
	if e := new(BehindError); !errors.As(err, &e) {
		t.Fatalf("a relay answered without the delete: %v", err)
	}
	// A snapshot tells everything.
	copied := filepath.Join(dir, "new")
	if err := Snapshot(openEngine(t, filepath.Join(dir, "a")), "file:"+copied+"?vfs=unix"); err != nil {
		t.Fatal(err)
	}
	again := newSite(t, 4, cfg, copied)
	again.pull(b)
	if g := again.one("SELECT count(*) FROM likes"); g.Int() != 0 {
		t.Error("the row is back")
	}
}

// P12: a batch from the future is held, later taken; and a site whose own clock is off does not write.
func TestSkew(t *testing.T) {
	clock := newTestClock()
	a := newSite(t, 1, Config{Now: clock.off(time.Hour)}, ":memory:", likes)
	b := newSite(t, 2, Config{Now: clock.off(0)}, ":memory:", likes)
	a.do(upsertX)
	frames, err := a.answer(b.Request(1, a.me.File))
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.take(frames)
	if e := new(SkewError); !errors.As(err, &e) || e.Stamp.Site != 1 {
		t.Fatalf("got %v", err)
	}
	if b.vv[1] != 0 || b.one("SELECT count(*) FROM likes").Int() != 0 {
		t.Fatal("something of the batch was taken")
	}
	b.do(upsertX) // and b's own clock was not carried away
	if h := b.me.hlc.Time(); h.After(clock.at.Add(time.Second)) {
		t.Fatalf("stamped %v", h)
	}
	clock.add(time.Hour)
	if _, err = b.take(frames); err != nil {
		t.Fatal(err)
	}
	if g := b.one("SELECT n FROM likes"); g.Int() != 2 {
		t.Error(g)
	}
	b.SetOffset(6 * time.Second)
	if e := new(ClockError); !errors.As(b.try(upsertX), &e) {
		t.Error("a site with a clock that is off wrote")
	}
	b.SetOffset(-time.Second)
	b.do(upsertX)
	clock.add(-10 * time.Minute)
	if e := new(ClockError); !errors.As(b.try(upsertX), &e) {
		t.Error("a site whose clock went back wrote what others would hold")
	}
}

// Members: strangers and retired sites are refused, up to their final reading everything counts.
func TestMembers(t *testing.T) {
	clock, a, b := two(t, likes)
	membersOf(a, b)
	a.do(upsertX)
	final := a.me.hlc
	early, err := a.answer(b.Request(1, a.me.File))
	if err != nil {
		t.Fatal(err)
	}
	clock.add(time.Second)
	a.do(upsertX)
	c := newSite(t, 3, Config{Now: clock.off(0)}, ":memory:", likes)
	c.pull(a)
	want := func(what string, frames [][]byte, reason string) {
		t.Helper()
		_, err := b.take(frames)
		e := new(MemberError)
		if !errors.As(err, &e) || !strings.Contains(e.Reason, reason) {
			t.Errorf("%s: %v, want %q", what, err, reason)
		}
	}
	relayed, err := c.answer(b.Request(3, c.me.File))
	if err != nil {
		t.Fatal(err)
	}
	want("a stranger", relayed, "not a site")
	ms := []Member{{1, a.me.File, Retired, final}, {2, b.me.File, Active, 0}, {3, c.me.File, Active, 0}}
	b.SetMembers(ms)
	a.SetMembers(ms)
	want("a retired sender", early, "retired")
	want("transactions after the final one", relayed, "retired at")
	b.SetMembers([]Member{{2, b.me.File, Active, 0}, {3, FileID{9}, Active, 0}})
	want("another file", relayed, "another file")
	if err := a.try(upsertX); err != ErrLeaving {
		t.Errorf("a retired site wrote: %v", err)
	}
	// Up to the final reading a relay's batch is taken.
	d := newSite(t, 4, Config{Now: clock.off(0)}, ":memory:", likes)
	if _, err := d.take(early); err != nil {
		t.Fatal(err)
	}
	b.SetMembers(append(ms, Member{4, d.me.File, Active, 0}))
	b.pull(d)
	if g := b.one("SELECT n FROM likes"); g.Int() != 1 {
		t.Error(g)
	}
}

// Salvage: what a retired site alone had comes back as fresh writes, once.
func TestSalvage(t *testing.T) {
	clock := newTestClock()
	cfg := Config{Now: clock.off(0)}
	dir := t.TempDir()
	a := newSite(t, 1, cfg, filepath.Join(dir, "a"), likes, pair)
	b := newSite(t, 2, cfg, ":memory:", likes, pair)
	a.do("INSERT INTO likes VALUES('keep',1,'k'),('gone',1,'g'),('reset',5,'r'),('drop',1,'d'),('mine',1,'m')")
	a.do("INSERT INTO pair VALUES(1,'a','b')")
	settle(a, b)
	tick := func() { clock.add(time.Second) }
	tick()
	// a is cut off and goes on.
	a.do("UPDATE likes SET n=n+10 WHERE id='keep'")
	a.do("UPDATE likes SET n=n+10, note='late' WHERE id='gone'")
	a.do("UPDATE likes SET n=100 WHERE id='reset'")
	a.do("UPDATE likes SET n=n+1 WHERE id='reset'")
	a.do("DELETE FROM likes WHERE id='drop'")
	a.do("INSERT INTO likes VALUES('new',7,'only a')")
	a.do("UPDATE pair SET a='old a', b='a'")
	tick()
	b.do("DELETE FROM likes WHERE id='gone'")
	b.do("UPDATE likes SET n=n+2 WHERE id='keep'")
	b.do("UPDATE pair SET a='newer b'")
	// It is retired and comes back under a new number, from a copy of b's state.
	c := newSite(t, 3, cfg, ":memory:", likes, pair)
	c.pull(b)
	old := OpenReader(openEngine(t, filepath.Join(dir, "a")))
	defer old.Close()
	for round := range 2 {
		tick()
		got, err := c.Salvage(old, 1)
		if err != nil {
			t.Fatal(err)
		}
		if (round == 1) != got.Done || round == 0 && (got.Rows != 5 || got.Lost != 2) {
			t.Errorf("round %d: %+v", round, got)
		}
		settle(b, c)
		if g := b.one("SELECT group_concat(id||n||note) FROM (SELECT * FROM likes ORDER BY id)"); g != wire.Text("keep13k,mine1m,new7only a,reset101r") {
			t.Errorf("round %d: %s", round, g)
		}
		if g := b.one("SELECT a||b FROM pair"); g != wire.Text("newer ba") {
			t.Errorf("round %d: %s", round, g)
		}
		c.sound()
		same(t, "after salvage", b, c)
	}
	if g := c.one("SELECT group_concat(k||' '||what) FROM __crr_lost"); g != wire.Text("gone row,1 a") {
		t.Errorf("lost: %s", g)
	}
}

// A file that is put back from an older copy may have lost only what it had from others: its own transactions are all there, and it keeps its number. What it writes
// then reaches those, too, who had taken more of what the file was than it has now.
func TestRestoredFileIsAskedFromItsBeginning(t *testing.T) {
	clock := newTestClock()
	cfg := Config{Now: clock.off(0)}
	dir := t.TempDir()
	now, older := filepath.Join(dir, "a"), filepath.Join(dir, "older")
	a, b, c := newSite(t, 1, cfg, now, likes), newSite(t, 2, cfg, ":memory:", likes), newSite(t, 3, cfg, ":memory:", likes)
	a.do(upsertX)
	settle(a, b, c)
	if err := a.conn.Exec("VACUUM crr INTO 'file:" + older + "?vfs=unix'"); err != nil {
		t.Fatal(err)
	}
	for range 9 {
		clock.add(time.Second)
		c.do(upsertX)
		a.pull(c)
		b.pull(a)
	}
	was := a.me.lseq
	a = newSite(t, 1, cfg, older)
	clock.add(time.Second)
	a.do(upsertX)
	if a.me.Site != 1 || a.me.lseq >= was {
		t.Fatalf("site %d at its transaction %d, was at %d", a.me.Site, a.me.lseq, was)
	}
	b.pull(a)
	if got := b.one("SELECT n FROM likes"); got.Int() != 11 {
		t.Errorf("n is %s, want 11", got)
	}
	settle(a, b, c)
	same(t, "after a file was put back", a, b, c)
}

func TestCursors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		run := rapid.Uint32Range(1, 1<<31-1).Draw(t, "run")
		lseq := rapid.Int64Range(0, 1<<40).Draw(t, "newest")
		at := lseq - rapid.Int64Range(0, min(lseq, cursorMask)).Draw(t, "how much before")
		c := cursorAt(run, at)
		if got := cursorAfter(c, run, lseq); got != at || c < 0 {
			t.Fatalf("cursor %x of %d: %d", c, at, got)
		}
		if other := rapid.Uint32Range(0, 1<<31-1).Draw(t, "other run"); other != run && cursorAfter(c, other, lseq) != 0 {
			t.Fatal("a cursor of another run counts")
		}
	})
}
