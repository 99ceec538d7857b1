package copies

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
)

// body is the body of a copy, on which faults are laid.
type body struct {
	io.ReadCloser
	after int64 // bytes until
	do    func() (int, error)
	flip  bool
	n     int64
}

func (b *body) Read(p []byte) (int, error) {
	if b.n >= b.after && b.do != nil {
		return b.do()
	}
	if left := b.after - b.n; left > 0 && int64(len(p)) > left {
		p = p[:left]
	}
	n, err := b.ReadCloser.Read(p)
	if b.flip && b.n <= b.after && b.after < b.n+int64(n) {
		p[b.after-b.n] ^= 1
	}
	b.n += int64(n)
	return n, err
}

// isCopy says whether a response is one with a copy.
func isCopy(r *http.Response) bool { return r != nil && r.Header.Get("Content-Type") == contentType }

// pipeListener is a listener of pipes.
type pipeListener struct {
	conns chan net.Conn
	over  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), over: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.over:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.over:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.over) }); return nil }
func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
