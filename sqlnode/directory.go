package sqlnode

import (
	"slices"
	"strings"
	"sync"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// directory finds tenants by name. It only remembers: what it says is checked
// against the tenant's own record, and looked up anew when that says otherwise.
type directory struct {
	groups []*hosted

	mu struct {
		sync.RWMutex
		byName map[string]*resident
	}
}

// resident is a tenant on this node.
type resident struct {
	*pagestore.Tenant
	h *hosted
	q quorum
}

func newDirectory(groups []*hosted) *directory {
	d := &directory{groups: groups}
	d.mu.byName = map[string]*resident{}
	return d
}

// find returns the tenant that bears the name and is not deleted.
func (d *directory) find(name string) (*resident, *wire.Error) {
	d.mu.RLock()
	r := d.mu.byName[name]
	d.mu.RUnlock()
	if r != nil && r.Bears(name) {
		return r, nil
	}
	return d.search(name)
}

func (d *directory) search(name string) (*resident, *wire.Error) {
	if _, err := tenant.ParseAnyName(name); err != nil {
		return nil, wire.NewError(wire.CodeBadName, "%w", err)
	}
	deleted := false
	for _, h := range d.groups {
		for _, t := range h.pages.Tenants() {
			rec := t.Record()
			if string(rec.Name) != name {
				continue
			}
			if rec.State == tenant.StateDeleted {
				deleted = true
				continue
			}
			r := &resident{Tenant: t, h: h, q: quorum{h, t}}
			d.mu.Lock()
			d.mu.byName[name] = r
			d.mu.Unlock()
			return r, nil
		}
	}
	d.forget(name)
	if deleted {
		return nil, wire.NewError(wire.CodeTenantDeleted, "tenant %q was deleted", name)
	}
	return nil, wire.NewError(wire.CodeNoSuchTenant, "no tenant is named %q", name)
}

func (d *directory) forget(name string) {
	d.mu.Lock()
	delete(d.mu.byName, name)
	d.mu.Unlock()
}

// list returns the records of tenants that are not deleted, by name, above after.
func (d *directory) list(after string, limit int) []tenant.Tenant {
	var all []tenant.Tenant
	for _, h := range d.groups {
		for _, t := range h.pages.Tenants() {
			if rec := t.Record(); rec.State != tenant.StateDeleted && string(rec.Name) > after && !hidden(rec.Name) {
				all = append(all, rec)
			}
		}
	}
	slices.SortFunc(all, func(a, b tenant.Tenant) int { return strings.Compare(string(a.Name), string(b.Name)) })
	if limit > 0 && len(all) > limit {
		all = all[:limit]
	}
	return all
}
