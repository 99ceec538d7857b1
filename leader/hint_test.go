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

// A read at a follower does not wait for the moment that a commit waits for the next entry.
func TestFollowersThatReadHearOfCommitsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := started(t, 3)
		for i := range 20 {
			time.Sleep(500 * time.Millisecond)
			if _, err := p.Propose(fmt.Sprint("entry", i)); err != nil {
				t.Fatal(err)
			}
			at := time.Now()
			for _, n := range c.Nodes() {
				if n.Life == p {
					continue
				}
				index, err := n.Life.Group.ReadIndexAt(t.Context())
				if err == nil {
					err = n.Life.Group.WaitApplied(t.Context(), index)
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := n.Life.List.State().Len; got != i+1 {
					t.Fatalf("it has %d entries of %d", got, i+1)
				}
			}
			if d := time.Since(at); d > 3*time.Millisecond {
				t.Errorf("entry %d: followers had read it %v after it was answered", i, d)
			}
		}
	})
}
