package disktest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/disk"
)

func open(t *testing.T, fsys disk.FS, name string) disk.File {
	t.Helper()
	f, err := fsys.OpenFile("f.open", name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func read(t *testing.T, fsys disk.FS, name string) string {
	t.Helper()
	data, err := disk.ReadFile(fsys, "f.read", name, 1<<30)
	if errors.Is(err, fs.ErrNotExist) {
		return "-"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCrashKeepsWhatIsSyncedAlone(t *testing.T) {
	m := NewMemFS()
	f := open(t, m, "/f")
	_, err := f.WriteAt([]byte("one"), 0)
	must(t, err)
	must(t, f.Sync())
	if got := read(t, m.Crash(nil), "/f"); got != "-" {
		t.Fatalf("a name that was not synced survived: %q", got)
	}
	must(t, m.SyncDir("d.sync", "/"))
	_, err = f.WriteAt([]byte("two"), 0)
	must(t, err)
	if got := read(t, m.Crash(nil), "/f"); got != "one" {
		t.Fatalf("after a crash %q, want what was synced", got)
	}
	if got := read(t, m.Kill(), "/f"); got != "two" {
		t.Fatalf("after a kill %q, want all that was written", got)
	}
	if got := read(t, m.Kill().Crash(nil), "/f"); got != "one" {
		t.Fatalf("after a kill and a crash %q: a kill made something durable", got)
	}
	must(t, f.Sync())
	if got := read(t, m.Crash(nil), "/f"); got != "two" {
		t.Fatalf("after sync and crash %q", got)
	}
}

func TestCrashTearsAndReorders(t *testing.T) {
	m := NewMemFS()
	f := open(t, m, "/f")
	must(t, m.SyncDir("d.sync", "/"))
	old := bytes.Repeat([]byte("0"), 3*sectorSize)
	_, err := f.WriteAt(old, 0)
	must(t, err)
	must(t, f.Sync())
	_, err = f.WriteAt(bytes.Repeat([]byte("1"), 3*sectorSize), 0)
	must(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte("2"), sectorSize), 3*sectorSize)
	must(t, err)
	seen := make(map[string]bool)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		got := read(t, m.Crash(rng), "/f")
		key := ""
		for i := 0; i < len(got); i += sectorSize {
			sector := got[i:min(i+sectorSize, len(got))]
			if len(sector) != sectorSize || sector != string(bytes.Repeat([]byte(sector[:1]), sectorSize)) {
				t.Fatalf("sector %d is mixed or short", i/sectorSize)
			}
			key += sector[:1]
		}
		seen[key] = true
	}
	// Each of three sectors old or new, the fourth missing or new: 16 outcomes.
	if len(seen) != 16 {
		t.Fatalf("saw %d outcomes: %v", len(seen), seen)
	}
}

func TestCrashIsRepeatable(t *testing.T) {
	m := NewMemFS()
	for i := range 20 {
		f := open(t, m, fmt.Sprintf("/f%d", i))
		_, err := f.Write(bytes.Repeat([]byte{byte('a' + i)}, 2000))
		must(t, err)
	}
	state := func() string {
		c := m.Crash(rand.New(rand.NewPCG(7, 7)))
		s := ""
		for i := range 20 {
			s += read(t, c, fmt.Sprintf("/f%d", i)) + "\n"
		}
		return s
	}
	if once, again := state(), state(); once != again {
		t.Fatal("the same seed gave two outcomes")
	}
}

func TestRenameAtACrash(t *testing.T) {
	m := NewMemFS()
	must(t, disk.MkdirAllDurable(m, "d.mkdir", "/a", 0o700))
	must(t, disk.MkdirAllDurable(m, "d.mkdir", "/b", 0o700))
	must(t, disk.WriteFileAtomic(m, "f.write", "/a/x", []byte("old"), 0o600))
	must(t, disk.WriteFileAtomic(m, "f.write", "/a/y", []byte("new"), 0o600))
	must(t, m.Rename("f.rename", "/a/y", "/a/x"))
	outcomes := func() map[string]bool {
		seen := make(map[string]bool)
		rng := rand.New(rand.NewPCG(1, 1))
		for range 200 {
			c := m.Crash(rng)
			seen[read(t, c, "/a/x")+read(t, c, "/a/y")+read(t, c, "/b/z")] = true
		}
		return seen
	}
	if got := fmt.Sprint(outcomes()); got != "map[new--:true oldnew-:true]" {
		t.Fatalf("within a directory: %s", got)
	}
	must(t, m.SyncDir("d.sync", "/a"))
	must(t, m.Rename("f.rename", "/a/x", "/b/z"))
	must(t, m.SyncDir("d.sync", "/a")) // alone it must not lose the file
	if got := fmt.Sprint(outcomes()); got != "map[--new:true new--:true new-new:true]" {
		t.Fatalf("between directories: %s", got)
	}
	must(t, m.SyncDir("d.sync", "/b"))
	must(t, m.SyncDir("d.sync", "/a"))
	if got := fmt.Sprint(outcomes()); got != "map[--new:true]" {
		t.Fatalf("after both were synced: %s", got)
	}
}

func TestRemovedNameReturnsAtACrash(t *testing.T) {
	m := NewMemFS()
	must(t, disk.WriteFileAtomic(m, "f.write", "/x", []byte("old"), 0o600))
	must(t, m.Remove("f.remove", "/x"))
	if got := read(t, m.Crash(nil), "/x"); got != "old" {
		t.Fatalf("got %q", got)
	}
	must(t, m.SyncDir("d.sync", "/"))
	if got := read(t, m.Crash(rand.New(rand.NewPCG(1, 1))), "/x"); got != "-" {
		t.Fatalf("got %q", got)
	}
}

func TestCapacity(t *testing.T) {
	m := NewMemFS()
	m.SetCapacity(1000)
	f := open(t, m, "/f")
	n, err := f.WriteAt(make([]byte, 1500), 0)
	if n != 1000 || !disk.IsFull(err) || m.Used() != 1000 {
		t.Fatalf("wrote %d, %v, used %d", n, err, m.Used())
	}
	if err := f.Truncate(1001); !disk.IsFull(err) {
		t.Fatalf("truncate: %v", err)
	}
	must(t, f.Truncate(100))
	g := open(t, m, "/g")
	_, err = g.Write(make([]byte, 900))
	must(t, err)
	must(t, m.Remove("f.remove", "/f"))
	must(t, f.Truncate(5000)) // has no name: not counted
	if m.Used() != 900 {
		t.Fatalf("used %d", m.Used())
	}
	must(t, m.Rename("f.rename", "/g", "/h"))
	if c := m.Clone(); c.Used() != 900 {
		t.Fatalf("clone uses %d", c.Used())
	}
}

func TestFailedSyncIsForever(t *testing.T) {
	m := NewMemFS()
	faults := NewFaults(m)
	f := open(t, faults, "/f")
	must(t, faults.SyncDir("d.sync", "/"))
	faults.Fail("f.sync", 1, syscall.EIO)
	_, err := f.WriteAt([]byte("one"), 0)
	must(t, err)
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync: %v", err)
	}
	must(t, f.Sync())
	if got := read(t, m.Crash(nil), "/f"); got != "" {
		t.Fatalf("a sync made durable what an earlier one had failed on: %q", got)
	}
	_, err = f.WriteAt([]byte("two"), 0)
	must(t, err)
	must(t, f.Sync())
	if got := read(t, m.Crash(nil), "/f"); got != "two" {
		t.Fatalf("got %q", got)
	}
}

func TestFaultsByNumberAndName(t *testing.T) {
	m := NewMemFS()
	faults := NewFaults(m)
	faults.Trace()
	faults.TearNth(2)
	faults.CrashNth(5)
	faults.Fail("f.read", 3, io.ErrUnexpectedEOF)
	f := open(t, faults, "/f") // 1
	if n, err := f.WriteAt([]byte("12345678"), 0); n != 4 || !errors.Is(err, ErrTorn) {
		t.Fatalf("torn write: %d, %v", n, err)
	}
	_, err := f.WriteAt([]byte("ab"), 0) // 3
	must(t, err)
	if got := read(t, faults, "/f"); got != "ab34" {
		t.Fatalf("got %q", got)
	}
	if _, err := f.ReadAt(make([]byte, 1), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("third f.read: %v", err)
	}
	must(t, f.Sync()) // 4
	for _, err := range []error{f.Sync(), f.Truncate(0), faults.Remove("f.remove", "/f"), faults.SyncAll("f.syncall", "/f")} {
		if !errors.Is(err, ErrCrashed) {
			t.Fatalf("after the crash: %v", err)
		}
	}
	if faults.Count() != 8 {
		t.Fatalf("counted %d", faults.Count())
	}
	faults.Heal()
	must(t, f.Sync())
	var names []string
	for _, op := range faults.Ops() {
		names = append(names, op.Name)
	}
	want := "[f.open f.write f.write f.read f.read f.read f.sync f.sync f.truncate f.remove f.syncall f.sync]"
	if got := fmt.Sprint(names); got != want {
		t.Fatalf("trace\ngot  %s\nwant %s", got, want)
	}
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faults := NewFaults(NewMemFS())
		faults.Delay("*.sync", time.Minute)
		f := open(t, faults, "/f")
		start := time.Now()
		must(t, f.Sync())
		if took := time.Since(start); took != time.Minute {
			t.Fatalf("took %v", took)
		}
	})
}

func TestWriteFileAtomicAtEveryCrash(t *testing.T) {
	for n := 1; ; n++ {
		m := NewMemFS()
		must(t, disk.WriteFileAtomic(m, "f.write", "/x", []byte("old"), 0o600))
		faults := NewFaults(m)
		faults.CrashNth(n)
		err := disk.WriteFileAtomic(faults, "f.write", "/x", []byte("new and longer"), 0o600)
		for seed := range uint64(50) {
			got := read(t, m.Crash(rand.New(rand.NewPCG(seed, 1))), "/x")
			if got != "new and longer" && (got != "old" || err == nil) {
				t.Fatalf("crash at operation %d, seed %d: %q, error %v", n, seed, got, err)
			}
		}
		if err == nil {
			return
		}
	}
}
