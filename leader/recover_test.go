package leader_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/leader/leadertest"
)

func recovery(node leader.NodeID, fsys disk.FS) leader.RecoverConfig {
	return leader.RecoverConfig{Group: leadertest.Group, Node: node, FS: fsys, Dir: "/g"}
}

func recoverNode(t *testing.T, node leader.NodeID, fsys disk.FS, entries ...string) []string {
	t.Helper()
	var had leadertest.List
	was, err := leader.Examine(recovery(node, fsys), &had)
	must(t, err)
	var more [][]byte
	for _, e := range entries {
		more = append(more, []byte(e))
	}
	must(t, leader.Recover(recovery(node, fsys), was, more))
	return append(had.Entries(), entries...)
}

func proposeAll(t *testing.T, l *leadertest.Life, name string, n int) {
	t.Helper()
	for i := range n {
		if _, err := l.Propose(fmt.Sprintf("%s %d", name, i)); err != nil {
			t.Fatal(err)
		}
	}
}

// lost makes a cluster whose n1 and n2 went on without n3, and all of which are down; it returns what n3 has at least.
func lost(t *testing.T, snapshot bool) (*leadertest.Cluster, []string) {
	t.Helper()
	c, p := started(t, 3)
	proposeAll(t, p, "first", 30)
	if snapshot {
		must(t, p.Group.Snapshot())
	}
	common := agree(t, c, 5*time.Second)
	if snapshot {
		must(t, c.Life("n3").Group.Snapshot())
	}
	must(t, c.Stop("n3"))
	if p = c.Primary(time.Minute); p == nil {
		t.Fatal("no primary without n3")
	}
	proposeAll(t, p, "without n3", 10)
	must(t, c.Stop("n1"))
	must(t, c.Stop("n2"))
	return c, common
}

func node(c *leadertest.Cluster, id leader.NodeID) *leadertest.Node {
	for _, n := range c.Nodes() {
		if n.ID == id {
			return n
		}
	}
	return nil
}

// TestRecover is two of three nodes lost for good: the third goes on alone with all that it has, others join it, and
// what the two may still say changes nothing.
func TestRecover(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		t.Run(fmt.Sprintf("snapshot=%v", snapshot), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, common := lost(t, snapshot)
				was, err := leader.Examine(recovery("n3", node(c, "n3").Disk), &leadertest.List{})
				must(t, err)
				want := recoverNode(t, "n3", node(c, "n3").Disk, "epoch of a", "epoch of b")
				if !slices.Equal(want[:len(want)-2], common) {
					t.Fatalf("n3 had %q, want %q", want, common)
				}
				begin := time.Now()
				n3 := c.Start("n3")
				if p := c.Primary(time.Minute); p != n3 {
					t.Fatal("n3 does not lead")
				}
				if took := time.Since(begin); took > time.Second {
					t.Errorf("n3 leads after %v: it waits for nobody", took)
				}
				if got := n3.List.Entries(); !slices.Equal(got, want) {
					t.Fatalf("entries %q, want %q", got, want)
				}
				// No entry of the others can have the index and term of one here.
				if now, _ := n3.Group.Leadership(); now.Term <= was.Term+1<<20 {
					t.Errorf("n3 leads in term %d, it had heard of %d", now.Term, was.Term)
				}
				conf, err := n3.Group.Configuration()
				if err != nil || len(conf.Members) != 1 || !conf.Members[0].Voter || conf.Members[0].ID != "n3" {
					t.Fatalf("configuration %+v, %v", conf, err)
				}
				proposeAll(t, n3, "second", 10)
				// New nodes join. An old one may not, whatever its disk has.
				c.Start("n4")
				change(t, c, func(ctx context.Context, g *leader.Group, i uint64) error { return g.AddLearner(ctx, "n4", i) })
				change(t, c, func(ctx context.Context, g *leader.Group, i uint64) error { return g.Promote(ctx, "n4", i) })
				want = agree(t, c, time.Minute)
				conf, err = n3.Group.Configuration()
				must(t, err)
				var member *leader.MemberError
				if err := n3.Group.AddLearner(t.Context(), "n1", conf.Index); !errors.As(err, &member) {
					t.Fatalf("n1 was added again: %v", err)
				}
				// The two come back: alone they are a majority of the old three, which nobody can keep from them. n3
				// and n4 do not listen.
				c.Start("n1")
				c.Start("n2")
				time.Sleep(time.Minute)
				proposeAll(t, n3, "third", 10)
				for _, l := range []*leadertest.Life{n3, c.Life("n4")} {
					if !leadertest.Wait(10*time.Second, func() bool { return l.List.State().Len == len(want)+10 }) {
						t.Fatalf("%s has %d entries, want %d", l.Node, l.List.State().Len, len(want)+10)
					}
				}
				if now, _ := n3.Group.Leadership(); !now.Primary {
					t.Error("n3 lost leadership to a node that was left behind")
				}
			})
		})
	}
}

// TestExpelledAfterRestart: n3 keeps in mind whom it left behind, over restarts, power failures and a second recovery.
func TestExpelledAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := lost(t, false)
		recoverNode(t, "n3", node(c, "n3").Disk, "epoch")
		rng := rand.New(rand.NewPCG(1, 2))
		for range 3 {
			c.Start("n3")
			if c.Primary(time.Minute) == nil {
				t.Fatal("no primary")
			}
			c.Crash("n3", rng)
		}
		// It hears of the two before it leads.
		c.Start("n1")
		c.Start("n2")
		old := c.Primary(time.Minute)
		if old == nil {
			t.Fatal("the two have no primary")
		}
		proposeAll(t, old, "lost history", 20)
		n3 := c.Start("n3")
		time.Sleep(30 * time.Second)
		if now, _ := n3.Group.Leadership(); !now.Primary {
			t.Fatal("n3 does not lead")
		}
		for _, e := range n3.List.Entries() {
			if e == "lost history 0" || e == "without n3 0" {
				t.Fatalf("n3 has %q", e)
			}
		}
		must(t, c.Stop("n3"))
		was, err := leader.Examine(recovery("n3", node(c, "n3").Disk), &leadertest.List{})
		if err != nil || !was.Alone("n3") || !slices.Equal(was.Expelled, []leader.NodeID{"n1", "n2"}) {
			t.Fatalf("examined: %+v, %v", was, err)
		}
	})
}

// TestRecoveredLearner: the last copy may be a learner's.
func TestRecoveredLearner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := started(t, 3)
		c.Start("n4")
		change(t, c, func(ctx context.Context, g *leader.Group, i uint64) error { return g.AddLearner(ctx, "n4", i) })
		proposeAll(t, p, "first", 5)
		want := agree(t, c, time.Minute)
		for _, id := range []leader.NodeID{"n4", "n1", "n2", "n3"} {
			must(t, c.Stop(id))
		}
		recoverNode(t, "n4", node(c, "n4").Disk)
		n4 := c.Start("n4")
		if c.Primary(time.Minute) != n4 || !slices.Equal(n4.List.Entries(), want) {
			t.Fatalf("n4 has %q, want %q", n4.List.Entries(), want)
		}
	})
}

// TestLostHistoryIsNotJoined: a learner that applied what the recovered node never had takes nothing from it.
func TestLostHistoryIsNotJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := started(t, 3)
		c.Start("n4")
		change(t, c, func(ctx context.Context, g *leader.Group, i uint64) error { return g.AddLearner(ctx, "n4", i) })
		proposeAll(t, p, "first", 5)
		agree(t, c, time.Minute)
		must(t, c.Stop("n3"))
		if p = c.Primary(time.Minute); p == nil {
			t.Fatal("no primary without n3")
		}
		proposeAll(t, p, "without n3", 10)
		had := agree(t, c, time.Minute)
		for _, id := range []leader.NodeID{"n4", "n1", "n2"} {
			must(t, c.Stop(id))
		}
		recoverNode(t, "n3", node(c, "n3").Disk)
		n3, n4 := c.Start("n3"), c.Start("n4")
		if c.Primary(time.Minute) != n3 {
			t.Fatal("n3 does not lead")
		}
		proposeAll(t, n3, "second", 20)
		conf, err := n3.Group.Configuration()
		must(t, err)
		must(t, n3.Group.AddLearner(t.Context(), "n4", conf.Index))
		time.Sleep(time.Minute)
		// n4 had applied nothing in this life, so raft may still take all of the new history; what it must never do
		// is to mix the two.
		if got := n4.List.Entries(); !slices.Equal(got, had) && !slices.Equal(got, n3.List.Entries()) && !(len(got) <= len(had) && slices.Equal(got, had[:len(got)])) {
			t.Fatalf("n4 mixes histories: %q", got)
		}
	})
}

// TestHistoryOfAnotherTerm: a running follower refuses to unapply.
func TestHistoryOfAnotherTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, tr := asPeer(t)
		appendEntries(t, tr, 1, 1, 3, "a", "b")
		time.Sleep(time.Second)
		if err := contradict(tr, 6); err == nil {
			t.Fatal("a log was taken that contradicts what was applied")
		}
		if got := c.Life("n1").List.Entries(); !slices.Equal(got, []string{"a", "b"}) {
			t.Fatalf("entries %q", got)
		}
		appendEntries(t, tr, 3, 5, 4, "c")
		if err := contradict(tr, 5); err != nil {
			t.Fatalf("entries that were sent again: %v", err)
		}
	})
}

// TestEntriesOfADeposedPrimary: what was under way when another primary was elected is refused by its term, as raft
// does, and tells no operator of histories that differ.
func TestEntriesOfADeposedPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, tr := asPeer(t)
		appendEntries(t, tr, 1, 1, 4, "a", "b", "c")
		time.Sleep(time.Second)
		req := raft.AppendEntriesRequest{RPCHeader: header(), Term: 4, PrevLogEntry: 1, PrevLogTerm: 1, LeaderCommitIndex: 1}
		req.Entries = []*raft.Log{{Index: 2, Term: 4, Type: raft.LogCommand, Data: []byte("never committed")}}
		var resp raft.AppendEntriesResponse
		if err := tr.AppendEntries("n1", "n1", &req, &resp); err != nil || resp.Success || resp.Term != 5 {
			t.Fatalf("%+v, %v", resp, err)
		}
		if got := c.Life("n1").List.Entries(); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Fatalf("entries %q", got)
		}
	})
}

func TestNotRecoverable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := lost(t, false)
		for id, fsys := range map[leader.NodeID]disk.FS{"n3": disktest.NewMemFS(), "n9": node(c, "n3").Disk} {
			var not *leader.NotRecoverableError
			if _, err := leader.Examine(recovery(id, fsys), &leadertest.List{}); !errors.As(err, &not) {
				t.Errorf("%s: %v", id, err)
			}
		}
		was, err := leader.Examine(recovery("n3", node(c, "n3").Disk), &leadertest.List{})
		if err != nil || was.Alone("n3") || len(was.Members) != 3 || was.Last < 31 || was.Command == 0 {
			t.Fatalf("examined: %+v, %v", was, err)
		}
		was.Last--
		var not *leader.NotRecoverableError
		if err := leader.Recover(recovery("n3", node(c, "n3").Disk), was, nil); !errors.As(err, &not) {
			t.Errorf("recovered what was not examined: %v", err)
		}
		// Nothing has changed: the three go on.
		c.StartAll()
		if c.Primary(time.Minute) == nil {
			t.Error("no primary")
		}
	})
}

// TestRecoverCrash ends a recovery at each of its operations on the disk: the copy is as it was, and is recovered the next
// time, or it is recovered, with all of the entries.
func TestRecoverCrash(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, 1))
		c, common := lost(t, true)
		base := node(c, "n3").Disk
		big := string(make([]byte, 700<<10)) // so that there are several batches
		outcomes := map[bool]int{}
		for n := 1; ; n++ {
			fsys := base.Crash(rng)
			f := disktest.NewFaults(fsys)
			was, err := leader.Examine(recovery("n3", f), &leadertest.List{})
			must(t, err)
			f.CrashNth(f.Count() + n)
			err = leader.Recover(recovery("n3", f), was, [][]byte{[]byte("x" + big), []byte("y" + big), []byte("z")})
			done := err == nil
			fsys = fsys.Crash(rng)
			var list leadertest.List
			now, err := leader.Examine(recovery("n3", fsys), &list)
			if err != nil {
				t.Fatalf("after a crash at operation %d: %v", n, err)
			}
			got := list.Entries()
			switch {
			case done && !now.Alone("n3"):
				t.Fatalf("crash at %d: recovered, but %+v", n, now)
			case now.Alone("n3") && len(got) != len(common)+3:
				t.Fatalf("crash at %d: alone with %d entries, want %d", n, len(got), len(common)+3)
			case !slices.Equal(got[:len(common)], common):
				t.Fatalf("crash at %d: entries are lost", n)
			}
			if !now.Alone("n3") {
				must(t, leader.Recover(recovery("n3", fsys), now, [][]byte{[]byte("again")}))
				if now, err = leader.Examine(recovery("n3", fsys), &leadertest.List{}); err != nil || !now.Alone("n3") {
					t.Fatalf("crash at %d, and again: %+v, %v", n, now, err)
				}
			}
			outcomes[done]++
			if done {
				break
			}
		}
		t.Logf("%d crashes", outcomes[false])
		if outcomes[false] < 4 {
			t.Errorf("only %d operations could crash", outcomes[false])
		}
	})
}
