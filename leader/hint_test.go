package leader_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/leader/leadertest"
)

// Followers have an entry soon after it is committed, also when nothing follows it.
func TestFollowersHearOfCommitsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := started(t, 3)
		for i := range 20 {
			time.Sleep(500 * time.Millisecond)
			if _, err := p.Propose(fmt.Sprint("entry", i)); err != nil {
				t.Fatal(err)
			}
			at := time.Now()
			if !leadertest.Wait(time.Second, func() bool {
				for _, n := range c.Nodes() {
					if n.Life.List.State().Len != i+1 {
						return false
					}
				}
				return true
			}) {
				t.Fatal("a follower does not have the entry after a second")
			}
			if d := time.Since(at); d > 10*time.Millisecond {
				t.Errorf("entry %d: the last follower had it %v after it was answered", i, d)
			}
		}
	})
}
