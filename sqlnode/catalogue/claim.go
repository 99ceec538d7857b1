package catalogue

import (
	"context"
	"fmt"
	"time"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// Claim gives a name to a tenant that is to be in a group: one that has no row, or is gone (to be undeleted). If it has
// the name in that group already, it keeps it. Its error is a *tenant.ExistsError when another
// live tenant has the name, a *ClaimError when the tenant is live with another name or group, a *NoSuchGroupError.
// Policy and placement are those of the tenant's record; a row that has the same or a later policy, and one that is live already, keeps its own (see Place).
func (w *Writer) Claim(ctx context.Context, id tenant.ID, name tenant.Name, group wire.GroupID, policy uint32, p tenant.Placement) error {
	if err := checkClaim(id, name); err != nil {
		return err
	}
	placement, err := checkPlacement(policy, p)
	if err != nil {
		return err
	}
	r, err := w.change(ctx, fmt.Sprintf("claim the name %q", string(name)), []wire.Statement{stmt(
		`INSERT INTO tenants (`+tenantColumns+`) SELECT ?1, ?2, ?3, 'live', ?5, ?6, ?4, `+next+`
		WHERE EXISTS (SELECT 1 FROM groups WHERE id = ?3) AND NOT EXISTS (SELECT 1 FROM tenants WHERE name = ?2 AND state = 'live')
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, group_id = excluded.group_id, state = excluded.state,
			placement = iif(excluded.policy > tenants.policy, excluded.placement, tenants.placement), policy = max(excluded.policy, tenants.policy),
			changed = excluded.changed, version = excluded.version WHERE tenants.state = 'gone'`,
		idValue(id), wire.Text(string(name)), wire.Integer(int64(group)), millis(w.now()), wire.Integer(int64(policy)), placement)},
		askClaim(id, name), stmt(`SELECT 1 FROM groups WHERE id = ?1`, wire.Integer(int64(group))))
	if err != nil {
		return err
	}
	own, other, err := claimOf(r[0], id)
	switch {
	case err != nil:
		return err
	case own != nil && own.Live && own.Name == name && own.Group == group:
		return nil
	case own != nil && own.Live:
		return &ClaimError{Have: *own}
	case other != nil:
		return &tenant.ExistsError{Name: name, ID: other.ID}
	case len(r[1].Rows) == 0:
		return &NoSuchGroupError{ID: group}
	}
	return fmt.Errorf("catalogue: claim the name %q: no row was made", string(name))
}

// Rename gives the live tenant that is named from the name to. If it has that already, it keeps it. Its
// error is a *tenant.NoSuchTenantError when no live tenant has the id, a *ClaimError when it is named otherwise, a
// *tenant.ExistsError when another live tenant has the name.
func (w *Writer) Rename(ctx context.Context, id tenant.ID, from, to tenant.Name) error {
	if err := checkClaim(id, to); err != nil {
		return err
	}
	r, err := w.change(ctx, fmt.Sprintf("rename %q to %q", string(from), string(to)), []wire.Statement{stmt(
		`UPDATE tenants SET name = ?3, changed = ?4, version = `+next+` WHERE id = ?1 AND name = ?2 AND state = 'live'
		AND NOT EXISTS (SELECT 1 FROM tenants WHERE name = ?3 AND state = 'live')`,
		idValue(id), wire.Text(string(from)), wire.Text(string(to)), millis(w.now()))},
		askClaim(id, to))
	if err != nil {
		return err
	}
	own, other, err := claimOf(r[0], id)
	switch {
	case err != nil:
		return err
	case own == nil || !own.Live:
		return &tenant.NoSuchTenantError{ID: id}
	case own.Name == to:
		return nil
	case own.Name != from:
		return &ClaimError{Have: *own}
	case other != nil:
		return &tenant.ExistsError{Name: to, ID: other.ID}
	}
	return fmt.Errorf("catalogue: rename %q: no row was changed", string(from))
}

// Release frees the name of a tenant: it is gone. So it is when it has no row, or was gone before.
func (w *Writer) Release(ctx context.Context, id tenant.ID) error {
	if id == tenant.SystemID() {
		return &InvalidError{Err: fmt.Errorf("the tenant %q can't be released", string(tenant.SystemName))}
	}
	_, err := w.change(ctx, fmt.Sprintf("release tenant %s", id), []wire.Statement{stmt(
		`UPDATE tenants SET state = 'gone', changed = ?2, version = `+next+` WHERE id = ?1 AND state = 'live'`, idValue(id), millis(w.now()))})
	return err
}

// trimRows bounds one transaction of Trim.
const trimRows = 1000

// Trim deletes rows of tenants that are gone since before that time, the oldest first and at most 1000, and says how many. Before must be
// so long ago that such a tenant can't be undeleted.
func (w *Writer) Trim(ctx context.Context, before time.Time) (int, error) {
	upTo := fmt.Sprintf(`(SELECT max(version) FROM (SELECT version, changed FROM tenants WHERE state = 'gone' ORDER BY version LIMIT %d) WHERE changed < ?1)`, trimRows)
	all := []wire.Statement{
		stmt(`UPDATE meta SET value = max(value, coalesce(`+upTo+`, 0)) WHERE key = 'trimmed'`, millis(before)),
		stmt(`DELETE FROM tenants WHERE state = 'gone' AND version <= (SELECT value FROM meta WHERE key = 'trimmed')`),
	}
	r, err := w.db.Exec(ctx, all)
	if err != nil {
		return 0, fmt.Errorf("catalogue: trim tenants that are gone: %w", err)
	}
	if len(r) != len(all) {
		return 0, fmt.Errorf("catalogue: trim: %d results for %d statements", len(r), len(all))
	}
	return int(r[1].RowsAffected), nil
}

func checkClaim(id tenant.ID, name tenant.Name) error {
	if id.IsZero() || id == tenant.SystemID() {
		return &InvalidError{Err: fmt.Errorf("the id %s is reserved", id)}
	}
	if _, err := tenant.ParseName(string(name)); err != nil {
		return err
	}
	return nil
}

// askClaim reads the rows that a claim of a name by a tenant is about.
func askClaim(id tenant.ID, name tenant.Name) wire.Statement {
	return stmt(`SELECT `+tenantColumns+` FROM tenants WHERE id = ?1 OR name = ?2 AND state = 'live'`, idValue(id), wire.Text(string(name)))
}

// claimOf returns the tenant's own row and that of another with the name; nil for none.
func claimOf(r wire.Result, id tenant.ID) (own, other *Tenant, err error) {
	for _, row := range r.Rows {
		t, err := readTenant(row)
		switch {
		case err != nil:
			return nil, nil, err
		case t.ID == id:
			own = t
		default:
			other = t
		}
	}
	return own, other, nil
}
