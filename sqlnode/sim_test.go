package sqlnode

import (
	"flag"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/disk"
)

var (
	simSeed     = flag.Uint64("sim.seed", 0, "TestSimulation runs only this seed")
	simMinutes  = flag.Float64("sim.minutes", 0, "virtual minutes of TestSimulation, in runs of at most -sim.run; 0 for the default")
	simRun      = flag.Duration("sim.run", 4*time.Minute, "virtual time of one run of TestSimulation at most")
	simNodes    = flag.Int("sim.nodes", 0, "nodes of TestSimulation; 0 for 3 to 5, by the seed")
	simReplicas = flag.Int("sim.replicas", -1, "nodes of TestSimulation that never vote; -1 for 0 to 3, by the seed")
	simRelaying = flag.Int("sim.relays", -1, "whether TestSimulation has relays with few nodes: 0, 1, or -1 for by the seed")
	simSites    = flag.Int("sim.sites", -1, "whether TestSimulation has conflict-free tables: 0, 1, or -1 for by the seed")
	simOnly     = flag.String("sim.only", "", "faults of TestSimulation, by name, with commas between; all if empty")
	simLogs     = flag.String("sim.log", "", "directory for the logs of all nodes, a file for each test")
)

// simLog is a log in a file, if that is asked for.
func simLog(t *testing.T) *slog.Logger {
	if *simLogs == "" {
		return nil
	}
	f, err := os.Create(filepath.Join(*simLogs, strings.ReplaceAll(t.Name(), "/", "-")+".log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// TestSimulation runs whole nodes under faults, and checks what their clients were told.
func TestSimulation(t *testing.T) {
	left, most := time.Duration(*simMinutes*float64(time.Minute)), *simRun
	if left == 0 {
		left = 2 * time.Minute
	}
	seed := *simSeed
	if seed == 0 {
		seed = rand.Uint64N(1e9)
	}
	began := time.Now()
	var virtual time.Duration
	for left > 0 && !t.Failed() {
		lasts := min(left, most)
		nodes := *simNodes
		if nodes == 0 {
			nodes = 3 + int(seed%3)
		}
		replicas := *simReplicas
		if replicas < 0 {
			replicas = int(seed / 3 % 4)
		}
		shape := simShape{}
		if rng := rand.New(rand.NewPCG(seed, 2)); *simRelaying > 0 || *simRelaying < 0 && rng.IntN(4) > 0 {
			shape = shape.chance(rng)
		}
		t.Logf("seed %d: %d nodes and %d replicas for %v; relays %v", seed, nodes, replicas, lasts, shape)
		var only []string
		if *simOnly != "" {
			only = strings.Split(*simOnly, ",")
		}
		synctest.Test(t, func(t *testing.T) {
			w := newSimWorld(t, simOptions{seed: seed, nodes: nodes, replicas: replicas, shape: shape, clients: 6 + replicas, sites: *simSites > 0 || *simSites < 0 && seed%2 == 0, only: only, lasts: lasts, faults: true})
			for _, wrong := range w.run() {
				t.Errorf("seed %d: %s", seed, wrong)
			}
			t.Logf("seed %d:\n    %s", seed, w.tally())
		})
		left -= lasts
		virtual += lasts
		seed++
	}
	t.Logf("%.1f virtual minutes in %.1f", virtual.Minutes(), time.Since(began).Minutes())
}

// spoil plants the faults that a run has on purpose.
func (w *simWorld) spoil(n *simNode) {
	for _, h := range n.groups.all() {
		h.skipConfirm.Store(w.plant.unconfirmed)
	}
	if w.plant.theirs {
		go w.theirs(n)
	}
	if !w.plant.young {
		return
	}
	go func() {
		for n.life.Err() == nil {
			for _, h := range n.groups.all() {
				h.fresh.mu.Lock()
				h.fresh.mu.asOf = now()
				h.fresh.mu.Unlock()
			}
			pause(n.life, 50*time.Millisecond)
		}
	}()
}

// unsyncedFS says that it has synced the entries of logs, and has not.
type unsyncedFS struct{ disk.FS }

func (u unsyncedFS) OpenFile(op, name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := u.FS.OpenFile(op, name, flag, perm)
	if err != nil || !strings.HasPrefix(op, "log.") {
		return f, err
	}
	return unsyncedFile{f}, nil
}

type unsyncedFile struct{ disk.File }

func (unsyncedFile) Sync() error { return nil }
