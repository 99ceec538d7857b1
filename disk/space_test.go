package disk_test

import (
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
)

const mib = 1 << 20

// small is a disk whose free space is told, and how often it was asked for.
type small struct {
	free, asked atomic.Int64
	said        strings.Builder
	*disk.Space
}

func newSmall(free, reserve int64, believe time.Duration) *small {
	d := &small{}
	d.free.Store(free)
	d.Space = disk.NewSpace(disk.SpaceConfig{Reserve: reserve, Believe: believe, Log: slog.New(slog.NewTextHandler(&d.said, nil)), Free: func() (int64, error) {
		d.asked.Add(1)
		return d.free.Load(), nil
	}})
	return d
}

func TestSpaceReserve(t *testing.T) {
	d := newSmall(300*mib, 256*mib, 0)
	if err := d.Reserve(40 * mib); err != nil {
		t.Fatal(err)
	}
	err := d.Reserve(5 * mib)
	var no *disk.NoSpaceError
	if !errors.As(err, &no) || !disk.IsFull(err) || no.Want != 5*mib || no.Keep != 256*mib || no.Left != 260*mib {
		t.Errorf("got %v", err)
	}
	if err := d.Reserve(4 * mib); err != nil {
		t.Errorf("what fits exactly: %v", err)
	}
	d.Release(44 * mib)
	if err := d.Reserve(44 * mib); err != nil {
		t.Errorf("after a release: %v", err)
	}
	d.free.Store(1 << 30)
	d.Release(44 * mib)
	if _, err := d.Free(); err != nil { // asks
		t.Error(err)
	}
	if err := d.Fits(0); err != nil {
		t.Error(err)
	}
	if n := strings.Count(d.said.String(), "free disk space"); n != 2 || !strings.Contains(d.said.String(), "writes_refused=false") {
		t.Errorf("it logged %s", d.said.String())
	}
}

// TestSpaceOrder has each kind of writer refused while those that matter more go on.
func TestSpaceOrder(t *testing.T) {
	d := newSmall(1<<30, 100*mib, -1)
	d.SetLogs(2)
	mem := disktest.NewMemFS()
	fsys := d.FS(mem)
	open := func(op string) disk.File {
		f, err := fsys.OpenFile(op, op, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	segment, base, log := open("segment.create"), open("base.create"), open("log.create")
	can := func(free int64, commit, entries, bulk bool) {
		t.Helper()
		d.free.Store(free)
		err := d.Reserve(mib)
		if (err == nil) != commit {
			t.Errorf("%d free: commit: %v", free, err)
		}
		if err == nil {
			d.Release(mib)
		}
		if err := d.Take(mib); (err == nil) != commit {
			t.Errorf("%d free: take: %v", free, err)
		}
		if err := d.Entries(mib); (err == nil) != entries {
			t.Errorf("%d free: entries: %v", free, err)
		}
		_, err = segment.WriteAt(make([]byte, mib), 0)
		_, err2 := base.Write(make([]byte, mib))
		if (err == nil) != bulk || (err2 == nil) != bulk || !bulk && (!disk.IsFull(err) || !errors.Is(err2, syscall.ENOSPC)) {
			t.Errorf("%d free: bulk: %v, %v", free, err, err2)
		}
		if _, err := log.WriteAt(make([]byte, mib), 0); err != nil {
			t.Errorf("%d free: log: %v", free, err)
		}
		if err := disk.Allocate(log, 3*mib); err != nil {
			t.Errorf("%d free: log: %v", free, err)
		}
	}
	can(200*mib, true, true, true)
	can(99*mib, false, true, true)
	can(41*mib, false, false, true)
	can(30*mib, false, false, false)
	can(0, false, false, false)
	can(200*mib, true, true, true)
	if got := d.said.String(); strings.Count(got, "log entries of other nodes wait for disk space") != 2 {
		t.Errorf("it logged %s", got)
	}
	d = newSmall(70*mib, 24*mib, -1)
	d.SetLogs(4)
	if err := d.Reserve(1); err == nil {
		t.Error("80 MiB are the logs', whatever the reserve is")
	}
}

// TestSpaceSamples: the free space is asked for seldom while there is much, and often while there is little.
func TestSpaceSamples(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			free        int64
			least, most int64 // samples in 10 s, at a commit each millisecond
		}{{1 << 40, 9, 12}, {1 << 30, 100, 300}, {257 * mib, 5000, 10_100}} {
			d := newSmall(c.free, 256*mib, 0)
			for range 10_000 {
				if err := d.Reserve(1000); err != nil {
					t.Fatal(err)
				}
				d.Release(1000)
				time.Sleep(time.Millisecond)
			}
			if n := d.asked.Load(); n < c.least || n > c.most {
				t.Errorf("%d bytes free: %d samples in 10 s", c.free, n)
			}
		}
		d := newSmall(10*mib, 256*mib, 0)
		for range 10_000 { // refusals don't ask each time
			if err := d.Reserve(1000); err == nil {
				t.Fatal("taken")
			}
			time.Sleep(time.Microsecond)
		}
		if n := d.asked.Load(); n > 10 {
			t.Errorf("%d samples in 10 ms of refusals", n)
		}
	})
}

// TestSpaceNeverFull: whatever is written through a Space, in whichever order samples come, what logs may still write fits.
func TestSpaceNeverFull(t *testing.T) {
	// Time stands still: samples don't get old, and all rests on what is counted.
	synctest.Test(t, func(t *testing.T) { rapid.Check(struct{ rapid.TB }{t}, neverFull) })
}

func neverFull(t *rapid.T) {
	const size = 250 * mib
	var used atomic.Int64
	believe := rapid.SampledFrom([]time.Duration{0, time.Hour, -1}).Draw(t, "believe")
	s := disk.NewSpace(disk.SpaceConfig{Reserve: 100 * mib, Believe: believe, Free: func() (int64, error) { return size - used.Load(), nil }})
	s.SetLogs(2)
	fsys := s.FS(growing{disktest.NewMemFS(), &used})
	open := func(op string) disk.File {
		f, err := fsys.OpenFile(op, op, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	bulk, log := open("segment.create"), open("log.create")
	var underway []int64
	for range rapid.SampledFrom([]int{10, 40, 200}).Draw(t, "steps") {
		n := mib * rapid.SampledFrom([]int64{1, 3, 8}).Draw(t, "MiB")
		switch rapid.IntRange(0, 4).Draw(t, "what") {
		case 0:
			if s.Reserve(n) == nil {
				underway = append(underway, n)
			}
		case 1: // the log gets to what was admitted first
			if len(underway) > 0 {
				n, underway = underway[0], underway[1:]
				must(t, disk.Allocate(log, n))
				s.Release(n)
			}
		case 2:
			if err := disk.Allocate(bulk, n); err != nil && !disk.IsFull(err) {
				t.Fatal(err)
			}
		case 3:
			if s.Take(n) == nil {
				used.Add(n)
			}
		case 4:
			if s.Entries(n) == nil {
				must(t, disk.Allocate(log, n))
			}
		}
		left := size - used.Load()
		for _, n := range underway {
			left -= n
		}
		if left < 2*disk.LogRoom {
			t.Fatalf("%d bytes are left for the logs when all that was admitted is written", left)
		}
	}
}

func must(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

// growing is a file system whose files get larger by whatever is allocated, and hold nothing.
type growing struct {
	disk.FS
	used *atomic.Int64
}

func (g growing) OpenFile(op, name string, flag int, perm os.FileMode) (disk.File, error) {
	f, err := g.FS.OpenFile(op, name, flag, perm)
	return growingFile{f, g.used}, err
}

type growingFile struct {
	disk.File
	used *atomic.Int64
}

func (f growingFile) Allocate(n int64) error { f.used.Add(n); return nil }

// TestSpaceTogether has many ask at once: no more is admitted than there is.
func TestSpaceTogether(t *testing.T) {
	d := newSmall(356*mib, 256*mib, 0)
	var wg sync.WaitGroup
	var admitted atomic.Int64
	for range 16 {
		wg.Go(func() {
			for range 1000 {
				if d.Reserve(mib) == nil {
					admitted.Add(mib)
				}
			}
		})
	}
	wg.Wait()
	if n := admitted.Load(); n != 100*mib {
		t.Errorf("%d bytes were admitted", n)
	}
}

func TestNoSpace(t *testing.T) {
	var s *disk.Space
	if disk.NewSpace(disk.SpaceConfig{Free: func() (int64, error) { return 0, nil }}) != nil {
		t.Error("a reserve of nothing is watched")
	}
	mem := disktest.NewMemFS()
	s.SetLogs(3)
	s.Release(1)
	for _, err := range []error{s.Reserve(1 << 50), s.Fits(1 << 50), s.Take(1 << 50), s.Entries(1 << 50)} {
		if err != nil {
			t.Error(err)
		}
	}
	if s.FS(mem) != disk.FS(mem) || s.Room() < 1<<60 {
		t.Error("no Space does something")
	}
	d := disk.NewSpace(disk.SpaceConfig{Reserve: 1, Free: func() (int64, error) { return 0, errors.New("broken") }})
	if err := d.Reserve(1); err != nil {
		t.Errorf("a disk that does not tell: %v", err)
	}
}
