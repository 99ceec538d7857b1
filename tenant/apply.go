package tenant

import (
	"errors"
	"fmt"
)

// EventRefusedError says that a tenant's state forbids an event. It is
// deterministic: every voter refuses alike, and the record stays as it was.
type EventRefusedError struct {
	Tenant ID
	State  State // 0 where there is no tenant yet
	Event  Code
	Reason string
}

func (e *EventRefusedError) Error() string {
	return fmt.Sprintf("tenant %s: event %q refused: %s", e.Tenant, e.Event, e.Reason)
}

// Apply gives the record after the event. Its error is an *EventRefusedError,
// and then the record that it returns is t. Apply looks at its arguments alone.
func (t Tenant) Apply(e Event) (Tenant, error) {
	if e == nil {
		return t, t.refuse(0, "there is no event")
	}
	after, err := e.apply(t)
	if err == nil {
		err = after.Validate()
	}
	if err != nil {
		var refused *EventRefusedError
		if !errors.As(err, &refused) {
			refused = t.refuse(e.Code(), err.Error())
		}
		return t, refused
	}
	return after, nil
}

func (t Tenant) refuse(c Code, reason string) *EventRefusedError {
	return &EventRefusedError{Tenant: t.ID, State: t.State, Event: c, Reason: reason}
}

// want refuses e unless t is in one of the states.
func (t Tenant) want(e Event, states ...State) error {
	for _, s := range states {
		if t.State == s {
			return nil
		}
	}
	if t.State == 0 {
		return t.refuse(e.Code(), "there is no such tenant")
	}
	return t.refuse(e.Code(), fmt.Sprintf("the tenant is %s", t.State))
}

// wantOwnName refuses names that tenants of users can't have, and events that
// would take its name from the system tenant.
func (t Tenant) wantOwnName(e Event, name Name) error {
	if _, err := ParseName(string(name)); err != nil {
		return t.refuse(e.Code(), err.Error())
	}
	return nil
}

// wantNotSystem refuses events that would stop the catalogue.
func (t Tenant) wantNotSystem(e Event) error {
	if t.ID == SystemID() {
		return t.refuse(e.Code(), "the system tenant stays as it is")
	}
	return nil
}

func (e Created) apply(t Tenant) (Tenant, error) {
	if t != (Tenant{}) {
		return t, t.refuse(e.Code(), fmt.Sprintf("the tenant exists and is %s", t.State))
	}
	if e.Tenant.State != StateActive {
		return t, t.refuse(e.Code(), fmt.Sprintf("a new tenant is active, not %s", e.Tenant.State))
	}
	return e.Tenant, nil
}

func (e Deleted) apply(t Tenant) (Tenant, error) {
	if err := t.want(e, StateActive, StateFrozen); err != nil {
		return t, err
	}
	if err := t.wantNotSystem(e); err != nil {
		return t, err
	}
	t.State, t.Deleted = StateDeleted, e.Time
	return t, nil
}

func (e Undeleted) apply(t Tenant) (Tenant, error) {
	if err := t.want(e, StateDeleted); err != nil {
		return t, err
	}
	if err := t.wantOwnName(e, e.Name); err != nil {
		return t, err
	}
	t.State, t.Name, t.Deleted = StateActive, e.Name, Tenant{}.Deleted
	return t, nil
}

func (e Renamed) apply(t Tenant) (Tenant, error) {
	if err := t.want(e, StateActive, StateFrozen); err != nil {
		return t, err
	}
	if err := t.wantNotSystem(e); err != nil {
		return t, err
	}
	if err := t.wantOwnName(e, e.Name); err != nil {
		return t, err
	}
	t.Name = e.Name
	return t, nil
}

func (e Frozen) apply(t Tenant) (Tenant, error) {
	if err := t.want(e, StateActive); err != nil {
		return t, err
	}
	if err := t.wantNotSystem(e); err != nil {
		return t, err
	}
	t.State = StateFrozen
	return t, nil
}

func (e Thawed) apply(t Tenant) (Tenant, error) {
	if err := t.want(e, StateFrozen); err != nil {
		return t, err
	}
	t.State = StateActive
	return t, nil
}

func (e LimitsChanged) apply(t Tenant) (Tenant, error) {
	if err := t.want(e, StateActive, StateFrozen); err != nil {
		return t, err
	}
	t.Limits = e.Limits
	return t, nil
}

func (e PlacementChanged) apply(t Tenant) (Tenant, error) {
	if err := t.want(e, StateActive, StateFrozen); err != nil {
		return t, err
	}
	if e.Policy != t.Policy+1 {
		return t, t.refuse(e.Code(), fmt.Sprintf("policy %d does not follow %d", e.Policy, t.Policy))
	}
	t.Policy, t.Placement = e.Policy, e.Placement
	return t, nil
}

func (e Purged) apply(t Tenant) (Tenant, error) { return t, t.want(e, StateDeleted) }

func (e EpochRaised) apply(t Tenant) (Tenant, error) {
	if err := t.want(e, StateActive, StateFrozen, StateDeleted); err != nil {
		return t, err
	}
	if e.Epoch-1 != t.Epoch {
		return t, t.refuse(e.Code(), fmt.Sprintf("epoch %d does not follow %d", e.Epoch, t.Epoch))
	}
	t.Epoch = e.Epoch
	return t, nil
}

func (e TablesChanged) apply(t Tenant) (Tenant, error) {
	if err := t.want(e, StateActive, StateFrozen); err != nil {
		return t, err
	}
	t.Tables = max(t.Tables, e.Version) // told late, or twice: there is nothing to take back
	return t, nil
}
