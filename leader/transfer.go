package leader

import (
	"context"
	"fmt"

	"github.com/hashicorp/raft"
)

// TransferLeadership makes another voter the primary: to, or the one that has
// most of the log if to is "". While it is under way proposals are refused.
func (g *Group) TransferLeadership(ctx context.Context, to NodeID) error {
	if err := g.running(); err != nil {
		return err
	}
	r := g.run.raft
	if r.State() != raft.Leader {
		return &NotPrimaryError{Primary: g.otherPrimary()}
	}
	if to != "" && !isVoter(r.GetConfiguration().Configuration(), to) {
		return &MemberError{ID: to, Reason: "is no voter"}
	}
	transferred := make(chan error, 1)
	if !g.begin(func() { transferred <- g.transfer(to) }) {
		return ErrStopped
	}
	select {
	case err := <-transferred:
		if err != nil {
			return fmt.Errorf("transfer leadership of group %d: %w", g.cfg.Group, err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *Group) transfer(to NodeID) error {
	if to == "" {
		return g.run.raft.LeadershipTransfer().Error()
	}
	return g.run.raft.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(to)).Error()
}

// handOn transfers leadership at the end of Run, if it is this node's and
// there is another voter. The others would find out by their timeouts else.
func (g *Group) handOn() {
	r := g.run.raft
	if r.State() != raft.Leader || g.run.store.Err() != nil {
		return
	}
	for _, s := range r.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter && s.ID != raft.ServerID(g.cfg.Node) {
			handed := make(chan struct{})
			go func() { // raft answers within two timeouts, unless it hangs
				defer close(handed)
				if err := g.transfer(""); err != nil {
					g.log.Info("leadership was not handed on", "error", err)
				}
			}()
			awaitFor(handed, 3*g.cfg.ElectionTimeout)
			return
		}
	}
}
