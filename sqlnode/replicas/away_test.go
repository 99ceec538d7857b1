package replicas

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// filled makes a tenant with about 2 MB.
func filled(v *node, k byte) wire.TenantID {
	id := v.create(k)
	v.write(id, "create table t(id integer primary key, a, b)",
		"with recursive c(i) as (select 1 union all select i+1 from c where i<2000) insert into t(a,b) select i, randomblob(900) from c")
	return id
}

// TestAway lets a replica miss more than a lane keeps: it catches up by the pages that changed, and its readers go on on the
// connections that they have.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		v := w.voter("v", testGroup)
		id := filled(v, 1)
		r := w.replica("r", "v")
		relay := w.replica("relay", "r")
		for _, n := range []*node{r, relay} {
			n.follow(id)
			n.joined(id)
		}
		s, err := r.tenant(id).Acquire()
		must(t, err)
		defer r.tenant(id).Release()
		c, err := s.OpenReader(nil)
		must(t, err)
		defer c.Close()
		for round := range 3 {
			w.net.CutBoth("v", "r")
			for i := range 200 {
				v.write(id, "update t set b = randomblob(900) where id = 7", "insert into t(a) values('new')")
				if i%50 == 0 {
					time.Sleep(30 * time.Second) // checkpoints, LTX files
				}
			}
			if round == 1 {
				v.write(id, "delete from t where id > 500", "vacuum")
			}
			before, err := queryOn(c, "select count(*) from t where a = 'new'")
			must(t, err)
			w.net.HealBoth("v", "r")
			for _, n := range []*node{r, relay} {
				w.same(id, n, v)
			}
			after, err := queryOn(c, "select count(*) from t where a = 'new'")
			if err != nil || after == before {
				t.Fatalf("on its connection a reader sees %s, then %s, %v", before, after, err)
			}
		}
		for _, n := range []*node{r, relay} {
			if s := &n.set.Stats; s.Copies.Load() != 1 || s.Changes.Load() < 2 || s.Diverged.Load() != 0 {
				t.Fatalf("%s: %d copies, %d changes, %d diverged", n.name, s.Copies.Load(), s.Changes.Load(), s.Diverged.Load())
			}
		}
		// Also from its files, which have it after a checkpoint.
		time.Sleep(30 * time.Second)
		r.stop()
		r.start()
		if got, err := query(r.tenant(id), "pragma integrity_check"); err != nil || got != "ok" {
			t.Fatalf("%s, %v", got, err)
		}
		r.follow(id)
		r.joined(id)
		w.same(id, r, v)
		if n := r.set.Stats.Copies.Load() + r.set.Stats.Changes.Load(); n != 0 {
			t.Fatalf("%d catch-ups after a clean restart", n)
		}
	})
}

// TestAwayForLong lets a replica miss more than is kept anywhere: it takes a whole copy, serves what it has until that is
// here, and refuses the connections to it then.
func TestAwayForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.keep = time.Minute
		v := w.voter("v", testGroup)
		id := filled(v, 1)
		r := w.replica("r", "v")
		r.follow(id)
		r.joined(id)
		tn := r.tenant(id)
		s, err := tn.Acquire()
		must(t, err)
		defer tn.Release()
		c, err := s.OpenReader(nil)
		must(t, err)
		defer c.Close()
		w.net.CutBoth("v", "r")
		for range 40 {
			v.write(id, "update t set b = randomblob(900) where id % 50 = 1")
			time.Sleep(25 * time.Second)
		}
		w.net.SetDelayBoth("v", "r", 500*time.Millisecond)
		w.net.HealBoth("v", "r")
		served := 0
		var got error
		for start := time.Now(); r.set.Stats.Copies.Load() < 2; time.Sleep(100 * time.Millisecond) {
			if time.Since(start) > 5*time.Minute {
				t.Fatal("no copy comes")
			}
			if _, got = queryOn(c, "select count(*) from t"); got != nil {
				break
			}
			if r.set.isComing(id) {
				served++
			}
		}
		if served < 10 {
			t.Fatalf("it served %d times while the copy came; %v", served, got)
		}
		w.same(id, r, v)
		if r.tenant(id) != tn {
			t.Fatal("it is another Tenant now")
		}
		if _, err := queryOn(c, "select count(*) from t"); !errors.Is(err, pagestore.ErrReplaced) {
			t.Fatalf("a connection to the old copy: %v", err)
		}
		if n := r.set.Stats.Changes.Load(); n != 0 {
			t.Fatalf("%d changes", n)
		}
		v.write(id, "insert into t(a) values(1)")
		w.same(id, r, v)
		time.Sleep(30 * time.Second)
		r.stop()
		r.start()
		if got, err := query(r.tenant(id), "pragma integrity_check"); err != nil || got != "ok" {
			t.Fatalf("after a restart: %s, %v", got, err)
		}
		r.follow(id)
		w.same(id, r, v)
	})
}

// TestDiverged lets a replica be fed by one whose history is another: it takes that one's copy, and says so.
func TestDiverged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one := w.voter("one", testGroup)
		id := one.create(1)
		first := w.logs[testGroup]
		delete(w.logs, testGroup)
		other := w.voter("other", testGroup)
		other.create(1)
		for i, n := range []*node{one, other} {
			if i == 0 {
				w.logs[testGroup] = first
			}
			n.write(id, "create table t(id integer primary key, a)")
			for k := range 20 {
				n.write(id, []string{"insert into t(a) values('one')", "insert into t(a) values('two')"}[i])
				if k == 10 && i == 1 {
					n.write(id, "create table longer(a)")
				}
			}
		}
		r := w.replica("r", "one")
		r.follow(id)
		r.joined(id)
		w.same(id, r, one)
		time.Sleep(30 * time.Second)
		r.feeders = []string{"other"}
		w.net.CutBoth("r", "one")
		w.same(id, r, other)
		r.joined(id)
		if n := r.set.Stats.Diverged.Load(); n == 0 && r.set.Stats.Copies.Load() != 2 {
			t.Fatalf("%d diverged, %d copies", n, r.set.Stats.Copies.Load())
		}
		time.Sleep(30 * time.Second)
		r.stop()
		r.start()
		r.follow(id)
		w.same(id, r, other)
		// And back, which is an older state of a longer log.
		w.logs[testGroup] = first
		filled(one, 2)
		r.feeders = []string{"one"}
		w.net.HealBoth("r", "one")
		w.net.CutBoth("r", "other")
		w.same(id, r, one)
		r.stop() // before any checkpoint
		r.start()
		b, st, err := dump(r.tenant(id))
		must(t, err)
		want, wantState, err := dump(one.tenant(id))
		must(t, err)
		if st != wantState || string(b) != string(want) {
			t.Fatalf("after a restart it is at %s, not %s, or other bytes", st, wantState)
		}
	})
}
