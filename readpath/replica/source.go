package replica

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
)

// Head is how far a copy has got.
type Head struct {
	stream.Head
	Group  wire.GroupID // whose log Index is of
	Policy uint32       // number of the tenant's policy in this state
}

// Lane says where a tenant's transactions come on this node.
type Lane struct {
	Tail *Tail
	Hops uint8 // of this node from the voters, 0 on a voter
}

// Source is what a Feeder passes on. Its methods are called from several goroutines.
type Source interface {
	// Admit says whether a node may be sent a tenant at all, whatever it asks: whether it is inside its jurisdiction. It is asked before anything of the
	// tenant is sent, and again before each entry that may change the answer. The error is a *GoneError. It must be quick.
	Admit(id wire.TenantID, receiver string) error
	// Lane is where the tenant's transactions come now. The error is a *GoneError if they don't, or ErrNoLane if they will again.
	Lane(id wire.TenantID) (Lane, error)
	// Head is where the tenant's copy stands in the log of its group, visible or not yet. An entry up to Head.Index that is not
	// in the Tail yet will be. The error is a *GoneError if there is no copy to be fed from.
	Head(id wire.TenantID) (Head, error)
	// OpenLTX opens what leads a tenant from a state nearer to the Head; ErrNoLTX if there is nothing.
	OpenLTX(ctx context.Context, id wire.TenantID, from stream.Head) (*LTX, error)
	// WriteCopy writes the whole tenant, for Sink.InstallCopy elsewhere. w waits for a receiver that is slow, so that ctx may end meanwhile.
	WriteCopy(ctx context.Context, id wire.TenantID, w io.Writer) error
	// ReadIndex is an index of a group such that all that anybody was answered before the call is at or below it: of a voter
	// leader.Group.ReadIndexAt, of others Follower.ReadIndex. ErrUnknownGroup if this node is neither.
	ReadIndex(ctx context.Context, group wire.GroupID) (uint64, error)
}

// LTX is an open LTX file, or what stands for it: the bytes are between Source.OpenLTX and Sink.InstallLTX.
type LTX struct {
	io.ReadCloser
	Min, Max wire.TXID
}

// Sink is what a Follower brings transactions to. Methods for one tenant are not called at the same time, but for Head.
type Sink interface {
	// Head is where the tenant's copy stands in the log of its group, visible or not yet; the zero Head if there is none that entries can
	// follow.
	Head(id wire.TenantID) Head
	// Apply takes an entry whose form, tenant, group and CRC have been checked. It refuses with ErrMismatch an entry that does not follow
	// the copy's position. It should be quick: pages are built and checked later, before they are visible. The bytes stay valid and
	// unchanged.
	Apply(ctx context.Context, id wire.TenantID, index uint64, entry []byte) (Applied, error)
	// InstallLTX takes what OpenLTX gave elsewhere. It checks all before anything is visible; if that fails, nothing has changed. r ends with
	// io.EOF only where the file did.
	InstallLTX(ctx context.Context, id wire.TenantID, minTXID, maxTXID wire.TXID, r io.Reader) (Head, error)
	// InstallCopy takes what WriteCopy wrote elsewhere, in place of what is here. It checks all before anything is visible; if that fails, nothing has
	// changed.
	InstallCopy(ctx context.Context, id wire.TenantID, group wire.GroupID, r io.Reader) (Head, error)
	// Gone says that the feeder knows that the tenant is not in its group any more: deleted, or moved to a group.
	Gone(id wire.TenantID, why stream.GoneCode, group wire.GroupID)
	// Diverged reports a copy that is not what a feeder has at the same place. A copy in its place is fetched already.
	Diverged(id wire.TenantID, feeder string, err error)
}

// Applied is what became of an entry.
type Applied struct {
	// Departed: the tenant has left the group with this entry, and no mark of the group says anything of it any more.
	Departed bool
}

// Errors of a Source and a Sink.
var (
	// ErrNoLane says that a copy follows nobody just now.
	ErrNoLane = errors.New("the copy of this node follows no other for now")
	// ErrNoLTX says that there is no LTX file that leads on from a position.
	ErrNoLTX = errors.New("no LTX file leads on from there")
	// ErrUnknownGroup says that a node has nothing to do with a group.
	ErrUnknownGroup = errors.New("this node has nothing to do with the group")
	// ErrMismatch says that an entry, or a feeder's position, does not fit the copy's position.
	ErrMismatch = errors.New("it does not follow the copy's position")
	// ErrUnconfirmed says that no index could be had from anybody who could know.
	ErrUnconfirmed = errors.New("no confirmed index could be had")
	// ErrNotFollowed says that this node does not follow a tenant, or is not joined.
	ErrNotFollowed = errors.New("this node does not follow the tenant now")
)

// GoneError says that a tenant can't be had from a node.
type GoneError struct {
	Tenant wire.TenantID
	Why    stream.GoneCode
	Group  wire.GroupID // where it went, if moved
}

func (e *GoneError) Error() string { return fmt.Sprintf("tenant %s: %s", e.Tenant, e.Why) }

// RefusedError says that what a feeder sent is not what it should have been. Nothing of it was applied.
type RefusedError struct {
	Feeder string
	Tenant wire.TenantID // zero where it concerns none
	Reason string
	Err    error // the cause, or nil
}

func (e *RefusedError) Error() string {
	s := fmt.Sprintf("feeder %s: %s", e.Feeder, e.Reason)
	if !e.Tenant.IsZero() {
		s = fmt.Sprintf("feeder %s, tenant %s: %s", e.Feeder, e.Tenant, e.Reason)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.Err }
