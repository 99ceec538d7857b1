package pagestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/wire"
)

// pinned is a copy of tenant n, of what changed since have if the files tell.
func (r *rig) pinned(n byte, have Have) (*PinnedCopy, []byte) {
	r.t.Helper()
	p, err := r.tenant(n).PinCopy(context.Background(), have)
	must(r.t, err)
	defer p.Close()
	var b bytes.Buffer
	must(r.t, p.WriteTo(context.Background(), &b, 0))
	return p, b.Bytes()
}

// TestCopySince: whatever the source did with its files, what it sends of the changes since an older state makes the newest
// one of that, and is less than all.
func TestCopySince(t *testing.T) {
	p := newPassing(t)
	var since []Have
	for _, to := range []int{0, len(p.tail) / 2} {
		r := p.follower(t, p.disk.Clone())
		r.log = newTestLog()
		r.start()
		for _, e := range p.leader.log.history[:int(p.index)+to] {
			r.feed(e)
		}
		since = append(since, Have{1, r.tenant(2).Logged()})
		r.stop()
	}
	partial := 0
	for _, how := range []string{"in memory", "checkpointed", "absorbed", "compacted", "restarted"} {
		switch how {
		case "checkpointed":
			must(t, p.leader.g.Checkpoint())
		case "absorbed":
			must(t, p.leader.g.absorbAll(t.Context()))
		case "compacted":
			must(t, p.leader.g.CompactLTX(t.Context()))
		case "restarted":
			p.leader.restart()
		}
		r := p.follower(t, p.disk.Clone())
		r.start()
		r.log.install(p.leader.log, p.snap, p.index)
		must(t, r.g.Restore(bytes.NewReader(p.snap)))
		p.feed(r, len(p.tail)/2)
		have := r.tenant(2).Have()
		if have.State.TXID == 0 || have.State.TXID >= since[0].State.TXID {
			t.Fatalf("%s: it has %+v", how, have)
		}
		// As it is here. All of it changed, so nothing is saved by that.
		whole := p.leader.copyOf(2)
		pin, b := p.leader.pinned(2, have)
		must(t, r.readCopy(2, b))
		p.feed(r, len(p.tail))
		r.same(p.leader, 2, how)
		if !pin.Partial() {
			t.Fatalf("%s: all pages came", how)
		}
		for _, h := range since {
			pin, b := p.leader.pinned(2, h)
			if !pin.Partial() {
				t.Fatalf("%s: all pages came", how)
			}
			if len(b) < len(whole) {
				partial++
			}
		}
		p.finish(r, how)
		r.tidy()
		// This one took a copy in between: its files don't tell what happened before.
		if pin, _ := r.pinned(2, have); pin.Partial() {
			t.Fatalf("%s: not all pages came from one who does not know which changed", how)
		}
		r.restart()
		r.same(p.leader, 2, how+", restarted")
		r.stop()
		// One who has another epoch, a later state or one that the files don't tell of gets all.
		for _, h := range []Have{{2, have.State}, {1, p.leader.tenant(2).Logged()}, {1, State{TXID: 1 << 40, Checksum: wire.ChecksumFlag, Pages: 1}}} {
			if pin, _ := p.leader.pinned(2, h); pin.Partial() {
				t.Fatalf("%s: %+v: not all pages came", how, h)
			}
		}
	}
	if partial < 5 {
		t.Errorf("%d copies were smaller than all", partial)
	}
}

// TestCopySinceAll: random transactions, checkpoints, absorptions, compactions and restarts of a source; at each of many older
// states, what changed since makes the newest.
func TestCopySinceAll(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfg := memDisk(disktest.NewMemFS())
		cfg.BigTransaction = 30 << 10
		r := newRig(t, cfg)
		defer r.stop()
		tn := r.create(1, 512)
		w := r.writer(tn)
		must(t, exec(w, "create table t(a)"))
		type old struct {
			have  Have
			pages []byte
		}
		var olds []old
		for range rapid.IntRange(3, 14).Draw(rt, "steps") {
			olds = append(olds, old{Have{1, tn.Logged()}, pagesOf(t, r.visible(1))})
			switch rapid.SampledFrom([]string{"insert", "insert", "insert", "big", "delete", "vacuum", "checkpoint", "absorb", "compact", "restart"}).Draw(rt, "step") {
			case "insert":
				mustExec(t, w, "insert into t values(randomblob(?))", wire.Integer(rapid.Int64Range(0, 3000).Draw(rt, "size")))
			case "big":
				mustExec(t, w, "insert into t values(randomblob(60000))")
			case "delete":
				mustExec(t, w, "delete from t where rowid % 2 = 0")
			case "vacuum":
				mustExec(t, w, "vacuum")
			case "checkpoint":
				must(t, r.g.Checkpoint())
			case "absorb":
				r.tidy()
			case "compact":
				r.tidy()
				must(t, r.g.CompactLTX(context.Background()))
			case "restart":
				w.Close()
				tn.Release()
				r.restart()
				tn = r.tenant(1)
				w = r.writer(tn)
			}
		}
		at := pagesOf(t, r.visible(1))
		for _, o := range olds {
			if o.have.State == tn.Logged() {
				continue
			}
			p, b := r.pinned(1, o.have)
			if !p.Partial() {
				l, err := r.g.LTXFiles(tn.ID(), 1)
				must(t, err)
				var n int
				for _, x := range l {
					n += int(x.Bytes)
				}
				if n <= ltxLimit*len(at) {
					rt.Fatalf("all pages came since %s", o.have.State)
				}
				continue
			}
			rd := bytes.NewReader(b)
			h, err := readCopyHeader(rd)
			must(t, err)
			var got []byte
			err = copyPages(rd, &h, 0, func(pgno uint32, dst []byte) error {
				copy(dst, o.pages[(pgno-1)*512:])
				return nil
			}, func(_ uint32, _ wire.Checksum, data []byte) error {
				got = append(got, data...)
				return nil
			})
			if err != nil || !bytes.Equal(got, at) {
				rt.Fatalf("since %s: %v, or other pages", o.have.State, err)
			}
		}
		w.Close()
		tn.Release()
	})
}

// TestHaveIsWrong: an older state that is not what it should be costs a copy of all pages, and nothing else.
func TestHaveIsWrong(t *testing.T) {
	p := newPassing(t)
	for name, damage := range map[string]func(r *rig, fs *disktest.MemFS){
		"a page is corrupt": func(_ *rig, fs *disktest.MemFS) { flip(t, fs, "/data/g2/bases/"+idOf(2).String()+".db", 77) },
		"it was never there": func(r *rig, _ *disktest.MemFS) {
			tn := r.tenant(2)
			tn.mu.Lock()
			tn.mu.have.State.Pages = 1 << 20
			tn.mu.Unlock()
		},
	} {
		fs := p.disk.Clone()
		r := p.follower(t, fs)
		r.start()
		r.log.install(p.leader.log, p.snap, p.index)
		must(t, r.g.Restore(bytes.NewReader(p.snap)))
		trace := listDir(t, fs)
		tn := r.tenant(2)
		// What comes leaves out page 1, which surely changed.
		have := tn.Have()
		pin, err := p.leader.tenant(2).PinCopy(t.Context(), have)
		must(t, err)
		pin.pages = pin.pages[1:]
		damage(r, fs)
		pin.h.prev = tn.Have().State
		pin.head, err = pin.h.append(nil)
		must(t, err)
		var b bytes.Buffer
		must(t, pin.WriteTo(t.Context(), &b, 0))
		pin.Close()
		if err := r.readCopy(2, b.Bytes()); err == nil {
			t.Fatalf("%s: taken", name)
		}
		if h := tn.Have(); h != (Have{}) {
			t.Errorf("%s: it still has %+v", name, h)
		}
		if now := listDir(t, fs); now != trace {
			t.Errorf("%s: left are %s", name, now)
		}
		var damaged *CopyError
		if err := r.readCopy(2, b.Bytes()); !errors.As(err, &damaged) {
			t.Errorf("%s: got %v", name, err)
		}
		p.finish(r, name)
		r.stop()
	}
}

// TestLateCopy: a tenant that is written faster than it is copied is caught up with.
func TestLateCopy(t *testing.T) {
	p := newPassing(t)
	fs := p.disk.Clone()
	r := p.follower(t, fs)
	r.cfg.KeepBytes = 100 << 10
	r.start()
	defer r.stop()
	r.log.install(p.leader.log, p.snap, p.index)
	must(t, r.g.Restore(bytes.NewReader(p.snap)))
	late := func(n byte, b []byte, meanwhile func()) {
		t.Helper()
		pr, pw := io.Pipe()
		done := make(chan error, 1)
		go func() { done <- r.tenant(n).ReadCopy(t.Context(), pr) }()
		_, err := pw.Write(b[:len(b)-100])
		must(t, err)
		meanwhile()
		_, err = pw.Write(b[len(b)-100:])
		must(t, err)
		pw.Close()
		var stale *StaleCopyError
		if err := <-done; !errors.As(err, &stale) {
			t.Fatalf("got %v", err)
		}
	}
	late(2, p.early[2], func() { p.feed(r, len(p.tail)/2) })
	h, _, err := decodeCopy(p.early[2])
	must(t, err)
	if got := r.tenant(2).Have(); got != (Have{1, h.state}) {
		t.Fatalf("it has %+v", got)
	}
	pin, b := p.leader.pinned(2, r.tenant(2).Have())
	if !pin.Partial() {
		t.Fatal("all pages came")
	}
	bases := func() int {
		names, err := fs.ReadDir("test.list", "/data/g2/bases")
		must(t, err)
		return len(names)
	}
	was := bases()
	// Once more too late: what is newer takes the place of what was kept.
	mid := p.mid[2]
	late(2, mid, func() { p.feed(r, len(p.tail)) })
	if n := bases(); n != was {
		t.Errorf("%d files of bases, before %d", n, was)
	}
	if err := r.readCopy(2, b); err == nil {
		t.Fatal("a copy since another state was taken")
	}
	pin, b = p.leader.pinned(2, r.tenant(2).Have())
	if !pin.Partial() {
		t.Fatal("all pages came")
	}
	must(t, r.readCopy(2, b))
	r.same(p.leader, 2, "caught up")
	if n := bases(); n != was-2 {
		t.Errorf("%d files of bases, before %d", n, was)
	}
	if h := r.tenant(2).Have(); h != (Have{}) {
		t.Errorf("it has %+v", h)
	}
	p.finish(r, "in the end")
	r.restart()
	p.finish(r, "restarted")
}

// TestWriteFrom: a copy goes on from any byte as if it had not stopped.
func TestWriteFrom(t *testing.T) {
	r := newRig(t, memDisk(disktest.NewMemFS()))
	w := r.writer(r.create(1, 4096))
	mustExec(t, w, "create table t(a)")
	for range 14 {
		mustExec(t, w, "insert into t values(randomblob(1000000))")
	}
	p, err := r.tenant(1).PinCopy(t.Context(), Have{})
	must(t, err)
	defer p.Close()
	whole := r.copyOf(1)
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	stop := errors.New("enough")
	for at := int64(0); ; {
		// As a receiver does: some of it comes, then it breaks off.
		n := rng.Int64N(5 << 20)
		var got bytes.Buffer
		err := p.WriteTo(t.Context(), &limited{&got, n, stop}, at)
		if !bytes.Equal(got.Bytes(), whole[at:at+int64(got.Len())]) {
			t.Fatalf("seed %d: other bytes from %d on", seed, at)
		}
		if at += int64(got.Len()); err == nil {
			break
		}
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
	}
	if len(p.marks) < 3 {
		t.Errorf("%d marks", len(p.marks))
	}
	if err := p.WriteTo(t.Context(), io.Discard, int64(len(whole))+1); err == nil {
		t.Error("it went on after its end")
	}
	q, err := r.tenant(1).PinCopy(t.Context(), Have{})
	must(t, err)
	defer q.Close()
	if q.Tag() != p.Tag() {
		t.Errorf("tags %s and %s of one state", p.Tag(), q.Tag())
	}
	mustExec(t, w, "insert into t values(1)")
	s, err := r.tenant(1).PinCopy(t.Context(), Have{})
	must(t, err)
	defer s.Close()
	if s.Tag() == p.Tag() {
		t.Error("one tag of two states")
	}
}

type limited struct {
	w    io.Writer
	left int64
	err  error
}

func (l *limited) Write(b []byte) (int, error) {
	n := min(l.left, int64(len(b)))
	l.left -= n
	m, err := l.w.Write(b[:n])
	if err == nil && int(n) < len(b) {
		err = l.err
	}
	return m, err
}

// TestAiling: what wants to be replaced is listed, and told of.
func TestAiling(t *testing.T) {
	cfg := memDisk(disktest.NewMemFS())
	r := newRig(t, cfg)
	w := r.writer(r.create(1, 4096))
	r.create(2, 4096)
	mustExec(t, w, "create table t(a)")
	mustExec(t, w, "insert into t values(randomblob(50000))")
	told := func() bool {
		select {
		case <-r.g.Ails():
			return true
		default:
			return false
		}
	}
	r.tidy()
	if l := r.g.Ailing(); len(l) != 0 || told() {
		t.Fatalf("%+v", l)
	}
	fs := cfg.FS.(*disktest.MemFS)
	flip(t, fs, "/data/g2/bases/"+idOf(1).String()+".db", 4*4096+9)
	for range 3 {
		_, err := r.g.Scrub(t.Context())
		must(t, err)
	}
	l := r.g.Ailing()
	var corrupt *CorruptError
	if len(l) != 1 || !l[0].InService || l[0].Diverged || l[0].Hollow || !errors.As(l[0].Err, &corrupt) || corrupt.Page != 5 {
		t.Fatalf("%+v", l)
	}
	if !told() || told() {
		t.Error("it is to be told once")
	}
	r.tenant(1).Failure(l[0].Err)
	if l = r.g.Ailing(); len(l) != 1 || l[0].InService || !told() {
		t.Fatalf("%+v", l)
	}
	if fmt.Sprint(r.tenant(1).Failed()) != corrupt.Error() {
		t.Error(r.tenant(1).Failed())
	}
	r.stop()
	if l = r.g.Ailing(); len(l) != 0 {
		t.Fatalf("closed: %+v", l)
	}
}

// TestUnitPassesHollow: a unit that counts as absorbed without a hollow tenant takes its older state away.
func TestUnitPassesHollow(t *testing.T) {
	p := newPassing(t)
	r := p.follower(t, disktest.NewMemFS())
	r.log = newTestLog()
	r.start()
	defer r.stop()
	for _, e := range p.log.history {
		r.feed(e)
	}
	r.visible(2)
	must(t, r.g.Checkpoint())
	r.log.install(p.leader.log, p.snap, p.index)
	must(t, r.g.Restore(bytes.NewReader(p.snap)))
	have := r.tenant(2).Have()
	if have.State.TXID == 0 {
		t.Fatal("it has nothing")
	}
	must(t, r.g.absorbAll(t.Context()))
	if h := r.tenant(2).Have(); h != (Have{}) {
		t.Errorf("it still has %+v", h)
	}
	p.finish(r, "with all pages")
}
