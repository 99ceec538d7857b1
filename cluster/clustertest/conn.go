package clustertest

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/nearsql/nearsql/cluster"
)

// pair is what both ends of a connection share. Guarded by Network.mu.
type pair struct {
	purpose cluster.Purpose // of the hello; 0 for none that could be read
	greeted bool            // the dialer has written
	open    int             // ends
}

// conn is one end of a connection.
type conn struct {
	net           *Network
	owner         *Node
	local, remote Addr
	dialled       bool
	id            uint64
	pair          *pair
	in, out       *half

	// Guarded by Network.mu.
	closed                      bool
	broken                      bool
	readDeadline, writeDeadline time.Time
}

var _ net.Conn = (*conn)(nil)

// connectLocked makes a connection of two nodes.
func (n *Network) connectLocked(dialer, acceptor *Node) (near, far *conn) {
	p := &pair{open: 2}
	there := newHalf(n, n.linkLocked(dialer.name, acceptor.name), p)
	back := newHalf(n, n.linkLocked(acceptor.name, dialer.name), p)
	n.mu.lastID += 2
	near = &conn{net: n, owner: dialer, local: Addr(dialer.name), remote: Addr(acceptor.name), dialled: true, id: n.mu.lastID - 1, pair: p, in: back, out: there}
	far = &conn{net: n, owner: acceptor, local: Addr(acceptor.name), remote: Addr(dialer.name), id: n.mu.lastID, pair: p, in: there, out: back}
	n.mu.conns[near], n.mu.conns[far] = struct{}{}, struct{}{}
	return near, far
}

func (c *conn) between(a, b string) bool {
	return string(c.local) == a && string(c.remote) == b || string(c.local) == b && string(c.remote) == a
}

func (c *conn) fault(op string, err error) error {
	return &net.OpError{Op: op, Net: c.local.Network(), Source: c.local, Addr: c.remote, Err: err}
}

// readyLocked says why an operation with a deadline must end now, if it must.
func (c *conn) readyLocked(deadline, now time.Time) error {
	switch {
	case c.closed:
		return net.ErrClosed
	case c.broken:
		return errReset
	case !deadline.IsZero() && !deadline.After(now):
		return os.ErrDeadlineExceeded
	}
	return nil
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	for {
		c.net.mu.Lock()
		n, w, err := c.readLocked(p)
		c.net.mu.Unlock()
		switch {
		case err == io.EOF:
			return n, io.EOF
		case err != nil:
			return n, c.fault("read", err)
		case w == nil:
			return n, nil
		}
		w.wait()
	}
}

// readLocked reads, or says what to wait for.
func (c *conn) readLocked(p []byte) (int, *waiting, error) {
	now := time.Now()
	if err := c.readyLocked(c.readDeadline, now); err != nil {
		return 0, nil, err
	}
	if len(p) == 0 {
		return 0, nil, nil
	}
	h := c.in
	h.settleLocked(now)
	if len(h.arrived) > 0 {
		n := copy(p, h.arrived)
		h.arrived = h.arrived[n:]
		h.size -= n
		h.changed.broadcast()
		return n, nil, nil
	}
	if h.end != nil {
		return 0, nil, h.end
	}
	return 0, &waiting{a: h.changed.ch, until: earliest(now, c.readDeadline, h.nextLocked())}, nil
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	written, mine := 0, false
	for {
		c.net.mu.Lock()
		n, w, err := c.writeLocked(p[written:], &mine)
		written += n
		done := err != nil || w == nil
		if done && mine {
			c.out.writing = false
			c.out.changed.broadcast()
		}
		c.net.mu.Unlock()
		if err != nil {
			return written, c.fault("write", err)
		}
		if done {
			return written, nil
		}
		w.wait()
	}
}

// writeLocked writes what the window takes, and says what to wait for if that is not all. mine is whether this Write has
// the right to write.
func (c *conn) writeLocked(p []byte, mine *bool) (int, *waiting, error) {
	now := time.Now()
	if err := c.readyLocked(c.writeDeadline, now); err != nil {
		return 0, nil, err
	}
	c.in.settleLocked(now)
	if c.in.end != nil { // the other end has closed, and its system answers with a reset
		return 0, nil, os.NewSyscallError("write", syscall.EPIPE)
	}
	h, n := c.out, 0
	if !h.writing || *mine {
		h.writing, *mine = true, true
		h.settleLocked(now) // what arrives where nobody reads takes no room
		if c.dialled && !c.pair.greeted && len(p) > 0 {
			c.pair.greeted = true
			if hello, err := cluster.ParseHello(p); err == nil {
				c.pair.purpose = hello.Purpose
			}
		}
		n = min(len(p), c.net.opts.Window-h.size)
		if n > 0 {
			h.sendLocked(segment{data: append([]byte(nil), p[:n]...)}, now)
		}
		if n == len(p) {
			return n, nil, nil
		}
	}
	return n, &waiting{a: h.changed.ch, b: c.in.changed.ch, until: earliest(now, c.writeDeadline, c.in.nextLocked())}, nil
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return c.fault("close", net.ErrClosed)
	}
	c.closeLocked(nil)
	return nil
}

// closeLocked closes this end; the other sees end, or what in.leaveLocked says if that is nil.
func (c *conn) closeLocked(end error) {
	if c.closed {
		return
	}
	now := time.Now()
	c.in.settleLocked(now)
	leave := c.in.leaveLocked()
	if end == nil {
		end = leave
	}
	if !c.broken {
		c.out.sendLocked(segment{end: end}, now)
	}
	c.closed = true
	c.out.changed.broadcast()
	delete(c.net.mu.conns, c)
	if c.pair.open--; c.pair.open == 0 {
		delete(c.in.link.halves, c.in)
		delete(c.out.link.halves, c.out)
	}
}

// breakLocked resets this end at once.
func (c *conn) breakLocked() {
	c.broken = true
	c.in.flying, c.in.arrived, c.in.size = nil, nil, 0
	c.in.changed.broadcast()
	c.out.changed.broadcast()
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error { return c.setDeadlines(&t, &t) }

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(&t, nil) }

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(nil, &t) }

func (c *conn) setDeadlines(read, write *time.Time) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return c.fault("set", net.ErrClosed)
	}
	if read != nil {
		c.readDeadline = *read
		c.in.changed.broadcast()
	}
	if write != nil {
		c.writeDeadline = *write
		c.out.changed.broadcast()
	}
	return nil
}

// waiting is what an operation waits for: any of two signals, or a time.
type waiting struct {
	a, b  <-chan struct{} // b may be nil
	until time.Duration   // 0 for ever
}

func (w *waiting) wait() {
	var timeout <-chan time.Time
	if w.until > 0 {
		t := time.NewTimer(w.until)
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-w.a:
	case <-w.b:
	case <-timeout:
	}
}

// earliest is the time from now to the first of the times that are not zero; 0 if all are. None of them is past.
func earliest(now time.Time, times ...time.Time) time.Duration {
	var first time.Duration
	for _, t := range times {
		if t.IsZero() {
			continue
		}
		if d := max(t.Sub(now), 1); first == 0 || d < first {
			first = d
		}
	}
	return first
}

// Addr is a node's name as a net.Addr.
type Addr string

// Network implements net.Addr.
func (Addr) Network() string { return "memory" }

// String implements net.Addr.
func (a Addr) String() string { return string(a) }

// listener is where a node takes connections.
type listener struct {
	node  *Node
	queue chan *conn
	done  chan struct{}
	once  sync.Once
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.done: // first: what waits in the queue is reset
	default:
		select {
		case c := <-l.queue:
			return c, nil
		case <-l.done:
		}
	}
	return nil, &net.OpError{Op: "accept", Net: l.Addr().Network(), Addr: l.Addr(), Err: net.ErrClosed}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	n := l.node.net
	n.mu.Lock()
	defer n.mu.Unlock()
	l.closeLocked()
	return nil
}

// closeLocked closes the listener; connections that nobody has accepted are reset.
func (l *listener) closeLocked() {
	l.once.Do(func() {
		l.node.listener = nil
		close(l.done)
		for {
			select {
			case c := <-l.queue:
				c.closeLocked(errReset)
			default:
				return
			}
		}
	})
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return Addr(l.node.name) }
