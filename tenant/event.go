package tenant

import (
	"fmt"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// Code says which step of a tenant's life a control entry of its group's log is.
type Code uint16

// The codes, as in FORMAT.md. A number is never given a second meaning.
const (
	CodeCreated          Code = 1
	CodeDeleted          Code = 2
	CodeUndeleted        Code = 3
	CodeRenamed          Code = 4
	CodeFrozen           Code = 5
	CodeThawed           Code = 6
	CodeLimitsChanged    Code = 7
	CodePlacementChanged Code = 8
	CodePurged           Code = 9
	CodeEpochRaised      Code = 10
	CodeTablesChanged    Code = 11
)

// String returns the code's name.
func (c Code) String() string {
	switch c {
	case CodeCreated:
		return "created"
	case CodeDeleted:
		return "deleted"
	case CodeUndeleted:
		return "undeleted"
	case CodeRenamed:
		return "renamed"
	case CodeFrozen:
		return "frozen"
	case CodeThawed:
		return "thawed"
	case CodeLimitsChanged:
		return "limits changed"
	case CodePlacementChanged:
		return "placement changed"
	case CodePurged:
		return "purged"
	case CodeEpochRaised:
		return "epoch raised"
	case CodeTablesChanged:
		return "conflict-free tables changed"
	}
	return fmt.Sprintf("control(%d)", uint16(c))
}

// Event is one step of a tenant's life: one of the structs below. Its time is
// the proposing node's, in the form of Millis.
type Event interface {
	Code() Code
	// apply gives the record after the event, or says why the state forbids it.
	apply(t Tenant) (Tenant, error)
}

// Created begins a tenant; it is applied to the zero Tenant.
type Created struct {
	Tenant Tenant `json:"tenant"`
}

// Deleted ends a tenant: it answers nothing from then on. Its data may go once
// its grace period, counted from Time, is over.
type Deleted struct {
	Time time.Time `json:"time"`
}

// Undeleted takes back a deletion.
type Undeleted struct {
	Time time.Time `json:"time"`
	// Name is what it is called from now on: the old name may have been given away.
	Name Name `json:"name"`
}

// Renamed gives the tenant another name.
type Renamed struct {
	Time time.Time `json:"time"`
	Name Name      `json:"name"`
}

// Frozen stops writes.
type Frozen struct {
	Time time.Time `json:"time"`
}

// Thawed lets writes go on.
type Thawed struct {
	Time time.Time `json:"time"`
}

// LimitsChanged replaces all limits.
type LimitsChanged struct {
	Time   time.Time `json:"time"`
	Limits Limits    `json:"limits"`
}

// PlacementChanged replaces the placement. Policy must be one more than
// before, so that of two changes made at once one is refused.
type PlacementChanged struct {
	Time      time.Time `json:"time"`
	Policy    uint32    `json:"policy"`
	Placement Placement `json:"placement"`
}

// Purged ends what Deleted began, once the grace period is over: the tenant's data
// goes for good. It leaves the record as it was; whoever keeps records forgets this one.
type Purged struct {
	Time time.Time `json:"time"`
}

// EpochRaised says that the tenant's history goes on here without what another part of it may have had: its group was recovered
// from one copy. Epoch is one more than before; TXIDs go on. Positions of earlier epochs may tell of what is lost.
type EpochRaised struct {
	Time  time.Time  `json:"time"`
	Epoch wire.Epoch `json:"epoch"`
}

// TablesChanged says that the tenant's conflict-free schema has the change of that number: nodes that hold a copy, and know no
// SQL, learn by it that they have a file to bring up.
type TablesChanged struct {
	Time    time.Time `json:"time"`
	Version uint64    `json:"version"`
}

// Code is CodeCreated.
func (Created) Code() Code { return CodeCreated }

// Code is CodeDeleted.
func (Deleted) Code() Code { return CodeDeleted }

// Code is CodeUndeleted.
func (Undeleted) Code() Code { return CodeUndeleted }

// Code is CodeRenamed.
func (Renamed) Code() Code { return CodeRenamed }

// Code is CodeFrozen.
func (Frozen) Code() Code { return CodeFrozen }

// Code is CodeThawed.
func (Thawed) Code() Code { return CodeThawed }

// Code is CodeLimitsChanged.
func (LimitsChanged) Code() Code { return CodeLimitsChanged }

// Code is CodePlacementChanged.
func (PlacementChanged) Code() Code { return CodePlacementChanged }

// Code is CodePurged.
func (Purged) Code() Code { return CodePurged }

// Code is CodeEpochRaised.
func (EpochRaised) Code() Code { return CodeEpochRaised }

// Code is CodeTablesChanged.
func (TablesChanged) Code() Code { return CodeTablesChanged }
