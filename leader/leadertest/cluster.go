package leadertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/wire"
)

// Group is the group of every Cluster.
const Group wire.GroupID = 7

// Cluster is the nodes of one group. Its methods are for one goroutine, but for those that say otherwise.
type Cluster struct {
	Net    *Network
	Adjust func(*leader.Config) // of each node that starts; nil for none

	t     testing.TB
	names []leader.NodeID // of the initial voters
	lives sync.WaitGroup

	mu struct {
		sync.Mutex
		nodes map[leader.NodeID]*Node // by id; those that are down have no life
	}
}

// Node is a node that may be up or down.
type Node struct {
	ID   leader.NodeID
	Disk *disktest.MemFS // of its next life, or its life
	Life *Life           // nil if it is down
}

// Life is one run of a node. Its methods may be called by several goroutines.
type Life struct {
	Node  leader.NodeID
	Group *leader.Group
	List  *List

	endpoint *endpoint
	stop     context.CancelFunc
	ended    chan struct{}
	err      error // of Run; constant from when ended is closed

	mu struct {
		sync.Mutex
		dead bool // killed: what it says counts no more
	}
}

// New returns a cluster of n nodes, n1 and so on, that are down. All of it must have ended when the test ends, which Cleanup sees to.
func New(t testing.TB, n int) *Cluster {
	c := &Cluster{Net: NewNetwork(), t: t}
	c.mu.nodes = make(map[leader.NodeID]*Node)
	for i := range n {
		c.names = append(c.names, leader.NodeID(fmt.Sprintf("n%d", i+1)))
		c.add(c.names[i])
	}
	t.Cleanup(func() {
		for _, n := range c.Nodes() {
			if n.Life != nil {
				c.Kill(n.ID)
			}
		}
		c.lives.Wait()
	})
	return c
}

func (c *Cluster) add(id leader.NodeID) *Node {
	n := &Node{ID: id, Disk: disktest.NewMemFS()}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.nodes[id] = n
	return n
}

// Nodes returns all nodes, by their ids.
func (c *Cluster) Nodes() []*Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*Node
	for _, n := range c.mu.nodes {
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b *Node) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return all
}

// Life returns a node's life; nil if it is down. It may be called by several goroutines.
func (c *Cluster) Life(id leader.NodeID) *Life {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.mu.nodes[id]; n != nil {
		return n.Life
	}
	return nil
}

// StartAll starts all nodes that are down.
func (c *Cluster) StartAll() {
	for _, n := range c.Nodes() {
		if n.Life == nil {
			c.Start(n.ID)
		}
	}
}

// Start starts a node; one that is new to the cluster has an empty disk and
// waits to be added.
func (c *Cluster) Start(id leader.NodeID) *Life {
	c.mu.Lock()
	n := c.mu.nodes[id]
	c.mu.Unlock()
	if n == nil {
		n = c.add(id)
	}
	l := &Life{Node: id, List: &List{}, endpoint: &endpoint{net: c.Net, node: id}, ended: make(chan struct{})}
	cfg := leader.Config{
		Group: Group, Node: id, FS: n.Disk, Dir: "/g", Machine: l.List, Network: l.endpoint, SegmentSize: 16 << 10,
	}
	if slices.Contains(c.names, id) {
		cfg.InitialVoters = c.names
	}
	if c.Adjust != nil {
		c.Adjust(&cfg)
	}
	g, err := leader.New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	l.Group = g
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	c.lives.Go(func() {
		defer cancel()
		l.err = g.Run(ctx)
		close(l.ended)
	})
	c.mu.Lock()
	n.Life = l
	c.mu.Unlock()
	return l
}

// Ended says whether the node's Run has returned by itself, and with what.
func (l *Life) Ended() (error, bool) {
	select {
	case <-l.ended:
		return l.err, true
	default:
		return nil, false
	}
}

// take takes the life of a node.
func (c *Cluster) take(id leader.NodeID) (*Node, *Life) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.mu.nodes[id]
	l := n.Life
	n.Life = nil
	return n, l
}

// Stop ends a node in good order, and returns how Run ended.
func (c *Cluster) Stop(id leader.NodeID) error {
	_, l := c.take(id)
	l.stop()
	<-l.ended
	c.Net.drop(l.endpoint)
	return l.err
}

// Kill ends a node's process: its disk keeps all that was written.
func (c *Cluster) Kill(id leader.NodeID) { c.kill(id, (*disktest.MemFS).Kill) }

// Crash takes a node's power: its disk keeps what was synced, and any part of the rest.
func (c *Cluster) Crash(id leader.NodeID, rng *rand.Rand) {
	c.kill(id, func(m *disktest.MemFS) *disktest.MemFS { return m.Crash(rng) })
}

func (c *Cluster) kill(id leader.NodeID, after func(*disktest.MemFS) *disktest.MemFS) {
	n, l := c.take(id)
	l.mu.Lock()
	l.mu.dead = true
	l.mu.Unlock()
	c.Net.drop(l.endpoint)
	n.Disk = after(n.Disk)
	l.stop() // it ends on the old disk, without a network
}

// Primary waits until some node is primary and returns it; nil after d.
func (c *Cluster) Primary(d time.Duration) *Life {
	for end := time.Now().Add(d); time.Now().Before(end); {
		for _, n := range c.Nodes() {
			if n.Life == nil {
				continue
			}
			if now, _ := n.Life.Group.Leadership(); now.Primary {
				return n.Life
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// Wait waits until a condition holds; false after d.
func Wait(d time.Duration, condition func() bool) bool {
	for end := time.Now().Add(d); time.Now().Before(end); {
		if condition() {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return condition()
}

// ErrDied is the cause of a proposal's unknown outcome, or of a read that
// failed, when the node was killed.
var ErrDied = errors.New("the node was killed")

func (l *Life) died() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.dead
}

// Propose proposes an entry and waits for the list's state after it.
func (l *Life) Propose(entry string) (State, error) {
	type outcome struct {
		response any
		err      error
	}
	done := make(chan outcome, 1)
	l.Group.Propose([]byte(entry), func(response any, err error) {
		if l.died() && !errors.As(err, new(*leader.NotPrimaryError)) {
			err = &leader.UnknownOutcomeError{Err: ErrDied}
		}
		done <- outcome{response, err}
	})
	o := <-done
	if o.err != nil {
		return State{}, o.err
	}
	if err, ok := o.response.(error); ok {
		return State{}, err
	}
	return o.response.(State), nil
}

// Read is a linearizable read of the list here.
func (l *Life) Read(ctx context.Context) (State, error) {
	index, err := l.Group.ReadIndexAt(ctx)
	if err != nil {
		return State{}, err
	}
	if err := l.Group.WaitApplied(ctx, index); err != nil {
		return State{}, err
	}
	s := l.List.State()
	if l.died() {
		return State{}, ErrDied
	}
	return s, nil
}
