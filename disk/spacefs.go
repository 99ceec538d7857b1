package disk

import (
	"io/fs"
	"strings"
)

// givesWay are the first parts of the names of operations that write what can wait: it is in the log too, or elsewhere. Below
// LogRoom for each log they get NoSpaceError, so that what is left is the logs'.
var givesWay = [...]string{"segment", "base", "sums", "ltx", "copy", "adopt"}

// FS returns fsys with what is written through it counted. Of a nil Space it is fsys itself.
func (s *Space) FS(fsys FS) FS {
	if s == nil {
		return fsys
	}
	return spaceFS{fsys, s}
}

type spaceFS struct {
	FS
	space *Space
}

// OpenFile implements FS.
func (f spaceFS) OpenFile(op, name string, flag int, perm fs.FileMode) (File, error) {
	file, err := f.FS.OpenFile(op, name, flag, perm)
	if err != nil {
		return nil, err
	}
	out := spaceFile{File: file, space: f.space}
	first, _, _ := strings.Cut(op, ".")
	for _, g := range givesWay {
		out.waits = out.waits || first == g
	}
	return out, nil
}

type spaceFile struct {
	File
	space *Space
	waits bool
}

// begin counts n bytes that are about to be written; end must follow unless it is refused.
func (f spaceFile) begin(op string, n int64) error {
	if f.waits {
		if err := f.space.behindLogs(n); err != nil {
			return &fs.PathError{Op: op, Path: f.Name(), Err: err}
		}
	}
	f.space.begun.Add(n)
	return nil
}

func (f spaceFile) end(n int64) { f.space.ended.Add(n) }

// behindLogs asks for room for n bytes of what gives way to the logs.
func (s *Space) behindLogs(n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roomLocked(n, s.mu.logs*LogRoom)
}

// Write implements io.Writer.
func (f spaceFile) Write(b []byte) (int, error) {
	if err := f.begin("write", int64(len(b))); err != nil {
		return 0, err
	}
	defer f.end(int64(len(b)))
	return f.File.Write(b)
}

// WriteAt implements io.WriterAt.
func (f spaceFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.begin("write", int64(len(b))); err != nil {
		return 0, err
	}
	defer f.end(int64(len(b)))
	return f.File.WriteAt(b, off)
}

// Allocate does what Allocate does for the file below.
func (f spaceFile) Allocate(size int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	n := max(size-info.Size(), 0)
	if err := f.begin("allocate", n); err != nil {
		return err
	}
	defer f.end(n)
	return Allocate(f.File, size)
}
