package pagestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

func idOf(n byte) wire.TenantID { return wire.TenantID{0: 7, 15: n} }

// install gives the follower's log a snapshot of the leader's, durably, as raft does before Restore.
func (l *testLog) install(leader *testLog, snap []byte, index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.snap, l.entries, l.first = snap, nil, index+1
	l.history, l.results, l.terms = slices.Clone(leader.history[:index]), slices.Clone(leader.results[:index]), slices.Clone(leader.terms[:index])
}

func (r *rig) copyOf(n byte) []byte {
	r.t.Helper()
	var b bytes.Buffer
	must(r.t, r.tenant(n).WriteCopy(context.Background(), &b))
	return b.Bytes()
}

func (r *rig) readCopy(n byte, b []byte) error {
	t, err := r.g.Tenant(idOf(n))
	if err != nil {
		return err
	}
	return t.ReadCopy(context.Background(), bytes.NewReader(b))
}

// same wants tenant n of r to be what it is at leader, byte for byte.
func (r *rig) same(leader *rig, n byte, what string) {
	r.t.Helper()
	if err := r.tenant(n).Failed(); err != nil {
		r.t.Fatalf("%s: tenant %d: %v", what, n, err)
	}
	s, want := r.visible(n), leader.visible(n)
	if s.Committed() != want.Committed() || !bytes.Equal(pagesOf(r.t, s), pagesOf(r.t, want)) {
		r.t.Fatalf("%s: tenant %d stands at %s, the leader's at %s, or their pages differ", what, n, s.Committed(), want.Committed())
	}
	if got, want := r.tenant(n).Record(), leader.tenant(n).Record(); got != want {
		r.t.Fatalf("%s: tenant %d is %+v, at the leader %+v", what, n, got, want)
	}
	checkSum(r.t, s)
	checkChains(r.t, s)
}

// passing is a follower that a log passes by. Tenant 1 stands where the snapshot says, 2 is behind, 3 is
// new, 4 is purged, 5 stands there and its copy fails, 6 is new and empty.
type passing struct {
	leader *rig
	disk   *disktest.MemFS // of the follower, before
	log    *testLog        // of the follower, before
	snap   []byte
	index  uint64
	tail   [][]byte        // entries after the snapshot
	mid    map[byte][]byte // copies from the middle of the tail
	end    map[byte][]byte // copies from its end
	early  map[byte][]byte // copies at the snapshot
}

func newPassing(t *testing.T) *passing {
	p := &passing{disk: disktest.NewMemFS(), mid: map[byte][]byte{}, end: map[byte][]byte{}, early: map[byte][]byte{}}
	l := newRig(t, memDisk(disktest.NewMemFS()))
	p.leader = l
	w := map[byte]*Conn{}
	create := func(n byte) {
		tn := l.create(n, 4096)
		w[n] = l.writer(tn)
	}
	put := func(n byte, size int) {
		mustExec(t, w[n], "insert into t values(randomblob(?))", wire.Integer(int64(size)))
	}
	for _, n := range []byte{1, 2, 4, 5} {
		create(n)
		mustExec(t, w[n], "create table t(a)")
		put(n, 20000)
	}
	f := p.follower(t, p.disk)
	f.log = newTestLog()
	f.start()
	for _, e := range l.log.history {
		f.feed(e)
	}
	for _, n := range []byte{1, 2, 4, 5} {
		f.visible(n)
	}
	f.tidy()
	f.stop()
	p.log = f.log
	p.disk = p.disk.Kill()

	mustExec(t, w[2], "delete from t")
	put(2, 300<<10) // in parts
	put(2, 5000)
	create(3)
	mustExec(t, w[3], "create table t(a)")
	put(3, 100)
	create(6)
	must(t, l.control(idOf(4), tenant.Deleted{Time: clock(5)}))
	must(t, l.control(idOf(4), tenant.Purged{Time: clock(6)}))
	must(t, l.g.Checkpoint())
	p.snap, p.index = l.log.snap, l.log.first-1
	all := func(to map[byte][]byte) {
		for _, n := range []byte{1, 2, 3, 5, 6} {
			to[n] = l.copyOf(n)
		}
	}
	all(p.early)
	more := func() {
		for i := range 3 {
			put(1, 100*i)
			put(2, 3000*i)
			put(3, 70)
			put(5, 10)
		}
		put(2, 200<<10)
		must(t, l.control(idOf(3), tenant.Frozen{Time: clock(7)}))
		must(t, l.control(idOf(3), tenant.Thawed{Time: clock(8)}))
		put(3, 9000)
	}
	more()
	all(p.mid)
	more()
	mustExec(t, w[2], "vacuum")
	put(3, 1)
	all(p.end)
	p.tail = l.log.history[p.index:]
	return p
}

func (p *passing) follower(t testing.TB, fs disk.FS) *rig {
	cfg := memDisk(fs)
	cfg.BigTransaction = 50 << 10
	r := &rig{t: t, cfg: cfg}
	if p.log != nil {
		r.log = p.log.clone()
	}
	return r
}

func (p *passing) feed(r *rig, to int) {
	for have := len(r.log.history) - int(p.index); have < to; have++ {
		r.feed(p.tail[have])
	}
}

// run is what the follower does; it goes on after what fails, as a node would.
func (p *passing) run(r *rig) error {
	r.log.install(p.leader.log, p.snap, p.index)
	if err := r.g.Restore(bytes.NewReader(p.snap)); err != nil {
		return err
	}
	n := len(p.tail)
	copyIn := func(id byte, b []byte) error {
		var err error
		for range 2 {
			if err = r.readCopy(id, b); err == nil || errors.Is(err, ErrInService) {
				return nil
			}
		}
		return err
	}
	p.feed(r, n/8)
	if t, err := r.g.Tenant(idOf(5)); err == nil {
		t.Failure(errors.New("a test"))
	}
	if err := copyIn(2, p.mid[2]); err != nil { // from ahead
		return err
	}
	p.feed(r, n*3/4)
	for _, id := range []byte{3, 5, 6} { // from behind: what is kept is built
		if err := copyIn(id, p.mid[id]); err != nil {
			return err
		}
	}
	p.feed(r, n)
	for _, id := range []byte{1, 2, 3, 5, 6} {
		t, err := r.g.Tenant(idOf(id))
		if err != nil {
			return err
		}
		if s, err := t.Acquire(); err == nil {
			_ = s.wait(nil, t.Logged().TXID)
			t.Release()
		}
	}
	for range 2 {
		err := r.g.Checkpoint()
		err = errors.Join(err, r.g.absorbAll(context.Background()), r.g.CompactLTX(context.Background()))
		if err == nil {
			return nil
		}
	}
	return nil
}

// finish brings a follower, in whatever state it is, to the leader's.
func (p *passing) finish(r *rig, what string) {
	t := r.t
	t.Helper()
	if uint64(len(r.log.history)) < p.index { // the snapshot did not come yet
		r.log.install(p.leader.log, p.snap, p.index)
		must(t, r.g.Restore(bytes.NewReader(p.snap)))
	}
	if _, err := r.g.Tenant(idOf(4)); !errors.Is(err, ErrNoTenant) {
		t.Fatalf("%s: a purged tenant is there: %v", what, err)
	}
	p.feed(r, len(p.tail))
	if n := len(r.g.Hollow()); n > 0 {
		if _, err := r.g.Capture(); !errors.Is(err, ErrHollow) {
			t.Fatalf("%s: %d tenants are hollow, and a capture says %v", what, n, err)
		}
	}
	for _, n := range []byte{1, 2, 3, 5, 6} {
		if r.tenant(n).Failed() != nil {
			if err := r.readCopy(n, p.end[n]); err != nil {
				t.Fatalf("%s: tenant %d: %v", what, n, err)
			}
		}
		r.same(p.leader, n, what)
	}
}

func TestInstallSnapshot(t *testing.T) {
	p := newPassing(t)
	r := p.follower(t, p.disk.Clone())
	r.start()
	t.Cleanup(r.stop)
	rd := r.reader(r.tenant(2))
	other := r.reader(r.tenant(1))
	r.log.install(p.leader.log, p.snap, p.index)
	must(t, r.g.Restore(bytes.NewReader(p.snap)))
	hollow := func() (l []byte) {
		for _, h := range r.g.Hollow() {
			l = append(l, h.Tenant.ID()[15])
		}
		slices.Sort(l)
		return l
	}
	if got := hollow(); !slices.Equal(got, []byte{2, 3, 6}) {
		t.Fatalf("hollow are %v", got)
	}
	var h *HollowError
	if _, err := r.tenant(2).Acquire(); !errors.Is(err, ErrHollow) || !errors.As(err, &h) || h.Tenant != idOf(2) || h.Want != r.tenant(2).Logged() {
		t.Fatalf("got %v", err)
	}
	if err := exec(rd, "select * from t"); err == nil || !errors.Is(rd.TakeErr(), ErrHollow) {
		t.Fatalf("a hollow copy was read: %v", err)
	}
	want(t, other, "select count(*) from t", "[[1]]")
	if err := r.g.Checkpoint(); !errors.Is(err, ErrHollow) {
		t.Fatalf("got %v", err)
	}
	if _, err := r.g.Tenant(idOf(4)); !errors.Is(err, ErrNoTenant) {
		t.Fatalf("got %v", err)
	}
	// The same again changes nothing.
	must(t, r.g.Restore(bytes.NewReader(p.snap)))
	if got := hollow(); !slices.Equal(got, []byte{2, 3, 6}) {
		t.Fatalf("hollow are %v", got)
	}
	rd.Close()
	other.Close()
	r.restart()
	if got := hollow(); !slices.Equal(got, []byte{2, 3, 6}) {
		t.Fatalf("after a restart, hollow are %v", got)
	}
	p.feed(r, len(p.tail)/2)
	must(t, r.readCopy(2, p.mid[2]))
	must(t, r.readCopy(6, p.early[6]))
	if err := r.readCopy(2, p.mid[2]); !errors.Is(err, ErrInService) {
		t.Fatalf("got %v", err)
	}
	r.restart() // the manifest is still the leader's
	if got := hollow(); !slices.Equal(got, []byte{3}) {
		t.Fatalf("after a restart, hollow are %v", got)
	}
	must(t, r.readCopy(3, p.early[3]))
	p.feed(r, len(p.tail))
	for _, n := range []byte{1, 2, 3, 5, 6} {
		r.same(p.leader, n, "fed")
	}
	r.tidy()
	must(t, r.g.CompactLTX(context.Background()))
	for _, n := range []byte{1, 2, 3, 5, 6} {
		r.same(p.leader, n, "absorbed")
	}
	if left := filesOf(t, r.cfg.FS.(*disktest.MemFS), idOf(4)); len(left) > 0 {
		t.Fatalf("of the purged tenant are left: %v", left)
	}
	r.restart()
	for _, n := range []byte{1, 2, 3, 5, 6} {
		r.same(p.leader, n, "restarted")
	}
	if report, err := r.g.Scrub(context.Background()); err != nil || report.Errors > 0 {
		t.Fatalf("%+v, %v", report, err)
	}
}

// TestFreshFollower begins with nothing but the snapshot.
func TestFreshFollower(t *testing.T) {
	p := newPassing(t)
	r := p.follower(t, disktest.NewMemFS())
	r.log = newTestLog()
	r.start()
	defer r.stop()
	p.finish(r, "fresh")
	r.tidy()
	r.restart()
	p.finish(r, "fresh, restarted")
}

// TestEqualInMemory: a tenant that stands where the manifest says stays in service, also if its files don't have it yet.
// A restart finds it hollow then.
func TestEqualInMemory(t *testing.T) {
	p := newPassing(t)
	r := p.follower(t, p.disk.Clone())
	r.start()
	defer r.stop()
	for _, e := range p.leader.log.history[len(r.log.history):p.index] {
		r.feed(e)
	}
	// As if it had missed entries of no tenant that it has.
	r.g.mu.index = p.index - 1
	r.log.install(p.leader.log, p.snap, p.index)
	must(t, r.g.Restore(bytes.NewReader(p.snap)))
	if l := r.g.Hollow(); len(l) > 0 {
		t.Fatalf("hollow are %v", l)
	}
	r.restart()
	if l := r.g.Hollow(); len(l) != 3 {
		t.Fatalf("hollow are %v", l)
	}
	p.finish(r, "restarted")
}

// TestKeptEntries bounds what is kept for hollow copies.
func TestKeptEntries(t *testing.T) {
	p := newPassing(t)
	r := p.follower(t, p.disk.Clone())
	r.cfg.KeepBytes = 100 << 10
	r.start()
	defer r.stop()
	r.log.install(p.leader.log, p.snap, p.index)
	must(t, r.g.Restore(bytes.NewReader(p.snap)))
	for i := range p.tail {
		p.feed(r, i+1)
		if n := r.g.kept.load(); n > 100<<10 {
			t.Fatalf("%d bytes are kept", n)
		}
	}
	var stale *StaleCopyError
	if err := r.readCopy(2, p.early[2]); !errors.As(err, &stale) || stale.Have >= stale.Want {
		t.Fatalf("got %v", err)
	}
	p.finish(r, "with the newest copies")
	if n := r.g.kept.load(); n != 0 {
		t.Fatalf("%d bytes are kept", n)
	}
	r.tidy()
}

// TestInstallCrash crashes, tears and fails at each operation of a follower that is passed by: afterwards each
// tenant is whole or waits for a copy, and ends as the leader's.
func TestInstallCrash(t *testing.T) {
	p := newPassing(t)
	mem := p.disk.Clone()
	faults := disktest.NewFaults(mem)
	r := p.follower(t, faults)
	r.start()
	must(t, p.run(r))
	for _, n := range []byte{1, 2, 3, 5, 6} {
		r.same(p.leader, n, "without a fault")
	}
	r.stop()
	ops := faults.Count()
	t.Logf("%d operations", ops)
	if ops < 80 {
		t.Fatal("the script does too little")
	}
	stride := 5
	if *long {
		stride = 1
	}
	broken := errors.New("input/output error")
	for n := 1 + rand.IntN(stride); n <= ops; n += stride {
		for _, f := range []struct {
			name string
			set  func(*disktest.Faults)
		}{
			{"crash", func(f *disktest.Faults) { f.CrashNth(n) }},
			{"tear", func(f *disktest.Faults) { f.TearNth(n) }},
			{"fail", func(f *disktest.Faults) { f.FailNth(n, broken) }},
		} {
			mem := p.disk.Clone()
			faults := disktest.NewFaults(mem)
			f.set(faults)
			r := p.follower(t, faults)
			if r.tryStart() == nil {
				_ = p.run(r)
				r.stop()
			}
			seed := rand.Uint64()
			for _, after := range []struct {
				name string
				fs   *disktest.MemFS
			}{
				{"kill", mem.Kill()},
				{"power loss, durable only", mem.Crash(nil)},
				{"power loss", mem.Crash(rand.New(rand.NewPCG(seed, 1)))},
			} {
				what := fmt.Sprintf("%s at operation %d, seed %d, %s", f.name, n, seed, after.name)
				again := p.follower(t, after.fs)
				again.log = r.log.clone()
				again.start()
				p.finish(again, what)
				again.tidy()
				must(t, again.g.CompactLTX(context.Background()))
				for _, n := range []byte{1, 2, 3, 5, 6} {
					again.same(p.leader, n, what+", tidied")
				}
				again.restart()
				for _, n := range []byte{1, 2, 3, 5, 6} {
					again.same(p.leader, n, what+", tidied and restarted")
				}
				names, err := after.fs.ReadDir("test.list", "/data/g2/bases")
				must(t, err)
				if len(names) != 8 { // five tenants, one of them empty
					t.Fatalf("%s: bases are %v", what, names)
				}
				again.stop()
			}
		}
	}
}

// TestCopyMeanwhile lets things happen while a copy comes in.
func TestCopyMeanwhile(t *testing.T) {
	p := newPassing(t)
	for name, c := range map[string]struct {
		n    byte
		do   func(r *rig)
		want error
	}{
		"purged": {2, func(r *rig) {
			must(t, r.control(idOf(2), tenant.Deleted{Time: clock(9)}))
			must(t, r.control(idOf(2), tenant.Purged{Time: clock(10)}))
		}, ErrNoTenant},
		"closed": {2, func(r *rig) { r.stop() }, ErrClosed},
		"captured": {5, func(r *rig) {
			for _, n := range []byte{2, 3, 6} {
				must(t, r.readCopy(n, p.mid[n]))
			}
			if err := r.g.Checkpoint(); !errors.Is(err, ErrCopying) {
				t.Errorf("got %v", err)
			}
		}, nil},
		"written": {2, func(r *rig) { p.feed(r, len(p.tail)) }, nil},
		"passed by again": {3, func(r *rig) {
			must(t, p.leader.g.Checkpoint())
			r.log.install(p.leader.log, p.leader.log.snap, p.leader.log.first-1)
			must(t, r.g.Restore(bytes.NewReader(r.log.snap)))
		}, &StaleCopyError{}},
		"another copy": {2, func(r *rig) {
			if err := r.readCopy(2, p.early[2]); !errors.Is(err, ErrCopying) {
				t.Errorf("got %v", err)
			}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			fs := p.disk.Clone()
			r := p.follower(t, fs)
			r.start()
			defer r.stop()
			r.log.install(p.leader.log, p.snap, p.index)
			must(t, r.g.Restore(bytes.NewReader(p.snap)))
			tn := r.tenant(c.n)
			tn.Failure(errors.New("a test")) // if it is not hollow
			b := p.early[c.n]
			pr, pw := io.Pipe()
			done := make(chan error, 1)
			go func() { done <- tn.ReadCopy(context.Background(), pr) }()
			_, err := pw.Write(b[:len(b)/2])
			must(t, err)
			c.do(r)
			_, _ = pw.Write(b[len(b)/2:])
			pw.Close()
			err = <-done
			var stale *StaleCopyError
			switch {
			case c.want == nil && err == nil:
				p.finish(r, name)
				return
			case errors.As(c.want, &stale):
				if !errors.As(err, &stale) {
					t.Fatalf("got %v", err)
				}
				return // what came is kept, for what changed since
			case !errors.Is(err, c.want):
				t.Fatalf("got %v, want %v", err, c.want)
			}
			names, err := fs.ReadDir("test.list", "/data/g2/bases")
			must(t, err)
			for _, n := range names {
				if len(n.Name()) > len(idOf(2).String()+".db.sums") {
					t.Errorf("left is %s", n.Name())
				}
			}
		})
	}
}

// TestCopyWhileWritten copies a tenant again and again while it is written, to a follower that reads the log too.
func TestCopyWhileWritten(t *testing.T) {
	l := newRig(t, memDisk(disktest.NewMemFS()))
	w := l.writer(l.create(1, 4096))
	mustExec(t, w, "create table t(a)")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 300 {
			if err := exec(w, "insert into t values(randomblob(?))", wire.Integer(int64(i*20))); err != nil {
				t.Error(err)
			}
		}
	}()
	f := newRig(t, memDisk(disktest.NewMemFS()))
	fed := 0
	feed := func() {
		l.log.mu.Lock()
		next := slices.Clone(l.log.history[fed:])
		l.log.mu.Unlock()
		for _, e := range next {
			f.feed(e)
		}
		fed += len(next)
	}
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		feed()
		f.tenant(1).Failure(errors.New("a test"))
		feed()
		must(t, f.readCopy(1, l.copyOf(1)))
		feed()
		if f.tenant(1).Failed() == nil {
			checkSum(t, f.visible(1))
		}
	}
	f.same(l, 1, "at the end")
	f.tidy()
	f.restart()
	f.same(l, 1, "restarted")
}

// TestRebuildFailed rebuilds a copy that failed, with checkpoints before, between and after.
func TestRebuildFailed(t *testing.T) {
	p := newPassing(t)
	r := p.follower(t, disktest.NewMemFS())
	r.log = newTestLog()
	r.start()
	defer r.stop()
	all := p.leader.log.history
	for _, e := range all[:p.index] {
		r.feed(e)
	}
	tn := r.tenant(2)
	r.visible(2)
	tn.Failure(errors.New("a test"))
	r.tidy() // marks it
	r.restart()
	tn = r.tenant(2)
	if tn.Failed() == nil {
		t.Fatal("it is in service")
	}
	half := int(p.index) + len(p.tail)/3
	for _, e := range all[p.index:half] {
		r.feed(e)
	}
	for ; r.g.mu.staging > 0; half++ { // not in the middle of a large transaction
		r.feed(all[half])
	}
	r.tidy() // what was kept is gone from the log
	var stale *StaleCopyError
	if err := r.readCopy(2, p.early[2]); !errors.As(err, &stale) {
		t.Fatalf("got %v", err)
	}
	must(t, r.readCopy(2, p.mid[2]))
	for _, e := range all[half:] {
		r.feed(e)
	}
	r.same(p.leader, 2, "rebuilt")
	r.restart()
	r.same(p.leader, 2, "rebuilt and restarted")
	r.tidy()
	must(t, r.g.CompactLTX(context.Background()))
	r.restart()
	for _, n := range []byte{1, 2, 3, 5, 6} {
		r.same(p.leader, n, "at the end")
	}
	if r.tenant(2).Failed() != nil {
		t.Fatal(r.tenant(2).Failed())
	}
}

// TestCopyDuringCapture takes a copy while a capture that began before is written.
func TestCopyDuringCapture(t *testing.T) {
	p := newPassing(t)
	r := p.follower(t, disktest.NewMemFS())
	r.log = newTestLog()
	r.start()
	defer r.stop()
	all := p.leader.log.history
	for _, e := range all[:p.index] {
		r.feed(e)
	}
	tn := r.tenant(2)
	r.visible(2)
	tn.Failure(errors.New("a test"))
	c, err := r.g.Capture()
	must(t, err)
	must(t, r.readCopy(2, p.mid[2]))
	for _, e := range all[p.index:] {
		r.feed(e)
	}
	r.same(p.leader, 2, "while captured")
	var b bytes.Buffer
	must(t, c.Persist(&b))
	c.Release()
	r.log.snap = b.Bytes()
	r.log.entries, r.log.first = r.log.entries[c.index-r.log.first+1:], c.index+1
	r.same(p.leader, 2, "captured")
	r.restart()
	r.same(p.leader, 2, "restarted")
	r.tidy()
	r.restart()
	r.same(p.leader, 2, "tidied and restarted")
}
