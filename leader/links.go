package leader

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/nearsql/nearsql/wire"
)

// links are the connections of one group. They can be cut at once, and nothing
// is written to any of them once the group's log has failed: what raft says
// from then on may rest on what was never stored.
type links struct {
	network Network
	group   wire.GroupID
	failed  func() bool

	mu struct {
		sync.Mutex
		cut   bool
		conns map[*link]struct{}
		dials map[*context.CancelFunc]struct{} // under way
	}
}

func newLinks(network Network, group wire.GroupID, failed func() bool) *links {
	l := &links{network: network, group: group, failed: failed}
	l.mu.conns = make(map[*link]struct{})
	l.mu.dials = make(map[*context.CancelFunc]struct{})
	return l
}

// dial connects to a node.
func (l *links) dial(ctx context.Context, to NodeID, purpose Purpose) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.mu.Lock()
	if l.mu.cut {
		l.mu.Unlock()
		return nil, net.ErrClosed
	}
	l.mu.dials[&cancel] = struct{}{}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.mu.dials, &cancel)
		l.mu.Unlock()
	}()
	c, err := l.network.Dial(ctx, to, l.group, purpose)
	if err != nil {
		return nil, err
	}
	return l.add(c)
}

// add takes a connection in.
func (l *links) add(c net.Conn) (net.Conn, error) {
	k := &link{Conn: c, links: l}
	l.mu.Lock()
	cut := l.mu.cut
	if !cut {
		l.mu.conns[k] = struct{}{}
	}
	l.mu.Unlock()
	if cut {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	return k, nil
}

// cut closes all connections; there will be no others.
func (l *links) cut() {
	l.mu.Lock()
	l.mu.cut = true
	conns := l.mu.conns
	l.mu.conns = make(map[*link]struct{})
	for cancel := range l.mu.dials {
		(*cancel)()
	}
	l.mu.Unlock()
	for k := range conns {
		_ = k.Conn.Close()
	}
}

// link is one connection of links.
type link struct {
	net.Conn
	links *links
}

// Write implements net.Conn.
func (k *link) Write(p []byte) (int, error) {
	// What p says was computed before. If it rests on a failure, that shows here.
	if k.links.failed() {
		return 0, fmt.Errorf("write to %s: the log failed: %w", k.RemoteAddr(), net.ErrClosed)
	}
	return k.Conn.Write(p)
}

// Close implements net.Conn.
func (k *link) Close() error {
	k.links.mu.Lock()
	delete(k.links.mu.conns, k)
	k.links.mu.Unlock()
	return k.Conn.Close()
}

// nodeAddr is a node's address as raft sees it: its id.
type nodeAddr NodeID

// Network implements net.Addr.
func (nodeAddr) Network() string { return "node" }

// String implements net.Addr.
func (a nodeAddr) String() string { return string(a) }

// stream is raft's connections.
type stream struct {
	net.Listener
	links *links
	node  NodeID
}

var _ raft.StreamLayer = (*stream)(nil)

// Accept implements net.Listener.
func (s *stream) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return s.links.add(c)
}

// Addr implements net.Listener.
func (s *stream) Addr() net.Addr { return nodeAddr(s.node) }

// Dial implements raft.StreamLayer.
func (s *stream) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.links.dial(ctx, NodeID(to), PurposeRaft)
}
