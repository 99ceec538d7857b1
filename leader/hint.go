package leader

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// hintDelay is how long a commit waits for the next entry, which would tell the followers of it: long enough for a lone client
	// that asks again when it is answered, since a hint costs as much as a quarter of its transaction.
	hintDelay = 4 * time.Millisecond
	// hintAgain is how long a hint waits that a follower refused, since the entry was still on its way to it or to its disk.
	hintAgain = time.Millisecond
	// hintTries is how often a commit is hinted at.
	hintTries = 3
)

// hints tell followers of a commit when nothing else is on its way to them. raft would do so up to two CommitTimeouts
// later, and to ask it for much less makes all idle groups busy.
//
// A hint is a message of raft's own kind, without entries: its previous entry is the newest that is committed, and its commit
// index is that entry's. A follower that has the entry, of that term, has all before it too, so it learns no more
// than what is so; one that has not refuses the message, and gets it again. A follower that asked for a read index waits
// for the commit, so the hint does not wait then.
type hints struct {
	g     *Group
	wake  chan struct{} // holds one: an entry was committed
	asked chan struct{} // holds one: a follower waits for what is committed

	mu struct {
		sync.Mutex
		busy    map[NodeID]bool // the last hint to it was not answered yet
		refused map[NodeID]bool // it refused the last one
	}
}

func newHints(g *Group) *hints {
	h := &hints{g: g, wake: make(chan struct{}, 1), asked: make(chan struct{}, 1)}
	h.mu.busy = make(map[NodeID]bool)
	h.mu.refused = make(map[NodeID]bool)
	return h
}

// run sends hints until ctx ends.
func (h *hints) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	hinted, tries := uint64(0), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.asked:
		case <-h.wake:
			timer.Reset(h.delay())
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			case <-h.asked:
			}
		}
		h.g.proposals.Lock()
		more := h.g.proposals.count > 0
		h.g.proposals.Unlock()
		if more {
			continue // the next entry brings the news; when it is committed there is a wake again
		}
		req, ok := h.message()
		if !ok {
			continue
		}
		fresh := req.LeaderCommitIndex != hinted
		if fresh {
			hinted, tries = req.LeaderCommitIndex, 0
		}
		if tries++; fresh || tries > hintTries {
			h.forgive() // all are told, or none is any more
		}
		for _, s := range h.g.run.raft.GetConfiguration().Configuration().Servers {
			if id := NodeID(s.ID); id != h.g.cfg.Node && h.begin(id, fresh) {
				wg.Go(func() {
					var resp raft.AppendEntriesResponse
					m := *req
					// An error is no news: raft's own messages meet it too.
					err := h.g.run.net.NetworkTransport.AppendEntries(s.ID, s.Address, &m, &resp)
					h.end(id, err == nil && !resp.Success)
				})
			}
		}
	}
}

// delay is how long what was committed, or refused, waits.
func (h *hints) delay() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.mu.refused) > 0 {
		return hintAgain
	}
	return hintDelay
}

// message is what followers are told now; not ok if this node is not the primary, or its log has no more of what is committed.
func (h *hints) message() (*raft.AppendEntriesRequest, bool) {
	l, _ := h.g.Leadership()
	if !l.Primary {
		return nil, false
	}
	commit := h.g.committed()
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

// forgive forgets who refused a hint.
func (h *hints) forgive() {
	h.mu.Lock()
	clear(h.mu.refused)
	h.mu.Unlock()
}

// begin says whether a hint is to be sent to a node: it has answered the last one, and does not know the news, which
// are fresh or else those that it refused.
func (h *hints) begin(id NodeID, fresh bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	refused := h.mu.refused[id]
	delete(h.mu.refused, id)
	if h.mu.busy[id] || !fresh && !refused {
		return false
	}
	h.mu.busy[id] = true
	return true
}

func (h *hints) end(id NodeID, refused bool) {
	h.mu.Lock()
	delete(h.mu.busy, id)
	if refused {
		h.mu.refused[id] = true
	}
	h.mu.Unlock()
	if refused {
		wake(h.wake)
	}
}
