package tenant

import (
	"context"
	"fmt"
)

// Catalogue is the directory of all tenants. Package tenanttest has the suite
// that each implementation passes, and one in memory.
//
// Of the tenants that bear one name at most one is not deleted.
type Catalogue interface {
	// Create adds a record. Its error is an *ExistsError when a tenant that is
	// not deleted has the name, or any tenant the id.
	Create(ctx context.Context, t Tenant) error
	// Get finds a tenant, deleted or not. Its error is a *NoSuchTenantError when there is none.
	Get(ctx context.Context, id ID) (Tenant, error)
	// ByName finds the tenant that bears a name: the one that is not deleted,
	// else the one deleted last. Its error is a *NoSuchTenantError when there is none.
	ByName(ctx context.Context, name Name) (Tenant, error)
	// List gives at most limit tenants that are not deleted, by name, from the
	// first whose name is above after.
	List(ctx context.Context, after Name, limit int) ([]Tenant, error)
	// ListDeleted gives at most limit deleted tenants, by id, from the first
	// whose id is above after.
	ListDeleted(ctx context.Context, after ID, limit int) ([]Tenant, error)
	// Update puts next in the place of old. Its error is a *ChangedError when the
	// record is not equal to old, a *NoSuchTenantError when there is none, an
	// *ExistsError when another tenant has next's name.
	Update(ctx context.Context, old, next Tenant) error
	// Remove takes out a deleted tenant whose data is gone. Its error is a
	// *ChangedError when the record is not equal to old.
	Remove(ctx context.Context, old Tenant) error
}

// NoSuchTenantError says that there is no tenant of a name or id.
type NoSuchTenantError struct {
	Name Name
	ID   ID // where it was asked for by id
}

func (e *NoSuchTenantError) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("no tenant has the id %s", e.ID)
	}
	return fmt.Sprintf("no tenant is named %q", string(e.Name))
}

// ExistsError says that a name, or an id, is taken.
type ExistsError struct {
	Name Name
	ID   ID // of the tenant that has it
}

func (e *ExistsError) Error() string {
	return fmt.Sprintf("tenant %q exists (id %s)", string(e.Name), e.ID)
}

// DeletedError says that a tenant was deleted, and may be undeleted yet.
type DeletedError struct{ Tenant Tenant }

func (e *DeletedError) Error() string {
	return fmt.Sprintf("tenant %q was deleted at %s", string(e.Tenant.Name), e.Tenant.Deleted.Format("2006-01-02T15:04:05Z07:00"))
}

// FrozenError says that a tenant takes no writes.
type FrozenError struct{ Name Name }

func (e *FrozenError) Error() string {
	return fmt.Sprintf("tenant %q is frozen: it takes no writes", string(e.Name))
}

// ChangedError says that a record is not what the caller believed: another
// change came first.
type ChangedError struct {
	ID  ID
	Now Tenant
}

func (e *ChangedError) Error() string {
	return fmt.Sprintf("tenant %s was changed by another request", e.ID)
}
