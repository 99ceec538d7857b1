package sqlnode

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/crr/exchange"
	"github.com/nearsql/nearsql/sqlnode/catalogue"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/engine"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// A site is retired by the tenant's primary, in steps that can be repeated: it is declared to be leaving; its node, if it is asked, says
// that it writes no more and how far it got; all other sites are asked for what they have of it, so that this node has all of that; and
// it is declared retired there. What it wrote after that, and nobody has, is refused for ever; its node writes it anew under
// another number if it comes back.

// leaving asks a node to say that a site of its takes no more writes. It is JSON between nodes.
type leaving struct {
	Tenant string     `json:"tenant"`
	Site   crr.SiteID `json:"site"`
	// Schema, if not 0: instead, that it has made that change of the conflict-free schema.
	Schema uint64 `json:"schema,omitempty"`
}

// leftAnswer is how far the site got.
type leftAnswer struct {
	Final crr.HLC      `json:"final,string"`
	Error *systemError `json:"error,omitempty"`
}

// pathLeaving is where nodes are asked.
const pathLeaving = "/internal/v1/sites/leaving"

// leavingWait bounds how long a node waits until it sees that its site is leaving.
const leavingWait = 5 * time.Second

// retiree is a site that is to be retired.
type retiree struct {
	crrfiles.Site
	ask    bool // its node is to say that it writes no more
	silent bool // nobody hears of its node: it stays what it is if it is not retired after all
}

// RetireSites implements httpapi.TableCommands.
func (s tenantService) RetireSites(ctx context.Context, name string, o httpapi.RetireOptions) ([]httpapi.RetiredSite, error) {
	r, err := s.tablesPrimary(ctx, name)
	if err != nil {
		return nil, err
	}
	all, err := s.n.sites.members(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := s.n.refreshCatalogue(ctx); err != nil {
		return nil, err
	}
	list, err := chosen(all, o, s.n.standsOf(r))
	if err != nil {
		return nil, err
	}
	if err := s.n.sites.count(ctx, r, all); err != nil {
		return nil, err
	}
	return s.n.sites.retire(ctx, r, list)
}

// standing is what a site's node is to the tenant.
type standing uint8

const (
	holds   standing = iota + 1 // its node keeps the tenant for good: the site is in use
	quits                       // it keeps it no more
	removed                     // it is none of the cluster's any more
	renewed                     // it has another site by now
)

// standsOf says what the nodes of the tenant's sites are to it, by the catalogue as it is here.
func (n *Node) standsOf(r *resident) func(all []crrfiles.Site, m crrfiles.Site) standing {
	v := n.cat.View()
	g, _ := v.Group(r.group)
	p := r.Record().Placement
	return func(all []crrfiles.Site, m crrfiles.Site) standing {
		nd, known := v.Node(m.Node)
		switch {
		case known && nd.State == catalogue.NodeRemoved:
			return removed
		case slices.ContainsFunc(all, func(o crrfiles.Site) bool { return o.Node == m.Node && o.Site > m.Site }):
			return renewed
		case !known, p.Holds(nd.PoP, nd.Region), slices.Contains(g.Members.Voters, m.Node), slices.Contains(g.Members.Learners, m.Node), slices.Contains(g.Voters, m.Node):
			return holds // of a node that is not known nothing is
		}
		return quits
	}
}

// chosen is the sites that a command means.
func chosen(all []crrfiles.Site, o httpapi.RetireOptions, stands func([]crrfiles.Site, crrfiles.Site) standing) ([]retiree, error) {
	var list []retiree
	for _, m := range all {
		named := slices.Contains(o.Sites, int64(m.Site))
		if !named && (!slices.Contains(o.Nodes, m.Node) || m.State == crr.Retired) {
			continue
		}
		st := stands(all, m)
		if st == holds && m.State != crr.Retired && !o.Force {
			return nil, wire.NewError(wire.CodeConflict,
				"site %d is the copy that node %s has in use: remove the node, or place the tenant elsewhere; to retire it in spite of that is --force, and what it has not sent it writes anew when it is back", m.Site, m.Node)
		}
		list = append(list, retiree{Site: m, ask: !o.Force && st == quits && m.State != crr.Retired})
	}
	for _, want := range o.Sites {
		if !slices.ContainsFunc(list, func(x retiree) bool { return int64(x.Site.Site) == want }) {
			return nil, wire.NewError(wire.CodeNotFound, "the tenant has no site %d", want)
		}
	}
	for _, want := range o.Nodes {
		if !slices.ContainsFunc(list, func(x retiree) bool { return x.Node == want }) {
			return nil, wire.NewError(wire.CodeNotFound, "node %q has no site of the tenant that is not retired", want)
		}
	}
	return list, nil
}

// tablesPrimary is the tenant's copy here, which has all that was answered, if this node is its primary; else the error says who is.
func (s tenantService) tablesPrimary(ctx context.Context, name string) (*resident, error) {
	r, err := s.n.locate(ctx, name)
	if err != nil {
		return nil, err
	}
	h, err := s.n.home(r)
	if err != nil {
		return nil, err
	}
	if err := s.n.wantPrimary(ctx, h); err != nil {
		return nil, err
	}
	if err := r.q.Confirm(ctx); err != nil {
		return nil, s.n.elsewhere(h, err)
	}
	if !r.Bears(name) {
		s.n.dir.forget(name)
		return nil, wire.NewError(wire.CodeNoSuchTenant, "no tenant is named %q", name)
	}
	return r, nil
}

// members are the tenant's own sites, all that ever were, as main says here.
func (s *sites) members(ctx context.Context, r *resident) (all []crrfiles.Site, err error) {
	f, err := s.files.Open(ctx, r.Tenant)
	if errors.Is(err, crrfiles.ErrNone) {
		return nil, wire.NewError(wire.CodeNotFound, "tenant %q has no conflict-free tables", string(r.Record().Name))
	}
	if err != nil {
		return nil, tablesError(err)
	}
	err = f.Write(ctx, func(w *crrfiles.Writer) (err error) {
		all, err = w.Sites(r.ID())
		return err
	})
	return all, tablesError(err)
}

// retire ends sites of a tenant whose primary this node is.
func (s *sites) retire(ctx context.Context, r *resident, list []retiree) ([]httpapi.RetiredSite, error) {
	return s.retireWithout(ctx, r, list, nil)
}

// retireWithout is retire, and does not wait for what the sites in spare have. What one of them has more counts when it is back (count).
func (s *sites) retireWithout(ctx context.Context, r *resident, list []retiree, spare []crr.SiteID) ([]httpapi.RetiredSite, error) {
	var begin []crr.SiteID
	for _, x := range list {
		if x.State == crr.Active && !x.silent {
			begin = append(begin, x.Site.Site)
		}
	}
	if len(begin) > 0 {
		if err := s.n.engine.Own(ctx, r.Tenant, r.q, func(c *sqlite.Conn) error { return engine.SetLeaving(c, r.ID(), begin) }); err != nil {
			return nil, err
		}
	}
	least := crr.Vector{}
	for _, x := range list {
		if !x.ask {
			continue
		}
		final, err := s.askLeaving(ctx, r, x.Site, 0)
		if err != nil {
			return nil, wire.NewError(wire.CodeUnreachable,
				"site %d takes no new writes, and is not retired yet: node %s does not say that it has sent all (%w); ask again, or give up what it has not sent by --force", x.Site.Site, x.Node, err)
		}
		least[x.Site.Site] = final
	}
	for _, x := range list {
		spare = append(spare, x.Site.Site)
	}
	have, err := s.gather(ctx, r, spare, least)
	if err != nil {
		return nil, err
	}
	out := make([]httpapi.RetiredSite, 0, len(list))
	err = s.n.engine.Own(ctx, r.Tenant, r.q, func(c *sqlite.Conn) error {
		out = out[:0]
		here := s.silentHere(r.ID())
		for _, x := range list {
			if x.silent && here[x.Site.Site] == 0 {
				return wire.NewError(wire.CodeConflict, "node %s of site %d is back", x.Node, x.Site.Site)
			}
			final := max(have[x.Site.Site], x.Final)
			if err := engine.SetRetired(c, r.ID(), x.Site.Site, final); err != nil {
				return err
			}
			out = append(out, httpapi.RetiredSite{Site: int64(x.Site.Site), Node: x.Node, Final: final.Time()})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, x := range out {
		s.n.log.Info("site retired", "tenant", string(r.Record().Name), "id", r.ID(), "site", x.Site, "node", x.Node, "final", x.Final)
	}
	s.changedCatalogue()
	return out, nil
}

// gather brings here all that the sites have but for those in spare, and least of those that go; it returns what is here then.
func (s *sites) gather(ctx context.Context, r *resident, spare []crr.SiteID, least crr.Vector) (crr.Vector, error) {
	f, err := s.files.Open(ctx, r.Tenant)
	if err != nil {
		return nil, tablesError(err)
	}
	if s.x != nil {
		if err := s.lookNow(ctx, r); err != nil {
			return nil, err
		}
		missing, err := s.x.PullAll(ctx, r.ID())
		if err != nil {
			return nil, wire.NewError(wire.CodeUnreachable, "%w", err)
		}
		missing = slices.DeleteFunc(missing, func(u exchange.Unreached) bool {
			return slices.Contains(spare, u.Site)
		})
		if len(missing) > 0 {
			return nil, unreached(missing)
		}
	}
	head, err := f.Head(ctx)
	if err != nil {
		return nil, tablesError(err)
	}
	if !head.Vector.Covers(least) {
		return nil, wire.NewError(wire.CodeUnreachable, "what the sites wrote last has not come here yet")
	}
	return head.Vector, nil
}

// askLeaving asks a site's node to say that it writes no more or, if version is not 0, that it has made that change of the schema; and how far it got.
func (s *sites) askLeaving(ctx context.Context, r *resident, m crrfiles.Site, version uint64) (crr.HLC, error) {
	ctx, cancel := context.WithTimeout(ctx, leavingWait+2*time.Second)
	defer cancel()
	if m.Node == s.n.id.Node {
		return s.leftHere(ctx, r.ID(), m.Site, version)
	}
	if s.n.net == nil {
		return 0, errNoSiteKnown
	}
	var a leftAnswer
	if err := s.n.postJSON(ctx, m.Node, pathLeaving, leaving{r.ID().String(), m.Site, version}, &a); err != nil {
		return 0, err
	}
	if a.Error != nil {
		return 0, wire.NewError(a.Error.Code, "%s", a.Error.Message)
	}
	return a.Final, nil
}

// leftHere says how far a site of this node got, once no write can follow: main shows here that the site is leaving, and every turn at its file begins by
// looking at that. With a version, no write under an older schema can follow.
func (s *sites) leftHere(ctx context.Context, id tenant.ID, site crr.SiteID, version uint64) (final crr.HLC, err error) {
	ctx, cancel := context.WithTimeout(ctx, leavingWait)
	defer cancel()
	for {
		f, err := s.file(ctx, id)
		if err != nil {
			return 0, tablesError(err)
		}
		seen := false
		err = f.Write(ctx, func(w *crrfiles.Writer) error {
			all, err := w.Sites(id)
			if err != nil {
				return err
			}
			head := w.Site.Head()
			i := slices.IndexFunc(all, func(m crrfiles.Site) bool { return m.Site == site })
			seen = head.Site != site || i >= 0 && all[i].State != crr.Active
			if version > 0 {
				seen = head.Schema >= version
			}
			final = head.Vector[site]
			return nil
		})
		if err != nil {
			return 0, tablesError(err)
		}
		if seen {
			return final, nil
		}
		if pause(ctx, 20*time.Millisecond); ctx.Err() != nil {
			return 0, wire.NewError(wire.CodeStale, "this node does not see yet what its site %d is asked for", site)
		}
	}
}

func (s *sites) serveLeaving(w http.ResponseWriter, r *http.Request) {
	var (
		ask leaving
		a   leftAnswer
	)
	err := json.NewDecoder(io.LimitReader(r.Body, maxCall)).Decode(&ask)
	if err != nil {
		err = wire.NewError(wire.CodeBadJSON, "%w", err)
	} else {
		var id tenant.ID
		if id, err = wire.ParseTenantID(ask.Tenant); err != nil {
			err = wire.NewError(wire.CodeBadRequest, "%w", err)
		} else {
			a.Final, err = s.leftHere(r.Context(), id, ask.Site, ask.Schema)
		}
	}
	if err != nil {
		e := wire.AsError(err)
		a.Error = &systemError{e.Code, e.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a) // who asked is gone if this fails
}
