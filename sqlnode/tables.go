package sqlnode

import (
	"context"
	"errors"
	"fmt"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/crr/exchange"
	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/engine"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/wire"
)

// Tables implements httpapi.Tables: how conflict-free tables stand here, if this node is a site of the tenant.
func (s tenantService) Tables(ctx context.Context, name string) (httpapi.TablesInfo, error) {
	info := httpapi.TablesInfo{Node: s.n.id.Node, Tables: []httpapi.TableInfo{}, Sites: []httpapi.SiteInfo{}, Members: []httpapi.SiteMember{}}
	r, err := s.n.locate(ctx, name)
	if err != nil {
		return info, err
	}
	if !s.n.isSite(r) {
		return info, s.n.toSite(ctx, r, true)
	}
	f, err := s.n.sites.files.Open(ctx, r.Tenant)
	if errors.Is(err, crrfiles.ErrNone) {
		return info, wire.NewError(wire.CodeNotFound, "tenant %q has no conflict-free tables", name)
	}
	var damaged *crrfiles.DamagedError
	if errors.As(err, &damaged) {
		info.Problem = damaged.Error()
		return info, nil
	}
	if err != nil {
		return info, tablesError(err)
	}
	head, err := f.Head(ctx)
	if err != nil {
		return info, tablesError(err)
	}
	info.Schema, info.Site, info.Care = head.Schema, int64(head.Site), s.n.sites.Caring(r.ID())
	info.Tables = tableInfos(f.Schema())
	if info.Members, err = s.n.sites.memberInfos(ctx, r); err != nil {
		return info, err
	}
	if s.n.sites.x == nil {
		return info, nil
	}
	status, _ := s.n.sites.x.Status(r.ID())
	for _, p := range status.Sites {
		info.Sites = append(info.Sites, siteInfo(p, status))
	}
	return info, nil
}

// tableInfos are the tables that there are, without those on their way to or from the strong schema.
func tableInfos(st *schema.State) []httpapi.TableInfo {
	out := []httpapi.TableInfo{}
	if st == nil {
		return out
	}
	for _, t := range st.Tables {
		if t.Gone != 0 || engine.IsMoving(t.Name) {
			continue
		}
		columns := map[string]string{}
		for _, k := range t.Key {
			columns[k.Name] = "key"
		}
		for _, c := range t.Live() {
			columns[c.Name] = c.Kind.String()
		}
		out = append(out, httpapi.TableInfo{Name: t.Name, Columns: columns})
	}
	return out
}

// memberInfos are the tenant's sites, all that ever were, as main says here.
func (s *sites) memberInfos(ctx context.Context, r *resident) ([]httpapi.SiteMember, error) {
	all, err := s.members(ctx, r)
	out := make([]httpapi.SiteMember, 0, len(all))
	for _, m := range all {
		i := httpapi.SiteMember{Site: int64(m.Site), Node: m.Node, State: "active"}
		switch m.State {
		case crr.Leaving:
			i.State = "leaving"
		case crr.Retired:
			t := m.Final.Time()
			i.State, i.Final = "retired", &t
		}
		out = append(out, i)
	}
	return out, err
}

// siteInfo is what is known here of another site.
func siteInfo(p exchange.SiteStatus, status exchange.Status) httpapi.SiteInfo {
	i := httpapi.SiteInfo{Site: int64(p.Site), Node: p.Node, Connected: p.Connected, LagMS: p.Lag.Milliseconds(), More: p.More, SilentMS: p.Silent.Milliseconds(), Failures: p.Failures, Backup: p.Backup}
	if h := status.Head.Vector[p.Site]; h != 0 {
		t := h.Time()
		i.Newest = &t
	}
	if p.Held != nil {
		i.Held = fmt.Sprintf("transactions up to %v ahead of this node's clock, since %s", p.Held.Ahead, p.Held.Since.UTC().Format("2006-01-02T15:04:05Z"))
	}
	if p.Trip > 0 {
		trip, offset := float64(p.Trip)/1e6, float64(p.Offset)/1e6
		i.TripMS, i.OffsetMS = &trip, &offset
	}
	return i
}
