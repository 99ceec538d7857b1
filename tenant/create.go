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
	return nil
}

// New is the record of a tenant that is created at now. Group is the node's
// choice where o has none.
func New(id ID, name Name, o CreateOptions, group wire.GroupID, now time.Time) (Tenant, error) {
	if err := o.Validate(); err != nil {
		return Tenant{}, err
	}
	t := Tenant{
		ID: id, Name: name, Group: o.Group, Epoch: 1, State: StateActive,
		PageSize: o.PageSize, Created: Millis(now), Limits: o.Limits, Policy: 1,
	}
	if t.Group == 0 {
		t.Group = group
	}
	if t.PageSize == 0 {
		t.PageSize = DefaultPageSize
	}
	return t, t.Validate()
}
