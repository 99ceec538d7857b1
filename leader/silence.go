package leader

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/raft"
)

// silence makes raft notice in time that the primary is silent.
//
// A follower of raft looks whether it has heard of the primary when a timer of its own ends, which runs for one to two
// HeartbeatTimeouts whatever it hears: it may take three of them. And it refuses others a vote as long as it
// believes in the primary: with three voters both that are left must have noticed. silence has raft look as soon as
// the HeartbeatTimeout is over, and a little later. That is the same silence that raft asks for, measured on the same
// clock; a primary that is heard of more often is left in peace.
type silence struct {
	raft    *raft.Raft
	node    raft.ServerID
	timeout time.Duration // raft's HeartbeatTimeout
}

// patience is after how much silence of a primary raft is to look. The voters do so one after the other, in the
// order of their ids: who asks for votes while the other believes in the primary is refused, and grants the other's wish later;
// two that ask in the same instant block each other for another timeout.
func (s *silence) patience(primary raft.ServerID) time.Duration {
	before := 0
	for _, v := range s.raft.GetConfiguration().Configuration().Servers {
		if v.Suffrage == raft.Voter && v.ID != primary && v.ID < s.node {
			before++
		}
	}
	return s.timeout + s.timeout/10 + time.Duration(before)*s.timeout/5 + rand.N(s.timeout/20+1)
}

// run watches until ctx ends.
func (s *silence) run(ctx context.Context) {
	looked := time.Time{} // the contact after which raft was made to look
	left := s.timeout
	for {
		due := time.Now().Add(left)
		select {
		case <-ctx.Done():
			return
		case <-time.After(left):
		}
		left = s.timeout // so long at least until there is something to do
		last := s.raft.LastContact()
		_, primary := s.raft.LeaderWithID()
		if s.raft.State() != raft.Follower || primary == "" || last.IsZero() || last.Equal(looked) {
			continue
		}
		switch rest := s.patience(primary) - time.Since(last); {
		case rest > 0:
			left = rest
		case time.Since(due) > s.timeout/20:
			// This node was held up itself: what the primary sent may wait here to be read. raft's own timer does not mind.
			left = s.timeout / 10
		default:
			looked = last
			s.look()
		}
	}
}

// look has raft look at its timer. It does so when the timeout gets shorter; after, it is what it was.
func (s *silence) look() {
	conf := s.raft.ReloadableConfig()
	conf.HeartbeatTimeout, conf.ElectionTimeout = s.timeout+1, conf.ElectionTimeout+1
	if s.raft.ReloadConfig(conf) != nil {
		return // never, as both stay above what raft wants at least; then all is as before
	}
	conf.HeartbeatTimeout, conf.ElectionTimeout = s.timeout, conf.ElectionTimeout-1
	_ = s.raft.ReloadConfig(conf) // what it was cannot be wrong
}
