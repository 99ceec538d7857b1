package leader_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/leader"
)

// life is one run of a group.
type life struct {
	*leader.Group
	machine *list
	stop    context.CancelFunc
	ended   chan error
}

func config(fsys disk.FS, m *list) leader.Config {
	return leader.Config{
		Group: 7, Node: "n1", FS: fsys, Dir: "/g7", Machine: m, InitialVoters: []leader.NodeID{"n1"},
		SegmentSize: 16 << 10,
	}
}

func start(t testing.TB, cfg leader.Config) *life {
	t.Helper()
	g, err := leader.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &life{Group: g, stop: cancel, ended: make(chan error, 1)}
	l.machine, _ = cfg.Machine.(*list)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		l.ended <- g.Run(ctx)
	}()
	// A bubble wants all to have ended, also when a test fails.
	t.Cleanup(func() { cancel(); <-gone })
	return l
}

// primary waits until the group has one, or has ended.
func (l *life) primary() bool {
	for {
		now, changed := l.Leadership()
		if now.Primary {
			return true
		}
		select {
		case <-changed:
		case err := <-l.ended:
			l.ended <- err
			return false
		case <-time.After(time.Minute):
			l.stop()
			err := <-l.ended
			l.ended <- fmt.Errorf("no primary after a minute: %v", err)
			return false
		}
	}
}

func (l *life) end(t testing.TB) {
	t.Helper()
	l.stop()
	if err := <-l.ended; err != nil {
		t.Fatal(err)
	}
}

// propose proposes one entry and waits.
func (l *life) propose(entry string) (any, error) {
	type answer struct {
		response any
		err      error
	}
	c := make(chan answer, 1)
	l.Propose([]byte(entry), func(r any, err error) { c <- answer{r, err} })
	a := <-c
	return a.response, a.err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func numbered(from, n int) []string {
	var s []string
	for i := range n {
		s = append(s, fmt.Sprintf("entry %d", from+i))
	}
	return s
}

func TestProposalsInOrderAndAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := disktest.NewMemFS()
		var want []string
		for range 3 {
			l := start(t, config(m, &list{}))
			if !l.primary() {
				t.Fatal(<-l.ended)
			}
			if got := l.machine.all(); !slices.Equal(got, want) {
				t.Fatalf("a primary was announced with %d entries, want %d", len(got), len(want))
			}
			var wg sync.WaitGroup
			var order []string
			var last uint64
			for _, e := range numbered(len(want), 2000) {
				wg.Add(1)
				want = append(want, e)
				l.Propose([]byte(e), func(r any, err error) {
					defer wg.Done()
					if err != nil || r.(uint64) <= last {
						t.Errorf("%s: %v after %d, %v", e, r, last, err)
					}
					order = append(order, e)
					last, _ = r.(uint64)
				})
			}
			wg.Wait()
			if !slices.Equal(order, want[len(want)-2000:]) {
				t.Fatal("answered in another order")
			}
			if s := l.Stats(); s.Proposals != 0 || s.ProposalBytes != 0 || s.AppliedIndex != last || s.CommitIndex < last {
				t.Fatalf("stats %+v", s)
			}
			l.end(t)
			if _, err := l.propose("late"); !errors.As(err, new(*leader.NotPrimaryError)) {
				t.Fatalf("after the end: %v", err)
			}
		}
	})
}

func TestSnapshotAndTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := disktest.NewMemFS()
		l := start(t, config(m, &list{}))
		l.primary()
		want := numbered(0, 3000)
		for i, e := range want {
			if _, err := l.propose(e); err != nil {
				t.Fatal(err)
			}
			if i%1000 == 500 {
				before := l.LogBytes()
				must(t, l.Snapshot())
				if after := l.LogBytes(); before < 4000 || after != 0 {
					t.Fatalf("%d bytes of log, after the snapshot %d", before, after)
				}
			}
		}
		must(t, l.Snapshot())
		must(t, l.Snapshot()) // nothing new
		l.machine.mu.Lock()
		l.machine.mu.refuse = errors.New("not now")
		l.machine.mu.Unlock()
		if _, err := l.propose("one more"); err != nil {
			t.Fatal(err)
		}
		if err := l.Snapshot(); err == nil {
			t.Fatal("a snapshot that the machine refused")
		}
		want = append(want, "one more")
		l.end(t)
		if m.Used() > 400<<10 {
			t.Fatalf("%d bytes used: the log is not deleted", m.Used())
		}
		l = start(t, config(m, &list{}))
		l.primary()
		if got := l.machine.all(); !slices.Equal(got, want) || l.machine.mu.restored != 1 {
			t.Fatalf("restarted with %d entries, want %d; %d restores", len(got), len(want), l.machine.mu.restored)
		}
		if bytes := l.LogBytes(); bytes != uint64(len("one more")) {
			t.Fatalf("%d bytes behind the snapshot", bytes)
		}
		l.end(t)
	})
}

// TestSnapshotOnAFullDisk: to make a snapshot, and shorten the log, no file of the log is needed.
func TestSnapshotOnAFullDisk(t *testing.T) {
	fsys := disktest.NewFaults(disktest.NewMemFS())
	l := start(t, config(fsys, &list{}))
	if !l.primary() {
		t.Fatal(<-l.ended)
	}
	for _, e := range numbered(0, 20) {
		if _, err := l.propose(e); err != nil {
			t.Fatal(err)
		}
	}
	fsys.Fail("log.create", 0, syscall.ENOSPC)
	must(t, l.Snapshot())
	if l.LogBytes() != 0 {
		t.Errorf("%d bytes of the log are not in the snapshot", l.LogBytes())
	}
	if _, err := l.propose("behind it"); err != nil {
		t.Error(err)
	}
	l.end(t)
}

func TestReadIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := disktest.NewMemFS()
		ctx := t.Context()
		l := start(t, config(m, &list{}))
		if _, err := l.ReadIndex(ctx); err == nil {
			t.Fatal("read index before there is a primary")
		}
		l.primary()
		if i, err := l.ReadIndex(ctx); i != 0 || err != nil {
			t.Fatalf("of an empty log: %d, %v", i, err)
		}
		must(t, l.WaitApplied(ctx, 0))
		for n := range 100 {
			r, err := l.propose("x")
			must(t, err)
			i, err := l.ReadIndex(ctx)
			if i != r.(uint64) || err != nil {
				t.Fatalf("entry %d has index %v, read index %d, %v", n, r, i, err)
			}
			must(t, l.WaitApplied(ctx, i))
		}
		last := l.machine.index(99)
		must(t, l.Snapshot())
		waiting := make(chan error, 2)
		go func() { waiting <- l.WaitApplied(ctx, last+1) }()
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := l.WaitApplied(short, last+1); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("waited for an entry that is not there: %v", err)
		}
		l.end(t)
		if err := <-waiting; !errors.Is(err, leader.ErrStopped) {
			t.Fatalf("wait at the end: %v", err)
		}
		if _, err := l.ReadIndex(ctx); !errors.Is(err, leader.ErrStopped) {
			t.Fatalf("after the end: %v", err)
		}
		// Only no-ops behind the snapshot: the index is still that of a command.
		for range 2 {
			l = start(t, config(m, &list{}))
			l.primary()
			i, err := l.ReadIndex(ctx)
			if i != last || err != nil {
				t.Fatalf("after a restart %d, %v, want %d", i, err, last)
			}
			must(t, l.WaitApplied(ctx, i))
			l.end(t)
		}
	})
}

func TestTermsAreAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := disktest.NewMemFS()
		term := uint64(0)
		for range 3 {
			l := start(t, config(m, &list{}))
			begun := time.Now()
			l.primary()
			if waited := time.Since(begun); waited > 0 {
				t.Fatalf("the only voter waited %v to be elected", waited)
			}
			now, _ := l.Leadership()
			if now.Term <= term || now.Leader != "n1" || l.Primary() != nil {
				t.Fatalf("after term %d: %+v", term, now)
			}
			term = now.Term
			if _, err := l.propose("x"); err != nil {
				t.Fatal(err)
			}
			l.machine.mu.Lock()
			if got := l.machine.mu.terms[len(l.machine.mu.terms)-1]; got != term {
				t.Fatalf("applied in term %d, announced %d", got, term)
			}
			l.machine.mu.Unlock()
			l.end(t)
			if now, _ := l.Leadership(); now.Primary {
				t.Fatal("primary after the end")
			}
		}
	})
}

func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faults := disktest.NewFaults(disktest.NewMemFS())
		cfg := config(faults, &list{})
		cfg.QueueEntries, cfg.QueueBytes = 500, 10_000
		l := start(t, cfg)
		l.primary()
		faults.Delay("log.sync", time.Minute)
		var mu sync.Mutex
		outcomes := make(map[string]int)
		var wg sync.WaitGroup
		propose := func(size int) {
			wg.Add(1)
			l.Propose(make([]byte, size), func(_ any, err error) {
				mu.Lock()
				outcomes[fmt.Sprintf("%T", err)]++
				mu.Unlock()
				wg.Done()
			})
		}
		counts := func() map[string]int {
			mu.Lock()
			defer mu.Unlock()
			return maps.Clone(outcomes)
		}
		for range 600 {
			propose(1)
		}
		synctest.Wait()
		got := counts()
		if got["*leader.OverloadedError"] != 100 || len(got) != 1 {
			t.Fatalf("while the disk is slow: %v", got)
		}
		wg.Wait()
		got = counts()
		if got["<nil>"] != 500 {
			t.Fatalf("in the end: %v", got)
		}
		for range 4 {
			propose(3000)
		}
		propose(leader.EntryMax + 1)
		wg.Wait()
		got = counts()
		if got["<nil>"] != 503 || got["*leader.OverloadedError"] != 101 || got["*leader.EntryTooLargeError"] != 1 {
			t.Fatalf("large entries: %v", got)
		}
		propose(leader.EntryMax)
		wg.Wait()
		got = counts()
		if got["<nil>"] != 504 {
			t.Fatalf("the largest entry: %v", got)
		}
		l.end(t)
	})
}

// Many proposals share one sync.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faults := disktest.NewFaults(disktest.NewMemFS())
		cfg := config(faults, &list{})
		cfg.SegmentSize = 1 << 20
		l := start(t, cfg)
		l.primary()
		faults.Delay("log.sync", time.Millisecond)
		begun := time.Now()
		var wg sync.WaitGroup
		for range 10_000 {
			wg.Add(1)
			l.Propose([]byte("x"), func(any, error) { wg.Done() })
		}
		wg.Wait()
		if took := time.Since(begun); took > 45*time.Millisecond {
			t.Fatalf("10000 entries took %v with syncs of 1 ms", took)
		}
		l.end(t)
	})
}

// TestDiskErrors lets each kind of operation fail once: the group ends with a
// LogError, and what was answered is there on the next start.
func TestDiskErrors(t *testing.T) {
	for _, op := range []string{"log.write", "log.sync", "log.allocate", "log.create", "log.remove", "logmeta.write", "logmeta.sync"} {
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
			for nth := 1; nth < 5; nth++ {
				synctest.Test(t, func(t *testing.T) {
					m := disktest.NewMemFS()
					faults := disktest.NewFaults(m)
					l := start(t, config(faults, &list{}))
					l.primary()
					faults.Fail(op, nth, cause)
					acked := workload(l, 3000, 64)
					l.stop()
					err := <-l.ended
					var failure *leader.LogError
					if !errors.As(err, &failure) || !errors.Is(err, cause) || failure.Group != 7 {
						t.Fatalf("%s %d: ended with %v", op, nth, err)
					}
					recovered(t, m.Crash(nil), acked, fmt.Sprintf("%s %d", op, nth))
				})
			}
		}
	}
}

// TestUnreadableEntry lets the n-th read of the log fail, for all n, while a
// group replays it: the machine must be given no entry after one that is missing.
func TestUnreadableEntry(t *testing.T) {
	const entries = 60
	m := disktest.NewMemFS()
	synctest.Test(t, func(t *testing.T) {
		l := start(t, config(m, &list{}))
		l.primary()
		for _, e := range numbered(0, entries) {
			if _, err := l.propose(e); err != nil {
				t.Fatal(err)
			}
		}
		l.end(t)
	})
	unread := 0
	for nth := 1; nth < 1000; nth++ {
		failed := false
		synctest.Test(t, func(t *testing.T) {
			faults := disktest.NewFaults(m.Clone())
			faults.Fail("log.read", nth, syscall.EIO)
			l := start(t, config(faults, &list{}))
			l.primary()
			l.stop()
			err := <-l.ended
			failed = err != nil
			if failed && !errors.As(err, new(*leader.LogError)) {
				t.Fatalf("read %d: %v", nth, err)
			}
			got := l.machine.all()
			if !slices.Equal(got, numbered(0, len(got))) || !failed && len(got) != entries {
				t.Fatalf("read %d: the machine got %q", nth, got)
			}
			if failed && len(got) > 0 && len(got) < entries {
				unread++
			}
		})
		if !failed {
			t.Logf("%d reads, %d failed half-way", nth-1, unread)
			return
		}
	}
	t.Fatal("the log is read without end")
}

// outcomes are what became of proposals, which are numbered from 0.
type outcomes struct {
	mu      sync.Mutex
	acked   []int
	refused []int
	indexes []uint64 // of those acknowledged
}

// numberedEntry is what recovered reads.
func numberedEntry(i int) string { return fmt.Sprintf("%d.%0*d", i, i%50, 0) }

// workload proposes n entries, of which up to inFlight wait, with snapshots in between.
func workload(l *life, n, inFlight int) *outcomes {
	o := &outcomes{}
	var wg sync.WaitGroup
	room := make(chan struct{}, inFlight)
	var failed sync.Once
	stop := make(chan struct{})
	for i := range n {
		select {
		case <-stop:
			wg.Wait()
			return o
		case room <- struct{}{}:
		}
		if i%700 == 699 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				_ = l.Snapshot()
			}()
		}
		wg.Add(1)
		l.Propose([]byte(numberedEntry(i)), func(r any, err error) {
			defer wg.Done()
			o.mu.Lock()
			defer o.mu.Unlock()
			switch {
			case err == nil:
				o.acked = append(o.acked, i)
				o.indexes = append(o.indexes, r.(uint64))
			case errors.As(err, new(*leader.NotPrimaryError)), errors.As(err, new(*leader.OverloadedError)):
				o.refused = append(o.refused, i)
			}
			if err != nil {
				failed.Do(func() { close(stop) })
			}
			<-room
		})
	}
	wg.Wait()
	return o
}

// recovered starts the group again and checks that it holds all that was
// acknowledged, in order, nothing twice, and nothing that was refused.
func recovered(t *testing.T, fsys disk.FS, o *outcomes, context string) {
	t.Helper()
	l := start(t, config(fsys, &list{}))
	if !l.primary() {
		t.Fatalf("%s: restart: %v", context, <-l.ended)
	}
	seen := make(map[int]bool)
	last := -1
	var order []int
	for _, e := range l.machine.all() {
		var i int
		if _, err := fmt.Sscanf(e, "%d.", &i); err != nil {
			t.Fatalf("%s: entry %q", context, e)
		}
		if seen[i] {
			t.Fatalf("%s: entry %d is there twice", context, i)
		}
		if i < last {
			t.Fatalf("%s: entry %d after %d", context, i, last)
		}
		seen[i], last = true, i
		order = append(order, i)
	}
	for n, i := range o.acked {
		if !seen[i] {
			t.Fatalf("%s: acknowledged entry %d is gone; there are %d, up to %d", context, i, len(order), last)
		}
		if at, _ := slices.BinarySearch(order, i); l.machine.index(at) != o.indexes[n] {
			t.Fatalf("%s: entry %d was acknowledged with index %d, now it has %d", context, i, o.indexes[n], l.machine.index(at))
		}
	}
	for _, i := range o.refused {
		if seen[i] {
			t.Fatalf("%s: refused entry %d is there", context, i)
		}
	}
	if _, err := l.propose(fmt.Sprintf("%d.", 1<<30)); err != nil {
		t.Fatalf("%s: propose after restart: %v", context, err)
	}
	must(t, l.Snapshot())
	l.end(t)
}

// TestCrashAnywhere crashes a group at its n-th disk operation, for n all over
// its life, torn or not, by power loss or kill, while it starts, works, makes
// snapshots and deletes its log.
func TestCrashAnywhere(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 7
	}
	total := 0
	synctest.Test(t, func(t *testing.T) {
		faults := disktest.NewFaults(disktest.NewMemFS())
		l := start(t, config(faults, &list{}))
		l.primary()
		workload(l, 2500, 40)
		l.end(t)
		total = faults.Count()
	})
	t.Logf("%d operations", total)
	for n := 1; n < total; n += step {
		for variant := range uint64(2) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(uint64(n), variant))
				m := disktest.NewMemFS()
				faults := disktest.NewFaults(m)
				if variant == 1 {
					faults.TearNth(n)
				}
				faults.CrashNth(n + int(variant))
				l := start(t, config(faults, &list{}))
				acked := &outcomes{}
				if l.primary() {
					acked = workload(l, 2500, 40)
				}
				l.stop()
				if err := <-l.ended; err != nil && !errors.Is(err, disktest.ErrCrashed) && !errors.Is(err, disktest.ErrTorn) {
					t.Fatalf("crash at %d: ended with %v", n, err)
				}
				after := m.Kill()
				if rng.IntN(4) > 0 {
					after = m.Crash(rng)
				}
				recovered(t, after, acked, fmt.Sprintf("crash at %d, variant %d", n, variant))
			})
		}
	}
}
