package leader

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// errSuperseded is the error of a question that a later one took the place of.
var errSuperseded = errors.New("a later question was asked")

// peers asks other nodes, each over one connection that stays open.
type peers struct {
	links   *links
	timeout time.Duration // of one question

	running sync.WaitGroup
	mu      struct {
		sync.Mutex
		ctx  context.Context // nil before begin; the peers' goroutines end with it
		byID map[NodeID]*peer
	}
}

// peer is one other node.
type peer struct {
	id     NodeID
	cancel context.CancelFunc
	wake   chan struct{} // holds one
	mu     struct {
		sync.Mutex
		question *question // that waits
		ended    bool
	}
}

// question is a frame and what to do with its answer, once, which must not wait.
type question struct {
	ask    frame
	answer func(frame, error)
}

func newPeers(l *links, timeout time.Duration) *peers {
	p := &peers{links: l, timeout: timeout}
	p.mu.byID = make(map[NodeID]*peer)
	return p
}

// begin lets questions be asked until ctx ends.
func (p *peers) begin(ctx context.Context) {
	p.mu.Lock()
	p.mu.ctx = ctx
	p.mu.Unlock()
}

// wait returns when ctx has ended and the last question is answered.
func (p *peers) wait(ctx context.Context) {
	<-ctx.Done()
	p.mu.Lock()
	p.mu.ctx = nil // what is asked from now on is refused
	p.mu.Unlock()
	p.running.Wait()
}

// ask asks a node. A question that still waits for an earlier one to be
// answered gives way to a later one.
func (p *peers) ask(to NodeID, q question) {
	p.mu.Lock()
	if p.mu.ctx == nil || p.mu.ctx.Err() != nil {
		p.mu.Unlock()
		q.answer(frame{}, ErrStopped)
		return
	}
	e := p.mu.byID[to]
	if e == nil {
		ctx, cancel := context.WithCancel(p.mu.ctx)
		e = &peer{id: to, cancel: cancel, wake: make(chan struct{}, 1)}
		p.mu.byID[to] = e
		p.running.Go(func() { p.serve(ctx, e) })
	}
	p.mu.Unlock()

	e.mu.Lock()
	before, ended := e.mu.question, e.mu.ended
	if !ended {
		e.mu.question = &q
	}
	e.mu.Unlock()
	switch {
	case ended:
		q.answer(frame{}, ErrStopped)
		return
	case before != nil:
		before.answer(frame{}, errSuperseded)
	}
	wake(e.wake)
}

// keep ends the connections to all nodes but these.
func (p *peers) keep(wanted map[NodeID]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, e := range p.mu.byID {
		if !wanted[id] {
			e.cancel()
			delete(p.mu.byID, id)
		}
	}
}

// serve asks one node until ctx ends.
func (p *peers) serve(ctx context.Context, e *peer) {
	defer e.cancel()
	var c net.Conn
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-e.wake:
		}
		e.mu.Lock()
		q := e.mu.question
		e.mu.question = nil
		e.mu.ended = ctx.Err() != nil
		e.mu.Unlock()
		if q == nil {
			continue
		}
		var answer frame
		var err error
		c, answer, err = p.exchange(ctx, c, e.id, q.ask)
		q.answer(answer, err)
	}
	e.mu.Lock()
	q := e.mu.question
	e.mu.question, e.mu.ended = nil, true
	e.mu.Unlock()
	if q != nil {
		q.answer(frame{}, ErrStopped)
	}
	if c != nil {
		_ = c.Close()
	}
}

// exchange asks over c, or a new connection if c is nil or was closed
// meanwhile, and returns the connection for the next question; nil if there is none.
func (p *peers) exchange(ctx context.Context, c net.Conn, to NodeID, ask frame) (net.Conn, frame, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	reused := c != nil
	for {
		if c == nil {
			var err error
			if c, err = p.links.dial(ctx, to, PurposeConfirm); err != nil {
				return nil, frame{}, fmt.Errorf("ask node %s: %w", to, err)
			}
		}
		answer, err := exchangeOver(ctx, c, ask)
		if err == nil {
			return c, answer, nil
		}
		_ = c.Close()
		c = nil
		if !reused || ctx.Err() != nil {
			return nil, frame{}, fmt.Errorf("ask node %s: %w", to, err)
		}
		reused = false
	}
}

func exchangeOver(ctx context.Context, c net.Conn, ask frame) (frame, error) {
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return frame{}, err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if _, err := c.Write(ask.encode()); err != nil {
		return frame{}, err
	}
	answer, err := readFrame(c)
	if err != nil {
		return frame{}, err
	}
	if answer.kind != ask.kind || answer.group != ask.group || answer.round != ask.round {
		return frame{}, fmt.Errorf("asked %d of group %d in round %d, answered was %d of group %d in round %d",
			ask.kind, ask.group, ask.round, answer.kind, answer.group, answer.round)
	}
	return answer, nil
}
