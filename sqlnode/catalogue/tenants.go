package catalogue

import (
	"time"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// Tenant is the row of a tenant: where to ask for it.
type Tenant struct {
	ID      tenant.ID
	Name    tenant.Name
	Group   wire.GroupID
	Live    bool // else it is gone: deleted, or never created; its name is free
	Changed time.Time
	Version uint64 // of its newest change
}

// In the table.
const (
	stateLive = "live"
	stateGone = "gone"
)
