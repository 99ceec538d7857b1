package httpapi

import (
	"context"
	"errors"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
)

// tryBody is what one try sends: it gives the errand's stream, and knows whether anything could be sent. After its end
// nobody reads the client's body any more: the transport would go on doing so.
type tryBody struct {
	stream *importBody // nil for an errand without one
	watch  *watch
	asked  atomic.Bool // for a connection, of a transport that says so
	got    atomic.Bool

	mu struct {
		sync.Mutex // held while the stream is read
		over       bool
	}
}

func (f *forward) body(watch *watch) *tryBody {
	return &tryBody{stream: f.errand.stream, watch: watch}
}

// trace has the transport say whether the try got a connection.
func (b *tryBody) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { b.asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { b.got.Store(true) },
	})
}

// unsent says that nothing of the try has left this node.
func (b *tryBody) unsent() bool { return b.asked.Load() && !b.got.Load() }

var errTryOver = errors.New("the request has ended")

// Read implements io.Reader.
func (b *tryBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.over {
		return 0, errTryOver
	}
	n, err := b.stream.Read(p)
	b.watch.reset()
	return n, err
}

// Close implements io.Closer. The stream stays open: another try may read it.
func (b *tryBody) Close() error { return nil }

// end waits for a read that is under way, which the client's bytes or Config.Stall end.
func (b *tryBody) end() {
	b.mu.Lock()
	b.mu.over = true
	b.mu.Unlock()
}
