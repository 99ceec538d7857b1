package replica

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
	"github.com/nearsql/nearsql/wire/txn"
)

// read takes what the feeder sends. What is not data of a tenant is dealt with at once, however much waits to be applied.
func (l *link) read(ctx context.Context, conn net.Conn) error {
	r := stream.NewReader(conn)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(l.f.cfg.Timing.Dead))
		f, err := r.Next()
		if err != nil {
			return fmt.Errorf("feeder %s: %w", l.node, err)
		}
		switch f := f.(type) {
		case stream.Hello, stream.Heartbeat:
			continue
		case stream.Error:
			return fmt.Errorf("feeder %s ended the stream: %v: %q", l.node, f.Code, f.Text)
		case stream.Probed:
			if err := l.answered(f); err != nil {
				return err
			}
			continue
		case stream.Heads:
			l.heads(f)
			continue
		case stream.Txn:
			err = l.spend(len(f.Entry))
		case stream.LTX:
			err = l.spend(len(f.Data))
		case stream.Snapshot:
			err = l.spend(len(f.Data))
		case stream.Enter, stream.Joined, stream.Through, stream.Left, stream.Gone:
		default:
			return l.refuse(nil, "a feeder has no %q to send", f.Type())
		}
		if err != nil {
			return err
		}
		select {
		case l.inbox <- f:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (l *link) refuse(s *sub, format string, args ...any) error {
	e := &RefusedError{Feeder: l.node, Reason: fmt.Sprintf(format, args...)}
	if s != nil {
		e.Tenant = s.t.id
	}
	return e
}

// spend counts data against the window.
func (l *link) spend(n int) error {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	l.window -= int64(n)
	if l.window < 0 {
		return l.refuse(nil, "it sent %d bytes more than it may", -l.window)
	}
	return nil
}

// done gives bytes of the window back.
func (l *link) done(n int) {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	l.doneLocked(n)
}

func (l *link) doneLocked(n int) {
	if l.taken += int64(n); l.taken > int64(l.f.cfg.Window)/4 {
		kick(l.wake)
	}
}

func (l *link) heads(f stream.Heads) {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	for _, h := range f.Heads {
		if lane := l.lanes[h.Lane]; lane != nil {
			lane.head = h.Index
		}
	}
}

// apply deals with what came, in the order in which it came.
func (l *link) apply(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case f := <-l.inbox:
			if err := l.applyFrame(ctx, f); err != nil {
				return err
			}
		}
	}
}

func (l *link) applyFrame(ctx context.Context, f stream.Frame) error {
	switch f := f.(type) {
	case stream.Enter:
		return l.enter(f)
	case stream.Txn:
		defer l.done(len(f.Entry))
		return l.txn(ctx, f)
	case stream.LTX:
		return l.chunk(ctx, f.Slot, piece{ltx: true, min: f.Min, max: f.Max, flags: f.Chunk, data: f.Data})
	case stream.Snapshot:
		return l.chunk(ctx, f.Slot, piece{flags: f.Chunk, data: f.Data})
	case stream.Joined:
		return l.joined(f)
	case stream.Through:
		return l.through(f)
	case stream.Left:
		return l.left(f)
	case stream.Gone:
		l.gone(f)
	}
	return nil
}

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
		lane = &laneIn{id: f.Lane, group: f.Group, hops: f.Hops, tail: newTail(f.Group, l.f.cfg.TailBytes), pairs: l.f.groupLocked(f.Group).pairs, tenants: make(map[wire.TenantID]*sub)}
		l.lanes[f.Lane] = lane
	case lane.group != f.Group || lane.hops != f.Hops:
		return l.refuse(s, "lane %d is of group %d with %d hops, and now of %d with %d", f.Lane, lane.group, lane.hops, f.Group, f.Hops)
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
	if t.back == nil {
		l.f.scheduleLocked(t, s.moved.Add(l.f.cfg.Timing.Relax))
	}
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
	case f.Index <= t.known && s.joined:
		return l.refuse(s, "entry %d after all up to %d", f.Index, t.known)
	case f.Index <= t.known:
		return nil
	}
	t.busy = true
	l.f.mu.Unlock()

	applied, err := l.f.cfg.Sink.Apply(ctx, t.id, f.Index, f.Entry)

	l.f.mu.Lock()
	l.f.doneLocked(t)
	if t.ending || l.slots[f.Slot] != s {
		return nil
	}
	if err != nil {
		l.failedLocked(s, fmt.Errorf("entry %d: %w", f.Index, err))
		return nil
	}
	l.f.Stats.Txns.Add(1)
	l.f.Stats.TxnBytes.Add(int64(len(f.Entry)))
	t.known, t.last, s.moved = f.Index, f.Index, time.Now()
	s.lane.tail.append(f.Index, f.Entry, &h)
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
	l.f.mu.Unlock()
	head := l.f.cfg.Sink.Head(t.id)
	l.f.mu.Lock()
	if l.slots[f.Slot] != s || s.lane == nil {
		return nil
	}
	if !samePosition(head.Head, f.Head) {
		l.failedLocked(s, fmt.Errorf("it is at %+v, the feeder at %+v: %w", head.Head, f.Head, ErrMismatch))
		return nil
	}
	l.f.joinedLocked(s, f.Head.Index)
	return nil
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
