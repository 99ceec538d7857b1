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
	transferred := make(chan error, 1)
	transfer := func() {
		if to == "" {
			transferred <- r.LeadershipTransfer().Error()
			return
		}
		transferred <- r.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(to)).Error()
	}
	g.proposals.Lock()
	open := g.proposals.open
	if open {
		g.goroutines.Go(transfer)
	}
	g.proposals.Unlock()
	if !open {
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
