package leadertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/wire"
)

// Network connects nodes. What is written arrives in order, after the delay
// of its direction, and not while that is cut: then it waits, as TCP would send it again.
type Network struct {
	mu struct {
		sync.Mutex
		delays    map[way]time.Duration
		cut       map[way]bool
		changed   chan struct{} // closed when anything changes that a reader or dialer may wait for
		listeners map[place]*listener
		conns     map[*conn]struct{}
	}
}

// way is a direction.
type way struct{ from, to leader.NodeID }

// place is what is dialled.
type place struct {
	node    leader.NodeID
	group   wire.GroupID
	purpose leader.Purpose
}

// NewNetwork returns a network without delays and cuts.
func NewNetwork() *Network {
	n := &Network{}
	n.mu.delays = make(map[way]time.Duration)
	n.mu.cut = make(map[way]bool)
	n.mu.changed = make(chan struct{})
	n.mu.listeners = make(map[place]*listener)
	n.mu.conns = make(map[*conn]struct{})
	return n
}

func (n *Network) wakeLocked() {
	close(n.mu.changed)
	n.mu.changed = make(chan struct{})
}

// Delay sets how long what is sent from one node to another takes.
func (n *Network) Delay(from, to leader.NodeID, d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.delays[way{from, to}] = d
}

// Cut holds back what is sent from one node to another, until Heal.
func (n *Network) Cut(from, to leader.NodeID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.cut[way{from, to}] = true
}

// Heal lets through what was held back.
func (n *Network) Heal(from, to leader.NodeID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.mu.cut, way{from, to})
	n.wakeLocked()
}

// HealAll heals everything.
func (n *Network) HealAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.mu.cut)
	n.wakeLocked()
}

// Break breaks all connections between two nodes, in both directions: what is
// on its way is lost.
func (n *Network) Break(a, b leader.NodeID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.mu.conns {
		if c.out == (way{a, b}) || c.out == (way{b, a}) {
			c.broken = true
			delete(n.mu.conns, c)
		}
	}
	n.wakeLocked()
}

// drop takes a node's life off the network for good: its connections break,
// and its listeners are gone.
func (n *Network) drop(e *endpoint) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e.dead = true
	for c := range n.mu.conns {
		if c.owner == e || c.peer.owner == e {
			c.broken, c.peer.broken = true, true
			delete(n.mu.conns, c)
			delete(n.mu.conns, c.peer)
		}
	}
	for p, l := range n.mu.listeners {
		if l.owner == e {
			l.closed = true
			delete(n.mu.listeners, p)
		}
	}
	n.wakeLocked()
}

// Node returns the network as a node sees it that is not of a Cluster.
func (n *Network) Node(id leader.NodeID) leader.Network { return &endpoint{net: n, node: id} }

// endpoint is the network as one life of a node sees it.
type endpoint struct {
	net  *Network
	node leader.NodeID
	dead bool // guarded by net.mu
}

var _ leader.Network = (*endpoint)(nil)

// wait waits for a change of the network or what wake tells, a time or ctx. It is called with the lock
// held, and returns with it.
func (n *Network) wait(ctx context.Context, until time.Time, wake <-chan struct{}) {
	changed := n.mu.changed
	n.mu.Unlock()
	defer n.mu.Lock()
	var timer <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-changed:
	case <-wake:
	case <-timer:
	case <-ctx.Done():
	}
}

// Dial implements leader.Network.
func (e *endpoint) Dial(ctx context.Context, to leader.NodeID, group wire.GroupID, purpose leader.Purpose) (net.Conn, error) {
	n := e.net
	there, back := way{e.node, to}, way{to, e.node}
	n.mu.Lock()
	defer n.mu.Unlock()
	arrives := time.Now().Add(n.mu.delays[there] + n.mu.delays[back])
	for {
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case e.dead:
			return nil, net.ErrClosed
		case n.mu.cut[there] || n.mu.cut[back]:
			n.wait(ctx, time.Time{}, nil)
			continue
		case time.Now().Before(arrives):
			n.wait(ctx, arrives, nil)
			continue
		}
		l := n.mu.listeners[place{to, group, purpose}]
		if l == nil || len(l.backlog) >= 64 {
			return nil, fmt.Errorf("node %s: connection refused", to)
		}
		a := &conn{net: n, owner: e, out: there, wake: make(chan struct{}, 1)}
		b := &conn{net: n, owner: l.owner, out: back, wake: make(chan struct{}, 1)}
		a.peer, b.peer = b, a
		n.mu.conns[a], n.mu.conns[b] = struct{}{}, struct{}{}
		l.backlog = append(l.backlog, b)
		wake(l.wake)
		return a, nil
	}
}

// Listen implements leader.Network.
func (e *endpoint) Listen(group wire.GroupID, purpose leader.Purpose) (net.Listener, error) {
	n := e.net
	n.mu.Lock()
	defer n.mu.Unlock()
	p := place{e.node, group, purpose}
	if e.dead {
		return nil, net.ErrClosed
	}
	if n.mu.listeners[p] != nil {
		return nil, errors.New("there is a listener already")
	}
	l := &listener{owner: e, place: p, wake: make(chan struct{}, 1)}
	n.mu.listeners[p] = l
	return l, nil
}

// listener's fields are guarded by the network's lock.
type listener struct {
	owner   *endpoint
	place   place
	backlog []*conn
	closed  bool
	wake    chan struct{} // holds one; constant
}

// wake tells who reads the channel, which holds one, to look again.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	n := l.owner.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		if l.closed {
			return nil, net.ErrClosed
		}
		if len(l.backlog) > 0 {
			c := l.backlog[0]
			l.backlog = l.backlog[1:]
			return c, nil
		}
		n.wait(context.Background(), time.Time{}, l.wake)
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	n := l.owner.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	l.closed = true
	if n.mu.listeners[l.place] == l {
		delete(n.mu.listeners, l.place)
	}
	for _, c := range l.backlog {
		c.closeLocked()
	}
	wake(l.wake)
	return nil
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return addr(l.owner.node) }

type addr leader.NodeID

// Network implements net.Addr.
func (addr) Network() string { return "test" }

// String implements net.Addr.
func (a addr) String() string { return string(a) }

// conn is one end of a connection; its fields are guarded by the network's lock.
type conn struct {
	net    *Network
	owner  *endpoint
	peer   *conn
	out    way
	closed bool // by this end
	broken bool
	queue  []packet // that the other end sent
	read   time.Time
	write  time.Time
	wake   chan struct{} // of Read; holds one; constant
}

// packet is bytes under way, or the end of the stream if there are none.
type packet struct {
	arrives time.Time
	data    []byte
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n := c.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		var until time.Time
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case c.broken:
			return 0, errors.New("connection reset")
		case !c.read.IsZero() && !time.Now().Before(c.read):
			return 0, os.ErrDeadlineExceeded
		}
		until = c.read
		if len(c.queue) > 0 && !n.mu.cut[c.peer.out] {
			head := &c.queue[0]
			if !time.Now().Before(head.arrives) {
				if len(head.data) == 0 {
					return 0, io.EOF
				}
				k := copy(p, head.data)
				if head.data = head.data[k:]; len(head.data) == 0 {
					c.queue = c.queue[1:]
				}
				return k, nil
			}
			if until.IsZero() || head.arrives.Before(until) {
				until = head.arrives
			}
		}
		n.wait(context.Background(), until, c.wake)
	}
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	n := c.net
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case c.closed:
		return 0, net.ErrClosed
	case c.broken:
		return 0, errors.New("connection reset")
	case !c.write.IsZero() && !time.Now().Before(c.write):
		return 0, os.ErrDeadlineExceeded
	case len(p) == 0:
		return 0, nil
	}
	c.sendLocked(append([]byte(nil), p...))
	return len(p), nil
}

func (c *conn) sendLocked(data []byte) {
	arrives := time.Now().Add(c.net.mu.delays[c.out])
	q := &c.peer.queue
	if k := len(*q); k > 0 && (*q)[k-1].arrives.After(arrives) {
		arrives = (*q)[k-1].arrives
	}
	*q = append(*q, packet{arrives, data})
	wake(c.peer.wake)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closeLocked()
	return nil
}

func (c *conn) closeLocked() {
	if c.closed {
		return
	}
	c.closed = true
	delete(c.net.mu.conns, c)
	if !c.broken {
		c.sendLocked(nil)
	}
	wake(c.wake)
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return addr(c.out.from) }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return addr(c.out.to) }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.read = t
	wake(c.wake)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.write = t
	return nil
}
