package clustertest

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Direction is one way through a Proxy.
type Direction int

// The directions.
const (
	ToTarget   Direction = iota // from those who dial the proxy
	FromTarget                  // back to them
)

// Bounds of a Proxy.
const (
	proxyChunk       = 32 << 10 // bytes read at a time
	proxyQueue       = 64       // chunks of a connection that are under way, each direction
	proxyDialTimeout = 10 * time.Second
)

// Proxy passes TCP connections on to a target, for tests of real processes. When a direction is cut, connections stall and do not
// end; a new one is taken, since only the system could leave it hanging, but nothing passes.
type Proxy struct {
	listener net.Listener
	target   string

	goroutines sync.WaitGroup // of Run

	mu struct {
		sync.Mutex
		ways  [2]proxyWay
		conns map[*proxied]struct{}
		ended bool
	}
}

// proxyWay is one direction of a Proxy. Guarded by Proxy.mu.
type proxyWay struct {
	delay   time.Duration
	cut     bool
	bytes   int64
	changed signal
}

// proxied is one connection: from its dialer, and to the target.
type proxied struct {
	done chan struct{} // closed when it ends

	mu struct {
		sync.Mutex
		ends  []net.Conn // the dialer's, then the target's
		ended bool
	}
}

// NewProxy listens at an address, such as "127.0.0.1:0", and passes nothing on before Run. Run closes the listener.
func NewProxy(listen, target string) (*Proxy, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, target: target}
	p.mu.conns = make(map[*proxied]struct{})
	for i := range p.mu.ways {
		p.mu.ways[i].changed = newSignal()
	}
	return p, nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// SetDelay sets how long what comes from now on is kept, one way.
func (p *Proxy) SetDelay(d Direction, delay time.Duration) {
	p.change(d, func(w *proxyWay) { w.delay = delay })
}

// Cut lets nothing more pass, one way.
func (p *Proxy) Cut(d Direction) { p.change(d, func(w *proxyWay) { w.cut = true }) }

// Heal ends Cut.
func (p *Proxy) Heal(d Direction) { p.change(d, func(w *proxyWay) { w.cut = false }) }

// Bytes counts what was passed on, one way.
func (p *Proxy) Bytes(d Direction) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.ways[d].bytes
}

// Conns counts the open connections.
func (p *Proxy) Conns() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.mu.conns)
}

// Reset breaks all connections.
func (p *Proxy) Reset() {
	p.mu.Lock()
	var all []*proxied
	for c := range p.mu.conns {
		all = append(all, c)
	}
	p.mu.Unlock()
	for _, c := range all {
		c.reset()
	}
}

// Run passes connections on until ctx ends, when it breaks them and returns nil after its last goroutine.
func (p *Proxy) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = p.listener.Close() })
	defer stop()
	var err error
	for {
		var c net.Conn
		if c, err = p.listener.Accept(); err != nil {
			break
		}
		p.goroutines.Go(func() { p.serve(ctx, c) })
	}
	if ctx.Err() != nil {
		err = nil
	}
	_ = p.listener.Close()
	p.mu.Lock()
	p.mu.ended = true
	p.mu.Unlock()
	p.Reset()
	p.goroutines.Wait()
	return err
}

func (p *Proxy) change(d Direction, do func(*proxyWay)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do(&p.mu.ways[d])
	p.mu.ways[d].changed.broadcast()
}

// serve passes one connection on, to its end.
func (p *Proxy) serve(ctx context.Context, dialer net.Conn) {
	c := &proxied{done: make(chan struct{})}
	c.mu.ends = []net.Conn{dialer}
	if !p.begin(c) {
		c.reset()
		return
	}
	defer p.finish(c)
	// The target does not hear of a connection that could not have got through.
	if !p.pass(c, ToTarget, time.Now()) {
		return
	}
	dial, cancel := context.WithTimeout(ctx, proxyDialTimeout)
	defer cancel()
	target, err := new(net.Dialer).DialContext(dial, "tcp", p.target)
	if err != nil || !c.add(target) {
		c.reset()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.carry(c, ToTarget, dialer, target) })
	both.Go(func() { p.carry(c, FromTarget, target, dialer) })
	both.Wait()
}

func (p *Proxy) begin(c *proxied) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.ended {
		return false
	}
	p.mu.conns[c] = struct{}{}
	return true
}

func (p *Proxy) finish(c *proxied) {
	c.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.mu.conns, c)
}

// chunk is bytes under way.
type chunk struct {
	data []byte
	due  time.Time
	err  error // of the read that came after data; io.EOF at the end
}

// carry takes bytes from one end to the other until the first ends or one of them fails.
func (p *Proxy) carry(c *proxied, d Direction, from, to net.Conn) {
	queue := make(chan chunk, proxyQueue)
	var reading sync.WaitGroup
	reading.Go(func() { p.take(c, d, from, queue) })
	defer reading.Wait()
	for k := range queue {
		if !p.pass(c, d, k.due) {
			return
		}
		if len(k.data) > 0 {
			p.mu.Lock()
			p.mu.ways[d].bytes += int64(len(k.data)) // before somebody has them
			p.mu.Unlock()
			if _, err := to.Write(k.data); err != nil {
				c.reset()
				return
			}
		}
		switch {
		case errors.Is(k.err, io.EOF):
			if t, ok := to.(*net.TCPConn); ok {
				_ = t.CloseWrite()
			}
		case k.err != nil:
			c.reset()
		}
	}
}

// take reads from one end until it ends.
func (p *Proxy) take(c *proxied, d Direction, from net.Conn, queue chan<- chunk) {
	defer close(queue)
	for {
		buf := make([]byte, proxyChunk)
		n, err := from.Read(buf)
		p.mu.Lock()
		delay := p.mu.ways[d].delay
		p.mu.Unlock()
		select {
		case queue <- chunk{data: buf[:n], due: time.Now().Add(delay), err: err}:
		case <-c.done:
			return
		}
		if err != nil {
			return
		}
	}
}

// pass waits until it is due and the way is open; false says that the connection has ended.
func (p *Proxy) pass(c *proxied, d Direction, due time.Time) bool {
	for {
		p.mu.Lock()
		w := &p.mu.ways[d]
		cut, changed := w.cut, w.changed.ch
		p.mu.Unlock()
		left := time.Until(due)
		if !cut && left <= 0 {
			return true
		}
		wait := &waiting{a: changed, b: c.done}
		if !cut {
			wait.until = left
		}
		wait.wait()
		select {
		case <-c.done:
			return false
		default:
		}
	}
}

// add notes the target's end; false, and it is closed, if the connection has ended meanwhile.
func (c *proxied) add(target net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.ended {
		_ = target.Close()
		return false
	}
	c.mu.ends = append(c.mu.ends, target)
	return true
}

// close ends a connection that has come to its end.
func (c *proxied) close() { c.finish(false) }

// reset ends a connection so that both ends see a reset.
func (c *proxied) reset() { c.finish(true) }

func (c *proxied) finish(reset bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.ended {
		return
	}
	c.mu.ended = true
	close(c.done)
	for _, end := range c.mu.ends {
		if t, ok := end.(*net.TCPConn); ok && reset {
			_ = t.SetLinger(0)
		}
		_ = end.Close()
	}
}
