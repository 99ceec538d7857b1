package sqlnode

import (
	"context"
	"sync"

	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// directory remembers the tenants of this node by name. What it says is checked against the
// tenant's own record, and looked up anew when that says otherwise.
type directory struct {
	mu struct {
		sync.RWMutex
		byName map[string]*resident
	}
}

// resident is a tenant on this node.
type resident struct {
	*pagestore.Tenant
	h     *hosted // nil where this node has no vote: the copy follows
	group wire.GroupID
	q     quorum
}

func newResident(t *pagestore.Tenant, h *hosted) *resident {
	return &resident{Tenant: t, h: h, group: h.id, q: quorum{h: h, t: t}}
}

func newDirectory() *directory {
	d := &directory{}
	d.mu.byName = map[string]*resident{}
	return d
}

// find returns the tenant that bears the name and is not deleted, if it is known to be here.
func (d *directory) find(name string) *resident {
	d.mu.RLock()
	r := d.mu.byName[name]
	d.mu.RUnlock()
	if r == nil {
		return nil
	}
	if !r.Bears(name) {
		d.forget(name)
		return nil
	}
	return r
}

func (d *directory) remember(name string, r *resident) {
	d.mu.Lock()
	d.mu.byName[name] = r
	d.mu.Unlock()
}

func (d *directory) forget(name string) {
	d.mu.Lock()
	delete(d.mu.byName, name)
	d.mu.Unlock()
}

// forgetGroup forgets the tenants of a group that this node has left.
func (d *directory) forgetGroup(h *hosted) {
	d.mu.Lock()
	for name, r := range d.mu.byName {
		if r.h == h {
			delete(d.mu.byName, name)
		}
	}
	d.mu.Unlock()
}

// locate finds the tenant of that name: here, or, as an httpapi.ElsewhereError, on another node.
func (n *Node) locate(ctx context.Context, name string) (*resident, error) {
	if r := n.dir.find(name); r != nil {
		if r.h == nil || n.groups.get(r.h.id) == r.h {
			return r, nil
		}
		n.dir.forget(name) // this node has left the group
	}
	nm, err := tenant.ParseAnyName(name)
	if err != nil {
		return nil, wire.NewError(wire.CodeBadName, "%w", err)
	}
	if nm == tenant.SystemName {
		return n.system()
	}
	if r, known, err := n.look(nm); known || err != nil {
		return r, err
	}
	// The catalogue here may not know yet what another node has been told.
	if err := n.refreshCatalogue(ctx); err != nil {
		return nil, err
	}
	r, known, err := n.look(nm)
	if known || err != nil {
		return r, err
	}
	if r, err := n.prove(ctx, nm); r != nil || err != nil {
		return r, err
	}
	if _, gone := n.cat.View().Gone(nm); gone {
		return nil, wire.NewError(wire.CodeTenantDeleted, "tenant %q was deleted", name)
	}
	return nil, wire.NewError(wire.CodeNoSuchTenant, "no tenant is named %q", name)
}

// look finds a tenant by what the catalogue here says now. The catalogue is no proof: where
// the group's own copy says otherwise, the group's primary is asked.
func (n *Node) look(name tenant.Name) (r *resident, known bool, err error) {
	t, ok := n.cat.View().Tenant(name)
	if !ok {
		return nil, false, nil
	}
	h := n.groups.get(t.Group)
	if h == nil {
		if n.repl != nil {
			if r := n.repl.find(t); r != nil && r.Bears(string(name)) {
				return r, true, nil
			}
		}
		node := n.memberOf(t.Group)
		if node == "" {
			return nil, false, wire.NewError(wire.CodeUnreachable, "no member is known of the group of tenant %q", string(name))
		}
		return nil, true, &httpapi.ElsewhereError{Node: node}
	}
	if p, err := h.pages.Tenant(t.ID); err == nil && p.Bears(string(name)) {
		r := newResident(p, h)
		n.dir.remember(string(name), r)
		return r, true, nil
	}
	// It is about to be created, or renamed, or this copy is behind.
	if err := n.elsewhere(h, nil); err != nil {
		return nil, true, err
	}
	return nil, false, nil
}

// prove finds a tenant that the catalogue has and this node's copy of its group does not show, as that was
// when it was called: after a start, and on a primary that was deposed, the copy is behind. It returns nil if there is none.
func (n *Node) prove(ctx context.Context, name tenant.Name) (*resident, error) {
	t, ok := n.cat.View().Tenant(name)
	if !ok {
		return nil, nil
	}
	h := n.groups.get(t.Group)
	if h == nil {
		return nil, nil
	}
	if err := (quorum{h: h, anywhere: true}).applied(ctx); err != nil {
		return nil, n.elsewhere(h, err)
	}
	r, _, err := n.look(name)
	return r, err
}

// memberOf is a node that can answer for a group that is not here: its primary as last heard of, or a voter.
func (n *Node) memberOf(id wire.GroupID) string {
	g, ok := n.cat.View().Group(id)
	if !ok {
		return ""
	}
	if g.Members.Primary != "" && g.Members.Primary != n.id.Node {
		return g.Members.Primary
	}
	for _, v := range append(append([]string(nil), g.Members.Voters...), g.Voters...) {
		if v != n.id.Node {
			return v
		}
	}
	return ""
}

// home is where the log of the tenant's group is: here, or the error says where.
func (n *Node) home(r *resident) (*hosted, error) {
	if r.h != nil {
		return r.h, nil
	}
	if node := n.memberOf(r.group); node != "" {
		return nil, &httpapi.ElsewhereError{Node: node}
	}
	return nil, wire.NewError(wire.CodeUnreachable, "no member of the tenant's group is known")
}
