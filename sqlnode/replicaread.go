package sqlnode

import (
	"context"
	"time"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/sqlnode/engine"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// replicaWait is how long a read waits for a copy that follows, when another node could answer it.
const replicaWait = 500 * time.Millisecond

// level is what a request asks of the state that it reads.
func level(req *wire.Request) (readpath.Level, error) {
	l := readpath.Level{Consistency: readpath.Bounded, Staleness: req.MaxStaleness}
	switch {
	case req.Consistency == wire.Strong:
		l.Consistency = readpath.Strong
	case req.MaxStaleness == wire.AnyStaleness:
		l.Consistency = readpath.Any
	case req.MaxStaleness == 0:
		l.Staleness = defaultStaleness
	}
	if req.FailOnStale {
		l.OnStale = readpath.StaleFails
	}
	if req.Bookmark != "" {
		b, err := wire.ParseBookmark(req.Bookmark)
		if err != nil {
			return l, err
		}
		l.Bookmark = &b
	}
	return l, nil
}

// readReplica runs a request that only reads on a copy that follows, as readpath.Decide says; a strong one as readpath.ChooseWay does.
func (n *Node) readReplica(ctx context.Context, name string, r *resident, req *wire.Request, sink wire.Sink) (engine.Executed, age, error) {
	lv, err := level(req)
	if err != nil {
		return engine.Executed{}, age{}, err
	}
	if lv.Consistency == readpath.Strong {
		return n.readStrong(ctx, name, r, req, sink, lv)
	}
	start, _ := n.ticks.Now()
	began := time.Now()
	for {
		f := n.replicaFacts(r)
		f.Waited, f.WaitMax = time.Since(began), replicaWait
		if f.Primary == "" {
			f.WaitMax = bookmarkPatience
		}
		d := readpath.Decide(lv, &f, start)
		switch d.Action {
		case readpath.Refuse:
			return engine.Executed{}, age{}, d.Err
		case readpath.Forward:
			return engine.Executed{}, age{}, &httpapi.ElsewhereError{Node: d.Node, Reads: true}
		case readpath.Wait:
			n.awaitReplica(ctx, r, d)
			if err := ctx.Err(); err != nil {
				return engine.Executed{}, age{}, wire.AsError(err)
			}
		case readpath.Serve:
			return n.serveReplica(ctx, name, r, req, sink, d)
		}
	}
}

// serveReplica runs the request on the copy, once that shows what it must.
func (n *Node) serveReplica(ctx context.Context, name string, r *resident, req *wire.Request, sink wire.Sink, d readpath.Decision) (engine.Executed, age, error) {
	away := func(err error) error {
		if node := n.memberOf(r.group); node != "" && !req.FailOnStale {
			return &httpapi.ElsewhereError{Node: node, Reads: true, Err: err}
		}
		return err
	}
	if r.Position().TXID < d.TXID {
		late, cancel := context.WithTimeout(ctx, replicaWait)
		defer cancel()
		if err := visible(late, r.Tenant, d.TXID); err != nil {
			if ctx.Err() != nil {
				return engine.Executed{}, age{}, wire.AsError(ctx.Err())
			}
			return engine.Executed{}, age{}, away(wire.NewError(wire.CodeStale, "this node's copy is still being built: %w", err))
		}
	}
	if !r.Bears(name) {
		return engine.Executed{}, age{}, errOtherTenant
	}
	tables, err := n.readyTables(ctx, r, req)
	if err != nil {
		return engine.Executed{}, age{}, err
	}
	seen := &seenSink{Sink: sink}
	x, err := n.engine.Execute(ctx, r.Tenant, confirmed{}, req, seen)
	if err != nil && !seen.any && (req.Consistency != wire.Strong && isMissing(err) || isCode(err, wire.CodeStale) || isCode(err, wire.CodeCorrupt) || isCode(err, wire.CodeNotPrimary)) {
		err = away(err)
	}
	return x, age{d.Staleness, tables}, err
}

// replicaFacts is what is known of a copy that follows. Its freshness is read before its positions.
func (n *Node) replicaFacts(r *resident) readpath.Facts {
	id := r.ID()
	f := readpath.Facts{Tenant: id, Self: n.id.Node, Primary: n.memberOf(r.group)}
	f.Copy.Fresh = n.repl.follower.Fresh(id)
	f.Copy.Askable = n.repl.follower.Askable(id)
	if r.Failed() != nil {
		return f
	}
	f.Copy.Role = readpath.RoleReplica
	f.Copy.Epoch, f.Copy.Logged = r.Record().Epoch, r.Logged().TXID
	pos := r.Position()
	f.Copy.Visible, f.Copy.Checksum = pos.TXID, pos.Checksum
	return f
}

// awaitReplica waits until the copy is fresher, or shows what is waited for.
func (n *Node) awaitReplica(ctx context.Context, r *resident, d readpath.Decision) {
	ctx, cancel := context.WithTimeout(ctx, d.Limit)
	defer cancel()
	if d.TXID > r.Logged().TXID || d.Probe {
		if n.repl.follower.Confirm(ctx, r.ID()) != nil {
			pause(ctx, 5*time.Millisecond)
		}
		return
	}
	if visible(ctx, r.Tenant, d.TXID) != nil {
		pause(ctx, 5*time.Millisecond)
	}
}

// visible returns when the tenant's copy shows the transaction.
func visible(ctx context.Context, t *pagestore.Tenant, tx wire.TXID) error {
	s, err := t.Acquire()
	if err != nil {
		return err
	}
	defer t.Release()
	return pagestore.WaitVisible(ctx.Done(), s, tx)
}
