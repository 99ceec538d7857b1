package txn

import (
	"errors"
	"fmt"

	"github.com/nearsql/nearsql/wire"
)

// ErrVersion is what errors.Is finds in a *VersionError.
var ErrVersion = errors.New("unknown version of a log entry")

// VersionError says that an entry is of a version that this program does not read.
type VersionError struct {
	Found uint8
	Known []uint8
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("log entry of version %d, this program reads %v", e.Found, e.Known)
}

// Unwrap returns ErrVersion.
func (e *VersionError) Unwrap() error { return ErrVersion }

// FormatError says that bytes are not what the format asks for.
type FormatError struct {
	What   string // what is wrong
	Offset int64  // in bytes, from the start of the entry, body or delta that was read; -1 where there is none
}

func (e *FormatError) Error() string {
	if e.Offset < 0 {
		return "log entry: " + e.What
	}
	return fmt.Sprintf("log entry: %s at offset %d", e.What, e.Offset)
}

// SumError says that a page that was built is not the page that was sent.
type SumError struct {
	Pgno      uint32
	Got, Want wire.Checksum
}

func (e *SumError) Error() string {
	return fmt.Sprintf("page %d has sum %s, want %s", e.Pgno, e.Got, e.Want)
}

func formatErr(offset int, format string, args ...any) error {
	return &FormatError{What: fmt.Sprintf(format, args...), Offset: int64(offset)}
}
