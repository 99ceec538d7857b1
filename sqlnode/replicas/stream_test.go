package replicas

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// statement is a random transaction.
func statement(rng *rand.Rand) string {
	switch rng.IntN(12) {
	case 0:
		return fmt.Sprintf("delete from t where id %% 7 = %d", rng.IntN(7))
	case 1:
		return "vacuum"
	case 2: // in parts: it does not compress
		return fmt.Sprintf("with recursive c(i) as (select 1 union all select i+1 from c where i<%d) insert into t(a,b) select i, randomblob(900) from c", 80+rng.IntN(200))
	case 3:
		return fmt.Sprintf("create table if not exists x%d(a primary key, b)", rng.IntN(5))
	case 4:
		return fmt.Sprintf("drop table if exists x%d", rng.IntN(5))
	case 5:
		return fmt.Sprintf("update t set b = randomblob(%d) where id %% 3 = 0", 1+rng.IntN(400))
	}
	return fmt.Sprintf("insert into t(a, b) values(%d, randomblob(%d))", rng.IntN(1000), 1+rng.IntN(2000))
}

// TestStreams lets two replicas and one that is fed by a replica follow random histories of two tenants that come
// from two voters, with checkpoints on all sides, cut links and restarts: in the end all copies are the same bytes.
func TestStreams(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { streams(t, seed) })
		})
	}
}

func streams(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	t.Logf("seed %d", seed)
	w := newWorld(t)
	v1 := w.voter("v1", testGroup)
	a, b := v1.create(1), v1.create(2)
	for _, id := range []wire.TenantID{a, b} {
		v1.write(id, "create table t(id integer primary key, a, b)", "create index ta on t(a)")
	}
	w.voter("v2", testGroup)
	r1, r2 := w.replica("r1", "v1", "v2"), w.replica("r2", "v2", "v1")
	relay := w.replica("relay", "r1")
	replicas := []*node{r1, r2, relay}
	for _, n := range replicas {
		n.follow(a)
		n.follow(b)
	}
	for step := range 150 {
		id := []wire.TenantID{a, b}[rng.IntN(2)]
		switch rng.IntN(20) {
		case 0:
			must(t, v1.control(id, tenant.Renamed{Time: tenant.Millis(time.Now()), Name: tenant.Name(fmt.Sprintf("n%d", step))}))
		case 1:
			rec := v1.tenant(id).Record()
			must(t, v1.control(id, tenant.PlacementChanged{Time: tenant.Millis(time.Now()), Policy: rec.Policy + 1, Placement: rec.Placement}))
		case 2:
			n := replicas[rng.IntN(len(replicas))]
			n.stop()
			time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
			n.start()
			n.follow(a)
			n.follow(b)
		case 3:
			x, y := []string{"v1", "v2"}[rng.IntN(2)], []string{"r1", "r2"}[rng.IntN(2)]
			w.net.CutBoth(x, y)
			time.Sleep(time.Duration(rng.IntN(8000)) * time.Millisecond)
			w.net.HealBoth(x, y)
		case 4:
			_ = v1.hosts[testGroup].Pages.Checkpoint()
		default:
			v1.write(id, statement(rng))
		}
		time.Sleep(time.Duration(rng.IntN(700)) * time.Millisecond)
	}
	for _, n := range replicas {
		for _, id := range []wire.TenantID{a, b} {
			n.joined(id)
			w.same(id, n, v1)
			if got, err := query(n.tenant(id), "pragma integrity_check"); err != nil || got != "ok" {
				t.Fatalf("%s: %s, %v", n.name, got, err)
			}
		}
		if d := n.set.Stats.Diverged.Load(); d != 0 {
			t.Errorf("%s: %d copies diverged", n.name, d)
		}
	}
	t.Logf("r1: %d entries, %d changes, %d copies; relay: %d, %d, %d", r1.set.Stats.Entries.Load(), r1.set.Stats.Changes.Load(), r1.set.Stats.Copies.Load(),
		relay.set.Stats.Entries.Load(), relay.set.Stats.Changes.Load(), relay.set.Stats.Copies.Load())
}

// TestParts lets a transaction in parts reach replicas by its parts: nobody is thrown out of the lane for it.
func TestParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.tail = 4 << 20
		v := w.voter("v", testGroup)
		id := v.create(1)
		v.write(id, "create table t(id integer primary key, a, b)")
		r := w.replica("r", "v")
		relay := w.replica("relay", "r")
		for _, n := range []*node{r, relay} {
			n.follow(id)
			n.joined(id)
		}
		for range 5 {
			v.write(id, "with recursive c(i) as (select 1 union all select i+1 from c where i<300) insert into t(a,b) select i, randomblob(900) from c", "insert into t(a) values(1)")
		}
		for _, n := range []*node{r, relay} {
			w.same(id, n, v)
			if s := &n.set.Stats; s.Copies.Load() != 1 || s.Changes.Load() != 0 || s.Entries.Load() < 20 || n.follower.Stats.Joined.Load() != 1 {
				t.Fatalf("%s: %d copies, %d changes, %d entries", n.name, s.Copies.Load(), s.Changes.Load(), s.Entries.Load())
			}
		}
	})
}

// TestDeadParts lets the beginning of a transaction in parts come whose end never does, as the one who sent it was deposed: checkpoints go on, a
// restart begins before the parts, and the next transaction ends them.
func TestDeadParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.tail = 4 << 20
		v := w.voter("v", testGroup)
		id := v.create(1)
		v.write(id, "create table t(id integer primary key, a, b)")
		r := w.replica("r", "v")
		r.follow(id)
		r.joined(id)
		before := r.set.Head(id)
		parts := deadParts(t, v, id)
		w.eventually("the parts are there", func() bool { return r.set.Head(id).Index == before.Index+uint64(parts) })
		n := r.set.Groups()[0].Stats.Checkpoints.Load()
		time.Sleep(20 * time.Second)
		if r.set.Groups()[0].Stats.Checkpoints.Load() == n {
			t.Fatal("no checkpoint while parts are missing")
		}
		r.stop()
		r.start()
		if h := r.set.Head(id); h.Index != before.Index {
			t.Fatalf("after a restart it is at %d, not %d: the parts were lost with the process", h.Index, before.Index)
		}
		r.follow(id)
		r.joined(id)
		v.write(id, "insert into t(a) values(1)")
		w.same(id, r, v)
		if c := r.set.Stats.Copies.Load(); c != 0 {
			t.Fatalf("%d copies", c)
		}
		time.Sleep(20 * time.Second)
		names, err := r.fs.ReadDir("test", "/data/replicas/7/staging")
		if err != nil || len(names) != 0 {
			t.Fatalf("staged files stay: %v, %v", names, err)
		}
	})
}

// deadParts puts all entries of a large transaction but the last into the log, and says how many.
func deadParts(t *testing.T, v *node, id wire.TenantID) int {
	t.Helper()
	l := v.w.logs[testGroup]
	probe := &cutLog{Log: voterLog{l, v.hosts[testGroup].Pages}}
	tn := v.tenant(id)
	s, err := tn.Acquire()
	must(t, err)
	defer tn.Release()
	v.hosts[testGroup].Pages.SetLog(probe)
	c, err := tn.OpenWriter(s, nil)
	must(t, err)
	_ = c.Exec("with recursive c(i) as (select 1 union all select i+1 from c where i<600) insert into t(a,b) select i, randomblob(900) from c")
	c.Close()
	v.hosts[testGroup].Pages.SetLog(probe.Log)
	v.hosts[testGroup].Pages.LostPrimary()
	if probe.n < 5 {
		t.Fatalf("%d parts", probe.n)
	}
	return probe.n
}
