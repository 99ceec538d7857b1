package tenanttest

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/nearsql/nearsql/tenant"
)

// Memory is a tenant.Catalogue without durability.
type Memory struct {
	mu struct {
		sync.Mutex
		tenants map[tenant.ID]tenant.Tenant
	}
}

var _ tenant.Catalogue = (*Memory)(nil)

// NewMemory gives an empty catalogue.
func NewMemory() *Memory {
	m := &Memory{}
	m.mu.tenants = make(map[tenant.ID]tenant.Tenant)
	return m
}

// Create implements tenant.Catalogue.
func (m *Memory) Create(ctx context.Context, t tenant.Tenant) error {
	if err := t.Validate(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.mu.tenants[t.ID]; ok {
		return &tenant.ExistsError{Name: old.Name, ID: old.ID}
	}
	return m.putLocked(t)
}

// putLocked stores t unless another tenant that is not deleted has its name.
func (m *Memory) putLocked(t tenant.Tenant) error {
	if t.State != tenant.StateDeleted {
		for _, other := range m.mu.tenants {
			if other.ID != t.ID && other.Name == t.Name && other.State != tenant.StateDeleted {
				return &tenant.ExistsError{Name: other.Name, ID: other.ID}
			}
		}
	}
	m.mu.tenants[t.ID] = t
	return nil
}

// Get implements tenant.Catalogue.
func (m *Memory) Get(ctx context.Context, id tenant.ID) (tenant.Tenant, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.mu.tenants[id]
	if !ok {
		return tenant.Tenant{}, &tenant.NoSuchTenantError{ID: id}
	}
	return t, nil
}

// ByName implements tenant.Catalogue.
func (m *Memory) ByName(ctx context.Context, name tenant.Name) (tenant.Tenant, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found tenant.Tenant
	for _, t := range m.mu.tenants {
		if t.Name != name {
			continue
		}
		if t.State != tenant.StateDeleted {
			return t, nil
		}
		if found.ID.IsZero() || t.Deleted.After(found.Deleted) {
			found = t
		}
	}
	if found.ID.IsZero() {
		return tenant.Tenant{}, &tenant.NoSuchTenantError{Name: name}
	}
	return found, nil
}

// List implements tenant.Catalogue.
func (m *Memory) List(ctx context.Context, after tenant.Name, limit int) ([]tenant.Tenant, error) {
	return m.list(limit, func(t tenant.Tenant) bool {
		return t.State != tenant.StateDeleted && t.Name > after
	}, func(a, b tenant.Tenant) int { return cmp.Compare(a.Name, b.Name) }), nil
}

// ListDeleted implements tenant.Catalogue.
func (m *Memory) ListDeleted(ctx context.Context, after tenant.ID, limit int) ([]tenant.Tenant, error) {
	return m.list(limit, func(t tenant.Tenant) bool {
		return t.State == tenant.StateDeleted && bytes.Compare(t.ID[:], after[:]) > 0
	}, func(a, b tenant.Tenant) int { return bytes.Compare(a.ID[:], b.ID[:]) }), nil
}

func (m *Memory) list(limit int, want func(tenant.Tenant) bool, order func(a, b tenant.Tenant) int) []tenant.Tenant {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []tenant.Tenant
	for _, t := range m.mu.tenants {
		if want(t) {
			found = append(found, t)
		}
	}
	slices.SortFunc(found, order)
	return found[:min(max(limit, 0), len(found))]
}

// Update implements tenant.Catalogue.
func (m *Memory) Update(ctx context.Context, old, next tenant.Tenant) error {
	if err := next.Validate(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkLocked(old); err != nil {
		return err
	}
	if old.ID != next.ID {
		return &tenant.NoSuchTenantError{ID: next.ID}
	}
	return m.putLocked(next)
}

// Remove implements tenant.Catalogue.
func (m *Memory) Remove(ctx context.Context, old tenant.Tenant) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkLocked(old); err != nil {
		return err
	}
	if old.State != tenant.StateDeleted {
		return &tenant.ChangedError{ID: old.ID, Now: old}
	}
	delete(m.mu.tenants, old.ID)
	return nil
}

// checkLocked holds the record against what the caller believes it to be.
func (m *Memory) checkLocked(old tenant.Tenant) error {
	now, ok := m.mu.tenants[old.ID]
	switch {
	case !ok:
		return &tenant.NoSuchTenantError{ID: old.ID}
	case now != old:
		return &tenant.ChangedError{ID: old.ID, Now: now}
	}
	return nil
}
