package replica

import (
	"context"
	"fmt"
	"time"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
)

// Fresh says how fresh the copy of a tenant is, as it stands in the Sink's Head from now on: that is to be read after it.
func (f *Follower) Fresh(id wire.TenantID) readpath.Freshness {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.mu.tenants[id]
	if t == nil {
		return readpath.Freshness{}
	}
	if s := t.cur; s != nil && s.joined {
		covered := s.coveredLocked()
		if t.before == s.lane.pairs {
			covered = max(covered, t.covered) // it came by another feeder
		}
		if fresh := s.lane.pairs.Fresh(covered); fresh.Known {
			return fresh
		}
	}
	if t.before != nil {
		return t.before.Fresh(t.covered)
	}
	return readpath.Freshness{}
}

// Askable says whether Confirm may well succeed.
func (f *Follower) Askable(id wire.TenantID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.mu.tenants[id]
	return t != nil && t.cur != nil && t.cur.joined
}

// Confirm sends a question now, and returns when the tenant's copy contains all that anybody was answered before the call. Fresh says so
// then. The error is ErrNotFollowed, ErrUnconfirmed, or ctx's.
func (f *Follower) Confirm(ctx context.Context, id wire.TenantID) error {
	f.mu.Lock()
	t := f.mu.tenants[id]
	if t == nil || t.cur == nil || !t.cur.joined {
		f.mu.Unlock()
		return fmt.Errorf("tenant %s: %w", id, ErrNotFollowed)
	}
	group := t.cur.lane.group
	l := f.askedLocked(group)
	if l == nil {
		l = t.cur.link
	}
	f.mu.Unlock()
	index, err := l.ask(ctx, group)
	if err != nil {
		return fmt.Errorf("tenant %s: %w", id, err)
	}
	for {
		f.mu.Lock()
		t := f.mu.tenants[id]
		joined := t != nil && t.cur != nil && t.cur.joined && t.cur.lane.group == group
		done := joined && t.cur.coveredLocked() >= index
		changed := f.mu.changed
		f.mu.Unlock()
		switch {
		case done:
			return nil
		case !joined:
			return fmt.Errorf("tenant %s: %w", id, ErrNotFollowed)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// ReadIndex asks a feeder for an index of a group; the question is sent after the call. It is a Source's ReadIndex for the groups that this node
// does not vote in.
func (f *Follower) ReadIndex(ctx context.Context, group wire.GroupID) (uint64, error) {
	f.mu.Lock()
	best := f.askedLocked(group)
	f.mu.Unlock()
	if best == nil {
		return 0, fmt.Errorf("group %d: %w", group, ErrUnknownGroup)
	}
	return best.ask(ctx, group)
}

// askedLocked is the link to ask for a group's index: a voter's, or else that of the relay nearest to them. nil if there is none.
func (f *Follower) askedLocked(group wire.GroupID) (best *link) {
	if g := f.mu.groups[group]; g != nil && g.asker != nil && g.asker.connected {
		return g.asker
	}
	hops := uint8(stream.MaxHops + 1)
	for _, l := range f.mu.links {
		for _, lane := range l.lanes {
			if lane.group == group && lane.hops < hops {
				best, hops = l, lane.hops
			}
		}
	}
	return best
}

// Lane is a Source's Lane for the tenants that this node follows.
func (f *Follower) Lane(id wire.TenantID) (Lane, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.mu.tenants[id]
	switch {
	case t == nil:
		return Lane{}, &GoneError{Tenant: id, Why: stream.GoneNotHere}
	case t.cur != nil && t.cur.lane != nil && t.cur.lane.hops+1 <= stream.MaxHops:
		return Lane{Tail: t.cur.lane.tail, Hops: t.cur.lane.hops + 1}, nil
	case t.hops == 0 || time.Since(t.lost) > f.cfg.Timing.Relax:
		// It may be fed by one who is farther from the voters next: those that it feeds must look for others before.
		return Lane{}, &GoneError{Tenant: id, Why: stream.GoneNotHere}
	}
	return Lane{}, ErrNoLane
}

// Status is how a tenant is followed; for metrics and people.
type Status struct {
	Feeder string // "" for none
	Joined bool
	Hops   uint8 // of this node from the voters; 0 if not known
	Index  uint64
	// Behind is by how many entries of the group the feeder is ahead, as far as this node knows.
	Behind uint64
}

// Status says how a tenant is followed; not ok if it is not.
func (f *Follower) Status(id wire.TenantID) (s Status, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.mu.tenants[id]
	if t == nil {
		return Status{}, false
	}
	s.Hops, s.Index = t.hops, t.known
	if t.cur != nil {
		s.Feeder, s.Joined = t.cur.link.node, t.cur.joined
	}
	if s.Joined {
		s.Index = max(s.Index, t.cur.coveredLocked())
		s.Behind = max(t.cur.lane.head, s.Index) - s.Index
	}
	return s, true
}
