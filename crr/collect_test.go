package crr

import (
	"testing"
	"time"
)

// several makes sites 1 to n that know of each other, and a clock.
func several(t *testing.T, n int, ddl ...string) (*testClock, []*tester) {
	c := newTestClock()
	var ss []*tester
	for i := range n {
		ss = append(ss, newSite(t, SiteID(i+1), Config{Now: c.off(0)}, ":memory:", ddl...))
	}
	membersOf(ss...)
	return c, ss
}

// A late answer tells of a row whose tombstone is collected; it was built by a site that had the delete not yet, and
// brings news of a site that is retired. The row stays away.
func TestLateAnswer(t *testing.T) {
	clock, ss := several(t, 4, likes)
	a, b, c, x := ss[0], ss[1], ss[2], ss[3]
	a.do(upsertX)
	b.pull(a)
	x.do("INSERT INTO likes(id) VALUES('news')")
	b.pull(x)
	late, err := b.answer(c.Request(2, b.me.File))
	if err != nil {
		t.Fatal(err)
	}
	clock.add(time.Second)
	a.do("DELETE FROM likes WHERE id='x'")
	c.pull(a)
	b.pull(a)
	if err := c.Heard(2, b.me.File, b.vv); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Collect(10); err != nil || got.Tombstones != 0 {
		t.Fatalf("collected %+v, %v, and site 4 is silent", got, err)
	}
	members := []Member{{1, a.me.File, Active, 0}, {2, b.me.File, Active, 0}, {3, c.me.File, Active, 0}, {4, x.me.File, Retired, x.me.hlc}}
	for _, s := range ss[:3] {
		s.SetMembers(members)
	}
	if got, err := c.Collect(10); err != nil || got.Tombstones != 1 {
		t.Fatalf("collected %+v, %v", got, err)
	}
	if r, err := c.take(late); err != nil || r.Outcome != Applied || r.Rows != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if g := c.one("SELECT group_concat(id) FROM likes"); g.Str() != "news" {
		t.Errorf("got %s", g)
	}
	c.sound()
}

// A site says that it has a delete; what it wrote before is still on its way. Until that has come the delete is remembered, or
// an increment of the row that is gone would count in the one that took its place.
func TestVectorBeforeItsWrites(t *testing.T) {
	clock, ss := several(t, 3, likes)
	a, b, c := ss[0], ss[1], ss[2]
	a.do(upsertX)
	b.pull(a)
	c.pull(a)
	clock.add(time.Second)
	b.do("UPDATE likes SET n=n+5")
	var push []byte
	if p, err := b.r.Push(Mark{}, func(f []byte) error { push = f; return nil }); err != nil || !p.Sent {
		t.Fatal(p, err)
	}
	clock.add(time.Second)
	a.do("DELETE FROM likes")
	a.do("INSERT INTO likes(id,n) VALUES('x',2)")
	c.pull(a)
	b.pull(a)
	if err := c.Heard(2, b.me.File, b.vv); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Collect(10); err != nil || got.Forgotten != 0 {
		t.Errorf("collected %+v, %v", got, err)
	}
	if r, err := c.Receive(push); err != nil || r.Outcome != Applied {
		t.Fatalf("%+v, %v", r, err)
	}
	if g := c.one("SELECT n FROM likes"); g.Int() != 2 {
		t.Errorf("n is %s, want 2", g)
	}
	// Now it has all.
	if got, err := c.Collect(10); err != nil || got.Forgotten != 1 {
		t.Errorf("collected %+v, %v", got, err)
	}
	settle(a, b, c)
	for _, s := range ss {
		if _, err := s.Collect(10); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "at the end", ss...)
}

// What pushes are refused, taken, or had before.
func TestPushes(t *testing.T) {
	_, ss := several(t, 3, likes)
	a, b, c := ss[0], ss[1], ss[2]
	push := func(s *tester, from Mark) ([]byte, Pushed) {
		t.Helper()
		var f []byte
		p, err := s.r.Push(from, func(b []byte) error { f = b; return nil })
		if err != nil || !p.Sent {
			t.Fatal(p, err)
		}
		return f, p
	}
	want := func(what string, f []byte, o Outcome) {
		t.Helper()
		if r, err := c.Receive(f); err != nil || r.Outcome != o {
			t.Errorf("%s: %v, %v, want %v", what, r.Outcome, err, o)
		}
	}
	a.do(upsertX)
	first, p := push(a, Mark{})
	a.do(upsertX)
	second, p2 := push(a, p.Mark)
	b.pull(a)
	b.do(upsertX)
	third, _ := push(b, Mark{})
	want("the second before the first", second, Early)
	want("one that has seen both", third, Early)
	want("the first", first, Applied)
	want("the first again", first, Duplicate)
	want("the second", second, Applied)
	want("one that has seen both, now", third, Applied)
	if g := c.one("SELECT n FROM likes"); g.Int() != 3 {
		t.Errorf("n is %s", g)
	}
	if p, err := a.r.Push(p2.Mark, nil); err != nil || p.Sent || p.Upto() != p2.Upto() {
		t.Errorf("nothing to push: %+v, %v", p, err)
	}
	if p, err := a.r.Push(Mark{}, func([]byte) error { return nil }); err != nil || !p.Sent {
		t.Errorf("everything once more: %+v, %v", p, err)
	}
	a.pull(b)
	same(t, "after pushes", a, b, c)
}
