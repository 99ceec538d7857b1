package engine

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/tenant"
)

// delayed has entries committed a constant time after they were proposed, in their order, on virtual time.
func (l *testLog) delayed(t testing.TB, d time.Duration) {
	type due struct {
		heldEntry
		at time.Time
	}
	queue, over := make(chan due, 1024), make(chan struct{})
	entries := make(chan heldEntry)
	l.mu.Lock()
	l.queue = entries
	l.mu.Unlock()
	go func() {
		defer close(queue)
		for h := range entries {
			queue <- due{h, time.Now().Add(d)}
		}
	}()
	go func() {
		defer close(over)
		for h := range queue {
			time.Sleep(time.Until(h.at))
			l.mu.Lock()
			l.index++
			resp := l.g.Apply(l.index, 1, h.entry)
			l.mu.Unlock()
			h.done(resp, nil)
		}
	}()
	t.Cleanup(func() {
		l.mu.Lock()
		l.queue = nil
		l.mu.Unlock()
		close(entries)
		<-over
	})
}

// Clients that ask again when they are answered share few transactions, however long the way through the log is, and wait
// hardly longer than that for their answers; one or two wait exactly as long.
func TestPace(t *testing.T) {
	for _, way := range []time.Duration{500 * time.Microsecond, 2 * time.Millisecond, 50 * time.Millisecond} {
		for _, c := range []struct {
			clients int
			groups  float64 // for each way through the log, at most, besides one for each holdMax of it
			late    float64 // of a request's time to the way through the log, at most, on average
		}{{1, 1, 1}, {2, 2, 1}, {3, 2, 1.2}, {16, 2, 1.3}, {64, 2, 1.3}} {
			t.Run(fmt.Sprintf("%v/%d", way, c.clients), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, Config{})
					tn := r.create(1, tenant.Limits{})
					r.exec(tn, "CREATE TABLE t(a)")
					r.log.delayed(t, way)
					const each = 60
					groups := r.e.Stats.Groups.Load()
					began := time.Now()
					done := make(chan error)
					for range c.clients {
						go func() {
							for range each {
								if _, _, err := r.doCtx(context.Background(), tn, one("INSERT INTO t VALUES(1)")); err != nil {
									done <- err
									return
								}
							}
							done <- nil
						}()
					}
					for range c.clients {
						if err := <-done; err != nil {
							t.Error(err)
						}
					}
					took := time.Since(began)
					groups = r.e.Stats.Groups.Load() - groups
					ways := float64(took) / float64(way)
					t.Logf("%d requests: %d groups, %.2f of the way each", c.clients*each, groups, ways/each)
					if ways > each*c.late {
						t.Errorf("a request took %.2f of the way through the log", ways/each)
					}
					if most := ways*(c.groups+float64(way)/float64(holdMax)) + 12; float64(groups) > most {
						t.Errorf("%d groups, want at most %.0f", groups, most)
					}
				})
			})
		}
	}
}

// What pace says, step by step.
func TestPaceWaits(t *testing.T) {
	var p pace
	now := time.Unix(1000, 0)
	at := func(d time.Duration) time.Time { return now.Add(d) }
	wait := func(inLine int, after time.Duration, want time.Duration) {
		t.Helper()
		if got := p.wait(inLine, at(after)); got != want {
			t.Errorf("with %d in line after %v: wait %v, want %v", inLine, after, got, want)
		}
	}
	wait(1, 0, 0) // nothing is under way
	p.begin(8, now)
	p.end(8, now, at(2*time.Millisecond)) // a group takes 2 ms
	p.begin(8, now)
	wait(7, 0, 2*time.Millisecond)
	wait(7, time.Millisecond, time.Millisecond)
	wait(7, 2*time.Millisecond, 0) // long enough
	wait(8, 0, 0)                  // as many as are under way
	p.begin(8, at(time.Millisecond))
	wait(8, time.Millisecond, 2*time.Millisecond)
	p.end(8, now, at(2*time.Millisecond))
	wait(8, 2*time.Millisecond, 0)
	p.end(8, at(time.Millisecond), at(time.Second))
	for range 50 {
		p.begin(8, now)
		p.end(8, now, at(time.Second))
	}
	p.begin(8, now)
	wait(1, 0, holdMax) // never longer, whatever a group takes
}

// After answers left, pace waits for those who got them, for a moment, unless they don't ask again.
func TestPaceWaitsForThoseAnswered(t *testing.T) {
	const took = 10 * time.Millisecond
	var p pace
	now := time.Unix(1000, 0)
	// round has n requests come, run and be answered, of which so many are made up for at once; then it lets time pass.
	round := func(n, back int) {
		p.begin(n, now)
		now = now.Add(took)
		p.end(n, now.Add(-took), now)
		for range back {
			p.arrive()
		}
	}
	check := func(what string, want time.Duration) {
		t.Helper()
		if got := p.wait(8, now); got != want {
			t.Errorf("%s: wait %v, want %v", what, got, want)
		}
	}
	round(8, 8)
	check("nobody is known to come back", 0)
	for range 20 {
		round(8, 8)
	}
	check("all are back", 0)
	round(8, 7)
	check("one is missing", returnMax)
	now = now.Add(returnMax / 4)
	check("one is missing still", returnMax*3/4)
	p.arrive()
	check("it came", 0)
	round(8, 0)
	now = now.Add(returnMax)
	check("nobody came in time", 0)
	for range 20 {
		round(8, 1)
	}
	check("who is answered does not ask again so soon", 0)
	p.arrive()
	p.arrive() // more than are owed
	for range 20 {
		round(1, 1)
	}
	p.took = 100 * time.Microsecond
	round(1, 0)
	p.took = 100 * time.Microsecond
	check("a group takes no longer than that", 100*time.Microsecond)
}

// Clients that are answered together and come back one after the other, soon, share transactions still.
func TestPaceGathersThoseWhoComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		tn := r.create(1, tenant.Limits{})
		r.exec(tn, "CREATE TABLE t(a)")
		r.log.delayed(t, 2*time.Millisecond)
		const clients, each = 16, 60
		groups := r.e.Stats.Groups.Load()
		done := make(chan error)
		for i := range clients {
			go func() {
				for range each {
					time.Sleep(time.Duration(i) * 50 * time.Microsecond)
					if _, _, err := r.doCtx(context.Background(), tn, one("INSERT INTO t VALUES(1)")); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
		for range clients {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if per := float64(clients*each) / float64(r.e.Stats.Groups.Load()-groups); per < 8 {
			t.Errorf("%.1f requests shared a transaction", per)
		} else {
			t.Logf("%.1f requests shared a transaction", per)
		}
	})
}
