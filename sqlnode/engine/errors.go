package engine

import (
	"context"
	"errors"
	"os"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

// convert turns what went wrong under a statement into what a client is told. cause is
// the page store's word about it, if it had one.
func convert(err, cause error) *wire.Error {
	var we *wire.Error
	if errors.As(err, &we) {
		return we
	}
	if errors.As(cause, &we) {
		return we
	}
	if cause == nil {
		cause = err
	}
	if e := convertStore(cause); e != nil {
		return e
	}
	var se *sqlite.Error
	if errors.As(err, &se) {
		if se.Code&0xff == sqlite.CodeCantOpen && outOfDescriptors() {
			return wire.NewError(wire.CodeOverloaded, "this node has no file descriptors left: %w", err)
		}
		return wire.NewError(wire.CodeForSQLite(se.Code), "%s", se.Message)
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return wire.AsError(err)
	}
	return wire.NewError(wire.CodeInternal, "internal error: %w", err)
}

// connFiles is how many files SQLite opens for a connection to a file in WAL mode, and a few more.
const connFiles = 8

// outOfDescriptors says whether the files of a connection could not be opened now: SQLite doesn't say why they can't.
func outOfDescriptors() bool {
	for range connFiles {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return disk.NoDescriptors(err)
		}
		defer f.Close()
	}
	return false
}

// convertStore converts the page store's errors; nil for others.
func convertStore(err error) *wire.Error {
	var (
		large   *pagestore.TooLargeError
		full    *pagestore.FullError
		corrupt *pagestore.CorruptError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &large):
		return wire.NewError(wire.CodeTxTooLarge, "%w", err)
	case errors.As(err, &full):
		return wire.NewError(wire.CodeTenantFull, "%w", err)
	case errors.As(err, &corrupt):
		return wire.NewError(wire.CodeCorrupt, "this node's copy is damaged: %w", err)
	case disk.NoDescriptors(err):
		return wire.NewError(wire.CodeOverloaded, "this node has no file descriptors left: %w", err)
	case errors.Is(err, pagestore.ErrDiskFull):
		return wire.NewError(wire.CodeDiskFull, "%w", err)
	case errors.Is(err, pagestore.ErrNotPrimary):
		return wire.NewError(wire.CodeNotPrimary, "%w", err)
	case errors.Is(err, pagestore.ErrOverloaded):
		return wire.NewError(wire.CodeOverloaded, "%w", err)
	case errors.Is(err, pagestore.ErrReplaced):
		return wire.NewError(wire.CodeSQLiteBusy, "%w; send the request again", err)
	case errors.Is(err, pagestore.ErrSnapshotTooOld):
		return wire.NewError(wire.CodeSnapshotTooOld, "%w", err)
	case errors.Is(err, pagestore.ErrTempFull):
		return wire.NewError(wire.CodeSQLiteFull, "%w: the statement sorts, keeps or changes too much at once; an index may help, or parts", err)
	case errors.Is(err, pagestore.ErrHollow):
		return wire.NewError(wire.CodeStale, "this node's copy is being fetched: %w", err)
	case errors.Is(err, pagestore.ErrNoTenant):
		return wire.NewError(wire.CodeNoSuchTenant, "%w", err)
	case errors.Is(err, pagestore.ErrClosed):
		return wire.NewError(wire.CodeShuttingDown, "%w", err)
	}
	return nil
}

// replaced says whether the connection must be opened anew because its store was replaced.
func replaced(cause error) bool { return errors.Is(cause, pagestore.ErrReplaced) }
