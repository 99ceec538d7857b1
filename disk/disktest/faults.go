package disktest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/nearsql/nearsql/disk"
)

// Errors of operations that a test made fail without an error of its own.
var (
	// ErrCrashed is the error of every operation from a crash on.
	ErrCrashed = errors.New("disktest: crashed")
	// ErrTorn is the error of a write of which only a part was written.
	ErrTorn = errors.New("disktest: torn write")
)

// Op is one operation.
type Op struct {
	N       int    // its number among the operations that change something, from 1; 0 for one that does not
	Name    string // such as "segment.write"
	Path    string
	Bytes   int // of a read or write
	Outcome error
}

// String is one line of a trace.
func (o Op) String() string {
	s := fmt.Sprintf("%d %s %s", o.N, o.Name, o.Path)
	if o.Bytes > 0 {
		s += fmt.Sprintf(" %d bytes", o.Bytes)
	}
	if o.Outcome != nil {
		s += ": " + o.Outcome.Error()
	}
	return s
}

// Faults is a disk.FS that does what another one does, but for the faults that
// it was told of.
//
// Operations that change something (opening with O_CREATE or O_TRUNC, write,
// truncate, allocate, sync, rename, remove, mkdir) are numbered from 1, in
// the order in which they begin. FailNth and its like speak of these numbers.
// The methods that take a pattern speak of operations whose name matches it
// (as in path.Match), reading ones included, and count from when they were
// called.
type Faults struct {
	inner disk.FS

	mu struct {
		sync.Mutex
		n       int
		rules   []*rule
		crashed bool
		tracing bool
		trace   []Op
	}
}

var _ disk.FS = (*Faults)(nil)

type action uint8

const (
	fail action = iota
	tear
	crash
	delay
)

type rule struct {
	pattern string // "" counts by number
	nth     int    // 0 is each
	action  action
	err     error
	delay   time.Duration
	seen    int
}

// NewFaults wraps a file system.
func NewFaults(inner disk.FS) *Faults { return &Faults{inner: inner} }

// FailNth makes the n-th operation fail with err, without an effect. A Sync
// that fails leaves what it should have synced forever uncertain on a MemFS.
func (f *Faults) FailNth(n int, err error) { f.add(rule{nth: n, action: fail, err: err}) }

// TearNth makes the n-th operation, if it is a write, write only a part and
// fail; another operation fails without an effect.
func (f *Faults) TearNth(n int) { f.add(rule{nth: n, action: tear, err: ErrTorn}) }

// CrashNth makes all operations from the n-th on fail with ErrCrashed.
func (f *Faults) CrashNth(n int) { f.add(rule{nth: n, action: crash, err: ErrCrashed}) }

// Fail makes the nth operation that matches pattern fail; each, if nth is 0.
func (f *Faults) Fail(pattern string, nth int, err error) {
	f.add(rule{pattern: pattern, nth: nth, action: fail, err: err})
}

// Tear tears the nth operation that matches pattern; each, if nth is 0.
func (f *Faults) Tear(pattern string, nth int) {
	f.add(rule{pattern: pattern, nth: nth, action: tear, err: ErrTorn})
}

// Crash crashes at the nth operation that matches pattern.
func (f *Faults) Crash(pattern string, nth int) {
	f.add(rule{pattern: pattern, nth: max(nth, 1), action: crash, err: ErrCrashed})
}

// Delay makes each operation that matches pattern take d longer.
func (f *Faults) Delay(pattern string, d time.Duration) {
	f.add(rule{pattern: pattern, action: delay, delay: d})
}

// Heal forgets all faults, a crash included.
func (f *Faults) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.rules, f.mu.crashed = nil, false
}

// Count returns how many numbered operations there were.
func (f *Faults) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.n
}

// Trace starts to record operations.
func (f *Faults) Trace() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.tracing, f.mu.trace = true, nil
}

// Ops returns the operations recorded since Trace.
func (f *Faults) Ops() []Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Op(nil), f.mu.trace...)
}

func (f *Faults) add(r rule) {
	if r.pattern != "" {
		if _, err := path.Match(r.pattern, ""); err != nil {
			panic(fmt.Sprintf("disktest: pattern %q: %v", r.pattern, err))
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.rules = append(f.mu.rules, &r)
}

// verdict is what becomes of one operation.
type verdict struct {
	err  error
	torn bool
}

// begin numbers an operation and finds its fault.
func (f *Faults) begin(name string, changes bool) (verdict, int) {
	f.mu.Lock()
	n := 0
	if changes {
		f.mu.n++
		n = f.mu.n
	}
	var v verdict
	var wait time.Duration
	for _, r := range f.mu.rules {
		if !r.hits(name, n) {
			continue
		}
		switch r.action {
		case delay:
			wait += r.delay
			continue
		case crash:
			f.mu.crashed = true
		}
		if v.err == nil {
			v = verdict{err: r.err, torn: r.action == tear}
		}
	}
	if f.mu.crashed {
		v = verdict{err: ErrCrashed}
	}
	f.mu.Unlock()
	if wait > 0 {
		time.Sleep(wait)
	}
	return v, n
}

func (r *rule) hits(name string, n int) bool {
	if r.pattern == "" {
		return n > 0 && n == r.nth
	}
	if ok, _ := path.Match(r.pattern, name); !ok {
		return false
	}
	r.seen++
	return r.nth == 0 || r.seen == r.nth
}

func (f *Faults) record(o Op) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.tracing {
		f.mu.trace = append(f.mu.trace, o)
	}
}

// do runs an operation unless it is to fail.
func (f *Faults) do(op, name string, changes bool, run func() error) error {
	v, n := f.begin(op, changes)
	err := v.err
	if err != nil {
		err = &fs.PathError{Op: op, Path: name, Err: err}
	} else {
		err = run()
	}
	f.record(Op{N: n, Name: op, Path: name, Outcome: err})
	return err
}

// OpenFile implements disk.FS.
func (f *Faults) OpenFile(op, name string, flag int, perm fs.FileMode) (disk.File, error) {
	var file disk.File
	err := f.do(op, name, flag&(os.O_CREATE|os.O_TRUNC) != 0, func() (err error) {
		file, err = f.inner.OpenFile(op, name, flag, perm)
		return err
	})
	if err != nil {
		return nil, err
	}
	domain := ""
	if i := strings.LastIndexByte(op, '.'); i >= 0 {
		domain = op[:i+1]
	}
	return &faultFile{File: file, faults: f, domain: domain}, nil
}

// Rename implements disk.FS.
func (f *Faults) Rename(op, oldname, newname string) error {
	return f.do(op, newname, true, func() error { return f.inner.Rename(op, oldname, newname) })
}

// Remove implements disk.FS.
func (f *Faults) Remove(op, name string) error {
	return f.do(op, name, true, func() error { return f.inner.Remove(op, name) })
}

// RemoveAll implements disk.FS.
func (f *Faults) RemoveAll(op, name string) error {
	return f.do(op, name, true, func() error { return f.inner.RemoveAll(op, name) })
}

// MkdirAll implements disk.FS.
func (f *Faults) MkdirAll(op, name string, perm fs.FileMode) error {
	return f.do(op, name, true, func() error { return f.inner.MkdirAll(op, name, perm) })
}

// ReadDir implements disk.FS.
func (f *Faults) ReadDir(op, name string) ([]fs.DirEntry, error) {
	var entries []fs.DirEntry
	err := f.do(op, name, false, func() (err error) {
		entries, err = f.inner.ReadDir(op, name)
		return err
	})
	return entries, err
}

// Stat implements disk.FS.
func (f *Faults) Stat(op, name string) (fs.FileInfo, error) {
	var info fs.FileInfo
	err := f.do(op, name, false, func() (err error) {
		info, err = f.inner.Stat(op, name)
		return err
	})
	return info, err
}

// SyncDir implements disk.FS.
func (f *Faults) SyncDir(op, name string) error {
	return f.do(op, name, true, func() error { return f.inner.SyncDir(op, name) })
}

// SyncAll implements disk.FS.
func (f *Faults) SyncAll(op string, names ...string) error {
	ran := false
	err := f.do(op, strings.Join(names, " "), true, func() error {
		ran = true
		return f.inner.SyncAll(op, names...)
	})
	if m, ok := f.inner.(*MemFS); ok && !ran && !errors.Is(err, ErrCrashed) {
		m.failSync(names)
	}
	return err
}
