package quickhttp

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Server serves HTTP on one listener, without TLS. Its fields are set before Serve, and its methods are those of http.Server.
type Server struct {
	// HTTP has the handler and the limits of both ways to serve (ReadHeaderTimeout, IdleTimeout, ErrorLog), and serves what is not common.
	HTTP *http.Server

	base     context.Context // of all requests; set by Serve, as over is
	over     *handover
	stopping atomic.Bool
	buffers  sync.Pool // *[]byte
	now      atomic.Pointer[dated]
	running  sync.WaitGroup // connections

	mu struct {
		sync.Mutex
		listener net.Listener
		conns    map[*conn]struct{}
	}
}

// dated is the field Date of a second.
type dated struct {
	second int64
	text   string
}

// date is the time as the field Date has it.
func (s *Server) date() string {
	now := time.Now()
	d := s.now.Load()
	if d == nil || d.second != now.Unix() {
		d = &dated{now.Unix(), now.UTC().Format(http.TimeFormat)}
		s.now.Store(d)
	}
	return d.text
}

// Serve serves until Shutdown or Close, and then returns http.ErrServerClosed. Other errors are the listener's: it is closed. A
// Server serves once.
func (s *Server) Serve(l net.Listener) error {
	base, cancel := context.WithCancel(context.Background())
	defer cancel()
	over := newHandover(l.Addr())
	s.mu.Lock()
	if s.stopping.Load() || s.mu.listener != nil {
		s.mu.Unlock()
		l.Close()
		return http.ErrServerClosed
	}
	s.base, s.over = base, over
	s.mu.listener, s.mu.conns = l, map[*conn]struct{}{}
	s.mu.Unlock()
	defer l.Close()
	rest := make(chan error, 1)
	go func() { rest <- s.HTTP.Serve(over) }()
	err := s.accept(l)
	if s.stopping.Load() {
		s.running.Wait()
		<-rest
		return http.ErrServerClosed
	}
	s.Close()
	s.running.Wait()
	<-rest
	return err
}

// accept takes connections. A listener that can't take one now, for want of file descriptors say, is asked again after a while.
func (s *Server) accept(l net.Listener) error {
	const longest = time.Second
	wait := time.Duration(0)
	for {
		raw, err := l.Accept()
		switch {
		case err == nil:
			wait = 0
			s.start(raw)
			continue
		case s.stopping.Load() || errors.Is(err, net.ErrClosed):
			return err
		}
		if wait = min(max(2*wait, 5*time.Millisecond), longest); wait == longest {
			s.logf("accept: %v; asked again in %v", err, wait)
		}
		time.Sleep(wait)
	}
}

func (s *Server) start(raw net.Conn) {
	c := &conn{s: s, net: raw, remote: raw.RemoteAddr().String()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		raw.Close()
		return
	}
	s.mu.conns[c] = struct{}{}
	s.running.Go(func() {
		defer s.forget(c)
		c.serve()
	})
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.mu.conns, c)
	s.mu.Unlock()
}

// hand gives a connection to net/http, with all that was read of it and not used.
func (s *Server) hand(c *conn) bool {
	_ = c.net.SetReadDeadline(time.Time{})
	return s.over.give(&begun{c.net, c.in})
}

// Shutdown takes no more requests, and waits until those under way have their answers, or ctx ends: its error is then ctx's, and Close ends the rest.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop(func(c *conn) bool { return c.state.CompareAndSwap(idle, ended) })
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	err := s.HTTP.Shutdown(ctx)
	select {
	case <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close ends all connections.
func (s *Server) Close() error {
	s.stop(func(c *conn) bool { return true })
	return s.HTTP.Close()
}

// stop closes the listener, and the connections that which says.
func (s *Server) stop(which func(*conn) bool) {
	s.stopping.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.listener != nil {
		s.mu.listener.Close()
	}
	for c := range s.mu.conns {
		if which(c) {
			c.net.Close()
			c.cancel()
		}
	}
}
