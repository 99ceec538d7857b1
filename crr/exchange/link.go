package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/nearsql/nearsql/crr/exchange/frame"
)

// link is one connection to a node.
type link struct {
	x       *Exchange
	node    string
	conn    net.Conn
	dialled bool
	cancel  context.CancelCauseFunc
	wake    chan struct{} // holds one: the writer has something to do
	making  chan struct{} // holds one for each answer that is made for the other end

	work sync.WaitGroup // goroutines that make answers

	// Guarded by Exchange.mu.
	up       bool // the other end's hello has come
	out      outbox
	pulls    map[uint64]*pull   // of this end
	answers  map[uint64]*answer // to pulls of the other end
	lastPull uint64             // newest id of the other end
	clock    linkClock
}

var (
	errIdle     = errors.New("no tenant is shared any more")
	errReplaced = errors.New("a newer connection has come")
)

// protocolError is a frame out of place.
type protocolError struct{ what string }

func (e *protocolError) Error() string { return "exchange: " + e.what }

func outOfPlace(format string, args ...any) error {
	return &protocolError{fmt.Sprintf(format, args...)}
}

// Serve exchanges with the node at the other end of a connection until that ends, or ctx or Run does. It is for cluster.Net.Handle, with
// cluster.PurposeExchange; of two nodes the one whose id is less dials.
func (x *Exchange) Serve(ctx context.Context, node string, conn net.Conn) {
	if err := x.serve(ctx, node, conn, false); err != nil && ctx.Err() == nil {
		x.log.Info("connection between sites ended", "from", node, "error", err)
	}
}

// serve is one connection, from hello to its end. It closes it.
func (x *Exchange) serve(ctx context.Context, node string, conn net.Conn, dialled bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := &link{x: x, node: node, conn: conn, dialled: dialled, cancel: cancel, wake: make(chan struct{}, 1), making: make(chan struct{}, max(x.cfg.Answers/2, 1))}
	l.pulls, l.answers = make(map[uint64]*pull), make(map[uint64]*answer)
	l.out.init(l)
	if err := x.enter(l); err != nil {
		_ = conn.Close()
		return err
	}
	defer x.goroutines.Done()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	x.Stats.Links.Add(1)
	defer x.Stats.Links.Add(-1)

	// The first of the two that fails says why.
	var parts sync.WaitGroup
	first := make(chan error, 2)
	written := make(chan struct{})
	parts.Go(func() { first <- l.write(ctx); close(written) })
	parts.Go(func() { first <- l.read(ctx) })
	err := <-first
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if x.sayWhy(l, err) {
		select {
		case <-written:
		case <-time.After(x.cfg.Timing.Heartbeat):
		}
	}
	cancel(err)
	_ = conn.Close()
	parts.Wait()
	x.leave(l)
	l.work.Wait()
	if errors.Is(err, errIdle) || errors.Is(err, errReplaced) || errors.Is(err, io.EOF) || errors.Is(err, errEnded) {
		return nil
	}
	return err
}

// enter makes the link the one to its node.
func (x *Exchange) enter(l *link) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch old := x.mu.links[l.node]; {
	case x.mu.ended || !x.mu.running:
		return errEnded
	case !l.dialled && l.node >= x.cfg.Node:
		return outOfPlace("node %s dialled, and its id is not less", l.node)
	case old != nil:
		old.cancel(errReplaced)
	case len(x.mu.links) >= x.cfg.ConnsMax:
		return errors.New("exchange: there are too many connections")
	}
	x.mu.links[l.node] = l
	x.goroutines.Add(1)
	return nil
}

// leave ends all that went over the link.
func (x *Exchange) leave(l *link) {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := x.mu.nodes[l.node]
	if l.up && n != nil {
		n.seen = time.Now()
	}
	l.up = false
	if x.mu.links[l.node] == l {
		delete(x.mu.links, l.node)
	}
	for _, p := range l.pulls {
		p.endLocked(errLinkEnded)
	}
	for _, a := range l.answers {
		a.endLocked()
	}
	if n != nil {
		for t := range n.tenants {
			t.announce()
		}
	}
	x.setAheadLocked()
	kick(x.wake)
}

var errLinkEnded = errors.New("the connection ended")

// sayWhy lets the other end know what was wrong with what it sent; false if nothing was.
func (x *Exchange) sayWhy(l *link, err error) bool {
	e := frame.Error{Code: frame.ErrorFormat}
	switch {
	case errors.As(err, new(*frame.VersionError)):
		e.Code = frame.ErrorVersion
	case errors.As(err, new(*protocolError)):
		e.Code = frame.ErrorProtocol
	case errors.As(err, new(*frame.FormatError)):
	default:
		return false
	}
	x.Stats.Refused.Add(1)
	e.Text = shorten(err.Error())
	x.mu.Lock()
	defer x.mu.Unlock()
	l.out.last = &e
	kick(l.wake)
	return true
}

// shorten makes a text fit a frame.
func shorten(s string) string {
	b := []byte(s[:min(len(s), frame.MaxText)])
	for i := range b {
		if b[i] < ' ' || b[i] > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

// upLocked is called when the other end's hello has come: it is told what is here.
func (l *link) upLocked() {
	x := l.x
	l.up = true
	n := x.mu.nodes[l.node]
	if n == nil {
		return
	}
	for t := range n.tenants {
		if p := t.peer(l.node); p != nil {
			p.forget()
			p.well()
		}
		l.out.head(t, false)
		t.announce()
	}
}

// write sends what there is to send.
func (l *link) write(ctx context.Context) error {
	t := &l.x.cfg.Timing
	w := frame.NewWriter(l.conn)
	deadline := func() { _ = l.conn.SetWriteDeadline(time.Now().Add(t.Dead)) }
	deadline()
	if err := w.Write(frame.Hello{Version: frame.Version, Heartbeat: uint32(t.Heartbeat / time.Millisecond)}); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	beat := time.NewTicker(t.Heartbeat)
	defer beat.Stop()
	due := true
	for {
		frames, err := l.take(due)
		due = false
		if err != nil {
			return err
		}
		deadline()
		for _, f := range frames {
			if err := w.Write(f); err != nil {
				return err
			}
			l.x.Stats.sent(f)
			if f.Type() == frame.TypeError {
				return errors.Join(w.Flush(), errSaid)
			}
		}
		if len(frames) > 0 {
			if err := w.Flush(); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-l.wake:
		case <-beat.C:
			due = true
		}
	}
}

var errSaid = errors.New("the other end was told why")
