package pagestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// newFollower is a group that is fed entries only.
func newFollower(t testing.TB, cfg Config) *rig {
	t.Helper()
	return newRig(t, cfg)
}

// feed applies an entry as the next one of the log.
func (r *rig) feed(entry []byte) any {
	var out any
	r.log.Propose(entry, func(resp any, err error) { out = resp })
	return out
}

// visible waits until all that is logged of a tenant is visible, and returns its store.
func (r *rig) visible(n byte) *Store {
	r.t.Helper()
	tn := r.tenant(n)
	s, err := tn.Acquire()
	if err != nil {
		r.t.Fatal(err)
	}
	defer tn.Release()
	if err := s.wait(nil, tn.Logged().TXID); err != nil {
		r.t.Fatal(err)
	}
	return s
}

// checkFollower feeds all entries of r to another group, and wants the same pages of tenant 1.
func checkFollower(t testing.TB, r *rig) {
	t.Helper()
	cfg := memDisk(disktest.NewMemFS())
	cfg.BigTransaction = 32 << 10
	f := &rig{t: t, log: newTestLog(), cfg: cfg}
	f.start()
	defer f.stop()
	for i, e := range r.log.history {
		_, got := f.feed(e).(error)
		_, want := r.log.results[i].(error)
		if got != want {
			t.Fatalf("entry %d: refused %t, want %t", i+1, got, want)
		}
	}
	s, want := f.visible(1), r.visible(1)
	if s.Committed() != want.Committed() || !bytes.Equal(pagesOf(t, s), pagesOf(t, want)) {
		t.Fatalf("the follower stands at %s, the primary at %s, or their pages differ", s.Committed(), want.Committed())
	}
	checkSum(t, s)
}

// history makes a log with transactions of all kinds, and the pages after each of its entries (nil after parts).
func history(t testing.TB, pageSize int) (entries [][]byte, pages [][]byte) {
	t.Helper()
	r := newRig(t, testConfig(t))
	tn := r.create(1, pageSize)
	w := r.writer(tn)
	snap := func() {
		for len(pages) < len(r.log.history)-1 {
			pages = append(pages, nil)
		}
		if len(pages) < len(r.log.history) {
			pages = append(pages, pagesOf(t, w.store))
		}
	}
	run := func(sql string) {
		mustExec(t, w, sql)
		snap()
	}
	snap()
	run("pragma auto_vacuum=2")
	run("create table t(id integer primary key, a, b)")
	run("create index ta on t(a)")
	for i := range 10 {
		run(fmt.Sprintf("insert into t(a, b) values(%d, 'row %d')", i*7%10, i))
	}
	// Incompressible, so that it goes in parts.
	big := fmt.Sprintf("with recursive c(i) as (select 1 union all select i+1 from c where i<%d) insert into t(a,b) select i, randomblob(1000) from c", 300)
	run(big)
	run("update t set a=a+1 where id%3=0")
	run("delete from t where id>100")
	run("pragma incremental_vacuum(1000)")
	run("insert into t(a,b) select a, randomblob(2000) from t limit 60")
	run("vacuum")
	run("begin")
	run("insert into t(a,b) select a, zeroblob(3000) from t")
	run("delete from t where id>40")
	run("commit")
	run("update t set b=randomblob(100) where id=7")
	run(big)
	run("insert into t(a) values(1)")
	if len(pages) != len(r.log.history) {
		t.Fatalf("%d states of %d entries", len(pages), len(r.log.history))
	}
	return r.log.history, pages
}

func TestFollower(t *testing.T) {
	for _, size := range []int{512, 4096, 65536} {
		entries, pages := history(t, size)
		for _, c := range []struct {
			big     int64
			restart int // after each so many entries, with Kill
			tidy    int // checkpoint after each so many entries
		}{{8 << 20, 0, 0}, {1, 0, 0}, {50 << 10, 3, 5}, {50 << 10, 7, 2}, {1, 5, 3}} {
			t.Run(fmt.Sprintf("%d/%d-%d-%d", size, c.big, c.restart, c.tidy), func(t *testing.T) {
				cfg := memDisk(disktest.NewMemFS())
				cfg.BigTransaction = c.big
				r := newFollower(t, cfg)
				for i, e := range entries {
					if err, ok := r.feed(e).(error); ok {
						t.Fatalf("entry %d: %v", i+1, err)
					}
					if pages[i] != nil {
						s := r.visible(1)
						if !bytes.Equal(pagesOf(t, s), pages[i]) {
							t.Fatalf("pages differ after entry %d", i+1)
						}
						checkSum(t, s)
						checkChains(t, s)
					}
					if c.tidy > 0 && i%c.tidy == 0 {
						if err := r.g.Checkpoint(); err == nil {
							if i%2 == 0 {
								must(t, r.g.absorbAll(context.Background()))
							}
							if i%3 == 0 {
								must(t, r.g.CompactLTX(context.Background()))
							}
						} else if !errors.Is(err, ErrStagingOpen) {
							t.Fatal(err)
						}
					}
					if c.restart > 0 && i%c.restart == 0 {
						r.restart()
						if pages[i] != nil && !bytes.Equal(pagesOf(t, r.visible(1)), pages[i]) {
							t.Fatalf("pages differ after entry %d and a restart", i+1)
						}
					}
				}
				if n := r.g.Stats.Failures.Load(); n > 0 {
					t.Fatalf("%d copies failed", n)
				}
				r.tidy()
				checkEmpty(t, r.visible(1))
				rd := r.reader(r.tenant(1))
				want(t, rd, "pragma integrity_check", `[["ok"]]`)
			})
		}
	}
}

// TestApplyRefuses gives a group entries that don't fit. Every copy must say the same, and stay as it is.
func TestApplyRefuses(t *testing.T) {
	entries, _ := history(t, 4096)
	cfg := memDisk(disktest.NewMemFS())
	r := newFollower(t, cfg)
	feed := func(from, to int) {
		t.Helper()
		for _, e := range entries[from:to] {
			if err, ok := r.feed(e).(error); ok {
				t.Fatal(err)
			}
		}
	}
	refuse := func(what string, entry []byte, as any, text string) {
		t.Helper()
		before := r.tenant(1).Logged()
		err, ok := r.feed(entry).(error)
		if !ok {
			t.Fatalf("%s: it was taken", what)
		}
		switch as := as.(type) {
		case nil:
		case error:
			if !errors.Is(err, as) {
				t.Errorf("%s: got %v, want %v", what, err, as)
			}
		default:
			if !errors.As(err, as) {
				t.Errorf("%s: got %v, want %T", what, err, as)
			}
		}
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %q, want %q in it", what, err, text)
		}
		if now := r.tenant(1).Logged(); now != before {
			t.Errorf("%s: the tenant moved from %s to %s", what, before, now)
		}
	}
	header := func(e []byte) txn.Header {
		h, _, err := txn.Split(e)
		must(t, err)
		return h
	}
	change := func(e []byte, f func(*txn.Header)) []byte {
		h, body, err := txn.Split(e)
		must(t, err)
		f(&h)
		out, err := txn.AppendEntry(nil, &h, body)
		must(t, err)
		return out
	}
	part, last := 0, 0 // of the first transaction in parts
	for i, e := range entries {
		h := header(e)
		if h.Kind == txn.Part && part == 0 {
			part = i
		}
		if h.Flags&txn.FlagParts != 0 && last == 0 {
			last = i
		}
	}
	if last-part < 3 {
		t.Fatalf("the history has no transaction of 3 parts")
	}

	var pos *PositionError
	feed(0, 4)
	refuse("an entry again", entries[3], &pos, "stands at")
	refuse("an entry too early", entries[5], &pos, "stands at")
	refuse("another checksum", change(entries[4], func(h *txn.Header) { h.PrevSum ^= 1 }), &pos, "stands at")
	refuse("another epoch", change(entries[4], func(h *txn.Header) { h.Epoch++ }), &pos, "epoch 2")
	refuse("another page size", change(entries[4], func(h *txn.Header) { h.PageSize = 8192 }), nil, "8192")
	refuse("a jump", change(entries[4], func(h *txn.Header) { h.NextTXID++ }), nil, "does not follow")
	refuse("an unknown tenant", change(entries[4], func(h *txn.Header) { h.Tenant[3] = 9 }), ErrNoTenant, "")
	refuse("a tenant that exists", entries[0], nil, "exists already")
	var unreadable *EntryError
	refuse("no entry", []byte("no entry"), &unreadable, "entry")
	broken := bytes.Clone(entries[4])
	broken[len(broken)/2] ^= 1
	refuse("a damaged entry", broken, &unreadable, "CRC")
	feed(4, part)

	// Parts.
	refuse("the end without parts", entries[last], nil, "no parts")
	refuse("a part that is not the first", entries[part+1], nil, "out of order")
	feed(part, part+1)
	refuse("a part left out", entries[part+2], nil, "out of order")
	if _, err := r.g.Capture(); !errors.Is(err, ErrStagingOpen) {
		t.Errorf("a capture while parts come: %v", err)
	}
	feed(part+1, last-1)
	refuse("the end too early", entries[last], nil, "parts of")
	if _, err := r.g.Capture(); err != nil {
		t.Errorf("a capture after the operation ended: %v", err)
	}
	feed(part, last)
	r.log.term++
	refuse("the end in another term", entries[last], nil, "no parts")
	if n := r.g.mu.staging; n != 0 {
		t.Errorf("%d operations are open after the term ended", n)
	}
	feed(part, part+2)
	feed(part, last+1) // part 0 begins anew
	feed(last+1, len(entries))
	s := r.visible(1)
	checkSum(t, s)

	// States that forbid writes.
	must(t, r.control(wire.TenantID{0: 7, 15: 1}, tenant.Frozen{Time: time.UnixMilli(5)}))
	st := s.Committed()
	frozen := change(entries[4], func(h *txn.Header) {
		h.PrevTXID, h.PrevSum, h.NextTXID = st.TXID, st.Checksum, st.TXID+1
	})
	refuse("a frozen tenant", frozen, ErrNotPrimary, "frozen")
	if n := r.g.Stats.Failures.Load(); n > 0 {
		t.Fatalf("%d copies failed", n)
	}
	// And again from the start, after a kill: all refusals alike, by the harness.
	r.restart()
	if s := r.visible(1); s.Committed() != st {
		t.Fatalf("after a restart: %s, want %s", s.Committed(), st)
	}
	if n := r.g.mu.staging; n != 0 {
		t.Errorf("%d operations are open", n)
	}
}

// TestContained feeds entries again that a manifest contains already.
func TestContained(t *testing.T) {
	entries, pages := history(t, 4096)
	r := newFollower(t, memDisk(disktest.NewMemFS()))
	for _, e := range entries {
		r.feed(e)
	}
	r.tidy()
	r.restart()
	at := r.tenant(1).Logged()
	for i, e := range entries { // the log begins before the snapshot, as it may
		if err, ok := r.g.Apply(uint64(i+1), 1, e).(error); ok {
			t.Fatalf("entry %d is contained, and refused: %v", i+1, err)
		}
	}
	if r.tenant(1).Logged() != at || r.g.Stats.Built.Load() != 0 {
		t.Fatalf("contained entries were applied again: %s, was %s", r.tenant(1).Logged(), at)
	}
	if !bytes.Equal(pagesOf(t, r.visible(1)), pages[len(pages)-1]) {
		t.Fatal("pages differ")
	}
}

// TestWrongContent gives followers entries whose position fits and whose pages don't: nothing of them may be seen.
func TestWrongContent(t *testing.T) {
	entries, pages := history(t, 4096)
	const at = 8 // a small transaction
	h, body, err := txn.Split(entries[at])
	must(t, err)
	remake := func(f func(p *txn.Page) bool, next wire.Checksum) []byte {
		var enc txn.Encoder
		must(t, enc.Begin(h))
		for p, err := range txn.Pages(&h, body) {
			must(t, err)
			page := make([]byte, 4096)
			if int(p.Pgno)*4096 <= len(pages[at-1]) {
				copy(page, pages[at-1][(p.Pgno-1)*4096:])
			}
			must(t, p.Apply(page, page))
			if !f(&p) {
				page[9] ^= 1
			}
			var prev []byte
			if int(p.Pgno)*4096 <= len(pages[at-1]) {
				prev = pages[at-1][(p.Pgno-1)*4096 : p.Pgno*4096]
			}
			must(t, enc.Page(p.Pgno, prev, page, p.Sum))
		}
		enc.SetNext(h.NextTXID, next)
		e, err := enc.Finish()
		must(t, err)
		return bytes.Clone(e)
	}
	for name, entry := range map[string][]byte{
		"wrong page":     remake(func(*txn.Page) bool { return false }, h.NextSum),
		"wrong page sum": remake(func(p *txn.Page) bool { p.Sum ^= 2; return true }, h.NextSum),
		"wrong checksum": remake(func(*txn.Page) bool { return true }, h.NextSum^4),
	} {
		t.Run(name, func(t *testing.T) {
			cfg := memDisk(disktest.NewMemFS())
			r := newFollower(t, cfg)
			for _, e := range entries[:at] {
				r.feed(e)
			}
			s := r.visible(1)
			before := s.Committed()
			c, err := s.OpenReader(nil)
			must(t, err)
			defer c.Close()
			if err, ok := r.feed(entry).(error); ok {
				t.Fatalf("the header fits, and was refused: %v", err)
			}
			if err := s.wait(nil, before.TXID+1); err == nil {
				t.Fatal("it became visible")
			}
			var corrupt *CorruptError
			if err := r.tenant(1).Failed(); !errors.As(err, &corrupt) {
				t.Fatalf("got %v", err)
			}
			if s.Committed() != before || r.g.Stats.Failures.Load() != 1 {
				t.Fatalf("the copy stands at %s, was %s; %d failures", s.Committed(), before, r.g.Stats.Failures.Load())
			}
			if err := exec(c, "select * from t"); err == nil {
				t.Fatal("a copy out of service was read")
			}
			if _, err := r.tenant(1).Acquire(); !errors.As(err, &corrupt) {
				t.Fatalf("a copy out of service was opened: %v", err)
			}
			// The log goes on, nothing piles up, and the group takes checkpoints.
			r.feed(entries[at+1])
			if n := len(r.tenant(1).mu.queue); n != 0 {
				t.Fatalf("%d entries wait for a copy out of service", n)
			}
			r.tidy()
			r.restart()
			if err := r.tenant(1).Failed(); !errors.As(err, &corrupt) || !strings.Contains(err.Error(), "given up") {
				t.Fatalf("after a checkpoint and a restart: %v", err)
			}
		})
	}
}
