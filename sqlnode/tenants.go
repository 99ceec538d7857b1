package sqlnode

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// tenantService is httpapi.Tenants: the life of tenants, as entries of their groups' logs.
type tenantService struct{ n *Node }

// importingPrefix begins the names of tenants that are being imported: nobody else sees them, and
// what a crash left of them is removed.
const importingPrefix = "importing-"

func hidden(name tenant.Name) bool { return strings.HasPrefix(string(name), importingPrefix) }

// wantNewName checks a name that somebody wants for a tenant.
func (s tenantService) wantNewName(name string) (tenant.Name, error) {
	nm, err := tenant.ParseName(name)
	if err != nil {
		return "", wire.NewError(wire.CodeBadName, "%w", err)
	}
	if hidden(nm) {
		return "", wire.NewError(wire.CodeBadName, "tenant name %q: names that begin with %q are the node's own", name, importingPrefix)
	}
	if _, werr := s.n.dir.find(name); werr == nil {
		return "", wire.NewError(wire.CodeTenantExists, "tenant %q exists", name)
	} else if werr.Code != wire.CodeNoSuchTenant && werr.Code != wire.CodeTenantDeleted {
		return "", werr
	}
	return nm, nil
}

// Create implements httpapi.Tenants.
func (s tenantService) Create(ctx context.Context, name string, o tenant.CreateOptions) (tenant.Tenant, error) {
	s.n.life.Lock()
	defer s.n.life.Unlock()
	nm, err := s.wantNewName(name)
	if err != nil {
		return tenant.Tenant{}, err
	}
	r, err := s.create(ctx, nm, o)
	if err != nil {
		return tenant.Tenant{}, err
	}
	s.n.log.Info("tenant created", "tenant", name, "id", r.ID())
	return r.Record(), nil
}

func (s tenantService) create(ctx context.Context, name tenant.Name, o tenant.CreateOptions) (*resident, error) {
	id, err := tenant.NewID(rand.Reader)
	if err != nil {
		return nil, err
	}
	o.Limits = o.Limits.Or(s.n.cfg.Limits)
	rec, err := tenant.New(id, name, o, defaultGroup, s.n.cfg.Now())
	if err != nil {
		return nil, wire.NewError(wire.CodeBadRequest, "%w", err)
	}
	h := s.n.group(rec.Group)
	if h == nil || rec.Group == systemGroup {
		return nil, wire.NewError(wire.CodeBadRequest, "group %d takes no tenants here", rec.Group)
	}
	if err := h.control(ctx, id, tenant.Created{Tenant: rec}); err != nil {
		return nil, leaderError(err)
	}
	r, werr := s.n.dir.find(string(name))
	if werr != nil {
		return nil, werr
	}
	return r, nil
}

// List implements httpapi.Tenants.
func (s tenantService) List(_ context.Context, after string, limit int) ([]tenant.Tenant, error) {
	return s.n.dir.list(after, limit), nil
}

// Get implements httpapi.Tenants.
func (s tenantService) Get(_ context.Context, name string) (tenant.Tenant, error) {
	r, werr := s.n.dir.find(name)
	if werr != nil {
		return tenant.Tenant{}, werr
	}
	return r.Record(), nil
}

// Delete implements httpapi.Tenants. The data stays on disk for the grace period.
func (s tenantService) Delete(ctx context.Context, name string) error {
	s.n.life.Lock()
	defer s.n.life.Unlock()
	r, werr := s.n.dir.find(name)
	if werr != nil {
		return werr
	}
	return s.delete(ctx, r)
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

// purge removes the data of tenants whose grace period has ended.
func (s tenantService) purge(ctx context.Context) {
	before := s.n.cfg.Now().Add(-s.n.cfg.DeleteGrace)
	for _, h := range s.n.groups {
		for _, t := range h.pages.Tenants() {
			rec := t.Record()
			if rec.State != tenant.StateDeleted || rec.Deleted.After(before) && !hidden(rec.Name) {
				continue
			}
			s.n.engine.Forget(t)
			if err := h.control(ctx, t.ID(), tenant.Purged{Time: tenant.Millis(s.n.cfg.Now())}); err != nil {
				s.n.log.Warn("deleted tenant not removed yet", "tenant", string(rec.Name), "id", t.ID(), "error", err)
			} else {
				s.n.log.Info("deleted tenant removed", "tenant", string(rec.Name), "id", t.ID())
			}
		}
	}
}
