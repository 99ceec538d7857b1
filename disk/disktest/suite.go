package disktest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/nearsql/nearsql/disk"
)

// TestFS checks that fsys does what disk.FS says, apart from crashes, in an
// empty directory. What passes it may stand in for another that does.
func TestFS(t *testing.T, fsys disk.FS, root string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(err, target error) {
		t.Helper()
		if !errors.Is(err, target) {
			t.Fatalf("got error %v, want %v", err, target)
		}
	}
	dir := filepath.Join(root, "a", "b")
	must(disk.MkdirAllDurable(fsys, "test.mkdir", dir, 0o700))
	must(disk.MkdirAllDurable(fsys, "test.mkdir", dir, 0o700))
	name := filepath.Join(dir, "file")

	_, err := fsys.OpenFile("test.open", name, os.O_RDWR, 0)
	want(err, fs.ErrNotExist)
	f, err := fsys.OpenFile("test.create", name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	must(err)
	if f.Name() != name {
		t.Fatalf("name %q, want %q", f.Name(), name)
	}
	_, err = fsys.OpenFile("test.create", name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	want(err, fs.ErrExist)

	// Holes are zero, reads end with io.EOF.
	_, err = f.WriteAt([]byte("world"), 40_000)
	must(err)
	buf := make([]byte, 50_000)
	n, err := f.ReadAt(buf, 0)
	want(err, io.EOF)
	if n != 40_005 || !bytes.Equal(buf[:n], append(make([]byte, 40_000), "world"...)) {
		t.Fatalf("read %d bytes, ending %q", n, buf[max(n-8, 0):n])
	}
	n, err = f.ReadAt(buf[:5], 40_000)
	if n != 5 || (err != nil && err != io.EOF) {
		t.Fatalf("read up to the end: %d, %v", n, err)
	}
	if _, err = f.ReadAt(buf[:1], 40_005); err != io.EOF {
		t.Fatalf("read beyond the end: %v", err)
	}

	// A cut, and growing again, leaves zeros.
	must(f.Truncate(40_002))
	must(f.Truncate(40_005))
	_, err = f.ReadAt(buf[:5], 40_000)
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	if string(buf[:5]) != "wo\x00\x00\x00" {
		t.Fatalf("after truncate %q", buf[:5])
	}
	must(disk.Allocate(f, 60_000))
	must(disk.Allocate(f, 10))
	info, err := f.Stat()
	must(err)
	if info.Size() != 60_000 {
		t.Fatalf("size %d after allocate", info.Size())
	}

	// Sequential reading and writing.
	must(f.Truncate(0))
	_, err = f.Seek(0, io.SeekStart)
	must(err)
	_, err = f.Write([]byte("hello "))
	must(err)
	_, err = f.Write([]byte("you"))
	must(err)
	pos, err := f.Seek(-3, io.SeekEnd)
	must(err)
	rest, err := io.ReadAll(f)
	must(err)
	if pos != 6 || string(rest) != "you" {
		t.Fatalf("at %d read %q", pos, rest)
	}
	must(f.Sync())
	must(f.Close())
	_, err = f.Write([]byte("x"))
	want(err, fs.ErrClosed)
	want(f.Close(), fs.ErrClosed)

	r, err := fsys.OpenFile("test.open", name, os.O_RDONLY, 0)
	must(err)
	if _, err := r.Write([]byte("x")); err == nil {
		t.Fatal("wrote to a file opened for reading")
	}
	must(r.Close())

	// Names.
	other := filepath.Join(dir, "other")
	must(fsys.Rename("test.rename", name, other))
	_, err = fsys.Stat("test.stat", name)
	want(err, fs.ErrNotExist)
	want(fsys.Rename("test.rename", name, other), fs.ErrNotExist)
	must(disk.WriteFileAtomic(fsys, "test.write", name, []byte("new"), 0o600))
	must(disk.WriteFileAtomic(fsys, "test.write", other, []byte("newer"), 0o600))
	must(fsys.SyncAll("test.sync", name, other))
	data, err := disk.ReadFile(fsys, "test.read", other, 5)
	must(err)
	if string(data) != "newer" {
		t.Fatalf("read %q", data)
	}
	if _, err = disk.ReadFile(fsys, "test.read", other, 4); err == nil {
		t.Fatal("read a file beyond the limit")
	}
	entries, err := fsys.ReadDir("test.list", dir)
	must(err)
	if len(entries) != 2 || entries[0].Name() != "file" || entries[1].Name() != "other" || entries[0].IsDir() {
		t.Fatalf("entries %v", entries)
	}
	if err := fsys.Remove("test.remove", dir); err == nil {
		t.Fatal("removed a directory that is not empty")
	}
	must(fsys.Remove("test.remove", name))
	want(fsys.Remove("test.remove", name), fs.ErrNotExist)
	must(fsys.SyncDir("test.syncdir", dir))
	want(fsys.SyncDir("test.syncdir", filepath.Join(dir, "none")), fs.ErrNotExist)
	if err := disk.MkdirAllDurable(fsys, "test.mkdir", filepath.Join(other, "x"), 0o700); err == nil {
		t.Fatal("made a directory below a file")
	}
	must(fsys.RemoveAll("test.remove", filepath.Join(root, "a")))
	must(fsys.RemoveAll("test.remove", filepath.Join(root, "a")))
	_, err = fsys.Stat("test.stat", dir)
	want(err, fs.ErrNotExist)
}
