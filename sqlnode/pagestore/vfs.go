package pagestore

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

// vfsName is the name under which SQLite knows the VFS.
const vfsName = "nearsql"

// vfs is what SQLite's process-wide VFS registry forces to be process-wide: the
// registered structure, the table of open files, and the names that are being
// opened. Stores themselves are values that their owner passes around.
var vfs struct {
	once sync.Once
	err  error

	base  uintptr // the built-in VFS: randomness, time, sleep
	io    uintptr // methods of database files: in C memory, as SQLite does arithmetic on the address
	temp  uintptr // methods of temporary files
	files fileTable

	opening sync.Map // name -> *Handle, from Open until xOpen
	temps   sync.Map // *libc.TLS -> *TempSpace: whose temporary files these are

	chunks sync.Pool // of *[tempChunk]byte: memory of temporary files
}

// cfile is sqlite3_file as the VFS sees it: methods, then a place in the table.
type cfile struct {
	methods uintptr
	index   uintptr
}

// fileTable maps the numbers kept in C memory to Go values, without a lock for readers.
type fileTable struct {
	mu    sync.Mutex
	slots atomic.Pointer[[]*atomic.Value]
	free  []uintptr
}

// slot wraps what a place holds, so that all stored values have one type.
type slot struct {
	handle *Handle
	temp   *tempFile
}

func (t *fileTable) add(s slot) uintptr {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.free); n > 0 {
		i := t.free[n-1]
		t.free = t.free[:n-1]
		(*t.slots.Load())[i].Store(s)
		return i
	}
	var old []*atomic.Value
	if p := t.slots.Load(); p != nil {
		old = *p
	}
	grown := make([]*atomic.Value, max(64, 2*len(old)))
	copy(grown, old)
	for i := len(old); i < len(grown); i++ {
		grown[i] = &atomic.Value{}
		t.free = append(t.free, uintptr(i))
	}
	t.slots.Store(&grown)
	i := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	grown[i].Store(s)
	return i
}

func (t *fileTable) get(i uintptr) slot { return (*t.slots.Load())[i].Load().(slot) }

func (t *fileTable) remove(i uintptr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	(*t.slots.Load())[i].Store(slot{})
	t.free = append(t.free, i)
}

// funcPointer is a Go function as modernc's C code calls it: the address of its closure
// (https://golang.org/s/go11func). f must be a function at package level.
func funcPointer[T any](f T) uintptr {
	return *(*uintptr)(unsafe.Pointer(&struct{ f T }{f}))
}

// registerVFS makes the VFS known to SQLite, once per process.
func registerVFS() error {
	vfs.once.Do(func() { vfs.err = doRegisterVFS() })
	return vfs.err
}

func doRegisterVFS() error {
	if err := sqlite.Start(); err != nil {
		return fmt.Errorf("initialise SQLite: %w", err)
	}
	tls := libc.NewTLS()
	defer tls.Close()
	vfs.base = sqlite3.Xsqlite3_vfs_find(tls, 0)
	if vfs.base == 0 {
		return errors.New("SQLite has no built-in VFS")
	}
	methods := sqlite3.Tsqlite3_io_methods{
		FiVersion:               1,
		FxClose:                 funcPointer(xClose),
		FxRead:                  funcPointer(xRead),
		FxWrite:                 funcPointer(xWrite),
		FxTruncate:              funcPointer(xTruncate),
		FxSync:                  funcPointer(xSync),
		FxFileSize:              funcPointer(xFileSize),
		FxLock:                  funcPointer(xLock),
		FxUnlock:                funcPointer(xUnlock),
		FxCheckReservedLock:     funcPointer(xCheckReservedLock),
		FxFileControl:           funcPointer(xFileControl),
		FxSectorSize:            funcPointer(xSectorSize),
		FxDeviceCharacteristics: funcPointer(xDeviceCharacteristics),
	}
	if vfs.io = inC(tls, methods); vfs.io == 0 {
		return errors.New("register VFS: out of memory")
	}
	methods.FxClose = funcPointer(xTempClose)
	methods.FxRead = funcPointer(xTempRead)
	methods.FxWrite = funcPointer(xTempWrite)
	methods.FxTruncate = funcPointer(xTempTruncate)
	methods.FxFileSize = funcPointer(xTempFileSize)
	methods.FxLock = funcPointer(xTempLock)
	methods.FxUnlock = funcPointer(xTempLock)
	methods.FxFileControl = funcPointer(xTempFileControl)
	if vfs.temp = inC(tls, methods); vfs.temp == 0 {
		return errors.New("register VFS: out of memory")
	}

	err := registerLike(tls, vfsName, func(v *sqlite3.Tsqlite3_vfs) { // randomness, sleep, time, errors stay
		v.FszOsFile = int32(unsafe.Sizeof(cfile{}))
		v.FxOpen = funcPointer(xOpen)
		v.FxDelete = funcPointer(xDelete)
		v.FxAccess = funcPointer(xAccess)
		v.FxFullPathname = funcPointer(xFullPathname)
	})
	if err != nil {
		return err
	}
	return registerFileVFS(tls)
}

// registerLike makes a VFS known to SQLite that is the built-in one but for what set sets.
func registerLike(tls *libc.TLS, name string, set func(v *sqlite3.Tsqlite3_vfs)) error {
	v := *at[sqlite3.Tsqlite3_vfs](vfs.base)
	v.FpNext = 0
	var err error
	if v.FzName, err = libc.CString(name); err != nil {
		return fmt.Errorf("register VFS: %w", err)
	}
	set(&v)
	p := inC(tls, v)
	if p == 0 {
		return errors.New("register VFS: out of memory")
	}
	if rc := sqlite3.Xsqlite3_vfs_register(tls, p, 0); rc != sqlite3.SQLITE_OK {
		return fmt.Errorf("register VFS: result code %d", rc)
	}
	return nil
}

// inC returns a copy of v in C memory, for good, or 0.
func inC[T any](tls *libc.TLS, v T) uintptr {
	p := libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(v)))
	if p != 0 {
		*at[T](p) = v
	}
	return p
}

func handleOf(p uintptr) *Handle {
	return vfs.files.get(at[cfile](p).index).handle
}

func bytesAt(p uintptr, n int32) []byte { return unsafe.Slice(at[byte](p), int(n)) }

// at is the C memory at p as a T. Memory that SQLite allocates is not Go's, so that
// the rules for uintptr and the garbage collector don't concern it.
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

func xOpen(tls *libc.TLS, _, zName, pFile uintptr, flags int32, pOut uintptr) int32 {
	c := at[cfile](pFile)
	c.methods = 0
	if flags&sqlite3.SQLITE_OPEN_MAIN_DB == 0 {
		const temporary = sqlite3.SQLITE_OPEN_MAIN_JOURNAL | sqlite3.SQLITE_OPEN_TEMP_DB | sqlite3.SQLITE_OPEN_TRANSIENT_DB | sqlite3.SQLITE_OPEN_TEMP_JOURNAL | sqlite3.SQLITE_OPEN_SUBJOURNAL
		if flags&temporary == 0 {
			return sqlite3.SQLITE_CANTOPEN
		}
		c.index = vfs.files.add(slot{temp: newTempFile(tls, flags)})
		c.methods = vfs.temp
	} else {
		if zName == 0 {
			return sqlite3.SQLITE_CANTOPEN
		}
		h, ok := vfs.opening.LoadAndDelete(libc.GoString(zName))
		if !ok {
			return sqlite3.SQLITE_CANTOPEN
		}
		c.index = vfs.files.add(slot{handle: h.(*Handle)})
		c.methods = vfs.io
	}
	if pOut != 0 {
		if h := vfs.files.get(c.index).handle; h != nil && !h.writer {
			// So SQLite knows that BEGIN IMMEDIATE has nothing to lock here.
			flags = flags&^(sqlite3.SQLITE_OPEN_READWRITE|sqlite3.SQLITE_OPEN_CREATE) | sqlite3.SQLITE_OPEN_READONLY
		}
		*at[int32](pOut) = flags
	}
	return sqlite3.SQLITE_OK
}

func xDelete(_ *libc.TLS, _, _ uintptr, _ int32) int32 { return sqlite3.SQLITE_OK }

func xAccess(_ *libc.TLS, _, _ uintptr, _ int32, pRes uintptr) int32 {
	*at[int32](pRes) = 0 // there are no journals on disk
	return sqlite3.SQLITE_OK
}

func xFullPathname(tls *libc.TLS, _, zPath uintptr, n int32, out uintptr) int32 {
	if libc.Xstrlen(tls, zPath) >= libc.Tsize_t(n) {
		return sqlite3.SQLITE_CANTOPEN
	}
	libc.Xstrcpy(tls, out, zPath)
	return sqlite3.SQLITE_OK
}

func xClose(_ *libc.TLS, p uintptr) int32 {
	handleOf(p).close()
	vfs.files.remove(at[cfile](p).index)
	return sqlite3.SQLITE_OK
}

func xRead(_ *libc.TLS, p, buf uintptr, n int32, off int64) int32 {
	h := handleOf(p)
	short, err := h.read(bytesAt(buf, n), off)
	switch {
	case err != nil:
		return h.fail(err)
	case short:
		return sqlite3.SQLITE_IOERR_SHORT_READ
	}
	return sqlite3.SQLITE_OK
}

func xWrite(_ *libc.TLS, p, buf uintptr, n int32, off int64) int32 {
	h := handleOf(p)
	if err := h.put(bytesAt(buf, n), off); err != nil {
		return h.fail(err)
	}
	return sqlite3.SQLITE_OK
}

func xTruncate(_ *libc.TLS, p uintptr, size int64) int32 {
	h := handleOf(p)
	if err := h.truncate(size); err != nil {
		return h.fail(err)
	}
	return sqlite3.SQLITE_OK
}

func xSync(_ *libc.TLS, _ uintptr, _ int32) int32 { return sqlite3.SQLITE_OK }

func xFileSize(_ *libc.TLS, p, out uintptr) int32 {
	h := handleOf(p)
	*at[int64](out) = int64(h.size()) * int64(h.pageSize())
	return sqlite3.SQLITE_OK
}

func xLock(_ *libc.TLS, p uintptr, level int32) int32 { return handleOf(p).take(level) }

func xUnlock(_ *libc.TLS, p uintptr, level int32) int32 {
	handleOf(p).give(level)
	return sqlite3.SQLITE_OK
}

// xCheckReservedLock says that somebody writes, always. SQLite asks for nothing but to know whether a journal that is there was left by a crash, and is to be rolled back
// (hasHotJournal). None is: a journal ends with its connection. One that a rollback was not done with, since the store had been replaced, must not write its pages into
// what came after.
func xCheckReservedLock(_ *libc.TLS, _, out uintptr) int32 {
	*at[int32](out) = 1
	return sqlite3.SQLITE_OK
}

func xFileControl(_ *libc.TLS, p uintptr, op int32, _ uintptr) int32 {
	h := handleOf(p)
	switch op {
	case sqlite3.SQLITE_FCNTL_SYNC:
		if err := h.prepare(); err != nil {
			return h.fail(err)
		}
		return sqlite3.SQLITE_OK
	case sqlite3.SQLITE_FCNTL_COMMIT_PHASETWO:
		if err := h.publish(); err != nil {
			h.fail(err)
			return sqlite3.SQLITE_IOERR
		}
		return sqlite3.SQLITE_OK
	}
	return sqlite3.SQLITE_NOTFOUND
}

// xSectorSize is not asked with POWERSAFE_OVERWRITE set, but SQLite wants the method.
func xSectorSize(_ *libc.TLS, _ uintptr) int32 { return 512 }

// xDeviceCharacteristics says UNDELETABLE_WHEN_OPEN so that a rollback journal stays open between transactions.
func xDeviceCharacteristics(_ *libc.TLS, _ uintptr) int32 {
	return sqlite3.SQLITE_IOCAP_UNDELETABLE_WHEN_OPEN | sqlite3.SQLITE_IOCAP_POWERSAFE_OVERWRITE | sqlite3.SQLITE_IOCAP_SAFE_APPEND | sqlite3.SQLITE_IOCAP_SUBPAGE_READ
}
