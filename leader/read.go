package leader

import (
	"context"
	"errors"

	"github.com/hashicorp/raft"
)

// ReadIndex returns an index such that a state with it contains every proposal
// that was answered, by any node, before the call. It is the index of an entry
// that was proposed, 0 if there is none: what WaitApplied and Machine.Apply
// speak of. A node that is not the primary gets a NotPrimaryError; ErrUnconfirmed
// says that too few voters answered, within HeartbeatTimeout.
func (g *Group) ReadIndex(ctx context.Context) (uint64, error) {
	if err := g.running(); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	leadership, _ := g.Leadership()
	if !leadership.Primary {
		return 0, &NotPrimaryError{Primary: g.otherPrimary()}
	}
	// A term's primary is announced when an entry of the term is committed, so
	// the commit index covers all earlier terms. It is read before what
	// confirms the term.
	commit := g.committed()
	if g.confirmAlone(leadership.Term) {
		return g.lastCommand(commit)
	}
	if g.run.net == nil {
		return 0, &NotPrimaryError{Primary: g.otherPrimary()}
	}
	return g.run.reads.join(ctx)
}

// ReadIndexAt is ReadIndex on any node of the group: one that is not the
// primary asks it. When WaitApplied has returned for the index, a read here sees
// every proposal that was answered, by any node, before the call.
func (g *Group) ReadIndexAt(ctx context.Context) (uint64, error) {
	index, err := g.ReadIndex(ctx)
	if !errors.As(err, new(*NotPrimaryError)) || g.cfg.Network == nil {
		return index, err
	}
	return g.run.remoteReads.join(ctx)
}

// confirmAlone says whether this node is the primary of term for want of
// another that could be: it is the only voter.
func (g *Group) confirmAlone(term uint64) bool {
	r := g.run.raft
	for _, s := range r.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter && s.ID != raft.ServerID(g.cfg.Node) {
			return false
		}
	}
	return r.State() == raft.Leader && r.CurrentTerm() == term && g.run.store.Err() == nil
}

// committed is raft's commit index as far as this node has stored the entries too, if it counts for their majority.
func (g *Group) committed() uint64 {
	commit := g.run.raft.CommitIndex()
	return g.run.log.beside.bound(commit)
}

// lastCommand returns the index of the last command at or below commit, or of
// a later one that is committed too.
func (g *Group) lastCommand(commit uint64) (uint64, error) {
	applied := g.run.fsm.applied()
	for i := commit; i > applied; i-- {
		command, err := g.run.store.IsCommand(i)
		if errors.Is(err, raft.ErrLogNotFound) {
			break // a snapshot has it, so the machine was given all up to it
		}
		if err != nil {
			return 0, &LogError{Group: g.cfg.Group, Err: err}
		}
		if command {
			return i, nil
		}
	}
	return g.run.fsm.applied(), nil
}

// WaitApplied returns when the machine has been given the entry at index,
// which must be one that ReadIndex returned or Apply was called with.
func (g *Group) WaitApplied(ctx context.Context, index uint64) error {
	select {
	case <-g.started:
	case <-g.stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	return g.run.fsm.wait(ctx, index, g.stopped)
}

// Applied returns the index of the last entry that the machine has been given.
func (g *Group) Applied() uint64 {
	if g.running() != nil {
		return 0
	}
	return g.run.fsm.applied()
}
