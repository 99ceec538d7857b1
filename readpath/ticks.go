package readpath

import (
	"context"
	"sync"
	"time"
)

const (
	tickEvery = 250 * time.Millisecond
	// tickGap is how long ticks may fail to come until what was known of freshness is forgotten.
	tickGap = 2 * time.Second
)

// Ticks notices that this process stood still: its machine was suspended or paused, or had no time for it. What was known
// before such a gap is of an earlier era, and not used.
type Ticks struct {
	clock Clock

	mu struct {
		sync.Mutex
		last Instant // of the newest tick
		era  uint64
	}
}

// NewTicks returns Ticks on a clock. Without Run every gap's length ends an era.
func NewTicks(clock Clock) *Ticks {
	t := &Ticks{clock: clock}
	t.mu.last = clock.Now()
	return t
}

// Run ticks until ctx ends, and returns nil.
func (t *Ticks) Run(ctx context.Context) error {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			t.tick()
		}
	}
}

func (t *Ticks) tick() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.last, _ = t.nowLocked()
}

// Now is the moment, and its era. It need not wait for the first tick after a gap to see that there was one.
func (t *Ticks) Now() (Instant, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.nowLocked()
}

func (t *Ticks) nowLocked() (Instant, uint64) {
	now := t.clock.Now()
	if Elapsed(t.mu.last, now) > tickGap {
		t.mu.era++
		t.mu.last = now
	}
	return now, t.mu.era
}
