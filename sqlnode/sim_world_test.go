package sqlnode

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// simReplacements is how many nodes are replaced by new ones in one run, at most.
const simReplacements = 2

// simPlant is faults of the product that a run has on purpose, to see them found.
type simPlant struct {
	weak        bool // strong reads are sent as weak ones
	unmarked    bool // bookmarks are not sent
	unkeyed     bool // what is sent again has no Idempotency-Key
	unconfirmed bool // reads don't ask the voters
	young       bool // copies are believed to be fresh
	theirs      bool // copies are as old as the primary's wall clock says
	standing    bool // a clock that stands still with the machine is the only one
	unasked     bool // those that feed replicas don't ask the voters
	believing   bool // relays don't ask those that feed them
	torn        bool // what belongs together is sent by two requests
	forgetful   bool // conflict-free tables are on disk a moment after they are acknowledged
	unsynced    bool // disks say that they have synced, and have not
}

// simOptions is what a run is made of.
type simOptions struct {
	seed     uint64
	nodes    int
	replicas int      // nodes beside them that never vote
	shape    simShape // of the trees by which those and others are fed
	clients  int
	lasts    time.Duration
	faults   bool
	aim      string        // a node to which most faults happen, or "feeder": one that replicas follow; "" for none
	sites    bool          // there is a tenant with conflict-free tables
	far      bool          // all are 80 to 250 ms from each other, there and back
	weak     time.Duration // the longest bound, and most reads have one; 0 for any
	only     []string      // faults by name; nil for all
	plant    simPlant
}

// simWorld is a run: a cluster, its clients, and what befalls it.
type simWorld struct {
	simOptions
	t      *testing.T
	s      *simulation
	h      *simHistory
	tables *simTables // nil for none
	faulty sync.WaitGroup

	mu struct {
		sync.Mutex
		rng       *rand.Rand
		list      []string // ids of all nodes
		busy      map[string]bool
		removing  map[string]bool
		cuts      map[[2]string]int
		held      map[[2]string]int
		done      map[string]int
		replacing bool
		replaced  int
		hollow    int
		relays    simRelays
	}
}

func newSimWorld(t *testing.T, o simOptions) *simWorld {
	w := &simWorld{simOptions: o, t: t, s: newSimulation(t)}
	w.mu.rng = rand.New(rand.NewPCG(o.seed, 1))
	w.mu.busy, w.mu.removing, w.mu.cuts, w.mu.done = map[string]bool{}, map[string]bool{}, map[[2]string]int{}, map[string]int{}
	w.mu.held = map[[2]string]int{}
	w.mu.relays.shapes, w.mu.relays.feeders = map[string]simShape{}, map[string]string{}
	w.s.inMemory()
	w.s.log, w.s.ill, w.s.plant = simLog(t), o.plant.unsynced, o.plant
	w.s.tune = func(cfg *Config) {
		cfg.CheckpointBytes, cfg.CheckpointAge = 1<<20, 2*time.Second
		cfg.LTXBytes, cfg.LTXAge, cfg.LTXRetention = 1<<20, 5*time.Second, 20*time.Second
		cfg.IdleClose = 3 * time.Second
		cfg.feedTree = w.feedTree(cfg.NodeID)
		if o.far {
			cfg.HeartbeatTimeout = 2 * time.Second
		}
		if o.plant.unsynced {
			cfg.FS = unsyncedFS{cfg.FS}
		}
	}
	return w
}

func (w *simWorld) ids() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.mu.list)
}

func (w *simWorld) note(what string) {
	w.mu.Lock()
	w.mu.done[what]++
	w.mu.Unlock()
}

func (w *simWorld) say(format string, args ...any) {
	if w.s.log != nil {
		w.s.log.Info("---- " + fmt.Sprintf(format, args...))
	}
}

// take reserves a node for one who starts or stops it.
func (w *simWorld) take(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.busy[id] {
		return false
	}
	w.mu.busy[id] = true
	return true
}

// seize is take, as soon as nobody else has the node.
func (w *simWorld) seize(id string) {
	for !w.take(id) {
		time.Sleep(time.Millisecond)
	}
}

func (w *simWorld) leave(id string) {
	w.mu.Lock()
	delete(w.mu.busy, id)
	w.mu.Unlock()
}

// up starts a node again.
func (w *simWorld) up(id string) {
	n, err := w.s.tryStart(id)
	if err != nil {
		w.h.complain("node %s does not start again: %v", id, err)
		return
	}
	w.spoil(n)
	if w.tables != nil {
		go w.tables.returned(n)
	}
}

// forget is for a node that was removed.
func (w *simWorld) forget(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.list = slices.DeleteFunc(w.mu.list, func(o string) bool { return o == id })
}

// run is the whole of it; it returns what is wrong.
func (w *simWorld) run() []string {
	defer w.s.close()
	w.begin()
	w.h = newSimHistory()
	ctx, stop := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	for i := range w.clients {
		c := &simSession{s: w.s, h: w.h, w: w, id: i, rng: w.chance(), rest: 250 * time.Millisecond}
		clients.Go(func() { c.run(ctx) })
	}
	clients.Go(func() { w.ballast(ctx) })
	clients.Go(func() { w.watch(ctx) })
	if w.tables != nil {
		many, rest := 2+w.replicas, 500*time.Millisecond
		if w.clients == 0 {
			many, rest = 8, 200*time.Millisecond
		}
		for range many {
			rng := w.chance()
			clients.Go(func() { w.tables.client(ctx, rng, rest) })
		}
	}
	if w.faults {
		clients.Go(func() { w.nemesis(ctx) })
	}
	time.Sleep(w.lasts)
	stop()
	clients.Wait()
	return w.judge()
}

// begin makes the cluster and its tenants.
func (w *simWorld) begin() {
	for i := range w.nodes {
		id := fmt.Sprintf("n%d", i+1)
		w.mu.list = append(w.mu.list, id)
		if i == 0 {
			n := w.s.start(id)
			w.s.await(time.Minute, func() string { return ready(n) })
		} else {
			w.s.start(id, "n1")
		}
	}
	w.s.awaitVoters("n1", "default", 3)
	w.s.awaitVoters("n1", "system", 3)
	w.beginReplicas()
	n := w.s.node("n2")
	for i := range simTenants {
		name := fmt.Sprintf("t%d", i)
		n.want(w.t, "POST", "/v1/tenants", `{"name":"`+name+`"}`, 201)
		for _, sql := range simSchema {
			n.sql(w.t, name, "", sql)
		}
		if w.replicas > 0 && (i == 0 || w.weak > 0) {
			n.want(w.t, "PUT", "/v1/tenants/"+name+"/placement", `{"replicas":"all"}`, 200)
		}
	}
	if w.sites {
		w.tables = w.beginTables(n, "c0")
	}
	for _, n := range w.s.up() {
		w.clocks(n.clock)
		w.spoil(n)
		w.distances(n.id.Node)
	}
}

// ballast fills the log, with transactions that take several entries too.
func (w *simWorld) ballast(ctx context.Context) {
	rng := w.chance()
	for ctx.Err() == nil {
		if up := w.s.up(); len(up) > 0 {
			once, cancel := context.WithTimeout(context.Background(), simOpMax)
			size := 2000
			if rng.IntN(3) == 0 {
				size = 200_000
			}
			up[rng.IntN(len(up))].ask(once, "POST", fmt.Sprintf("/v1/tenants/t%d/sql", rng.IntN(simTenants)),
				fmt.Sprintf(`{"sql":"INSERT OR REPLACE INTO ballast VALUES(%d, randomblob(%d))"}`, rng.IntN(20), size), nil)
			cancel()
		}
		pause(ctx, time.Duration(rng.IntN(1000))*time.Millisecond)
	}
}

// watch complains of nodes that end by themselves, and counts copies that are fetched.
func (w *simWorld) watch(ctx context.Context) {
	for ctx.Err() == nil {
		for _, n := range w.s.up() {
			for _, h := range n.groups.all() {
				if len(h.pages.Hollow()) > 0 {
					w.mu.Lock()
					w.mu.hollow++
					w.mu.Unlock()
				}
			}
			w.watchRelays(n)
			w.tend(n)
		}
		pause(ctx, 250*time.Millisecond)
	}
}

// tend starts a node again that has ended. One that was removed ends by itself, and one whose disk failed.
func (w *simWorld) tend(n *simNode) {
	id := n.id.Node
	if len(n.ended) == 0 || !w.take(id) {
		return
	}
	defer w.leave(id)
	if w.s.node(id) != n {
		return
	}
	err := <-n.ended
	n.ended <- err
	w.mu.Lock()
	removed := w.mu.removing[id] && errors.Is(err, errRemoved)
	w.mu.Unlock()
	if !removed && !n.ailing.Load() {
		w.h.complain("node %s ended by itself: %v", id, err)
	}
	w.s.kill(id, w.chance())
	if removed {
		w.forget(id)
	} else {
		w.up(id)
	}
}
