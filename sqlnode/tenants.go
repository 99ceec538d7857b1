package sqlnode

import (
	"context"
	"crypto/rand"
	"errors"
	"math"
	"strings"

	"github.com/nearsql/nearsql/sqlnode/catalogue"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// tenantService is httpapi.Tenants: the life of tenants, as entries of their groups' logs.
type tenantService struct{ n *Node }

// importingPrefix begins the names of tenants that are being imported: nobody else sees them, and
// what a crash left of them is removed.
const importingPrefix = "importing-"

func hidden(name tenant.Name) bool { return strings.HasPrefix(string(name), importingPrefix) }

// wantNewName checks a name that somebody wants for a tenant. That it is free is decided by the catalogue.
func wantNewName(name string) (tenant.Name, error) {
	nm, err := tenant.ParseName(name)
	if err != nil {
		return "", wire.NewError(wire.CodeBadName, "%w", err)
	}
	if hidden(nm) {
		return "", wire.NewError(wire.CodeBadName, "tenant name %q: names that begin with %q are the node's own", name, importingPrefix)
	}
	return nm, nil
}

// groupFor is the group that a new tenant goes to, if this node is its primary; else the error says who is to be asked.
func (s tenantService) groupFor(ctx context.Context, o tenant.CreateOptions) (*hosted, error) {
	id := o.Group
	if id == 0 {
		id = defaultGroup
	}
	if id == systemGroup {
		return nil, wire.NewError(wire.CodeBadRequest, "group %d is the cluster's own: it takes no tenants", id)
	}
	h := s.n.groups.get(id)
	if h == nil {
		if _, ok := s.n.cat.View().Group(id); !ok {
			if err := s.n.refreshCatalogue(ctx); err != nil {
				return nil, err
			}
		}
		if _, ok := s.n.cat.View().Group(id); !ok {
			return nil, wire.NewError(wire.CodeNoSuchGroup, "there is no group %d", id)
		}
		node := s.n.memberOf(id)
		if node == "" {
			return nil, wire.NewError(wire.CodeUnreachable, "no member of group %d is known", id)
		}
		return nil, &httpapi.ElsewhereError{Node: node}
	}
	return h, s.n.wantPrimary(ctx, h)
}

// wantPrimary returns nil if this node is the primary of the group, else who is to be asked; it waits while that is not known.
func (n *Node) wantPrimary(ctx context.Context, h *hosted) error {
	late, cancel := context.WithTimeout(ctx, bookmarkPatience)
	defer cancel()
	l, err := h.awaitLeader(late)
	switch {
	case err != nil && ctx.Err() != nil:
		return wire.AsError(ctx.Err())
	case err != nil:
		return wire.NewError(wire.CodeNotPrimary, "group %d has no primary that this node knows of", h.id)
	case l.Primary:
		return nil
	}
	return &httpapi.ElsewhereError{Node: string(l.Leader)}
}

// Create implements httpapi.Tenants.
func (s tenantService) Create(ctx context.Context, name string, o tenant.CreateOptions) (tenant.Tenant, error) {
	nm, err := wantNewName(name)
	if err != nil {
		return tenant.Tenant{}, err
	}
	h, err := s.groupFor(ctx, o)
	if err != nil {
		return tenant.Tenant{}, err
	}
	if err := s.n.cfg.space.Fits(0); err != nil {
		return tenant.Tenant{}, wire.NewError(wire.CodeDiskFull, "this node's disk has no room for another tenant: %w", err)
	}
	rec, err := s.newRecord(nm, o)
	if err != nil {
		return tenant.Tenant{}, err
	}
	if err := s.n.wantJurisdiction(ctx, h.id, o.Jurisdiction); err != nil {
		return tenant.Tenant{}, err
	}
	err = s.n.claim(ctx, rec)
	if isCode(err, wire.CodeTenantExists) && s.freed(ctx, nm) {
		err = s.n.claim(ctx, rec)
	}
	if err != nil {
		return tenant.Tenant{}, err
	}
	r, err := s.create(ctx, h, rec)
	if err != nil {
		if !isCode(err, wire.CodeUnknownOutcome) {
			s.n.releaseLater(ctx, rec.ID)
		}
		return tenant.Tenant{}, err
	}
	s.n.dir.remember(name, r)
	s.n.log.Info("tenant created", "tenant", name, "id", rec.ID, "group", h.id)
	return r.Record(), nil
}

// freed frees a name that the catalogue holds for a tenant which was deleted: a crash came between the two.
func (s tenantService) freed(ctx context.Context, name tenant.Name) bool {
	t, ok := s.n.cat.View().Tenant(name)
	if !ok {
		return false
	}
	h := s.n.groups.get(t.Group)
	if h == nil || (quorum{h: h}).applied(ctx) != nil {
		return false
	}
	if p, err := h.pages.Tenant(t.ID); err != nil || p.Record().State != tenant.StateDeleted {
		return false
	}
	s.n.releaseLater(ctx, t.ID)
	return true
}

// newRecord is the record of a tenant that is about to be created.
func (s tenantService) newRecord(name tenant.Name, o tenant.CreateOptions) (tenant.Tenant, error) {
	id, err := tenant.NewID(rand.Reader)
	if err != nil {
		return tenant.Tenant{}, err
	}
	o.Limits = o.Limits.Or(s.n.cfg.Limits)
	rec, err := tenant.New(id, name, o, defaultGroup, s.n.cfg.Now())
	if err != nil {
		return tenant.Tenant{}, wire.NewError(wire.CodeBadRequest, "%w", err)
	}
	return rec, nil
}

// create makes the tenant in its group, whose primary this node is.
func (s tenantService) create(ctx context.Context, h *hosted, rec tenant.Tenant) (*resident, error) {
	if err := h.control(ctx, rec.ID, tenant.Created{Tenant: rec}); err != nil {
		return nil, leaderError(err)
	}
	t, err := h.pages.Tenant(rec.ID)
	if err != nil {
		return nil, wire.NewError(wire.CodeInternal, "the tenant was created, and can't be found: %w", err)
	}
	return newResident(t, h), nil
}

// List implements httpapi.Tenants. Of tenants whose group is not on this node it has what the catalogue has.
func (s tenantService) List(ctx context.Context, after string, limit int) ([]tenant.Tenant, error) {
	if err := s.n.refreshCatalogue(ctx); err != nil {
		return nil, err
	}
	v := s.n.cat.View()
	if limit <= 0 {
		limit = math.MaxInt
	}
	// What a group's own copy does not show, once it has all of its log, is gone or not there yet: the catalogue is told after the group.
	current := map[wire.GroupID]bool{}
	for _, h := range s.n.groups.all() {
		current[h.id] = (quorum{h: h, anywhere: true}).applied(ctx) == nil
	}
	var list []tenant.Tenant
	cursor := tenant.Name(after)
	for name := range names(v, cursor) {
		if len(list) == limit {
			break
		}
		t, ok := v.Tenant(name)
		if !ok || name == tenant.SystemName {
			continue
		}
		rec := tenant.Tenant{ID: t.ID, Name: t.Name, Group: t.Group, Epoch: 1, State: tenant.StateActive, PageSize: tenant.DefaultPageSize, Created: t.Changed,
			Policy: t.Policy, Placement: t.Placement}
		if h := s.n.groups.get(t.Group); h != nil {
			p, err := h.pages.Tenant(t.ID)
			if err == nil && !p.Bears(string(name)) || err != nil && current[t.Group] {
				continue
			}
			if err == nil {
				rec = p.Record()
			}
		}
		list = append(list, rec)
	}
	return list, nil
}

// names gives all names above after, in order. A list that is shorter than was asked for would be taken for the last.
func names(v *catalogue.View, after tenant.Name) func(yield func(tenant.Name) bool) {
	return func(yield func(tenant.Name) bool) {
		for {
			page := v.TenantNames(after, 1000)
			if len(page) == 0 {
				return
			}
			for _, name := range page {
				if !yield(name) {
					return
				}
			}
			after = page[len(page)-1]
		}
	}
}

// Get implements httpapi.Tenants.
func (s tenantService) Get(ctx context.Context, name string) (tenant.Tenant, error) {
	r, err := s.n.locate(ctx, name)
	if err == nil {
		_, err = s.n.home(r)
	}
	if err != nil {
		return tenant.Tenant{}, err
	}
	q := r.q
	q.anywhere = true
	if err := q.applied(ctx); err != nil {
		return tenant.Tenant{}, s.n.elsewhere(r.h, err)
	}
	if !r.Bears(name) {
		s.n.dir.forget(name)
		return tenant.Tenant{}, wire.NewError(wire.CodeNoSuchTenant, "no tenant is named %q", name)
	}
	return r.Record(), nil
}

// Delete implements httpapi.Tenants. The data stays on disk for the grace period.
func (s tenantService) Delete(ctx context.Context, name string) error {
	r, err := s.n.locate(ctx, name)
	if err == nil {
		_, err = s.n.home(r)
	}
	if err != nil {
		return err
	}
	if name == string(tenant.SystemName) {
		return wire.NewError(wire.CodeForbidden, "tenant %q is the cluster's own", name)
	}
	if err := s.n.wantPrimary(ctx, r.h); err != nil {
		return err
	}
	if err := s.delete(ctx, r); err != nil {
		return err
	}
	s.n.releaseLater(ctx, r.ID())
	return nil
}

func (s tenantService) delete(ctx context.Context, r *resident) error {
	rec := r.Record()
	err := r.h.control(ctx, r.ID(), tenant.Deleted{Time: tenant.Millis(s.n.cfg.Now())})
	var refused *tenant.EventRefusedError
	if errors.As(err, &refused) {
		return wire.NewError(wire.CodeForbidden, "%w", refused)
	}
	if err != nil {
		return leaderError(err)
	}
	s.n.dir.forget(string(rec.Name))
	s.n.engine.Forget(r.Tenant)
	s.n.log.Info("tenant deleted", "tenant", string(rec.Name), "id", r.ID())
	return nil
}

// purge removes the data of tenants whose grace period has ended, in the groups that this node leads.
func (s tenantService) purge(ctx context.Context) {
	before := s.n.cfg.Now().Add(-s.n.cfg.DeleteGrace)
	for _, h := range s.n.groups.all() {
		for _, t := range h.pages.Tenants() {
			rec := t.Record()
			if rec.State != tenant.StateDeleted || rec.Deleted.After(before) && !hidden(rec.Name) {
				continue
			}
			s.n.engine.Forget(t)
			if err := s.n.sites.files.Remove(t.ID()); err != nil {
				s.n.log.Warn("the conflict-free tables of a deleted tenant stay for now", "id", t.ID(), "error", err)
			}
			if h.log().Primary() != nil {
				continue
			}
			if err := h.control(ctx, t.ID(), tenant.Purged{Time: tenant.Millis(s.n.cfg.Now())}); err != nil {
				s.n.log.Warn("deleted tenant not removed yet", "tenant", string(rec.Name), "id", t.ID(), "error", err)
			} else {
				s.n.log.Info("deleted tenant removed", "tenant", string(rec.Name), "id", t.ID())
			}
		}
	}
}
