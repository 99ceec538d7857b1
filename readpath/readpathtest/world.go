package readpathtest

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/nearsql/nearsql/cluster/clustertest"
	"github.com/nearsql/nearsql/wire"
)

// Faults break what the packages under test rely on.
type Faults struct {
	PrimaryClock   bool // freshness is what the primary's time of day in the newest entry says
	Unconfirmed    bool // a deposed primary answers
	RelayOwnPair   bool // a node that follows answers questions from what it was told before
	SuspendIgnored bool // nodes have a clock that stands still in suspend, and no other
}

// Any says whether there is a fault.
func (f Faults) Any() bool { return f != Faults{} }

// Counts are what a run did.
type Counts struct {
	Txns, Copies, LTX, Diverged                   int
	Served, Waited, Forwarded, Refused, ByReplica int
	Oldest                                        time.Duration // of those served
}

// World is a cluster and what really happened in it.
type World struct {
	Net       *clustertest.Network
	Faults    Faults
	Log       *slog.Logger
	TailBytes int64
	// AskVoters lets nodes ask voters for indexes, and not only those that feed them.
	AskVoters bool
	// Quick lets no copy wait now and then before it takes an entry.
	Quick bool

	catalogue string // the node that keeps it
	rng       *rand.Rand
	mu        sync.Mutex
	seen      Counts // guarded by mu, as all below
	delay     time.Duration
	nodes     map[string]*Node
	groups    map[wire.GroupID]*Group
	cut       map[[2]string]bool
	names     map[string]wire.TenantID
	home      map[wire.TenantID]wire.GroupID
	history   map[wire.TenantID][]answered
	lastID    uint64

	lists  sync.Mutex                // taken while a Follower's lock is held, so that none is taken in it
	voters map[wire.GroupID][]string // guarded by lists; the lists are constant

	failing  sync.Mutex
	failures []string // guarded by failing
}

// answered is a change and when its writer was told.
type answered struct {
	version int
	at      time.Time
	after   State
}

// NewWorld returns a world without nodes.
func NewWorld(seed uint64, faults Faults, log *slog.Logger) *World {
	return &World{
		Net: clustertest.New(clustertest.Options{}), Faults: faults, Log: log, TailBytes: 64 << 10, rng: rand.New(rand.NewPCG(seed, 1)), delay: 10 * time.Millisecond,
		nodes: make(map[string]*Node), groups: make(map[wire.GroupID]*Group), cut: make(map[[2]string]bool), names: make(map[string]wire.TenantID),
		home: make(map[wire.TenantID]wire.GroupID), voters: make(map[wire.GroupID][]string), history: make(map[wire.TenantID][]answered),
	}
}

// Start makes nodes and groups that run until ctx ends; wait for run then. The first voter of a group leads it at first.
func (w *World) Start(ctx context.Context, run *sync.WaitGroup, nodes []string, voters map[wire.GroupID][]string, feeders map[string][]string) error {
	for i, name := range nodes {
		n, err := w.newNode(ctx, run, name, time.Duration(i-2)*7*time.Second)
		if err != nil {
			return err
		}
		w.lists.Lock()
		n.feeders = feeders[name]
		w.lists.Unlock()
		if w.catalogue == "" {
			w.catalogue = name
		}
	}
	for id, names := range voters {
		g := &Group{ID: id, Voters: names, Leader: names[0], state: make(map[wire.TenantID]*State)}
		w.groups[id] = g
		w.lists.Lock()
		w.voters[id] = names
		w.lists.Unlock()
		for _, name := range names {
			w.nodes[name].vote(ctx, run, g)
		}
	}
	w.SetDelay(w.delay)
	return nil
}

// Failed notes that a promise was broken.
func (w *World) Failed(format string, args ...any) {
	w.failing.Lock()
	defer w.failing.Unlock()
	w.failures = append(w.failures, fmt.Sprintf(format, args...))
}

// Failures are what was noted.
func (w *World) Failures() []string {
	w.failing.Lock()
	defer w.failing.Unlock()
	return slices.Clone(w.failures)
}

// Node returns a node.
func (w *World) Node(name string) *Node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[name]
}

// SetDelay sets the delay of all links, one way.
func (w *World) SetDelay(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delay = d
	for a := range w.nodes {
		for b := range w.nodes {
			if a != b {
				w.Net.SetDelay(a, b, d)
			}
		}
	}
}

func (w *World) connectedLocked(a, b string) bool {
	return a == b || !w.cut[[2]string{a, b}] && !w.cut[[2]string{b, a}]
}

// Cut lets nothing pass from one node to another.
func (w *World) Cut(from, to string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[[2]string{from, to}] = true
	w.Net.Cut(from, to)
}

// Heal ends Cut.
func (w *World) Heal(from, to string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.cut, [2]string{from, to})
	w.Net.Heal(from, to)
}

// HealAll ends all cuts.
func (w *World) HealAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.cut)
	w.Net.HealAll()
}

// Isolate cuts a node off.
func (w *World) Isolate(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for other := range w.nodes {
		if other != name {
			w.cut[[2]string{name, other}], w.cut[[2]string{other, name}] = true, true
			w.Net.CutBoth(name, other)
		}
	}
}

// SetFeeders changes whom a node may follow.
func (w *World) SetFeeders(name string, feeders []string) {
	w.mu.Lock()
	n := w.nodes[name]
	w.mu.Unlock()
	w.lists.Lock()
	n.feeders = feeders
	w.lists.Unlock()
	n.Follower.Reconsider()
}

// Suspend stops a node's machine: its clocks stand still, and nothing gets through to it.
func (w *World) Suspend(name string, bootStops bool) {
	w.mu.Lock()
	n := w.nodes[name]
	n.suspended = true
	w.mu.Unlock()
	n.Clock.Suspend(bootStops)
	w.Isolate(name)
}

// Resume ends Suspend; the network comes back a little later.
func (w *World) Resume(name string) {
	w.mu.Lock()
	n := w.nodes[name]
	n.suspended = false
	w.mu.Unlock()
	n.Clock.Resume()
}

// Elect makes another voter lead a group, if it reaches a majority.
func (w *World) Elect(id wire.GroupID, name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.groups[id]
	n := w.nodes[name]
	if !slices.Contains(g.Voters, name) || n.suspended || !w.majorityLocked(g, name) {
		return false
	}
	g.Leader = name
	v := n.voters[id]
	v.leader = name
	w.catchUpLocked(n, v)
	return true
}

// Create makes a tenant. A tenant that has the name keeps it until it is deleted.
func (w *World) Create(group wire.GroupID, name string) (wire.TenantID, error) {
	w.mu.Lock()
	w.lastID++
	var id wire.TenantID
	binary.BigEndian.PutUint64(id[:], w.lastID<<32|uint64(group))
	id[15] = 1
	g := w.groups[group]
	w.mu.Unlock()
	err := w.commit(g, id, func(s *State, now time.Duration) ([]byte, error) { return s.Control(CodeCreated, []byte(name), now) })
	if err != nil {
		return id, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names[name], w.home[id] = id, group
	return id, nil
}

// groupOf is where a tenant is, and who it is by name.
func (w *World) groupOf(name string) (*Group, wire.TenantID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := w.names[name]
	return w.groups[w.home[id]], id
}

// Write changes a tenant.
func (w *World) Write(name string) error {
	g, id := w.groupOf(name)
	if g == nil {
		return fmt.Errorf("no tenant %q", name)
	}
	return w.commit(g, id, func(s *State, now time.Duration) ([]byte, error) {
		if s.Deleted {
			return nil, fmt.Errorf("tenant %q was deleted", name)
		}
		return s.Write(now)
	})
}

// Rename gives a tenant another name.
func (w *World) Rename(name, to string) error {
	g, id := w.groupOf(name)
	if g == nil {
		return fmt.Errorf("no tenant %q", name)
	}
	err := w.commit(g, id, func(s *State, now time.Duration) ([]byte, error) { return s.Control(CodeRenamed, []byte(to), now) })
	if err == nil {
		w.mu.Lock()
		delete(w.names, name)
		w.names[to] = id
		w.mu.Unlock()
	}
	return err
}

// Recreate deletes a tenant and makes another of the same name.
func (w *World) Recreate(name string) error {
	g, id := w.groupOf(name)
	if g == nil {
		return fmt.Errorf("no tenant %q", name)
	}
	if err := w.commit(g, id, func(s *State, now time.Duration) ([]byte, error) { return s.Control(CodeDeleted, nil, now) }); err != nil {
		return err
	}
	_, err := w.Create(g.ID, name)
	return err
}

// Move brings a tenant to another group: the old one commits the departure before the new one takes a write.
func (w *World) Move(name string, to wire.GroupID) error {
	g, id := w.groupOf(name)
	if g == nil || g.ID == to {
		return fmt.Errorf("no tenant %q to move", name)
	}
	err := w.commit(g, id, func(s *State, now time.Duration) ([]byte, error) { return s.Control(CodeMoved, []byte{byte(to)}, now) })
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.groups[to]
	s := *g.state[id]
	s.Group, s.MovedTo = to, 0
	h.log = append(h.log, logged{nil, time.Now()}) // the arrival; the copies come otherwise
	s.Index = uint64(len(h.log))
	h.state[id] = &s
	w.home[id] = to
	for _, name := range h.Voters {
		arrived := s
		v := w.nodes[name].voters[to]
		v.copies[id] = &arrived
		v.tail.Renew(id, s.Index)
	}
	return nil
}

// Refuse lets a group's log have an entry that all copies refuse.
func (w *World) Refuse(group wire.GroupID) {
	w.mu.Lock()
	g := w.groups[group]
	w.mu.Unlock()
	w.refuse(g)
}

// Counts are what has been done so far.
func (w *World) Counts() Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}
