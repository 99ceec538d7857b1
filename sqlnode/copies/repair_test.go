package copies

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire/txn"
)

// settled makes a fleet whose nodes all have tenants 1 and 2 in their bases.
func (f *fleet) settled() {
	f.t.Helper()
	for i := 1; i <= 2; i++ {
		f.create(i)
		f.exec(i, "create table t(a)", "insert into t values(randomblob(100000))", "insert into t values(7)")
	}
	synctest.Wait()
	for _, n := range f.nodes {
		n.tidy()
	}
}

const readAll = "select sum(length(hex(a))) from t"

// rot flips a byte of page 9 of tenant 1's base, behind the node's back.
func (n *node) rot() {
	n.f.t.Helper()
	flip(n.f.t, n.fs, n.basePath(1), 8*4096+100)
}

// TestScrubRepairs: a flipped page that nobody reads is found by the scrub, and the copy rebuilt, while its tenant is written.
func TestScrubRepairs(t *testing.T) {
	bubble(t, 3, func(t *testing.T, f *fleet) {
		f.settled()
		last := f.nodes[2]
		stop := last.fetch()
		defer stop()
		last.rot()
		time.Sleep(time.Minute)
		if n := last.g.Stats.Failures.Load(); n != 0 {
			t.Fatal("nobody looked, and the copy is out of service")
		}
		r, err := last.g.Scrub(t.Context())
		must(t, err)
		if r.Errors != 1 || r.Corrupt[0].Page != 9 {
			t.Fatalf("%+v", r)
		}
		f.exec(1, "insert into t values(8)")
		last.healed(10 * time.Second)
		f.exec(1, "insert into t values(9)")
		f.same(f.nodes[0], last, 1)
		last.tidy()
		r, err = last.g.Scrub(t.Context())
		must(t, err)
		if r.Errors != 0 {
			t.Fatalf("%+v", r)
		}
		if s := &last.fetcher.Stats; s.TakenOut.Load() != 1 || s.Fetched.Load() != 1 {
			t.Errorf("taken out %d, fetched %d", s.TakenOut.Load(), s.Fetched.Load())
		}
		for _, line := range []string{"goes out of service, to be rebuilt", "copy fetched"} {
			if !strings.Contains(last.log.String(), line) {
				t.Errorf("no line %q", line)
			}
		}
		stop()
		last.restart(last.fs.Kill())
		f.same(f.nodes[0], last, 1)
	})
}

// TestReadRepairs: the statement that meets the page fails, and a later one does not.
func TestReadRepairs(t *testing.T) {
	bubble(t, 3, func(t *testing.T, f *fleet) {
		f.settled()
		last := f.nodes[2]
		stop := last.fetch()
		defer stop()
		last.rot()
		var corrupt *pagestore.CorruptError
		if _, err := last.read(1, readAll); !errors.As(err, &corrupt) || corrupt.Page != 9 {
			t.Fatalf("got %v", err)
		}
		last.healed(10 * time.Second)
		got, err := last.read(1, readAll)
		must(t, err)
		want, err := f.nodes[0].read(1, readAll)
		must(t, err)
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// TestPrimaryHandsOn: a primary with a corrupt page serves on until another leads.
func TestPrimaryHandsOn(t *testing.T) {
	bubble(t, 3, func(t *testing.T, f *fleet) {
		f.settled()
		first := f.nodes[0]
		var asked atomic.Int64
		first.fetcher.cfg.HandOn = func(context.Context) { asked.Add(1) }
		stop := first.fetch()
		defer stop()
		first.rot()
		if _, err := first.read(1, readAll); err == nil {
			t.Fatal("it was read")
		}
		time.Sleep(5 * time.Second)
		if !first.fetcher.NeedsHandOn() || asked.Load() == 0 {
			t.Fatal("it keeps the leadership")
		}
		if first.tenant(1).Failed() != nil {
			t.Fatal("the primary's copy is out of service")
		}
		f.exec(1, "insert into t values(8)")
		first.set(func() { first.primary = false })
		first.healed(10 * time.Second)
		time.Sleep(2 * time.Second)
		if first.fetcher.NeedsHandOn() {
			t.Error("it needs to hand on what it does not have")
		}
		f.same(f.nodes[1], first, 1)
	})
}

// TestFailedPrimary: a primary whose copy is out of service does not lead on, and fetches another meanwhile.
func TestFailedPrimary(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		f.settled()
		first := f.nodes[0]
		f.nodes[1].set(func() { f.nodes[1].down = true })
		stop := first.fetch()
		defer stop()
		first.tenant(1).Failure(errors.New("a test"))
		time.Sleep(time.Second)
		if !first.fetcher.NeedsHandOn() {
			t.Error("it keeps the leadership")
		}
		f.nodes[1].set(func() { f.nodes[1].down = false })
		first.healed(10 * time.Second)
		time.Sleep(time.Second)
		if first.fetcher.NeedsHandOn() {
			t.Error("nothing is wrong any more")
		}
		f.same(f.nodes[1], first, 1)
	})
}

// TestSourceRots: a source that meets a corrupt page of its own says so, and is not asked on and on.
func TestSourceRots(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		f.settled()
		first, source := f.nodes[0], f.nodes[1]
		source.rot()
		first.tenant(1).Failure(errors.New("a test"))
		began := time.Now()
		err := first.fetcher.fetchFrom(t.Context(), ailing(first, 1), pagestore.Have{}, source.name, nil)
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Code != CodeFailed || !strings.Contains(refused.Text, "page 9") {
			t.Errorf("got %v", err)
		}
		if d := time.Since(began); d > time.Second || source.server.Stats.Failed.Load() != 1 {
			t.Errorf("it was asked %d times in %s", source.server.Stats.Failed.Load(), d)
		}
		if a := ailing(source, 1); !a.InService {
			t.Errorf("the source's copy: %+v", a)
		}
	})
}

// TestRotAlone: without another copy the statement fails, and the rest is served. So it is while all others rot or are down.
func TestRotAlone(t *testing.T) {
	for _, others := range []int{0, 1, 2} {
		bubble(t, 1+others, func(t *testing.T, f *fleet) {
			f.settled()
			n := f.nodes[0]
			n.set(func() { n.primary = others == 0 })
			if others > 0 {
				f.nodes[1].rot()
				_, err := f.nodes[1].read(1, readAll)
				if err == nil {
					t.Fatal("it was read")
				}
			}
			if others > 1 {
				f.nodes[2].set(func() { f.nodes[2].down = true })
			}
			stop := n.fetch()
			defer stop()
			n.rot()
			for range 20 {
				if _, err := n.read(1, readAll); err == nil {
					t.Fatal("it was read")
				}
				time.Sleep(time.Minute)
				if n.tenant(1).Failed() != nil || n.fetcher.NeedsHandOn() {
					t.Fatal("the copy is out of service, or to be")
				}
				if got, err := n.read(1, "select count(*) from t where rowid = 2"); err != nil || got != "1" {
					t.Fatalf("%s, %v", got, err)
				}
			}
			if others > 1 {
				f.nodes[2].set(func() { f.nodes[2].down = false })
				n.healed(2 * time.Minute)
				f.same(f.nodes[2], n, 1)
			}
		})
	}
}

// forge changes a page of a node's base, and its sum: the file is as it was written, as far as anyone can tell.
func (n *node) forge(i int, pgno uint32) {
	t := n.f.t
	t.Helper()
	n.stop()
	path := n.basePath(i)
	off := int64(pgno-1)*4096 + 2000
	flip(t, n.fs, path, off)
	file, err := n.fs.OpenFile("test.open", path, os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	page := make([]byte, 4096)
	_, err = file.ReadAt(page, int64(pgno-1)*4096)
	must(t, err)
	sums, err := n.fs.OpenFile("test.open", path+".sums", os.O_RDWR, 0)
	must(t, err)
	defer sums.Close()
	_, err = sums.WriteAt(binary.BigEndian.AppendUint64(nil, uint64(txn.PageSum(pgno, page))), 16+8*int64(pgno-1))
	must(t, err)
	must(t, n.start())
}

// TestDiverged: the copy that a majority contradicts is rebuilt; a majority never is.
func TestDiverged(t *testing.T) {
	settle := func(f *fleet) {
		f.create(1)
		f.exec(1, "create table t(a)", "insert into t values(1)")
		synctest.Wait()
		for _, n := range f.nodes {
			n.tidy()
		}
	}
	bubble(t, 3, func(t *testing.T, f *fleet) {
		settle(f)
		last := f.nodes[2]
		last.forge(1, 2)
		f.nodes[1].set(func() { f.nodes[1].away = true })
		f.exec(1, "insert into t values(2)")
		synctest.Wait()
		if a := ailing(last, 1); !a.Diverged {
			t.Fatalf("%+v", a)
		}
		stop := last.fetch()
		defer stop()
		time.Sleep(time.Minute)
		// The other one has not built that entry: it may come out either way.
		if a := ailing(last, 1); !a.Diverged || last.fetcher.Stats.Held.Load() == 0 {
			t.Fatalf("%+v", a)
		}
		f.nodes[1].set(func() { f.nodes[1].away = false; f.nodes[1].catchUpLocked() })
		last.healed(time.Minute)
		f.same(f.nodes[0], last, 1)
	})
	bubble(t, 3, func(t *testing.T, f *fleet) {
		settle(f)
		for _, n := range f.nodes[1:] {
			n.forge(1, 2)
		}
		f.exec(1, "insert into t values(2)")
		synctest.Wait()
		for _, n := range f.nodes[1:] {
			stop := n.fetch()
			defer stop()
		}
		time.Sleep(time.Hour)
		for _, n := range f.nodes[1:] {
			if a := ailing(n, 1); !a.Diverged || n.fetcher.Stats.Held.Load() == 0 {
				t.Errorf("%s: %+v", n.name, a)
			}
			// A checkpoint makes the mark durable; what is wrong with the copy is still known then.
			n.tidy()
			n.restart(n.fs.Kill())
			if a := ailing(n, 1); !a.Diverged {
				t.Errorf("%s, restarted: %+v", n.name, a)
			}
		}
	})
}
