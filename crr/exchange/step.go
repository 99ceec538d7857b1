package exchange

import (
	"context"
	"slices"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/crr/exchange/frame"
)

// earliest is the earlier of two times, of which the zero one is none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// stepLocked starts what is to be done for a tenant now, and returns when it is to be looked at again in any case; zero: when something happens.
func (x *Exchange) stepLocked(ctx context.Context, now time.Time, t *tenant) (next time.Time) {
	if t.gone || x.mu.ended {
		return time.Time{}
	}
	next = earliest(next, x.stepHeadLocked(ctx, now, t))
	next = earliest(next, x.stepPushLocked(ctx, now, t))
	next = earliest(next, x.stepMergeLocked(ctx, now, t))
	next = earliest(next, x.stepPullLocked(ctx, now, t))
	return next
}

// stepHeadLocked looks up what the file has, and tells others.
func (x *Exchange) stepHeadLocked(ctx context.Context, now time.Time, t *tenant) (next time.Time) {
	if !t.digestAt.After(now) {
		// Spread anew each time, so that tenants that were added together do not stay so.
		t.digestAt = now.Add(x.cfg.Timing.Digest*9/10 + jitter(x.cfg.Timing.Digest/10))
		if t.known {
			x.tellLocked(t, false)
		} else {
			t.needHead = true
		}
	}
	next = t.digestAt
	switch {
	case t.needHead && !t.looking && !now.Before(t.lookAt):
		t.looking = true
		x.goroutines.Go(func() { x.look(ctx, t) })
	case t.needHead && !t.looking:
		next = earliest(next, t.lookAt)
	}
	if t.known && !t.changedAt.IsZero() {
		if !t.urgent && now.Before(t.headsAt) {
			return earliest(next, t.headsAt)
		}
		x.tellLocked(t, t.urgent)
		t.changedAt, t.urgent = time.Time{}, false
	}
	return next
}

// look opens the file for its head.
func (x *Exchange) look(ctx context.Context, t *tenant) {
	h, err := crr.Head{}, context.Canceled
	select {
	case x.opens <- struct{}{}:
		h, err = x.cfg.Host.Head(ctx, t.id)
		<-x.opens
	case <-ctx.Done():
	}
	x.touch(t, func() {
		t.looking = false
		if err != nil {
			t.tries++
			t.lookAt = time.Now().Add(x.cfg.Timing.backoff(t.tries))
			return
		}
		t.setHead(h, time.Now(), &x.cfg.Timing)
		for _, p := range t.peers {
			p.suspect(t, time.Now().Add(x.cfg.Timing.Grace))
		}
	})
	if err != nil && ctx.Err() == nil {
		x.Stats.Failures.Add(1)
		x.log.Warn("no head of a tenant's conflict-free tables", "tenant", t.id, "error", err)
	}
}

// tellLocked has the tenant's head sent to all peers.
func (x *Exchange) tellLocked(t *tenant, urgent bool) {
	for _, p := range t.peers {
		if l := x.linkLocked(p.Node); l != nil {
			l.out.head(t, urgent)
		}
	}
}

// stepPushLocked starts a push when its time has come.
func (x *Exchange) stepPushLocked(ctx context.Context, now time.Time, t *tenant) (next time.Time) {
	switch {
	case t.pushAt.IsZero() || t.pushing:
		return time.Time{}
	case now.Before(t.pushAt):
		return t.pushAt
	}
	t.pushing, t.pushAt = true, time.Time{}
	x.goroutines.Go(func() { x.push(ctx, t) })
	return time.Time{}
}

// stepMergeLocked gives up pushes that waited too long, and merges others.
func (x *Exchange) stepMergeLocked(ctx context.Context, now time.Time, t *tenant) (next time.Time) {
	late := now.Add(-x.cfg.Timing.Early)
	t.early = slices.DeleteFunc(t.early, func(a *arrived) bool {
		if a.at.After(late) {
			next = earliest(next, a.at.Add(x.cfg.Timing.Early))
			return false
		}
		x.droppedLocked(t, a)
		x.Stats.PushesDropped.Add(1)
		return true
	})
	if len(t.inbox)+len(t.greeting) > 0 && !t.merging {
		t.merging = true
		x.goroutines.Go(func() { x.merge(ctx, t) })
	}
	return next
}

// stepPullLocked starts a pull of the nearest peer that has more.
func (x *Exchange) stepPullLocked(ctx context.Context, now time.Time, t *tenant) (next time.Time) {
	if t.pull != nil {
		return time.Time{}
	}
	for _, p := range t.peers {
		l := x.linkLocked(p.Node)
		if l == nil || p.moreAt.IsZero() {
			continue
		}
		if !p.hasMore(t) {
			if t.known {
				p.moreAt = time.Time{}
			}
			continue
		}
		if at := later(p.moreAt, p.notBefore); at.After(now) {
			next = earliest(next, at)
			continue
		}
		q := newPull(frame.Batch, t, p, l)
		t.pull = q
		x.goroutines.Go(func() { x.runPull(ctx, q) })
		return time.Time{}
	}
	return next
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
