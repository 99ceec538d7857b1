package tenant

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// Tenant is the record of one tenant.
type Tenant struct {
	ID       ID
	Name     Name
	Group    wire.GroupID // whose voters keep it
	Epoch    wire.Epoch
	State    State
	PageSize uint32    // bytes of a page of its database; fixed at creation
	Created  time.Time // UTC, whole milliseconds
	Deleted  time.Time // when it was deleted; zero unless State is StateDeleted
	Limits   Limits    // zero fields mean the defaults
	// Policy rises with each change of Placement: a feeder needs at least the
	// policy number that a stream's header carries (promise "placed").
	Policy    uint32
	Placement Placement
	// Tables is the number of the newest change of the conflict-free schema that nodes were told of; 0: it has none.
	Tables uint64
}

// State is where in its life a tenant is.
type State uint8

// The states. The zero value is no state.
const (
	StateActive  State = 1 // takes reads and writes
	StateFrozen  State = 2 // takes reads only
	StateDeleted State = 3 // takes nothing; can be undeleted until its grace period ends
)

// String returns the state's name, as in JSON.
func (s State) String() string {
	switch s {
	case StateActive:
		return "active"
	case StateFrozen:
		return "frozen"
	case StateDeleted:
		return "deleted"
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// MarshalText gives the state's name.
func (s State) MarshalText() ([]byte, error) {
	if s < StateActive || s > StateDeleted {
		return nil, fmt.Errorf("tenant state %d is unknown", uint8(s))
	}
	return []byte(s.String()), nil
}

// UnmarshalText reads a state's name.
func (s *State) UnmarshalText(text []byte) error {
	for _, known := range []State{StateActive, StateFrozen, StateDeleted} {
		if known.String() == string(text) {
			*s = known
			return nil
		}
	}
	return fmt.Errorf("tenant state %q is unknown", text)
}

// Page sizes that SQLite knows (https://www.sqlite.org/fileformat2.html#page_size), in bytes.
const (
	MinPageSize     = 512
	MaxPageSize     = 65536
	DefaultPageSize = 4096
)

// CheckPageSize refuses what is not a page size of SQLite: a power of two from 512 to 65536.
func CheckPageSize(n uint32) error {
	if n < MinPageSize || n > MaxPageSize || n&(n-1) != 0 {
		return fmt.Errorf("page size %d: want a power of two from %d to %d", n, MinPageSize, MaxPageSize)
	}
	return nil
}

// Validate says what in the record can't be.
func (t *Tenant) Validate() error {
	if t.ID.IsZero() {
		return fmt.Errorf("tenant %q: id is zero", string(t.Name))
	}
	if reason := nameFault(string(t.Name)); reason != "" {
		return nameError(string(t.Name), reason)
	}
	if (t.Name == SystemName) != (t.ID == SystemID()) {
		return fmt.Errorf("tenant %s: the name %q and the id %s belong together", t.ID, string(SystemName), SystemID())
	}
	if t.Group == 0 {
		return fmt.Errorf("tenant %q: group is 0", string(t.Name))
	}
	if t.Epoch == 0 {
		return fmt.Errorf("tenant %q: epoch is 0", string(t.Name))
	}
	if t.State < StateActive || t.State > StateDeleted {
		return fmt.Errorf("tenant %q: %s is unknown", string(t.Name), t.State)
	}
	if (t.State == StateDeleted) != !t.Deleted.IsZero() {
		return fmt.Errorf("tenant %q: is %s, with %v as time of deletion", string(t.Name), t.State, t.Deleted)
	}
	if t.Created.IsZero() {
		return fmt.Errorf("tenant %q: has no time of creation", string(t.Name))
	}
	for _, at := range []time.Time{t.Created, t.Deleted} {
		if err := checkTime(at); err != nil {
			return fmt.Errorf("tenant %q: %w", string(t.Name), err)
		}
	}
	if err := CheckPageSize(t.PageSize); err != nil {
		return fmt.Errorf("tenant %q: %w", string(t.Name), err)
	}
	if err := t.Limits.Validate(); err != nil {
		return fmt.Errorf("tenant %q: %w", string(t.Name), err)
	}
	if err := t.Placement.Validate(); err != nil {
		return fmt.Errorf("tenant %q: %w", string(t.Name), err)
	}
	return nil
}

// Millis is t as records and events keep it: UTC, in whole milliseconds,
// without a monotonic part.
func Millis(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.UnixMilli(t.UnixMilli()).UTC()
}

// checkTime refuses a time that its text form could not carry exactly.
func checkTime(t time.Time) error {
	if t.IsZero() {
		return nil
	}
	if t.Year() < 1970 || t.Year() > 9999 {
		return fmt.Errorf("time %v is not between the years 1970 and 9999", t)
	}
	if t.Location() != time.UTC || t.Nanosecond()%int(time.Millisecond) != 0 {
		return fmt.Errorf("time %v is not in whole milliseconds of UTC", t)
	}
	return nil
}

// tenantJSON is the JSON form of a Tenant. Its order is part of FORMAT.md.
type tenantJSON struct {
	ID        string       `json:"id"`
	Name      Name         `json:"name"`
	Group     wire.GroupID `json:"group"`
	Epoch     wire.Epoch   `json:"epoch"`
	State     State        `json:"state"`
	PageSize  uint32       `json:"page_size"`
	Created   time.Time    `json:"created"`
	Deleted   time.Time    `json:"deleted,omitzero"`
	Limits    Limits       `json:"limits"`
	Policy    uint32       `json:"policy"`
	Placement Placement    `json:"placement"`
	Tables    uint64       `json:"tables,omitempty"`
}

// MarshalJSON gives the form of FORMAT.md, which the native API answers with too.
func (t Tenant) MarshalJSON() ([]byte, error) {
	return json.Marshal(tenantJSON{t.ID.String(), t.Name, t.Group, t.Epoch, t.State, t.PageSize,
		Millis(t.Created), Millis(t.Deleted), t.Limits, t.Policy, t.Placement, t.Tables})
}

// UnmarshalJSON reads what MarshalJSON wrote. Keys that it doesn't know are
// passed over, so that a client can talk to a newer node; Decode is strict.
func (t *Tenant) UnmarshalJSON(b []byte) error {
	var j tenantJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("tenant: %w", err)
	}
	id, err := wire.ParseTenantID(j.ID)
	if err != nil {
		return err
	}
	*t = Tenant{id, j.Name, j.Group, j.Epoch, j.State, j.PageSize,
		Millis(j.Created), Millis(j.Deleted), j.Limits, j.Policy, j.Placement, j.Tables}
	return nil
}
