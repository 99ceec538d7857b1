package crrfiles

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
)

// rebuilt does what the node does about a damaged file, from where its disk says that it was. The file is not damaged at all: it is said to be.
func (a *away) rebuilt(m *Manager) (f *File, err error) {
	ctx := context.Background()
	if f, err = m.Open(ctx, a.tn); err != nil {
		return nil, err
	}
	if f.Number() == a.was {
		f.Suspect(fmt.Errorf("%w: so it is said", crr.ErrCorrupt))
		path, err := f.Fetch(ctx, copyOf(a.t, a.peer))
		if err != nil {
			return nil, err
		}
		if _, err := f.Rebuild(ctx, path); err != nil {
			return nil, err
		}
		if err := f.Sync(ctx); err != nil {
			return nil, err
		}
	}
	a.register(a.tn, "n1", head(a.t, f).File)
	if err := f.Sync(ctx); err != nil {
		return nil, err
	}
	if err := pull(a.t, f, a.peer); err != nil {
		return nil, err
	}
	kept, err := f.Kept()
	if err != nil {
		return nil, err
	}
	for _, k := range kept {
		if !f.FromDamaged(k) {
			a.t.Error("a kept file is not known to be of a damaged one")
		}
		if _, err := f.Salvage(ctx, k, []crr.SiteID{a.was}, false); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// A damaged file is put aside, and what only it had is written anew; the process may end before any operation on its files. Nothing is lost or counted twice.
func TestRebuildCrashesAtEachStep(t *testing.T) {
	a := newAway(t)
	counting := disktest.NewFaults(disk.OS())
	_, err := a.rebuilt(a.manager(Config{Dir: a.dir, FS: counting}))
	must(t, err)
	steps := counting.Count()
	if steps < 20 {
		t.Errorf("there were %d operations only", steps)
	}
	for n := 1; n <= steps; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			a := newAway(t)
			faults := disktest.NewFaults(disk.OS())
			faults.CrashNth(n)
			m := New(Config{Dir: a.dir, FS: faults})
			_, err := a.rebuilt(m)
			if err != nil && !errors.Is(err, disktest.ErrCrashed) {
				t.Fatal(err)
			}
			m.Close()
			m = a.manager(Config{Dir: a.dir})
			f, err := a.rebuilt(m)
			must(t, err)
			must(t, pull(t, a.peer, f))
			must(t, pull(t, f, a.peer))
			for _, x := range []*File{f, a.peer} {
				if got := rows(t, x); got != `"mine7 x111"` {
					t.Errorf("one has %s", got)
				}
			}
			if h := head(t, f); h.Site == a.was || h.Site == 0 {
				t.Errorf("it has number %d", h.Site)
			}
			names, err := os.ReadDir(a.dir)
			must(t, err)
			asides := 0
			for _, e := range names {
				rest := strings.TrimPrefix(e.Name(), a.tn.ID().String())
				switch {
				case strings.HasPrefix(rest, damagedMark):
					asides++
				case rest != ".db" && rest != ".db-wal" && rest != ".db-shm" && rest != ".db.sent":
					t.Errorf("left over: %s", e.Name())
				}
			}
			if asides == 0 {
				t.Error("nothing was put aside")
			}
			must(t, m.Remove(a.tn.ID()))
			if names, err = os.ReadDir(a.dir); err != nil || len(names) > 0 {
				t.Errorf("%v are there after it was removed, %v", names, err)
			}
		})
	}
}

// What is put aside is as it was; a file that is whole is not; of many the newest stay.
func TestDamagedFilesAside(t *testing.T) {
	a := newAway(t)
	m := a.manager(Config{Dir: a.dir})
	f, err := m.Open(t.Context(), a.tn)
	must(t, err)
	rebuild := func() (Rebuilt, error) {
		path, err := f.Fetch(t.Context(), copyOf(t, a.peer))
		must(t, err)
		return f.Rebuild(t.Context(), path)
	}
	if _, err := rebuild(); !errors.Is(err, ErrWhole) {
		t.Fatalf("a file in service is rebuilt: %v", err)
	}
	if why, err := f.Examine(t.Context()); why != nil || err != nil {
		t.Fatalf("a file that is whole: %v, %v", why, err)
	}
	m.Close()
	was, err := os.ReadFile(m.Path(a.tn.ID()))
	must(t, err)
	for i := range 100 {
		was[i] ^= 0x5a
	}
	must(t, os.WriteFile(m.Path(a.tn.ID()), was, 0o600))
	m = a.manager(Config{Dir: a.dir})
	_, err = m.Open(t.Context(), a.tn)
	f = m.Known(a.tn.ID())
	if why := f.Failed(); err == nil || why == nil || !why.Unopened {
		t.Fatalf("a spoilt header: %v, %+v", err, why)
	}
	if err := f.Sync(t.Context()); !errors.As(err, new(*DamagedError)) {
		t.Errorf("a damaged file is used: %v", err)
	}
	got, err := rebuild()
	must(t, err)
	is, err := os.ReadFile(got.Aside)
	must(t, err)
	if got.Kept || !bytes.Equal(is, was) {
		t.Errorf("kept: %v; it is as it was: %v", got.Kept, bytes.Equal(is, was))
	}
	if got := rows(t, f); got != `"drop1 x101"` {
		t.Errorf("it has %s", got)
	}
	for range 3 {
		must(t, f.Sync(t.Context()))
		f.Suspect(crr.ErrCorrupt)
		_, err := rebuild()
		must(t, err)
	}
	list, err := filepath.Glob(filepath.Join(a.dir, "*"+damagedMark+"*"+keptEnd))
	if err != nil || len(list) != damagedMost {
		t.Errorf("%v are aside, %v", list, err)
	}
	if _, err := f.Fetch(t.Context(), func(_ context.Context, w io.Writer) error { return io.ErrUnexpectedEOF }); err == nil {
		t.Error("half a copy is fetched")
	}
}

// At no moment is there a log without its file: another file in that place would take it for its own.
func TestLogGoesAsideFirst(t *testing.T) {
	for n := 1; n <= 3; n++ {
		a := newAway(t)
		faults := disktest.NewFaults(disk.OS())
		m := New(Config{Dir: a.dir, FS: faults})
		f, err := m.Open(t.Context(), a.tn)
		must(t, err)
		m.Close()
		must(t, os.WriteFile(f.Path()+"-wal", []byte("a log"), 0o600))
		faults.Crash("crr.aside.rename", n)
		if _, err := f.putAside(crr.FileID{1}); !errors.Is(err, disktest.ErrCrashed) {
			t.Fatal(err)
		}
		_, file := os.Stat(f.Path())
		_, log := os.Stat(f.Path() + "-wal")
		if file != nil && log == nil {
			t.Errorf("after %d renames the log is without its file", n-1)
		}
	}
}
