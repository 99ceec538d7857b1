package disk

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Sync is fdatasync: contents and size, without the times, which would cost a
// journal commit where nothing else changed.
func (f osFile) Sync() error {
	return f.control("fdatasync", unix.Fdatasync)
}

// Allocate reserves blocks, as fallocate does; where the file system does not
// know how, it only sets the size.
func (f osFile) Allocate(size int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() >= size {
		return nil
	}
	err = f.control("fallocate", func(fd int) error { return unix.Fallocate(fd, 0, 0, size) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return f.Truncate(size)
	}
	return err
}

// control runs a system call on the descriptor, again when interrupted.
func (f osFile) control(call string, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	err = conn.Control(func(fd uintptr) {
		for {
			if callErr = do(int(fd)); callErr != unix.EINTR {
				return
			}
		}
	})
	if err == nil {
		err = callErr
	}
	if err != nil {
		return &fs.PathError{Op: call, Path: f.Name(), Err: err}
	}
	return nil
}

// syncMany syncs each file system that one of the files is on.
func syncMany(names []string) error {
	done := make(map[uint64]bool)
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Stat(name, &st); err != nil {
			return &fs.PathError{Op: "stat", Path: name, Err: err}
		}
		if done[uint64(st.Dev)] {
			continue
		}
		if err := syncFileSystem(name); err != nil {
			return err
		}
		done[uint64(st.Dev)] = true
	}
	return nil
}

func syncFileSystem(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	err = osFile{f}.control("syncfs", unix.Syncfs)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
