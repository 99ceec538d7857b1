package catalogue

import (
	"time"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// Tenant is the row of a tenant: where to ask for it.
type Tenant struct {
	ID    tenant.ID
	Name  tenant.Name
	Group wire.GroupID
	Live  bool // else it is gone: deleted, or never created; its name is free
	// Policy numbers Placement: it is that of the tenant's record, or of an earlier one. Where copies may be is for the
	// record to say: a feeder asks that before it gives anything away.
	Policy    uint32
	Placement tenant.Placement
	Changed   time.Time
	Version   uint64 // of its newest change
}

// placed says whether the tenant is one of View.Placed.
func (t *Tenant) placed() bool { return t.Live && t.Placement.Standing() }

// In the table.
const (
	stateLive = "live"
	stateGone = "gone"
)
