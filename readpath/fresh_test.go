package readpath

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/nearsql/nearsql/wire"
)

// handClock is set by hand.
type handClock struct{ now Instant }

func (c *handClock) Now() Instant { return c.now }

func (c *handClock) pass(mono, boot, wall time.Duration) {
	c.now.Mono += mono
	c.now.Boot += boot
	c.now.Wall += wall
}

func TestElapsed(t *testing.T) {
	at := func(m, b, w time.Duration) Instant { return Instant{m * time.Second, b * time.Second, w * time.Second} }
	for _, c := range []struct {
		from, to Instant
		want     time.Duration
	}{
		{at(1, 1, 1), at(1, 1, 1), 1},
		{at(1, 1, 1), at(2, 2, 2), time.Second + time.Millisecond + 1},
		{at(1, 1, 1), at(1, 601, 1), 600*time.Second + 600*time.Millisecond + 1},
		{at(1, 1, 1), at(1, 1, 601), 600*time.Second + 600*time.Millisecond + 1},
		{at(1, 1, 1000), at(2, 2, 1), time.Second + time.Millisecond + 1}, // the time of day was set back
		{at(2, 2, 2), at(1, 1, 1), 0},
	} {
		if got := Elapsed(c.from, c.to); got != c.want {
			t.Errorf("from %v to %v: got %v, want %v", c.from, c.to, got, c.want)
		}
	}
}

func TestSystemClock(t *testing.T) {
	c := NewSystemClock()
	a := c.Now()
	b := c.Now()
	if d := Elapsed(a, b); d <= 0 || d > time.Minute || b.Mono < a.Mono || b.Boot < a.Boot || b.Boot == 0 {
		t.Errorf("from %+v to %+v: %v", a, b, d)
	}
}

func TestPairs(t *testing.T) {
	clock := &handClock{}
	ticks := NewTicks(clock)
	p := NewPairs(ticks)
	if p.Fresh(1 << 62).Known {
		t.Error("fresh before there was an answer")
	}
	first := p.Ask()
	clock.pass(time.Second, time.Second, time.Second)
	ticks.tick()
	second := p.Ask()
	p.Confirm(second, 20)
	p.Confirm(first, 10) // late
	for _, c := range []struct {
		index uint64
		want  Freshness
	}{
		{9, Freshness{}}, {10, Freshness{true, first.At()}}, {19, Freshness{true, first.At()}}, {20, Freshness{true, second.At()}}, {99, Freshness{true, second.At()}},
	} {
		if got := p.Fresh(c.index); got != c.want {
			t.Errorf("at %d: got %+v, want %+v", c.index, got, c.want)
		}
	}
}

// TestGapDropsPairs: after a gap of ticks nothing is known, whichever clock saw it, and an answer to a question of before is no answer.
func TestGapDropsPairs(t *testing.T) {
	for i, pass := range [][3]time.Duration{{3 * time.Second, 0, 0}, {0, 3 * time.Second, 0}, {0, 0, 3 * time.Second}} {
		clock := &handClock{}
		ticks := NewTicks(clock)
		p := NewPairs(ticks)
		p.Confirm(p.Ask(), 5)
		asked := p.Ask()
		clock.pass(time.Second, time.Second, time.Second)
		if !p.Fresh(5).Known {
			t.Errorf("%d: dropped after a second", i)
		}
		ticks.tick()
		clock.pass(pass[0], pass[1], pass[2])
		if p.Fresh(5).Known {
			t.Errorf("%d: known after a gap, before the next tick", i)
		}
		ticks.tick()
		p.Confirm(asked, 5)
		if p.Fresh(5).Known {
			t.Errorf("%d: known by an answer to a question from before the gap", i)
		}
		p.Confirm(p.Ask(), 5)
		if !p.Fresh(5).Known {
			t.Errorf("%d: not known by a new answer", i)
		}
	}
}

// TestPairsProperty: whatever is kept, what Fresh says follows from an answer that was given.
func TestPairsProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock := &handClock{}
		ticks := NewTicks(clock)
		p := NewPairs(ticks)
		type given struct {
			at    Instant
			index uint64
		}
		var asks []Asked
		var all []given
		index := uint64(0)
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			clock.pass(time.Millisecond, time.Millisecond, time.Millisecond)
			ticks.tick()
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				asks = append(asks, p.Ask())
			case 1:
				if len(asks) > 0 {
					i := rapid.IntRange(0, len(asks)-1).Draw(t, "which")
					index += rapid.Uint64Range(0, 5).Draw(t, "more")
					p.Confirm(asks[i], index)
					all = append(all, given{asks[i].At(), index})
					asks = append(asks[:i], asks[i+1:]...)
				}
			case 2:
				at := rapid.Uint64Range(0, index+1).Draw(t, "index")
				fresh := p.Fresh(at)
				ok := !fresh.Known
				for _, g := range all {
					ok = ok || g.index <= at && g.at == fresh.AsOf
				}
				if !ok {
					t.Fatalf("fresh as of %v at %d follows from no answer", fresh.AsOf, at)
				}
				if len(all) > 0 && at >= index && !fresh.Known {
					t.Fatal("the newest state is of unknown age")
				}
			}
			if len(p.mu.pairs) > pairsMax {
				t.Fatalf("%d pairs", len(p.mu.pairs))
			}
		}
	})
}

// TestRounds: an answer is of a question that was sent after the call.
func TestRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		r := NewRounds(func(context.Context) (uint64, error) {
			asked++
			index := uint64(time.Since(time.Unix(0, 0)))
			time.Sleep(time.Second)
			return index, nil
		})
		var calls sync.WaitGroup
		for i := range 20 {
			calls.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Millisecond)
				before := uint64(time.Since(time.Unix(0, 0)))
				if index, err := r.Join(t.Context()); err != nil || index < before {
					t.Errorf("call %d: %d, %v; asked before it came", i, index, err)
				}
			})
		}
		calls.Wait()
		if asked > 4 {
			t.Errorf("asked %d times", asked)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := r.Join(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		r.End()
		if _, err := r.Join(t.Context()); !errors.Is(err, ErrEnded) {
			t.Error(err)
		}
	})
}

func TestDemand(t *testing.T) {
	d := NewDemand(DemandConfig{Reads: 3, Window: time.Minute, Idle: time.Hour, Retry: 10 * time.Second, Tracked: 2})
	a, b, c := wire.TenantID{1}, wire.TenantID{2}, wire.TenantID{3}
	at := func(s int) time.Duration { return time.Duration(s) * time.Second }
	want := func(id wire.TenantID, s int, fetch bool) {
		t.Helper()
		if got := d.Read(id, at(s)); got != fetch {
			t.Errorf("read of %v at %d: fetch %v, want %v", id[0], s, got, fetch)
		}
	}
	want(a, 0, false)
	want(a, 1, false)
	want(a, 100, false) // too long ago: it is the first again
	want(a, 101, false)
	want(a, 102, true)
	want(a, 103, false) // once
	d.Fetched(a, at(104), errors.New("no"))
	want(a, 105, false)
	want(a, 115, true)
	want(b, 116, false)
	want(c, 117, false) // b is forgotten for it: a is being fetched
	want(b, 118, false)
	want(b, 119, false)
	want(b, 120, true)
	want(c, 121, false) // both that are remembered are being fetched
	d.Fetched(a, at(122), nil)
	d.Fetched(b, at(122), nil)
	want(a, 200, false) // it is here
	if idle := d.Evict(at(122 + 3601)); len(idle) != 1 || idle[0] != b {
		t.Errorf("idle: %v", idle)
	}
	if idle := d.Evict(at(122 + 3601)); len(idle) != 0 {
		t.Errorf("again: %v", idle)
	}
	d.Forget(a)
	want(a, 4000, false)
	if len(d.mu.held)+len(d.mu.counted) > 2 {
		t.Error("something grows")
	}
}

// stuck is a voter that answers, and applies nothing for some time.
type stuck struct {
	mu      sync.Mutex
	index   uint64
	applied uint64
	err     error
}

func (v *stuck) ReadIndexAt(context.Context) (uint64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.index, v.err
}

func (v *stuck) WaitApplied(ctx context.Context, index uint64) error {
	for v.Applied() < index {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

func (v *stuck) Applied() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.applied
}

func (v *stuck) set(index, applied uint64, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.index, v.applied, v.err = index, applied, err
}

// TestProber: a voter's copies are as fresh as what it has applied, and a primary that nobody confirms has copies that age.
func TestProber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := NewSystemClock()
		ticks := NewTicks(clock)
		v := &stuck{}
		p := NewProber(ProberConfig{Voter: v, Ticks: ticks})
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { _ = ticks.Run(ctx) })
		run.Go(func() { _ = p.Run(ctx) })
		age := func() time.Duration {
			f := p.Fresh()
			if !f.Known {
				return -1
			}
			// The boot time of the machine knows nothing of the bubble.
			return clock.Now().Mono - f.AsOf.Mono
		}
		time.Sleep(2 * time.Second)
		if a := age(); a < 0 || a > time.Second {
			t.Errorf("well: %v", a)
		}
		v.set(7, 6, nil) // one is committed, and not applied here
		time.Sleep(2 * time.Second)
		if a := age(); a < 2*time.Second {
			t.Errorf("behind for 2 s: %v", a)
		}
		v.set(7, 7, nil)
		if err := p.Confirm(ctx); err != nil {
			t.Error(err)
		}
		if a := age(); a < 0 || a > time.Second {
			t.Errorf("caught up: %v", a)
		}
		v.set(0, 7, errors.New("not confirmed"))
		time.Sleep(10 * time.Second)
		if a := age(); a < 9*time.Second {
			t.Errorf("deposed for 10 s: %v", a)
		}
		if err := p.Confirm(ctx); err == nil {
			t.Error("confirmed")
		}
		cancel()
		run.Wait()
	})
}
