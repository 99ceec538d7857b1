package readpathtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/readpath/replica"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
	"github.com/nearsql/nearsql/wire/txn"
)

// Node is one node: what it votes on, follows and feeds.
type Node struct {
	Name     string
	Clock    *Clock
	Follower *replica.Follower
	Feeder   *replica.Feeder

	w     *World
	net   *cluster.Net
	ticks *readpath.Ticks

	feeders []string // guarded by World.lists

	// Guarded by World.mu:
	suspended bool
	voters    map[wire.GroupID]*voter
	probers   map[wire.GroupID]*readpath.Prober
	copies    map[wire.TenantID]*State       // followed
	names     map[string]wire.TenantID       // its catalogue
	groups    map[wire.TenantID]wire.GroupID // its catalogue
	pair      map[wire.GroupID]uint64        // for Faults.RelayOwnPair
}

func tenantOf(entry []byte) wire.TenantID {
	h, err := txn.DecodeHeader(entry)
	if err != nil {
		return wire.TenantID{}
	}
	return h.Tenant
}

// newNode makes a node and starts it.
func (w *World) newNode(ctx context.Context, run *sync.WaitGroup, name string, offset time.Duration) (*Node, error) {
	n := &Node{Name: name, w: w, Clock: NewClock(offset), voters: make(map[wire.GroupID]*voter), probers: make(map[wire.GroupID]*readpath.Prober),
		copies: make(map[wire.TenantID]*State), names: make(map[string]wire.TenantID), groups: make(map[wire.TenantID]wire.GroupID), pair: make(map[wire.GroupID]uint64)}
	n.Clock.ignoreSuspend = w.Faults.SuspendIgnored
	n.ticks = readpath.NewTicks(n.Clock)
	p := w.Net.Node(name)
	l, err := p.Listen()
	if err != nil {
		return nil, err
	}
	n.net, err = cluster.New(cluster.Config{ClusterID: cluster.ID{1}, Node: name, Listener: l, Dialer: p.Dial, Resolve: w.Net.Resolve})
	if err != nil {
		return nil, err
	}
	n.Feeder, err = replica.NewFeeder(replica.FeederConfig{Source: source{n}, Log: w.Log.With("node", name)})
	if err != nil {
		return nil, err
	}
	n.Follower, err = replica.NewFollower(replica.FollowerConfig{
		Sink: sink{n}, Ticks: n.ticks, Log: w.Log.With("node", name), TailBytes: w.TailBytes,
		Dial: func(ctx context.Context, node string) (net.Conn, error) {
			return n.net.Dial(ctx, node, cluster.PurposeStream, 0)
		},
		Feeders: func(wire.TenantID) []string {
			w.lists.Lock()
			defer w.lists.Unlock()
			return slices.Clone(n.feeders)
		},
		Voters: func(group wire.GroupID) []string {
			w.lists.Lock()
			defer w.lists.Unlock()
			if !w.AskVoters {
				return nil
			}
			return w.voters[group]
		},
	})
	if err != nil {
		return nil, err
	}
	if err := n.net.Handle(cluster.PurposeStream, func(ctx context.Context, c *cluster.Conn) { n.Feeder.Serve(ctx, c.From(), c) }); err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.nodes[name] = n
	w.mu.Unlock()
	for _, part := range []func(context.Context) error{n.net.Run, n.ticks.Run, n.Feeder.Run, n.Follower.Run, n.readCatalogue} {
		run.Go(func() {
			if err := part(ctx); err != nil {
				w.Failed("node %s: %v", name, err)
			}
		})
	}
	return n, nil
}

// vote lets a node vote in a group.
func (n *Node) vote(ctx context.Context, run *sync.WaitGroup, g *Group) {
	v := &voter{g: g, leader: g.Leader, copies: make(map[wire.TenantID]*State), tail: replica.NewTail(g.ID, 0, n.w.TailBytes), changed: make(chan struct{})}
	n.w.mu.Lock()
	n.voters[g.ID] = v
	p := readpath.NewProber(readpath.ProberConfig{Voter: &nodeVoter{n, v}, Ticks: n.ticks})
	n.probers[g.ID] = p
	n.w.mu.Unlock()
	run.Go(func() { n.replicate(ctx, v) })
	run.Go(func() { _ = p.Run(ctx) })
}

// readCatalogue brings the node's catalogue up to date while it reaches somebody; it is always a little old.
func (n *Node) readCatalogue(ctx context.Context) error {
	tick := time.NewTicker(700 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		n.w.mu.Lock()
		if !n.suspended && n.w.connectedLocked(n.Name, n.w.catalogue) {
			clear(n.names)
			clear(n.groups)
			for name, id := range n.w.names {
				n.names[name] = id
			}
			for id, g := range n.w.home {
				n.groups[id] = g
			}
		}
		want := make(map[wire.TenantID]wire.GroupID)
		for id, g := range n.groups {
			if n.voters[g] == nil {
				want[id] = g
			}
		}
		n.w.mu.Unlock()
		for id, g := range want {
			n.Follower.Follow(id, g, 1)
		}
	}
}

// copyLocked is the node's copy of a tenant that can be fed from, in the voter that has it, if any.
func (n *Node) copyLocked(id wire.TenantID) (*State, *voter) {
	var moved *State
	for _, v := range n.voters {
		if s := v.copies[id]; s != nil {
			if s.MovedTo == 0 {
				return s, v
			}
			moved = s
		}
	}
	if s := n.copies[id]; s != nil && n.Follower.Follows(id) {
		return s, nil
	}
	return moved, nil
}

// Admit implements replica.Source.
func (n source) Admit(wire.TenantID, string) error { return nil }

// Lane implements replica.Source.
func (n source) Lane(id wire.TenantID) (replica.Lane, error) {
	n.w.mu.Lock()
	s, v := n.copyLocked(id)
	n.w.mu.Unlock()
	switch {
	case v != nil:
		return replica.Lane{Tail: v.tail}, nil
	case s != nil && s.MovedTo != 0:
		return replica.Lane{}, &replica.GoneError{Tenant: id, Why: stream.GoneMoved, Group: s.MovedTo}
	}
	return n.Follower.Lane(id)
}

// source is the node as a replica.Source.
type source struct{ *Node }

// Head implements replica.Source.
func (n source) Head(id wire.TenantID) (replica.Head, error) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	s, _ := n.copyLocked(id)
	if s == nil || s.MovedTo != 0 {
		return replica.Head{}, &replica.GoneError{Tenant: id, Why: stream.GoneNotHere}
	}
	return s.Head(), nil
}

// OpenLTX implements replica.Source.
func (n source) OpenLTX(_ context.Context, id wire.TenantID, from stream.Head) (*replica.LTX, error) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	s, _ := n.copyLocked(id)
	if s == nil || from.Epoch != s.Epoch || from.TXID >= s.TXID || n.w.rng.IntN(2) == 0 {
		return nil, replica.ErrNoLTX
	}
	b, err := s.Encode(n.w.rng.IntN(100 << 10))
	if err != nil {
		return nil, err
	}
	return &replica.LTX{ReadCloser: io.NopCloser(bytes.NewReader(b)), Min: from.TXID + 1, Max: s.TXID}, nil
}

// WriteCopy implements replica.Source.
func (n source) WriteCopy(_ context.Context, id wire.TenantID, to io.Writer) error {
	n.w.mu.Lock()
	s, _ := n.copyLocked(id)
	if s == nil || s.MovedTo != 0 {
		n.w.mu.Unlock()
		return errors.New("no copy")
	}
	b, err := s.Encode(n.w.rng.IntN(400 << 10))
	n.w.mu.Unlock()
	if err != nil {
		return err
	}
	_, err = to.Write(b)
	return err
}

// ReadIndex implements replica.Source.
func (n source) ReadIndex(ctx context.Context, group wire.GroupID) (uint64, error) {
	n.w.mu.Lock()
	v := n.voters[group]
	n.w.mu.Unlock()
	if v != nil {
		return (&nodeVoter{n.Node, v}).ReadIndexAt(ctx)
	}
	if n.w.Faults.RelayOwnPair {
		n.w.mu.Lock()
		index, ok := n.pair[group]
		n.w.mu.Unlock()
		if ok {
			return index, nil
		}
	}
	index, err := n.Follower.ReadIndex(ctx, group)
	if err == nil {
		n.w.mu.Lock()
		n.pair[group] = index
		n.w.mu.Unlock()
	}
	return index, err
}

// sink is the node as a replica.Sink.
type sink struct{ *Node }

// Head implements replica.Sink.
func (n sink) Head(id wire.TenantID) replica.Head {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if s := n.copies[id]; s != nil && s.MovedTo == 0 {
		return s.Head()
	}
	return replica.Head{}
}

// Apply implements replica.Sink.
func (n sink) Apply(_ context.Context, id wire.TenantID, index uint64, entry []byte) (replica.Applied, error) {
	n.w.mu.Lock()
	late := n.w.rng.IntN(200) == 0 && !n.w.Quick
	n.w.mu.Unlock()
	if late {
		time.Sleep(300 * time.Millisecond) // its queue is full
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	var before State
	if s := n.copies[id]; s != nil {
		before = *s
	}
	after, err := before.Next(index, entry)
	if err != nil {
		return replica.Applied{}, err
	}
	n.copies[id] = &after
	n.w.seen.Txns++
	return replica.Applied{Departed: after.MovedTo != 0}, nil
}

// InstallLTX implements replica.Sink.
func (n sink) InstallLTX(_ context.Context, id wire.TenantID, _, _ wire.TXID, r io.Reader) (replica.Head, error) {
	n.w.count(&n.w.seen.LTX)
	return n.install(id, 0, r)
}

// InstallCopy implements replica.Sink.
func (n sink) InstallCopy(_ context.Context, id wire.TenantID, group wire.GroupID, r io.Reader) (replica.Head, error) {
	n.w.count(&n.w.seen.Copies)
	return n.install(id, group, r)
}

func (n sink) install(id wire.TenantID, group wire.GroupID, r io.Reader) (replica.Head, error) {
	s, err := Decode(r)
	if err != nil {
		return replica.Head{}, fmt.Errorf("copy: %w", err)
	}
	if s.Tenant != id || group != 0 && s.Group != group {
		return replica.Head{}, fmt.Errorf("a copy of tenant %s in group %d", s.Tenant, s.Group)
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.copies[id] = &s
	return s.Head(), nil
}

// Gone implements replica.Sink.
func (n sink) Gone(wire.TenantID, stream.GoneCode, wire.GroupID) {}

// Diverged implements replica.Sink.
func (n sink) Diverged(id wire.TenantID, feeder string, err error) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	delete(n.copies, id)
	n.w.seen.Diverged++
	n.w.Log.Info("diverged", "node", n.Name, "tenant", id, "feeder", feeder, "error", err)
}
