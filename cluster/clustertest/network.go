package clustertest

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/nearsql/nearsql/cluster"
)

// Options are a Network's. Zero numbers mean the defaults.
type Options struct {
	Window  int // bytes that each way of a connection takes before writes wait; 1 MiB
	Backlog int // connections that a listener keeps until they are accepted; 128
}

// Network joins nodes by name.
type Network struct {
	opts Options

	mu struct {
		sync.Mutex // never held while waiting
		nodes      map[string]*Node
		links      map[way]*link
		isolated   map[string]bool
		conns      map[*conn]struct{} // open ends
		lastID     uint64
	}
}

// way is one direction between two nodes.
type way struct{ from, to string }

// link is one direction between two nodes. All of it is guarded by Network.mu.
type link struct {
	way
	delay time.Duration
	cut   bool
	// held is for which purposes bytes are held back; all of them if heldAll.
	held    map[cluster.Purpose]bool
	heldAll bool
	sent    map[cluster.Purpose]int64
	halves  map[*half]struct{}
	changed signal // cut or healed
}

// New returns a network of no nodes, with no delays.
func New(opts Options) *Network {
	if opts.Window <= 0 {
		opts.Window = 1 << 20
	}
	if opts.Backlog <= 0 {
		opts.Backlog = 128
	}
	n := &Network{opts: opts}
	n.mu.nodes = make(map[string]*Node)
	n.mu.links = make(map[way]*link)
	n.mu.isolated = make(map[string]bool)
	n.mu.conns = make(map[*conn]struct{})
	return n
}

// Resolve says at which address a node listens: its name. It is a cluster.Config.Resolve.
func (n *Network) Resolve(node string) (string, error) { return node, nil }

// SetDelay sets how long what is written from now on takes on the way from one node to another.
func (n *Network) SetDelay(from, to string, d time.Duration) {
	n.change(from, to, func(l *link) { l.delay = d })
}

// SetDelayBoth sets the delay of each of the two ways: a round trip takes twice as long.
func (n *Network) SetDelayBoth(a, b string, d time.Duration) {
	n.SetDelay(a, b, d)
	n.SetDelay(b, a, d)
}

// Cut lets nothing more arrive on the way from one node to another.
func (n *Network) Cut(from, to string) { n.change(from, to, func(l *link) { l.cut = true }) }

// CutBoth cuts both ways.
func (n *Network) CutBoth(a, b string) {
	n.Cut(a, b)
	n.Cut(b, a)
}

// Heal ends Cut.
func (n *Network) Heal(from, to string) { n.change(from, to, func(l *link) { l.cut = false }) }

// HealBoth ends CutBoth.
func (n *Network) HealBoth(a, b string) {
	n.Heal(a, b)
	n.Heal(b, a)
}

// Isolate cuts a node off from all others, those too that are yet to come.
func (n *Network) Isolate(node string) { n.changeAll(func() { n.mu.isolated[node] = true }) }

// Rejoin ends Isolate.
func (n *Network) Rejoin(node string) { n.changeAll(func() { delete(n.mu.isolated, node) }) }

// HealAll ends all cuts and isolation; what is held stays so.
func (n *Network) HealAll() {
	n.changeAll(func() {
		clear(n.mu.isolated)
		for _, l := range n.mu.links {
			l.cut = false
		}
	})
}

// Hold keeps back the bytes from one node to another, of the purposes given or of all, until Release. What a connection is
// for is known by its hello, if that is not encrypted.
func (n *Network) Hold(from, to string, purposes ...cluster.Purpose) {
	n.change(from, to, func(l *link) {
		l.heldAll = l.heldAll || len(purposes) == 0
		for _, p := range purposes {
			l.held[p] = true
		}
	})
}

// Release ends all Holds of a link.
func (n *Network) Release(from, to string) {
	n.change(from, to, func(l *link) {
		l.heldAll = false
		clear(l.held)
	})
}

// Reset breaks all connections between two nodes, at once and at both ends.
func (n *Network) Reset(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.connsLocked() {
		if c.between(a, b) {
			c.breakLocked()
		}
	}
}

// Kill ends a node as kill -9 does: its listener and connections end, and what it dials. The name is free for a new Node. A node that
// is not there is killed already.
func (n *Network) Kill(node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.mu.nodes[node]
	if p == nil {
		return
	}
	delete(n.mu.nodes, node)
	p.dead = true
	if p.listener != nil {
		p.listener.closeLocked()
	}
	for _, c := range n.connsLocked() {
		if c.owner == p {
			c.closeLocked(errReset)
		}
	}
	for _, l := range n.mu.links {
		if l.from == node || l.to == node {
			l.changed.broadcast() // its dials end
		}
	}
}

// Sent counts the bytes that were written for the way from one node to another, on connections of the purposes given or of
// all, hellos included.
func (n *Network) Sent(from, to string, purposes ...cluster.Purpose) int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	var sum int64
	for p, bytes := range n.linkLocked(from, to).sent {
		if len(purposes) == 0 || slices.Contains(purposes, p) {
			sum += bytes
		}
	}
	return sum
}

// Pending counts the bytes on the way from one node to another that have not arrived.
func (n *Network) Pending(from, to string) int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	var sum int64
	now := time.Now()
	for h := range n.linkLocked(from, to).halves {
		h.settleLocked(now)
		for _, s := range h.flying {
			sum += int64(len(s.data))
		}
	}
	return sum
}

// Conns counts the open connections between two nodes.
func (n *Network) Conns(a, b string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	pairs := make(map[*pair]struct{})
	for c := range n.mu.conns {
		if c.between(a, b) {
			pairs[c.pair] = struct{}{}
		}
	}
	return len(pairs)
}

// linkLocked is the link of a way, made when it is first asked for.
func (n *Network) linkLocked(from, to string) *link {
	w := way{from, to}
	l := n.mu.links[w]
	if l == nil {
		l = &link{way: w, held: make(map[cluster.Purpose]bool), sent: make(map[cluster.Purpose]int64), halves: make(map[*half]struct{}), changed: newSignal()}
		n.mu.links[w] = l
	}
	return l
}

// change changes a link: what has arrived until now has arrived.
func (n *Network) change(from, to string, do func(*link)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.linkLocked(from, to)
	l.settleLocked(time.Now())
	do(l)
	l.wakeLocked()
}

// changeAll changes all links.
func (n *Network) changeAll(do func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	for _, l := range n.mu.links {
		l.settleLocked(now)
	}
	do()
	for _, l := range n.mu.links {
		l.wakeLocked()
	}
}

// connsLocked is the open ends in the order in which they were made.
func (n *Network) connsLocked() []*conn {
	all := make([]*conn, 0, len(n.mu.conns))
	for c := range n.mu.conns {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *conn) int { return cmp.Compare(a.id, b.id) })
	return all
}

// cutLocked says whether nothing passes a link.
func (n *Network) cutLocked(l *link) bool {
	return l.cut || l.from != l.to && (n.mu.isolated[l.from] || n.mu.isolated[l.to])
}

func (l *link) settleLocked(now time.Time) {
	for h := range l.halves {
		h.settleLocked(now)
	}
}

func (l *link) wakeLocked() {
	l.changed.broadcast()
	for h := range l.halves {
		h.changed.broadcast()
	}
}

// signal wakes all who wait. It is guarded by Network.mu.
type signal struct{ ch chan struct{} }

func newSignal() signal { return signal{make(chan struct{})} }

func (s *signal) broadcast() {
	close(s.ch)
	s.ch = make(chan struct{})
}
