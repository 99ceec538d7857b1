package disktest

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// memFile is an open file of a MemFS, whose mutex guards it.
type memFile struct {
	fs     *MemFS
	node   *node
	name   string
	flag   int
	pos    int64
	closed bool
}

func (f *memFile) Name() string { return f.name }

// lock locks the file system, if the file is open and opened for it.
func (f *memFile) lock(op string, write bool) error {
	f.fs.mu.Lock()
	var err error
	access := f.flag & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR)
	switch {
	case f.closed:
		err = fs.ErrClosed
	case write && access == os.O_RDONLY, !write && access == os.O_WRONLY:
		err = syscall.EBADF
	default:
		return nil
	}
	f.fs.mu.Unlock()
	return f.error(op, err)
}

func (f *memFile) error(op string, err error) error {
	return &fs.PathError{Op: op, Path: f.name, Err: err}
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, f.error("readat", syscall.EINVAL)
	}
	if err := f.lock("readat", false); err != nil {
		return 0, err
	}
	defer f.fs.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	return f.node.file.now.readAt(p, off)
}

func (f *memFile) Read(p []byte) (int, error) {
	if err := f.lock("read", false); err != nil {
		return 0, err
	}
	defer f.fs.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	n, err := f.node.file.now.readAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || f.flag&os.O_APPEND != 0 {
		return 0, f.error("writeat", syscall.EINVAL)
	}
	if err := f.lock("writeat", true); err != nil {
		return 0, err
	}
	defer f.fs.mu.Unlock()
	return f.write("writeat", p, off)
}

func (f *memFile) Write(p []byte) (int, error) {
	if err := f.lock("write", true); err != nil {
		return 0, err
	}
	defer f.fs.mu.Unlock()
	if f.flag&os.O_APPEND != 0 {
		f.pos = f.node.file.now.size
	}
	n, err := f.write("write", p, f.pos)
	f.pos += int64(n)
	return n, err
}

// write writes what fits on the disk.
func (f *memFile) write(op string, p []byte, off int64) (int, error) {
	var full error
	if err := f.fs.fits(f.node, off+int64(len(p))); err != nil {
		full = f.error(op, err)
		free := max(f.fs.mu.capacity-f.fs.mu.used, 0)
		p = p[:min(int64(len(p)), max(f.node.file.now.size+free-off, 0))]
	}
	if len(p) > 0 {
		f.fs.grow(f.node, max(off+int64(len(p))-f.node.file.now.size, 0))
		f.node.file.apply(change{off: off, data: append([]byte(nil), p...)})
		f.node.modTime = time.Now()
	}
	return len(p), full
}

func (f *memFile) Seek(offset int64, whence int) (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += f.pos
	case io.SeekEnd:
		offset += f.node.file.now.size
	}
	if f.closed {
		return 0, f.error("seek", fs.ErrClosed)
	}
	if offset < 0 {
		return 0, f.error("seek", syscall.EINVAL)
	}
	f.pos = offset
	return offset, nil
}

func (f *memFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return f.error("close", fs.ErrClosed)
	}
	f.closed = true
	return nil
}

func (f *memFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return f.error("sync", fs.ErrClosed)
	}
	f.node.file.sync()
	return nil
}

// failSync is what Faults tells of a Sync that it made fail.
func (f *memFile) failSync() {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.node.file.failSync()
}

func (f *memFile) Truncate(size int64) error {
	if size < 0 {
		return f.error("truncate", syscall.EINVAL)
	}
	if err := f.lock("truncate", true); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	if err := f.fs.fits(f.node, size); err != nil {
		return f.error("truncate", err)
	}
	f.fs.resize(f.node, size)
	return nil
}

func (f *memFile) Stat() (fs.FileInfo, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return nil, f.error("stat", fs.ErrClosed)
	}
	return f.node.info(filepath.Base(f.name)), nil
}

// info is a fs.FileInfo of a moment.
type info struct {
	name    string
	size    int64
	mode    fs.FileMode
	modTime time.Time
}

func (n *node) info(name string) info {
	return info{name: name, size: n.file.now.size, mode: n.mode, modTime: n.modTime}
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return i.modTime }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }
