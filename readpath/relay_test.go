package readpath_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/readpath/readpathtest"
	"github.com/nearsql/nearsql/wire"
)

// relays is a world of three voters of group 2 that are near each other, and nodes that follow, 80 ms from all others and back.
type relays struct {
	*readpathtest.World
	t    *testing.T
	ctx  context.Context
	stop func()
}

func newRelays(t *testing.T, ask bool, feeders map[string][]string) *relays {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	w := readpathtest.NewWorld(1, readpathtest.Faults{}, logger())
	w.AskVoters, w.Quick = ask, true
	nodes := []string{"v1", "v2", "v3"}
	for name := range feeders {
		nodes = append(nodes, name)
	}
	slices.Sort(nodes[3:])
	if err := w.Start(ctx, &run, nodes, map[wire.GroupID][]string{2: {"v1", "v2", "v3"}}, feeders); err != nil {
		t.Fatal(err)
	}
	w.SetDelay(time.Millisecond)
	for _, a := range nodes {
		for name := range feeders {
			if a != name {
				w.Net.SetDelayBoth(a, name, 40*time.Millisecond)
			}
		}
	}
	return &relays{w, t, ctx, func() { cancel(); run.Wait() }}
}

// eventually waits for cond, in virtual time.
func (w *relays) eventually(what string, cond func() bool) {
	w.t.Helper()
	for range 1200 {
		if cond() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.t.Fatalf("never: %s", what)
}

// fedBy waits until a node follows a tenant from another.
func (w *relays) fedBy(id wire.TenantID, node, feeder string) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("%s is fed by %s", node, feeder), func() bool {
		s, _ := w.Node(node).Follower.Status(id)
		return s.Joined && s.Feeder == feeder
	})
}

// age is how old what a node shows may be.
func (w *relays) age(id wire.TenantID, node string) time.Duration {
	n := w.Node(node)
	fresh := n.Follower.Fresh(id)
	if !fresh.Known {
		return time.Hour
	}
	return readpath.Elapsed(fresh.AsOf, n.Clock.Now())
}

// writing writes until it is stopped.
func (w *relays) writing(name string, every time.Duration) (stop func()) {
	done := make(chan struct{})
	var run sync.WaitGroup
	run.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(every):
				if err := w.Write(name); err != nil {
					w.Failed("write: %v", err)
				}
			}
		}
	})
	return func() { close(done); run.Wait() }
}

// What decides how old what a node shows may be in the worlds of newRelays.
const (
	far    = 40 * time.Millisecond  // from a node that follows to any other
	near   = 2 * time.Millisecond   // until the voter that is asked has asked the others, and knows an index
	looks  = 6 * time.Millisecond   // until an entry is at all voters: they look every 5 ms, and are 1 ms from the first
	probes = 400 * time.Millisecond // Timing.Probe
	marks  = 50 * time.Millisecond  // how long an entry waits for a mark at a voter: markEvery of package replica
)

// oldest is how old what a node shows may become at the end of a row of relays. Every 400 ms it asks a voter, which knows an index 42 ms later. What has that index
// is marked 56 ms later at the latest, and relays pass marks on as they come. Until the mark is here, the question before is what counts. A thousandth is for the clocks.
func oldest(hops int) time.Duration {
	d := probes + far + near + looks + marks + time.Duration(hops)*far
	return d + d/1000
}

// What a healthy replica shows is no older than a round trip, the time between questions, and 20 ms, also at the end of a row of relays.
func TestStalenessOverRelays(t *testing.T) {
	const bound = 80*time.Millisecond + 2*time.Millisecond + 500*time.Millisecond + 20*time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		w := newRelays(t, true, map[string][]string{"r1": {"v1", "v2", "v3"}, "r2": {"r1", "v2", "v3"}})
		defer w.stop()
		id, err := w.Create(2, "a")
		if err != nil {
			t.Fatal(err)
		}
		other, err := w.Create(2, "b")
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []wire.TenantID{id, other} {
			w.fedBy(id, "r1", "v1")
			w.fedBy(id, "r2", "r1")
		}
		defer w.writing("a", 30*time.Millisecond)()
		time.Sleep(2 * time.Second)
		for _, node := range []string{"r1", "r2"} {
			var ages []time.Duration
			for range 5000 {
				for _, id := range []wire.TenantID{id, other} { // the one that is written, and one that is not
					ages = append(ages, w.age(id, node))
				}
				time.Sleep(7 * time.Millisecond)
			}
			slices.Sort(ages)
			p99 := ages[len(ages)*99/100]
			t.Logf("%s: p50 %v, p99 %v, at most %v", node, ages[len(ages)/2], p99, ages[len(ages)-1])
			if p99 > bound {
				t.Errorf("%s: p99 is %v, want at most %v", node, p99, bound)
			}
		}
	})
}

// Questions that reads ask in between don't put off those that are asked by themselves: what a replica shows becomes no older by them.
func TestStalenessBesideReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newRelays(t, true, map[string][]string{"r1": {"v1", "v2", "v3"}, "r2": {"r1", "v2", "v3"}})
		defer w.stop()
		id, err := w.Create(2, "a")
		if err != nil {
			t.Fatal(err)
		}
		w.fedBy(id, "r1", "v1")
		w.fedBy(id, "r2", "r1")
		defer w.writing("a", 30*time.Millisecond)()
		time.Sleep(2 * time.Second)
		for node, hops := range map[string]int{"r1": 1, "r2": 2} {
			for i := range 100 {
				if err := w.Node(node).Follower.Confirm(w.ctx, id); err != nil {
					t.Fatal(err)
				}
				for range 100 + i {
					time.Sleep(10 * time.Millisecond)
					if a := w.age(id, node); a > oldest(hops) {
						t.Fatalf("after read %d, what %s shows is %v old, want at most %v", i, node, a, oldest(hops))
					}
				}
			}
		}
	})
}

// A tenant that a relay could not give is followed from a voter, and goes to the relay once that has it: by a second subscription, so that it is
// joined all the time, nothing that is shown is older than it may be where the tenant goes, no copy is sent, and the relay's own receivers go on.
func TestMovesToRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newRelays(t, true, map[string][]string{"r1": {}, "r2": {"r1", "v2", "v3"}, "r3": {"r2", "v3"}})
		defer w.stop()
		id, err := w.Create(2, "a")
		if err != nil {
			t.Fatal(err)
		}
		w.fedBy(id, "r2", "v2") // r1 has nothing
		w.fedBy(id, "r3", "r2")
		defer w.writing("a", 15*time.Millisecond)()
		time.Sleep(10 * time.Second)
		before := w.Counts()
		w.SetFeeders("r1", []string{"v1", "v2"})
		w.fedBy(id, "r1", "v1")
		for moved := 0; moved < 400; time.Sleep(5 * time.Millisecond) {
			for node, hops := range map[string]int{"r2": 2, "r3": 3} { // as many as it has in the end
				if a := w.age(id, node); a > oldest(hops) {
					t.Fatalf("while it moves, what %s shows is %v old, want at most %v", node, a, oldest(hops))
				}
			}
			if s, _ := w.Node("r2").Follower.Status(id); !s.Joined {
				t.Fatalf("while it moves, it is not joined: %+v", s)
			}
			if s, _ := w.Node("r2").Follower.Status(id); s.Feeder == "r1" {
				moved++
			} else if moved > 0 {
				t.Fatalf("it is fed by %q again", s.Feeder)
			}
		}
		w.fedBy(id, "r3", "r2")
		if now := w.Counts(); now.Copies+now.LTX != before.Copies+before.LTX+1 {
			t.Errorf("%d copies were sent, want that of r1 alone", now.Copies+now.LTX-before.Copies-before.LTX)
		}
		if s, _ := w.Node("r3").Follower.Status(id); s.Hops != 3 {
			t.Errorf("r3 is %d hops from the voters, want 3", s.Hops)
		}
		w.eventually("v2 feeds r2 nothing any more", func() bool { return w.Node("v2").Feeder.Stats.Slots.Load() == 0 })
		if n := w.Node("r2").Follower.Stats.Moved.Load(); n != 1 {
			t.Errorf("it moved %d times", n)
		}
		// Back, when the relay dies.
		w.Isolate("r1")
		w.fedBy(id, "r2", "v2")
		w.HealAll()
		w.fedBy(id, "r2", "r1")
		// To a feeder that is faster than the one before: entries come by it first, and r3 gets them all the same.
		time.Sleep(10 * time.Second)
		before = w.Counts()
		w.SetFeeders("r2", []string{"v2", "r1"})
		w.fedBy(id, "r2", "v2")
		w.fedBy(id, "r3", "r2")
		time.Sleep(2 * time.Second)
		if now := w.Counts(); now.Copies+now.LTX+now.Diverged != before.Copies+before.LTX+before.Diverged {
			t.Errorf("%d copies were sent, and %d had diverged", now.Copies+now.LTX-before.Copies-before.LTX, now.Diverged-before.Diverged)
		}
		for node, hops := range map[string]int{"r1": 2, "r2": 1, "r3": 2} {
			if a := w.age(id, node); a > oldest(hops) {
				t.Errorf("what %s shows is %v old, want at most %v", node, a, oldest(hops))
			}
		}
		for _, f := range w.Failures() {
			t.Error(f)
		}
	})
}

// Nodes that name each other as the better feeder, against the rule, get into a ring. Cut off from the voters it shows no fresh bound; it breaks by
// itself, and with the voters in reach service comes back.
func TestRing(t *testing.T) {
	for _, ask := range []bool{false, true} {
		t.Run(fmt.Sprintf("ask=%v", ask), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newRelays(t, ask, map[string][]string{"r1": {"v1"}, "r2": {"r1", "v2"}, "r3": {"r2", "v3"}})
				defer w.stop()
				id, err := w.Create(2, "a")
				if err != nil {
					t.Fatal(err)
				}
				w.fedBy(id, "r1", "v1")
				w.fedBy(id, "r2", "r1")
				w.fedBy(id, "r3", "r2")
				stop := w.writing("a", 15*time.Millisecond)
				w.SetFeeders("r1", []string{"r3", "v1"})
				ringed := false
				for range 4000 {
					s, _ := w.Node("r1").Follower.Status(id)
					ringed = ringed || s.Feeder == "r3"
					time.Sleep(5 * time.Millisecond)
				}
				if !ringed {
					t.Fatal("there was no ring")
				}
				// The nodes of the ring reach each other alone.
				for _, r := range []string{"r1", "r2", "r3"} {
					for _, v := range []string{"v1", "v2", "v3"} {
						w.Cut(r, v)
						w.Cut(v, r)
					}
				}
				cut := time.Now()
				for range 4000 {
					time.Sleep(5 * time.Millisecond)
					for _, r := range []string{"r1", "r2", "r3"} {
						if age := w.age(id, r); age < time.Since(cut)-200*time.Millisecond {
							t.Fatalf("%s, %v after it was cut off, says that what it shows is %v old", r, time.Since(cut), age)
						}
					}
				}
				w.HealAll()
				w.SetFeeders("r1", []string{"v1"})
				stop()
				for _, r := range []string{"r1", "r2", "r3"} {
					w.eventually(r+" is fresh again", func() bool { return w.age(id, r) < time.Second })
				}
				for _, f := range w.Failures() {
					t.Error(f)
				}
			})
		})
	}
}
