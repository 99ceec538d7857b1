package sqlnode

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/crr/exchange"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/engine"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// Times of the retirement of sites that nobody has to ask for.
const (
	retireEvery = 10 * time.Second
	// retireRarely is how long a tenant is left alone at most after a failure.
	retireRarely = 10 * time.Minute
)

// siteKeeper retires sites of the tenants whose primary this node is: those of nodes that were removed, those that their node has replaced, and those
// of nodes that the tenant was taken from, once these have sent all. It is used by one goroutine.
type siteKeeper struct {
	s     *sites
	known map[tenant.ID]*keptSites // of tenants that are led here
}

// keptSites is what is remembered of one tenant.
type keptSites struct {
	seen  wire.TXID // of main, when all was read
	all   []crrfiles.Site
	since map[crr.SiteID]time.Time // when a node was first found to keep the tenant no more
	// Of silent sites: when it was last asked about them, and why which was not retired, as it was logged.
	judged time.Time
	spared string
	tries  int // that failed, in a row
	again  time.Time
	now    bool // it was looked at in this round
}

func (s *sites) keepSites(ctx context.Context) {
	k := &siteKeeper{s: s, known: map[tenant.ID]*keptSites{}}
	tick := time.NewTicker(retireEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		k.round(ctx)
	}
}

// round looks at all tenants that have conflict-free tables and are led here.
func (k *siteKeeper) round(ctx context.Context) {
	n := k.s.n
	for _, h := range n.groups.all() {
		if h.id == systemGroup || h.log().Primary() != nil {
			continue
		}
		for _, t := range h.pages.Tenants() {
			rec := t.Record()
			if rec.Tables == 0 || rec.State != tenant.StateActive || t.Failed() != nil || ctx.Err() != nil {
				continue
			}
			x := k.known[rec.ID]
			if x == nil {
				x = &keptSites{since: map[crr.SiteID]time.Time{}}
				k.known[rec.ID] = x
			}
			x.now = true
			now := time.Now()
			if now.Before(x.again) {
				continue
			}
			err := k.keep(ctx, newResident(t, h), x)
			if err == nil || ctx.Err() != nil {
				x.tries, x.again = 0, time.Time{}
				continue
			}
			x.again = now.Add(min(retireEvery<<min(x.tries, 10), retireRarely))
			x.tries++
			n.log.Info("a site is not retired yet", "tenant", string(rec.Name), "id", rec.ID, "error", err)
		}
	}
	for id, x := range k.known {
		if !x.now {
			delete(k.known, id)
		}
		x.now = false
	}
}

// keep retires what is due of one tenant.
func (k *siteKeeper) keep(ctx context.Context, r *resident, x *keptSites) error {
	ctx, cancel := context.WithTimeout(ctx, 2*leavingWait+bookmarkPatience)
	defer cancel()
	if at := r.Position().TXID; at != x.seen || x.all == nil {
		all, err := k.s.members(ctx, r)
		if err != nil {
			return err
		}
		x.all, x.seen = all, at
	}
	if err := k.s.count(ctx, r, x.all); err != nil {
		return err
	}
	stands, now, after := k.s.n.standsOf(r), time.Now(), k.s.n.cfg.CRRRetireAfter // periods, which no step of the wall clock may end
	list := due(x.all, stands, func(m crrfiles.Site) bool {
		if x.since[m.Site].IsZero() {
			x.since[m.Site] = now
		}
		return after <= 0 || now.Sub(x.since[m.Site]) < after
	})
	for site := range x.since {
		if !slices.ContainsFunc(list, func(y retiree) bool { return y.Site.Site == site }) {
			delete(x.since, site)
		}
	}
	err := k.retireDue(ctx, r, x, list)
	return errors.Join(err, k.retireSilent(ctx, r, x))
}

// retireDue retires what nobody has to hear of, or not to hear of.
func (k *siteKeeper) retireDue(ctx context.Context, r *resident, x *keptSites, list []retiree) error {
	if len(list) == 0 {
		return nil
	}
	// What is done for ever is decided by the catalogue as it is now.
	if err := k.s.n.refreshCatalogue(ctx); err != nil {
		return err
	}
	stands := k.s.n.standsOf(r)
	list = slices.DeleteFunc(list, func(y retiree) bool { return stands(x.all, y.Site) == holds })
	if len(list) == 0 {
		return nil
	}
	_, err := k.s.retire(ctx, r, list)
	return err
}

// due is the sites that are to be retired. patient says whether a node that keeps the tenant no more is still waited for.
func due(all []crrfiles.Site, stands func([]crrfiles.Site, crrfiles.Site) standing, patient func(crrfiles.Site) bool) []retiree {
	var list []retiree
	for _, m := range all {
		if m.State == crr.Retired {
			continue
		}
		switch stands(all, m) {
		case removed, renewed:
			list = append(list, retiree{Site: m})
		case quits:
			list = append(list, retiree{Site: m, ask: patient(m)})
		}
	}
	return list
}

// more is the retired sites of which a site that stays has got more meanwhile, and how much: the others would refuse that for ever, and
// with it all that this site has.
func more(all []crrfiles.Site, known []exchange.SiteStatus) crr.Vector {
	out := crr.Vector{}
	for _, m := range all {
		for _, o := range known {
			if m.State == crr.Retired && o.Vector[m.Site] > max(m.Final, out[m.Site]) {
				out[m.Site] = o.Vector[m.Site]
			}
		}
	}
	return out
}

// count lets count what sites that stay have of retired ones.
func (s *sites) count(ctx context.Context, r *resident, all []crrfiles.Site) error {
	if s.x == nil {
		return nil
	}
	status, _ := s.x.Status(r.ID())
	up := more(all, status.Sites)
	if len(up) == 0 {
		return nil
	}
	err := s.n.engine.Own(ctx, r.Tenant, r.q, func(c *sqlite.Conn) error {
		for site, final := range up {
			if err := engine.SetRetired(c, r.ID(), site, final); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		s.n.log.Info("more of retired sites counts: a site that stays has it", "tenant", string(r.Record().Name), "id", r.ID(), "sites", up.String())
		s.changedCatalogue()
	}
	return err
}

// linger is what is known of a tenant that this node keeps no more, and has a file of.
type linger struct {
	looked time.Time
	stay   bool
}

// lingerEvery is how often such a tenant is looked at.
const lingerEvery = 5 * time.Second

// stays says whether this node's copy of a tenant is to stay, and be a site in the exchange, although the tenant is not kept here any more: its site has not been retired yet,
// and may have what no other has. When all of it is elsewhere its file goes, too.
func (s *sites) stays(t *pagestore.Tenant) bool {
	rec := t.Record()
	if rec.Tables == 0 || t.Failed() != nil || rec.State == tenant.StateDeleted || s.n.groups.get(rec.Group) != nil {
		return false // as a voter the node has another copy, with the same file
	}
	f := s.files.Lookup(t)
	if f == nil || f.Failed() != nil {
		return false
	}
	if s.unsalvaged(t.ID()) {
		return true // of what a replaced file had, some is nowhere else
	}
	id, now := t.ID(), time.Now()
	s.mu.Lock()
	was, known := s.mu.lingering[id]
	s.mu.Unlock()
	if known && now.Sub(was.looked) < lingerEvery {
		return was.stay
	}
	ctx, cancel := context.WithTimeout(context.Background(), leavingWait)
	defer cancel()
	stay := s.looksUnsent(ctx, f)
	s.mu.Lock()
	defer s.mu.Unlock()
	if stay {
		s.mu.lingering[id] = linger{now, true}
	} else {
		delete(s.mu.lingering, id)
	}
	return stay
}

// looksUnsent says whether a file may have what no other site has. One that surely has not is removed.
func (s *sites) looksUnsent(ctx context.Context, f *crrfiles.File) bool {
	id, active, sent := f.Tenant(), false, true
	err := f.Write(ctx, func(w *crrfiles.Writer) error {
		all, err := w.Sites(id)
		if err != nil {
			return err
		}
		head := w.Site.Head()
		for _, m := range all {
			if m.Node == s.n.id.Node {
				active = active || m.State != crr.Retired
				sent = sent && head.Vector[m.Site] <= m.Final
			}
		}
		return nil
	})
	switch {
	case err != nil:
		s.n.log.Info("a copy with conflict-free tables stays for now", "id", id, "error", err)
		return true
	case active:
		return true
	case sent:
		if err := s.files.Remove(id); err != nil {
			s.n.log.Warn("the conflict-free tables of a tenant that is not kept here any more stay for now", "id", id, "error", err)
		}
	}
	return false
}
