package sqlnode

import (
	"context"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// sqlService is httpapi.SQL.
type sqlService struct{ n *Node }

// Execute implements httpapi.SQL.
func (s sqlService) Execute(ctx context.Context, name string, req *wire.Request, sink wire.Sink) (wire.Meta, error) {
	n := s.n
	start := n.cfg.Now()
	r, werr := n.dir.find(name)
	if werr != nil {
		return wire.Meta{}, werr
	}
	if req.Bookmark != "" {
		if err := n.awaitBookmark(ctx, r, req.Bookmark); err != nil {
			return wire.Meta{}, err
		}
	}
	if err := n.awaitBuilt(ctx, r, req); err != nil {
		return wire.Meta{}, err
	}
	x, err := n.engine.Execute(ctx, r.Tenant, r.q, req, sink)
	if err != nil {
		return wire.Meta{}, err
	}
	m := wire.Meta{Consistency: wire.Weak, Node: n.id.Node, PoP: n.cfg.PoP, Role: "primary",
		Bookmark: wire.Bookmark(x.Pos), Replayed: x.Replayed, Duration: n.cfg.Now().Sub(start)}
	if x.Write || req.Consistency == wire.Strong {
		m.Consistency = wire.Strong
	}
	return m, nil
}

// awaitBuilt waits until the tenant shows what its log has: what is answered to be fresh must be.
func (n *Node) awaitBuilt(ctx context.Context, r *resident, req *wire.Request) error {
	if req.MaxStaleness == wire.AnyStaleness || r.Position().TXID >= r.Logged().TXID {
		return nil
	}
	patience := bookmarkPatience
	if req.Timeout > 0 {
		patience = min(patience, req.Timeout)
	}
	late, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := r.q.built(late)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return wire.AsError(ctx.Err())
	case late.Err() != nil:
		return wire.NewError(wire.CodeStale, "this node's copy is still catching up with its log")
	}
	return nil // the engine says what is wrong with the copy
}

// bookmarkPatience bounds the wait for a bookmark's position, when the request has no shorter time.
const bookmarkPatience = 10 * time.Second

// awaitBookmark waits until the tenant has what the bookmark saw.
func (n *Node) awaitBookmark(ctx context.Context, r *resident, text string) error {
	pos, err := wire.ParseBookmark(text)
	if err != nil {
		return err
	}
	rec := r.Record()
	if !pos.SameTenant(rec.ID) {
		return wire.NewError(wire.CodeBadBookmark, "the bookmark is of another tenant")
	}
	if pos.Epoch != rec.Epoch {
		return wire.NewError(wire.CodeBookmarkLost, "the bookmark is of epoch %d; the tenant is in epoch %d: what it saw may be gone", pos.Epoch, rec.Epoch)
	}
	if r.Position().TXID >= pos.TXID {
		return nil
	}
	if r.Logged().TXID < pos.TXID {
		// This node is the only one that writes: what it does not have, nobody has.
		if err := r.q.Confirm(ctx); err != nil {
			return err
		}
		if r.Logged().TXID < pos.TXID {
			return wire.NewError(wire.CodeBookmarkLost, "the bookmark saw transaction %d; the newest there is %d", uint64(pos.TXID), uint64(r.Logged().TXID))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, bookmarkPatience)
	defer cancel()
	return r.q.Confirm(ctx)
}
