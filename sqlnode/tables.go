package sqlnode

import (
	"context"
	"errors"
	"fmt"

	"github.com/nearsql/nearsql/crr/exchange"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/wire"
)

// Tables implements httpapi.Tables: how conflict-free tables stand here, if this node is a site of the tenant.
func (s tenantService) Tables(ctx context.Context, name string) (httpapi.TablesInfo, error) {
	info := httpapi.TablesInfo{Node: s.n.id.Node, Tables: []httpapi.TableInfo{}, Sites: []httpapi.SiteInfo{}}
	r, err := s.n.locate(ctx, name)
	if err != nil {
		return info, err
	}
	if err := s.n.writeLocal(ctx, r); err != nil {
		return info, err
	}
	f, err := s.n.sites.files.Open(ctx, r.Tenant)
	if errors.Is(err, crrfiles.ErrNone) {
		return info, wire.NewError(wire.CodeNotFound, "tenant %q has no conflict-free tables", name)
	}
	if err != nil {
		return info, err
	}
	if why := f.Failed(); why != nil {
		info.Problem = why.Error()
		return info, nil
	}
	head, err := f.Head(ctx)
	if err != nil {
		return info, err
	}
	info.Schema, info.Site = head.Schema, int64(head.Site)
	if st := f.Schema(); st != nil {
		for _, t := range st.Tables {
			columns := map[string]string{}
			for _, c := range t.Columns {
				columns[c.Name] = c.Kind.String()
			}
			info.Tables = append(info.Tables, httpapi.TableInfo{Name: t.Name, Columns: columns})
		}
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

// siteInfo is what is known here of another site.
func siteInfo(p exchange.SiteStatus, status exchange.Status) httpapi.SiteInfo {
	i := httpapi.SiteInfo{Site: int64(p.Site), Node: p.Node, Connected: p.Connected, LagMS: p.Lag.Milliseconds(), More: p.More, Failures: p.Failures, Backup: p.Backup}
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
