package readpathtest

import (
	"sync"
	"time"

	"github.com/nearsql/nearsql/readpath"
)

// Clock is the clocks of one node, which differ from the time of the bubble.
type Clock struct {
	start         time.Time
	ignoreSuspend bool

	mu struct {
		sync.Mutex
		wall      time.Duration // what was added to the time of day
		rate      float64       // of the wall clock
		slept     time.Duration // that mono did not see
		bootSlept time.Duration // that boot did not see
		since     time.Time     // of the suspension under way
		bootStops bool
	}
}

// NewClock returns a clock whose time of day is off.
func NewClock(offset time.Duration) *Clock {
	c := &Clock{start: time.Now()}
	c.mu.wall, c.mu.rate = offset, 1
	return c
}

// Now implements readpath.Clock.
func (c *Clock) Now() readpath.Instant {
	c.mu.Lock()
	defer c.mu.Unlock()
	real := time.Since(c.start)
	slept, bootSlept := c.mu.slept, c.mu.bootSlept
	if !c.mu.since.IsZero() {
		slept += time.Since(c.mu.since)
		if c.mu.bootStops {
			bootSlept += time.Since(c.mu.since)
		}
	}
	now := readpath.Instant{Mono: real - slept, Boot: real - bootSlept, Wall: time.Duration(float64(real)*c.mu.rate) + c.mu.wall}
	if c.ignoreSuspend {
		now.Boot, now.Wall = now.Mono, now.Mono
	}
	return now
}

// Jump sets the time of day.
func (c *Clock) Jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.wall += d
}

// Drift lets the time of day run at another rate.
func (c *Clock) Drift(rate float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	real := float64(time.Since(c.start))
	c.mu.wall += time.Duration(real * (c.mu.rate - rate))
	c.mu.rate = rate
}

// Suspend lets the monotonic clock stand still, and the boot time too if the whole virtual machine stops.
func (c *Clock) Suspend(bootStops bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.since, c.mu.bootStops = time.Now(), bootStops
}

// Resume ends that.
func (c *Clock) Resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.slept += time.Since(c.mu.since)
	if c.mu.bootStops {
		c.mu.bootSlept += time.Since(c.mu.since)
	}
	c.mu.since = time.Time{}
}
