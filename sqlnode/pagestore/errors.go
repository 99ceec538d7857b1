package pagestore

import (
	"errors"
	"fmt"

	"github.com/nearsql/nearsql/wire"
)

// Errors that a handle reports beside SQLite's result code (Handle.Err), and
// that a store returns.
var (
	// ErrNotPrimary refuses a write where this node may not commit.
	ErrNotPrimary = errors.New("this copy takes no writes here")
	// ErrOverloaded refuses a commit while too much waits for the log or for a checkpoint.
	ErrOverloaded = errors.New("too many commits wait for the log")
	// ErrSnapshotTooOld ends a reader that held its snapshot past the memory budget.
	ErrSnapshotTooOld = errors.New("the snapshot of this reader was held too long and is gone")
	// ErrReplaced says that the store was replaced (speculation dropped, snapshot, repair):
	// its connections must be closed and opened anew.
	ErrReplaced = errors.New("the database was replaced under this connection")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("the database is closed")
	// ErrTempFull says that a connection used up its temporary space.
	ErrTempFull = errors.New("temporary space of this connection is used up")
	// ErrDiskFull refuses a commit when the disk has less free space than the node keeps in reserve.
	ErrDiskFull = errors.New("the disk of this node is full")
	// ErrNoTenant says that the group does not hold the tenant.
	ErrNoTenant = errors.New("this group does not hold the tenant")
)

// TooLargeError refuses a transaction over its limit.
type TooLargeError struct {
	Bytes, Limit int64
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the transaction changes at least %d bytes of pages; the limit is %d: split it, or use an import", e.Bytes, e.Limit)
}

// FullError refuses a commit that would grow the database over its limit.
type FullError struct {
	Bytes, Limit int64
}

func (e *FullError) Error() string {
	return fmt.Sprintf("the database would have %d bytes; its limit is %d", e.Bytes, e.Limit)
}

// CorruptError says that a copy on this disk is not what was written. It names
// the file and, where known, the page.
type CorruptError struct {
	Tenant wire.TenantID
	File   string
	Page   uint32 // 0 when it concerns the whole file
	What   string
}

func (e *CorruptError) Error() string {
	of := ""
	if e.Tenant != (wire.TenantID{}) {
		of = fmt.Sprintf("tenant %s: ", e.Tenant)
	}
	if e.Page != 0 {
		return fmt.Sprintf("%s%s: page %d: %s", of, e.File, e.Page, e.What)
	}
	return fmt.Sprintf("%s%s: %s", of, e.File, e.What)
}

// PositionError refuses an entry whose previous position is not the tenant's
// position in the log: every copy refuses it alike.
type PositionError struct {
	Tenant wire.TenantID
	Have   State
	Epoch  wire.Epoch
	Want   string
}

func (e *PositionError) Error() string {
	return fmt.Sprintf("tenant %s stands at epoch %d, %s; the entry follows %s", e.Tenant, e.Epoch, e.Have, e.Want)
}

// EntryError says that an entry of the log can't be read: it was written by a newer version, or
// damaged on this node. Other copies may have taken it, so this one must not go on.
type EntryError struct {
	Index uint64
	Err   error
}

func (e *EntryError) Error() string { return fmt.Sprintf("entry %d of the log: %v", e.Index, e.Err) }

// Unwrap returns what is wrong with the entry.
func (e *EntryError) Unwrap() error { return e.Err }

// errWaitEnded says that the waiter gave up.
var errWaitEnded = errors.New("the wait was ended")
