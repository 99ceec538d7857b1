package sqlnode

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/wire"
)

// freshness knows as of when this node's copy of a group is surely complete: pairs of a time at which a
// read-index round was asked for and the index that it gave, once that has been applied. Times are this node's
// own. A primary is no exception: one that was deposed learns it by the round that nobody confirms.
type freshness struct {
	h     *hosted
	ticks *readpath.Ticks // nil for a node on its own

	mu struct {
		sync.Mutex
		asOf   instant       // the copy is complete as of then
		era    uint64        // of ticks then: what was known before the machine stood still is not used
		used   time.Time     // when somebody last asked
		probed chan struct{} // closed when the probe under way has ended; nil when there is none
		err    error         // of the last probe
	}
	wake chan struct{} // somebody asks, after a rest
}

// probeEvery is how often a group is probed while reads with a bound come, and for probeRest after the last; idleEvery
// how often else.
const (
	probeEvery = 100 * time.Millisecond
	probeRest  = 5 * time.Second
	idleEvery  = 2 * time.Second
)

func newFreshness(h *hosted, ticks *readpath.Ticks) *freshness {
	return &freshness{h: h, ticks: ticks, wake: make(chan struct{}, 1)}
}

// eraNow is the era of the node's clocks.
func (f *freshness) eraNow() uint64 {
	_, era := f.ticks.Now()
	return era
}

// within returns the age of this node's copy when it is known to be at most max; otherwise it asks, and waits
// for the answer.
func (f *freshness) within(ctx context.Context, max time.Duration) (time.Duration, error) {
	if f.alone() {
		return 0, nil
	}
	for try := 0; ; try++ {
		f.mu.Lock()
		idle := f.h.now().Sub(f.mu.used) > probeRest
		f.mu.used = f.h.now()
		age, known := f.mu.asOf.age()
		if known && age <= max && f.mu.era == f.eraNow() {
			f.mu.Unlock()
			if idle {
				f.wakeUp()
			}
			return age, nil
		}
		if try > 0 && f.mu.err != nil {
			err := f.mu.err
			f.mu.Unlock()
			return 0, err
		}
		if try == 3 { // the bound is shorter than a round takes: only a round of its own proves anything
			f.mu.Unlock()
			return 0, errTooSlow
		}
		probed := f.mu.probed
		if probed == nil {
			probed = make(chan struct{})
			f.mu.probed = probed
			go f.probe(context.WithoutCancel(ctx), probed)
		}
		f.mu.Unlock()
		if idle {
			f.wakeUp()
		}
		select {
		case <-probed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (f *freshness) wakeUp() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// probe asks once. It ends by itself: rounds have a timeout.
func (f *freshness) probe(ctx context.Context, probed chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	era := f.eraNow()
	at := now()
	index, err := f.h.log().ReadIndexAt(ctx)
	if err == nil {
		err = f.h.log().WaitApplied(ctx, index)
	}
	f.mu.Lock()
	if err == nil {
		f.mu.asOf, f.mu.era = at, era
	}
	f.mu.err = err
	f.mu.probed = nil
	close(probed)
	f.mu.Unlock()
}

const probePatience = 5 * time.Second

// alone says whether there are no other nodes: this one is the primary.
func (f *freshness) alone() bool { return f.h.single }

// run probes ahead of reads: often while they come, now and then else, so that the default bound never has to wait.
func (f *freshness) run(ctx context.Context) {
	if f.alone() {
		return
	}
	every := idleEvery
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		case <-timer.C:
			f.mu.Lock()
			if f.mu.probed == nil {
				f.mu.probed = make(chan struct{})
				go f.probe(ctx, f.mu.probed)
			}
			f.mu.Unlock()
		}
		f.mu.Lock()
		if every = idleEvery; f.h.now().Sub(f.mu.used) <= probeRest {
			every = probeEvery
		}
		f.mu.Unlock()
		timer.Reset(every)
	}
}

// errTooSlow says that the bound is shorter than a question to the voters takes.
var errTooSlow = wire.NewError(wire.CodeStale, "the bound is shorter than a question to the group's voters takes: ask with consistency=strong")

// instant is a moment on this node's clocks. The zero value is no moment.
type instant struct {
	at   time.Time     // wall and monotonic clock
	boot time.Duration // since boot, suspended time included
}

func now() instant { return instant{time.Now(), sinceBoot()} }

// age is how much time has passed since, at most: what the fastest of the clocks says, and a
// thousandth more for its rate. A clock that stands still, as the monotonic one does while the
// machine is suspended, does not make a copy look young.
func (i instant) age() (d time.Duration, ok bool) {
	if i.at.IsZero() {
		return 0, false
	}
	n := now()
	d = max(n.at.Sub(i.at), n.at.Round(0).Sub(i.at.Round(0)), n.boot-i.boot)
	return d + d/1000, true
}

// sinceBoot is the clock that goes on while the machine is suspended; 0 where there is none.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
