package clustertest

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"time"
)

// Node is one life of a node: from Network.Node to Network.Kill.
type Node struct {
	net  *Network
	name string

	// Guarded by Network.mu.
	dead     bool
	listener *listener
}

// Node returns the node of that name; a new one if there is none, or it was killed.
func (n *Network) Node(name string) *Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.mu.nodes[name]
	if p == nil {
		p = &Node{net: n, name: name}
		n.mu.nodes[name] = p
	}
	return p
}

// Name is the node's name, and its address.
func (p *Node) Name() string { return p.name }

// Listen returns the node's listener. There is one at a time.
func (p *Node) Listen() (net.Listener, error) {
	n := p.net
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case p.dead:
		return nil, p.fault("listen", p.name, syscall.ENETDOWN)
	case p.listener != nil:
		return nil, p.fault("listen", p.name, syscall.EADDRINUSE)
	}
	p.listener = &listener{node: p, queue: make(chan *conn, n.opts.Backlog), done: make(chan struct{})}
	return p.listener, nil
}

// Dial connects to the node of which addr is the name, after a round trip; it is a cluster.Config.Dialer. While one of the ways is cut, it
// hangs until ctx ends.
func (p *Node) Dial(ctx context.Context, addr string) (net.Conn, error) {
	if err := p.travel(ctx, way{p.name, addr}); err != nil {
		return nil, p.fault("dial", addr, err)
	}
	there := p.net.listens(addr)
	if err := p.travel(ctx, way{addr, p.name}); err != nil {
		return nil, p.fault("dial", addr, err)
	}
	if !there {
		return nil, p.fault("dial", addr, syscall.ECONNREFUSED)
	}
	c, err := p.connect(addr)
	if err != nil {
		return nil, p.fault("dial", addr, err)
	}
	return c, nil
}

func (p *Node) fault(op, addr string, err error) error {
	return &net.OpError{Op: op, Net: Addr(addr).Network(), Source: Addr(p.name), Addr: Addr(addr), Err: err}
}

func (n *Network) listens(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.mu.nodes[name]
	return p != nil && p.listener != nil
}

// connect gives the other node's listener its end.
func (p *Node) connect(to string) (net.Conn, error) {
	n := p.net
	n.mu.Lock()
	defer n.mu.Unlock()
	far := n.mu.nodes[to]
	switch {
	case p.dead:
		return nil, syscall.ENETDOWN
	case far == nil || far.listener == nil:
		return nil, syscall.ECONNREFUSED
	case len(far.listener.queue) == cap(far.listener.queue):
		return nil, fmt.Errorf("the backlog is full: %w", syscall.ECONNREFUSED)
	}
	near, there := n.connectLocked(p, far)
	far.listener.queue <- there
	return near, nil
}

// travel waits as long as the first packet of a connection takes.
func (p *Node) travel(ctx context.Context, w way) error {
	n := p.net
	n.mu.Lock()
	due := time.Now().Add(n.linkLocked(w.from, w.to).delay)
	n.mu.Unlock()
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n.mu.Lock()
		l := n.linkLocked(w.from, w.to)
		dead, cut, changed, left := p.dead, n.cutLocked(l), l.changed.ch, time.Until(due)
		n.mu.Unlock()
		switch {
		case dead:
			return syscall.ENETDOWN
		case !cut && left <= 0:
			return nil
		}
		var timeout <-chan time.Time
		stop := func() bool { return true }
		if !cut {
			t := time.NewTimer(left)
			timeout, stop = t.C, t.Stop
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timeout:
		}
		stop()
	}
}
