package sqlite

import (
	"fmt"

	"github.com/nearsql/nearsql/wire"
	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// bindings is the C memory that texts and blobs are bound from. SQLite reads
// them there (SQLITE_STATIC), so a value is copied once and costs no
// allocation when a statement runs again.
type bindings struct {
	all buffer   // what BindAll bound
	own []buffer // what Bind bound, by parameter; nil before the first text or blob
}

func (b *bindings) release(tls *libc.TLS) {
	b.all.release(tls)
	for i := range b.own {
		b.own[i].release(tls)
	}
	b.own = nil
}

// ParamCount returns the number of parameters: the highest index of one.
func (s *Stmt) ParamCount() int { return s.params }

// ParamName returns the name of parameter i, from 1, with its leading ':',
// '@', '$' or '?'; "" for a bare '?'.
func (s *Stmt) ParamName(i int) string {
	if s.p == 0 || i < 1 || i > s.params {
		return ""
	}
	return goString(lib.Xsqlite3_bind_parameter_name(s.conn.tls, s.p, int32(i)))
}

// ParamIndex returns the index of the parameter with a name, its leading
// character included; 0 if there is none.
func (s *Stmt) ParamIndex(name string) int {
	if s.p == 0 {
		return 0
	}
	z, err := s.conn.cName(name)
	if err != nil {
		return 0
	}
	return int(lib.Xsqlite3_bind_parameter_index(s.conn.tls, s.p, z))
}

// bindable returns an error if s can't be bound now. SQLite has the same check,
// but the memory of the old values is written before SQLite is asked.
func (s *Stmt) bindable() error {
	if s.p == 0 {
		return errFinalized
	}
	if s.running {
		return misuse("bind to a statement that runs")
	}
	return nil
}

// Bind sets parameter i, from 1. It stays set until it is bound again or
// ClearBindings.
func (s *Stmt) Bind(i int, v wire.Value) error {
	if err := s.bindable(); err != nil {
		return err
	}
	if i < 1 || i > s.params {
		return &Error{Code: CodeRange, Message: fmt.Sprintf("no parameter %d: the statement has %d", i, s.params), Offset: -1}
	}
	tls := s.conn.tls
	if !inMemory(v) {
		return s.bind(i, v, 0)
	}
	if s.binds.own == nil {
		s.binds.own = make([]buffer, s.params)
	}
	n := len(v.Str()) + 1
	b := &s.binds.own[i-1]
	if b.fits(n) {
		return s.bind(i, v, b.p)
	}
	fresh := newBuffer(tls, n)
	if fresh.p == 0 {
		return codeError(CodeNoMem)
	}
	err := s.bind(i, v, fresh.p)
	// The parameter is at fresh, or NULL after an error: nothing is at b.
	b.release(tls)
	if err != nil {
		fresh.release(tls)
	}
	*b = fresh
	return err
}

// BindAll sets all parameters, from the first; those beyond values become
// NULL. After an error all are NULL. For a statement that runs again it is the
// cheapest way to bind.
func (s *Stmt) BindAll(values []wire.Value) error {
	if err := s.bindable(); err != nil {
		return err
	}
	if len(values) > s.params {
		return &Error{Code: CodeRange, Message: fmt.Sprintf("%d values for %d parameters", len(values), s.params), Offset: -1}
	}
	need := 0
	for _, v := range values {
		if inMemory(v) {
			need += len(v.Str()) + 1
		}
	}
	tls := s.conn.tls
	old := buffer{}
	if need > 0 && !s.binds.all.fits(need) {
		fresh := newBuffer(tls, need)
		if fresh.p == 0 {
			return codeError(CodeNoMem)
		}
		old, s.binds.all = s.binds.all, fresh
	}
	p := s.binds.all.p
	for i := range s.params {
		v := wire.Null
		if i < len(values) {
			v = values[i]
		}
		if err := s.bind(i+1, v, p); err != nil {
			lib.Xsqlite3_clear_bindings(tls, s.p)
			old.release(tls)
			return err
		}
		if inMemory(v) {
			p += uintptr(len(v.Str()) + 1)
		}
	}
	old.release(tls) // no parameter is there any more
	return nil
}

// inMemory says whether v is bound from memory.
func inMemory(v wire.Value) bool { return v.Kind() == wire.KindText || v.Kind() == wire.KindBlob }

// bind sets parameter i; a text or blob is copied to p, which has room for it
// and a zero.
func (s *Stmt) bind(i int, v wire.Value, p uintptr) error {
	tls := s.conn.tls
	var rc int32
	switch v.Kind() {
	case wire.KindInteger:
		rc = lib.Xsqlite3_bind_int64(tls, s.p, int32(i), v.Int())
	case wire.KindFloat:
		rc = lib.Xsqlite3_bind_double(tls, s.p, int32(i), v.Float64())
	case wire.KindText:
		putString(p, v.Str())
		// UTF8_ZT: a zero follows, so column_text need not copy to add one.
		rc = lib.Xsqlite3_bind_text64(tls, s.p, int32(i), p, uint64(len(v.Str())), lib.SQLITE_STATIC, lib.SQLITE_UTF8_ZT)
	case wire.KindBlob:
		putString(p, v.Str())
		rc = lib.Xsqlite3_bind_blob64(tls, s.p, int32(i), p, uint64(len(v.Str())), lib.SQLITE_STATIC)
	default:
		rc = lib.Xsqlite3_bind_null(tls, s.p, int32(i))
	}
	if rc != lib.SQLITE_OK {
		e := s.conn.error(rc)
		e.Offset = -1
		return e
	}
	return nil
}

// ClearBindings sets all parameters to NULL and gives back their memory. It
// can make SQLite plan the statement anew, so a statement that is kept is
// cleared when it holds much memory (BindMemory), not after each run.
func (s *Stmt) ClearBindings() error {
	if err := s.bindable(); err != nil {
		return err
	}
	lib.Xsqlite3_clear_bindings(s.conn.tls, s.p)
	s.binds.release(s.conn.tls)
	return nil
}

// BindMemory returns the bytes of C memory that the bindings of s hold.
func (s *Stmt) BindMemory() int {
	n := s.binds.all.cap
	for _, b := range s.binds.own {
		n += b.cap
	}
	return n
}
