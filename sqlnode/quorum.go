package sqlnode

import (
	"context"
	"errors"

	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// quorum is engine.Quorum for one tenant.
type quorum struct {
	h *hosted
	t *pagestore.Tenant
	// anywhere: a read asks, which is as good on any member. What a writer saw is proved by its own leadership alone.
	anywhere bool
}

// Confirm implements engine.Quorum by a read-index round.
func (q quorum) Confirm(ctx context.Context) error {
	if err := q.applied(ctx); err != nil {
		return err
	}
	return q.built(ctx)
}

// applied returns when this node's log has all that was answered, by any node, before the call.
func (q quorum) applied(ctx context.Context) error {
	if q.h.skipConfirm.Load() {
		return nil
	}
	log := q.h.log()
	ask := log.ReadIndex
	if q.anywhere {
		ask = log.ReadIndexAt
	}
	index, err := ask(ctx)
	if err == nil {
		err = log.WaitApplied(ctx, index)
	}
	if err != nil {
		return leaderError(err)
	}
	return nil
}

// built returns when this copy shows all that its log had when it was called: after a start, and for
// large transactions, pages are built beside the log.
func (q quorum) built(ctx context.Context) error {
	tx := q.t.Logged().TXID
	if q.t.Position().TXID >= tx {
		return nil
	}
	s, err := q.t.Acquire()
	if err != nil {
		return hollowError(err)
	}
	defer q.t.Release()
	if err := pagestore.WaitVisible(ctx.Done(), s, tx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return hollowError(err)
	}
	return nil
}

// hollowError is err, or that another node is to be asked: the log may pass by a copy at any time.
func hollowError(err error) error {
	if errors.Is(err, pagestore.ErrHollow) {
		return wire.NewError(wire.CodeStale, "this node's copy is being fetched: %w", err)
	}
	return err
}

// leaderError is what a client is told of an error of package leader.
func leaderError(err error) error {
	var (
		np  *leader.NotPrimaryError
		un  *leader.UnknownOutcomeError
		ov  *leader.OverloadedError
		ref *pagestore.RefusedError

		changed *leader.ConfigurationChangedError
		member  *leader.MemberError
	)
	switch {
	case errors.As(err, &ref):
		return wire.NewError(wire.CodeNotPrimary, "%w", err)
	case errors.As(err, &np):
		return wire.NewError(wire.CodeNotPrimary, "%w", err)
	case errors.As(err, &un):
		return wire.NewError(wire.CodeUnknownOutcome, "%w", err)
	case errors.As(err, &ov):
		return wire.NewError(wire.CodeOverloaded, "%w", err)
	case errors.Is(err, leader.ErrStopped):
		return wire.NewError(wire.CodeShuttingDown, "%w", err)
	case errors.Is(err, leader.ErrUnconfirmed):
		return wire.NewError(wire.CodeNotPrimary, "a majority of the group's voters did not answer: %w", err)
	case errors.As(err, &changed), errors.As(err, &member):
		return wire.NewError(wire.CodeConflict, "%w", err)
	}
	return err
}

func isPositionError(err error) bool {
	var p *pagestore.PositionError
	return errors.As(err, &p)
}
