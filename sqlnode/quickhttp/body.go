package quickhttp

import (
	"io"
	"net/http"
	"sync"
)

// body is a request's, in the memory of its connection until the handler has returned. Somebody whom the handler gave it to may read it for longer:
// he gets http.ErrBodyReadAfterClose, as from net/http.
type body struct {
	mu struct {
		sync.Mutex
		b      []byte
		closed bool
	}
}

func (b *body) set(p []byte) { b.mu.b = p }

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.mu.closed:
		return 0, http.ErrBodyReadAfterClose
	case len(b.mu.b) == 0:
		return 0, io.EOF
	}
	n := copy(p, b.mu.b)
	b.mu.b = b.mu.b[n:]
	return n, nil
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.mu.Lock()
	b.mu.b, b.mu.closed = nil, true
	b.mu.Unlock()
	return nil
}
