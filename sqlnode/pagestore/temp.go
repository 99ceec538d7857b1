package pagestore

import (
	"fmt"
	"os"
	"sync/atomic"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/nearsql/nearsql/disk"
)

// TempSpace bounds the temporary files (sorts, materialised views, VACUUM's copy)
// of one connection, and counts them towards the node.
type TempSpace struct {
	Dir   string        // where files that outgrow memory go; they have no name there
	Max   int64         // bytes of one connection
	Total *atomic.Int64 // bytes of the whole node, for metrics; may be nil
	Disk  *disk.Space   // is asked before a file takes more of the disk; nil: it is not

	used atomic.Int64
	full atomic.Bool
	disk atomic.Pointer[error] // why Disk refused
}

// Used is the number of bytes in use.
func (t *TempSpace) Used() int64 { return t.used.Load() }

// TakeFull says, once, that a write was refused because Max was reached.
func (t *TempSpace) TakeFull() bool { return t.full.Swap(false) }

// TakeErr says, once, why a write was refused: ErrTempFull, or ErrDiskFull; nil if none was.
func (t *TempSpace) TakeErr() error {
	full := t.full.Swap(false)
	if p := t.disk.Swap(nil); p != nil {
		return *p
	}
	if full {
		return ErrTempFull
	}
	return nil
}

const (
	// tempMemory is how much of a temporary file stays in memory, in bytes.
	tempMemory = 256 << 10
	// tempFirst is the memory that it begins with, and gives back for others to use: the statement journals of a transaction of a few rows fit.
	tempFirst = 32 << 10
)

// tempFile is one temporary file: in memory while small, then a nameless file.
type tempFile struct {
	space *TempSpace
	mem   []byte
	f     *os.File
	size  int64
	asked int64 // bytes of the disk that were asked for
}

func newTempFile(tls *libc.TLS) *tempFile {
	t := &tempFile{}
	if s, ok := vfs.temps.Load(tls); ok {
		t.space = s.(*TempSpace)
	}
	return t
}

// grow accounts for a file of n bytes and says whether it may be.
func (t *tempFile) grow(n int64) bool {
	if n <= t.size {
		return true
	}
	if s := t.space; s != nil {
		if s.used.Add(n-t.size) > s.Max && s.Max > 0 {
			s.used.Add(t.size - n)
			s.full.Store(true)
			return false
		}
		if s.Total != nil {
			s.Total.Add(n - t.size)
		}
	}
	t.size = n
	return true
}

// room asks for what a file of end bytes takes of the disk, some at a time.
func (t *tempFile) room(end int64) bool {
	if end <= t.asked || t.space == nil {
		return true
	}
	want := max(end-t.asked, tempMemory)
	if err := t.space.Disk.Take(want); err != nil {
		err = fmt.Errorf("temporary file: %w: %w", ErrDiskFull, err)
		t.space.disk.Store(&err)
		return false
	}
	t.asked += want
	return true
}

func (t *tempFile) shrink(n int64) {
	if s := t.space; s != nil {
		s.used.Add(n - t.size)
		if s.Total != nil {
			s.Total.Add(n - t.size)
		}
	}
	t.size = n
}

// spill moves the content to a file.
func (t *tempFile) spill() error {
	dir := ""
	if t.space != nil {
		dir = t.space.Dir
	}
	f, err := os.CreateTemp(dir, "nearsql-temp-*")
	if err != nil {
		return fmt.Errorf("create temporary file: %w", err)
	}
	os.Remove(f.Name()) // it lives as long as it is open
	if _, err := f.WriteAt(t.mem, 0); err != nil {
		f.Close()
		return fmt.Errorf("write temporary file: %w", err)
	}
	t.f, t.mem = f, nil
	return nil
}

func (t *tempFile) writeAt(b []byte, off int64) int32 {
	end := off + int64(len(b))
	if !t.grow(end) {
		return sqlite3.SQLITE_FULL
	}
	if t.f == nil && end > tempMemory {
		if err := t.spill(); err != nil {
			return sqlite3.SQLITE_IOERR_WRITE
		}
	}
	if t.f != nil {
		if !t.room(end) {
			return sqlite3.SQLITE_FULL
		}
		if _, err := t.f.WriteAt(b, off); err != nil {
			return sqlite3.SQLITE_IOERR_WRITE
		}
		return sqlite3.SQLITE_OK
	}
	if have := int64(len(t.mem)); have < end {
		t.reserve(end)
		t.mem = t.mem[:end]
		if off > have {
			clear(t.mem[have:off]) // the memory may have been another file's
		}
	}
	copy(t.mem[off:], b)
	return sqlite3.SQLITE_OK
}

// reserve makes room for n bytes in memory.
func (t *tempFile) reserve(n int64) {
	switch {
	case int64(cap(t.mem)) >= n:
	case t.mem == nil && n <= tempFirst:
		if first, ok := vfs.first.Get().(*[tempFirst]byte); ok {
			t.mem = first[:0]
		} else {
			t.mem = make([]byte, 0, tempFirst)
		}
	default:
		t.mem = append(make([]byte, 0, min(2*n, tempMemory)), t.mem...)
	}
}

func (t *tempFile) readAt(b []byte, off int64) int32 {
	n := 0
	if off < t.size {
		n = int(min(int64(len(b)), t.size-off))
		if t.f != nil {
			if k, err := t.f.ReadAt(b[:n], off); err != nil && k < n {
				clear(b[k:n]) // a hole at the end
			}
		} else {
			k := 0
			if off < int64(len(t.mem)) {
				k = copy(b[:n], t.mem[off:])
			}
			clear(b[k:n])
		}
	}
	if n < len(b) {
		clear(b[n:])
		return sqlite3.SQLITE_IOERR_SHORT_READ
	}
	return sqlite3.SQLITE_OK
}

func (t *tempFile) truncate(n int64) int32 {
	if n >= t.size {
		if !t.grow(n) {
			return sqlite3.SQLITE_FULL
		}
		return sqlite3.SQLITE_OK
	}
	if t.f != nil {
		if err := t.f.Truncate(n); err != nil {
			return sqlite3.SQLITE_IOERR_TRUNCATE
		}
	} else if n < int64(len(t.mem)) {
		clear(t.mem[n:])
		t.mem = t.mem[:n]
	}
	t.shrink(n)
	return sqlite3.SQLITE_OK
}

func (t *tempFile) close() {
	t.shrink(0)
	if t.f != nil {
		t.f.Close()
	}
	if cap(t.mem) == tempFirst {
		vfs.first.Put((*[tempFirst]byte)(t.mem[:tempFirst]))
	}
	t.mem = nil
}

func tempOf(p uintptr) *tempFile { return vfs.files.get(at[cfile](p).index).temp }

func xTempClose(_ *libc.TLS, p uintptr) int32 {
	tempOf(p).close()
	vfs.files.remove(at[cfile](p).index)
	return sqlite3.SQLITE_OK
}

func xTempRead(_ *libc.TLS, p, buf uintptr, n int32, off int64) int32 {
	return tempOf(p).readAt(bytesAt(buf, n), off)
}

func xTempWrite(_ *libc.TLS, p, buf uintptr, n int32, off int64) int32 {
	return tempOf(p).writeAt(bytesAt(buf, n), off)
}

func xTempTruncate(_ *libc.TLS, p uintptr, n int64) int32 { return tempOf(p).truncate(n) }

func xTempFileSize(_ *libc.TLS, p, out uintptr) int32 {
	*at[int64](out) = tempOf(p).size
	return sqlite3.SQLITE_OK
}

func xTempLock(_ *libc.TLS, _ uintptr, _ int32) int32 { return sqlite3.SQLITE_OK }

func xTempFileControl(_ *libc.TLS, _ uintptr, _ int32, _ uintptr) int32 {
	return sqlite3.SQLITE_NOTFOUND
}
