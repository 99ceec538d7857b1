package pagestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
)

// crashScript is the life of a follower whose disk fails: entries of a recorded history, with checkpoints, absorption and
// compaction between. What is in the log is acknowledged; whatever happens to the disk, all of it must
// be there afterwards, and nothing else.
type crashScript struct {
	entries [][]byte
	pages   [][]byte
}

// run goes through the script, and ends early where a process would: when the disk crashed, or the
// copy is out of service.
func (c *crashScript) run(r *rig) {
	for i, e := range c.entries {
		r.feed(e)
		if i%4 != 3 && i != len(c.entries)-1 {
			continue
		}
		tn, err := r.g.Tenant(c.id())
		if err != nil {
			continue
		}
		if s, err := tn.Acquire(); err == nil {
			_ = s.wait(nil, tn.Logged().TXID)
			tn.Release()
		}
		if tn.Failed() != nil {
			return
		}
		if err := r.g.Checkpoint(); errors.Is(err, disktest.ErrCrashed) {
			return
		}
		if i%8 < 4 {
			continue
		}
		for range 2 { // what failed is tried again
			if err := r.g.absorbAll(context.Background()); errors.Is(err, disktest.ErrCrashed) {
				return
			}
		}
		if i%16 > 8 {
			for range 2 {
				if err := r.g.CompactLTX(context.Background()); errors.Is(err, disktest.ErrCrashed) {
					return
				}
			}
		}
		r.g.closeIdle()
	}
}

func (c *crashScript) id() (id [16]byte) { id[0], id[15] = 7, 1; return id }

// recover starts on the disk after the crash, and looks at everything.
func (c *crashScript) recover(t *testing.T, log *testLog, fs disk.FS, what string) {
	t.Helper()
	cfg := memDisk(fs)
	cfg.BigTransaction = 50 << 10
	r := &rig{t: t, log: log, cfg: cfg}
	r.start()
	defer r.stop()
	check := func(when string) {
		t.Helper()
		n := len(r.log.history)
		if n == 0 || c.pages[n-1] == nil {
			return
		}
		tn := r.tenant(1)
		s, err := tn.Acquire()
		if err != nil {
			t.Fatalf("%s: %s: %v", what, when, err)
		}
		defer tn.Release()
		if err := s.wait(nil, tn.Logged().TXID); err != nil {
			t.Fatalf("%s: %s: %v", what, when, err)
		}
		if !bytes.Equal(pagesOf(t, s), c.pages[n-1]) {
			t.Fatalf("%s: %s: pages differ at %s", what, when, s.Committed())
		}
		checkSum(t, s)
		checkChains(t, s)
	}
	check("after the crash")
	if err := r.g.Checkpoint(); err == nil {
		must(t, r.g.absorbAll(context.Background()))
		check("after a checkpoint")
	} else if !errors.Is(err, ErrStagingOpen) {
		t.Fatalf("%s: %v", what, err)
	}
	for _, e := range c.entries[len(r.log.history):] { // the script goes on
		if err, ok := r.feed(e).(error); ok {
			t.Fatalf("%s: %v", what, err)
		}
	}
	check("after the end")
	r.tidy()
	must(t, r.g.CompactLTX(context.Background()))
	check("after a checkpoint at the end")
	checkEmpty(t, r.visible(1))
	if report, err := r.g.Scrub(context.Background()); err != nil || report.Errors > 0 || report.Tenants != 1 {
		t.Fatalf("%s: scrub: %+v, %v", what, report, err)
	}
	checkChain(t, r, what)
	// Nothing is left over.
	for _, dir := range []string{"segments", "staging"} {
		names, err := fs.ReadDir("test.list", filepath.Join(cfg.Dir, dir))
		must(t, err)
		if len(names) > 0 {
			t.Fatalf("%s: %d files are left in %s: %v", what, len(names), dir, names)
		}
	}
	rd := r.reader(r.tenant(1))
	want(t, rd, "pragma integrity_check", `[["ok"]]`)
	rd.Close()
}

// checkChain wants the LTX files to follow one another up to the newest state.
func checkChain(t *testing.T, r *rig, what string) {
	t.Helper()
	l, err := r.g.LTXFiles(r.tenant(1).ID(), 1)
	must(t, err)
	for i, f := range l {
		if i > 0 && f.Min != l[i-1].Max+1 {
			t.Fatalf("%s: LTX file %d begins at %d, after one that ends at %d", what, i, f.Min, l[i-1].Max)
		}
	}
	if n := len(l); n == 0 || l[0].Min != 1 || l[n-1].Max != r.tenant(1).Logged().TXID {
		t.Fatalf("%s: the chain of %d LTX files does not go from 1 to %s: %v", what, n, r.tenant(1).Logged(), l)
	}
}

// TestCrash runs the script once for each numbered operation and each fault: what is
// read is the same whichever operation fails, is torn, or is the last before a power loss or kill.
func TestCrash(t *testing.T) {
	c := &crashScript{}
	c.entries, c.pages = history(t, 4096)
	begin := func(fs disk.FS) *rig {
		cfg := memDisk(fs)
		cfg.BigTransaction = 50 << 10
		r := &rig{t: t, log: newTestLog(), cfg: cfg}
		return r
	}
	// How many operations are there?
	mem := disktest.NewMemFS()
	faults := disktest.NewFaults(mem)
	r := begin(faults)
	r.start()
	c.run(r)
	r.stop()
	ops := faults.Count()
	c.recover(t, r.log, mem.Kill(), "without a fault")
	t.Logf("%d operations", ops)
	if ops < 150 {
		t.Fatal("the script does too little")
	}
	stride := 9
	if *long {
		stride = 1
	}
	start := int(rand.Uint32() % uint32(stride))
	broken := errors.New("input/output error")
	for n := 1 + start; n <= ops; n += stride {
		for _, f := range []struct {
			name string
			set  func(*disktest.Faults)
		}{
			{"crash", func(f *disktest.Faults) { f.CrashNth(n) }},
			{"tear", func(f *disktest.Faults) { f.TearNth(n) }},
			{"fail", func(f *disktest.Faults) { f.FailNth(n, broken) }},
		} {
			mem := disktest.NewMemFS()
			faults := disktest.NewFaults(mem)
			f.set(faults)
			r := begin(faults)
			if r.tryStart() == nil {
				c.run(r)
				r.stop()
			}
			seed := rand.Uint64()
			what := fmt.Sprintf("%s at operation %d, seed %d", f.name, n, seed)
			for _, after := range []struct {
				name string
				fs   *disktest.MemFS
			}{
				{"kill", mem.Kill()},
				{"power loss, durable only", mem.Crash(nil)},
				{"power loss", mem.Crash(rand.New(rand.NewPCG(seed, 1)))},
			} {
				c.recover(t, r.log.clone(), after.fs, what+", "+after.name)
			}
		}
	}
}

// clone is the log as another process finds it.
func (l *testLog) clone() *testLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &testLog{
		entries: append([][]byte(nil), l.entries...), first: l.first, snap: l.snap, term: l.term,
		history: append([][]byte(nil), l.history...), results: append([]any(nil), l.results...), terms: append([]uint64(nil), l.terms...),
	}
}

// TestCrashTwice crashes again during the recovery from a crash.
func TestCrashTwice(t *testing.T) {
	c := &crashScript{}
	c.entries, c.pages = history(t, 4096)
	rounds := 25
	if *long {
		rounds = 2000
	}
	for range rounds {
		seed := rand.Uint64()
		rng := rand.New(rand.NewPCG(seed, 2))
		mem, log := disktest.NewMemFS(), newTestLog()
		what := fmt.Sprintf("seed %d", seed)
		for range 4 {
			faults := disktest.NewFaults(mem)
			faults.CrashNth(1 + rng.IntN(150))
			cfg := memDisk(faults)
			cfg.BigTransaction = 50 << 10
			r := &rig{t: t, log: log, cfg: cfg}
			if r.tryStart() == nil {
				(&crashScript{entries: c.entries[len(log.history):], pages: c.pages}).run(r)
				r.stop()
			}
			mem = mem.Crash(rng)
		}
		c.recover(t, log.clone(), mem, what)
	}
}

// TestDiskOrder writes down which operations a checkpoint, absorption and compaction do, in which order: what is synced before
// what is the heart of recovery, and a change of it must show in review.
func TestDiskOrder(t *testing.T) {
	faults := disktest.NewFaults(disktest.NewMemFS())
	r := newRig(t, memDisk(faults))
	for n := byte(1); n <= 2; n++ {
		w := r.writer(r.create(n, 4096))
		mustExec(t, w, "create table t(a)")
		mustExec(t, w, "insert into t values(zeroblob(9000))")
	}
	faults.Trace()
	must(t, r.g.Checkpoint())
	must(t, r.g.absorbAll(context.Background()))
	must(t, r.g.CompactLTX(context.Background()))
	var b strings.Builder
	for _, op := range faults.Ops() {
		if strings.HasSuffix(op.Name, ".read") || op.N == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s", op.Name)
		for p := range strings.SplitSeq(op.Path, " ") {
			fmt.Fprintf(&b, " %s", strings.TrimPrefix(p, "/data/g2/"))
		}
		b.WriteByte('\n')
	}
	golden(t, "disk_order.txt", []byte(b.String()))
}

// golden compares with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	want, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(path, got, 0o644))
		return
	}
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}
