package sqlnode

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nearsql/nearsql/cluster/clustertest"
	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/readpath/replica"
	"github.com/nearsql/nearsql/sqlnode/replicas"
)

// simulation is a cluster in one process on virtual time: whole nodes, a network in memory, and files that are real or, with
// disks, in memory.
type simulation struct {
	t    *testing.T
	net  *clustertest.Network
	dir  string
	tune func(*Config) // nil for none
	log  *slog.Logger  // nil for none
	ill  bool          // nodes may end with errors

	plant simPlant // faults of the product

	mu struct {
		sync.Mutex
		nodes map[string]*simNode        // that are up
		disks map[string]*disktest.MemFS // of nodes up and down; nil if files are real

		clocks  map[string]*simClock // of nodes up and down
		crashAt int                  // at which operation of its disk the next node that starts loses its power; 0 for none
	}
}

// simNode is one life of a node: from start to halt or kill.
type simNode struct {
	*Node
	cfg    Config
	stop   context.CancelFunc
	ended  chan error
	life   context.Context // ends when nobody hears of it any more
	gone   context.CancelFunc
	faults *disktest.Faults
	ailing atomic.Bool // its disk has failed, so that it may end
	dead   atomic.Bool // what it answers from now on reaches nobody
	clock  *simClock
}

func newSimulation(t *testing.T) *simulation {
	s := &simulation{t: t, net: clustertest.New(clustertest.Options{}), dir: t.TempDir()}
	s.mu.nodes, s.mu.clocks = map[string]*simNode{}, map[string]*simClock{}
	return s
}

// inMemory gives all nodes disks that lose, at a crash, what was not synced.
func (s *simulation) inMemory() { s.mu.disks = map[string]*disktest.MemFS{} }

// node is the node of that id; nil if it is down.
func (s *simulation) node(id string) *simNode {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.nodes[id]
}

// up is the nodes that are up, by id.
func (s *simulation) up() []*simNode {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*simNode, 0, len(s.mu.nodes))
	for _, n := range s.mu.nodes {
		list = append(list, n)
	}
	slices.SortFunc(list, func(a, b *simNode) int { return strings.Compare(a.id.Node, b.id.Node) })
	return list
}

// close stops all nodes.
func (s *simulation) close() {
	for _, n := range s.up() {
		if err := s.halt(n.id.Node); err != nil && !errors.Is(err, context.Canceled) && !s.ill {
			s.t.Errorf("node %s ended with %v", n.id.Node, err)
		}
	}
}

// disk is the disk of a node, empty if it has none yet.
func (s *simulation) disk(id string) *disktest.MemFS {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.mu.disks[id]
	if d == nil {
		d = disktest.NewMemFS()
		dir := filepath.Join(s.dir, id)
		if err := d.MkdirAll("sim.mkdir", dir, 0o700); err != nil {
			s.t.Fatal(err)
		}
		for up := filepath.Dir(dir); up != "/"; up = filepath.Dir(up) { // it was there before the node
			if err := d.SyncDir("sim.syncdir", up); err != nil {
				s.t.Fatal(err)
			}
		}
		if err := d.SyncDir("sim.syncdir", "/"); err != nil {
			s.t.Fatal(err)
		}
		s.mu.disks[id] = d
	}
	return d
}

// clock is the clocks of a node's machine.
func (s *simulation) clock(id string) *simClock {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.clocks[id] == nil {
		s.mu.clocks[id] = newSimClock()
	}
	return s.mu.clocks[id]
}

// config is that of a node; the network knows nodes by name, addresses have a port for those who want one.
func (s *simulation) config(n *simNode, id string) Config {
	node := s.net.Node(id)
	l, err := node.Listen()
	if err != nil {
		s.t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Listen, cfg.MinFreeSpace = filepath.Join(s.dir, id), "", -1
	cfg.NodeID, cfg.PoP = id, "pop-"+id
	cfg.ClusterListener, cfg.ClusterAdvertise = l, id+":1"
	cfg.ClusterDialer = func(ctx context.Context, addr string) (net.Conn, error) {
		return node.Dial(ctx, strings.TrimSuffix(addr, ":1"))
	}
	cfg.ShutdownGrace = 2 * time.Second
	cfg.Now = n.clock.wall
	if s.mu.disks != nil {
		n.faults = disktest.NewFaults(s.disk(id))
		if s.mu.crashAt > 0 {
			n.ailing.Store(true)
			n.faults.CrashNth(s.mu.crashAt)
		}
		cfg.FS = newSimFS(n.faults, cfg.DataDir)
	}
	if s.log != nil {
		cfg.Log = s.log.With("on", id)
	}
	if s.tune != nil {
		s.tune(&cfg)
	}
	return cfg
}

// start starts a node: a new one makes a cluster, or joins that of the nodes named.
func (s *simulation) start(id string, join ...string) *simNode {
	s.t.Helper()
	n, err := s.tryStart(id, join...)
	if err != nil {
		s.t.Fatalf("%s: %v", id, err)
	}
	return n
}

func (s *simulation) tryStart(id string, join ...string) (*simNode, error) {
	n := &simNode{ended: make(chan error, 1), clock: s.clock(id)}
	n.cfg = s.config(n, id)
	if len(join) > 0 {
		for i := range join {
			join[i] += ":1"
		}
		if err := Join(context.Background(), n.cfg, join); err != nil {
			n.cfg.ClusterListener.Close()
			return nil, err
		}
	}
	var err error
	if n.Node, err = New(n.cfg); err != nil {
		n.cfg.ClusterListener.Close()
		return nil, err
	}
	n.clock.run(n.Node, s.plant)
	if s.plant.unasked {
		if n.repl.feeder, err = replica.NewFeeder(replica.FeederConfig{Source: replicas.NewSource(unasked{n.groups}, n.repl.set, n.repl.follower), Log: n.cfg.Log}); err != nil {
			return nil, err
		}
	}
	if s.plant.believing {
		if n.repl.feeder, err = replica.NewFeeder(replica.FeederConfig{Source: believing{replicas.NewSource(n.groups, n.repl.set, n.repl.follower), n.repl}, Log: n.cfg.Log}); err != nil {
			return nil, err
		}
	}
	var running context.Context
	running, n.stop = context.WithCancel(context.Background())
	n.life, n.gone = context.WithCancel(context.Background())
	s.mu.Lock()
	s.mu.nodes[id] = n
	s.mu.Unlock()
	go func() { n.ended <- n.Run(running, nil) }()
	return n, nil
}

// take removes a node from those that are up.
func (s *simulation) take(id string) *simNode {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.mu.nodes[id]
	delete(s.mu.nodes, id)
	return n
}

// halt stops a node in order.
func (s *simulation) halt(id string) error {
	n := s.take(id)
	n.stop()
	defer n.gone()
	return s.end(n)
}

// end returns when the node has ended with all its goroutines.
func (s *simulation) end(n *simNode) error {
	select {
	case err := <-n.ended:
		n.ended <- err
		return err
	case <-time.After(2 * time.Minute):
		b := make([]byte, 4<<20)
		file := filepath.Join(os.TempDir(), "sim-stuck-"+n.id.Node+".txt")
		_ = os.WriteFile(file, b[:runtime.Stack(b, true)], 0o600)
		s.t.Fatalf("node %s does not end; what its goroutines do is in %s", n.id.Node, file)
		return nil
	}
}

// kill ends a node as kill -9 does or, with a source of chance, as the loss of its power: its connections break, and
// its disk keeps what the system had of it, or what was synced and any part of the rest.
func (s *simulation) kill(id string, power *rand.Rand) {
	n := s.node(id)
	if n == nil {
		return
	}
	dir := filepath.Join(n.cfg.DataDir, "crr")
	var before simFiles
	if s.plant.forgetful {
		before = takeSimFiles(dir)
		time.Sleep(time.Second)
	}
	if s.take(id) == nil {
		return
	}
	n.dead.Store(true)
	n.gone()
	s.net.Kill(id)
	tables := takeSimFiles(dir)
	if s.plant.forgetful {
		tables = before
	}
	s.mu.Lock()
	if d := s.mu.disks[id]; d != nil && power != nil {
		s.mu.disks[id] = d.Crash(power)
	} else if d != nil {
		s.mu.disks[id] = d.Kill()
	}
	s.mu.Unlock()
	if n.faults != nil {
		n.faults.Crash("*", 1) // nothing more happens on the old one
	}
	n.stop()
	_ = s.end(n)
	if err := tables.restore(dir); err != nil {
		s.t.Error(err)
	}
}

// await waits until f says nothing.
func (s *simulation) await(d time.Duration, f func() string) {
	s.t.Helper()
	end := time.Now().Add(d)
	for {
		why := f()
		if why == "" {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("after %v: %s", d, why)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
