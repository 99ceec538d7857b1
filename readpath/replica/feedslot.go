package replica

import (
	"context"
	"errors"
	"time"

	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
)

type slotState uint8

const (
	slotParked  slotState = iota + 1 // waits for a lane
	slotPending                      // is sent entries of its lane that it lacks
	slotJoined                       // is sent entries as they come
	slotCopying                      // is sent a copy or an LTX file
	slotAsked                        // is to say where the copy brought it
)

// slot is one tenant of one receiver.
type slot struct {
	id     stream.Slot
	tenant wire.TenantID
	group  wire.GroupID // whose log at's index is of
	policy uint32
	hops   uint8
	state  slotState
	lane   *feedLane   // nil if none
	at     stream.Head // what the receiver has, as far as this node knows or has sent

	verified bool   // at is of this node's history
	backlog  []item // entries after at, or after the copy that is on its way
	overflow bool   // entries are missing in backlog
	whole    bool   // of a slot that is sent a copy: but for overflow, all that came in the lane since it began is in backlog
	noLTX    bool   // LTX brought it no further

	// held is the lane whose marks still cover the tenant at the receiver, which was not told yet that it has left it: it sends none meanwhile.
	held  *feedLane
	since time.Time // of held

	credit int64 // bytes of copies that may be sent
	source *copySource
	retry  time.Time // of a parked slot
}

func (c *feedConn) subscribe(f stream.Subscribe) error {
	if c.slots[f.Slot] != nil || c.tenants[f.Tenant] != nil {
		return outOfPlace("a second subscription of slot %d or tenant %s", f.Slot, f.Tenant)
	}
	if len(c.slots) >= c.f.cfg.SlotsMax {
		return c.w.Write(stream.Gone{Slot: f.Slot, Why: stream.GoneBusy})
	}
	s := &slot{id: f.Slot, tenant: f.Tenant, group: f.Group, policy: f.Policy, hops: f.Hops, at: f.Head, credit: slotWindow}
	c.slots[f.Slot], c.tenants[f.Tenant] = s, s
	c.f.Stats.Slots.Add(1)
	return c.attach(s)
}

// drop forgets a slot.
func (c *feedConn) drop(s *slot) {
	if c.slots[s.id] != s {
		return
	}
	c.leaveLane(s)
	s.release()
	c.stopCopy(s)
	delete(c.slots, s.id)
	delete(c.tenants, s.tenant)
	c.f.Stats.Slots.Add(-1)
}

func (c *feedConn) leaveLane(s *slot) {
	if s.lane != nil && s.state == slotJoined && s.held == nil {
		s.held, s.since = s.lane, time.Now()
		s.held.held++
	}
	if s.lane != nil {
		delete(s.lane.slots, s.tenant)
		delete(s.lane.pending, s.tenant)
		s.lane = nil
	}
	s.whole = false
	c.clearBacklog(s)
}

// release says that the receiver knows that the tenant has left its lane.
func (s *slot) release() {
	if s.held != nil {
		s.held.held--
		s.held = nil
	}
}

// copying says whether a copy or an LTX file is on its way.
func (s *slot) copying() bool { return s.state == slotCopying || s.state == slotAsked }

// park lets a slot wait for a lane.
func (c *feedConn) park(s *slot) {
	s.state = slotParked
	s.retry = time.Now().Add(retryParked)
	c.turns = append(c.turns, s)
}

// reattach takes a slot out of its lane, to begin anew from where it is.
func (c *feedConn) reattach(s *slot) error {
	c.leaveLane(s)
	c.stopCopy(s)
	return c.attach(s)
}

// gone ends a slot for a reason that the Source gave.
func (c *feedConn) gone(s *slot, err error) error {
	var g *GoneError
	if errors.Is(err, ErrNoLane) {
		c.leaveLane(s)
		c.park(s)
		return nil
	}
	out := stream.Gone{Slot: s.id, Why: stream.GoneFailed}
	if errors.As(err, &g) {
		if out.Why = g.Why; g.Why == stream.GoneMoved {
			out.Group = g.Group
		}
	}
	c.drop(s)
	return c.w.Write(out)
}

// attach puts a slot into the lane in which its tenant comes now.
func (c *feedConn) attach(s *slot) error {
	if err := c.f.cfg.Source.Admit(s.tenant, c.node); err != nil {
		return c.gone(s, err)
	}
	lane, err := c.f.cfg.Source.Lane(s.tenant)
	if err != nil {
		return c.gone(s, err)
	}
	if lane.Hops >= s.hops || lane.Hops >= stream.MaxHops {
		return c.gone(s, &GoneError{Tenant: s.tenant, Why: stream.GoneHops})
	}
	head, err := c.f.cfg.Source.Head(s.tenant)
	if err != nil {
		return c.gone(s, err)
	}
	if s.group != lane.Tail.group {
		s.group, s.at.Index = lane.Tail.group, 0 // an index of another group's log says nothing
	}
	if head.Policy < s.policy {
		return c.gone(s, &GoneError{Tenant: s.tenant, Why: stream.GonePolicy})
	}
	l := c.lane(lane.Tail, lane.Hops)
	s.lane = l
	l.slots[s.tenant] = s
	if err := c.w.Write(stream.Enter{Slot: s.id, Lane: l.id, Group: lane.Tail.group, Hops: lane.Hops}); err != nil {
		return err
	}
	s.state = slotPending
	s.release()
	return c.resume(s, s.at)
}

// resume lets a slot go on from where its receiver is: by entries if all are there, else by LTX or a copy.
func (c *feedConn) resume(s *slot, at stream.Head) error {
	kept, whole := s.backlog, s.whole && !s.overflow
	s.at, s.verified, s.whole = at, false, false
	c.clearBacklog(s)
	if s.lane == nil {
		c.park(s)
		return nil
	}
	delete(s.lane.pending, s.tenant)
	if at.Epoch == 0 {
		c.copy(s)
		return nil
	}
	if !whole {
		// All that is in the lane so far was applied before Head is asked.
		head, err := c.f.cfg.Source.Head(s.tenant)
		if err != nil {
			return c.gone(s, err)
		}
		if samePosition(head.Head, at) && head.Index <= at.Index {
			kept, whole, s.verified = nil, true, true
		}
	}
	if !whole {
		kept, whole = s.lane.tail.since(s.tenant, at.Index, s.lane.next)
	}
	if !whole || !c.room(kept) {
		c.catchUp(s)
		return nil
	}
	s.state = slotPending
	s.lane.pending[s.tenant] = s
	for i := range kept {
		if kept[i].index > at.Index {
			c.keep(s, &kept[i])
		}
	}
	kick(c.wake)
	return nil
}

// room says whether items fit into the backlog.
func (c *feedConn) room(items []item) bool {
	sum := c.backlog
	for i := range items {
		sum += items[i].size()
	}
	return sum <= c.f.cfg.BacklogBytes
}

// catchUp sends LTX if there is any and the last brought the receiver on, else a copy.
func (c *feedConn) catchUp(s *slot) {
	if s.noLTX {
		c.copy(s)
		return
	}
	c.begin(s, &copySource{ltx: true, from: s.at})
}

// copy sends a copy of the whole tenant.
func (c *feedConn) copy(s *slot) { c.begin(s, &copySource{}) }

func (c *feedConn) begin(s *slot, src *copySource) {
	c.stopCopy(s)
	c.clearBacklog(s)
	if s.lane != nil {
		delete(s.lane.pending, s.tenant)
	}
	s.state, s.source, s.verified, s.whole = slotCopying, src, false, s.lane != nil
	s.credit = slotWindow
	c.turns = append(c.turns, s)
}

func (c *feedConn) stopCopy(s *slot) {
	if s.source != nil && s.source.cancel != nil {
		s.source.cancel()
		c.producing--
	}
	s.source = nil
}

// slotTurn lets a parked slot look for a lane, and sends a piece of a copy.
func (c *feedConn) slotTurn(ctx context.Context, s *slot) (progress bool, err error) {
	if c.slots[s.id] != s {
		return false, nil
	}
	switch s.state {
	case slotParked:
		if s.held != nil && time.Since(s.since) > heldMax {
			return true, c.gone(s, &GoneError{Tenant: s.tenant, Why: stream.GoneNotHere})
		}
		if time.Now().Before(s.retry) {
			c.turns = append(c.turns, s)
			return false, nil
		}
		return true, c.attach(s)
	case slotCopying:
		return c.copyTurn(ctx, s)
	}
	return false, nil
}
