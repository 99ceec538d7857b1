package exchange

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/crr/exchange/frame"
)

// push sends the local transactions since the last push, with the newest value of each cell, to all peers that are connected.
func (x *Exchange) push(ctx context.Context, t *tenant) {
	err := x.doPush(ctx, t)
	x.touch(t, func() {
		t.pushing = false
		t.needHead = t.needHead || err != nil
	})
	if err != nil && ctx.Err() == nil {
		// Nothing was lost: the next push takes it along, and heads tell of it.
		x.Stats.Failures.Add(1)
		x.log.Warn("transactions were not pushed to other sites", "tenant", t.id, "error", err)
	}
}

func (x *Exchange) doPush(ctx context.Context, t *tenant) error {
	x.mu.Lock()
	from := t.pushed
	alone := !slices.ContainsFunc(t.peers, func(p *peer) bool { return x.linkLocked(p.Node) != nil })
	x.mu.Unlock()
	before, err := x.cfg.Host.Head(ctx, t.id)
	if err != nil {
		return err
	}
	if alone || from.Site() == 0 || !from.Of(before.Identity) {
		// Who connects later pulls. Going on from here spares the reading of all that came meanwhile.
		x.pushedTo(t, before, before.Mark())
		return nil
	}
	var data []byte
	var p crr.Pushed
	err = x.cfg.Host.Read(ctx, t.id, func(r *crr.Reader) (err error) {
		p, err = r.Push(from, func(f []byte) error {
			data = append([]byte(nil), f...)
			return nil
		})
		return err
	})
	if err != nil {
		return err
	}
	if data != nil {
		if err := x.clear(ctx, t); err != nil {
			return err
		}
	}
	after, err := x.cfg.Host.Head(ctx, t.id)
	if err != nil {
		return err
	}
	if !from.Of(after.Identity) {
		return fmt.Errorf("%w: its site is %d, and was %d", crr.ErrOtherFile, after.Site, from.Site())
	}
	if p.Upto() > from.Upto() {
		x.pushedTo(t, after, p.Mark)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case data != nil && len(data) <= frame.MaxData:
		x.spreadLocked(t, data)
		t.tellLater(time.Now(), &x.cfg.Timing) // a head that was sent since the push was read is taken for older than it
		x.touchLocked(t)
	case p.Upto() > from.Upto():
		x.Stats.TooLarge.Add(1)
		t.urgent = true // they pull it
		if t.changedAt.IsZero() {
			t.changedAt = time.Now()
		}
	}
	return nil
}

// pushedTo notes how far the pushes are.
func (x *Exchange) pushedTo(t *tenant, head crr.Head, to crr.Mark) {
	x.touch(t, func() {
		now := time.Now()
		t.pushed, t.pushedAt, t.stirred = to, now, true
		t.setHead(head, now, &x.cfg.Timing)
	})
}

// spreadLocked sends a push to all peers that are connected: to each, or to some that pass it on.
func (x *Exchange) spreadLocked(t *tenant, data []byte) {
	var to []string
	for _, p := range t.peers {
		if x.linkLocked(p.Node) != nil {
			to = append(to, p.Node)
		}
	}
	x.Stats.Pushes.Add(1)
	for _, b := range branches(to, x.cfg.Mesh) {
		f := frame.Push{Tenant: t.id, Relay: b[1:], Data: data}
		if x.linkLocked(b[0]).out.push(f) {
			x.Stats.PushesSent.Add(1)
		} else {
			x.Stats.PushesDropped.Add(1)
		}
	}
}

// branches says who gets a push, and to whom each passes it on: up to mesh peers get it each for themselves; of more,
// about the root of their number get it, the nearest, and share the others among them.
func branches(to []string, mesh int) [][]string {
	n := len(to)
	if n > mesh {
		for n = 1; n*n < len(to) || (len(to)-n+n-1)/n > frame.MaxRelay; n++ {
		}
	}
	out := make([][]string, n)
	for i, node := range to {
		out[i%n] = append(out[i%n], node)
	}
	return out
}

// merge merges pushes that have come, until there are none.
func (x *Exchange) merge(ctx context.Context, t *tenant) {
	for x.mergeSome(ctx, t) {
	}
}

func (x *Exchange) mergeSome(ctx context.Context, t *tenant) (more bool) {
	x.mu.Lock()
	list, greeting := t.inbox, t.greeting
	t.inbox = nil
	if len(list)+len(greeting) == 0 || ctx.Err() != nil || t.gone {
		t.merging = false
		x.mu.Unlock()
		return false
	}
	t.greeting = make(map[*peer]crr.Vector)
	x.mu.Unlock()

	select {
	case t.writer <- struct{}{}:
		defer func() { <-t.writer }()
	case <-ctx.Done():
		return true // to note that it has ended
	}
	got := make([]crr.Received, len(list))
	errs := make([]error, len(list))
	var head crr.Head
	err := x.cfg.Host.Write(ctx, t.id, func(s *crr.Site) error {
		defer func() { head = s.Head() }()
		for p, v := range greeting {
			// Who is no member yet, or any more, is not heard; that is no fault of the pushes.
			if err := s.Heard(p.Site, p.File, v); errors.As(err, new(*crr.RewoundError)) {
				return err
			}
		}
		for i, a := range list {
			if got[i], errs[i] = s.Receive(a.data); errors.As(errs[i], new(*crr.RewoundError)) {
				return errs[i]
			}
		}
		return nil
	})
	if err = x.note(t, err); err != nil && ctx.Err() == nil {
		x.Stats.Failures.Add(1)
		x.log.Info("pushes of another site were not merged", "tenant", t.id, "error", err)
	}
	x.received(t, head, crr.Received{})
	for i := range list {
		x.merged(t, list[i], got[i], errs[i], err)
	}
	return true
}

// merged notes what became of a push.
func (x *Exchange) merged(t *tenant, a *arrived, r crr.Received, err, all error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := time.Now()
	if r.Header != nil {
		// Who sent it has it, and what it follows; of a push that was passed on, its origin.
		v := r.Header.After.Clone()
		v.Join(r.Header.Deps)
		at := now
		if r.Outcome == crr.Early {
			at = a.at.Add(x.cfg.Timing.Early)
		}
		for _, p := range t.peers {
			if p.Site == r.Header.Site && p.File == r.Header.File {
				p.hasAtLeast(t, v, a.from == p && a.heads == p.heads, at)
				var skew *crr.SkewError
				if errors.As(err, &skew) {
					p.hold(skew, now, &x.cfg.Timing)
					x.Stats.Held.Add(1)
				}
			}
		}
	}
	switch {
	case err == nil && all == nil && r.Outcome == crr.Early && !t.gone:
		t.early = append(t.early, a)
		return
	case err == nil && r.Outcome == crr.Applied:
		x.Stats.Merged.Add(1)
		x.Stats.Rows.Add(int64(r.Rows))
		// What follows it may be taken now.
		t.inbox = append(t.inbox, t.early...)
		t.early = nil
	case err != nil:
		x.Stats.PushesDropped.Add(1)
		x.log.Debug("a push of another site was not merged", "tenant", t.id, "peer", a.from.Node, "error", err)
		if errors.Is(err, crr.ErrCorrupt) {
			x.Stats.Refused.Add(1)
		}
	}
	x.droppedLocked(t, a)
}

// droppedLocked notes that a push is not kept any more.
func (x *Exchange) droppedLocked(t *tenant, a *arrived) {
	t.waiting -= len(a.data)
	x.mu.waiting -= len(a.data)
}
