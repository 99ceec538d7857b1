package catalogue

import (
	"context"
	"fmt"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// Place notes where copies of a live tenant are to be. Policy is the number that the tenant's record has with that placement: when the
// row has it already, or a higher one, it stays as it is, without an error; so changes may come late and in any order. Its error is a
// *tenant.NoSuchTenantError when no live tenant has the id, a *PlacementError when the row has another placement of the same number.
func (w *Writer) Place(ctx context.Context, id tenant.ID, policy uint32, p tenant.Placement) error {
	if id.IsZero() || id == tenant.SystemID() {
		return &InvalidError{Err: fmt.Errorf("the id %s is reserved", id)}
	}
	placement, err := checkPlacement(policy, p)
	if err != nil {
		return err
	}
	r, err := w.change(ctx, fmt.Sprintf("place tenant %s", id), []wire.Statement{stmt(
		`UPDATE tenants SET policy = ?2, placement = ?3, changed = ?4, version = `+next+` WHERE id = ?1 AND policy < ?2 AND state = 'live'`,
		idValue(id), wire.Integer(int64(policy)), placement, millis(w.now()))},
		stmt(`SELECT `+tenantColumns+` FROM tenants WHERE id = ?1 AND state = 'live'`, idValue(id)))
	if err != nil {
		return err
	}
	if len(r[0].Rows) == 0 {
		return &tenant.NoSuchTenantError{ID: id}
	}
	t, err := readTenant(r[0].Rows[0])
	switch {
	case err != nil:
		return err
	case t.Policy < policy:
		return fmt.Errorf("catalogue: place tenant %s: no row was changed", id)
	case t.Policy == policy && t.Placement != p:
		return &PlacementError{Have: *t}
	}
	return nil
}

// checkPlacement returns a placement as it is in the table, or says what is wrong with it.
func checkPlacement(policy uint32, p tenant.Placement) (wire.Value, error) {
	if policy == 0 {
		return wire.Value{}, &InvalidError{Err: fmt.Errorf("policy 0: want a number from 1 up")}
	}
	if err := p.Validate(); err != nil {
		return wire.Value{}, &InvalidError{Err: err}
	}
	return placementText(p)
}
