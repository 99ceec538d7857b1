package disk

import (
	"errors"
	"io"
	"io/fs"
	"syscall"
)

// FS is a file system. All its methods may be called by several goroutines at
// once. Errors wrap the usual ones, so that errors.Is works with
// fs.ErrNotExist and fs.ErrExist, and IsFull with a full disk.
type FS interface {
	// OpenFile opens a file as os.OpenFile does.
	OpenFile(op, name string, flag int, perm fs.FileMode) (File, error)
	// Rename replaces newname by oldname, atomically for who looks on; SyncDir
	// makes it durable.
	Rename(op, oldname, newname string) error
	// Remove removes a file or an empty directory.
	Remove(op, name string) error
	// RemoveAll removes a tree; one that does not exist is no error.
	RemoveAll(op, name string) error
	// MkdirAll makes a directory and what is missing above it.
	MkdirAll(op, name string, perm fs.FileMode) error
	// ReadDir lists a directory in the order of file names.
	ReadDir(op, name string) ([]fs.DirEntry, error)
	// Stat describes a file.
	Stat(op, name string) (fs.FileInfo, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(op, name string) error
	// SyncAll makes the contents of files durable, not their names: each by
	// itself when they are few, else with one call for the whole file system.
	SyncAll(op string, names ...string) error
}

// File is an open file. ReadAt and WriteAt may be called by several goroutines
// at once.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Reader
	io.Writer
	io.Seeker
	io.Closer
	// Sync makes the contents and the size of the file durable.
	Sync() error
	// Truncate sets the size; new bytes are zero.
	Truncate(size int64) error
	// Stat describes the file.
	Stat() (fs.FileInfo, error)
	// Name is the name that the file was opened with.
	Name() string
}

// allocator is what a File may offer beyond the interface; see Allocate.
type allocator interface {
	Allocate(size int64) error
}

// Allocate makes a file at least size bytes large, and reserves the space
// where the file system can. New bytes are zero.
func Allocate(f File, size int64) error {
	if a, ok := f.(allocator); ok {
		return a.Allocate(size)
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() >= size {
		return nil
	}
	return f.Truncate(size)
}

// IsFull says whether err comes from a full disk or an exhausted quota.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
