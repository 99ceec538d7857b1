package replica

import (
	"time"

	"github.com/nearsql/nearsql/wire/stream"
)

// sub is a subscription: a tenant, as one feeder sends it. All of it is guarded by Follower.mu.
type sub struct {
	t      *followed
	link   *link
	slot   stream.Slot
	lane   *laneIn   // nil before enter
	bound  uint8     // hops that the feeder must have fewer than
	moved  time.Time // when the feeder last sent something of it
	joined bool
	index  uint64 // up to which it was joined: what the copy contained then
	marks  uint64 // of the lane then

	// While the tenant goes to a better feeder, it has two subscriptions, and what one feeder sends first the other sends after.
	asked bool          // the feeder was told where the copy is
	at    stream.Head   // where the feeder is by what it has sent, while the tenant has two
	said  uint64        // the feeder has sent all up to this index, of a joined tenant; without marks
	ahead []stream.Head // where the copy has come since by the other feeder: that this one is to send still; at most aheadMax
}

// coveredLocked is the index up to which a joined tenant is contained.
func (s *sub) coveredLocked() uint64 {
	if s.lane.marks > s.marks {
		return max(s.index, s.lane.through)
	}
	return s.index
}

// sentLocked is the index up to which the feeder of a joined tenant has sent all.
func (s *sub) sentLocked() uint64 {
	if s.lane.marks > s.marks {
		return max(s.said, s.lane.through)
	}
	return s.said
}

// takeLocked lets a tenant be followed from here.
func (l *link) takeLocked(t *followed, bound uint8, start func(*link)) *sub {
	l.startLocked(start)
	l.nextSlot++
	s := &sub{t: t, link: l, slot: l.nextSlot, bound: bound, moved: time.Now()}
	l.slots[s.slot] = s
	l.fresh = append(l.fresh, s.slot)
	kick(l.wake)
	return s
}

// detachLocked ends that a tenant is followed from anybody, and remembers how fresh it was. say lets the feeder know.
func (f *Follower) detachLocked(t *followed, say bool) {
	f.stayLocked(t, true)
	if t.cur != nil {
		f.leaveLocked(t.cur, say)
		t.cur = nil
	}
	if !t.ending {
		f.scheduleLocked(t, time.Now())
	}
}

// leaveLocked ends a subscription.
func (f *Follower) leaveLocked(s *sub, say bool) {
	f.unjoinLocked(s.t)
	if s.lane != nil {
		s.lane.leaveLocked(s)
		f.mu.reseat = true
		kick(f.wake)
	}
	delete(s.link.slots, s.slot)
	s.link.abortLocked(s.slot)
	if say {
		s.link.sendLocked(stream.Unsubscribe{Slot: s.slot})
	}
}

// enteredLocked puts a tenant into the lane that it is followed by. It is not joined.
func (f *Follower) enteredLocked(s *sub) {
	t := s.t
	t.hops = s.lane.hops + 1
	s.lane.tenants[t.id] = s
	if len(s.ahead) > 0 {
		s.doubleLocked()
	}
	s.lane.tail.Renew(t.id, t.last)
	s.link.lookLocked()
	f.mu.reseat = true
	kick(f.wake)
}

// leaveLocked takes a tenant out of a lane.
func (lane *laneIn) leaveLocked(s *sub) {
	delete(lane.double, s)
	if lane.tenants[s.t.id] == s {
		delete(lane.tenants, s.t.id)
		lane.tail.Leave(s.t.id)
	}
}

// unjoinLocked ends that marks cover a tenant; what is known of its freshness stays known.
func (f *Follower) unjoinLocked(t *followed) {
	if t.cur == nil || !t.cur.joined {
		return
	}
	covered := t.cur.coveredLocked()
	if t.before == t.cur.lane.pairs {
		covered = max(covered, t.covered)
	}
	t.before, t.covered = t.cur.lane.pairs, covered
	t.known = max(t.known, t.covered)
	t.cur.joined = false
	t.lost = time.Now()
	f.Stats.Joined.Add(-1)
}

// joinedLocked lets marks cover a tenant: all of it up to an index has come by the subscription. What it contains beyond that, as by another feeder, it
// contains all the same.
func (f *Follower) joinedLocked(s *sub, index uint64) {
	t := s.t
	t.known = max(t.known, index)
	s.joined, s.said, s.index, s.marks, s.moved = true, index, t.known, s.lane.marks, time.Now()
	t.tries, t.anew = 0, false
	s.link.failures = 0
	s.lane.tail.join(t.id, s.index)
	f.Stats.Joined.Add(1)
	f.scheduleLocked(t, time.Now().Add(jitter(2*f.cfg.Timing.Settle<<min(t.moves, 5))))
	f.announceLocked()
}
