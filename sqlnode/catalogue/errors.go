package catalogue

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// ClaimError says that a tenant has another name or group in the directory than
// the caller believed. Nothing was changed.
type ClaimError struct{ Have Tenant }

func (e *ClaimError) Error() string {
	return fmt.Sprintf("tenant %s is named %q, of group %d, in the directory", e.Have.ID, string(e.Have.Name), e.Have.Group)
}

// PlacementError says that a tenant has another placement in the directory than the caller's, of the same number. Nothing was changed.
type PlacementError struct{ Have Tenant }

func (e *PlacementError) Error() string {
	return fmt.Sprintf("tenant %q has another placement of number %d in the directory", string(e.Have.Name), e.Have.Policy)
}

// NoSuchNodeError says that no node has an id.
type NoSuchNodeError struct{ ID string }

func (e *NoSuchNodeError) Error() string { return fmt.Sprintf("no node has the id %q", e.ID) }

// NoSuchGroupError says that no group has a number.
type NoSuchGroupError struct{ ID wire.GroupID }

func (e *NoSuchGroupError) Error() string { return fmt.Sprintf("there is no group %d", e.ID) }

// RemovedError says that a node was removed from the cluster, for ever.
type RemovedError struct{ ID string }

func (e *RemovedError) Error() string {
	return fmt.Sprintf("node %q was removed from the cluster: its id can't be used again; join with a new id and an empty data directory", e.ID)
}

// IncarnationError says that a node's id belongs to another data directory.
type IncarnationError struct{ ID string }

func (e *IncarnationError) Error() string {
	return fmt.Sprintf("the id %q is that of another data directory: ids of nodes are never used again; join with a new id", e.ID)
}

// NodeStateError says why a node can't come to a state. Nothing was changed.
type NodeStateError struct {
	ID         string
	Have, Want NodeState
	Groups     []string // names of those that it is in, where that is why
}

func (e *NodeStateError) Error() string {
	if len(e.Groups) > 0 {
		return fmt.Sprintf("node %q can't be %s yet: it is in the groups %s", e.ID, e.Want, strings.Join(e.Groups, ", "))
	}
	return fmt.Sprintf("node %q is %s: it can't become %s", e.ID, e.Have, e.Want)
}

// GroupExistsError says that a name is that of another group.
type GroupExistsError struct {
	Name string
	ID   wire.GroupID // of the group that has it
}

func (e *GroupExistsError) Error() string {
	return fmt.Sprintf("a group named %q exists already (group %d)", e.Name, e.ID)
}

// VotersChangedError says that the declared voters of a group are not those that a change was
// decided on. Nothing was changed.
type VotersChangedError struct {
	Group wire.GroupID
	Have  []string
}

func (e *VotersChangedError) Error() string {
	return fmt.Sprintf("the voters of group %d were changed by another request: they are %s", e.Group, strings.Join(e.Have, ", "))
}

// NotFoundedError says that a group's voters can't change, since it has no log yet.
type NotFoundedError struct{ Group wire.GroupID }

func (e *NotFoundedError) Error() string {
	return fmt.Sprintf("group %d is not founded yet: its voters can't be changed", e.Group)
}

// NotEligibleError says which nodes can't be made voters: they are unknown, or not active.
type NotEligibleError struct{ IDs []string }

func (e *NotEligibleError) Error() string {
	return fmt.Sprintf("no active nodes: %s", strings.Join(e.IDs, ", "))
}

// OtherClusterError says that the catalogue is that of another cluster.
type OtherClusterError struct{ Have, Want string }

func (e *OtherClusterError) Error() string {
	return fmt.Sprintf("the catalogue is of cluster %s, not %s", e.Have, e.Want)
}

// InvalidError says what is wrong with what an operation was given.
type InvalidError struct{ Err error }

func (e *InvalidError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *InvalidError) Unwrap() error { return e.Err }

// AsWire is what a client is told of an error of a Writer; nil for nil.
func AsWire(err error) *wire.Error {
	code, ok := codeOf(err)
	if !ok {
		return wire.AsError(err)
	}
	return wire.NewError(code, "%w", err)
}

// codeOf returns the code of the errors of this package.
func codeOf(err error) (wire.Code, bool) {
	for _, c := range []struct {
		code wire.Code
		is   bool
	}{
		{wire.CodeTenantExists, is[*tenant.ExistsError](err) || is[*ClaimError](err)},
		{wire.CodeNoSuchTenant, is[*tenant.NoSuchTenantError](err)},
		{wire.CodeBadName, is[*tenant.NameError](err)},
		{wire.CodeNoSuchNode, is[*NoSuchNodeError](err)},
		{wire.CodeNoSuchGroup, is[*NoSuchGroupError](err)},
		{wire.CodeForbidden, is[*RemovedError](err) || is[*IncarnationError](err) || is[*OtherClusterError](err)},
		{wire.CodeConflict, is[*NodeStateError](err) || is[*GroupExistsError](err) || is[*VotersChangedError](err) ||
			is[*NotFoundedError](err) || is[*NotEligibleError](err) || is[*PlacementError](err)},
		{wire.CodeBadRequest, is[*InvalidError](err)},
		{wire.CodeNotReady, is[*SchemaError](err)},
	} {
		if c.is {
			return c.code, true
		}
	}
	return "", false
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
