package leader

import "fmt"

// formatted is an argument that is only formatted if it is logged.
type formatted struct {
	format string
	args   []any
}

func (f formatted) String() string { return fmt.Sprintf(f.format, f.args...) }
