package readpath_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/readpath/readpathtest"
	"github.com/nearsql/nearsql/wire"
)

var (
	simSeed    = flag.Uint64("sim.seed", 0, "run only this seed")
	simSeeds   = flag.Int("sim.seeds", 5, "how many seeds run")
	simMinutes = flag.Int("sim.minutes", 2, "virtual minutes of each seed")
	simLog     = flag.Bool("sim.log", false, "log what nodes say")
)

func logger() *slog.Logger {
	if *simLog {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.DiscardHandler)
}

var (
	voters   = []string{"v1", "v2", "v3", "v4", "v5"}
	replicas = []string{"r1", "r2", "r3", "r4"}
	chain    = map[string][]string{
		"r1": {"v1", "v2", "v3", "v4", "v5"}, "r2": {"r1", "v3", "v5"}, "r3": {"r2", "r1", "v4"}, "r4": {"v5", "v2", "v1", "v3", "v4"},
	}
)

// world starts five voters of two groups, and four nodes that follow, three of them in a row.
func world(ctx context.Context, t *testing.T, run *sync.WaitGroup, seed uint64, faults readpathtest.Faults) *readpathtest.World {
	t.Helper()
	w := readpathtest.NewWorld(seed, faults, logger())
	w.AskVoters = seed%2 == 0
	nodes := append(append([]string(nil), voters...), replicas...)
	groups := map[wire.GroupID][]string{2: {"v1", "v2", "v3"}, 3: {"v3", "v4", "v5"}}
	if err := w.Start(ctx, run, nodes, groups, chain); err != nil {
		t.Fatal(err)
	}
	return w
}

// sim is what befalls a world.
type sim struct {
	w     *readpathtest.World
	rng   *rand.Rand
	names []string
	mu    sync.Mutex // of rng, for readers and the one who does harm
	last  map[string]wire.Pos
}

func (s *sim) pick(list []string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return list[s.rng.IntN(len(list))]
}

func (s *sim) intn(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.IntN(n)
}

func (s *sim) upTo(d time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(s.rng.Int64N(int64(d)))
}

// simulate runs a seed and returns what was broken.
func simulate(t *testing.T, seed uint64, faults readpathtest.Faults, length time.Duration) (failures []string, counts readpathtest.Counts) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var run, work sync.WaitGroup
		w := world(ctx, t, &run, seed, faults)
		s := &sim{w: w, rng: rand.New(rand.NewPCG(seed, 2)), names: []string{"a", "b", "c", "d"}, last: make(map[string]wire.Pos)}
		for i, name := range s.names {
			if _, err := w.Create(wire.GroupID(2+i%2), name); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(3 * time.Second)
		until := time.Now().Add(length)
		for range 3 {
			work.Go(func() { s.write(until) })
		}
		for range 4 {
			work.Go(func() { s.read(ctx, until) })
		}
		work.Go(func() { s.harm(until) })
		work.Wait()
		cancel()
		run.Wait()
		failures, counts = w.Failures(), w.Counts()
	})
	return failures, counts
}

func (s *sim) write(until time.Time) {
	for time.Now().Before(until) {
		burst := 1
		if s.intn(20) == 0 {
			burst = 100
		}
		name := s.pick(s.names)
		for range burst {
			_ = s.w.Write(name) // one that can't be made is no change
		}
		time.Sleep(s.upTo(100 * time.Millisecond))
	}
}

var bounds = []time.Duration{0, 50 * time.Millisecond, 200 * time.Millisecond, time.Second, 5 * time.Second, 20 * time.Second}

func (s *sim) read(ctx context.Context, until time.Time) {
	nodes := append(append([]string(nil), voters...), replicas...)
	for time.Now().Before(until) {
		name, node := s.pick(s.names), s.pick(nodes)
		level := readpath.Level{Consistency: readpath.Bounded, Staleness: bounds[s.intn(len(bounds))], OnStale: readpath.OnStale(s.intn(2))}
		if s.intn(3) == 0 {
			s.mu.Lock()
			if pos, ok := s.last[name]; ok {
				b, err := wire.ParseBookmark(wire.Bookmark(pos))
				if err == nil {
					level.Bookmark = &b
				}
			}
			s.mu.Unlock()
		}
		if s.intn(10) == 0 {
			level.Consistency = readpath.Any
		}
		a, err := s.w.Read(ctx, node, name, level)
		if err == nil {
			s.mu.Lock()
			s.last[name] = a.Pos
			s.mu.Unlock()
		}
		time.Sleep(s.upTo(20 * time.Millisecond))
	}
}

// harm does one bad thing after another, and lets the cluster be well in between.
func (s *sim) harm(until time.Time) {
	nodes := append(append([]string(nil), voters...), replicas...)
	for time.Now().Before(until) {
		time.Sleep(s.upTo(2 * time.Second))
		group := wire.GroupID(2 + s.intn(2))
		switch s.intn(15) {
		case 0, 1:
			s.w.Cut(s.pick(nodes), s.pick(nodes))
		case 2:
			s.w.Isolate(s.pick(nodes))
		case 3:
			s.w.Isolate(s.pick(voters))
			time.Sleep(500 * time.Millisecond)
			s.w.Elect(group, s.pick(voters))
		case 4, 5:
			s.w.Elect(group, s.pick(voters))
		case 6:
			s.w.Node(s.pick(nodes)).Clock.Jump(s.upTo(time.Hour) - 30*time.Minute)
		case 7:
			s.w.Node(s.pick(nodes)).Clock.Drift(0.5 + float64(s.intn(100))/100)
		case 8:
			node := s.pick(nodes)
			whole := s.intn(2) == 0
			if whole {
				// When the whole virtual machine stops, the time of day is the one clock left: it is assumed to be right then.
				s.w.Node(node).Clock.Drift(1)
				time.Sleep(21 * time.Second)
			}
			s.w.Suspend(node, whole)
			time.Sleep(s.upTo(20 * time.Second))
			s.w.Resume(node)
			time.Sleep(s.upTo(time.Second)) // it reads before the network is back
			s.w.HealAll()
		case 9:
			_ = s.w.Recreate(s.pick(s.names))
		case 10:
			name := s.pick(s.names)
			if s.w.Rename(name, name+"-old") == nil {
				_, _ = s.w.Create(group, name) // another tenant has the name now
			}
		case 11:
			_ = s.w.Move(s.pick(s.names), group)
		case 12:
			node := s.pick(replicas)
			feeders := append([]string(nil), nodes...)
			s.mu.Lock()
			s.rng.Shuffle(len(feeders), func(i, j int) { feeders[i], feeders[j] = feeders[j], feeders[i] })
			s.mu.Unlock()
			var others []string
			for _, f := range feeders {
				if f != node {
					others = append(others, f)
				}
			}
			s.w.SetFeeders(node, others)
			s.w.Net.Reset(node, s.pick(nodes))
		case 13:
			s.w.Refuse(group)
			s.w.SetDelay(time.Millisecond + s.upTo(80*time.Millisecond))
		default:
			s.w.HealAll()
			time.Sleep(s.upTo(10 * time.Second))
		}
		if s.intn(3) == 0 {
			time.Sleep(s.upTo(3 * time.Second))
			s.w.HealAll()
		}
	}
	s.w.HealAll()
}

func seeds() []uint64 {
	if *simSeed != 0 {
		return []uint64{*simSeed}
	}
	var l []uint64
	for i := range *simSeeds {
		l = append(l, uint64(i)+1)
	}
	return l
}

// TestBounds: no weak read is older than its bound, whatever befalls the cluster.
func TestBounds(t *testing.T) {
	for _, seed := range seeds() {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			failures, c := simulate(t, seed, readpathtest.Faults{}, time.Duration(*simMinutes)*time.Minute)
			t.Logf("seed %d: %+v", seed, c)
			for _, f := range failures[:min(len(failures), 5)] {
				t.Errorf("seed %d: %s", seed, f)
			}
			if c.Diverged > 0 {
				t.Errorf("seed %d: %d copies were said to differ, and none did", seed, c.Diverged)
			}
			if c.ByReplica < 100 || c.Txns < 100 || c.Copies < 4 {
				t.Errorf("seed %d did too little to show anything: %+v", seed, c)
			}
		})
	}
}

// TestFaultsAreCaught: the checker sees what would break a bound. Each fault is one of what the packages rely on; without it, the same
// scenario is clean.
func TestFaultsAreCaught(t *testing.T) {
	read := func(ctx context.Context, w *readpathtest.World, node, name string, bound time.Duration) {
		_, _ = w.Read(ctx, node, name, readpath.Level{Consistency: readpath.Bounded, Staleness: bound, OnStale: readpath.StaleFails})
	}
	for _, c := range []struct {
		name   string
		faults readpathtest.Faults
		do     func(ctx context.Context, w *readpathtest.World)
	}{
		{"freshness from the primary's clock", readpathtest.Faults{PrimaryClock: true}, func(ctx context.Context, w *readpathtest.World) {
			w.Node("v1").Clock.Jump(time.Minute)
			_ = w.Write("a")
			time.Sleep(time.Second)
			w.Isolate("r1")
			_ = w.Write("a")
			time.Sleep(10 * time.Second)
			read(ctx, w, "r1", "a", 5*time.Second)
		}},
		{"leadership not confirmed", readpathtest.Faults{Unconfirmed: true}, func(ctx context.Context, w *readpathtest.World) {
			w.Isolate("v1") // which leads
			w.Heal("v1", "r1")
			w.Heal("r1", "v1")
			w.Elect(2, "v2")
			_ = w.Write("a")
			time.Sleep(10 * time.Second)
			read(ctx, w, "v1", "a", 5*time.Second)
			read(ctx, w, "r1", "a", 5*time.Second)
		}},
		{"a relay answers from its own pair", readpathtest.Faults{RelayOwnPair: true}, func(ctx context.Context, w *readpathtest.World) {
			w.Isolate("r1")
			w.Heal("r1", "r2")
			w.Heal("r2", "r1")
			_ = w.Write("a")
			time.Sleep(4 * time.Second)
			read(ctx, w, "r2", "a", time.Second)
		}},
		{"suspend ignored", readpathtest.Faults{SuspendIgnored: true}, func(ctx context.Context, w *readpathtest.World) {
			w.Suspend("r1", false)
			_ = w.Write("a")
			time.Sleep(time.Minute)
			w.Resume("r1")
			read(ctx, w, "r1", "a", 5*time.Second)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, faults := range []readpathtest.Faults{{}, c.faults} {
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithCancel(t.Context())
					var run sync.WaitGroup
					w := world(ctx, t, &run, 1, faults)
					w.SetFeeders("r2", []string{"r1"})
					if _, err := w.Create(2, "a"); err != nil {
						t.Fatal(err)
					}
					time.Sleep(5 * time.Second)
					for _, node := range []string{"v1", "r1", "r2"} {
						if faults.Any() {
							break
						}
						if a, err := w.Read(ctx, node, "a", readpath.Level{Consistency: readpath.Bounded, Staleness: 2 * time.Second}); err != nil || a.Node != node {
							t.Fatalf("at first: %+v, %v", a, err)
						}
					}
					c.do(ctx, w)
					failures := w.Failures()
					if faults.Any() != (len(failures) > 0) {
						t.Errorf("with %+v: %q", faults, failures)
					}
					cancel()
					run.Wait()
				})
			}
		})
	}
}
