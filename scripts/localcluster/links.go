package localcluster

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Bounds of a relayed connection.
const (
	chunkBytes  = 32 << 10         // read at a time
	queueChunks = 64               // under way, each direction
	dialTimeout = 10 * time.Second // to the node behind
)

// Links are all ways between nodes.
type Links struct {
	who func(from, to netip.AddrPort) string // which node dialled from there; "" if none

	mu struct {
		sync.Mutex
		ways map[way]*link
	}
}

type way struct{ from, to string }

// link is one direction between two nodes. Guarded by Links.mu.
type link struct {
	delay   time.Duration
	cut     bool
	bytes   int64
	changed chan struct{} // closed, and replaced, when delay or cut change
}

func newLinks(who func(from, to netip.AddrPort) string) *Links {
	l := &Links{who: who}
	l.mu.ways = make(map[way]*link)
	return l
}

// Cut lets nothing more pass from one node to another.
func (l *Links) Cut(from, to string) { l.change(from, to, func(k *link) { k.cut = true }) }

// Heal ends Cut.
func (l *Links) Heal(from, to string) { l.change(from, to, func(k *link) { k.cut = false }) }

// SetDelay sets how long what comes from now on is kept, from one node to another.
func (l *Links) SetDelay(from, to string, d time.Duration) {
	l.change(from, to, func(k *link) { k.delay = d })
}

// Bytes counts what was passed on from one node to another, TLS and hellos included.
func (l *Links) Bytes(from, to string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.atLocked(from, to).bytes
}

func (l *Links) atLocked(from, to string) *link {
	k := l.mu.ways[way{from, to}]
	if k == nil {
		k = &link{changed: make(chan struct{})}
		l.mu.ways[way{from, to}] = k
	}
	return k
}

func (l *Links) change(from, to string, do func(*link)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.atLocked(from, to)
	do(k)
	close(k.changed)
	k.changed = make(chan struct{})
}

// relay passes on the connections that come to a listener to the node behind it, until ctx ends; it returns after its last goroutine.
func (l *Links) relay(ctx context.Context, listener net.Listener, to, target string) error {
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		conns.Go(func() { l.serve(ctx, c.(*net.TCPConn), to, target) })
	}
}

// serve passes one connection on, to its end.
func (l *Links) serve(ctx context.Context, dialled *net.TCPConn, to, target string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer dialled.Close()
	from := l.who(dialled.RemoteAddr().(*net.TCPAddr).AddrPort(), dialled.LocalAddr().(*net.TCPAddr).AddrPort())
	if from == "" || !l.pass(ctx, from, to, time.Now()) {
		_ = dialled.SetLinger(0)
		return
	}
	dial, stop := context.WithTimeout(ctx, dialTimeout)
	defer stop()
	c, err := new(net.Dialer).DialContext(dial, "tcp", target)
	if err != nil {
		_ = dialled.SetLinger(0)
		return
	}
	behind := c.(*net.TCPConn)
	defer behind.Close()
	reset := func() { // both ends see it, and both carriers end
		_ = dialled.SetLinger(0)
		_ = behind.SetLinger(0)
		_ = dialled.Close()
		_ = behind.Close()
		cancel()
	}
	defer context.AfterFunc(ctx, reset)()
	var both sync.WaitGroup
	both.Go(func() { l.carry(ctx, from, to, dialled, behind, reset) })
	both.Go(func() { l.carry(ctx, to, from, behind, dialled, reset) })
	both.Wait()
}

// chunk is bytes under way.
type chunk struct {
	data []byte
	due  time.Time
	err  error // of the read that came after data; io.EOF at the end
}

// carry takes bytes from one end to the other until the first ends or one of them fails.
func (l *Links) carry(ctx context.Context, from, to string, src, dst *net.TCPConn, reset func()) {
	queue := make(chan chunk, queueChunks)
	var reading sync.WaitGroup
	reading.Go(func() { l.take(ctx, from, to, src, queue) })
	defer reading.Wait()
	for k := range queue {
		if !l.pass(ctx, from, to, k.due) {
			return
		}
		if len(k.data) > 0 {
			l.mu.Lock()
			l.atLocked(from, to).bytes += int64(len(k.data))
			l.mu.Unlock()
			if _, err := dst.Write(k.data); err != nil {
				reset()
				return
			}
		}
		switch {
		case errors.Is(k.err, io.EOF):
			_ = dst.CloseWrite()
		case k.err != nil:
			reset()
		}
	}
}

// take reads from one end until it ends.
func (l *Links) take(ctx context.Context, from, to string, src *net.TCPConn, queue chan<- chunk) {
	defer close(queue)
	for {
		buf := make([]byte, chunkBytes)
		n, err := src.Read(buf)
		l.mu.Lock()
		delay := l.atLocked(from, to).delay
		l.mu.Unlock()
		select {
		case queue <- chunk{buf[:n], time.Now().Add(delay), err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// pass waits until it is due and the way is open; false says that ctx has ended.
func (l *Links) pass(ctx context.Context, from, to string, due time.Time) bool {
	for {
		l.mu.Lock()
		k := l.atLocked(from, to)
		cut, changed := k.cut, k.changed
		l.mu.Unlock()
		left := time.Until(due)
		if !cut && left <= 0 {
			return ctx.Err() == nil
		}
		var late <-chan time.Time
		if !cut {
			t := time.NewTimer(left)
			defer t.Stop() // seldom more than one
			late = t.C
		}
		select {
		case <-late:
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
