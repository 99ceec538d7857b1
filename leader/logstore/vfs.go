package logstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/raft-wal/types"

	"github.com/nearsql/nearsql/disk"
)

// vfs is raft-wal's file system over a disk.FS. It notes every error, and
// keeps raft-wal's contract: the first Sync of a new file makes its name
// durable too.
type vfs struct {
	fs   disk.FS
	fail func(error) error

	mu struct {
		sync.Mutex
		open map[*segmentFile]struct{} // raft-wal leaves files open when it can't go on
	}
}

func newVFS(fsys disk.FS, fail func(error) error) *vfs {
	v := &vfs{fs: fsys, fail: fail}
	v.mu.open = make(map[*segmentFile]struct{})
	return v
}

// ListDir implements types.VFS.
func (v *vfs) ListDir(dir string) ([]string, error) {
	entries, err := v.fs.ReadDir("log.list", dir)
	if err != nil {
		return nil, v.fail(err)
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Create implements types.VFS.
func (v *vfs) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := v.fs.OpenFile("log.create", filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, v.fail(err)
	}
	if err := disk.Allocate(f, int64(size)); err != nil {
		_ = f.Close()
		return nil, v.fail(fmt.Errorf("reserve a log segment: %w", err))
	}
	return v.opened(f, dir), nil
}

// Delete implements types.VFS.
func (v *vfs) Delete(dir, name string) error {
	if err := v.fs.Remove("log.remove", filepath.Join(dir, name)); err != nil {
		return v.fail(err)
	}
	if err := v.fs.SyncDir("log.syncdir", dir); err != nil {
		return v.fail(err)
	}
	return nil
}

// OpenReader implements types.VFS.
func (v *vfs) OpenReader(dir, name string) (types.ReadableFile, error) {
	return v.openFile(dir, name, os.O_RDONLY)
}

// OpenWriter implements types.VFS.
func (v *vfs) OpenWriter(dir, name string) (types.WritableFile, error) {
	return v.openFile(dir, name, os.O_RDWR)
}

func (v *vfs) openFile(dir, name string, flag int) (*segmentFile, error) {
	f, err := v.fs.OpenFile("log.open", filepath.Join(dir, name), flag, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err // raft-wal knows what to do
	}
	if err != nil {
		return nil, v.fail(err)
	}
	return v.opened(f, ""), nil
}

func (v *vfs) opened(f disk.File, newIn string) *segmentFile {
	s := &segmentFile{vfs: v, file: f, newIn: newIn}
	v.mu.Lock()
	v.mu.open[s] = struct{}{}
	v.mu.Unlock()
	return s
}

// closeAll closes what raft-wal left open.
func (v *vfs) closeAll() error {
	v.mu.Lock()
	open := v.mu.open
	v.mu.open = make(map[*segmentFile]struct{})
	v.mu.Unlock()
	var errs []error
	for f := range open {
		errs = append(errs, f.file.Close())
	}
	return errors.Join(errs...)
}

// segmentFile is an open segment. raft-wal writes from one goroutine.
type segmentFile struct {
	vfs   *vfs
	file  disk.File
	newIn string // the directory that must be synced with the file; "" for none
}

func (f *segmentFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.file.ReadAt(p, off)
	if err != nil && err != io.EOF {
		return n, f.vfs.fail(err)
	}
	return n, err
}

func (f *segmentFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.file.WriteAt(p, off)
	if err != nil {
		return n, f.vfs.fail(err)
	}
	return n, nil
}

func (f *segmentFile) Sync() error {
	if err := f.file.Sync(); err != nil {
		return f.vfs.fail(err)
	}
	if f.newIn == "" {
		return nil
	}
	if err := f.vfs.fs.SyncDir("log.syncdir", f.newIn); err != nil {
		return f.vfs.fail(err)
	}
	f.newIn = ""
	return nil
}

func (f *segmentFile) Close() error {
	f.vfs.mu.Lock()
	_, ok := f.vfs.mu.open[f]
	delete(f.vfs.mu.open, f)
	f.vfs.mu.Unlock()
	if !ok {
		return nil
	}
	return f.file.Close()
}
