package sqlnode

import (
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
)

func TestShareDescriptors(t *testing.T) {
	for _, c := range []struct{ limit, wanted, tenants, public int }{
		{1 << 20, 1000, 1000, 1 << 19}, {20000, 1000, 1000, 10000}, {1024, 1000, 52, 512}, {256, 1000, 16, 128}, {64, 1000, 16, 32}, {1024, 10, 10, 512},
	} {
		if got, want := shareDescriptors(c.limit, c.wanted), (share{c.limit, c.tenants, c.public}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if n, err := descriptorLimit(); err != nil || n < 64 {
		t.Errorf("limit %d, %v", n, err)
	}
}

// offered is a listener of connections that a test offers.
type offered struct {
	net.Listener
	conns chan net.Conn
	end   chan struct{}
}

func (o *offered) Accept() (net.Conn, error) {
	select {
	case c := <-o.conns:
		return c, nil
	case <-o.end:
		return nil, net.ErrClosed
	}
}

func (o *offered) Close() error { close(o.end); return nil }

func TestBoundedListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said strings.Builder
		o := &offered{conns: make(chan net.Conn, 10), end: make(chan struct{})}
		l := boundListener(o, 2, slog.New(slog.NewTextHandler(&said, nil)))
		accepted := make(chan net.Conn, 10)
		ended := make(chan error, 1)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					ended <- err
					return
				}
				accepted <- c
			}
		}()
		for range 5 {
			c, _ := net.Pipe()
			o.conns <- c
		}
		want := func(n int) {
			t.Helper()
			synctest.Wait()
			if len(accepted) != n {
				t.Errorf("%d connections were taken, want %d", len(accepted), n)
			}
		}
		want(2)
		c := <-accepted
		c.Close()
		c.Close() // counts once
		want(2)
		(<-accepted).Close()
		want(2)
		l.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
		if !strings.Contains(said.String(), "connections of clients wait") {
			t.Errorf("it logged %q", said.String())
		}
	})
}
