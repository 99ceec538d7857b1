package quickhttp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// The states of a connection.
const (
	idle int32 = iota
	busy
	ended
)

// conn is one connection.
type conn struct {
	s       *Server
	net     net.Conn
	remote  string
	state   atomic.Int32
	in      []byte // what was read and not used: the begin of buf
	buf     []byte
	header  http.Header // of the answer under way
	bounded bool        // reading has a deadline
	watch   watch
	stop    atomic.Pointer[context.CancelFunc] // of the request under way
}

const readSize = 4 << 10

// serve answers requests until one is not common, or the connection ends.
func (c *conn) serve() {
	keep := false
	defer func() {
		if !keep {
			c.net.Close()
		}
	}()
	c.buf, c.header = make([]byte, readSize), make(http.Header, 8)
	patience := c.s.HTTP.ReadHeaderTimeout // to begin with
	for {
		h, how := c.await(patience)
		switch {
		case how == other:
			keep = c.s.hand(c)
			return
		case how == more || !c.answer(&h):
			return
		}
		patience = c.s.HTTP.IdleTimeout
	}
}

// await reads until a whole common request is here (common), or it is clear that there is none (other). The connection is at its end if it says more.
func (c *conn) await(patience time.Duration) (head, verdict) {
	var (
		h       head
		how     verdict
		scanned int
	)
	c.bound(patience)
	for {
		if len(c.in) > scanned {
			// Shutdown takes connections that are idle, and this one is not any more.
			if scanned == 0 && !c.state.CompareAndSwap(idle, busy) {
				return h, more
			}
			if how == more {
				if h, how = parseHead(c.in, scanned); how == other {
					return h, other
				}
			}
			if how == common && len(c.in) >= h.size+h.body {
				return h, common
			}
			if scanned == 0 {
				c.bound(c.s.HTTP.ReadHeaderTimeout) // for all that is to come
			}
			scanned = len(c.in)
		}
		if err := c.read(h.size + h.body); err != nil {
			if scanned > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
				return h, other // whoever is that slow has net/http's patience
			}
			return h, more
		}
	}
}

// bound ends reading at a time from now, or at no time if that is 0.
func (c *conn) bound(patience time.Duration) {
	switch {
	case patience > 0:
		_ = c.net.SetReadDeadline(time.Now().Add(patience))
		c.bounded = true
	case c.bounded:
		_ = c.net.SetReadDeadline(time.Time{})
		c.bounded = false
	}
}

// read reads once, with room for want bytes in all.
func (c *conn) read(want int) error {
	if room := max(want, len(c.in)+1); room > len(c.buf) {
		grown := make([]byte, room+readSize)
		copy(grown, c.in)
		c.buf = grown
	}
	n, err := c.net.Read(c.buf[len(c.in):])
	c.in = c.buf[:len(c.in)+n]
	if n > 0 {
		return nil
	}
	return err
}

// answer has the handler answer the request that is here. It says whether the connection goes on.
func (c *conn) answer(h *head) (on bool) {
	ctx, cancel := context.WithCancel(c.s.base)
	defer cancel()
	c.stop.Store(&cancel)
	clear(c.header)
	b := new(body)
	b.set(c.in[h.size : h.size+h.body])
	w := &response{c: c, header: c.header, out: c.take(), length: -1}
	r := h.request(ctx, c.remote, b)
	c.watch.c = c
	c.watch.begin()
	whole := c.call(w, r)
	_ = b.Close()
	if whole {
		w.end()
	}
	next := c.watch.end()
	c.stop.Store(nil)
	c.used(h.size+h.body, next)
	// Shutdown either sees that this is idle, or is seen here.
	return whole && !w.close && c.state.CompareAndSwap(busy, idle) && !c.s.stopping.Load()
}

// call calls the handler. It says that there is an answer: not after a panic.
func (c *conn) call(w *response, r *http.Request) (whole bool) {
	defer func() {
		if whole {
			return
		}
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			c.s.logf("panic serving %s: %v\n%s", c.remote, p, debug.Stack())
		}
	}()
	c.s.HTTP.Handler.ServeHTTP(w, r)
	return true
}

// used drops the first n bytes; next came behind all that is here.
func (c *conn) used(n int, next []byte) {
	rest := c.in[n:]
	if len(c.buf) > 2*readSize && len(rest)+len(next) <= readSize {
		c.buf = make([]byte, readSize)
	}
	c.in = append(c.buf[:copy(c.buf, rest)], next...)
	if len(c.in) > len(c.buf) {
		c.buf = c.in[:cap(c.in)]
	}
}

// cancel ends the context of the request under way.
func (c *conn) cancel() {
	if stop := c.stop.Load(); stop != nil {
		(*stop)()
	}
}

// take and give are memory for answers.
func (c *conn) take() []byte {
	if b, _ := c.s.buffers.Get().(*[]byte); b != nil {
		return (*b)[:0]
	}
	return make([]byte, 0, 4<<10)
}

func (c *conn) give(b []byte) {
	if cap(b) > 0 && cap(b) <= 2*holdMost {
		c.s.buffers.Put(&b)
	}
}

func (s *Server) logf(format string, args ...any) {
	if s.HTTP.ErrorLog != nil {
		_ = s.HTTP.ErrorLog.Output(2, fmt.Sprintf(format, args...))
	}
}
