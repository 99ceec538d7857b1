package pagestore

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/nearsql/nearsql/disk"
)

// TempSpace bounds the temporary files (sorts, materialised views, VACUUM's copy, statement journals)
// of one connection, and counts them towards the node. Rollback journals are counted there too, and have the bound of transactions.
type TempSpace struct {
	Dir   string        // where files that outgrow memory go; they have no name there
	Max   int64         // bytes of one connection, without its rollback journal
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
	// tempMemory is how much of a temporary file stays in memory, in bytes; journalMemory is that of a journal, of a transaction or of statements: once one
	// statement of a transaction has made it a file, all that follow write to that.
	tempMemory    = 256 << 10
	journalMemory = 16 << 20
	// tempChunk is the size of the pieces of that memory, which are used again and again: journals of most transactions take one.
	tempChunk = 32 << 10
)

// tempFile is one temporary file: in memory while small, then a nameless file.
type tempFile struct {
	space   *TempSpace
	memory  int64 // how much of it stays in memory
	journal bool  // of a transaction: it is bounded by what that may change, and not by the space
	f       *os.File
	size    int64
	asked   int64 // bytes of the disk that were asked for

	chunks []*[tempChunk]byte // its memory; nil while there is f
	have   int64              // bytes in chunks that were written, or cleared; whatever follows may have been another file's, and reads as zeros
}

// newTempFile returns a file of a connection for what SQLite opens with flags.
func newTempFile(tls *libc.TLS, flags int32) *tempFile {
	t := &tempFile{memory: tempMemory, journal: flags&sqlite3.SQLITE_OPEN_MAIN_JOURNAL != 0}
	if flags&(sqlite3.SQLITE_OPEN_MAIN_JOURNAL|sqlite3.SQLITE_OPEN_SUBJOURNAL) != 0 {
		t.memory = journalMemory
	}
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
		if !t.journal && s.used.Add(n-t.size) > s.Max && s.Max > 0 {
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
		if !t.journal {
			s.used.Add(n - t.size)
		}
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
	for i, c := range t.chunks {
		at := int64(i) * tempChunk
		if _, err := f.WriteAt(c[:min(tempChunk, t.have-at)], at); err != nil {
			f.Close()
			return fmt.Errorf("write temporary file: %w", err)
		}
	}
	t.keep(0)
	t.f = f
	return nil
}

// keep gives back the memory behind the first n bytes.
func (t *tempFile) keep(n int64) {
	t.have = min(t.have, n)
	first := int((t.have + tempChunk - 1) / tempChunk)
	for i := first; i < len(t.chunks); i++ {
		vfs.chunks.Put(t.chunks[i])
		t.chunks[i] = nil
	}
	t.chunks = t.chunks[:min(first, len(t.chunks))]
}

// reserve makes memory for the first n bytes.
func (t *tempFile) reserve(n int64) {
	for int64(len(t.chunks))*tempChunk < n {
		c, ok := vfs.chunks.Get().(*[tempChunk]byte)
		if !ok {
			c = new([tempChunk]byte)
		}
		t.chunks = append(t.chunks, c)
	}
}

// each calls f for each piece of the memory from one place to another.
func (t *tempFile) each(from, to int64, f func(piece []byte)) {
	for from < to {
		at := from % tempChunk
		n := min(tempChunk-at, to-from)
		f(t.chunks[from/tempChunk][at : at+n])
		from += n
	}
}

func (t *tempFile) writeAt(b []byte, off int64) int32 {
	end := off + int64(len(b))
	if !t.grow(end) {
		return sqlite3.SQLITE_FULL
	}
	if t.f != nil || end > t.memory {
		if !t.room(end) {
			return sqlite3.SQLITE_FULL
		}
		if t.f == nil {
			if err := t.spill(); err != nil {
				return sqlite3.SQLITE_IOERR_WRITE
			}
		}
		if _, err := t.f.WriteAt(b, off); err != nil {
			return sqlite3.SQLITE_IOERR_WRITE
		}
		return sqlite3.SQLITE_OK
	}
	t.reserve(end)
	if off > t.have {
		t.each(t.have, off, func(p []byte) { clear(p) })
	}
	t.each(off, end, func(p []byte) { b = b[copy(p, b):] })
	t.have = max(t.have, end)
	return sqlite3.SQLITE_OK
}

func (t *tempFile) readAt(b []byte, off int64) int32 {
	n := 0
	if off < t.size {
		n = int(min(int64(len(b)), t.size-off))
		k := 0
		if t.f != nil {
			var err error
			if k, err = t.f.ReadAt(b[:n], off); err != nil && err != io.EOF { // behind its end is a hole
				return sqlite3.SQLITE_IOERR_READ // of a journal, zeros would end a rollback halfway
			}
		} else {
			t.each(off, min(off+int64(n), t.have), func(p []byte) { k += copy(b[k:], p) })
		}
		clear(b[k:n])
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
	if t.f != nil && n == 0 {
		t.f.Close()
		t.f, t.asked = nil, 0
	} else if t.f != nil {
		if err := t.f.Truncate(n); err != nil {
			return sqlite3.SQLITE_IOERR_TRUNCATE
		}
	}
	t.keep(n)
	t.shrink(n)
	return sqlite3.SQLITE_OK
}

func (t *tempFile) close() {
	t.shrink(0)
	if t.f != nil {
		t.f.Close()
	}
	t.keep(0)
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
