package pagestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire/txn"
)

// unread is a follower whose transactions wait to be built as long as nobody uses the store.
func unread(t testing.TB) *rig {
	cfg := memDisk(disktest.NewMemFS())
	cfg.BuildDelay = time.Hour
	return newFollower(t, cfg)
}

// deadline is closed long after what a test waits for.
func deadline(t *testing.T) <-chan struct{} {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx.Done()
}

// rows makes a log of transactions that change pages in common, and returns its entries with the pages after each.
func rows(t testing.TB, n int) (entries, pages [][]byte) {
	r := newRig(t, testConfig(t))
	w := r.writer(r.create(1, 4096))
	run := func(sql string) {
		mustExec(t, w, sql)
		pages = append(pages, pagesOf(t, w.store))
	}
	pages = append(pages, pagesOf(t, w.store))
	run("create table t(id integer primary key, a text)")
	run("create index ta on t(a)")
	for i := range n {
		run(fmt.Sprintf("insert into t(a) values('%d %s')", i*7919%1000, strings.Repeat("x", i%90)))
	}
	return r.log.history, pages
}

// Transactions that nobody asks for are built when somebody does: those that wait at once, and each page once.
func TestBuiltTogetherWhenOpened(t *testing.T) {
	entries, pages := rows(t, 40)
	r := unread(t)
	for i, e := range entries {
		if err, ok := r.feed(e).(error); ok {
			t.Fatalf("entry %d: %v", i+1, err)
		}
	}
	tn := r.tenant(1)
	if built, logged := tn.Position().TXID, tn.Logged().TXID; built != 0 || int(logged) != len(entries)-1 {
		t.Fatalf("unread, it stands at %d; the log at %d", built, logged)
	}
	s := r.visible(1)
	if !bytes.Equal(pagesOf(t, s), pages[len(pages)-1]) || int(r.g.Stats.Built.Load()) != len(entries)-1 {
		t.Fatalf("%d built, or pages differ", r.g.Stats.Built.Load())
	}
	for pgno, c := range s.mu.chains {
		if len(c) != 1 || c[0].tx != s.Committed().TXID && pgno == 1 {
			t.Errorf("page %d has %d versions, the newest of %d", pgno, len(c), c[len(c)-1].tx)
		}
	}
	checkSum(t, s)
	checkChains(t, s)
}

// While somebody has the store open, nothing waits.
func TestOpenIsBuiltAtOnce(t *testing.T) {
	entries, pages := rows(t, 10)
	r := unread(t)
	r.feed(entries[0])
	s, err := r.tenant(1).Acquire()
	must(t, err)
	defer r.tenant(1).Release()
	for i, e := range entries[1:] {
		r.feed(e)
		if err := s.wait(deadline(t), r.tenant(1).Logged().TXID); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(pagesOf(t, s), pages[i+1]) {
			t.Fatalf("pages differ after entry %d", i+2)
		}
	}
}

// What waits is bounded in bytes and time, and neither a checkpoint nor a change of the tenant's record waits for it.
func TestUnreadIsBuiltInTheEnd(t *testing.T) {
	entries, pages := rows(t, 40)
	for name, enough := range map[string]func(t *testing.T, r *rig){
		"checkpoint": func(t *testing.T, r *rig) { must(t, r.g.Checkpoint()) },
		"control":    func(t *testing.T, r *rig) { must(t, r.control(idOf(1), tenant.Frozen{Time: clock(5)})) },
		"time":       func(t *testing.T, r *rig) { time.Sleep(r.cfg.BuildDelay) },
		"bytes": func(t *testing.T, r *rig) {
			tn := r.tenant(1)
			tn.mu.Lock()
			tn.mu.laterBytes += batchBytes
			tn.wakeBuilderLocked(1)
			tn.mu.Unlock()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := unread(t)
				for _, e := range entries {
					r.feed(e)
				}
				tn := r.tenant(1)
				synctest.Wait()
				if st := tn.Position(); st.TXID != 0 {
					t.Fatalf("built up to %d before", st.TXID)
				}
				enough(t, r)
				synctest.Wait()
				if got, want := tn.Position().TXID, tn.Logged().TXID; got != want {
					t.Fatalf("built up to %d of %d", got, want)
				}
				if !bytes.Equal(pagesOf(t, r.visible(1)), pages[len(pages)-1]) {
					t.Fatal("pages differ")
				}
			})
		})
	}
}

// However transactions are put together with checkpoints and restarts between them, what comes out is each time what the log says.
func TestBuiltTogetherInAnyParts(t *testing.T) {
	entries, pages := history(t, 4096)
	rapid.Check(t, func(rt *rapid.T) {
		cfg := memDisk(disktest.NewMemFS())
		cfg.BuildDelay = time.Hour
		cfg.BigTransaction = rapid.SampledFrom([]int64{1, 50 << 10, 1 << 20}).Draw(rt, "big")
		r := &rig{t: t, log: newTestLog(), cfg: cfg}
		r.start()
		defer r.stop()
		for i, e := range entries {
			r.feed(e)
			switch rapid.IntRange(0, 9).Draw(rt, "then") {
			case 0:
				if s := r.visible(1); pages[i] != nil && !bytes.Equal(pagesOf(t, s), pages[i]) {
					rt.Fatalf("pages differ after entry %d", i+1)
				}
			case 1:
				if err := r.g.Checkpoint(); err != nil && !errors.Is(err, ErrStagingOpen) {
					rt.Fatal(err)
				}
			case 2:
				r.restart()
			}
		}
		s := r.visible(1)
		if !bytes.Equal(pagesOf(t, s), pages[len(pages)-1]) {
			rt.Fatal("pages differ")
		}
		checkSum(t, s)
		checkChains(t, s)
	})
}

// A checkpoint gets the state that it was taken at, whatever comes after that and waits with it.
func TestACaptureEndsWhatIsBuiltTogether(t *testing.T) {
	entries, pages := rows(t, 30)
	r := unread(t)
	r.end() // no builder at work
	r.wg.Wait()
	const at = 20
	for _, e := range entries[:at] {
		r.feed(e)
	}
	c, err := r.g.Capture()
	must(t, err)
	for _, e := range entries[at:] {
		r.feed(e)
	}
	tn := r.tenant(1)
	tn.mu.Lock()
	n := tn.batchLocked()
	tn.mu.Unlock()
	if n != at-1 { // the first entry makes the tenant
		t.Fatalf("%d are built together, with a capture after %d", n, at-1)
	}
	tn.build(t.Context())
	var b bytes.Buffer
	must(t, c.Persist(&b))
	c.Release()
	r.log.snap, r.log.entries, r.log.first = b.Bytes(), nil, at+1
	must(t, r.tryStart())
	if !bytes.Equal(pagesOf(t, r.visible(1)), pages[at-1]) {
		t.Fatal("the checkpoint has other pages than those at its index")
	}
}

// The transaction that is wrong is found among those that wait with it: what comes before is there, and all else is out of service.
func TestWrongAmongOthers(t *testing.T) {
	entries, pages := rows(t, 30)
	const at = 17
	h, body, err := txn.Split(entries[at])
	must(t, err)
	var enc txn.Encoder
	must(t, enc.Begin(h))
	for p, err := range txn.Pages(&h, body) { // its sums are those of the right pages
		must(t, err)
		prev := pages[at-1][(p.Pgno-1)*4096 : p.Pgno*4096]
		next := make([]byte, 4096)
		must(t, p.Apply(next, prev))
		next[4000] ^= 1
		must(t, enc.Page(p.Pgno, prev, next, p.Sum))
	}
	enc.SetNext(h.NextTXID, h.NextSum)
	wrong, err := enc.Finish()
	must(t, err)
	r := unread(t)
	for i, e := range entries {
		if i == at {
			e = wrong
		}
		r.feed(e)
	}
	tn := r.tenant(1)
	if s, err := tn.Acquire(); err == nil {
		err = s.wait(deadline(t), tn.Logged().TXID)
		tn.Release()
		if err == nil {
			t.Fatal("a wrong page became visible")
		}
	}
	var corrupt *CorruptError
	if err := tn.Failed(); !errors.As(err, &corrupt) || !strings.Contains(err.Error(), fmt.Sprintf("build transaction %d:", h.NextTXID)) {
		t.Fatalf("got %v", err)
	}
	if got := tn.Position().TXID; got != h.PrevTXID {
		t.Fatalf("the copy stands at %d, want %d", got, h.PrevTXID)
	}
}

// A transaction that cuts pages off begins a batch: what was made before of those pages is of no use then.
func TestACutIsNotBuiltWithWhatIsBefore(t *testing.T) {
	entries, _ := history(t, 4096)
	r := unread(t)
	r.end() // no builder at work
	r.wg.Wait()
	for _, e := range entries {
		r.feed(e)
	}
	tn := r.tenant(1)
	cuts := 0
	for len(tn.mu.queue) > 0 {
		n := tn.batchLocked()
		for i := 1; i < n; i++ {
			if tn.mu.queue[i].h.Commit < tn.mu.queue[i-1].h.Commit {
				t.Fatalf("transaction %d cuts pages off, and is built with what is before", tn.mu.queue[i].h.NextTXID)
			}
		}
		if n < len(tn.mu.queue) && tn.mu.queue[n].h.Commit < tn.mu.queue[n-1].h.Commit {
			cuts++
		}
		st := State{TXID: tn.mu.queue[n-1].h.NextTXID, Pages: tn.mu.queue[n-1].h.Commit}
		tn.mu.Lock()
		tn.builtLocked(st, n)
		tn.mu.Unlock()
	}
	if cuts == 0 {
		t.Fatal("no transaction cut pages off")
	}
}

// A tenant that is purged while several of its transactions are built is not in use any more: its files can go.
func TestPurgedWhileBuiltTogether(t *testing.T) {
	entries, _ := rows(t, 10)
	r := unread(t)
	r.end() // no builder at work
	r.wg.Wait()
	for _, e := range entries {
		r.feed(e)
	}
	tn := r.tenant(1)
	s, err := tn.Acquire()
	must(t, err)
	defer tn.Release()
	s.mu.Lock() // a builder comes as far as its first page
	var building sync.WaitGroup
	building.Go(func() { tn.build(context.Background()) })
	for !tn.inUse() {
		runtime.Gosched()
	}
	tn.mu.Lock()
	tn.mu.gone = true
	tn.dropQueueLocked()
	tn.mu.Unlock()
	s.mu.closed = ErrNoTenant
	s.mu.Unlock()
	building.Wait()
	if tn.inUse() {
		t.Error("it is in use still")
	}
}

// What is built together is bounded in pages too, which take memory that no budget knows of before they are published.
func TestBuiltTogetherIsBounded(t *testing.T) {
	entries, _ := rows(t, 30)
	r := unread(t)
	r.end() // no builder at work
	r.wg.Wait()
	for _, e := range entries {
		r.feed(e)
	}
	tn := r.tenant(1)
	tn.mu.Lock()
	defer tn.mu.Unlock()
	if n := tn.batchLocked(); n != len(entries)-1 {
		t.Fatalf("%d of %d are built together", n, len(entries)-1)
	}
	for _, most := range []int64{1, 5, 17, 30} {
		r.g.cfg.BigTransaction = most * 4096
		n, made := tn.batchLocked(), int64(0)
		for _, q := range tn.mu.queue[:n] {
			made += int64(q.h.Pages)
		}
		if next := int64(tn.mu.queue[n].h.Pages); n > 1 && made > most || made+next <= most {
			t.Errorf("%d pages are built together, and %d of the next could be; at most %d", made, next, most)
		}
	}
}
