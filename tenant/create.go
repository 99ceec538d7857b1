package tenant

import (
	"fmt"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// CreateOptions is what may be asked for at a tenant's creation. Zero fields
// leave the choice to the node.
type CreateOptions struct {
	PageSize uint32       `json:"page_size,omitempty"` // bytes; an import keeps that of the file
	Limits   Limits       `json:"limits,omitzero"`
	Group    wire.GroupID `json:"group,omitempty"`
	// Replicas is where copies that don't vote are to be kept; "" means on-demand.
	Replicas Replicas `json:"replicas,omitempty"`
	// Jurisdiction names the region that no copy may leave; "" means none.
	Jurisdiction string `json:"jurisdiction,omitempty"`
}

// Validate names the field that is wrong.
func (o CreateOptions) Validate() error {
	if o.PageSize != 0 {
		if err := CheckPageSize(o.PageSize); err != nil {
			return fmt.Errorf("page_size: %w", err)
		}
	}
	if err := o.Limits.Validate(); err != nil {
		return fmt.Errorf("limits: %w", err)
	}
	return o.placement().Validate()
}

func (o CreateOptions) placement() Placement {
	return Placement{Jurisdiction: o.Jurisdiction, Replicas: o.Replicas}
}

// New is the record of a tenant that is created at now. Group is the node's
// choice where o has none.
func New(id ID, name Name, o CreateOptions, group wire.GroupID, now time.Time) (Tenant, error) {
	if err := o.Validate(); err != nil {
		return Tenant{}, err
	}
	t := Tenant{
		ID: id, Name: name, Group: o.Group, Epoch: 1, State: StateActive,
		PageSize: o.PageSize, Created: Millis(now), Limits: o.Limits, Policy: 1, Placement: o.placement(),
	}
	if t.Group == 0 {
		t.Group = group
	}
	if t.PageSize == 0 {
		t.PageSize = DefaultPageSize
	}
	return t, t.Validate()
}
