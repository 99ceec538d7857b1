package replicas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/readpath/replica"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// past is the history of one tenant, for a replica to live through.
type past struct {
	id      wire.TenantID
	entries []pastEntry
	states  map[wire.TXID][]byte // all pages
	copies  map[string]pastCopy
}

type pastEntry struct {
	index uint64
	entry []byte
}

// pastCopy is a copy, or what changed, up to an index.
type pastCopy struct {
	from, to wire.TXID
	index    uint64
	bytes    []byte
}

// makePast lives a life at a voter.
func makePast(t *testing.T) *past {
	w := newWorld(t)
	v := w.voter("v", testGroup)
	p := &past{id: v.create(1), states: map[wire.TXID][]byte{}, copies: map[string]pastCopy{}}
	src := NewSource(v, nil, nil)
	note := func() {
		b, st, err := dump(v.tenant(p.id))
		must(t, err)
		p.states[st.TXID] = b
	}
	run := func(sql ...string) {
		for _, q := range sql {
			v.write(p.id, q)
			note()
		}
	}
	whole := func(name string) {
		var b bytes.Buffer
		must(t, src.WriteCopy(t.Context(), p.id, &b))
		h, err := src.Head(p.id)
		must(t, err)
		p.copies[name] = pastCopy{to: h.TXID, index: h.Index, bytes: b.Bytes()}
	}
	note()
	run("create table t(id integer primary key, a, b)", "create index ta on t(a)",
		"with recursive c(i) as (select 1 union all select i+1 from c where i<100) insert into t(a,b) select i, randomblob(900) from c")
	whole("first")
	for i := range 6 {
		run(fmt.Sprintf("insert into t(a, b) values(%d, randomblob(300))", i))
	}
	run("with recursive c(i) as (select 1 union all select i+1 from c where i<150) insert into t(a,b) select i, randomblob(900) from c") // parts
	run("update t set a = a + 1 where id % 9 = 0")
	from, err := src.Head(p.id)
	must(t, err)
	for range 5 {
		run("update t set b = randomblob(700) where id % 11 = 0")
	}
	run("delete from t where id > 150", "vacuum")
	l, err := src.OpenLTX(t.Context(), p.id, from.Head)
	must(t, err)
	var b bytes.Buffer
	_, err = b.ReadFrom(l)
	must(t, err)
	must(t, l.Close())
	h, err := src.Head(p.id)
	must(t, err)
	p.copies["changes"] = pastCopy{from: from.TXID, to: h.TXID, index: h.Index, bytes: b.Bytes()}
	whole("middle")
	for i := range 5 {
		run(fmt.Sprintf("insert into t(a, b) values(%d, randomblob(300))", i))
	}
	whole("late")
	run("insert into t(a,b) select a, b from t where id < 20", "delete from t where id % 2 = 0", "insert into t(a) values('the end')")
	l7 := w.logs[testGroup]
	for i, e := range l7.entries {
		h, err := txn.DecodeHeader(e)
		must(t, err)
		if h.Tenant == p.id {
			p.entries = append(p.entries, pastEntry{uint64(i + 1), bytes.Clone(e)})
		}
	}
	return p
}

// replicaLife is a Set and what happens to it.
type replicaLife struct {
	p   *past
	set *Set
}

func (r *replicaLife) take(name string) error {
	c := r.p.copies[name]
	ctx := context.Background()
	var err error
	if c.from > 0 {
		_, err = r.set.InstallLTX(ctx, r.p.id, c.from+1, c.to, bytes.NewReader(c.bytes))
	} else {
		_, err = r.set.InstallCopy(ctx, r.p.id, testGroup, bytes.NewReader(c.bytes))
	}
	return err
}

// feed gives all entries after those that are here, up to a position.
func (r *replicaLife) feed(to wire.TXID) error {
	at := r.set.Head(r.p.id)
	for _, e := range r.p.entries {
		h, err := txn.DecodeHeader(e.entry)
		if err != nil {
			return err
		}
		if e.index <= at.Index || h.NextTXID > to {
			continue
		}
		if _, err := r.set.Apply(context.Background(), r.p.id, e.index, e.entry); err != nil {
			return fmt.Errorf("entry %d: %w", e.index, err)
		}
	}
	return nil
}

const lastTXID = ^wire.TXID(0)

// live is the script. It returns the first error.
func (r *replicaLife) live() error {
	c := r.p.copies
	pause := func(d time.Duration) func() error {
		return func() error { time.Sleep(d); return nil }
	}
	for i, step := range []func() error{
		func() error { return r.take("first") },
		pause(2 * time.Second), // no checkpoint yet
		func() error { return r.feed(c["changes"].from) },
		pause(8 * time.Second), // a checkpoint, absorbed
		func() error { return r.take("changes") },
		func() error { return r.feed(c["late"].to - 2) },
		pause(8 * time.Second),
		func() error { return r.take("late") }, // replaces
		func() error { return r.feed(lastTXID) },
		pause(40 * time.Second),                  // LTX files
		func() error { return r.take("middle") }, // is older
		pause(time.Second),
		func() error { return r.feed(c["late"].to) },
		pause(8 * time.Second),
		func() error { return r.set.Drop(context.Background(), r.p.id) },
		func() error { return r.take("first") },
		func() error { return r.feed(c["middle"].to) },
		func() error { return r.set.Erase(context.Background()) },
		func() error { return r.feed(lastTXID) },
		pause(8 * time.Second),
	} {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

// check wants the copy to be a state that was.
func (r *replicaLife) check(t *testing.T, what string) {
	t.Helper()
	tn, ok := r.set.Tenant(r.p.id)
	if !ok {
		return
	}
	b, st, err := dump(tn)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if !bytes.Equal(b, r.p.states[st.TXID]) {
		t.Fatalf("%s: at %s it has other pages than there were", what, st)
	}
}

// begin opens a Set on a disk, and runs it until stop.
func begin(p *past, fs disk.FS) (r *replicaLife, stop func(), err error) {
	set, err := New(Config{Dir: "/data/replicas", FS: fs, Log: logger(), CheckpointAge: 5 * time.Second, LTXAge: 20 * time.Second})
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { _ = set.Run(ctx) })
	synctest.Wait()
	return &replicaLife{p, set}, func() { cancel(); run.Wait() }, nil
}

// recovers starts on the disk after a crash, looks at what is there, and lets the life go on.
func recovers(t *testing.T, p *past, fs *disktest.MemFS, what string) {
	t.Helper()
	r, stop, err := begin(p, fs)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer func() { stop() }()
	if n := r.set.Stats.Wiped.Load(); n > 0 {
		t.Fatalf("%s: the files were of no use", what)
	}
	r.check(t, what+": after the crash")
	finish := func() {
		t.Helper()
		if r.set.Head(p.id).Epoch == 0 {
			if err := r.take("first"); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		if err := r.feed(lastTXID); err != nil {
			t.Fatalf("%s: from %+v: %v", what, r.set.Head(p.id), err)
		}
		r.check(t, what+": in the end")
	}
	finish()
	time.Sleep(10 * time.Second)
	stop()
	r, stop, err = begin(p, fs)
	if err != nil {
		t.Fatalf("%s: again: %v", what, err)
	}
	r.check(t, what+": after another start")
	finish()
	must(t, r.set.Erase(t.Context()))
	r.check(t, what+": after all")
	if rep, err := r.set.Groups()[0].Scrub(t.Context()); err != nil || rep.Errors > 0 {
		t.Fatalf("%s: scrub %+v, %v", what, rep, err)
	}
	names, err := fs.ReadDir("test", "/data/replicas/7/bases")
	must(t, err)
	if len(names) != 2 {
		t.Fatalf("%s: %d bases are left: %v", what, len(names), names)
	}
}

// TestCrash ends the life of a replica by a power loss, or a kill, at operations of every name: what is there afterwards is a state
// that was, and from there the life goes on.
func TestCrash(t *testing.T) {
	var p *past
	synctest.Test(t, func(t *testing.T) { p = makePast(t) })
	var ops []disktest.Op
	synctest.Test(t, func(t *testing.T) {
		f := disktest.NewFaults(disktest.NewMemFS())
		f.Trace()
		r, stop, err := begin(p, f)
		must(t, err)
		must(t, r.live())
		r.check(t, "without a crash")
		stop()
		ops = f.Ops()
	})
	places := map[string][]int{}
	for _, o := range ops {
		if o.N > 0 {
			places[o.Name] = append(places[o.Name], o.N)
		}
	}
	var at []int
	for _, l := range places {
		for k := range min(12, len(l)) {
			at = append(at, l[k*len(l)/min(12, len(l))])
		}
	}
	slices.Sort(at)
	t.Logf("%d operations of %d names, crashes at %d", len(ops), len(places), len(at))
	for i, n := range at {
		synctest.Test(t, func(t *testing.T) {
			mem := disktest.NewMemFS()
			f := disktest.NewFaults(mem)
			f.CrashNth(n)
			r, stop, err := begin(p, f)
			if err == nil {
				if err = r.live(); err == nil && f.Count() >= n {
					time.Sleep(time.Minute)
				}
				stop()
			}
			what := fmt.Sprintf("crash at operation %d (%s)", n, ops[slices.IndexFunc(ops, func(o disktest.Op) bool { return o.N == n })].Name)
			after := mem.Kill()
			if i%3 > 0 {
				after = mem.Crash(rand.New(rand.NewPCG(uint64(n), 3)))
			}
			recovers(t, p, after, what)
		})
		if t.Failed() {
			return
		}
	}
}

// TestFails lets operations fail one by one on a process that goes on: nothing wrong is ever served, and what failed is
// made good.
func TestFails(t *testing.T) {
	var p *past
	synctest.Test(t, func(t *testing.T) { p = makePast(t) })
	total := 0
	synctest.Test(t, func(t *testing.T) {
		f := disktest.NewFaults(disktest.NewMemFS())
		r, stop, err := begin(p, f)
		must(t, err)
		must(t, r.live())
		stop()
		total = f.Count()
	})
	for n := 8; n < total; n += 1 + total/70 {
		synctest.Test(t, func(t *testing.T) {
			mem := disktest.NewMemFS()
			f := disktest.NewFaults(mem)
			f.FailNth(n, errors.New("planted"))
			r, stop, err := begin(p, f)
			if err != nil {
				return
			}
			what := fmt.Sprintf("operation %d failed", n)
			for range 2 {
				if err := r.live(); err != nil && errors.Is(err, replica.ErrMismatch) {
					if tn, ok := r.set.Tenant(p.id); ok && tn.Failed() == nil {
						t.Fatalf("%s: %v", what, err)
					}
				}
				if tn, ok := r.set.Tenant(p.id); ok && tn.Failed() == nil {
					r.check(t, what)
				}
			}
			must(t, r.take("first"))
			must(t, r.feed(lastTXID))
			r.check(t, what+", in the end")
			stop()
			recovers(t, p, mem.Crash(rand.New(rand.NewPCG(uint64(n), 5))), what)
		})
		if t.Failed() {
			return
		}
	}
}

// TestRecordFails lets the record of a copy that takes the place of another fail to be written, in all ways: the old copy goes on, also
// after checkpoints and a crash.
func TestRecordFails(t *testing.T) {
	var p *past
	synctest.Test(t, func(t *testing.T) { p = makePast(t) })
	for _, first := range []bool{true, false} {
		for nth := 1; ; nth++ {
			over := false
			for wait := range 3 {
				synctest.Test(t, func(t *testing.T) {
					mem := disktest.NewMemFS()
					f := disktest.NewFaults(mem)
					r, stop, err := begin(p, f)
					must(t, err)
					if !first {
						must(t, r.take("first"))
						must(t, r.feed(p.copies["first"].to+2))
						time.Sleep(8 * time.Second)
					}
					f.Fail("replaced.write", nth, errors.New("planted"))
					if err := r.take("late"); err == nil {
						over = true
						stop()
						return
					}
					what := fmt.Sprintf("first %t, operation %d, %d", first, nth, wait)
					r.check(t, what)
					if !first {
						must(t, r.feed(p.copies["first"].to+4))
					}
					time.Sleep([]time.Duration{0, 8 * time.Second, 30 * time.Second}[wait])
					if n := r.set.Groups()[0].Stats.Checkpoints.Load(); !first && wait > 0 && n < 2 {
						t.Fatalf("%s: %d checkpoints", what, n)
					}
					stop()
					recovers(t, p, mem.Crash(rand.New(rand.NewPCG(uint64(nth), 9))), what)
				})
				if t.Failed() {
					return
				}
			}
			if over {
				if nth < 4 {
					t.Fatalf("only %d ways to fail", nth-1)
				}
				break
			}
		}
	}
}

// TestCheckpointWhileCopying lets checkpoints of the old copy be made, and not be absorbed, while the one comes that takes its place: nothing of them
// gets into it.
func TestCheckpointWhileCopying(t *testing.T) {
	var p *past
	synctest.Test(t, func(t *testing.T) { p = makePast(t) })
	synctest.Test(t, func(t *testing.T) {
		mem := disktest.NewMemFS()
		f := disktest.NewFaults(mem)
		r, stop, err := begin(p, f)
		must(t, err)
		must(t, r.take("late"))
		must(t, r.feed(p.copies["late"].to))
		f.Fail("base.sync", 0, errors.New("planted"))
		g := r.set.Groups()[0]
		half := len(p.copies["first"].bytes) / 2
		slow := io.MultiReader(bytes.NewReader(p.copies["first"].bytes[:half]), onRead(func() {
			must(t, r.feed(lastTXID))
			n := g.Stats.Checkpoints.Load()
			time.Sleep(8 * time.Second)
			if g.Stats.Checkpoints.Load() == n {
				t.Error("no checkpoint while a copy comes")
			}
		}), bytes.NewReader(p.copies["first"].bytes[half:]))
		_, err = r.set.InstallCopy(t.Context(), p.id, testGroup, slow)
		must(t, err)
		r.check(t, "after it came")
		f.Heal()
		time.Sleep(20 * time.Second)
		r.check(t, "after the segments were absorbed")
		must(t, r.feed(p.copies["first"].to+3))
		r.check(t, "later")
		stop()
		recovers(t, p, mem.Kill(), "after a kill")
	})
}

// onRead is a reader of nothing that calls itself.
type onRead func()

func (f onRead) Read([]byte) (int, error) { f(); return 0, io.EOF }
