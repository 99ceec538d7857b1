package leader

import (
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"github.com/nearsql/nearsql/wire"
)

// ExpelledError is why a message of a node is refused that a recovery left behind: what it says is of a history
// that does not count any more.
type ExpelledError struct {
	Group wire.GroupID
	Node  NodeID
}

func (e *ExpelledError) Error() string {
	return fmt.Sprintf("node %s was left behind when group %d was recovered: it must be wiped and join anew under another id", e.Node, e.Group)
}

// HistoryError says that a primary's log contradicts entries that were applied here. One of the two is of a history
// that was given up in a recovery: if it is this one, this node's copy of the group must be removed and made anew.
type HistoryError struct {
	Group        wire.GroupID
	Index        uint64
	Applied      uint64 // the last entry applied here
	Here, Theirs uint64 // terms of the entry
}

func (e *HistoryError) Error() string {
	return fmt.Sprintf("group %d: entry %d of the primary's log is of term %d, here it is of term %d and was applied (up to %d): the histories differ, one was given up in a recovery",
		e.Group, e.Index, e.Theirs, e.Here, e.Applied)
}

// refuseMessage says why raft is not given a message. raft itself would follow anybody with a newer term, and
// delete what was applied.
func (g *Group) refuseMessage(rpc raft.RPC) error {
	if h, ok := rpc.Command.(raft.WithRPCHeader); ok && len(g.run.expelled) > 0 {
		id := NodeID(h.GetRPCHeader().ID)
		if _, ok := g.run.expelled[id]; ok {
			return g.noteRefused(&ExpelledError{Group: g.cfg.Group, Node: id})
		}
	}
	if req, ok := rpc.Command.(*raft.AppendEntriesRequest); ok {
		if err := g.contradicted(req); err != nil {
			return err
		}
		return g.mayAppend(req)
	}
	if _, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok && g.cfg.MayAppend != nil {
		return g.cfg.MayAppend(g.cfg.SegmentSize) // a log that begins anew reserves a file
	}
	return nil
}

// mayAppend asks for room for entries. Heartbeats have none.
func (g *Group) mayAppend(req *raft.AppendEntriesRequest) error {
	if g.cfg.MayAppend == nil || len(req.Entries) == 0 {
		return nil
	}
	size := 0
	for _, e := range req.Entries {
		size += len(e.Data)
	}
	return g.cfg.MayAppend(size)
}

// contradicted compares entries with those that were applied. There are none to compare unless something was sent again.
func (g *Group) contradicted(req *raft.AppendEntriesRequest) error {
	applied := g.run.fsm.applied()
	for _, e := range req.Entries {
		if e.Index > applied {
			return nil
		}
		var have raft.Log
		err := g.run.store.GetLog(e.Index, &have)
		switch {
		case errors.Is(err, raft.ErrLogNotFound):
			continue // a snapshot has it
		case err != nil:
			return err
		case have.Term > req.Term:
			return nil // sent by a primary of a term that is over, of a log whose end was given up: raft says so to it
		case have.Term != e.Term:
			return g.noteRefused(&HistoryError{Group: g.cfg.Group, Index: e.Index, Applied: applied, Here: have.Term, Theirs: e.Term})
		}
	}
	return nil
}

// noteRefused logs the first refusals: others come again and again.
func (g *Group) noteRefused(err error) error {
	if n := g.refused.Add(1); n&(n-1) == 0 {
		g.log.Error("message of another node refused", "error", err, "refused", n)
	}
	return err
}

// noMachine is for a group whose state does not matter.
type noMachine struct{}

func (noMachine) Apply(uint64, uint64, []byte) any  { return nil }
func (noMachine) Snapshot() (SnapshotWriter, error) { return nil, ErrStopped }
func (noMachine) Restore(r io.Reader) error         { _, err := io.Copy(io.Discard, r); return err }
