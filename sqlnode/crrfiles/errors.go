package crrfiles

import (
	"errors"
	"fmt"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

// ErrNone says that the tenant has no conflict-free tables.
var ErrNone = errors.New("the tenant has no conflict-free tables")

// ErrClosed says that the node is shutting down.
var ErrClosed = errors.New("the files of conflict-free tables are closed")

// DamagedError says that a file is out of service on this node.
type DamagedError struct {
	Tenant wire.TenantID
	Path   string
	Cause  error
	// Unopened: not even what the file is could be read.
	Unopened bool
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("this node's file of the conflict-free tables of tenant %s is damaged and out of service until it is rebuilt (nearsql crr rebuild): %v", e.Tenant, e.Cause)
}

func (e *DamagedError) Unwrap() error { return e.Cause }

// AheadError says that a file has a schema that the tenant's strong schema does not know: main has gone back under it.
type AheadError struct{ File, Main uint64 }

func (e *AheadError) Error() string {
	return fmt.Sprintf("the file of conflict-free tables is at change %d of their schema, the tenant's strong schema here at %d: ask again when this node's copy of the tenant has caught up, or ask another node", e.File, e.Main)
}

// damage says whether err means that the file can't be believed any more. Errors that come from the pages of main are not
// meant: those have a cause of their own.
func damage(err error) bool {
	if err == nil || errors.Is(err, pagestore.ErrReplaced) || errors.Is(err, pagestore.ErrClosed) {
		return false
	}
	var corrupt *pagestore.CorruptError
	var format *crr.FormatError
	if errors.As(err, &corrupt) {
		return false
	}
	if errors.Is(err, crr.ErrCorrupt) || errors.Is(err, crr.ErrNotCRR) || errors.As(err, &format) {
		return true
	}
	switch sqlite.ErrorCode(err) & 0xff {
	case sqlite.CodeCorrupt, sqlite.CodeNotADB:
		return true
	}
	return false
}
