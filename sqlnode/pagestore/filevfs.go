package pagestore

import (
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// fileVFSName is the name of the VFS for ordinary files beside the store, those of conflict-free tables. It is the built-in one but for statement
// journals: what a statement has changed so far, to be undone if it fails. The triggers of such tables have SQLite keep one for every statement, of each page
// that it writes. In a temporary file that halves the rate; in SQLite's own memory it is made of pieces of 1 KiB that are allocated and freed with each statement, which is a tenth of
// what a tracked write takes. Here it is a piece of memory that stays for the transaction (tempFile), and a file without a name when it gets large.
const fileVFSName = "nearsql-file"

// FileVFS is the name of the VFS that files of conflict-free tables are attached with, known to SQLite from then on. A connection on which no TempSpace was set has its
// statement journals in the default directory for temporary files when they are large, without a bound.
func FileVFS() (string, error) { return fileVFSName, registerVFS() }

func registerFileVFS(tls *libc.TLS) error {
	return registerLike(tls, fileVFSName, func(v *sqlite3.Tsqlite3_vfs) {
		v.FszOsFile = max(v.FszOsFile, int32(unsafe.Sizeof(cfile{})))
		v.FxOpen = funcPointer(xFileOpen)
	})
}

func xFileOpen(tls *libc.TLS, _, zName, pFile uintptr, flags int32, pOut uintptr) int32 {
	if flags&sqlite3.SQLITE_OPEN_SUBJOURNAL != 0 {
		return xOpen(tls, 0, zName, pFile, flags, pOut)
	}
	// With its own vfs: it keeps a pointer to that in the file.
	return callOpen(at[sqlite3.Tsqlite3_vfs](vfs.base).FxOpen)(tls, vfs.base, zName, pFile, flags, pOut)
}

type openFunc = func(tls *libc.TLS, vfs, zName, pFile uintptr, flags int32, pOut uintptr) int32

// callOpen is the inverse of funcPointer.
func callOpen(p uintptr) openFunc {
	return *(*openFunc)(unsafe.Pointer(&struct{ p uintptr }{p}))
}
