package readpath

import "time"

// Instant is a moment on the three clocks of one node, each from an origin of its own. Instants of two nodes, or of two lives of a
// process, can't be compared.
type Instant struct {
	Mono time.Duration // CLOCK_MONOTONIC: steered in rate, never set; stands still in suspend
	Boot time.Duration // CLOCK_BOOTTIME: goes on in suspend; as Mono where there is none
	Wall time.Duration // the time of day; set by people and programs
}

// Clock tells the time of this node.
type Clock interface {
	Now() Instant
}

// Elapsed is an upper bound of the time from one moment to a later one: the largest of the three differences, plus 0.1 % for
// clocks that run slow. It is 0 only if to is before from on all of them: of equal moments none knows which was first.
func Elapsed(from, to Instant) time.Duration {
	d := max(to.Mono-from.Mono, to.Boot-from.Boot, to.Wall-from.Wall)
	if d < 0 {
		return 0
	}
	return d + d/1000 + 1
}

// SystemClock is the clock of the machine.
type SystemClock struct{ start time.Time }

// NewSystemClock returns the machine's clock.
func NewSystemClock() *SystemClock { return &SystemClock{start: time.Now()} }

// Now implements Clock.
func (c *SystemClock) Now() Instant {
	now := time.Now()
	mono := now.Sub(c.start)
	return Instant{Mono: mono, Boot: bootTime(mono), Wall: time.Duration(now.UnixNano())}
}
