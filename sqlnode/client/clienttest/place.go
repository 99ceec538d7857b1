package clienttest

import (
	"context"
	"slices"
	"time"

	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/tenant"
)

// SetCopies says what copies every tenant has; at first it has one, on this node.
func (n *Node) SetCopies(list []httpapi.CopyInfo) {
	n.seen.Lock()
	defer n.seen.Unlock()
	n.seen.copies = slices.Clone(list)
}

// Place implements httpapi.Tenants.
func (n *Node) Place(ctx context.Context, name string, p tenant.Placement) (tenant.Tenant, error) {
	t, err := n.Get(ctx, name)
	if err != nil {
		return t, err
	}
	if p.Jurisdiction == "" {
		p.Jurisdiction = t.Placement.Jurisdiction
	}
	placed, err := t.Apply(tenant.PlacementChanged{Time: tenant.Millis(time.Now()), Policy: t.Policy + 1, Placement: p})
	if err != nil {
		return t, err
	}
	return placed, n.catalogue.Update(ctx, t, placed)
}

// Copies implements httpapi.Tenants.
func (n *Node) Copies(ctx context.Context, name string) ([]httpapi.CopyInfo, error) {
	if _, err := n.Get(ctx, name); err != nil {
		return nil, err
	}
	n.seen.Lock()
	defer n.seen.Unlock()
	if n.seen.copies == nil {
		return []httpapi.CopyInfo{{Node: "test-1", PoP: "lab", Role: httpapi.CopyPrimary, State: httpapi.CopyInService, Epoch: "1"}}, nil
	}
	return slices.Clone(n.seen.copies), nil
}
