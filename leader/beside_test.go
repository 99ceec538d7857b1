package leader_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/leader/leadertest"
)

// slowSync is how long the primary's disk takes in these tests. Others' take no time, as does the network.
const slowSync = 800 * time.Millisecond

// besideCluster is three nodes, of which the primary stores beside, with a disk that takes its time from now on.
func besideCluster(t *testing.T) (*leadertest.Cluster, *leadertest.Life, *disktest.Faults) {
	t.Helper()
	disks := make(map[leader.NodeID]*disktest.Faults)
	c := leadertest.New(t, 3)
	c.Adjust = func(cfg *leader.Config) {
		disks[cfg.Node] = disktest.NewFaults(cfg.FS)
		cfg.FS, cfg.StoreBeside = disks[cfg.Node], -1
		cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaseTimeout = 10*time.Second, 10*time.Second, 5*time.Second
	}
	c.StartAll()
	p := c.Primary(5 * time.Minute)
	if p == nil {
		t.Fatal("no primary")
	}
	proposeAll(t, p, "before", 3)
	agree(t, c, time.Minute)
	disks[p.Node].Delay("log.sync", slowSync)
	return c, p, disks[p.Node]
}

func others(c *leadertest.Cluster, p *leadertest.Life) (list []*leadertest.Life) {
	for _, n := range c.Nodes() {
		if n.Life != nil && n.Life != p {
			list = append(list, n.Life)
		}
	}
	return list
}

// TestStoredBeside: the other voters have a primary's entry long before its own disk has, and nobody is told of it, or
// shown it, before that has it too.
func TestStoredBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := besideCluster(t)
		began := time.Now()
		answered := make(chan time.Duration, 2)
		for _, e := range []string{"first", "second"} {
			go func() {
				if _, err := p.Propose(e); err != nil {
					t.Error(err)
				}
				answered <- time.Since(began)
			}()
			time.Sleep(10 * time.Millisecond)
		}
		index := p.Group.Stats().LastIndex
		for _, o := range others(c, p) {
			if !leadertest.Wait(100*time.Millisecond, func() bool { return o.Group.Stats().LastIndex >= index }) {
				t.Fatalf("%s does not have entry %d before the primary has stored it, it has %d", o.Node, index, o.Group.Stats().LastIndex)
			}
		}
		for time.Since(began) < slowSync-10*time.Millisecond {
			time.Sleep(10 * time.Millisecond)
			for _, n := range c.Nodes() {
				if s := n.Life.List.State(); s.Len != 3 {
					t.Fatalf("%s shows %d entries after %s", n.ID, s.Len, time.Since(began))
				}
				if s := n.Life.Group.Stats(); s.CommitIndex >= index {
					t.Fatalf("%s calls entry %d committed after %s", n.ID, index, time.Since(began))
				}
			}
		}
		// The second waits for the turn of the first, as it would without this.
		for i := range 2 {
			if took, most := <-answered, time.Duration(i+1)*slowSync; took < most || took > most+100*time.Millisecond {
				t.Errorf("answer %d came after %s", i+1, took)
			}
		}
		if got := agree(t, c, time.Minute); len(got) != 5 {
			t.Errorf("entries %q", got)
		}
	})
}

// TestStoredBesideFails: a primary that could not store what others have got answers nobody, and ends.
func TestStoredBesideFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, disk := besideCluster(t)
		disk.Fail("log.sync", 1, disktest.ErrTorn)
		if _, err := p.Propose("lost here"); !errors.As(err, new(*leader.UnknownOutcomeError)) {
			t.Fatalf("answered with %v", err)
		}
		if !leadertest.Wait(time.Minute, func() bool { _, ended := p.Ended(); return ended }) {
			t.Fatal("it goes on")
		}
		if err, _ := p.Ended(); !errors.As(err, new(*leader.LogError)) {
			t.Errorf("ended with %v", err)
		}
		if s := p.List.State(); s.Len != 3 {
			t.Errorf("its machine was given %d entries", s.Len)
		}
		c.Crash(p.Node, rand.New(rand.NewPCG(1, 1)))
		next := c.Primary(5 * time.Minute)
		if next == nil {
			t.Fatal("no other primary")
		}
		c.Start(p.Node)
		proposeAll(t, next, "after", 3)
		got := agree(t, c, time.Minute)
		if want := 7; len(got) != want || !slices.Contains(got, "lost here") { // both others had it
			t.Errorf("entries %q", got)
		}
	})
}

// TestNotStoredIsNotAcknowledged: a primary that is one no longer acknowledges what it has not stored yet only when it has.
func TestNotStoredIsNotAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := besideCluster(t)
		for _, o := range others(c, p) {
			c.Net.Cut(p.Node, o.Node)
			c.Net.Cut(o.Node, p.Node)
		}
		began := time.Now()
		go func() { _, _ = p.Propose("under way") }()
		time.Sleep(10 * time.Millisecond)
		s := p.Group.Stats()
		// Another node speaks, which has the entry and leads a later term.
		tr := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Logger: hclog.NewNullLogger(), Stream: &stream{c.Net.Node("n9"), make(chan struct{})}, MaxPool: 2, Timeout: 10 * time.Second,
		})
		defer tr.Close()
		defer tr.CloseStreams()
		h := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n9"), Addr: []byte("n9")}
		req := raft.AppendEntriesRequest{RPCHeader: h, Term: s.Term + 1, PrevLogEntry: s.LastIndex - 1, PrevLogTerm: s.Term,
			Entries: []*raft.Log{{Index: s.LastIndex, Term: s.Term, Type: raft.LogCommand, Data: []byte("under way")}}}
		var resp raft.AppendEntriesResponse
		if err := tr.AppendEntries(raft.ServerID(p.Node), raft.ServerAddress(p.Node), &req, &resp); err != nil || !resp.Success {
			t.Fatalf("%+v, %v", resp, err)
		}
		if took := time.Since(began); took < slowSync || took > slowSync+100*time.Millisecond {
			t.Errorf("acknowledged after %s", took)
		}
		c.Net.HealAll()
	})
}

// TestBesideIsForSlowDisks: what is quicker stored than told to another goroutine is stored first.
func TestBesideIsForSlowDisks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disks := make(map[leader.NodeID]*disktest.Faults)
		c := leadertest.New(t, 3)
		c.Adjust = func(cfg *leader.Config) {
			disks[cfg.Node] = disktest.NewFaults(cfg.FS)
			cfg.FS = disks[cfg.Node]
		}
		c.StartAll()
		p := c.Primary(time.Minute)
		took := func(sync time.Duration) time.Duration {
			for _, d := range disks {
				d.Heal()
				d.Delay("log.sync", sync)
			}
			proposeAll(t, p, "warm", 40) // until the mean has come to it
			began := time.Now()
			proposeAll(t, p, "timed", 10)
			return time.Since(began) / 10
		}
		if d := took(20 * time.Microsecond); d < 40*time.Microsecond {
			t.Errorf("with a quick disk an entry takes %s: not two syncs", d)
		}
		if d := took(5 * time.Millisecond); d >= 10*time.Millisecond {
			t.Errorf("with a slow disk an entry takes %s: two syncs", d)
		}
	})
}
