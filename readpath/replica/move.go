package replica

import (
	"fmt"
	"time"

	"github.com/nearsql/nearsql/wire/stream"
	"github.com/nearsql/nearsql/wire/txn"
)

// aheadMax is how many entries a copy may have got from one of two feeders that the other has not sent yet. 256 KiB for a tenant that moves.
const aheadMax = 8192

// goLocked lets a joined tenant be followed from a better feeder too, whose link is open. Until it is joined there, it is followed from both: what
// comes first is applied, and goes to those that follow this node by the lane that it has had. So nobody waits for the move.
func (f *Follower) goLocked(t *followed, l *link, bound uint8, start func(*link)) {
	f.mu.moving++
	t.next = l.takeLocked(t, bound, start)
}

// stayLocked ends that a tenant is on its way to a better feeder. say lets that one know.
func (f *Follower) stayLocked(t *followed, say bool) {
	s := t.next
	if s == nil {
		return
	}
	t.next = nil
	f.mu.moving--
	if s.lane != nil {
		delete(s.lane.double, s)
	}
	delete(s.link.slots, s.slot)
	if say {
		s.link.sendLocked(stream.Unsubscribe{Slot: s.slot})
	}
}

// refusedLocked says that a tenant was not to be had from a better feeder: the next try is later, or with another.
func (f *Follower) refusedLocked(t *followed, say bool) {
	t.moves++
	f.stayLocked(t, say)
	if t.cur != nil && t.cur.joined {
		f.scheduleLocked(t, time.Now().Add(jitter(2*f.cfg.Timing.Settle<<min(t.moves, 5))))
	}
}

// arriveLocked lets a tenant be followed from the better feeder alone: it is joined there. At no moment does it follow nobody.
func (f *Follower) arriveLocked(s *sub, index uint64) {
	t := s.t
	t.next = nil // f.leaveLocked is of the feeder before
	f.mu.moving--
	f.leaveLocked(t.cur, true)
	t.cur, t.moves = s, 0
	f.enteredLocked(s)
	f.Stats.Moved.Add(1)
	f.joinedLocked(s, index)
}

// appliedLocked notes that an entry came by a subscription, and was applied: where its feeder is, and that the other feeder, if the tenant has two, is to
// send it still.
func (f *Follower) appliedLocked(s *sub, at stream.Head) {
	s.at, s.said = at, at.Index
	t := s.t
	for _, other := range []*sub{t.next, t.cur} {
		if other == nil || other == s || !other.asked {
			continue
		}
		if len(other.ahead) >= aheadMax {
			f.refusedLocked(t, true) // one of the feeders is far behind the other
		}
		if other == t.cur || other == t.next {
			other.ahead = append(other.ahead, at)
			other.doubleLocked()
		}
	}
}

// doubleLocked has marks looked at, and the end of the lane.
func (s *sub) doubleLocked() {
	if s.lane != nil {
		s.lane.double[s] = struct{}{}
	}
}

// seenLocked notes an entry that the copy contains already: it came by the other feeder. It must be the same one.
func (s *sub) seenLocked(index uint64, h *txn.Header) error {
	if len(s.ahead) == 0 || index < s.ahead[0].Index {
		if s.joined || s == s.t.next && index > s.at.Index {
			return fmt.Errorf("entry %d, of which the copy has nothing: %w", index, ErrMismatch)
		}
		return nil // the feeder began before what it was told
	}
	_, next := positions(index, h)
	if s.ahead[0] != next {
		return fmt.Errorf("entry %d leads to %+v, and another feeder's to %+v: %w", index, next, s.ahead[0], ErrMismatch)
	}
	s.at, s.said = next, index
	if s.ahead = s.ahead[1:]; len(s.ahead) == 0 {
		s.ahead = nil
	}
	return nil
}

// missedLocked holds what a feeder says to have sent against the entries that it is still to send.
func (s *sub) missedLocked(through uint64) error {
	if len(s.ahead) > 0 && s.ahead[0].Index <= through {
		return fmt.Errorf("all up to %d, without the entry %d of another feeder: %w", through, s.ahead[0].Index, ErrMismatch)
	}
	return nil
}

// unlikeLocked deals with a feeder that has sent another history than the one that the copy has from elsewhere.
func (l *link) unlikeLocked(s *sub, err error) {
	if s != s.t.next {
		l.failedLocked(s, err)
		return
	}
	l.f.log.Warn("a better feeder has another history", "tenant", s.t.id, "feeder", l.node, "error", err)
	l.f.refusedLocked(s.t, true)
}
