package leader_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A primary that is gone is missed soon after the HeartbeatTimeout, by all: raft's own timers let the median be above
// twice of it. Two that miss it in the same instant may still block each other.
func TestDeadPrimaryIsMissedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := started(t, 3)
		const heartbeat = time.Second // leader.Config's default
		var gaps []time.Duration
		for range 25 {
			time.Sleep(3 * heartbeat) // contact from no time in particular
			dead, begun := p.Node, time.Now()
			c.Kill(dead)
			if p = c.Primary(20 * heartbeat); p == nil {
				t.Fatal("no other primary")
			}
			gaps = append(gaps, time.Since(begun))
			c.Start(dead)
			agree(t, c, time.Minute)
		}
		slices.Sort(gaps)
		t.Logf("gaps %v", gaps)
		if median := gaps[len(gaps)/2]; median > heartbeat*14/10 {
			t.Errorf("half of the time there was no primary for more than %v", median)
		}
		if late := gaps[len(gaps)*9/10]; late > heartbeat*15/10 {
			t.Errorf("a tenth of the time there was no primary for more than %v", late)
		}
		if gaps[0] < heartbeat*8/10 { // the last contact may be a tenth of it old
			t.Errorf("a primary was given up after %v", gaps[0])
		}
	})
}
