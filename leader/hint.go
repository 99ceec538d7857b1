package leader

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// hintDelay is how long a commit waits for the next entry, which would tell the followers of it.
const hintDelay = time.Millisecond

// hints tell followers of a commit when nothing else is on its way to them. raft would do so up to two CommitTimeouts
// later, and to ask it for much less makes all idle groups busy.
//
// A hint is a message of raft's own kind, without entries: its previous entry is the newest that is committed, and its commit
// index is that entry's. A follower that has the entry, of that term, has all before it too, so it learns no more
// than what is so; one that has not refuses the message. Nobody acts on the answers.
type hints struct {
	g    *Group
	wake chan struct{} // holds one: an entry was committed

	mu struct {
		sync.Mutex
		busy map[NodeID]bool // the last hint to it was not answered yet
	}
}

func newHints(g *Group) *hints {
	h := &hints{g: g, wake: make(chan struct{}, 1)}
	h.mu.busy = make(map[NodeID]bool)
	return h
}

// run sends hints until ctx ends.
func (h *hints) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	hinted := uint64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		}
		timer.Reset(hintDelay)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		h.g.proposals.Lock()
		more := h.g.proposals.count > 0
		h.g.proposals.Unlock()
		if more {
			continue // the next entry brings the news; when it is committed there is a wake again
		}
		req, ok := h.message()
		if !ok || req.LeaderCommitIndex == hinted {
			continue
		}
		hinted = req.LeaderCommitIndex
		for _, s := range h.g.run.raft.GetConfiguration().Configuration().Servers {
			if id := NodeID(s.ID); id != h.g.cfg.Node && h.begin(id) {
				wg.Go(func() {
					defer h.end(id)
					var resp raft.AppendEntriesResponse
					m := *req
					// An error is no news: raft's own messages meet it too.
					_ = h.g.run.net.NetworkTransport.AppendEntries(s.ID, s.Address, &m, &resp)
				})
			}
		}
	}
}

// message is what followers are told now; not ok if this node is not the primary, or its log has no more of what is committed.
func (h *hints) message() (*raft.AppendEntriesRequest, bool) {
	l, _ := h.g.Leadership()
	if !l.Primary {
		return nil, false
	}
	commit := h.g.run.raft.CommitIndex()
	var entry raft.Log
	if commit == 0 || h.g.run.store.GetLog(commit, &entry) != nil {
		return nil, false
	}
	addr := []byte(h.g.cfg.Node)
	return &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: addr, Addr: addr},
		Term:      l.Term, PrevLogEntry: commit, PrevLogTerm: entry.Term, LeaderCommitIndex: commit,
	}, true
}

// begin says whether a hint may be sent to a node: it has answered the last one.
func (h *hints) begin(id NodeID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.busy[id] {
		return false
	}
	h.mu.busy[id] = true
	return true
}

func (h *hints) end(id NodeID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.mu.busy, id)
}
