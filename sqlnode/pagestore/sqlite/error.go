package sqlite

import (
	"errors"
	"fmt"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// Error is an error that SQLite reported, or this package in its manner.
type Error struct {
	Code    int    // extended result code, as CodeConstraintUnique
	Message string // as sqlite3_errmsg gives it
	Offset  int    // byte offset in the SQL of the token that the error is about; -1 if there is none
}

// Error returns the message and the code, as SQLite's shell prints them:
// "UNIQUE constraint failed: t.a (2067)".
func (e *Error) Error() string { return fmt.Sprintf("%s (%d)", e.Message, e.Code) }

// Primary returns the primary result code: the low byte of Code.
func (e *Error) Primary() int { return e.Code & 0xff }

// ErrorCode returns the extended result code of the Error that err wraps; CodeOK
// for nil, and CodeError if err wraps none.
func ErrorCode(err error) int {
	if err == nil {
		return CodeOK
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeError
}

// LeakError is returned by Close when statements were left. The connection
// and the statements are closed all the same.
type LeakError struct {
	Statements int    // how many
	SQL        string // text of the newest of them
}

// Error says how many statements were left.
func (e *LeakError) Error() string {
	return fmt.Sprintf("connection closed with %d statements left, such as %.100q", e.Statements, e.SQL)
}

// codeError is the error of a result code for which no connection has a text.
func codeError(code int) *Error {
	tls := libc.NewTLS()
	defer tls.Close()
	return &Error{Code: code, Message: goString(lib.Xsqlite3_errstr(tls, int32(code))), Offset: -1}
}

func misuse(format string, args ...any) *Error {
	return &Error{Code: CodeMisuse, Message: fmt.Sprintf(format, args...), Offset: -1}
}

// error is the error of the call that has just returned rc on c.
func (c *Conn) error(rc int32) *Error {
	e := &Error{Code: int(rc), Offset: -1}
	// The text of the connection belongs to its newest call that fails; a
	// call that sets none (a bind out of range, say) leaves an older one.
	if code := lib.Xsqlite3_extended_errcode(c.tls, c.db); code == rc || code == rc&0xff {
		e.Message = goString(lib.Xsqlite3_errmsg(c.tls, c.db))
		e.Offset = int(lib.Xsqlite3_error_offset(c.tls, c.db))
	} else {
		e.Message = goString(lib.Xsqlite3_errstr(c.tls, rc))
	}
	return e
}
