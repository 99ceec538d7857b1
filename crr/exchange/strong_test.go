package exchange_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/crr/exchange"
	"github.com/nearsql/nearsql/wire"
)

// PullAll brings what all sites had, also what no push has brought, and names those that it can't reach.
func TestPullAll(t *testing.T) {
	bubble(t, func(w *world) {
		w.configs = func(c *exchange.Config) { c.Timing.Gather, c.Timing.GatherMax = time.Hour, time.Hour } // no pushes
		w.distances(func(int, int) time.Duration { return 100 * time.Millisecond }, "a", "b", "c")
		a, b, c := w.start("a", 0, acme), w.start("b", 0, acme), w.start("c", 0, acme)
		time.Sleep(10 * time.Second)
		for i := range 20 {
			b.do(like("x"))
			c.do(like("x"))
			began := time.Now()
			missing, err := a.PullAll(context.Background(), acme)
			if err != nil || len(missing) > 0 {
				t.Fatalf("missing are %+v, %v", missing, err)
			}
			if got := a.rows(acme, "SELECT n FROM likes")[0]; got != fmt.Sprint(2*i+2) {
				t.Fatalf("n is %s, want %d", got, 2*i+2)
			}
			if took := time.Since(began); took > 700*time.Millisecond {
				t.Errorf("it took %v", took)
			}
		}
		s, _ := a.Status(acme)
		for _, x := range s.Sites {
			if x.Fresh.Before(time.Now().Add(-time.Second)) {
				t.Errorf("status of %s: %+v", x.Node, x)
			}
		}
		// While b and c pull of each other, and say so by their heads, each of them may have more; when all is quiet, none has.
		time.Sleep(10 * time.Second)
		s, _ = a.Status(acme)
		for _, x := range s.Sites {
			if x.Fresh.IsZero() || !x.Connected || x.More || x.Trip != 200*time.Millisecond {
				t.Errorf("status of %s: %+v", x.Node, x)
			}
		}
		w.net.Isolate("c")
		c.do(like("x"))
		began := time.Now()
		missing, err := a.PullAll(context.Background(), acme)
		if err != nil || len(missing) != 1 || missing[0].Node != "c" || missing[0].Why == "" {
			t.Errorf("missing are %+v, %v", missing, err)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("it took %v", took)
		}
		c.stop()
		if missing, err = a.PullAll(context.Background(), acme); err != nil || len(missing) != 1 {
			t.Errorf("missing are %+v, %v", missing, err)
		}
		if _, err := a.PullAll(context.Background(), wire.TenantID{9}); err == nil {
			t.Error("all of a tenant that is not here")
		}
	})
}

// What a site said to have is not taken back by a head that it sends after it: nothing waits for a timer then.
func TestPullAllWhileHeadsGo(t *testing.T) {
	bubble(t, func(w *world) {
		w.configs = func(c *exchange.Config) { c.Timing.Gather, c.Timing.GatherMax = time.Hour, time.Hour } // no pushes
		w.distances(func(int, int) time.Duration { return 100 * time.Millisecond }, "a", "b", "c")
		a, b, c := w.start("a", 0, acme), w.start("b", 0, acme), w.start("c", 0, acme)
		time.Sleep(10 * time.Second)
		for i := range 30 {
			b.do(like("x"))
			c.do(like("x"))
			began := time.Now()
			ctx, cancel := context.WithCancel(context.Background())
			var running sync.WaitGroup
			for _, n := range []*testNode{b, c} {
				running.Go(func() {
					for ctx.Err() == nil { // heads, as at any time
						n.TellHeads(acme)
						time.Sleep(7 * time.Millisecond)
					}
				})
			}
			missing, err := a.PullAll(context.Background(), acme)
			cancel()
			running.Wait()
			if err != nil || len(missing) > 0 {
				t.Fatalf("missing are %+v, %v", missing, err)
			}
			if took := time.Since(began); took > 700*time.Millisecond {
				t.Fatalf("round %d took %v", i, took)
			}
			time.Sleep(time.Duration(i) * 37 * time.Millisecond)
		}
	})
}

// Nothing leaves a node before it is durable there.
func TestNothingLeavesBeforeItIsDurable(t *testing.T) {
	bubble(t, func(w *world) {
		var gate atomic.Pointer[chan struct{}]
		open := make(chan struct{})
		close(open)
		gate.Store(&open)
		w.configs = func(c *exchange.Config) {
			if c.Node == "a" {
				c.Durable = func(ctx context.Context, _ wire.TenantID) error {
					select {
					case <-*gate.Load():
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}
			}
		}
		a, b := w.start("a", 0, acme), w.start("b", 0, acme)
		time.Sleep(time.Second)
		a.do(like("x"))
		w.same(time.Second, acme, a, b)
		for _, way := range []string{"push", "pull"} {
			shut := make(chan struct{})
			gate.Store(&shut)
			before := w.net.Sent("a", "b", cluster.PurposeExchange)
			a.do("INSERT INTO likes(id,title) VALUES('secret " + way + "','" + strings.Repeat("not yet", 3000) + "')")
			if way == "pull" {
				go func() { _, _ = b.PullAll(context.Background(), acme) }()
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if sent := w.net.Sent("a", "b", cluster.PurposeExchange) - before; sent > 2000 {
				t.Errorf("%s: %d bytes were sent", way, sent)
			}
			if got := b.rows(acme, "SELECT count(*) FROM likes WHERE id LIKE 'secret "+way+"'"); got[0] != "0" {
				t.Errorf("%s: it was seen before it was durable", way)
			}
			close(shut)
			w.same(20*time.Second, acme, a, b)
		}
	})
}

// What is too large for a push is pulled at once.
func TestLargeTransaction(t *testing.T) {
	bubble(t, func(w *world) {
		w.distances(func(int, int) time.Duration { return 80 * time.Millisecond }, "a", "b")
		a, b := w.start("a", 0, acme), w.start("b", 0, acme)
		time.Sleep(2 * time.Second)
		a.do("WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<25000) INSERT INTO likes(id,title) SELECT 'row '||i, hex(randomblob(100)) FROM c")
		for range 60 { // pushes that come while the batch does
			a.do(like("x"))
			time.Sleep(15 * time.Millisecond)
		}
		took := w.same(5*time.Second, acme, a, b)
		if n := b.Stats.Failures.Load(); n > 0 {
			t.Errorf("%d failures: pushes came between the frames of a batch", n)
		}
		t.Logf("25,000 rows, %d bytes: equal after %v", b.Stats.BytesReceived[6].Load(), took)
		if a.Stats.TooLarge.Load() != 1 || took > 3*time.Second || b.Stats.BytesReceived[6].Load() < 4<<20 {
			t.Errorf("too large: %d, %v", a.Stats.TooLarge.Load(), took)
		}
	})
}

// Of many sites some pass pushes on.
func TestRelays(t *testing.T) {
	bubble(t, func(w *world) {
		w.configs = func(c *exchange.Config) { c.Mesh = 3 }
		var names []string
		for i := range 10 {
			names = append(names, fmt.Sprint("n", i))
		}
		w.distances(func(int, int) time.Duration { return 50 * time.Millisecond }, names...)
		for _, n := range names {
			w.start(n, 0, acme)
		}
		time.Sleep(5 * time.Second)
		a := w.nodes["n4"]
		sent := a.Stats.PushesSent.Load()
		a.do(like("x"))
		took := w.same(300*time.Millisecond, acme, w.all()...)
		var relayed, answers int64
		for _, n := range w.all() {
			relayed += n.Stats.Relayed.Load()
			answers += n.Stats.Answers.Load()
		}
		if got := a.Stats.PushesSent.Load() - sent; got != 3 || relayed != 6 || answers != 0 {
			t.Errorf("%d sent, %d passed on, %d answers", got, relayed, answers)
		}
		t.Logf("10 sites, of which 3 pass on: equal after %v", took)
	})
}

// One PoP, with a backup at the tenant's home group: the backup is asked last, and has everything when the PoP is lost.
func TestBackup(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.start("a", 0, acme), w.start("b", 0, acme)
		time.Sleep(time.Second)
		for range 50 {
			a.do(like("x"))
			time.Sleep(10 * time.Millisecond)
		}
		w.same(time.Second, acme, a, b)
		a.stop()
		w.retire(acme, "a")
		c := w.start("c", 0, acme)
		w.same(5*time.Second, acme, b, c)
		if got := c.rows(acme, "SELECT n FROM likes")[0]; got != "50" {
			t.Errorf("n is %s", got)
		}
	})
}
