package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/crr/exchange/frame"
)

const (
	// answersMax is how many pulls of one peer wait, or are answered.
	answersMax = 64
	// answerQueue is how many bytes of an answer wait to be sent before its making does.
	answerQueue = 1 << 20
)

// answer is what is sent to a pull of a peer. What is not constant is guarded by Exchange.mu.
type answer struct {
	l    *link
	id   uint64
	kind frame.Kind
	t    *tenant
	p    *peer

	frames [][]byte // whole ones, but for the first
	queued int
	credit int64
	done   *frame.Answered // sent behind all data
	ended  bool
	moved  chan struct{} // holds one: something was sent
}

var errCancelled = errors.New("the peer does not want it any more")

// takeLocked takes what may be sent next; nil if there is nothing.
func (a *answer) takeLocked() frame.Frame {
	if len(a.frames) == 0 {
		if a.done == nil || a.ended {
			return nil
		}
		f := *a.done
		if f.Code == frame.Done || f.Code == frame.Nothing {
			f.Vector = a.t.head.Vector // as new as any head that was sent before
		}
		a.endLocked()
		return f
	}
	head := a.frames[0]
	n := int(min(int64(len(head)), frame.MaxData, a.credit))
	if n == 0 || a.ended {
		return nil
	}
	f := frame.Answer{ID: a.id, End: n == len(head) && a.kind == frame.Batch, Data: head[:n]}
	if a.frames[0] = head[n:]; n == len(head) {
		a.frames[0] = nil
		a.frames = a.frames[1:]
	}
	a.queued -= n
	a.credit -= int64(n)
	kick(a.moved)
	return f
}

// endLocked drops what was not sent.
func (a *answer) endLocked() {
	a.ended, a.frames, a.queued = true, nil, 0
	delete(a.l.answers, a.id)
	o := &a.l.out
	for i, x := range o.turns {
		if x == a {
			o.turns = append(o.turns[:i:i], o.turns[i+1:]...)
			break
		}
	}
	kick(a.moved)
}

func (a *answer) creditLocked(n uint32) {
	a.credit = min(a.credit+int64(n), 1<<40)
	kick(a.l.wake)
}

// wait waits until no more than most bytes wait to be sent.
func (a *answer) wait(ctx context.Context, most int) error {
	x := a.l.x
	for {
		x.mu.Lock()
		ended, queued := a.ended, a.queued
		x.mu.Unlock()
		if ended {
			return errCancelled
		}
		if queued <= most {
			return nil
		}
		stall := time.NewTimer(x.cfg.Timing.Stall)
		select {
		case <-a.moved:
			stall.Stop()
		case <-ctx.Done():
			stall.Stop()
			return context.Cause(ctx)
		case <-stall.C:
			x.Stats.Stalled.Add(1)
			return errors.New("the peer takes nothing")
		}
	}
}

// write queues data to be sent, when not too much waits.
func (a *answer) write(ctx context.Context, b []byte) error {
	if err := a.wait(ctx, answerQueue); err != nil {
		return err
	}
	x := a.l.x
	x.mu.Lock()
	defer x.mu.Unlock()
	if a.ended {
		return errCancelled
	}
	a.frames = append(a.frames, append([]byte(nil), b...))
	a.queued += len(b)
	kick(a.l.wake)
	return nil
}

// makeAnswer answers a pull.
func (x *Exchange) makeAnswer(ctx context.Context, a *answer, request []byte) {
	out, err := x.answerTo(ctx, a, request)
	out.ID = a.id
	if err != nil {
		out.Code = frame.Failed
		var behind *crr.BehindError
		var refused *refusedError
		switch {
		case errors.As(err, &behind):
			out.Code, out.Text = frame.Behind, shorten(behind.Reason)
		case errors.As(err, &refused):
			out.Code, out.Text = frame.Refused, shorten(refused.Error())
		case errors.Is(err, crr.ErrNoSite):
			out.Code, out.Text = frame.Busy, "this site has no number yet"
		case ctx.Err() == nil && !errors.Is(err, errCancelled):
			// The peer is told no details: they are for people here.
			x.Stats.Failures.Add(1)
			x.log.Warn("an answer to another site was not made", "tenant", a.t.id, "peer", a.l.node, "error", err)
		}
	}
	x.mu.Lock()
	if err != nil {
		a.frames, a.queued = nil, 0
	}
	a.done = &out
	kick(a.l.wake)
	x.mu.Unlock()
}

// refusedError is a pull of somebody who is not the site that this node knows.
type refusedError struct{ what string }

func (e *refusedError) Error() string { return e.what }

// answerTo says what there is, and queues it.
func (x *Exchange) answerTo(ctx context.Context, a *answer, request []byte) (out frame.Answered, err error) {
	var q *crr.Request
	if a.kind == frame.Batch {
		if q, err = crr.ParseRequest(request); err != nil {
			return out, &refusedError{err.Error()}
		}
		if q.Site != 0 && (q.Site != a.p.Site || q.File != a.p.File) {
			return out, &refusedError{fmt.Sprintf("as far as is known here, this node's site is %d with another file", a.p.Site)}
		}
	}
	head, err := x.headNow(ctx, a.t)
	if err != nil {
		return out, err
	}
	out.Code = frame.Done
	if a.kind == frame.Vector {
		return out, nil
	}
	if q != nil {
		if err := x.greet(ctx, a, q); err != nil {
			return out, err
		}
		if q.Vector.Covers(head.Vector) {
			out.Code = frame.Nothing
			return out, nil
		}
	}
	for _, slot := range []chan struct{}{a.l.making, x.answers} {
		select {
		case slot <- struct{}{}:
			defer func() { <-slot }()
		case <-ctx.Done():
			return out, context.Cause(ctx)
		}
	}
	if err := x.readAnswer(ctx, a, q); err != nil {
		return out, err
	}
	x.Stats.Answers.Add(1)
	_, _ = x.headNow(ctx, a.t) // what is known already is enough
	return out, a.wait(ctx, 0)
}

// headNow looks up what the file has. What the peers are told from then on is no older.
func (x *Exchange) headNow(ctx context.Context, t *tenant) (crr.Head, error) {
	head, err := x.cfg.Host.Head(ctx, t.id)
	if err == nil {
		x.touch(t, func() { t.setHead(head, time.Now(), &x.cfg.Timing) })
	}
	return head, err
}

// greet has the site hear what the asker has. A file that has been rewound gives up its number by that.
func (x *Exchange) greet(ctx context.Context, a *answer, q *crr.Request) error {
	x.mu.Lock()
	if !a.t.gone && slices.Contains(a.t.peers, a.p) {
		a.p.hasAtLeast(a.t, q.Vector, false, time.Now().Add(x.cfg.Timing.Grace))
		x.touchLocked(a.t)
	}
	hash, was := q.Vector.Hash(), a.p.greet
	a.p.greet = hash
	x.mu.Unlock()
	if q.Site == 0 || hash == was {
		return nil
	}
	err := x.cfg.Host.Write(ctx, a.t.id, func(s *crr.Site) error { return s.Heard(q.Site, q.File, q.Vector) })
	return x.note(a.t, err)
}

// readAnswer reads the file. Of one tenant one answer is read at a time.
func (x *Exchange) readAnswer(ctx context.Context, a *answer, q *crr.Request) error {
	select {
	case a.t.reader <- struct{}{}:
		defer func() { <-a.t.reader }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if a.kind == frame.Snapshot {
		return x.cfg.Host.Snapshot(ctx, a.t.id, &answerWriter{ctx, a})
	}
	cleared := false
	return x.cfg.Host.Read(ctx, a.t.id, func(r *crr.Reader) error {
		return r.Answer(q, func(f []byte) error {
			if !cleared {
				if err := x.clear(ctx, a.t); err != nil {
					return err
				}
				cleared = true
			}
			return a.write(ctx, f)
		})
	})
}

// clear waits until all that is committed may leave this node, and notes that it does.
func (x *Exchange) clear(ctx context.Context, t *tenant) error {
	if x.cfg.Durable != nil {
		if err := x.cfg.Durable(ctx, t.id); err != nil {
			return fmt.Errorf("wait until it is durable: %w", err)
		}
	}
	h, err := x.cfg.Host.Head(ctx, t.id)
	if err != nil || h.Site == 0 {
		return err
	}
	return x.cfg.Host.Sent(t.id, h.File, h.Vector[h.Site])
}

// answerWriter lets a copy of a file be written into an answer.
type answerWriter struct {
	ctx context.Context
	a   *answer
}

var _ io.Writer = (*answerWriter)(nil)

// Write implements io.Writer.
func (w *answerWriter) Write(b []byte) (int, error) {
	for n := 0; n < len(b); {
		k := min(len(b)-n, frame.MaxData)
		if err := w.a.write(w.ctx, b[n:n+k]); err != nil {
			return n, err
		}
		n += k
	}
	return len(b), nil
}
