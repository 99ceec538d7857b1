package main

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestClockworkLeast(t *testing.T) {
	var c clockwork
	began := time.Now()
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	if got := c.least(at(1000), 0); got != 0 {
		t.Errorf("of nothing: %d", got)
	}
	c.acknowledge(1, at(1000))
	c.acknowledge(3, at(2000)) // that of 2 was lost
	c.acknowledge(2, at(2100)) // and came late
	c.acknowledge(5, at(5000))
	for _, x := range []struct {
		call  int
		bound time.Duration
		want  int64
	}{
		{900, 0, 0}, {1010, 0, 0}, {1030, 0, 1}, {1900, 0, 1}, {2030, 0, 3}, {2015, time.Second, 0}, {2040, time.Second, 1}, {9000, 5 * time.Second, 3}, {9000, time.Second, 5}, {5100, 90 * time.Millisecond, 3},
	} {
		if got := c.least(at(x.call), x.bound); got != x.want {
			t.Errorf("sent at %d ms with a bound of %s: %d, want %d", x.call, x.bound, got, x.want)
		}
	}
}

// TestClockworkNoFalseAlarm: a copy that is as old as the bound allows at a moment after the read was sent is never complained of.
func TestClockworkNoFalseAlarm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c clockwork
		began := time.Now()
		var commits []time.Time // of n = index + 1
		now := began
		for range rapid.IntRange(1, 40).Draw(t, "ticks") {
			now = now.Add(time.Duration(rapid.IntRange(1, 500).Draw(t, "ms until the commit")) * time.Millisecond)
			commits = append(commits, now)
			now = now.Add(time.Duration(rapid.IntRange(0, 300).Draw(t, "ms until the answer")) * time.Millisecond)
			if rapid.IntRange(0, 4).Draw(t, "heard") > 0 {
				c.acknowledge(int64(len(commits)), now)
			}
		}
		call := began.Add(time.Duration(rapid.IntRange(0, 30_000).Draw(t, "call")) * time.Millisecond)
		start := call.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "until it is there")) * time.Millisecond)
		bound := bounds[rapid.IntRange(0, len(bounds)-1).Draw(t, "bound")]
		saw := int64(0)
		for i, at := range commits {
			if !at.After(start.Add(-bound)) {
				saw = int64(i + 1)
			}
		}
		if want := c.least(call, bound); saw < want {
			t.Fatalf("a read within %s that saw %d is complained of: %d", bound, saw, want)
		}
	})
}
