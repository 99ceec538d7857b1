package exchange_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/crr/crrtest"
	"github.com/nearsql/nearsql/crr/exchange"
)

// replace fetches a copy in place of a file, under a new number, and salvages what only the old one has.
func (n *testNode) replace(old crr.SiteID) crr.Salvaged {
	t := n.w.t
	t.Helper()
	f := n.file(acme)
	path := filepath.Join(n.w.dir, fmt.Sprintf("%s-fetched-%d.db", n.name, time.Now().UnixNano()))
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err = n.Fetch(context.Background(), acme, file); err == nil {
			break
		}
		time.Sleep(time.Second)
		_ = file.Truncate(0)
		_, _ = file.Seek(0, 0)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	oldPath := f.path
	n.mu.Lock()
	delete(n.files, acme)
	n.mu.Unlock()
	f.close(t)
	fresh := n.open(acme, path)
	c, err := crrtest.Open(oldPath)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := crr.OpenReader(c)
	defer r.Close()
	var out crr.Salvaged
	fresh.writer <- struct{}{}
	out, err = fresh.site.Salvage(r, old)
	<-fresh.writer
	if err != nil {
		t.Fatal(err)
	}
	n.Add(acme)
	return out
}

// A site is restored from an old backup of its file: it takes a new number, and what it had sent is not lost.
func TestRestoredFile(t *testing.T) {
	for _, recorded := range []bool{true, false} {
		t.Run(fmt.Sprint("recorded=", recorded), func(t *testing.T) {
			bubble(t, func(w *world) {
				a, b, c := w.start("a", 0, acme), w.start("b", 0, acme), w.start("c", 0, acme)
				a.do(like("x"))
				w.same(10*time.Second, acme, a, b, c)
				path := a.file(acme).path
				a.stop()
				backup, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				a = w.start("a", 0, acme)
				for range 10 {
					a.do(like("x"))
				}
				w.same(10*time.Second, acme, a, b, c)
				a.stop()
				if err := os.WriteFile(path, backup, 0o644); err != nil {
					t.Fatal(err)
				}
				_ = os.Remove(path + "-wal")
				if !recorded { // the node's own record is lost too: the first peer that is heard tells
					clear(w.sent)
				}
				a = w.start("a", 0, acme)
				if !recorded {
					time.Sleep(5 * time.Second)
				}
				if id := a.file(acme).site.Identity(); id.Site != 4 {
					t.Fatalf("the restored file has number %d", id.Site)
				}
				a.do(like("x"))
				b.do(like("x"))
				w.same(30*time.Second, acme, a, b, c)
				if got := a.rows(acme, "SELECT n FROM likes")[0]; got != "13" {
					t.Errorf("n is %s, want 13", got)
				}
			})
		})
	}
}

// A restored file hears of what it had sent by a push, before anything else: it gets a new number all the same.
func TestRestoredFileHearsAPush(t *testing.T) {
	bubble(t, func(w *world) {
		w.net.SetDelayBoth("a", "b", 80*time.Millisecond)
		a, b := w.start("a", 0, acme), w.start("b", 0, acme)
		time.Sleep(2 * time.Second)
		path := a.file(acme).path
		a.stop()
		backup, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		a = w.start("a", 0, acme)
		a.do(like("x"))
		w.same(10*time.Second, acme, a, b)
		a.stop()
		if err := os.WriteFile(path, backup, 0o644); err != nil {
			t.Fatal(err)
		}
		clear(w.sent)
		a = w.start("a", 0, acme)
		for range 200 {
			b.do(like("x"))
			time.Sleep(5 * time.Millisecond)
		}
		if id := a.file(acme).site.Identity(); id.Site != 3 {
			t.Fatalf("the restored file has number %d", id.Site)
		}
		a.do(like("x"))
		w.same(30*time.Second, acme, a, b)
		if got := a.rows(acme, "SELECT n FROM likes")[0]; got != "202" {
			t.Errorf("n is %s, want 202", got)
		}
	})
}

// A site is cut off for a month with writes that nobody has seen, is retired meanwhile and its deletes forgotten, comes back, takes a copy and salvages.
func TestAwayForAMonth(t *testing.T) {
	bubble(t, func(w *world) {
		w.configs = func(c *exchange.Config) {
			c.Timing.Heartbeat, c.Timing.Dead, c.Timing.BackoffMax = time.Hour, 5*time.Hour, 10*time.Minute // a month of heartbeats costs a minute
		}
		a, b, c := w.start("a", 0, acme), w.start("b", 0, acme), w.start("c", 0, acme)
		a.do(like("x"), like("gone"))
		w.same(30*time.Second, acme, a, b, c)
		w.net.Isolate("c")
		c.do(like("x"))
		c.do(like("mine"))
		c.stop()
		for range 30 {
			time.Sleep(24 * time.Hour)
			a.do(like("x"))
		}
		a.do("DELETE FROM likes WHERE id='gone'")
		w.retire(acme, "c")
		w.same(time.Minute, acme, a, b)
		time.Sleep(time.Hour)
		for _, n := range []*testNode{a, b} {
			n.do(like("x")) // so that each hears what the other has
			w.same(time.Minute, acme, a, b)
		}
		for _, n := range []*testNode{a, b} {
			_ = n.Write(context.Background(), acme, func(s *crr.Site) error {
				got, err := s.Collect(100)
				if err != nil || got.Tombstones != 1 {
					t.Errorf("%s collected %+v, %v", n.name, got, err)
				}
				return nil
			})
		}
		w.net.HealAll()
		c = w.start("c", 0, acme)
		time.Sleep(15 * time.Minute)
		if got := a.rows(acme, "SELECT count(*) FROM likes WHERE id='gone'"); got[0] != "0" {
			t.Fatal("a retired site brought a row back")
		}
		if got := c.rows(acme, "SELECT n FROM likes WHERE id='x'"); got[0] != "2" {
			t.Fatalf("a retired site was answered: n is %s", got)
		}
		if _, err := c.try(acme, like("x")); !errors.Is(err, crr.ErrLeaving) {
			t.Fatalf("a retired site writes: %v", err)
		}
		// The node knows from the log of the tenant that it is retired, and is a site without a number until it has another file.
		w.mu.Lock()
		w.members[acme] = append(w.members[acme], member{"c", crr.Member{Site: 1000, State: crr.Leaving}})
		w.mu.Unlock()
		a.Add(acme)
		b.Add(acme)
		got := c.replace(3)
		w.mu.Lock()
		for i, m := range w.members[acme] {
			if m.Site == 1000 {
				w.members[acme] = append(w.members[acme][:i:i], w.members[acme][i+1:]...)
				break
			}
		}
		w.mu.Unlock()
		w.spread(acme)
		if got.Rows != 2 || got.Lost != 0 {
			t.Errorf("salvaged %+v", got)
		}
		w.same(time.Minute, acme, a, b, c)
		if got := b.rows(acme, "SELECT n FROM likes ORDER BY id"); fmt.Sprint(got) != "[1 34]" {
			t.Errorf("likes are %v", got)
		}
	})
}

// A site whose clock is years ahead: nothing of it is merged, it can't write once it knows, and the others go on.
func TestFarFuture(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.start("a", 0, acme), w.start("b", 300*time.Millisecond, acme)
		w.net.Isolate("c")
		c := w.start("c", 20*365*24*time.Hour, acme)
		c.do(like("early")) // before it has heard of anybody's clock
		w.net.HealAll()
		time.Sleep(10 * time.Second)
		a.do(like("x"))
		b.do(like("x"))
		w.same(10*time.Second, acme, a, b)
		if got := a.rows(acme, "SELECT count(*) FROM likes"); got[0] != "1" {
			t.Errorf("%s rows: the future was merged", got)
		}
		if _, err := c.try(acme, like("x")); !errors.As(err, new(*crr.ClockError)) {
			t.Errorf("a site whose clock is years ahead writes: %v", err)
		}
		if d := c.Ahead(); d < 19*365*24*time.Hour {
			t.Errorf("c is %v ahead, it says", d)
		}
		if d := a.Ahead(); d.Abs() > time.Second {
			t.Errorf("a is %v ahead, it says", d)
		}
		s, _ := a.Status(acme)
		if a.HeldBack() != 1 || a.Stats.Held.Load() == 0 {
			t.Errorf("held back of %d sites, %d times", a.HeldBack(), a.Stats.Held.Load())
		}
		held := false
		for _, x := range s.Sites {
			held = held || x.Node == "c" && x.Held != nil && x.Held.Stamp.Site == x.Site
		}
		if !held {
			t.Errorf("the status shows nothing held back: %+v", s)
		}
		// What the others wrote comes to c all the same.
		if got := c.rows(acme, "SELECT n FROM likes WHERE id='x'"); len(got) != 1 || got[0] != "2" {
			t.Errorf("c has %v", got)
		}
		missing, err := a.PullAll(context.Background(), acme)
		if err != nil || len(missing) != 1 || missing[0].Node != "c" {
			t.Errorf("missing are %+v, %v", missing, err)
		}
	})
}

// A clock that is a few seconds ahead delays its own changes only, until their time has come.
func TestHeldUntilItsTime(t *testing.T) {
	bubble(t, func(w *world) {
		const ahead = 40 * time.Second
		a, b := w.start("a", 0, acme), w.start("b", ahead, acme)
		time.Sleep(time.Second)
		w.net.Isolate("b")
		time.Sleep(time.Minute) // the connection has ended: nothing is pushed
		b.do(like("x"))
		wrote := time.Now()
		w.net.HealAll()
		time.Sleep(20 * time.Second) // they try to connect every 10 s at least
		if got := a.rows(acme, "SELECT n FROM likes"); len(got) != 0 {
			t.Fatal("a change from 40 s ahead was merged at once")
		}
		if s, _ := a.Status(acme); s.Sites[0].Held == nil || s.Sites[0].Held.Ahead < 15*time.Second || !s.Sites[0].More {
			t.Errorf("the status is %+v", s.Sites[0])
		}
		w.same(time.Minute, acme, a, b)
		if took := time.Since(wrote); took < ahead-crr.DefaultMaxSkew || took > ahead {
			t.Errorf("it was merged after %v", took)
		}
	})
}

// Deletes are forgotten at all sites once all have them, also where only one site writes.
func TestDeletesAreForgotten(t *testing.T) {
	bubble(t, func(w *world) {
		a, b, c := w.start("a", 0, acme), w.start("b", 0, acme), w.start("c", 0, acme)
		time.Sleep(time.Second)
		a.do(like("x"))
		time.Sleep(time.Second)
		a.do("DELETE FROM likes")
		w.same(time.Second, acme, a, b, c)
		time.Sleep(10 * time.Second)
		for _, n := range w.all() {
			_ = n.Write(context.Background(), acme, func(s *crr.Site) error {
				if got, err := s.Collect(10); err != nil || got.Tombstones != 1 {
					t.Errorf("%s collected %+v, %v", n.name, got, err)
				}
				return nil
			})
		}
	})
}

// Sites come and go while all write.
func TestSitesComeAndGo(t *testing.T) {
	bubble(t, func(w *world) {
		names := []string{"a", "b", "c", "d", "e"}
		w.distances(func(i, j int) time.Duration { return time.Duration(80+20*(i+j)) * time.Millisecond }, names...)
		want := 0
		write := func(times int) {
			for range times {
				for _, n := range w.all() {
					n.do(like("x"))
					want++
				}
				time.Sleep(7 * time.Millisecond)
			}
		}
		for _, name := range names {
			w.start(name, 0, acme)
			write(60)
		}
		d := w.nodes["d"]
		// d leaves: it writes no more, all have what it wrote, and it is retired.
		w.mu.Lock()
		for i, m := range w.members[acme] {
			if m.node == "d" {
				w.members[acme][i].State = crr.Leaving
			}
		}
		w.mu.Unlock()
		w.spread(acme)
		if _, err := d.try(acme, like("x")); !errors.Is(err, crr.ErrLeaving) {
			t.Fatalf("d writes: %v", err)
		}
		final := d.file(acme).site.Head().Vector[4]
		delete(w.nodes, "d")
		write(20)
		for _, n := range w.all() {
			for n.file(acme).site.Head().Vector[4] < final {
				time.Sleep(10 * time.Millisecond)
			}
		}
		d.stop()
		w.retire(acme, "d")
		write(60)
		w.same(10*time.Second, acme, w.all()...)
		if got := w.nodes["e"].rows(acme, "SELECT n FROM likes")[0]; got != fmt.Sprint(want) {
			t.Errorf("n is %s, want %d", got, want)
		}
	})
}

// A partition of hours, with writes on both sides.
func TestPartitionOfHours(t *testing.T) {
	bubble(t, func(w *world) {
		a, b, c := w.start("a", 0, acme), w.start("b", 0, acme), w.start("c", 0, acme)
		time.Sleep(time.Second)
		w.net.Isolate("c")
		for i := range 200 {
			time.Sleep(time.Minute)
			a.do(fmt.Sprintf("INSERT INTO likes(id,n) VALUES('a%d',1)", i), like("x"))
			c.do(fmt.Sprintf("INSERT INTO likes(id,n) VALUES('c%d',1)", i), like("x"))
		}
		w.same(time.Second, acme, a, b)
		time.Sleep(time.Minute) // all heads have been told to those who are there
		w.net.HealAll()
		took := w.same(30*time.Second, acme, a, b, c)
		t.Logf("equal %v after 200 minutes apart", took)
		if got := b.rows(acme, "SELECT n FROM likes WHERE id='x'")[0]; got != "400" {
			t.Errorf("n is %s", got)
		}
	})
}

// Who had no use of a copy gets the next from another site, also when the first one fails while it is sent.
func TestFetchAsksAnother(t *testing.T) {
	bubble(t, func(w *world) {
		a, b, c := w.start("a", 0, acme), w.start("b", 0, acme), w.start("c", 0, acme)
		a.do(like("x"))
		w.same(10*time.Second, acme, a, b, c)
		count := func(n *testNode) int {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.copied
		}
		for i := range 6 {
			to := failingWriter{after: 1 << 30}
			if i%3 == 2 {
				to.after = 100
			}
			if err := c.Fetch(context.Background(), acme, &to); (err != nil) != (i%3 == 2) {
				t.Fatal(i, err)
			}
		}
		if count(a) != 3 || count(b) != 3 || count(c) != 0 {
			t.Errorf("a was asked %d times, b %d, c %d", count(a), count(b), count(c))
		}
		w.net.Isolate("a")
		time.Sleep(time.Minute)
		for range 3 {
			if err := c.Fetch(context.Background(), acme, &failingWriter{after: 1 << 30}); err != nil {
				t.Fatal(err)
			}
		}
		w.net.Isolate("b")
		time.Sleep(time.Minute)
		if err := c.Fetch(context.Background(), acme, &failingWriter{after: 1 << 30}); !errors.Is(err, exchange.ErrUnreachable) {
			t.Errorf("from nobody: %v", err)
		}
	})
}

// failingWriter fails after some bytes.
type failingWriter struct{ after int }

func (w *failingWriter) Write(b []byte) (int, error) {
	if w.after -= len(b); w.after < 0 {
		return 0, errors.New("no space")
	}
	return len(b), nil
}
