package replicas

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// TestVoterPassedBy lets the log pass a voter by that others are fed from: it begins anew from a manifest, and fetches one tenant. Who
// follows misses nothing, and is told of no more than there is.
func TestVoterPassedBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		v1 := w.voter("v1", testGroup)
		moved, still, ahead := v1.create(1), v1.create(2), v1.create(3)
		all := []wire.TenantID{moved, still, ahead}
		for _, id := range all {
			v1.write(id, "create table t(a)")
		}
		v2 := w.voter("v2", testGroup)
		r := w.replica("r", "v2")
		for _, id := range all {
			r.follow(id)
			r.joined(id)
		}
		l := w.logs[testGroup]
		l.mu.Lock()
		both := l.voters
		l.voters = both[:1]
		l.mu.Unlock()
		v1.write(moved, "insert into t values(1)", "insert into t values(2)")
		must(t, v1.control(still, tenant.Renamed{Time: tenant.Millis(time.Now()), Name: "renamed"}))
		v1.write(ahead, "insert into t values(1)")
		var manifest bytes.Buffer
		must(t, persist(v1, &manifest))
		v1.write(ahead, "insert into t values(2)") // the copy will have it, which the voter's log brings later
		g := both[1]
		must(t, g.Restore(&manifest))
		for _, id := range []wire.TenantID{moved, ahead} {
			var b bytes.Buffer
			must(t, v1.tenant(id).WriteCopy(t.Context(), &b))
			must(t, v2.tenant(id).ReadCopy(t.Context(), &b))
		}
		l.mu.Lock()
		for i := g.Index(); i < uint64(len(l.entries)); i++ {
			g.Apply(i+1, 1, l.entries[i])
		}
		l.voters = both
		l.mu.Unlock()
		v1.write(ahead, "insert into t values(3)")
		for _, id := range all {
			w.same(id, r, v1)
			r.joined(id)
		}
		if n := r.set.Stats.Diverged.Load(); n > 0 {
			t.Fatalf("%d diverged", n)
		}
	})
}

// TestVoterAhead lets a voter that others are fed from replace a copy that failed by one that is ahead of its log: who follows
// gets what the log does not tell it any more.
func TestVoterAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		v1 := w.voter("v1", testGroup)
		id := v1.create(1)
		v1.write(id, "create table t(a)")
		v2 := w.voter("v2", testGroup)
		r := w.replica("r", "v2")
		r.follow(id)
		r.joined(id)
		l := w.logs[testGroup]
		l.mu.Lock()
		both := l.voters
		l.voters = both[:1]
		l.mu.Unlock()
		v2.tenant(id).Failure(errors.New("planted"))
		v1.write(id, "insert into t values(1)", "insert into t values(2)")
		var b bytes.Buffer
		must(t, v1.tenant(id).WriteCopy(t.Context(), &b))
		must(t, v2.tenant(id).ReadCopy(t.Context(), &b))
		l.mu.Lock()
		for i := both[1].Index(); i < uint64(len(l.entries)); i++ {
			both[1].Apply(i+1, 1, l.entries[i])
		}
		l.voters = both
		l.mu.Unlock()
		w.same(id, r, v1)
		r.joined(id)
		if s := &r.set.Stats; s.Diverged.Load() > 0 || s.Refused.Load() > 0 {
			t.Fatalf("%d diverged, %d refused", s.Diverged.Load(), s.Refused.Load())
		}
	})
}

// persist writes a voter's manifest.
func persist(n *node, b *bytes.Buffer) error {
	l := n.w.logs[testGroup]
	l.mu.Lock()
	c, err := n.hosts[testGroup].Pages.Capture()
	l.mu.Unlock()
	if err != nil {
		return err
	}
	defer c.Release()
	return c.Persist(b)
}
