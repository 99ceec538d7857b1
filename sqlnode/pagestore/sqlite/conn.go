package sqlite

import (
	"fmt"
	"strings"
	"sync"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// Conn is one connection to a database.
type Conn struct {
	tls *libc.TLS
	db  uintptr // sqlite3*; 0 once closed
	h   handle

	out  uintptr // outSize bytes of C memory for results by pointer
	text buffer  // SQL and names on their way to SQLite; never in use between two calls

	stmts *Stmt // newest of those not finalized; a list, so that Close ends them

	progress  func() bool
	authorize func(Action) Verdict
	names     interner
	functions functionTable

	mu struct {
		sync.Mutex
		db uintptr // as Conn.db, for Interrupt
	}
}

// outSize is the size of Conn.out: two pointers, or what db_config takes.
const outSize = 32

// Open opens a database on a VFS; vfs "" means SQLite's default.
func Open(name, vfs string, flags OpenFlags) (*Conn, error) {
	if strings.IndexByte(name, 0) >= 0 || strings.IndexByte(vfs, 0) >= 0 {
		return nil, misuse("open %q: NUL in the name of a database or VFS", name)
	}
	if flags&(ReadOnly|ReadWrite) == 0 {
		return nil, misuse("open %q: neither ReadOnly nor ReadWrite", name)
	}
	if err := start(); err != nil {
		return nil, fmt.Errorf("initialize SQLite: %w", err)
	}
	c := &Conn{tls: libc.NewTLS()}
	if err := c.open(name, vfs, flags); err != nil {
		c.release()
		return nil, fmt.Errorf("open %q: %w", name, err)
	}
	return c, nil
}

func (c *Conn) open(name, vfs string, flags OpenFlags) error {
	if c.out = calloc(c.tls, outSize); c.out == 0 {
		return codeError(CodeNoMem)
	}
	// Both texts in one piece: the VFS's name begins after the zero of the first.
	zName, err := c.cText(name + "\x00" + vfs)
	if err != nil {
		return err
	}
	var zVFS uintptr
	if vfs != "" {
		zVFS = zName + uintptr(len(name)) + 1
	}
	var ok bool
	if c.h, ok = handles.add(c); !ok {
		return &Error{Code: CodeNoMem, Message: "too many connections", Offset: -1}
	}
	rc := lib.Xsqlite3_open_v2(c.tls, zName, c.out, int32(flags|NoMutex|lib.SQLITE_OPEN_EXRESCODE), zVFS)
	c.db = *at[uintptr](c.out)
	if rc != lib.SQLITE_OK {
		e := codeError(int(rc))
		if c.db != 0 { // SQLite leaves a handle for the message
			e = c.error(rc)
			e.Offset = -1
			lib.Xsqlite3_close(c.tls, c.db)
			c.db = 0
		}
		return e
	}
	c.mu.Lock()
	c.mu.db = c.db
	c.mu.Unlock()
	return nil
}

// Close closes c; a second call does nothing. A transaction that is open is
// rolled back. Statements that were not finalized are, and reported by a
// *LeakError: c is closed nevertheless. With any other error c stays open.
func (c *Conn) Close() error {
	if c.db == 0 {
		return nil
	}
	// From here on Interrupt does nothing; one that is under way is done.
	c.mu.Lock()
	c.mu.db = 0
	c.mu.Unlock()

	var leak *LeakError
	for c.stmts != nil {
		if leak == nil {
			leak = &LeakError{SQL: c.stmts.sql}
		}
		leak.Statements++
		c.stmts.finalize()
	}
	if rc := lib.Xsqlite3_close(c.tls, c.db); rc != lib.SQLITE_OK {
		c.mu.Lock()
		c.mu.db = c.db
		c.mu.Unlock()
		return fmt.Errorf("close: %w", c.error(rc))
	}
	c.db = 0
	c.release()
	if leak != nil {
		return leak
	}
	return nil
}

// release gives back what c has outside of SQLite.
func (c *Conn) release() {
	handles.remove(c.h)
	c.h = 0
	free(c.tls, c.out)
	c.out = 0
	c.text.release(c.tls)
	c.tls.Close()
}

// TLS returns the thread state that c calls SQLite with. A VFS gets the same
// pointer in each call for c, and knows c by it.
func (c *Conn) TLS() *libc.TLS { return c.tls }

var errClosed = &Error{Code: CodeMisuse, Message: "connection is closed", Offset: -1}

// cText puts s, with a zero after it, in C memory; good until the next call of cText.
func (c *Conn) cText(s string) (uintptr, error) {
	if !c.text.fits(len(s) + 1) {
		c.text.release(c.tls)
		if c.text = newBuffer(c.tls, len(s)+1); c.text.p == 0 {
			return 0, codeError(CodeNoMem)
		}
	}
	putString(c.text.p, s)
	return c.text.p, nil
}

// cName is cText for a name, which can't have a zero in it.
func (c *Conn) cName(s string) (uintptr, error) {
	if strings.IndexByte(s, 0) >= 0 {
		return 0, misuse("NUL in the name %q", s)
	}
	return c.cText(s)
}

// Exec runs all statements in sql; rows are dropped. The Offset of an error is
// one in sql.
func (c *Conn) Exec(sql string) error {
	for base := 0; base < len(sql); {
		s, tail, err := c.Prepare(sql[base:], false)
		if err != nil {
			return shift(err, base)
		}
		if s != nil {
			for more := true; more && err == nil; {
				more, err = s.Step()
			}
			s.finalize()
			if err != nil {
				return shift(err, base)
			}
		}
		base += tail
	}
	return nil
}

// shift moves the offset of err, if it is an *Error with one, by n bytes.
func shift(err error, n int) error {
	if e, ok := err.(*Error); ok && e.Offset >= 0 {
		e.Offset += n
	}
	return err
}

// Autocommit says whether c is outside of BEGIN … COMMIT. It turns true as
// well when an error has made SQLite roll back.
func (c *Conn) Autocommit() bool {
	return c.db == 0 || lib.Xsqlite3_get_autocommit(c.tls, c.db) != 0
}

// Changes returns the rows changed by the newest INSERT, UPDATE or DELETE,
// without those of triggers and foreign keys.
func (c *Conn) Changes() int64 {
	if c.db == 0 {
		return 0
	}
	return lib.Xsqlite3_changes64(c.tls, c.db)
}

// TotalChanges returns the rows changed since c was opened, by triggers and
// foreign keys too.
func (c *Conn) TotalChanges() int64 {
	if c.db == 0 {
		return 0
	}
	return lib.Xsqlite3_total_changes64(c.tls, c.db)
}

// LastInsertRowID returns the rowid of the newest INSERT of c.
func (c *Conn) LastInsertRowID() int64 {
	if c.db == 0 {
		return 0
	}
	return lib.Xsqlite3_last_insert_rowid(c.tls, c.db)
}

// SetLastInsertRowID sets what LastInsertRowID, and last_insert_rowid() in
// SQL, return until the next INSERT.
func (c *Conn) SetLastInsertRowID(id int64) {
	if c.db != 0 {
		lib.Xsqlite3_set_last_insert_rowid(c.tls, c.db, id)
	}
}

// Interrupt makes the statements that run on c end with CodeInterrupt soon.
// It has no effect when none runs. It may be called from any goroutine at any
// time.
func (c *Conn) Interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.db != 0 {
		lib.Xsqlite3_interrupt(c.tls, c.mu.db)
	}
}

// Limit sets a limit and returns what it was; a negative value only asks. What
// SQLite was compiled with is an upper bound.
func (c *Conn) Limit(id LimitID, value int) int {
	if c.db == 0 {
		return 0
	}
	return int(lib.Xsqlite3_limit(c.tls, c.db, int32(id), clampInt32(value)))
}

func clampInt32(n int) int32 {
	const most = 1<<31 - 1
	return int32(min(max(n, -1), most))
}

// Config turns a switch of c on or off.
func (c *Conn) Config(op ConfigOp, on bool) error {
	if c.db == 0 {
		return errClosed
	}
	var value int32
	if on {
		value = 1
	}
	result := c.out + 16
	*at[int32](result) = 0
	rc := lib.Xsqlite3_db_config(c.tls, c.db, int32(op), libc.VaList(c.out, value, result))
	if rc != lib.SQLITE_OK {
		return fmt.Errorf("configure connection, option %d: %w", op, codeError(int(rc)))
	}
	if got := *at[int32](result) != 0; got != on {
		return fmt.Errorf("configure connection, option %d: it stays %t", op, got)
	}
	return nil
}

// Status returns a counter of c and its highest value; reset sets the highest
// value to the current one, and counts of events to 0.
func (c *Conn) Status(op ConnStatus, reset bool) (current, highest int, err error) {
	if c.db == 0 {
		return 0, 0, errClosed
	}
	rc := lib.Xsqlite3_db_status(c.tls, c.db, int32(op), c.out, c.out+8, libc.Bool32(reset))
	if rc != lib.SQLITE_OK {
		return 0, 0, fmt.Errorf("status %d of connection: %w", op, codeError(int(rc)))
	}
	return int(*at[int32](c.out)), int(*at[int32](c.out + 8)), nil
}

// DeferredForeignKeys says whether the transaction has foreign keys that are
// not satisfied yet, so that COMMIT would fail.
func (c *Conn) DeferredForeignKeys() bool {
	n, _, err := c.Status(statusDeferredFKs, false)
	return err == nil && n != 0
}

// ReleaseMemory gives back the cached pages that nothing holds, and other
// memory that c can do without.
func (c *Conn) ReleaseMemory() {
	if c.db != 0 {
		lib.Xsqlite3_db_release_memory(c.tls, c.db)
	}
}

// CacheFlush writes the dirty pages of the open transaction to the VFS,
// without committing; those in use by a statement are left (CodeBusy).
func (c *Conn) CacheFlush() error {
	if c.db == 0 {
		return errClosed
	}
	if rc := lib.Xsqlite3_db_cacheflush(c.tls, c.db); rc != lib.SQLITE_OK {
		return c.error(rc)
	}
	return nil
}

// TxnState returns how far a schema ("main") is in a transaction; of all of
// them the furthest for "". A name that c doesn't have is TxnNone.
func (c *Conn) TxnState(schema string) TxnState {
	if c.db == 0 {
		return TxnNone
	}
	var z uintptr
	if schema != "" {
		var err error
		if z, err = c.cName(schema); err != nil {
			return TxnNone
		}
	}
	return max(TxnNone, TxnState(lib.Xsqlite3_txn_state(c.tls, c.db, z)))
}

// ErrorOffset returns the byte offset in its SQL of the token that the newest
// failed call is about, or -1. Error.Offset is the same.
func (c *Conn) ErrorOffset() int {
	if c.db == 0 {
		return -1
	}
	return int(lib.Xsqlite3_error_offset(c.tls, c.db))
}

// FileControl calls xFileControl of the file of a schema; arg is an address in
// C memory, or what op makes of it.
func (c *Conn) FileControl(schema string, op int, arg uintptr) error {
	if c.db == 0 {
		return errClosed
	}
	z, err := c.cName(schema)
	if err != nil {
		return err
	}
	if rc := lib.Xsqlite3_file_control(c.tls, c.db, z, int32(op), arg); rc != lib.SQLITE_OK {
		return fmt.Errorf("file control %d of %q: %w", op, schema, codeError(int(rc)))
	}
	return nil
}

// DataVersion returns a number that changes when the content of a schema is
// changed, by c or by another connection, seen as of c's newest transaction.
func (c *Conn) DataVersion(schema string) (uint32, error) {
	if c.db == 0 {
		return 0, errClosed
	}
	if err := c.FileControl(schema, lib.SQLITE_FCNTL_DATA_VERSION, c.out); err != nil {
		return 0, err
	}
	return *at[uint32](c.out), nil
}
