package sqlnode

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestKilledDuringRestore: a voter that was away gets a snapshot and fetches what is in it. It loses its power at one step of that after another,
// once those that it fetches from are killed, and once another voter is replaced meanwhile. Nothing that was acknowledged is lost.
func TestKilledDuringRestore(t *testing.T) {
	steps := 12
	if *simMinutes > 0 {
		steps = 150
	}
	fetches, restore := 0, 0 // restore: operations that one takes which is not disturbed
	scenario(t, 4, func(t *testing.T, w *simWorld) {
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		go w.watch(ctx)
		// The voters: a primary, another, and the one that is away; and one that can take a place.
		v, spare := w.voters("default"), w.without("default")
		lead, second, away := v[0], v[1], v[2]
		for i := range steps {
			w.simLead(lead, "default")
			w.seize(away) // or watch would start it too
			w.s.kill(away, nil)
			for j := range 30 { // more than the log keeps
				if got := w.s.node(lead).sqlFor(30*time.Second, "", fmt.Sprintf("INSERT OR REPLACE INTO ballast VALUES(%d, randomblob(200000))", j)); got != "[]" {
					t.Fatal(got)
				}
			}
			if got := w.s.node(second).sqlFor(30*time.Second, "", "INSERT INTO counter VALUES('restore', 1) ON CONFLICT(k) DO UPDATE SET n = n + 1 RETURNING n"); got != fmt.Sprintf("[[%d]]", i+1) {
				t.Fatal(got)
			}
			for _, id := range []string{lead, second} {
				_ = w.s.node(id).groups.get(defaultGroup).log().Snapshot()
			}
			w.s.mu.Lock()
			w.s.mu.crashAt = i * restore / (steps - 1)
			w.s.mu.Unlock()
			n, err := w.s.tryStart(away)
			w.s.mu.Lock()
			w.s.mu.crashAt = 0
			w.s.mu.Unlock()
			if i == 0 && err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				w.s.await(time.Minute, func() string {
					h := n.groups.get(defaultGroup)
					if err := (quorum{h: h, anywhere: true}).applied(ctx); err != nil {
						return err.Error()
					}
					return ready(n) + w.restless()
				})
				restore = n.faults.Count()
				fetches += int(n.groups.get(defaultGroup).fetcher.Stats.Fetched.Load())
				t.Logf("a restore takes %d operations of the disk", restore)
			}
			if err == nil {
				for end := time.Now().Add(5 * time.Second); len(n.ended) == 0 && time.Now().Before(end); {
					if h := n.groups.get(defaultGroup); h != nil && len(h.pages.Hollow()) > 0 {
						break
					}
					time.Sleep(time.Millisecond)
				}
				switch i % 4 {
				case 1: // those that have it go
					w.seize(lead)
					w.s.kill(lead, w.chance())
					time.Sleep(300 * time.Millisecond)
					w.up(lead)
					w.leave(lead)
				case 2:
					w.tell("POST", "/v1/nodes/"+second+"/drain")
				}
				for end := time.Now().Add(2 * time.Second); len(n.ended) == 0 && time.Now().Before(end); {
					time.Sleep(10 * time.Millisecond)
				}
				w.s.kill(away, w.chance())
			}
			w.up(away)
			w.leave(away)
			if why := w.settle(2 * time.Minute); why != "" {
				t.Fatalf("step %d: %s", i, why)
			}
			if h := w.s.node(away).groups.get(defaultGroup); h != nil {
				fetches += int(h.fetcher.Stats.Fetched.Load())
			}
			if i%4 == 2 {
				w.tell("POST", "/v1/nodes/"+second+"/undrain")
				w.s.await(time.Minute, func() string { w.tell("POST", "/v1/nodes/"+spare+"/drain"); return w.restless() })
				w.tell("POST", "/v1/nodes/"+spare+"/undrain")
			}
			for _, n := range w.s.up() {
				if got := n.sqlFor(20*time.Second, "?consistency=strong", "SELECT n FROM counter WHERE k = 'restore'"); got != fmt.Sprintf("[[%d]]", i+1) {
					t.Fatalf("step %d: %s says %s", i, n.id.Node, got)
				}
			}
		}
	})
	t.Logf("%d copies fetched in %d steps, those of nodes that were killed not counted", fetches, steps)
	if fetches == 0 {
		t.Error("the scenario shows nothing: no copy was ever fetched")
	}
}

// TestLargeTransactionsAndSnapshots: snapshots are asked for, and nodes lose their power, while the parts of large transactions come in.
func TestLargeTransactionsAndSnapshots(t *testing.T) {
	scenario(t, 3, func(t *testing.T, w *simWorld) {
		ctx, stop := context.WithCancel(context.Background())
		var all sync.WaitGroup
		all.Go(func() {
			for ctx.Err() == nil {
				for _, n := range w.s.up() {
					_ = n.groups.get(defaultGroup).log().Snapshot() // may be refused
				}
				pause(ctx, 3*time.Millisecond)
			}
		})
		done := 0
		for i := range 10 {
			all.Go(func() {
				time.Sleep(time.Duration(i*7) * time.Millisecond)
				w.seize("n3") // from the one before
				w.s.kill("n3", w.chance())
				w.up("n3")
				w.leave("n3")
			})
			got := w.s.node([]string{"n1", "n2"}[i%2]).sqlFor(60*time.Second, "", fmt.Sprintf("INSERT INTO ballast VALUES(%d, randomblob(1500000)) RETURNING length(v)", 100+i))
			switch got {
			case "[[1500000]]":
				done++
			case "UNKNOWN_OUTCOME", "NOT_PRIMARY":
			default:
				t.Errorf("transaction %d: %s", i, got)
			}
			w.s.await(time.Minute, func() string {
				if w.s.node("n3") == nil {
					return "n3 is down"
				}
				return ""
			})
		}
		stop()
		all.Wait()
		if got := w.s.node("n2").sqlFor(20*time.Second, "?consistency=strong", "SELECT count(*) FROM ballast WHERE k >= 100"); got < fmt.Sprintf("[[%d]]", done) && done < 10 || done == 0 {
			t.Errorf("%s rows, %d were acknowledged", got, done)
		}
		t.Logf("%d of 10 acknowledged", done)
	})
}
