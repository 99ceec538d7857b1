package sqlnode

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/wire"
)

// A request that was forwarded and comes back, because its node could not be reached, goes by index, and so do others until the node has answered; of as many requests as there
// are, a few are remembered, and none is kept in memory.
func TestStrongReadComesBack(t *testing.T) {
	at := strongAt{group: 2, feeder: "n2", node: "n1"}
	s := newStrongWays()
	way := func(at strongAt, req *wire.Request) readpath.Way {
		c, _ := s.choose(at, readpath.WayFacts{Askable: true, Elsewhere: true, Now: time.Now()}, req)
		return c.Way
	}
	way(at, new(wire.Request))
	s.took(at, readpath.ByIndex, time.Second, true, nil)
	s.took(at, readpath.ByVoter, time.Millisecond, true, nil)
	req, other := new(wire.Request), new(wire.Request)
	if got := way(at, req); got != readpath.ByVoter {
		t.Fatal(got)
	}
	s.forwards(at, req, false)
	if got := way(at, other); got != readpath.ByVoter {
		t.Errorf("another request: %v", got)
	}
	s.forwards(at, other, false)
	if got := way(at, req); got != readpath.ByIndex {
		t.Errorf("the request, again: %v", got)
	}
	if got := way(at, new(wire.Request)); got != readpath.ByIndex {
		t.Errorf("another one after that: %v", got)
	}
	// The group has another primary: nothing is known of that.
	at.node = "n3"
	if got := way(at, new(wire.Request)); got != readpath.ByIndex {
		t.Errorf("another node, of which nothing is known: %v", got)
	}
	s.took(at, readpath.ByVoter, time.Millisecond, true, nil)
	if got := way(at, new(wire.Request)); got != readpath.ByVoter {
		t.Errorf("another node: %v", got)
	}
	for range strongSent {
		s.forwards(at, new(wire.Request), false)
	}
	if got := way(at, other); got != readpath.ByVoter {
		t.Errorf("a request of long ago: %v", got)
	}
}

// What is known is bounded by the groups, and feeders of them, that are in use.
func TestStrongWaysForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStrongWays()
		for i := range 100 {
			at := strongAt{group: wire.GroupID(2 + i%10*(i/50)), feeder: fmt.Sprint("n", i), node: "n1"}
			s.choose(at, readpath.WayFacts{Askable: true, Elsewhere: true, Now: time.Now()}, new(wire.Request))
			time.Sleep(strongKeeps / 4)
		}
		if n := len(s.mu.groups); n > 6 {
			t.Errorf("%d groups", n)
		}
		for id, g := range s.mu.groups {
			if len(g.feeders) > 6 {
				t.Errorf("%d feeders of group %d", len(g.feeders), id)
			}
		}
	})
}
