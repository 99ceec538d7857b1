package membership

import (
	"time"

	"github.com/nearsql/nearsql/leader"
)

// Contact returns Facts.Alive for a primary: a member is alive that answered within patience before now. A primary
// that is one for less than patience has not heard of the others yet, and takes all for alive. Patience is how long a node may be
// away, restarts included, before a voter that is not wanted is taken out first: 10 s or more.
func Contact(peers []leader.PeerStats, primarySince, now time.Time, patience time.Duration) func(leader.NodeID) bool {
	if now.Sub(primarySince) < patience {
		return func(leader.NodeID) bool { return true }
	}
	last := make(map[leader.NodeID]time.Time, len(peers))
	for _, p := range peers {
		last[p.ID] = p.LastContact
	}
	return func(id leader.NodeID) bool {
		t := last[id]
		return !t.IsZero() && now.Sub(t) < patience
	}
}
