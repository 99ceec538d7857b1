package sqlnode

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nearsql/nearsql/sqlnode/engine"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// sqlService is httpapi.SQL.
type sqlService struct{ n *Node }

// defaultStaleness is the bound of reads that ask for no other.
const defaultStaleness = 5 * time.Second

// Execute implements httpapi.SQL. What another node must answer ends with an httpapi.ElsewhereError.
func (s sqlService) Execute(ctx context.Context, name string, req *wire.Request, sink wire.Sink) (wire.Meta, error) {
	n := s.n
	start := n.cfg.Now()
	m := wire.Meta{Consistency: wire.Weak, Node: n.id.Node, PoP: n.cfg.PoP}
	var (
		x   engine.Executed
		r   *resident
		old age
	)
	for again := true; again; {
		var err error
		if r, err = n.locate(ctx, name); err != nil {
			return wire.Meta{}, n.past(ctx, name, req, err)
		}
		switch {
		case engine.NeedsPrimary(req) && !n.engine.NeedsPrimary(r.Tenant, req):
			x, err = n.writeTables(ctx, r, req, sink)
		case engine.NeedsPrimary(req) && r.h == nil:
			_, err = n.home(r)
		case engine.NeedsPrimary(req):
			if x, err = n.write(ctx, r, req, sink); err == nil {
				n.sites.afterWrite(ctx, r, req)
			}
		case !n.isSite(r) && n.readsTables(r, req):
			err = n.toSite(ctx, r, true)
		case r.h == nil:
			x, old, err = n.readReplica(ctx, name, r, req, sink)
		default:
			x, old, err = n.read(ctx, name, r, req, sink)
		}
		// A copy that was taken out of service since it was found had no part in anything: the node votes on the tenant now, or the tenant is gone.
		again = errors.Is(err, errOtherTenant) || errors.Is(err, pagestore.ErrNoTenant) && !r.Bears(name)
		if err != nil && !again {
			return wire.Meta{}, err
		}
	}
	m.Staleness = old.main
	if x.Tables {
		m.Tables, m.TablesStaleness = true, old.tables
	}
	switch {
	case x.Local:
		m.Consistency = wire.Local
	case x.Write || req.Consistency == wire.Strong:
		m.Consistency = wire.Strong
	case x.Tables && req.MaxStaleness <= 0:
		m.Consistency = wire.Local
	}
	m.Role = n.role(r.h)
	m.Bookmark, m.Replayed, m.Duration = wire.BookmarkWith(x.Pos, marksOf(req, &x)), x.Replayed, n.cfg.Now().Sub(start)
	return m, nil
}

// writeTables runs a request that writes conflict-free tables, here if this node is a site, else where one is.
func (n *Node) writeTables(ctx context.Context, r *resident, req *wire.Request, sink wire.Sink) (engine.Executed, error) {
	if !n.isSite(r) {
		return engine.Executed{}, n.toSite(ctx, r, false)
	}
	if err := n.awaitMain(ctx, r, req); err != nil {
		return engine.Executed{}, err
	}
	if err := n.awaitSites(ctx, r, req, false); err != nil {
		return engine.Executed{}, n.unlessAhead(ctx, r, req, err)
	}
	x, err := n.engine.Execute(ctx, r.Tenant, confirmed{}, req, sink)
	return x, n.unlessAhead(ctx, r, req, err)
}

// role is what this node is to the group, as answers say it.
func (n *Node) role(h *hosted) string {
	switch {
	case h == nil:
		return "replica"
	case h.single:
		return "primary"
	}
	if l, _, _ := h.leadership(); l.Primary {
		return "primary"
	}
	return "voter"
}

// write runs a request on the primary of the tenant's group.
func (n *Node) write(ctx context.Context, r *resident, req *wire.Request, sink wire.Sink) (engine.Executed, error) {
	late, cancel := n.patience(ctx, req)
	defer cancel()
	for {
		l, changed, over := r.h.leadership()
		switch {
		case l.Primary && (n.net == nil || r.Failed() == nil):
			if err := n.awaitBookmark(ctx, r, req.Bookmark); err != nil {
				return engine.Executed{}, err
			}
			if r.Position().TXID < r.Logged().TXID { // after a start: what the log has is still being built
				if err := r.q.built(late); err != nil && ctx.Err() != nil {
					return engine.Executed{}, wire.AsError(ctx.Err())
				}
			}
			x, err := n.engine.Execute(ctx, r.Tenant, r.q, req, sink)
			if n.net == nil || !isCode(err, wire.CodeNotPrimary) {
				return x, err
			}
			// It surely had no effect: another node is, or will be, the one to ask.
			if now, _, _ := r.h.leadership(); now != l {
				continue
			}
		case !l.Primary && l.Leader != "" && string(l.Leader) != n.id.Node:
			return engine.Executed{}, &httpapi.ElsewhereError{Node: string(l.Leader)}
		}
		select {
		case <-changed:
		case <-over:
		case <-late.Done():
			if err := ctx.Err(); err != nil {
				return engine.Executed{}, wire.AsError(err)
			}
			return engine.Executed{}, wire.NewError(wire.CodeNotPrimary, "group %d has no primary that this node knows of", r.h.id)
		}
	}
}

// patience bounds how long a request waits for a primary.
func (n *Node) patience(ctx context.Context, req *wire.Request) (context.Context, context.CancelFunc) {
	d := bookmarkPatience
	if req.Timeout > 0 {
		d = min(d, req.Timeout)
	}
	return context.WithTimeout(ctx, d)
}

// read runs a request that only reads here, if this copy is good enough for it. It returns
// the ages that what it saw had at most.
func (n *Node) read(ctx context.Context, name string, r *resident, req *wire.Request, sink wire.Sink) (engine.Executed, age, error) {
	var old age
	if n.net != nil && r.Failed() != nil {
		return engine.Executed{}, old, n.elsewhere(r.h, wire.NewError(wire.CodeStale, "this node's copy is being fetched: %w", r.Failed()))
	}
	if err := n.awaitBookmark(ctx, r, req.Bookmark); err != nil {
		return engine.Executed{}, old, n.elsewhereUnless(r.h, req, err)
	}
	var err error
	switch {
	case req.Consistency == wire.Strong:
		err = n.confirm(ctx, r, req)
	case req.MaxStaleness != wire.AnyStaleness:
		bound := req.MaxStaleness
		if bound == 0 {
			bound = defaultStaleness
		}
		old.main, err = n.bounded(ctx, r, bound, req)
	}
	if err != nil {
		return engine.Executed{}, old, n.elsewhereUnless(r.h, req, err)
	}
	if old.tables, err = n.readyTables(ctx, r, req); err != nil {
		return engine.Executed{}, old, err
	}
	// What the copy is fresh enough for, it is also for the tenant's name: that may be another's by now.
	if !r.Bears(name) {
		return engine.Executed{}, old, errOtherTenant
	}
	if n.net == nil {
		x, err := n.engine.Execute(ctx, r.Tenant, confirmed{}, req, sink)
		return x, old, err
	}
	seen := &seenSink{Sink: sink}
	x, err := n.engine.Execute(ctx, r.Tenant, confirmed{}, req, seen)
	switch {
	case err == nil || seen.any:
	case isCode(err, wire.CodeStale), isCode(err, wire.CodeNotPrimary):
		err = n.elsewhereUnless(r.h, req, err)
	case isCode(err, wire.CodeCorrupt):
		err = n.elsewhere(r.h, err) // other members have a sound copy
	case req.Consistency != wire.Strong && isMissing(err):
		// The copy may be from before the table was made, or altered.
		err = n.elsewhere(r.h, err)
	}
	return x, old, err
}

// seenSink knows whether it was given anything.
type seenSink struct {
	wire.Sink
	any bool
}

// Begin implements wire.Sink.
func (s *seenSink) Begin(statement int, columns []wire.Column) error {
	s.any = true
	return s.Sink.Begin(statement, columns)
}

// isMissing says whether a statement names what this copy's schema does not have.
func isMissing(err error) bool {
	if !isCode(err, wire.CodeSQLiteError) {
		return false
	}
	text := wire.AsError(err).Message
	return strings.HasPrefix(text, "no such table") || strings.HasPrefix(text, "no such column") || strings.Contains(text, "has no column named")
}

// errOtherTenant says that the tenant does not bear the name any more by which it was found.
var errOtherTenant = errors.New("the tenant has another name, or is gone")

// confirmed is engine.Quorum for reads that were confirmed before.
type confirmed struct{}

// Confirm implements engine.Quorum.
func (confirmed) Confirm(context.Context) error { return nil }

// confirm returns when this copy shows all that anybody was told before the call. It waits while a primary is elected.
func (n *Node) confirm(ctx context.Context, r *resident, req *wire.Request) error {
	q := r.q
	q.anywhere = true
	err := q.Confirm(ctx)
	if err == nil || n.net == nil {
		return err
	}
	late, cancel := n.patience(ctx, req)
	defer cancel()
	for wait := 5 * time.Millisecond; isCode(err, wire.CodeNotPrimary); wait = min(2*wait, 100*time.Millisecond) {
		pause(late, wait)
		if late.Err() != nil {
			if ctx.Err() != nil {
				return wire.AsError(ctx.Err())
			}
			return err
		}
		err = q.Confirm(late)
	}
	return err
}

// bounded waits until this copy is known to be at most bound old, and shows what its log has.
func (n *Node) bounded(ctx context.Context, r *resident, bound time.Duration, req *wire.Request) (time.Duration, error) {
	late, cancel := n.patience(ctx, req)
	defer cancel()
	age, err := r.h.fresh.within(late, bound)
	if err == nil && r.Position().TXID < r.Logged().TXID {
		err = r.q.built(late)
		var failed *pagestore.CorruptError
		if errors.As(err, &failed) {
			return age, nil // the engine says what is wrong with the copy
		}
	}
	switch {
	case err == nil:
		return age, nil
	case ctx.Err() != nil:
		return 0, wire.AsError(ctx.Err())
	case late.Err() != nil:
		return 0, wire.NewError(wire.CodeStale, "this node's copy is still catching up with its log")
	case errors.Is(err, errTooSlow):
		return 0, errTooSlow
	}
	if r.Failed() != nil && n.net == nil {
		return 0, nil
	}
	return 0, wire.NewError(wire.CodeStale, "it is not known how old this node's copy is: %w", err)
}

// elsewhereUnless is err, or where else the request may be answered.
func (n *Node) elsewhereUnless(h *hosted, req *wire.Request, err error) error {
	if req.FailOnStale || !isCode(err, wire.CodeStale) && !isCode(err, wire.CodeNotPrimary) {
		return err
	}
	return n.elsewhere(h, err)
}

// elsewhere says that the primary of the group is to be asked, if that is another node; else err.
func (n *Node) elsewhere(h *hosted, err error) error {
	if n.net == nil {
		return err
	}
	l, _, _ := h.leadership()
	if l.Primary || l.Leader == "" || string(l.Leader) == n.id.Node {
		return err
	}
	return &httpapi.ElsewhereError{Node: string(l.Leader), Reads: true, Err: err}
}

func isCode(err error, code wire.Code) bool {
	return errors.Is(err, &wire.Error{Code: code})
}

// bookmarkPatience bounds the wait for a bookmark's position or a primary, when the request has no shorter time.
const bookmarkPatience = 10 * time.Second

// awaitBookmark waits until the tenant's copy here has what the bookmark saw.
func (n *Node) awaitBookmark(ctx context.Context, r *resident, text string) error {
	if text == "" {
		return nil
	}
	pos, err := wire.ParseBookmark(text)
	if err != nil {
		return err
	}
	if !pos.SameTenant(r.ID()) {
		return wire.NewError(wire.CodeBadBookmark, "the bookmark is of another tenant")
	}
	if r.Record().Epoch == pos.Epoch && r.Position().TXID >= pos.TXID {
		return nil
	}
	late, cancel := context.WithTimeout(ctx, bookmarkPatience)
	defer cancel()
	q := r.q
	q.anywhere = true
	if err := q.Confirm(late); err != nil {
		if ctx.Err() != nil {
			return wire.AsError(ctx.Err())
		}
		return wire.NewError(wire.CodeStale, "this node's copy does not have what the bookmark saw: %w", err)
	}
	// All that anybody was told is here now: what is missing is lost.
	switch epoch := r.Record().Epoch; {
	case pos.Epoch != epoch:
		return wire.NewError(wire.CodeBookmarkLost, "the bookmark is of epoch %d; the tenant is in epoch %d: what it saw may be gone", pos.Epoch, epoch)
	case r.Logged().TXID < pos.TXID:
		return wire.NewError(wire.CodeBookmarkLost, "the bookmark saw transaction %d; the newest there is %d", uint64(pos.TXID), uint64(r.Logged().TXID))
	}
	return nil
}
