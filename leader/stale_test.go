package leader_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/leader/leadertest"
)

// deposed makes a primary that does not know yet that there is another, which
// has answered a write: it handed leadership on, and hears nothing from the
// voters since. heal lets one more of what they said before come through.
func deposed(t *testing.T, c *leadertest.Cluster, old *leadertest.Life) (next *leadertest.Life, third leader.NodeID) {
	t.Helper()
	for _, n := range c.Nodes() {
		switch conf, _ := old.Group.Configuration(); {
		case n.ID == old.Node:
		case !isVoter(conf, n.ID):
		case next == nil:
			next = n.Life
		default:
			third = n.ID
		}
	}
	if _, err := old.Propose("first"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // all know it, and connections are open
	// What the voters say to the old primary from now on stays under way: also what
	// they say to messages that it sent before the election.
	c.Net.Cut(third, old.Node)
	time.Sleep(120 * time.Millisecond) // one message at least
	term := next.Group.Stats().Term
	for _, a := range c.Nodes() {
		for _, b := range c.Nodes() {
			c.Net.Delay(a.ID, b.ID, 5*time.Millisecond)
		}
	}
	go func() { _ = old.Group.TransferLeadership(context.Background(), next.Node) }()
	for end := time.Now().Add(250 * time.Millisecond); next.Group.Stats().Term == term; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no election")
		}
	}
	c.Net.Cut(next.Node, old.Node)
	if !leadertest.Wait(100*time.Millisecond, func() bool { return next.Group.Primary() == nil }) {
		t.Fatal("leadership was not taken over")
	}
	if s, err := next.Propose("second"); err != nil || s.Len != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	if old.Group.Primary() != nil {
		t.Fatal("the old primary knows already")
	}
	return next, third
}

func isVoter(c leader.Configuration, id leader.NodeID) bool {
	m, ok := c.Member(id)
	return ok && m.Voter
}

// index asks for a read index, without waiting.
func index(read func() (uint64, error)) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := read()
		done <- err
	}()
	synctest.Wait()
	return done
}

// staleness are the ways to ask a deposed primary, and whether it answers.
func staleness(t *testing.T, scenario func(t *testing.T, read func(*leader.Group) (uint64, error)) error) {
	const tries = 20 // what was held back comes in any order
	t.Run("ReadIndex", func(t *testing.T) {
		for range tries {
			synctest.Test(t, func(t *testing.T) {
				err := scenario(t, func(g *leader.Group) (uint64, error) { return g.ReadIndex(context.Background()) })
				if !errors.As(err, new(*leader.NotPrimaryError)) && !errors.Is(err, leader.ErrUnconfirmed) {
					t.Errorf("the deposed primary answered: %v", err)
				}
			})
		}
	})
	// That the scenario is one: raft's own means lets it answer.
	t.Run("VerifyLeader", func(t *testing.T) {
		deceived := 0
		for range tries {
			synctest.Test(t, func(t *testing.T) {
				if scenario(t, (*leader.Group).VerifyLeader) == nil {
					deceived++
				}
			})
		}
		t.Logf("raft's VerifyLeader was deceived in %d of %d tries", deceived, tries)
		if deceived == 0 {
			t.Error("the scenario shows nothing: raft's VerifyLeader is not deceived")
		}
	})
}

// Acknowledgements of before an election prove nothing after it.
func TestHeldBackAcknowledgements(t *testing.T) {
	staleness(t, func(t *testing.T, read func(*leader.Group) (uint64, error)) error {
		c, old := started(t, 3)
		_, third := deposed(t, c, old)
		answered := index(func() (uint64, error) { return read(old.Group) })
		c.Net.Heal(third, old.Node)
		return <-answered
	})
}

// A learner's acknowledgement proves nothing about the voters.
func TestLearnerBesideDeposedPrimary(t *testing.T) {
	staleness(t, func(t *testing.T, read func(*leader.Group) (uint64, error)) error {
		c, _ := started(t, 3)
		c.Start("n4")
		change(t, c, func(ctx context.Context, g *leader.Group, index uint64) error { return g.AddLearner(ctx, "n4", index) })
		agree(t, c, time.Minute)
		old := c.Primary(time.Minute)
		for _, n := range c.Nodes() {
			if n.Life != old && n.ID != "n4" {
				c.Net.Cut(n.ID, "n4")
				c.Net.Cut("n4", n.ID)
			}
		}
		deposed(t, c, old)
		return <-index(func() (uint64, error) { return read(old.Group) })
	})
}
