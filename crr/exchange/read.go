package exchange

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/crr/exchange/frame"
)

// read takes what the other end sends. It waits for nothing but the connection.
func (l *link) read(ctx context.Context) error {
	r := frame.NewReader(l.conn)
	for {
		_ = l.conn.SetReadDeadline(time.Now().Add(l.x.cfg.Timing.Dead))
		f, err := r.Next()
		if err != nil {
			return err
		}
		l.x.Stats.received(f)
		if err := l.accept(ctx, f); err != nil {
			return err
		}
	}
}

// accept takes one frame.
func (l *link) accept(ctx context.Context, f frame.Frame) error {
	x := l.x
	x.mu.Lock()
	defer x.mu.Unlock()
	switch f := f.(type) {
	case frame.Hello:
		l.upLocked()
		kick(l.wake)
		kick(x.wake)
	case frame.Heartbeat:
		l.clock.heard(f, x.cfg.Now())
		x.setAheadLocked()
	case frame.Error:
		return fmt.Errorf("the other end refused (code %d): %s", f.Code, f.Text)
	case frame.Heads:
		l.headsLocked(f)
	case frame.Pull:
		return l.pullLocked(ctx, f)
	case frame.Answer:
		if p := l.pulls[f.ID]; p != nil {
			return p.partLocked(f)
		}
	case frame.Answered:
		if p := l.pulls[f.ID]; p != nil {
			p.answeredLocked(f)
		}
	case frame.Cancel:
		if a := l.answers[f.ID]; a != nil {
			a.endLocked()
		}
	case frame.Credit:
		if a := l.answers[f.ID]; a != nil {
			a.creditLocked(f.Bytes)
		}
	case frame.Push:
		l.pushLocked(f)
	}
	return nil
}

// headsLocked takes what the other end says to have.
func (l *link) headsLocked(f frame.Heads) {
	x := l.x
	at := time.Now()
	if !f.Urgent {
		at = at.Add(x.cfg.Timing.Grace)
	}
	for _, h := range f.Heads {
		t := x.mu.tenants[h.Tenant]
		if t == nil {
			continue
		}
		p := t.peer(l.node)
		if p == nil {
			x.Stats.Strangers.Add(1)
			continue
		}
		p.says(t, h.Hash, at)
		if !t.known {
			t.needHead = true
		}
		if t.stirred && t.known && h.Hash == t.head.Hash && p.greet != h.Hash {
			t.greeting[p], p.greet = t.head.Vector, h.Hash
		}
		if !t.known || !p.moreAt.IsZero() || len(t.greeting) > 0 {
			x.touchLocked(t)
		}
	}
}

// waitingMax is how many bytes of pushes wait to be merged, of all tenants.
const waitingMax = 64 << 20

// pushLocked takes a push, or drops it.
func (l *link) pushLocked(f frame.Push) {
	x := l.x
	t := x.mu.tenants[f.Tenant]
	if t == nil {
		x.Stats.Strangers.Add(1)
		return
	}
	p := t.peer(l.node)
	if p == nil {
		x.Stats.Strangers.Add(1)
		return
	}
	for _, to := range f.Relay {
		if n := x.linkLocked(to); n != nil && n != l && t.peer(to) != nil {
			if n.out.push(frame.Push{Tenant: f.Tenant, Data: f.Data}) {
				x.Stats.Relayed.Add(1)
			} else {
				x.Stats.PushesDropped.Add(1)
			}
		}
	}
	if t.waiting+len(f.Data) > x.cfg.PushBytes || x.mu.waiting+len(f.Data) > waitingMax {
		x.Stats.PushesDropped.Add(1)
		return
	}
	t.waiting += len(f.Data)
	x.mu.waiting += len(f.Data)
	t.inbox = append(t.inbox, &arrived{from: p, heads: p.heads, data: f.Data, at: time.Now()})
	x.touchLocked(t)
}

// pullLocked has an answer made.
func (l *link) pullLocked(ctx context.Context, f frame.Pull) error {
	x := l.x
	if f.ID <= l.lastPull {
		return outOfPlace("pull %d after %d", f.ID, l.lastPull)
	}
	l.lastPull = f.ID
	t := x.mu.tenants[f.Tenant]
	var p *peer
	if t != nil {
		p = t.peer(l.node)
	}
	switch {
	case p == nil:
		x.Stats.Strangers.Add(1)
		l.out.send(frame.Answered{ID: f.ID, Code: frame.Refused, Text: "this node knows of no such site of the tenant"})
	case len(l.answers) >= answersMax:
		l.out.send(frame.Answered{ID: f.ID, Code: frame.Busy})
	default:
		a := &answer{l: l, id: f.ID, kind: f.Kind, t: t, p: p, credit: int64(f.Window), moved: make(chan struct{}, 1)}
		l.answers[f.ID] = a
		l.out.turns = append(l.out.turns, a)
		l.work.Go(func() { x.makeAnswer(ctx, a, f.Request) })
	}
	return nil
}

// heardLocked notes what a peer said to have in an answer, in the order in which its answers and heads come.
func (x *Exchange) heardLocked(t *tenant, p *peer, v crr.Vector, at time.Time) {
	if t.gone || !slices.Contains(t.peers, p) {
		return
	}
	p.has(t, v, at)
	x.touchLocked(t)
}
