package logstore

import (
	"errors"
	"fmt"
)

// ErrCorrupt marks errors that say that stored bytes are not what was stored.
var ErrCorrupt = errors.New("corrupt log store")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}
