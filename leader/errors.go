package leader

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/nearsql/nearsql/wire"
)

// NotPrimaryError says that this node is not the primary of the group, and
// that what was asked of it was surely not done.
type NotPrimaryError struct {
	Primary NodeID // who is, as far as this node knows; "" if it doesn't
}

func (e *NotPrimaryError) Error() string {
	if e.Primary == "" {
		return "not the primary, and none is known"
	}
	return fmt.Sprintf("not the primary: that is %s", e.Primary)
}

// UnknownOutcomeError says that a proposal may or may not come to be in the log.
type UnknownOutcomeError struct{ Err error }

func (e *UnknownOutcomeError) Error() string { return fmt.Sprintf("outcome unknown: %v", e.Err) }

func (e *UnknownOutcomeError) Unwrap() error { return e.Err }

// OverloadedError says that too much waits for the log: the proposal was
// surely not made.
type OverloadedError struct {
	Entries int   // that wait
	Bytes   int64 // of them
}

func (e *OverloadedError) Error() string {
	return fmt.Sprintf("%d proposals of %d bytes wait for the log", e.Entries, e.Bytes)
}

// EntryTooLargeError says that an entry is larger than EntryMax: it was surely
// not proposed.
type EntryTooLargeError struct{ Size int }

func (e *EntryTooLargeError) Error() string {
	return fmt.Sprintf("log entry of %d bytes is larger than %d", e.Size, EntryMax)
}

// LogError says that the log of a group can't be read or written. What failed
// may have been done or not; the process must end.
type LogError struct {
	Group wire.GroupID
	Err   error
}

func (e *LogError) Error() string { return fmt.Sprintf("log of group %d: %v", e.Group, e.Err) }

func (e *LogError) Unwrap() error { return e.Err }

// ErrUnconfirmed says that too few voters confirmed that this node is still the
// primary, in time. Asking again may help.
var ErrUnconfirmed = errors.New("too few voters confirmed the primary")

// ErrRunAgain is how Run ends when a snapshot took the place of entries that
// other nodes did not have: raft can't forget them while it runs. A new Group in
// the same directory goes on.
var ErrRunAgain = errors.New("a snapshot took the place of the log: the group must be run again")

// ErrStopped is the error of what was asked of a group that does not run.
var ErrStopped = errors.New("group does not run")

// errGone is the cause when the group ended between commit and apply.
var errGone = errors.New("group ended before the entry was applied")

// outcome is what a proposal's caller is told for an error of raft.
func (g *Group) outcome(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return &NotPrimaryError{Primary: g.otherPrimary()}
	default: // ErrLeadershipLost, ErrRaftShutdown, an error of the log's files
		return &UnknownOutcomeError{Err: err}
	}
}
