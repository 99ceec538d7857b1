package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// NoDescriptors says whether err comes from a process, or a system, that has no file descriptors left.
func NoDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// Spares are file descriptors that are held for the logs of groups, which can't go on after an error: when the process has none left, one of
// these is given up for each that a log needs, and taken again when there are some.
type Spares struct {
	want int
	open func() (*os.File, error)
	log  *slog.Logger

	mu struct {
		sync.Mutex
		held []*os.File
		out  bool // some were given up, and that was logged
	}
}

// sparesPatience bounds how long an operation of a log waits for a descriptor when all spares are given up, and sparesTick how
// often it looks.
const (
	sparesPatience = 10 * time.Second
	sparesTick     = 20 * time.Millisecond
)

// NewSpares takes n descriptors. Close must be called.
func NewSpares(n int, log *slog.Logger) (*Spares, error) {
	s := &Spares{want: n, log: log, open: func() (*os.File, error) { return os.Open(os.DevNull) }}
	for range n {
		f, err := s.open()
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("hold %d file descriptors: %w", n, err)
		}
		s.mu.held = append(s.mu.held, f)
	}
	return s, nil
}

// Close gives all up.
func (s *Spares) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.mu.held {
		_ = f.Close()
	}
	s.mu.held, s.want = nil, 0
}

// FS returns fsys with spares for what the logs do.
func (s *Spares) FS(fsys FS) FS { return sparesFS{fsys, s} }

// try does what needs a descriptor, with a spare one if there is no other.
func (s *Spares) try(op string, do func() error) error {
	if !strings.HasPrefix(op, "log.") && !strings.HasPrefix(op, "logmeta.") {
		return do()
	}
	s.refill()
	err := do()
	if !NoDescriptors(err) {
		return err
	}
	for late := time.Now().Add(sparesPatience); NoDescriptors(err) && time.Now().Before(late); err = do() {
		if !s.giveUp() {
			time.Sleep(sparesTick)
		}
	}
	return err
}

// giveUp closes one; false if there is none.
func (s *Spares) giveUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mu.out {
		s.mu.out = true
		s.log.Warn("no file descriptors left: the logs use those that are held for them", "held", len(s.mu.held))
	}
	n := len(s.mu.held)
	if n == 0 {
		return false
	}
	_ = s.mu.held[n-1].Close()
	s.mu.held = s.mu.held[:n-1]
	return true
}

// refill takes again what was given up.
func (s *Spares) refill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.mu.held) < s.want {
		f, err := s.open()
		if err != nil {
			return
		}
		s.mu.held = append(s.mu.held, f)
	}
	if s.mu.out {
		s.mu.out = false
		s.log.Info("there are file descriptors again")
	}
}

type sparesFS struct {
	FS
	spares *Spares
}

// OpenFile implements FS.
func (f sparesFS) OpenFile(op, name string, flag int, perm fs.FileMode) (file File, err error) {
	err = f.spares.try(op, func() (err error) {
		file, err = f.FS.OpenFile(op, name, flag, perm)
		return err
	})
	return file, err
}

// ReadDir implements FS.
func (f sparesFS) ReadDir(op, name string) (list []fs.DirEntry, err error) {
	err = f.spares.try(op, func() (err error) {
		list, err = f.FS.ReadDir(op, name)
		return err
	})
	return list, err
}

// SyncDir implements FS.
func (f sparesFS) SyncDir(op, name string) error {
	return f.spares.try(op, func() error { return f.FS.SyncDir(op, name) })
}

// SyncAll implements FS.
func (f sparesFS) SyncAll(op string, names ...string) error {
	return f.spares.try(op, func() error { return f.FS.SyncAll(op, names...) })
}
