package sqlnode

import (
	"context"
	"errors"
	"slices"

	"github.com/nearsql/nearsql/sqlnode/catalogue"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// placeTries bounds how often a change of placement that met another one is tried again.
const placeTries = 5

// Place implements httpapi.Tenants: the tenant's record says where copies may be, the catalogue tells the nodes.
func (s tenantService) Place(ctx context.Context, name string, p tenant.Placement) (tenant.Tenant, error) {
	var none tenant.Tenant
	if err := p.Validate(); err != nil {
		return none, wire.NewError(wire.CodeBadRequest, "%w", err)
	}
	if name == string(tenant.SystemName) {
		return none, wire.NewError(wire.CodeForbidden, "tenant %q is the cluster's own: every node has a copy", name)
	}
	r, err := s.n.locate(ctx, name)
	if err != nil {
		return none, err
	}
	h, err := s.n.home(r)
	if err != nil {
		return none, err
	}
	if err := s.n.wantPrimary(ctx, h); err != nil {
		return none, err
	}
	for try := 1; ; try++ {
		// A new primary knows what earlier ones decided once this has returned.
		if err := r.q.applied(ctx); err != nil {
			return none, s.n.elsewhere(h, err)
		}
		if !r.Bears(name) {
			s.n.dir.forget(name)
			return none, wire.NewError(wire.CodeNoSuchTenant, "no tenant is named %q", name)
		}
		rec, err := s.replace(ctx, h, r.Tenant, p)
		if refused := (*tenant.EventRefusedError)(nil); errors.As(err, &refused) {
			if try < placeTries { // another change came first
				continue
			}
			return none, wire.NewError(wire.CodeConflict, "%w", refused)
		}
		if err != nil {
			return none, err
		}
		if err := s.n.place(ctx, rec); err != nil {
			s.n.log.Warn("nodes learn later where replicas are to be", "tenant", name, "id", rec.ID, "error", err)
		}
		return rec, nil
	}
}

// replace logs the placement, in a group whose primary this node is, and returns the record with it. If that has it, there is nothing to log.
func (s tenantService) replace(ctx context.Context, h *hosted, t *pagestore.Tenant, p tenant.Placement) (tenant.Tenant, error) {
	rec := t.Record()
	if p.Jurisdiction == "" {
		p.Jurisdiction = rec.Placement.Jurisdiction
	}
	if p.Jurisdiction != rec.Placement.Jurisdiction {
		return rec, wire.NewError(wire.CodeConflict,
			"tenant %q has the jurisdiction %q: it can't be changed yet, that comes with moves of tenants between groups", string(rec.Name), rec.Placement.Jurisdiction)
	}
	if p == rec.Placement {
		return rec, nil
	}
	e := tenant.PlacementChanged{Time: tenant.Millis(s.n.cfg.Now()), Policy: rec.Policy + 1, Placement: p}
	if err := h.control(ctx, rec.ID, e); err != nil {
		if refused := (*tenant.EventRefusedError)(nil); errors.As(err, &refused) {
			return rec, err
		}
		return rec, leaderError(err)
	}
	s.n.log.Info("placement changed", "tenant", string(rec.Name), "id", rec.ID, "policy", e.Policy, "replicas", string(p.Replicas))
	// Not t.Record: another change may have followed.
	rec.Policy, rec.Placement = e.Policy, p
	return rec, nil
}

// jurisdictionHolds says whether all voters of a group, those that it has and those that it is to have, are in the region, and later ones will be.
func jurisdictionHolds(v *catalogue.View, g catalogue.Group, region string) bool {
	if g.Policy.Region != region {
		return false
	}
	for _, id := range slices.Concat(g.Voters, g.Members.Voters, g.Members.Learners) {
		if nd, ok := v.Node(id); !ok || nd.Region != region {
			return false
		}
	}
	return true
}

// wantJurisdiction refuses to make a tenant in a group that would hold copies of it outside its jurisdiction.
func (n *Node) wantJurisdiction(ctx context.Context, id wire.GroupID, region string) error {
	if region == "" {
		return nil
	}
	if err := n.refreshCatalogue(ctx); err != nil {
		return err
	}
	v := n.cat.View()
	if g, ok := v.Group(id); !ok || !jurisdictionHolds(v, g, region) {
		return wire.NewError(wire.CodeConflict, "group %d may have voters outside %s: a tenant of that jurisdiction needs a group that is kept in the region", id, region)
	}
	return nil
}

// healPlacement brings the placement of a tenant in the catalogue to that of its record, which this node, the primary of its group,
// has as of after the row was read.
func (k *keeper) healPlacement(ctx context.Context, h *hosted, t *pagestore.Tenant, row catalogue.Tenant) error {
	rec := t.Record()
	if row.Policy == rec.Policy && row.Placement == rec.Placement {
		return nil
	}
	if row.Policy >= rec.Policy {
		// The catalogue has a later one than the record: it was lost when the group was recovered from one copy, or this
		// primary has not applied it yet.
		if err := (quorum{h: h}).applied(ctx); err != nil {
			return err
		}
		for rec = t.Record(); rec.Policy < row.Policy || rec.Policy == row.Policy && rec.Placement != row.Placement; rec = t.Record() {
			if err := ctx.Err(); err != nil {
				return err
			}
			e := tenant.PlacementChanged{Time: tenant.Millis(k.n.cfg.Now()), Policy: rec.Policy + 1, Placement: rec.Placement}
			if err := h.control(ctx, rec.ID, e); err != nil {
				return leaderError(err)
			}
		}
		if rec.Policy == row.Policy {
			return nil
		}
	}
	return k.n.place(ctx, rec)
}
