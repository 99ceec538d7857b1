package replica

import (
	"time"

	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
)

// feedLane is a Tail on its way to one receiver.
type feedLane struct {
	id      stream.Lane
	tail    *Tail
	next    uint64    // sequence number of what is sent next
	want    uint64    // the largest index that the receiver was told
	marked  uint64    // of the newest mark
	held    int       // slots that the receiver takes for joined in it, and that are not
	relayed bool      // marks are passed on as they come
	last    time.Time // when the newest mark was sent
	applied uint64    // what the receiver says
	slots   map[wire.TenantID]*slot
	pending map[wire.TenantID]*slot // those of slots that are catching up with the lane's entries
}

// lane is the receiver's lane of a Tail.
func (c *feedConn) lane(t *Tail, hops uint8) *feedLane {
	for _, l := range c.lanes {
		if l.tail == t {
			return l
		}
	}
	c.nextLane++
	l := &feedLane{id: c.nextLane, tail: t, relayed: hops > 0, next: t.watch(c.wake), slots: make(map[wire.TenantID]*slot), pending: make(map[wire.TenantID]*slot)}
	c.lanes = append(c.lanes, l)
	return l
}

// dropLane ends a lane; its slots look for another.
func (c *feedConn) dropLane(l *feedLane) error {
	l.tail.unwatch(c.wake)
	for i := range c.lanes {
		if c.lanes[i] == l {
			c.lanes = append(c.lanes[:i:i], c.lanes[i+1:]...)
			break
		}
	}
	if err := c.w.Write(stream.Left{Lane: l.id}); err != nil {
		return err
	}
	for _, s := range l.slots {
		s.lane = nil
		c.clearBacklog(s)
		// A copy that is on its way goes on, and what it lacks then is looked for.
		if s.state == slotPending || s.state == slotJoined {
			c.park(s)
		}
	}
	return nil
}

// askMax is how many tenants that are pending are looked at in one turn.
const askMax = 256

// laneTurn sends some of what came in a lane.
func (c *feedConn) laneTurn(l *feedLane) (progress bool, err error) {
	if c.credit <= 0 && len(l.slots) > 0 {
		return false, nil
	}
	var ask []wire.TenantID
	for id := range l.pending {
		if ask = append(ask, id); len(ask) == askMax {
			break
		}
	}
	b := l.tail.read(l.next, quantum, ask)
	if b.lost {
		c.f.Stats.Lost.Add(1)
		return true, c.dropLane(l)
	}
	for i := range b.items {
		done, err := c.laneItem(l, &b.items[i])
		if err != nil {
			return true, err
		}
		if !done {
			return progress, nil // no credit is left
		}
		l.next++
		progress = true
	}
	if !b.drained {
		return true, nil
	}
	for i, id := range ask {
		s := l.pending[id]
		if s == nil {
			continue
		}
		did, err := c.pendingTurn(l, s, b.through, b.covered[i])
		if err != nil {
			return true, err
		}
		progress = progress || did
	}
	if b.through > l.marked && len(l.slots) > 0 && l.held == 0 {
		now := time.Now()
		due := l.last.Add(markEvery)
		if l.relayed || l.marked < l.want && b.through >= l.want || !due.After(now) {
			l.marked, l.last = b.through, now
			return true, c.w.Write(stream.Through{Lane: l.id, Index: b.through})
		}
		if c.marksDue.IsZero() || due.Before(c.marksDue) {
			c.marksDue = due
		}
	}
	return progress, nil
}

// laneItem does what one item asks for; not done if there is no credit for it.
func (c *feedConn) laneItem(l *feedLane, i *item) (done bool, err error) {
	s := l.slots[i.tenant]
	if s == nil {
		return true, nil
	}
	if i.control {
		if err := c.f.cfg.Source.Admit(s.tenant, c.node); err != nil {
			return true, c.gone(s, err)
		}
	}
	switch {
	case i.kind == itemLeave && s.copying():
		c.leaveLane(s) // what becomes of it is seen when the copy is there, or fails
		return true, nil
	case i.kind == itemLeave:
		return true, c.reattach(s)
	case i.kind == itemEnter && s.copying():
		s.whole = false
		return true, nil
	case i.kind == itemEnter:
		// Also if it lacks nothing now: this node's own copy is not joined from here on, and marks say nothing of it until it is.
		return true, c.reattach(s)
	case i.index <= s.at.Index && !s.copying():
		return true, nil // it came by a copy, or otherwise
	case s.state == slotJoined:
		return c.sendTxn(s, i)
	}
	c.keep(s, i)
	return true, nil
}

// sendTxn sends an entry if there is credit.
func (c *feedConn) sendTxn(s *slot, i *item) (done bool, err error) {
	n := int64(len(i.entry))
	if c.credit < n {
		return false, nil
	}
	if err := c.w.Write(stream.Txn{Slot: s.id, Index: i.index, Entry: i.entry}); err != nil {
		return false, err
	}
	c.credit -= n
	s.at = i.next
	c.f.Stats.Txns.Add(1)
	c.f.Stats.TxnBytes.Add(n)
	return true, nil
}

// keep puts an entry where it waits for its slot to catch up. If there is no room, the slot will begin again.
func (c *feedConn) keep(s *slot, i *item) {
	switch {
	case s.overflow:
	case c.backlog+i.size() > c.f.cfg.BacklogBytes:
		c.clearBacklog(s)
		s.overflow = true
	default:
		c.backlog += i.size()
		s.backlog = append(s.backlog, *i)
	}
}

func (c *feedConn) clearBacklog(s *slot) {
	for i := range s.backlog {
		c.backlog -= s.backlog[i].size()
	}
	s.backlog, s.overflow = nil, false
}

// pendingTurn sends a slot what it lacks of its lane, and joins it when that is all.
func (c *feedConn) pendingTurn(l *feedLane, s *slot, through uint64, covered cover) (progress bool, err error) {
	if s.overflow {
		return true, c.resume(s, s.at)
	}
	if !s.verified {
		ok, err := c.verify(s, through)
		if !ok || err != nil {
			return false, err
		}
	}
	for len(s.backlog) > 0 {
		i := &s.backlog[0]
		done, err := c.sendTxn(s, i)
		if !done || err != nil {
			return progress, err
		}
		c.backlog -= i.size()
		s.backlog = s.backlog[1:]
		progress = true
	}
	s.backlog = nil
	if !covered.ok || covered.index < s.at.Index {
		return progress, nil
	}
	head := s.at
	head.Index = covered.index
	s.state = slotJoined
	delete(l.pending, s.tenant)
	return true, c.w.Write(stream.Joined{Slot: s.id, Head: head})
}

// verify looks whether what the receiver has is of the history that this node has.
func (c *feedConn) verify(s *slot, through uint64) (ok bool, err error) {
	head, err := c.f.cfg.Source.Head(s.tenant)
	if err != nil {
		return false, c.gone(s, err)
	}
	switch {
	case head.Epoch != s.at.Epoch:
		c.copy(s)
		return false, nil
	case len(s.backlog) > 0:
		if !samePosition(s.backlog[0].prev, s.at) {
			c.copy(s)
			return false, nil
		}
	case samePosition(head.Head, s.at) && head.Index <= s.at.Index:
	case through < max(head.Index, s.at.Index):
		return false, nil // an entry is about to come, or this node is behind the receiver
	case !samePosition(head.Head, s.at):
		c.copy(s)
		return false, nil
	}
	s.verified = true
	return true, nil
}
