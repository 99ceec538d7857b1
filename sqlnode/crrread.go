package sqlnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/engine"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/wire"
)

// age is how old, at most, what a read sees was when it began.
type age struct {
	main   time.Duration
	tables time.Duration // of conflict-free tables; wire.AnyStaleness where that is not known
}

// tablesWait is how long a request waits for what its bookmark saw of conflict-free tables, when another node has that for sure.
const tablesWait = time.Second

// readsTables says whether a request may read conflict-free tables.
func (n *Node) readsTables(r *resident, req *wire.Request) bool {
	return r.Record().Tables > 0 && n.engine.ReadsCRR(r.Tenant, req)
}

// readyTables returns when the conflict-free tables here are what a request asks for that reads them, and how old they then are at most. Main must
// have been found good enough before: it says which sites there are.
func (n *Node) readyTables(ctx context.Context, r *resident, req *wire.Request) (time.Duration, error) {
	if !n.readsTables(r, req) {
		return wire.AnyStaleness, nil
	}
	if req.Consistency == wire.Strong {
		if err := n.sites.lookNow(ctx, r); err != nil {
			return 0, err
		}
		if err := n.sites.pullAll(ctx, r.ID()); err != nil {
			return 0, err
		}
		return 0, n.awaitSites(ctx, r, req, true)
	}
	if err := n.awaitSites(ctx, r, req, true); err != nil {
		return 0, err
	}
	if req.MaxStaleness <= 0 { // the default bound is one of main
		d, known := n.sites.askedAgo(r.ID())
		if !known {
			d = wire.AnyStaleness
		}
		return d, nil
	}
	if err := n.sites.lookNow(ctx, r); err != nil {
		return 0, err
	}
	late, cancel := n.patience(ctx, req)
	defer cancel()
	d, err := n.sites.within(late, r.ID(), req.MaxStaleness)
	if err == nil || req.FailOnStale {
		return d, err
	}
	if ctx.Err() != nil {
		return 0, wire.AsError(ctx.Err())
	}
	if node := n.sites.reached(r.ID()); node != "" {
		return 0, &httpapi.ElsewhereError{Node: node, Reads: true, Either: true, Err: err}
	}
	return 0, err
}

// awaitSites waits until the conflict-free tables here have what the bookmark saw of them. reads: the request changes nothing.
func (n *Node) awaitSites(ctx context.Context, r *resident, req *wire.Request, reads bool) error {
	if req.Bookmark == "" {
		return nil
	}
	b, err := wire.ParseBookmark(req.Bookmark)
	if err != nil || b.Sites.None() {
		return err
	}
	if !b.SameTenant(r.ID()) {
		return wire.NewError(wire.CodeBadBookmark, "the bookmark is of another tenant")
	}
	if b.Sites.All {
		if req.Consistency == wire.Strong {
			return nil // all were asked
		}
		return n.sites.pullAll(ctx, r.ID())
	}
	f, err := n.sites.files.Open(ctx, r.Tenant)
	if errors.Is(err, crrfiles.ErrNone) {
		return wire.NewError(wire.CodeBadBookmark, "the bookmark saw conflict-free tables, and the tenant has none")
	}
	if err != nil {
		return tablesError(err)
	}
	late, cancel := n.patience(ctx, req)
	defer cancel()
	began := time.Now()
	for asked := false; ; {
		changed := f.Changed()
		lacks, err := n.lacking(ctx, f, r, b.Sites)
		if err != nil || lacks == nil {
			return err
		}
		if lacks.err != nil {
			return lacks.err
		}
		if !asked { // pushes are on their way, or nobody has sent any
			asked = true
			go n.sites.askAll(context.WithoutCancel(ctx), r.ID())
		}
		rest := tablesWait - time.Since(began)
		if req.FailOnStale || lacks.node == "" || lacks.node == n.id.Node {
			rest = bookmarkPatience
		} else if rest <= 0 {
			return &httpapi.ElsewhereError{Node: lacks.node, Reads: reads, Either: true, Err: wire.NewError(wire.CodeStale, "%s", lacks)}
		}
		timer := time.NewTimer(rest)
		select {
		case <-changed:
		case <-timer.C:
		case <-late.Done():
			timer.Stop()
			if ctx.Err() != nil {
				return wire.AsError(ctx.Err())
			}
			if lacks.stranger {
				return wire.NewError(wire.CodeBadBookmark, "%s", lacks)
			}
			return wire.NewError(wire.CodeStale, "%s", lacks)
		}
		timer.Stop()
	}
}

// lack is a site of which this node has less than a bookmark saw.
type lack struct {
	mark     wire.SiteMark
	node     string // the site's
	have     crr.HLC
	stranger bool  // the tenant has no such site
	err      error // nil: it may come yet
}

func (l *lack) String() string {
	if l.stranger {
		return fmt.Sprintf("the bookmark saw conflict-free tables of site %d, which the tenant does not have", l.mark.Site)
	}
	return fmt.Sprintf("the bookmark saw conflict-free tables of site %d up to %s; this node has them up to %s", l.mark.Site, crr.HLC(l.mark.Clock), l.have)
}

// lacking looks what the file lacks of a bookmark; nil: nothing.
func (n *Node) lacking(ctx context.Context, f *crrfiles.File, r *resident, marks wire.SiteMarks) (out *lack, err error) {
	err = f.Write(ctx, func(w *crrfiles.Writer) error {
		head := w.Site.Head()
		for _, m := range marks.Marks {
			if have := head.Vector[crr.SiteID(m.Site)]; have < crr.HLC(m.Clock) {
				out = &lack{mark: m, have: have}
				break
			}
		}
		if out == nil {
			return nil
		}
		all, err := w.Sites(r.ID())
		if err != nil {
			return err
		}
		out.judge(all, head)
		return nil
	})
	return out, tablesError(err)
}

// judge says whose what lacks is, and whether it can come yet.
func (l *lack) judge(all []crrfiles.Site, here crr.Head) {
	l.stranger = true
	for _, m := range all {
		if uint32(m.Site) != l.mark.Site {
			continue
		}
		l.node, l.stranger = m.Node, false
		switch {
		case m.State == crr.Retired && crr.HLC(l.mark.Clock) > m.Final:
			l.err = wire.NewError(wire.CodeBookmarkLost, "the bookmark saw conflict-free tables of site %d up to %s; the site was retired at %s, and what it wrote after that was lost, or written anew",
				l.mark.Site, crr.HLC(l.mark.Clock), m.Final)
		case m.Site == here.Site:
			l.err = wire.NewError(wire.CodeBookmarkLost, "the bookmark saw conflict-free tables of site %d, this node, up to %s; it has had them up to %s",
				l.mark.Site, crr.HLC(l.mark.Clock), l.have)
		}
	}
}

// awaitMain waits until main here has what the bookmark saw, before conflict-free tables are written on this node.
func (n *Node) awaitMain(ctx context.Context, r *resident, req *wire.Request) error {
	if req.Bookmark == "" {
		return nil
	}
	if r.h != nil {
		return n.awaitBookmark(ctx, r, req.Bookmark)
	}
	b, err := wire.ParseBookmark(req.Bookmark)
	if err != nil {
		return err
	}
	if !b.SameTenant(r.ID()) {
		return wire.NewError(wire.CodeBadBookmark, "the bookmark is of another tenant")
	}
	if epoch := r.Record().Epoch; b.Epoch < epoch {
		return wire.NewError(wire.CodeBookmarkLost, "the bookmark is of epoch %d; the tenant is in epoch %d: what it saw may be gone", b.Epoch, epoch)
	}
	late, cancel := n.patience(ctx, req)
	defer cancel()
	for wait := time.Millisecond; r.Record().Epoch < b.Epoch || r.Position().TXID < b.TXID; wait = min(2*wait, 50*time.Millisecond) {
		pause(late, wait)
		if ctx.Err() != nil {
			return wire.AsError(ctx.Err())
		}
		if late.Err() != nil {
			return wire.NewError(wire.CodeStale, "this node's copy does not have what the bookmark saw")
		}
	}
	return nil
}

// tablesError is what a client is told of an error of the files of conflict-free tables.
func tablesError(err error) error {
	if err == nil {
		return nil
	}
	return engine.CRRError(err)
}

// marksOf is what a request saw of conflict-free tables, with what its own bookmark had seen: the next request of the session brings both.
func marksOf(req *wire.Request, x *engine.Executed) wire.SiteMarks {
	var saw wire.SiteMarks
	if req.Bookmark != "" {
		if b, err := wire.ParseBookmark(req.Bookmark); err == nil && b.SameTenant(x.Pos.Tenant) {
			saw = b.Sites
		}
	}
	switch {
	case x.Local && !x.Stamp.Zero(): // whoever has the transaction has all that its site had
		return saw.Join(wire.SiteMarks{Marks: []wire.SiteMark{{Site: uint32(x.Stamp.Site), Clock: uint64(x.Stamp.HLC)}}})
	case len(x.Seen) > 0:
		clocks := make(map[uint32]uint64, len(x.Seen))
		for site, at := range x.Seen {
			clocks[uint32(site)] = uint64(at)
		}
		return saw.Join(wire.MarksOf(clocks))
	}
	return saw
}
