package copies

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire/txn"
)

// passed makes a fleet whose last node was away while tenants 1 to 4 changed, and is given a snapshot then: 1 stands where it was, 2 went on, 3 is
// new, 4 is new and empty. partial says that the first node's files tell what changed in 2.
func (f *fleet) passed() *node {
	f.t.Helper()
	first, last := f.nodes[0], f.nodes[len(f.nodes)-1]
	for i := 1; i <= 2; i++ {
		f.create(i)
		f.exec(i, "create table t(a)", "insert into t values(randomblob(400000))")
	}
	for _, n := range f.nodes {
		n.tidy()
	}
	last.set(func() { last.away = true })
	f.exec(2, "insert into t values(randomblob(9000))", "insert into t values(1)")
	f.create(3)
	f.exec(3, "create table t(a)", "insert into t values(randomblob(700000))")
	f.create(4)
	for _, n := range f.nodes[:len(f.nodes)-1] {
		n.tidy()
	}
	f.exec(2, "insert into t values(2)")
	last.pass(first)
	if got := len(last.g.Hollow()); got != 3 {
		f.t.Fatalf("%d tenants are hollow", got)
	}
	return last
}

// TestHollow: hollow tenants are fetched, those that differ alone, and of one that was known only what changed.
func TestHollow(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		last := f.passed()
		stop := last.fetch()
		last.healed(10 * time.Second)
		stop()
		for i := 1; i <= 4; i++ {
			f.same(f.nodes[0], last, i)
		}
		st := &last.fetcher.Stats
		if got := st.Fetched.Load(); got != 3 {
			t.Errorf("%d copies were fetched", got)
		}
		if got := st.Partial.Load(); got != 1 {
			t.Errorf("%d copies were of what changed", got)
		}
		if got := st.Bytes.Load(); got < 700000 || got > 800000 {
			t.Errorf("%d bytes were received: tenant 3 has 700,000, and little of tenant 2 changed", got)
		}
		f.exec(2, "insert into t values(3)")
		f.exec(3, "insert into t values(3)")
		synctest.Wait()
		last.tidy()
		f.same(f.nodes[0], last, 2)
		last.restart(last.fs.Kill())
		for i := 1; i <= 4; i++ {
			f.same(f.nodes[0], last, i)
		}
	})
}

// TestOthersDown: nothing is given up while nobody answers.
func TestOthersDown(t *testing.T) {
	bubble(t, 3, func(t *testing.T, f *fleet) {
		last := f.passed()
		for _, n := range f.nodes[:2] {
			n.set(func() { n.down = true })
		}
		stop := last.fetch()
		defer stop()
		time.Sleep(time.Hour)
		if got := len(last.g.Ailing()); got != 3 {
			t.Fatalf("%d copies ail", got)
		}
		if n := last.fetcher.Stats.Errors.Load(); n < 300 || n > 3*2*60*4*2 {
			t.Errorf("%d tries in an hour", n)
		}
		f.nodes[1].set(func() { f.nodes[1].down = false })
		last.healed(time.Minute)
		stop()
		for i := 1; i <= 4; i++ {
			f.same(f.nodes[0], last, i)
		}
	})
}

// TestManyAtOnce: no more than Parallel copies come at once, and a server that is busy is asked again.
func TestManyAtOnce(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		first, last := f.nodes[0], f.nodes[1]
		last.set(func() { last.away = true })
		for i := 1; i <= 12; i++ {
			f.create(i)
			f.exec(i, "create table t(a)", fmt.Sprintf("insert into t values(randomblob(%d))", 1000*i))
		}
		first.tidy()
		last.pass(first)
		first.set(func() { first.server = NewServer(ServerConfig{Groups: first, Parallel: 1, Rate: 100_000}) })
		stop := last.fetch()
		last.healed(5 * time.Minute)
		stop()
		for i := 1; i <= 12; i++ {
			f.same(first, last, i)
		}
		if n := first.server.Stats.Busy.Load(); n == 0 {
			t.Error("the server was never busy")
		}
		if n := last.fetcher.Stats.Fetched.Load(); n != 12 {
			t.Errorf("%d fetched", n)
		}
	})
}

// TestWritesMeanwhile: a copy comes while its tenant is written, here and there.
func TestWritesMeanwhile(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		last := f.passed()
		first := f.nodes[0]
		first.set(func() { first.server = NewServer(ServerConfig{Groups: first, Rate: 50_000}) })
		stop := last.fetch()
		for i := range 30 {
			f.exec(2, fmt.Sprintf("insert into t values(randomblob(%d))", i*400))
			f.exec(3, fmt.Sprintf("insert into t values(randomblob(%d))", i*300))
			time.Sleep(700 * time.Millisecond)
		}
		last.healed(10 * time.Minute)
		stop()
		for i := 1; i <= 4; i++ {
			f.same(first, last, i)
		}
	})
}

// TestTwoFetchers: a second one does no harm.
func TestTwoFetchers(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		last := f.passed()
		stop := last.fetch()
		last.fetcher = NewFetcher(FetcherConfig{Group: last.g, Members: last, Transport: last})
		stop2 := last.fetch()
		last.healed(10 * time.Second)
		stop()
		stop2()
		for i := 1; i <= 4; i++ {
			f.same(f.nodes[0], last, i)
		}
	})
}

// TestStaleSource: a member that is behind is refused, and another asked.
func TestStaleSource(t *testing.T) {
	bubble(t, 3, func(t *testing.T, f *fleet) {
		mid := f.nodes[1]
		f.create(1)
		f.exec(1, "create table t(a)")
		last := f.nodes[2]
		last.set(func() { last.away = true })
		mid.set(func() { mid.away = true })
		f.exec(1, "insert into t values(1)")
		f.nodes[0].tidy()
		last.pass(f.nodes[0])
		// The one that is behind is asked first.
		f.nodes[0], f.nodes[1] = f.nodes[1], f.nodes[0]
		stop := last.fetch()
		last.healed(10 * time.Second)
		stop()
		f.same(f.nodes[1], last, 1)
		if n := last.fetcher.Stats.Refused.Load(); n == 0 {
			t.Error("nobody refused")
		}
		f.nodes[0], f.nodes[1] = f.nodes[1], f.nodes[0]
	})
}

// TestHollowSource: who waits for a copy itself gives none, and says why.
func TestHollowSource(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		last := f.passed()
		err := f.nodes[0].fetcher.fetchFrom(t.Context(), ailing(last, 2), pagestore.Have{}, last.name, nil)
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Code != CodeHollow {
			t.Errorf("got %v", err)
		}
	})
}

func ailing(n *node, i int) pagestore.Ailing {
	a, _ := n.tenant(i).Ailing()
	return a
}

// TestStagingOpen: while parts of a large transaction come, no copy can be made; the fetcher waits for their end.
func TestStagingOpen(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		last := f.passed()
		parts := 0
		f.onEntry = func(entry []byte) {
			if h, _, err := txn.Split(entry); err != nil || h.Kind != txn.Part {
				return
			}
			if parts++; parts != 1 {
				return
			}
			err := last.fetcher.fetchFrom(t.Context(), ailing(last, 2), pagestore.Have{}, f.nodes[0].name, nil)
			var refused *RefusedError
			if !errors.As(err, &refused) || refused.Code != CodeStaging || refused.RetryAfter == 0 {
				t.Errorf("got %v", err)
			}
		}
		f.exec(2, "insert into t values(randomblob(500000))")
		if parts == 0 {
			t.Fatal("there were no parts")
		}
		stop := last.fetch()
		last.healed(10 * time.Second)
		stop()
		f.same(f.nodes[0], last, 2)
	})
}

// TestFastWriter: a tenant that is written faster than its whole copy comes, with more than may be kept of the log, is caught up with.
func TestFastWriter(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		f.keepBytes = 100 << 10
		f.nodes[1].restart(f.nodes[1].fs)
		last := f.big(3 << 20)
		first := f.nodes[0]
		first.set(func() { first.server = NewServer(ServerConfig{Groups: first, Rate: 300_000}) })
		stop := last.fetch()
		for i := range 1000 {
			if i > 100 && len(last.g.Ailing()) == 0 {
				break
			}
			f.exec(1, "insert into t values(randomblob(20000))")
			time.Sleep(200 * time.Millisecond)
		}
		if len(last.g.Ailing()) > 0 {
			t.Fatalf("it never catches up:\n%s", last.log)
		}
		stop()
		f.same(first, last, 1)
		if n := last.fetcher.Stats.Bytes.Load(); n > 12<<20 {
			t.Errorf("%d bytes were received", n)
		}
		if n := last.fetcher.Stats.Errors.Load(); n == 0 {
			t.Error("no copy came too late")
		}
	})
}
