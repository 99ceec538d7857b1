package pagestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

// flip changes one bit of a file.
func flip(t testing.TB, fs *disktest.MemFS, path string, off int64) {
	t.Helper()
	f, err := fs.OpenFile("test.open", path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], off)
	must(t, err)
	b[0] ^= 4
	_, err = f.WriteAt(b[:], off)
	must(t, err)
}

func cut(t testing.TB, fs *disktest.MemFS, path string, size int64) {
	t.Helper()
	f, err := fs.OpenFile("test.open", path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(size))
}

// twoTenants has two tenants with 60 rows in some 70 pages each, all in their bases.
func twoTenants(t *testing.T) (*rig, *disktest.MemFS) {
	fs := disktest.NewMemFS()
	r := newRig(t, memDisk(fs))
	for n := byte(1); n <= 2; n++ {
		w := r.writer(r.create(n, 4096))
		mustExec(t, w, "create table t(id integer primary key, a)")
		mustExec(t, w, "with recursive c(i) as (select 1 union all select i+1 from c where i<60) insert into t select i, zeroblob(3500) from c")
		w.Close()
	}
	return r, fs
}

const readAll = "select count(*), sum(length(a)), sum(unicode(a)) from t"

// TestCorruptBase damages a base in several ways. Statements that need the page fail and say which; the
// other tenant and the group go on.
func TestCorruptBase(t *testing.T) {
	path := "/data/g2/bases/07000000000000000000000000000001.db"
	for _, c := range []struct {
		name   string
		damage func(*testing.T, *disktest.MemFS)
		page   uint32
		file   string
		what   string
	}{
		{"flipped byte", func(t *testing.T, fs *disktest.MemFS) { flip(t, fs, path, 20*4096+77) }, 21, path, "its sum is"},
		{"flipped sum", func(t *testing.T, fs *disktest.MemFS) { flip(t, fs, path+".sums", 16+8*30+3) }, 31, path, "its sum is"},
		{"truncated base", func(t *testing.T, fs *disktest.MemFS) { cut(t, fs, path, 40*4096+100) }, 41, path, "not in the file, which has 40 pages"},
		{"truncated sums", func(t *testing.T, fs *disktest.MemFS) { cut(t, fs, path+".sums", 16+8*50+7) }, 51, path, "which has 50 pages"},
		{"sums cut to nothing", func(t *testing.T, fs *disktest.MemFS) { cut(t, fs, path+".sums", 5) }, 1, path + ".sums", "less than its header"},
		{"header of sums", func(t *testing.T, fs *disktest.MemFS) { flip(t, fs, path+".sums", 2) }, 1, path + ".sums", "header"},
		{"no sums", func(t *testing.T, fs *disktest.MemFS) { must(t, fs.Remove("x", path+".sums")) }, 1, path + ".sums", "does not exist"},
		{"no base", func(t *testing.T, fs *disktest.MemFS) { must(t, fs.Remove("x", path)) }, 1, path, "has 0 pages"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, fs := twoTenants(t)
			r.tidy()
			r.stop()
			c.damage(t, fs)
			r.start()
			var corrupt *CorruptError
			rd, err := r.visible(1).OpenReader(nil)
			cause := err
			if err == nil {
				defer rd.Close()
				_, err = query(rd, readAll)
				cause = rd.TakeErr()
			}
			if sqlite.ErrorCode(err) != sqlite.CodeIOErrData || !errors.As(cause, &corrupt) {
				t.Fatalf("got %v (%v)", err, cause)
			}
			if corrupt.Page != c.page || corrupt.File != c.file || corrupt.Tenant != r.tenant(1).ID() || !strings.Contains(corrupt.Error(), c.what) {
				t.Fatalf("got page %d of %s: %v", corrupt.Page, corrupt.File, corrupt)
			}
			if r.g.Stats.Corrupt.Load() == 0 {
				t.Error("nothing was counted")
			}
			if err := r.tenant(1).Failed(); err != nil {
				t.Errorf("one bad page took the copy out of service by itself: %v", err)
			}
			report, err := r.g.Scrub(context.Background())
			if err != nil || report.Tenants != 2 {
				t.Fatalf("scrub: %+v, %v", report, err)
			}
			if flips := strings.HasPrefix(c.name, "flipped"); flips && (len(report.Corrupt) != 1 || report.Corrupt[0].Page != c.page || report.Pages < 120) ||
				!flips && report.Errors > 0 {
				t.Errorf("scrub: %+v", report)
			}
			// The caller takes it out of service; the others notice nothing.
			r.tenant(1).Failure(cause)
			if _, err := r.tenant(1).Acquire(); !errors.As(err, &corrupt) {
				t.Errorf("it is still served: %v", err)
			}
			rd2 := r.reader(r.tenant(2))
			want(t, rd2, readAll, "[[60 210000 NULL]]")
			w2 := r.writer(r.tenant(2))
			mustExec(t, w2, "delete from t where id>50")
			r.tidy()
			must(t, r.g.CompactLTX(context.Background()))
			want(t, rd2, "select count(*) from t", "[[50]]")
			want(t, rd2, "pragma integrity_check", `[["ok"]]`)
		})
	}
}

// TestCorruptOnWrite: a writer that meets a corrupt page fails its statement, and commits nothing made from it.
func TestCorruptOnWrite(t *testing.T) {
	r, fs := twoTenants(t)
	r.tidy()
	r.stop()
	flip(t, fs, "/data/g2/bases/07000000000000000000000000000001.db", 20*4096+77)
	r.start()
	r.visible(1)
	w := r.writer(r.tenant(1))
	head := w.store.Head()
	err := exec(w, "update t set a=zeroblob(3400)")
	if sqlite.ErrorCode(err) != sqlite.CodeIOErrData || w.store.Head() != head || !w.Autocommit() {
		t.Fatalf("got %v, head %s", err, w.store.Head())
	}
}

// TestCorruptSegment damages the pages of a segment before it is absorbed. The copy is taken out of
// service, and stays so after a restart, since its base lacks what the segment had; the other tenant goes on.
func TestCorruptSegment(t *testing.T) {
	r, fs := twoTenants(t)
	must(t, r.g.Checkpoint())
	path := "/data/g2/segments/" + segmentName(1)
	flip(t, fs, path, 40+5*4096+9) // in the first section: tenant 1 or 2
	must(t, r.g.absorbAll(context.Background()))
	var bad, good byte = 1, 2
	if r.tenant(1).Failed() == nil {
		bad, good = 2, 1
	}
	check := func() {
		t.Helper()
		var corrupt *CorruptError
		if err := r.tenant(bad).Failed(); !errors.As(err, &corrupt) || !strings.Contains(err.Error(), segmentName(1)) || !strings.Contains(err.Error(), "page 6") {
			t.Fatalf("got %v", err)
		}
		want(t, r.reader(r.tenant(good)), readAll, "[[60 210000 NULL]]")
	}
	check()
	if r.g.Stats.Failures.Load() != 1 {
		t.Errorf("%d failures", r.g.Stats.Failures.Load())
	}
	must(t, r.g.CompactLTX(context.Background()))
	if l, _ := r.g.LTXFiles(r.tenant(good).ID(), 1); len(l) != 1 {
		t.Errorf("%d LTX files of the good tenant", len(l))
	}
	if l, _ := r.g.LTXFiles(r.tenant(bad).ID(), 1); len(l) != 0 {
		t.Errorf("%d LTX files of the bad tenant", len(l))
	}
	if n := r.g.files.segmentBytes(); n != 0 {
		t.Errorf("%d bytes of segments are left", n)
	}
	r.restart()
	check()
	r.tidy()
	r.restart()
	check()
}

// TestCorruptFiles damages what all tenants of a group share: the start says which file it is.
func TestCorruptFiles(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(*testing.T, *rig, *disktest.MemFS)
		what   string
	}{
		{"segment cut", func(t *testing.T, r *rig, fs *disktest.MemFS) {
			cut(t, fs, "/data/g2/segments/"+segmentName(1), 50*4096)
		}, "cut short"},
		{"segment cut to nothing", func(t *testing.T, r *rig, fs *disktest.MemFS) {
			cut(t, fs, "/data/g2/segments/"+segmentName(1), 3)
		}, "too few"},
		{"segment missing", func(t *testing.T, r *rig, fs *disktest.MemFS) {
			must(t, fs.Remove("x", "/data/g2/segments/"+segmentName(1)))
		}, segmentName(1)},
		{"segment header", func(t *testing.T, r *rig, fs *disktest.MemFS) {
			flip(t, fs, "/data/g2/segments/"+segmentName(1), 20)
		}, "checksum of its header"},
		{"segment table", func(t *testing.T, r *rig, fs *disktest.MemFS) {
			fi, err := fs.Stat("x", "/data/g2/segments/"+segmentName(1))
			must(t, err)
			flip(t, fs, "/data/g2/segments/"+segmentName(1), fi.Size()-60)
		}, "checksum of its table"},
		{"progress", func(t *testing.T, r *rig, fs *disktest.MemFS) {
			must(t, r.g.absorbAll(context.Background()))
			flip(t, fs, "/data/g2/progress", 12)
		}, "progress"},
		{"manifest", func(t *testing.T, r *rig, fs *disktest.MemFS) { r.log.snap[len(r.log.snap)/2] ^= 1 }, "manifest of group 2: its checksum"},
		{"manifest cut", func(t *testing.T, r *rig, fs *disktest.MemFS) { r.log.snap = r.log.snap[:40] }, "manifest of group 2"},
		{"manifest of another group", func(t *testing.T, r *rig, fs *disktest.MemFS) { r.cfg.ID = 3 }, "is of group 2, not 3"},
		{"older manifest", func(t *testing.T, r *rig, fs *disktest.MemFS) {
			old := r.log.snap
			w := r.writer(r.tenant(1))
			mustExec(t, w, "delete from t")
			w.Close()
			r.tidy()
			r.log.snap = old
		}, "it is an older one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, fs := twoTenants(t)
			must(t, r.g.Checkpoint())
			c.damage(t, r, fs)
			r.stop()
			err := r.tryStart()
			if err == nil || !strings.Contains(err.Error(), c.what) {
				t.Fatalf("got %v, want %q", err, c.what)
			}
		})
	}
}

// TestUnrecordedUnit: a unit whose snapshot was never made durable may not reach the bases, or a restart from
// the older snapshot would find pages of its future there.
func TestUnrecordedUnit(t *testing.T) {
	r, _ := twoTenants(t)
	r.tidy()
	w := r.writer(r.tenant(1))
	for i := range 4 {
		mustExec(t, w, fmt.Sprintf("update t set a=zeroblob(%d)", 3000+i))
		r.log.refuse = true
		if err := r.g.Checkpoint(); err == nil {
			t.Fatal("the snapshot was refused, the checkpoint succeeded")
		}
		if !r.g.wantCheckpoint(r.g.cfg.Now().Add(2 * r.g.cfg.CheckpointAge)) {
			t.Fatal("it is not tried again")
		}
		must(t, r.g.absorbAll(context.Background()))
		if u := r.g.files.pending(); u != nil {
			t.Fatalf("unit %d counts as recorded", u.seq)
		}
		r.log.refuse = false
		if i == 1 {
			w.Close()
			r.restart()
			w = r.writer(r.tenant(1))
			r.visible(1)
		}
		// A snapshot that the log makes of its own accord is not yet durable when another
		// checkpoint has just ended.
		checkSum(t, r.visible(1))
	}
	c, err := r.g.Capture()
	must(t, err)
	r.g.files.watch()
	var b discard
	must(t, c.Persist(&b)) // began before the watch
	c.Release()
	if r.g.files.recorded() != 0 || r.g.files.pending() != nil {
		t.Fatal("a capture that began before counts")
	}
	r.tidy()
	checkEmpty(t, r.visible(1))
	w.Close()
	r.restart()
	checkSum(t, r.visible(1))
	want(t, r.reader(r.tenant(1)), readAll, "[[60 180180 NULL]]")
}

type discard struct{ n int }

func (d *discard) Write(b []byte) (int, error) { d.n += len(b); return len(b), nil }

// TestDiskFullBuild: a transaction of the log waits for room on the disk; the copy stays in service.
func TestDiskFullBuild(t *testing.T) {
	entries, pages := history(t, 4096)
	fs := disktest.NewMemFS()
	cfg := memDisk(fs)
	cfg.BigTransaction = 1
	r := newFollower(t, cfg)
	for i, e := range entries {
		if pages[i] != nil {
			fs.SetCapacity(fs.Used() + 1) // no room to build
		}
		r.feed(e)
		if pages[i] == nil {
			continue // parts are staged on the same disk
		}
		s, err := r.tenant(1).Acquire()
		must(t, err)
		done := make(chan struct{})
		close(done)
		if tx := r.tenant(1).Logged().TXID; i > 1 && s.wait(done, tx) == nil && pages[i-1] != nil {
			t.Fatalf("entry %d was built without room", i+1)
		}
		fs.SetCapacity(0)
		must(t, s.wait(nil, r.tenant(1).Logged().TXID))
		r.tenant(1).Release()
	}
	fs.SetCapacity(0)
	s := r.visible(1)
	if got := pagesOf(t, s); string(got) != string(pages[len(pages)-1]) {
		t.Fatal("pages differ")
	}
}

// TestFailingDisk: a copy whose disk fails for good is out of service, says why, and heals with a restart.
func TestFailingDisk(t *testing.T) {
	entries, pages := history(t, 4096)
	faults := disktest.NewFaults(disktest.NewMemFS())
	cfg := memDisk(faults)
	cfg.BigTransaction = 1
	r := newFollower(t, cfg)
	broken := errors.New("input/output error")
	for i, e := range entries {
		if i == 6 {
			faults.Fail("segment.write", 0, broken)
		}
		r.feed(e)
	}
	s, err := r.tenant(1).Acquire()
	if err == nil {
		err = s.wait(nil, r.tenant(1).Logged().TXID)
	}
	if !errors.Is(err, broken) || !errors.Is(r.tenant(1).Failed(), broken) {
		t.Fatalf("got %v, failed with %v", err, r.tenant(1).Failed())
	}
	if r.g.builds.mu.bytes != 0 {
		t.Errorf("%d bytes still wait to be built", r.g.builds.mu.bytes)
	}
	faults.Heal()
	r.restart()
	if got := pagesOf(t, r.visible(1)); string(got) != string(pages[len(pages)-1]) {
		t.Fatal("pages differ")
	}
}

// TestThrottle: entries that wait to be built are bounded; Apply waits for the builders.
func TestThrottle(t *testing.T) {
	entries, pages := history(t, 4096)
	cfg := memDisk(disktest.NewMemFS())
	cfg.BuildBytes = 1
	r := newFollower(t, cfg)
	for i, e := range entries {
		if i == 1 {
			continue
		}
		r.feed(e)
		if i == 0 {
			r.feed(entries[1])
			r.visible(1) // the builders are at work
		}
		r.g.builds.mu.Lock()
		if n := r.g.builds.mu.bytes; n > 1 {
			t.Errorf("%d bytes wait after Apply returned", n)
		}
		r.g.builds.mu.Unlock()
	}
	if got := pagesOf(t, r.visible(1)); string(got) != string(pages[len(pages)-1]) {
		t.Fatal("pages differ")
	}
}
