package disktest

import (
	"errors"

	"github.com/nearsql/nearsql/disk"
)

// faultFile is an open file of a Faults.
type faultFile struct {
	disk.File
	faults *Faults
	domain string // with its dot
}

func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	return f.read(p, func() (int, error) { return f.File.ReadAt(p, off) })
}

func (f *faultFile) Read(p []byte) (int, error) {
	return f.read(p, func() (int, error) { return f.File.Read(p) })
}

func (f *faultFile) read(p []byte, run func() (int, error)) (int, error) {
	op := f.domain + "read"
	v, _ := f.faults.begin(op, false)
	n, err := 0, v.err
	if err == nil {
		n, err = run()
	}
	f.faults.record(Op{Name: op, Path: f.Name(), Bytes: len(p), Outcome: err})
	return n, err
}

func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	return f.write(p, func(p []byte) (int, error) { return f.File.WriteAt(p, off) })
}

func (f *faultFile) Write(p []byte) (int, error) {
	return f.write(p, f.File.Write)
}

func (f *faultFile) write(p []byte, run func([]byte) (int, error)) (int, error) {
	op := f.domain + "write"
	v, number := f.faults.begin(op, true)
	n, err := 0, v.err
	switch {
	case err == nil:
		n, err = run(p)
	case v.torn:
		// Half, so that both a header and a body are torn at some time. That the
		// rest is missing is the error, whatever this write says.
		n, _ = run(p[:len(p)/2])
	}
	f.faults.record(Op{N: number, Name: op, Path: f.Name(), Bytes: len(p), Outcome: err})
	return n, err
}

func (f *faultFile) Sync() error {
	ran := false
	err := f.faults.do(f.domain+"sync", f.Name(), true, func() error {
		ran = true
		return f.File.Sync()
	})
	// A machine that crashed did not try; one that failed may have dropped what it tried to write.
	if m, ok := f.File.(*memFile); ok && !ran && !errors.Is(err, ErrCrashed) {
		m.failSync()
	}
	return err
}

func (f *faultFile) Truncate(size int64) error {
	return f.faults.do(f.domain+"truncate", f.Name(), true, func() error { return f.File.Truncate(size) })
}

// Allocate is what disk.Allocate looks for.
func (f *faultFile) Allocate(size int64) error {
	return f.faults.do(f.domain+"allocate", f.Name(), true, func() error { return disk.Allocate(f.File, size) })
}
