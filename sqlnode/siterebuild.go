package sqlnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/nearsql/nearsql/crr/exchange"
	"github.com/nearsql/nearsql/sqlnode/catalogue"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// A damaged file of conflict-free tables is out of service on its node. Rebuilt it is a copy of another site's, under a new number; the damaged file is put aside, and what can be
// read of it and nobody else has is written anew, as for a file that was away for too long (sitecare.go). What can't be read, and was sent to nobody, is lost.
//
// That happens by itself when waiting would save nothing: when the file can't even be opened, and the sites that answer have all that it had sent. Otherwise an operator says so: who
// looks at the file first may save more than a machine does.

// Rebuild implements httpapi.Rebuilder.
func (s tenantService) Rebuild(ctx context.Context, name, node string) (httpapi.Rebuilt, error) {
	r, err := s.siteAt(ctx, name, node, "whose file is damaged")
	if err != nil {
		return httpapi.Rebuilt{Node: s.n.id.Node}, err
	}
	return s.n.sites.rebuild(ctx, r)
}

// rebuild rebuilds the file of a tenant here if it is damaged, and waits until that is done.
func (s *sites) rebuild(ctx context.Context, r *resident) (httpapi.Rebuilt, error) {
	out := httpapi.Rebuilt{Node: s.n.id.Node}
	f := s.files.Lookup(r.Tenant)
	if f == nil {
		return out, wire.NewError(wire.CodeNotFound, "node %s has no file of conflict-free tables of tenant %q", s.n.id.Node, string(r.Record().Name))
	}
	why, err := f.Examine(ctx)
	if err != nil {
		return out, tablesError(err)
	}
	if why == nil {
		return out, wire.NewError(wire.CodeConflict, "all of the file of conflict-free tables on node %s was read, and is whole: there is nothing to rebuild", s.n.id.Node)
	}
	k := s.beginCare(r.ID())
	if k == nil {
		return out, wire.NewError(wire.CodeConflict, "the file of conflict-free tables is being looked after: ask again")
	}
	done, err := s.rebuildFile(ctx, r, f, why)
	s.mu.Lock()
	k.care.done(taskReplace, err, time.Now())
	s.mu.Unlock()
	if err != nil {
		return out, err
	}
	out.Aside, out.Salvaging = done.Aside, done.Kept
	limit := time.Now().Add(restampWait)
	for {
		kept, err := f.Kept()
		if err != nil {
			return out, err
		}
		out.Site, out.Pending = int64(f.Number()), len(kept) > 0 || f.Number() == 0
		if !out.Pending || time.Now().After(limit) {
			return out, nil
		}
		if pause(ctx, 100*time.Millisecond); ctx.Err() != nil {
			return out, wire.AsError(ctx.Err())
		}
	}
}

// beginCare notes that something is done about a tenant's file; nil if something is already.
func (s *sites) beginCare(id tenant.ID) *siteOf {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.mu.known[id]
	if k == nil || k.care.busy {
		return nil
	}
	k.care.busy = true
	return k
}

// rebuildFile fetches a copy of another site's file and puts it in the place of the tenant's damaged one.
func (s *sites) rebuildFile(ctx context.Context, r *resident, f *crrfiles.File, why *crrfiles.DamagedError) (out crrfiles.Rebuilt, err error) {
	if err := s.addDamaged(r, f); err != nil {
		return out, err
	}
	began := time.Now()
	limit, cancel := context.WithTimeout(ctx, fetchMost)
	defer cancel()
	path, err := f.Fetch(limit, func(ctx context.Context, w io.Writer) error { return s.x.Fetch(ctx, r.ID(), w) })
	if err != nil {
		return out, wire.NewError(wire.CodeUnreachable, "no copy of another site's file can be had: %w", err)
	}
	s.n.engine.Forget(r.Tenant) // connections that have the damaged file attached
	if out, err = f.Rebuild(ctx, path); err != nil {
		return out, tablesError(err)
	}
	s.renumber(r.ID())
	fate := "what only the damaged file had can't be read, and is lost"
	if out.Kept {
		fate = "what can be read of the damaged file, and nobody else has, is written anew; the rest may be lost"
	}
	s.n.log.Error("a damaged file of conflict-free tables is replaced by a copy of another site's: "+fate,
		"tenant", string(r.Record().Name), "id", r.ID(), "damage", why.Cause, "aside", out.Aside, "took", time.Since(began).String())
	if err := s.bring(ctx, r, r.Record()); err != nil {
		s.n.log.Info("a rebuilt file of conflict-free tables has no number yet", "id", r.ID(), "error", err)
	}
	return out, nil
}

// addDamaged has the exchange know who has a tenant whose file here can't be used. It fails if nobody has.
func (s *sites) addDamaged(r *resident, f *crrfiles.File) error {
	all, err := crrfiles.SitesOf(r.Tenant)
	if err != nil {
		return err
	}
	v := s.n.cat.View()
	peers, _ := s.peersOf(all, r.Record(), v)
	if s.x == nil || !slices.ContainsFunc(peers, func(p exchange.Peer) bool { return p.Site != 0 }) {
		return wire.NewError(wire.CodeCorrupt, "the file of conflict-free tables is damaged (%s), and this node is the only site that has them: no copy can be fetched. "+
			"Stop the node, and put a backup of the file in its place, or what a tool like sqlite3's .recover makes of it", f.Path())
	}
	s.mu.Lock()
	k := s.mu.known[r.ID()]
	changed := k != nil && !slices.Equal(k.peers, peers)
	if changed {
		k.peers = peers
	}
	s.mu.Unlock()
	if _, known := s.x.Status(r.ID()); changed || !known {
		s.x.Add(r.ID())
	}
	return nil
}

// careForDamaged rebuilds a file by itself, when waiting would save nothing.
func (s *sites) careForDamaged(ctx context.Context, r *resident, f *crrfiles.File, why *crrfiles.DamagedError, work *sync.WaitGroup) {
	if !why.Unopened {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.mu.known[r.ID()]
	now := time.Now()
	if k == nil || k.care.busy || now.Before(k.care.notYet) || !k.care.replaced.IsZero() && now.Sub(k.care.replaced) < k.care.rest() {
		return
	}
	select {
	case s.caring <- struct{}{}:
	default:
		return // as many as may be are under way
	}
	k.care.busy = true
	work.Go(func() {
		err := s.sentIsElsewhere(ctx, r, f)
		if err == nil {
			_, err = s.rebuildFile(ctx, r, f, why)
		}
		<-s.caring
		s.mu.Lock()
		k.care.done(taskReplace, err, time.Now())
		s.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			s.n.log.Warn("a damaged file of conflict-free tables is not rebuilt by itself yet", "tenant", string(r.Record().Name), "id", r.ID(), "error", err)
		}
	})
}

// sentIsElsewhere says, by its error, whether the sites that answer don't have all that this node's file had sent.
func (s *sites) sentIsElsewhere(ctx context.Context, r *resident, f *crrfiles.File) error {
	file, upto, known, err := f.OwnSent()
	if err != nil {
		return err
	}
	if !known {
		return errors.New("there is no record of what it has sent")
	}
	if err := s.addDamaged(r, f); err != nil {
		return err
	}
	all, err := crrfiles.SitesOf(r.Tenant)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(m crrfiles.Site) bool { return m.File == file })
	if i < 0 && upto == 0 {
		return nil // it never had a number
	}
	if i < 0 {
		return fmt.Errorf("no site of the tenant has the file %s", file)
	}
	if _, err := s.x.PullAll(ctx, r.ID()); err != nil { // they are asked; that nothing is brought here is no news
		return err
	}
	status, _ := s.x.Status(r.ID())
	for _, p := range status.Sites {
		if p.Connected && p.Vector[all[i].Site] >= upto {
			return nil
		}
	}
	return fmt.Errorf("no site that answers has all that it had sent, up to %s", upto)
}

// peersOf are the other nodes among sites of a tenant, the nearest first, and those that the catalogue does not know yet.
func (s *sites) peersOf(all []crrfiles.Site, rec tenant.Tenant, v *catalogue.View) (peers []exchange.Peer, strange []string) {
	g, _ := v.Group(rec.Group)
	for _, m := range inUse(all) {
		nd, ok := v.Node(m.Node)
		if !ok && m.Node != s.n.id.Node {
			strange = append(strange, m.Node)
		}
		if m.Node == s.n.id.Node || !ok || !rec.Placement.Allows(nd.Region) {
			continue
		}
		voter := slices.Contains(g.Members.Voters, m.Node)
		peers = append(peers, exchange.Peer{Node: m.Node, Site: m.Site, File: m.File, Backup: voter && !rec.Placement.Holds(nd.PoP, nd.Region)})
	}
	order := make([]string, 0, len(peers))
	for _, p := range peers {
		order = append(order, p.Node)
	}
	if s.n.repl != nil {
		s.n.repl.nearestFirst(v, order)
		slices.SortStableFunc(peers, func(a, b exchange.Peer) int { return slices.Index(order, a.Node) - slices.Index(order, b.Node) })
	}
	return peers, strange
}
