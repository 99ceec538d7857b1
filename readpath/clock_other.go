//go:build !linux

package readpath

import "time"

// bootTime is mono: elsewhere the wall clock and the gap of ticks are what tells of a suspended machine.
func bootTime(mono time.Duration) time.Duration { return mono }
