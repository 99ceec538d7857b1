package sqlnode

import (
	"context"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/readpath"
)

// simClock is the clocks of one machine. They outlive its node. True time is that of the bubble.
type simClock struct {
	began  time.Time // of the machine
	boot   bool      // one goes on while the machine is suspended; if not, its wall clock is true
	drifts float64   // how fast the wall clock gets away from true time, a part of it

	jumped atomic.Int64 // how far the wall clock was set, in nanoseconds
	ahead  atomic.Int64 // by how much the primary's wall clock is ahead of this one's, in nanoseconds: for simPlant.theirs

	mu struct {
		sync.Mutex
		plant  simPlant
		lost   time.Duration // in which the monotonic clock stood still
		still  *readpath.Instant
		stood  time.Time
		resume chan struct{}
	}
}

func newSimClock() *simClock { return &simClock{began: time.Now(), boot: true} }

// wall is the time of day as the machine has it.
func (c *simClock) wall() time.Time {
	now := time.Now()
	return now.Add(time.Duration(c.jumped.Load()) + time.Duration(c.drifts*float64(now.Sub(c.began))))
}

// Now implements readpath.Clock.
func (c *simClock) Now() readpath.Instant {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.nowLocked()
	switch {
	case c.mu.plant.standing: // the one clock alone that stands still with the machine
		i.Boot, i.Wall = i.Mono, i.Mono
	case c.mu.plant.theirs: // answers bring the primary's time of day, and ages are that of this node less it
		if calledBy("readpath.(*Pairs).Ask") {
			i.Wall += time.Duration(c.ahead.Load())
		}
		i.Mono, i.Boot = i.Wall, i.Wall
	}
	return i
}

func (c *simClock) nowLocked() readpath.Instant {
	if c.mu.still != nil {
		return *c.mu.still
	}
	t := time.Since(c.began)
	i := readpath.Instant{Mono: t - c.mu.lost, Boot: t, Wall: time.Duration(c.wall().UnixNano())}
	if !c.boot {
		i.Boot = i.Mono
	}
	return i
}

// stop is that the machine stands still: nobody there sees a clock.
func (c *simClock) stop() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.still != nil {
		return false
	}
	i := c.nowLocked()
	c.mu.still, c.mu.stood, c.mu.resume = &i, time.Now(), make(chan struct{})
	return true
}

// goOn ends stop. Of a machine that was suspended the monotonic clock goes on where it was, of a process that was stopped it has gone on.
func (c *simClock) goOn(suspended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if suspended {
		c.mu.lost += time.Since(c.mu.stood)
	}
	c.mu.still = nil
	close(c.mu.resume)
}

// awake returns when the machine does not stand still; false if ctx ends before.
func (c *simClock) awake(ctx context.Context) bool {
	c.mu.Lock()
	still, resume := c.mu.still != nil, c.mu.resume
	c.mu.Unlock()
	if !still {
		return true
	}
	select {
	case <-resume:
		return true
	case <-ctx.Done():
		return false
	}
}

// run has a node that is not running yet take its time from the clock.
func (c *simClock) run(n *Node, plant simPlant) {
	c.mu.Lock()
	c.mu.plant = plant
	c.mu.Unlock()
	reflect.ValueOf(n.ticks).Elem().Set(reflect.ValueOf(readpath.NewTicks(c)).Elem())
}

// theirs has every node believe the primary's time of day: voters here, those that follow by their clocks.
func (w *simWorld) theirs(n *simNode) {
	known := map[*hosted]instant{}
	for n.life.Err() == nil {
		lead := w.s.node(w.leads(n.id.Node))
		if lead != nil {
			ahead := lead.clock.wall().Sub(n.clock.wall())
			n.clock.ahead.Store(int64(ahead))
			for _, h := range n.groups.all() {
				h.fresh.mu.Lock()
				if as := h.fresh.mu.asOf; as != known[h] && !as.at.IsZero() {
					as.at, as.boot = as.at.Add(ahead), as.boot+ahead
					h.fresh.mu.asOf, known[h] = as, as
				}
				h.fresh.mu.Unlock()
			}
		}
		pause(n.life, 10*time.Millisecond)
	}
}

// calledBy says whether a function is among those that called.
func calledBy(name string) bool {
	pcs := make([]uintptr, 12)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, name) {
			return true
		}
		if !more {
			return false
		}
	}
}
