package sqlnode

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nearsql/nearsql/disk"
)

// simFS is a disk in memory but for the files of conflict-free tables, which SQLite itself writes: those are real.
type simFS struct {
	disk.FS
	real disk.FS
	dir  string // of the real files
}

func newSimFS(memory disk.FS, dataDir string) simFS {
	return simFS{memory, disk.OS(), filepath.Join(dataDir, "crr")}
}

func (f simFS) of(name string) disk.FS {
	if name == f.dir || strings.HasPrefix(name, f.dir+"/") {
		return f.real
	}
	return f.FS
}

func (f simFS) OpenFile(op, name string, flag int, perm fs.FileMode) (disk.File, error) {
	return f.of(name).OpenFile(op, name, flag, perm)
}
func (f simFS) Rename(op, from, to string) error          { return f.of(from).Rename(op, from, to) }
func (f simFS) Remove(op, name string) error              { return f.of(name).Remove(op, name) }
func (f simFS) RemoveAll(op, name string) error           { return f.of(name).RemoveAll(op, name) }
func (f simFS) Stat(op, name string) (fs.FileInfo, error) { return f.of(name).Stat(op, name) }
func (f simFS) SyncDir(op, name string) error             { return f.of(name).SyncDir(op, name) }
func (f simFS) ReadDir(op, name string) ([]fs.DirEntry, error) {
	return f.of(name).ReadDir(op, name)
}

func (f simFS) MkdirAll(op, name string, perm fs.FileMode) error {
	return f.of(name).MkdirAll(op, name, perm)
}

func (f simFS) SyncAll(op string, names ...string) error {
	var memory, files []string
	for _, n := range names {
		if f.of(n) == f.real {
			files = append(files, n)
		} else {
			memory = append(memory, n)
		}
	}
	if len(files) > 0 {
		if err := f.real.SyncAll(op, files...); err != nil || len(memory) == 0 {
			return err
		}
	}
	return f.FS.SyncAll(op, memory...)
}

// simFiles is the real files of a node at one moment, as the system has them when a process is killed.
type simFiles map[string][]byte

// takeSimFiles reads the files in a directory; nil if there is none. What SQLite writes meanwhile is there in part, as it may be.
func takeSimFiles(dir string) simFiles {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	files := simFiles{}
	for _, e := range names {
		name := e.Name()
		switch {
		case e.IsDir(), strings.HasSuffix(name, "-shm"), strings.HasSuffix(name, "-wal"): // the index of a WAL is made from it
		default:
			files.take(dir, name)
		}
	}
	return files
}

// take reads a file, and its WAL after it. When that began anew meanwhile, what it had is in the file only.
func (s simFiles) take(dir, name string) {
	salt := func(wal []byte) []byte { return wal[:min(len(wal), 32)] }
	for range 100 {
		before, _ := os.ReadFile(filepath.Join(dir, name+"-wal"))
		file, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return
		}
		wal, _ := os.ReadFile(filepath.Join(dir, name+"-wal"))
		if s[name] = file; len(wal) > 0 {
			s[name+"-wal"] = wal
		}
		if bytes.Equal(salt(before), salt(wal)) {
			return
		}
		delete(s, name+"-wal")
	}
}

// restore has a directory contain the files, and no others.
func (s simFiles) restore(dir string) error {
	if s == nil {
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, content := range s {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
