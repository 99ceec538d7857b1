package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// TempSuffix ends the names of files that are not complete yet; who finds one
// at start may remove it.
const TempSuffix = ".tmp"

// WriteFileAtomic makes the file hold data, durably: after a crash it holds
// either what it held before or all of data. All calls to fsys bear op.
func WriteFileAtomic(fsys FS, op, name string, data []byte, perm fs.FileMode) error {
	tmp := name + TempSuffix
	if err := writeSynced(fsys, op, tmp, data, perm); err != nil {
		// What is left is useless but harmless: the next try truncates it.
		_ = fsys.Remove(op, tmp)
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := fsys.Rename(op, tmp, name); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := fsys.SyncDir(op, filepath.Dir(name)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func writeSynced(fsys FS, op, name string, data []byte, perm fs.FileMode) error {
	f, err := fsys.OpenFile(op, name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// ReadFile returns the contents of a file of at most limit bytes; a larger one
// is an error.
func ReadFile(fsys FS, op, name string, limit int64) ([]byte, error) {
	f, err := fsys.OpenFile(op, name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("read %s: %d bytes are more than the limit of %d", name, info.Size(), limit)
	}
	data := make([]byte, info.Size())
	if n, err := f.ReadAt(data, 0); err != nil && !(err == io.EOF && n == len(data)) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// MkdirAllDurable makes a directory and what is missing above it, and makes
// the names of all that it added durable. A directory that is there already
// has its name made durable too, since who made it may have been killed before
// that.
func MkdirAllDurable(fsys FS, op, name string, perm fs.FileMode) error {
	name = filepath.Clean(name)
	parent := filepath.Dir(name)
	info, err := fsys.Stat(op, name)
	switch {
	case err == nil && !info.IsDir():
		return &fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}
	case err == nil:
		// A directory above ours may be closed to us; then it isn't ours to sync.
		if err := fsys.SyncDir(op, parent); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if parent != name {
		if err := MkdirAllDurable(fsys, op, parent, perm); err != nil {
			return err
		}
	}
	if err := fsys.MkdirAll(op, name, perm); err != nil {
		return err
	}
	return fsys.SyncDir(op, parent)
}
