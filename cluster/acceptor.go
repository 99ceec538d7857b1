package cluster

import (
	"net"
	"sync"
)

// Acceptor is the listener of the connections for one purpose, of one group or of all. With Dial it makes a
// raft.StreamLayer.
type Acceptor struct {
	net   *Net
	key   groupKey
	whole bool // of all groups

	queue chan *Conn    // invariant: len(queue) + mu.reserved <= cap(queue), so that a reserved place is there
	done  chan struct{} // closed by Close

	mu struct {
		sync.Mutex
		reserved int
		closed   bool
	}
}

var _ net.Listener = (*Acceptor)(nil)

func newAcceptor(n *Net, key groupKey, whole bool) *Acceptor {
	return &Acceptor{net: n, key: key, whole: whole, queue: make(chan *Conn, n.cfg.Backlog), done: make(chan struct{})}
}

// Accept returns the next connection, a *Conn; net.ErrClosed after Close, or when the Net has ended.
func (a *Acceptor) Accept() (net.Conn, error) {
	select {
	case c := <-a.queue:
		return c, nil
	case <-a.done:
		return nil, net.ErrClosed
	}
}

// Close ends that there are new connections. Those that were accepted stay open, as with any net.Listener;
// CloseConns closes them.
func (a *Acceptor) Close() error {
	a.net.forget(a)
	a.mu.Lock()
	if a.mu.closed {
		a.mu.Unlock()
		return nil
	}
	a.mu.closed = true
	close(a.done)
	a.mu.Unlock()
	for {
		select {
		case c := <-a.queue:
			_ = c.Close()
		default:
			return nil
		}
	}
}

// CloseConns closes all connections that came by this listener's purpose and group. A raft.NetworkTransport that was closed leaves the
// goroutines that read them to wait for the other end.
func (a *Acceptor) CloseConns() {
	a.net.closeConns(func(c *Conn) bool {
		return !c.dialled && c.hello.Purpose == a.key.purpose && (a.whole || c.hello.Group == a.key.group)
	})
}

// Addr has the node's id as text: nodes are known by ids, and addresses are looked up when they are dialled.
func (a *Acceptor) Addr() net.Addr { return Addr(a.net.cfg.Node) }

// reserve takes a place for a connection; the code says why there is none.
func (a *Acceptor) reserve() Code {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.mu.closed && a.whole:
		return CodeUnknownPurpose
	case a.mu.closed:
		return CodeUnknownGroup
	case len(a.queue)+a.mu.reserved >= cap(a.queue):
		return CodeBusy
	}
	a.mu.reserved++
	return CodeAccepted
}

// release gives a reserved place back.
func (a *Acceptor) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.reserved--
}

// deliver puts a connection in its reserved place.
func (a *Acceptor) deliver(c *Conn) {
	a.mu.Lock()
	a.mu.reserved--
	closed := a.mu.closed
	if !closed {
		a.queue <- c // does not wait: see queue
	}
	a.mu.Unlock()
	if closed {
		_ = c.Close()
	}
}

// Addr is a node's id as a net.Addr.
type Addr string

// Network implements net.Addr.
func (Addr) Network() string { return "nearsql" }

// String implements net.Addr.
func (a Addr) String() string { return string(a) }
