package sqlite

import (
	"strings"

	"github.com/nearsql/nearsql/wire"
	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// columnCache is what is known of a statement's columns. SQLite prepares a
// statement again when the schema has changed, and then all of it may differ.
type columnCache struct {
	known      bool
	reprepares int32 // as of which the rest was read
	count      int
	names      []string // nil before the first is asked for
	types      []string // the same
}

// check forgets what was read before SQLite prepared the statement again.
func (cc *columnCache) check(tls *libc.TLS, p uintptr) {
	if n := lib.Xsqlite3_stmt_status(tls, p, lib.SQLITE_STMTSTATUS_REPREPARE, 0); n != cc.reprepares {
		*cc = columnCache{reprepares: n}
	}
}

// ColumnCount returns the number of columns; 0 for a statement that returns no rows.
func (s *Stmt) ColumnCount() int {
	if s.p == 0 {
		return 0
	}
	if !s.columns.known {
		s.columns.count = int(lib.Xsqlite3_column_count(s.conn.tls, s.p))
		s.columns.known = true
	}
	return s.columns.count
}

// ColumnName returns the name of column i, from 0.
func (s *Stmt) ColumnName(i int) string {
	n := s.ColumnCount()
	if i < 0 || i >= n {
		return ""
	}
	if s.columns.names == nil {
		s.columns.names = make([]string, n)
		for i := range n {
			s.columns.names[i] = s.conn.names.get(lib.Xsqlite3_column_name(s.conn.tls, s.p, int32(i)))
		}
	}
	return s.columns.names[i]
}

// ColumnDeclType returns the type that column i was declared with; "" for an
// expression, or a column without one.
func (s *Stmt) ColumnDeclType(i int) string {
	n := s.ColumnCount()
	if i < 0 || i >= n {
		return ""
	}
	if s.columns.types == nil {
		s.columns.types = make([]string, n)
		for i := range n {
			s.columns.types[i] = s.conn.names.get(lib.Xsqlite3_column_decltype(s.conn.tls, s.p, int32(i)))
		}
	}
	return s.columns.types[i]
}

// The value of a column is that of the row that the newest Step returned;
// without a row, and beyond the columns, it is NULL.

// has says whether there is a row with a column i.
func (s *Stmt) has(i int) bool { return s.running && uint(i) < uint(s.ColumnCount()) }

// Column returns the value of column i; it is a copy.
func (s *Stmt) Column(i int) wire.Value {
	if !s.has(i) {
		return wire.Null
	}
	tls, n := s.conn.tls, int32(i)
	switch lib.Xsqlite3_column_type(tls, s.p, n) {
	case lib.SQLITE_INTEGER:
		return wire.Integer(lib.Xsqlite3_column_int64(tls, s.p, n))
	case lib.SQLITE_FLOAT:
		return wire.Float(lib.Xsqlite3_column_double(tls, s.p, n))
	case lib.SQLITE_TEXT:
		p := lib.Xsqlite3_column_text(tls, s.p, n) // before the length: it may convert
		return wire.Text(strings.Clone(viewString(p, int(lib.Xsqlite3_column_bytes(tls, s.p, n)))))
	case lib.SQLITE_BLOB:
		p := lib.Xsqlite3_column_blob(tls, s.p, n)
		return wire.BlobString(strings.Clone(viewString(p, int(lib.Xsqlite3_column_bytes(tls, s.p, n)))))
	}
	return wire.Null
}

// ColumnKind returns the class of column i. It is to be asked before another
// method converts the value.
func (s *Stmt) ColumnKind(i int) wire.Kind {
	if !s.has(i) {
		return wire.KindNull
	}
	return kindOf(lib.Xsqlite3_column_type(s.conn.tls, s.p, int32(i)))
}

func kindOf(t int32) wire.Kind {
	switch t {
	case lib.SQLITE_INTEGER:
		return wire.KindInteger
	case lib.SQLITE_FLOAT:
		return wire.KindFloat
	case lib.SQLITE_TEXT:
		return wire.KindText
	case lib.SQLITE_BLOB:
		return wire.KindBlob
	}
	return wire.KindNull
}

// ColumnInt64 returns column i as an integer, as CAST would make it.
func (s *Stmt) ColumnInt64(i int) int64 {
	if !s.has(i) {
		return 0
	}
	return lib.Xsqlite3_column_int64(s.conn.tls, s.p, int32(i))
}

// ColumnFloat returns column i as a float, as CAST would make it.
func (s *Stmt) ColumnFloat(i int) float64 {
	if !s.has(i) {
		return 0
	}
	return lib.Xsqlite3_column_double(s.conn.tls, s.p, int32(i))
}

// ColumnBytes returns the bytes of a blob, or of anything else as text. They
// are SQLite's: not to be written, and good until the next Step or Reset, or
// another method that converts the column. An empty value gives nil.
func (s *Stmt) ColumnBytes(i int) []byte {
	if !s.has(i) {
		return nil
	}
	tls, n := s.conn.tls, int32(i)
	p := lib.Xsqlite3_column_blob(tls, s.p, n)
	return view(p, int(lib.Xsqlite3_column_bytes(tls, s.p, n)))
}
