package stream

import (
	"errors"
	"fmt"
)

// ErrVersion is what errors.Is finds in a *VersionError.
var ErrVersion = errors.New("unknown version of a stream")

// VersionError says that the other end's hello is of a version that this program does not read.
type VersionError struct{ Found uint8 }

func (e *VersionError) Error() string {
	return fmt.Sprintf("stream of version %d, this program reads %d", e.Found, Version)
}

// Unwrap returns ErrVersion.
func (e *VersionError) Unwrap() error { return ErrVersion }

// FormatError says that bytes are not what the format asks for, or that a frame has no encoding.
type FormatError struct {
	Type Type
	What string
}

func (e *FormatError) Error() string { return fmt.Sprintf("stream frame %q: %s", e.Type, e.What) }

func formatErr(t Type, format string, args ...any) error {
	return &FormatError{Type: t, What: fmt.Sprintf(format, args...)}
}
