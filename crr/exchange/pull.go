package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/crr/exchange/frame"
	"github.com/nearsql/nearsql/wire"
)

// window is how many bytes of an answer may be on their way.
const window = 2 << 20

// pull is something asked of a peer. What is not constant is guarded by Exchange.mu.
type pull struct {
	kind frame.Kind
	t    *tenant
	p    *peer
	l    *link
	told func(f *frame.Answered, err error) // of Vector: called once, under Exchange.mu

	id     uint64 // 0: it was not sent
	parts  []frame.Answer
	window int // bytes that may still come
	done   *frame.Answered
	err    error
	moved  chan struct{} // holds one: a part, done or err is there
}

func newPull(kind frame.Kind, t *tenant, p *peer, l *link) *pull {
	return &pull{kind: kind, t: t, p: p, l: l, window: window, moved: make(chan struct{}, 1)}
}

// partLocked takes a part of the answer.
func (q *pull) partLocked(f frame.Answer) error {
	if q.window -= len(f.Data); q.window < 0 {
		return outOfPlace("more of answer %d than there was room for", f.ID)
	}
	q.parts = append(q.parts, f)
	kick(q.moved)
	return nil
}

func (q *pull) answeredLocked(f frame.Answered) {
	delete(q.l.pulls, q.id)
	q.done = &f
	if q.kind != frame.Snapshot && (f.Code == frame.Done || f.Code == frame.Nothing) {
		at := time.Now()
		if q.kind == frame.Batch {
			at = at.Add(q.l.x.cfg.Timing.Grace) // what came is merged first
		}
		q.l.x.heardLocked(q.t, q.p, f.Vector, at)
	}
	kick(q.moved)
	if q.told != nil {
		q.told(&f, nil)
	}
}

// endLocked ends it without an answer.
func (q *pull) endLocked(err error) {
	delete(q.l.pulls, q.id)
	if q.done == nil && q.err == nil {
		q.err = err
		kick(q.moved)
		if q.told != nil {
			q.told(nil, err)
		}
	}
}

// sendLocked asks.
func (q *pull) sendLocked(request []byte) {
	if q.l.x.linkLocked(q.l.node) != q.l {
		q.endLocked(errLinkEnded)
		return
	}
	q.l.x.mu.nextID++
	q.id = q.l.x.mu.nextID // ascending as they are sent
	q.l.pulls[q.id] = q
	q.l.out.send(frame.Pull{ID: q.id, Kind: q.kind, Tenant: q.t.id, Window: window, Request: request})
}

// next returns the next part of the answer; nil when it has ended.
func (q *pull) next(ctx context.Context) (*frame.Answer, *frame.Answered, error) {
	x := q.l.x
	stall := time.NewTimer(x.cfg.Timing.Stall + x.cfg.Timing.Dead) // the other end has given up by then
	defer stall.Stop()
	for {
		x.mu.Lock()
		if len(q.parts) > 0 {
			f := q.parts[0]
			q.parts = q.parts[1:]
			q.window += len(f.Data)
			if q.done == nil && q.err == nil {
				q.l.out.credit[q.id] += uint32(len(f.Data))
				kick(q.l.wake)
			}
			x.mu.Unlock()
			return &f, nil, nil
		}
		done, err := q.done, q.err
		x.mu.Unlock()
		if done != nil || err != nil {
			return nil, done, err
		}
		select {
		case <-q.moved:
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		case <-stall.C:
			return nil, nil, errors.New("the peer does not answer")
		}
	}
}

// cancel ends a pull of which the rest is of no use.
func (q *pull) cancel() {
	x := q.l.x
	x.mu.Lock()
	defer x.mu.Unlock()
	if q.l.pulls[q.id] == q {
		delete(q.l.pulls, q.id)
		q.l.out.send(frame.Cancel{ID: q.id})
	}
}

// runPull brings a tenant up to what a peer has, and notes what came of it.
func (x *Exchange) runPull(ctx context.Context, q *pull) {
	done, err := x.doPull(ctx, q)
	q.cancel()
	err = x.note(q.t, err)
	x.touch(q.t, func() {
		now := time.Now()
		q.t.pull = nil
		var skew *crr.SkewError
		switch {
		case errors.As(err, &skew):
			q.p.hold(skew, now, &x.cfg.Timing)
			x.Stats.Held.Add(1)
		case err != nil:
			q.p.failed(now, &x.cfg.Timing)
		default:
			q.p.well()
			q.p.held = nil
		}
		if done != nil && (done.Code == frame.Done || done.Code == frame.Nothing) {
			if hash := done.Vector.Hash(); q.p.greet != hash && q.t.stirred {
				q.t.greeting[q.p], q.p.greet = done.Vector, hash
			}
		}
		q.t.inbox = append(q.t.early, q.t.inbox...)
		q.t.early = nil
	})
	x.Stats.Pulls.Add(1)
	if err != nil && ctx.Err() == nil {
		x.Stats.Failures.Add(1)
		x.log.Info("a pull from another site failed", "tenant", q.t.id, "peer", q.p.Node, "error", err)
	}
}

// doPull asks and merges.
func (x *Exchange) doPull(ctx context.Context, q *pull) (*frame.Answered, error) {
	select {
	case x.pulls <- struct{}{}:
		defer func() { <-x.pulls }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	var request []byte
	err := x.cfg.Host.Write(ctx, q.t.id, func(s *crr.Site) error {
		request = s.Request(q.p.Site, q.p.File).Append(nil)
		return nil
	})
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	q.sendLocked(request)
	x.mu.Unlock()
	m := merging{x: x, t: q.t}
	defer m.release()
	var whole []byte
	for {
		f, done, err := q.next(ctx)
		if err != nil {
			return nil, err
		}
		if done != nil {
			return done, answerError(done)
		}
		if whole = append(whole, f.Data...); len(whole) > crr.MaxFrame {
			return nil, fmt.Errorf("%w: a frame of more than %d bytes", crr.ErrCorrupt, crr.MaxFrame)
		}
		if !f.End {
			continue
		}
		if err := m.frame(ctx, whole); err != nil {
			return nil, err
		}
		whole = whole[:0]
	}
}

// answerError is why an answer is none.
func answerError(f *frame.Answered) error {
	switch f.Code {
	case frame.Done, frame.Nothing:
		return nil
	case frame.Behind:
		return &crr.BehindError{Reason: f.Text}
	}
	return fmt.Errorf("the peer answered with code %d: %s", f.Code, f.Text)
}

// merging merges the frames of one batch, and lets nothing come between them.
type merging struct {
	x    *Exchange
	t    *tenant
	held bool
}

func (m *merging) frame(ctx context.Context, b []byte) error {
	if !m.held {
		select {
		case m.t.writer <- struct{}{}:
			m.held = true
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	var r crr.Received
	var head crr.Head
	err := m.x.cfg.Host.Write(ctx, m.t.id, func(s *crr.Site) (err error) {
		r, err = s.Receive(b)
		head = s.Head()
		return err
	})
	if err != nil || r.Outcome != crr.Partial {
		m.release()
	}
	m.x.received(m.t, head, r)
	return err
}

func (m *merging) release() {
	if m.held {
		m.held = false
		<-m.t.writer
	}
}

// received notes what the file has after a batch was looked at.
func (x *Exchange) received(t *tenant, head crr.Head, r crr.Received) {
	if r.Outcome == crr.Applied {
		x.Stats.Merged.Add(1)
		x.Stats.Rows.Add(int64(r.Rows))
	}
	if head.Vector == nil {
		return // the site was not reached
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	t.stirred = true
	t.setHead(head, time.Now(), &x.cfg.Timing)
	x.touchLocked(t)
}

// note tells the host of faults that it has to do something about.
func (x *Exchange) note(t *tenant, err error) error {
	var rewound *crr.RewoundError
	var behind *crr.BehindError
	switch {
	case errors.As(err, &rewound):
		x.log.Warn("a file of conflict-free tables is older than what it has sent", "tenant", t.id, "error", err)
		x.cfg.Host.Rewound(t.id, rewound)
		x.touch(t, func() { t.needHead = true })
	case errors.As(err, &behind) || errors.Is(err, crr.ErrTooMany):
		x.cfg.Host.Behind(t.id, err)
	}
	return err
}

// ErrUnreachable is a tenant of which no peer answers.
var ErrUnreachable = errors.New("exchange: no other site is reached")

// Fetch writes a copy of another site's file, without identity: of the nearest that is reached, and of another with each call, since who calls again
// had no use of the one before. After an error what was written is of no use.
func (x *Exchange) Fetch(ctx context.Context, id wire.TenantID, w io.Writer) error {
	q := x.fetchFrom(id)
	if q == nil {
		return ErrUnreachable
	}
	defer q.cancel()
	select {
	case x.pulls <- struct{}{}:
		defer func() { <-x.pulls }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	x.mu.Lock()
	q.sendLocked(nil)
	x.mu.Unlock()
	err := func() error {
		for {
			f, done, err := q.next(ctx)
			if err != nil {
				return err
			}
			if done != nil {
				return answerError(done)
			}
			if _, err := w.Write(f.Data); err != nil {
				return err
			}
		}
	}()
	if err != nil {
		return fmt.Errorf("fetch a copy from %s: %w", q.p.Node, err)
	}
	x.Stats.Fetches.Add(1)
	return nil
}

// fetchFrom chooses a peer that is reached: the nearest of those that were asked the fewest times, so that each call asks another.
func (x *Exchange) fetchFrom(id wire.TenantID) *pull {
	x.mu.Lock()
	defer x.mu.Unlock()
	t := x.mu.tenants[id]
	if t == nil {
		return nil
	}
	var best *peer
	for _, p := range t.peers {
		if p.Site != 0 && x.linkLocked(p.Node) != nil && (best == nil || p.fetches < best.fetches) {
			best = p
		}
	}
	if best == nil {
		return nil
	}
	best.fetches++
	return newPull(frame.Snapshot, t, best, x.linkLocked(best.Node))
}
