package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
	"github.com/nearsql/nearsql/wire/txn"
)

// enter puts a tenant into a lane. It is not joined.
func (l *link) enter(f stream.Enter) error {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	s := l.slots[f.Slot]
	if s == nil {
		return nil
	}
	t := s.t
	if f.Hops >= s.bound {
		return l.refuse(s, "it is %d hops from the voters, and should be less than %d", f.Hops, s.bound)
	}
	if t.group != 0 && t.group != f.Group {
		return l.refuse(s, "a lane of group %d, for a tenant of group %d", f.Group, t.group)
	}
	lane := l.lanes[f.Lane]
	switch {
	case lane == nil:
		lane = &laneIn{id: f.Lane, group: f.Group, hops: f.Hops, tail: newTail(f.Group, l.f.cfg.TailBytes), pairs: l.f.groupLocked(f.Group).pairs, tenants: make(map[wire.TenantID]*sub), double: make(map[*sub]struct{})}
		l.lanes[f.Lane] = lane
	case lane.group != f.Group || lane.hops != f.Hops:
		return l.refuse(s, "lane %d is of group %d with %d hops, and now of %d with %d", f.Lane, lane.group, lane.hops, f.Group, f.Hops)
	}
	if s == t.next {
		if s.lane != nil {
			delete(s.lane.double, s)
		}
		s.lane, s.moved = lane, time.Now()
		s.doubleLocked()
		return nil
	}
	l.f.unjoinLocked(t)
	if s.lane != nil && s.lane != lane {
		s.lane.leaveLocked(s)
	}
	if t.group != f.Group { // it was not known; what is here is of none
		l.f.setGroupLocked(t, f.Group)
		t.known = 0
	}
	s.lane, s.moved = lane, time.Now()
	l.f.enteredLocked(s)
	l.f.scheduleLocked(t, s.moved.Add(l.f.cfg.Timing.Relax))
	return nil
}

// txn applies an entry.
func (l *link) txn(ctx context.Context, f stream.Txn) error {
	h, err := txn.DecodeHeader(f.Entry)
	if err == nil {
		err = txn.Verify(f.Entry)
	}
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	s := l.slots[f.Slot]
	if s != nil && l.installs[f.Slot] == nil {
		s = l.freeLocked(f.Slot)
	}
	if s == nil {
		return nil
	}
	t := s.t
	switch {
	case err != nil:
		return &RefusedError{Feeder: l.node, Tenant: t.id, Reason: "an entry that can't be read", Err: err}
	case h.Tenant != t.id:
		return l.refuse(s, "an entry of tenant %s", h.Tenant)
	case s.lane == nil:
		return l.refuse(s, "an entry before its lane")
	case h.Group != s.lane.group:
		return l.refuse(s, "an entry of group %d in a lane of group %d", h.Group, s.lane.group)
	case l.installs[f.Slot] != nil:
		return l.refuse(s, "an entry in the middle of a copy")
	case s.joined && f.Index <= s.sentLocked():
		return l.refuse(s, "entry %d after all up to %d", f.Index, s.sentLocked())
	case f.Index <= t.known:
		if err := s.seenLocked(f.Index, &h); err != nil {
			l.unlikeLocked(s, err)
		}
		return nil
	case len(s.ahead) > 0:
		l.unlikeLocked(s, fmt.Errorf("entry %d without entry %d: %w", f.Index, s.ahead[0].Index, ErrMismatch))
		return nil
	}
	cur := t.cur // whose lane those have it by that follow this node
	t.busy = true
	l.f.mu.Unlock()

	applied, err := l.f.cfg.Sink.Apply(ctx, t.id, f.Index, f.Entry)

	l.f.mu.Lock()
	l.f.doneLocked(t)
	if t.ending || t.cur != cur || cur == nil {
		return nil // where the copy is, is looked at when it is followed again
	}
	if err != nil {
		if l.slots[f.Slot] == s {
			l.unlikeLocked(s, fmt.Errorf("entry %d: %w", f.Index, err))
		}
		return nil
	}
	l.f.Stats.Txns.Add(1)
	l.f.Stats.TxnBytes.Add(int64(len(f.Entry)))
	t.known, t.last, s.moved = f.Index, f.Index, time.Now()
	if cur.lane != nil {
		cur.lane.tail.append(f.Index, f.Entry, &h)
	}
	_, at := positions(f.Index, &h)
	l.f.appliedLocked(s, at)
	if applied.Departed {
		// Marks of the group say nothing of it from here on; what its state was until then stays known.
		l.f.detachLocked(t, true)
		l.f.setGroupLocked(t, 0)
		t.known = 0
		l.f.retryLocked(t)
	}
	return nil
}

// failedLocked deals with a copy that can't go on as it is.
func (l *link) failedLocked(s *sub, err error) {
	t := s.t
	l.f.detachLocked(t, true)
	l.f.retryLocked(t)
	if errors.Is(err, ErrMismatch) {
		t.anew, t.known, t.before = true, 0, nil
		l.f.Stats.Diverged.Add(1)
		node := l.node
		l.f.mu.Unlock()
		l.f.cfg.Sink.Diverged(t.id, node, err)
		l.f.mu.Lock()
	} else {
		l.f.log.Warn("a copy can't go on", "tenant", t.id, "feeder", l.node, "error", err)
	}
}

// joined compares positions, and lets marks cover the tenant.
func (l *link) joined(f stream.Joined) error {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	s := l.slots[f.Slot]
	if s == nil {
		return nil
	}
	t := s.t
	if s.lane == nil || s.joined || l.installs[f.Slot] != nil {
		return l.refuse(s, "joined out of place")
	}
	if s = l.freeLocked(f.Slot); s == nil {
		return nil
	}
	at := s.at
	if len(s.ahead) == 0 {
		if at = l.f.headLocked(t).Head; l.slots[f.Slot] != s {
			return nil
		}
	} else if err := s.missedLocked(f.Head.Index); err != nil {
		l.unlikeLocked(s, err)
		return nil
	}
	switch {
	case !samePosition(at, f.Head):
		l.unlikeLocked(s, fmt.Errorf("it is at %+v, the feeder at %+v: %w", at, f.Head, ErrMismatch))
	case s == t.next:
		l.f.arriveLocked(s, f.Head.Index)
	default:
		l.f.joinedLocked(s, f.Head.Index)
	}
	return nil
}

// freeLocked is the subscription of a slot once the Sink is not at work on its tenant for another feeder; nil if it has ended.
func (l *link) freeLocked(slot stream.Slot) *sub {
	for {
		s := l.slots[slot]
		if s == nil || !s.t.busy {
			return s
		}
		l.f.mu.idle.Wait()
	}
}

// through notes a mark: all before it has been applied.
func (l *link) through(f stream.Through) error {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	lane := l.lanes[f.Lane]
	if lane == nil {
		return l.refuse(nil, "a mark of lane %d, which it has not begun", f.Lane)
	}
	if f.Index < lane.through {
		return l.refuse(nil, "a mark of %d after one of %d", f.Index, lane.through)
	}
	for s := range lane.double {
		if err := s.missedLocked(f.Index); err != nil && s.joined {
			l.unlikeLocked(s, err)
		} else if len(s.ahead) == 0 && s.t.next == nil {
			delete(lane.double, s)
		}
	}
	lane.through = f.Index
	lane.marks++
	lane.tail.Advance(f.Index)
	l.sendLocked(stream.Applied(f))
	l.f.announceLocked()
	return nil
}

// left ends a lane.
func (l *link) left(f stream.Left) error {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	lane := l.lanes[f.Lane]
	if lane == nil {
		return l.refuse(nil, "the end of lane %d, which it has not begun", f.Lane)
	}
	for s := range lane.double {
		if s == s.t.next {
			s.lane, s.moved = nil, time.Now()
		}
	}
	for _, s := range lane.tenants {
		l.f.unjoinLocked(s.t)
		s.lane, s.moved = nil, time.Now()
		l.f.scheduleLocked(s.t, time.Now().Add(l.f.cfg.Timing.Relax))
	}
	l.f.mu.reseat = true
	kick(l.f.wake)
	delete(l.lanes, f.Lane)
	lane.tail.End()
	l.f.announceLocked()
	return nil
}

// gone lets a tenant look for another feeder.
func (l *link) gone(f stream.Gone) {
	l.f.mu.Lock()
	s := l.slots[f.Slot]
	if s == nil {
		l.f.mu.Unlock()
		return
	}
	t := s.t
	if s == t.next {
		l.f.refusedLocked(t, false)
		l.f.mu.Unlock()
		return
	}
	l.f.detachLocked(t, false)
	left := f.Why == stream.GoneMoved || f.Why == stream.GoneDeleted
	if left {
		l.f.setGroupLocked(t, 0)
		t.known = 0
	}
	l.f.retryLocked(t)
	l.f.announceLocked()
	l.f.mu.Unlock()
	if left {
		l.f.cfg.Sink.Gone(t.id, f.Why, f.Group)
	}
}
