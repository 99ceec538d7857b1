package sqlite

import (
	"strings"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// Stmt is a prepared statement of a Conn.
type Stmt struct {
	conn *Conn
	p    uintptr // sqlite3_stmt*; 0 once finalized
	sql  string

	prev, next *Stmt // in Conn.stmts; prev is the newer one

	running bool // a row has been returned and neither the end nor Reset has come

	params  int
	columns columnCache
	binds   bindings
}

// Prepare compiles the first statement in sql and returns how many bytes of
// sql belong to it, the semicolon included. Text that holds no statement, only
// blanks and comments, gives a nil Stmt. persistent says that the statement
// will be kept: SQLite then doesn't take memory for it that is best used for
// short.
func (c *Conn) Prepare(sql string, persistent bool) (_ *Stmt, tail int, _ error) {
	if c.db == 0 {
		return nil, 0, errClosed
	}
	if len(sql) >= 1<<31-1 {
		return nil, 0, &Error{Code: CodeTooBig, Message: "statement too long", Offset: -1}
	}
	if i := strings.IndexByte(sql, 0); i >= 0 {
		// SQLite would end the text here, and nobody would see the rest.
		return nil, 0, &Error{Code: CodeError, Message: "NUL in the text of a statement", Offset: i}
	}
	z, err := c.cText(sql)
	if err != nil {
		return nil, 0, err
	}
	var flags uint32
	if persistent {
		flags = lib.SQLITE_PREPARE_PERSISTENT
	}
	const pointer = 8 // room for one, whatever its size
	// The length counts the zero: SQLite then takes no copy of its own to add one.
	rc := lib.Xsqlite3_prepare_v3(c.tls, c.db, z, int32(len(sql)+1), flags, c.out, c.out+pointer)
	if rc != lib.SQLITE_OK {
		return nil, 0, c.error(rc)
	}
	p := *at[uintptr](c.out)
	tail = min(int(*at[uintptr](c.out + pointer)-z), len(sql))
	if p == 0 {
		return nil, tail, nil
	}
	s := &Stmt{conn: c, p: p, sql: sql[:tail], next: c.stmts}
	if s.next != nil {
		s.next.prev = s
	}
	c.stmts = s
	s.params = int(lib.Xsqlite3_bind_parameter_count(c.tls, p))
	return s, tail, nil
}

var errFinalized = &Error{Code: CodeMisuse, Message: "statement is finalized", Offset: -1}

// SQL returns the text that s was prepared from.
func (s *Stmt) SQL() string { return s.sql }

// Conn returns the connection of s.
func (s *Stmt) Conn() *Conn { return s.conn }

// Step runs s up to its next row: true means that there is one. When it
// returns false or an error, s has been reset: its locks are released, it can
// be bound and stepped again, from the start.
func (s *Stmt) Step() (row bool, _ error) {
	if s.p == 0 {
		return false, errFinalized
	}
	c := s.conn
	first := !s.running
	rc := lib.Xsqlite3_step(c.tls, s.p)
	if first {
		s.columns.check(c.tls, s.p) // SQLite prepares again in the first step only
	}
	if rc == lib.SQLITE_ROW {
		s.running = true
		return true, nil
	}
	s.running = false
	if rc == lib.SQLITE_DONE {
		lib.Xsqlite3_reset(c.tls, s.p)
		return false, nil
	}
	e := c.error(rc)
	lib.Xsqlite3_reset(c.tls, s.p) // says rc again
	return false, e
}

// Reset ends the run of s before its last row. In autocommit mode this is
// where a statement that writes commits, so it may fail. Bindings stay.
func (s *Stmt) Reset() error {
	if s.p == 0 {
		return errFinalized
	}
	if !s.running {
		return nil
	}
	s.running = false
	if rc := lib.Xsqlite3_reset(s.conn.tls, s.p); rc != lib.SQLITE_OK {
		return s.conn.error(rc)
	}
	return nil
}

// Running says whether s has returned a row and could return more: it then
// holds the transaction that it runs in open.
func (s *Stmt) Running() bool { return s.running }

// Finalize ends s; a second call does nothing. In autocommit mode it may fail
// as Reset may.
func (s *Stmt) Finalize() error {
	if s.p == 0 {
		return nil
	}
	err := s.Reset()
	s.finalize()
	return err
}

func (s *Stmt) finalize() {
	if s.p == 0 {
		return
	}
	c := s.conn
	lib.Xsqlite3_finalize(c.tls, s.p)
	s.p = 0
	s.running = false
	s.binds.release(c.tls) // SQLite pointed into it until now
	s.columns = columnCache{}
	s.params = 0
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		c.stmts = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	s.prev, s.next = nil, nil
}

// ReadOnly says whether s writes no database by itself. BEGIN, COMMIT,
// SAVEPOINT and the like are read-only too; EXPLAIN is what the explained
// statement is. A function that s calls may write.
func (s *Stmt) ReadOnly() bool {
	return s.p == 0 || lib.Xsqlite3_stmt_readonly(s.conn.tls, s.p) != 0
}

// Explain returns 1 for EXPLAIN, 2 for EXPLAIN QUERY PLAN, else 0.
func (s *Stmt) Explain() int {
	if s.p == 0 {
		return 0
	}
	return int(lib.Xsqlite3_stmt_isexplain(s.conn.tls, s.p))
}

// Status returns a counter of s, and sets it to 0 if reset.
func (s *Stmt) Status(op StmtStatus, reset bool) int {
	if s.p == 0 || op < StatusFullScanSteps || op > StatusMemUsed {
		return 0
	}
	// SQLite doesn't check op: it is an index into an array with nothing
	// between the last counter and StatusMemUsed.
	if op > StatusFilterHit && op != StatusMemUsed {
		return 0
	}
	if op == StatusReprepares && reset {
		s.columns.check(s.conn.tls, s.p)
		s.columns.reprepares = 0
	}
	return int(lib.Xsqlite3_stmt_status(s.conn.tls, s.p, int32(op), libc.Bool32(reset)))
}
