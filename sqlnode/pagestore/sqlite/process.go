package sqlite

import (
	"sync"
	"sync/atomic"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// process is what SQLite has once per process.
var process struct {
	sync.Mutex
	started bool                      // sqlite3_initialize has succeeded
	cache   atomic.Pointer[PageCache] // nil: SQLite has its own; not under the mutex
}

// start initializes SQLite unless that has been done.
func start() error {
	process.Lock()
	defer process.Unlock()
	if process.started {
		return nil
	}
	tls := libc.NewTLS()
	defer tls.Close()
	configure(tls)
	if rc := lib.Xsqlite3_initialize(tls); rc != lib.SQLITE_OK {
		return codeError(int(rc))
	}
	process.started = true
	return nil
}

// Start initializes SQLite, as Open does, for who calls it in other ways.
func Start() error { return start() }

// configure has statement journals written to the VFS from their first byte, unless a connection keeps them in memory (its temp_store, or the journal_mode of
// the database). SQLite's own way is a piece of memory of 64 KiB first, which is allocated anew for each statement that needs a journal. It has to come before
// SQLite is initialized; where another package has done that it stays as it is, which is slower and nothing else.
func configure(tls *libc.TLS) {
	va := calloc(tls, 8)
	if va == 0 {
		return
	}
	defer free(tls, va)
	lib.Xsqlite3_config(tls, lib.SQLITE_CONFIG_STMTJRNL_SPILL, libc.VaList(va, int32(0)))
}

// Version returns the version of SQLite, as "3.54.1".
func Version() string { return lib.SQLITE_VERSION }

// CompileOptions returns the options that SQLite was compiled with, without
// their prefix "SQLITE_".
func CompileOptions() []string {
	tls := libc.NewTLS()
	defer tls.Close()
	var options []string
	for i := int32(0); ; i++ {
		p := lib.Xsqlite3_compileoption_get(tls, i)
		if p == 0 {
			return options
		}
		options = append(options, goString(p))
	}
}
