package leader

import (
	"time"

	"github.com/hashicorp/raft"
)

// Stats is the state of a group in numbers.
type Stats struct {
	Term          uint64
	LastIndex     uint64 // of the log
	CommitIndex   uint64
	AppliedIndex  uint64 // of the last entry that the machine has been given
	SnapshotBytes uint64 // LogBytes: of entries since the last snapshot
	Proposals     int    // not answered
	ProposalBytes int64  // of them
	Peers         []PeerStats
}

// PeerStats is another member of the group.
type PeerStats struct {
	Member
	// LastContact is when it last answered a message of raft from this node:
	// recent only on the primary. Zero if it never did.
	LastContact time.Time
}

// Stats returns the numbers of this moment; all 0 when the group does not run.
func (g *Group) Stats() Stats {
	if g.running() != nil {
		return Stats{}
	}
	r := g.run.raft
	s := Stats{
		Term: r.CurrentTerm(), LastIndex: r.LastIndex(), CommitIndex: g.committed(),
		AppliedIndex: g.run.fsm.applied(), SnapshotBytes: g.logBytes(),
	}
	g.proposals.Lock()
	s.Proposals, s.ProposalBytes = g.proposals.count, g.proposals.bytes
	g.proposals.Unlock()
	if g.run.net == nil {
		return s
	}
	for _, m := range r.GetConfiguration().Configuration().Servers {
		if id := NodeID(m.ID); id != g.cfg.Node {
			s.Peers = append(s.Peers, PeerStats{Member{ID: id, Voter: m.Suffrage == raft.Voter}, g.run.net.lastContact(id)})
		}
	}
	return s
}
