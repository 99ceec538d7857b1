package exchange_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/wire"
)

// Two sites 80 ms apart: what one writes is visible at the other within 130 ms in 99 of 100 cases.
func TestVisibility(t *testing.T) {
	bubble(t, func(w *world) {
		w.distances(func(int, int) time.Duration { return 80 * time.Millisecond }, "a", "b")
		a, b := w.start("a", 0, acme), w.start("b", 0, acme)
		time.Sleep(2 * time.Second)
		var took []time.Duration
		for i := range 200 {
			time.Sleep(time.Duration(i*37%400) * time.Millisecond)
			c := a.do(like("x"))
			began := time.Now()
			for b.file(acme).site.Head().Vector[c.Stamp.Site] < c.Stamp.HLC {
				time.Sleep(time.Millisecond)
				synctest.Wait()
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		p50, p99 := took[100], took[198]
		t.Logf("visible after %v (p50), %v (p99), %v (most)", p50, p99, took[199])
		if p99 > 130*time.Millisecond || p50 < 80*time.Millisecond {
			t.Errorf("p50 %v, p99 %v", p50, p99)
		}
		w.same(time.Second, acme, a, b)
		if got := b.rows(acme, "SELECT n FROM likes"); got[0] != "200" {
			t.Errorf("n is %s", got)
		}
		if n := a.Stats.Answers.Load() + b.Stats.Answers.Load(); n != 0 {
			t.Errorf("%d answers were made where pushes do", n)
		}
	})
}

// A hot counter at three sites: pushes are coalesced.
func TestHotCounter(t *testing.T) {
	bubble(t, func(w *world) {
		w.distances(func(int, int) time.Duration { return 80 * time.Millisecond }, "a", "b", "c")
		ns := []*testNode{w.start("a", 0, acme), w.start("b", 0, acme), w.start("c", 0, acme)}
		time.Sleep(2 * time.Second)
		ns[0].do(like("hot"))
		time.Sleep(time.Second)
		sent := w.net.Sent("a", "b", cluster.PurposeExchange)
		const perSecond, seconds = 500, 2
		for range perSecond * seconds {
			for _, n := range ns {
				n.do(like("hot"))
			}
			time.Sleep(time.Second / perSecond)
		}
		rate := (w.net.Sent("a", "b", cluster.PurposeExchange) - sent) / seconds
		pushes := ns[0].Stats.Pushes.Load()
		took := w.same(3*time.Second, acme, ns...)
		t.Logf("%d increments a second at each of 3 sites: %d bytes a second on one way, %d pushes in %d s, equal %v after", perSecond, rate, pushes, seconds, took)
		if want := fmt.Sprint(1 + 3*perSecond*seconds); ns[1].rows(acme, "SELECT n FROM likes")[0] != want {
			t.Errorf("n is %s, want %s", ns[1].rows(acme, "SELECT n FROM likes"), want)
		}
		if rate > 20_000 || pushes > 60*seconds {
			t.Errorf("%d bytes a second, %d pushes", rate, pushes)
		}
	})
}

// A push that overtook what it follows, since its way is shorter, is kept until that comes, and no pull is made.
func TestTriangle(t *testing.T) {
	bubble(t, func(w *world) {
		w.net.SetDelayBoth("a", "b", 20*time.Millisecond)
		w.net.SetDelayBoth("b", "c", 20*time.Millisecond)
		w.net.SetDelayBoth("a", "c", 110*time.Millisecond)
		a, b, c := w.start("a", 0, acme), w.start("b", 0, acme), w.start("c", 0, acme)
		time.Sleep(5 * time.Second)
		before := c.Stats.Pulls.Load()
		for range 20 {
			x := a.do(like("x"))
			for b.file(acme).site.Head().Vector[x.Stamp.Site] < x.Stamp.HLC {
				time.Sleep(time.Millisecond)
			}
			b.do(like("x"))
			w.same(150*time.Millisecond, acme, a, b, c)
			time.Sleep(300 * time.Millisecond)
		}
		if n := c.Stats.Pulls.Load() - before; n > 0 {
			t.Errorf("%d pulls", n)
		}
	})
}

// What no push brings is pulled at once.
func TestUrgentHeads(t *testing.T) {
	bubble(t, func(w *world) {
		w.distances(func(int, int) time.Duration { return 80 * time.Millisecond }, "a", "b")
		a, b := w.start("a", 0, acme), w.start("b", 0, acme)
		time.Sleep(2 * time.Second)
		a.do("WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<2000) INSERT INTO likes(id,title) SELECT 'row '||i, hex(randomblob(100)) FROM c")
		if took := w.same(5*time.Second, acme, a, b); took > 300*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

// What was committed since the last push goes with the next one, all of it, however many transactions are told of at once, and whether each was told of or not: by the vector
// of the newest the others take themselves to have it all, and ask for none of it again.
func TestCommittedInOneTurn(t *testing.T) {
	bubble(t, func(w *world) {
		w.distances(func(int, int) time.Duration { return 10 * time.Millisecond }, "a", "b")
		other := wire.TenantID{2} // keeps them connected
		a, b := w.start("a", 0, acme, other), w.start("b", 0, acme, other)
		time.Sleep(2 * time.Second)
		turn := func(told bool, ids ...string) {
			t.Helper()
			before := a.file(acme).site.Head()
			for _, id := range ids {
				if _, _, _, err := a.commit(acme, like(id)); err != nil {
					t.Fatal(err)
				}
			}
			a.Add(acme)
			if told {
				a.Committed(acme, before, a.file(acme).site.Head())
			}
		}
		// The exchange has not looked at the file yet.
		a.Remove(acme)
		turn(true, "x", "y", "z")
		w.same(10*time.Second, acme, a, b)
		turn(true, "1", "2", "3")
		turn(false, "4", "5")
		turn(true, "6")
		w.same(10*time.Second, acme, a, b)
		time.Sleep(time.Minute)
		turn(false, "7")
		turn(true, "8", "9")
		w.same(10*time.Second, acme, a, b)
	})
}
