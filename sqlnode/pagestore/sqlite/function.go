package sqlite

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/nearsql/nearsql/wire"
	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// FuncFlags says what SQLite may take for granted of a function
// (https://www.sqlite.org/c3ref/c_deterministic.html).
type FuncFlags uint32

// Flags of functions.
const (
	Deterministic FuncFlags = lib.SQLITE_DETERMINISTIC // same arguments, same result, always
	Innocuous     FuncFlags = lib.SQLITE_INNOCUOUS     // harmless: may be used by a schema that isn't trusted
	DirectOnly    FuncFlags = lib.SQLITE_DIRECTONLY    // never from views, triggers, constraints, indexes
)

// functionTable holds the functions of a connection. A slot is used again
// when SQLite has dropped its function.
type functionTable struct {
	funcs []function
	args  []Arg // a stack: functions may run SQL that calls functions
	depth int
	ctxs  []*Context // one for each depth
}

type function struct {
	name string
	f    func(*Context, []Arg)
}

// functionRef is what SQLite keeps for a function, in C memory.
type functionRef struct {
	conn handle
	slot uint32
}

// RegisterFunc makes f an SQL function with nArgs arguments, -1 for any
// number. It takes the place of one with the same name and nArgs, also of one
// built in. While statements run on c it fails with CodeBusy if there is such
// a function. f sets one result by its Context; without one it is NULL. Neither
// the Context nor an Arg may be used after f returns.
func (c *Conn) RegisterFunc(name string, nArgs int, flags FuncFlags, f func(*Context, []Arg)) error {
	if c.db == 0 {
		return errClosed
	}
	if f == nil || name == "" || nArgs < -1 {
		return misuse("register function %q with %d arguments", name, nArgs)
	}
	z, err := c.cName(name)
	if err != nil {
		return err
	}
	ref := malloc(c.tls, int(unsafe.Sizeof(functionRef{})))
	if ref == 0 {
		return codeError(CodeNoMem)
	}
	t := &c.functions
	slot := 0
	for slot < len(t.funcs) && t.funcs[slot].f != nil {
		slot++
	}
	if slot == len(t.funcs) {
		t.funcs = append(t.funcs, function{})
	}
	t.funcs[slot] = function{name: name, f: f}
	*at[functionRef](ref) = functionRef{conn: c.h, slot: uint32(slot)}
	// SQLite calls onFunctionDropped also when it fails.
	rc := lib.Xsqlite3_create_function_v2(c.tls, c.db, z, clampInt32(nArgs), int32(lib.SQLITE_UTF8|flags), ref,
		funcPtr(onFunction), 0, 0, funcPtr(onFunctionDropped))
	if rc != lib.SQLITE_OK {
		return fmt.Errorf("register function %q: %w", name, c.error(rc))
	}
	return nil
}

func onFunctionDropped(tls *libc.TLS, ref uintptr) {
	r := *at[functionRef](ref)
	if c := handles.get(r.conn); c != nil {
		c.functions.funcs[r.slot] = function{}
	}
	free(tls, ref)
}

func onFunction(tls *libc.TLS, p uintptr, n int32, values uintptr) {
	r := *at[functionRef](lib.Xsqlite3_user_data(tls, p))
	c := handles.get(r.conn)
	if c == nil {
		return
	}
	t := &c.functions
	if t.depth == len(t.ctxs) {
		t.ctxs = append(t.ctxs, new(Context))
	}
	ctx := t.ctxs[t.depth]
	*ctx = Context{conn: c, p: p}
	base := len(t.args)
	for i := range uintptr(n) {
		t.args = append(t.args, Arg{tls: tls, p: *at[uintptr](values + i*unsafe.Sizeof(values))})
	}
	t.depth++
	// The caller's slice stays good if the stack moves under it.
	t.funcs[r.slot].f(ctx, t.args[base:len(t.args):len(t.args)])
	t.depth--
	t.args = t.args[:base]
}

// Arg is an argument of a function.
type Arg struct {
	tls *libc.TLS
	p   uintptr // sqlite3_value*
}

// Kind returns the class of a. It is to be asked before another method
// converts the value.
func (a Arg) Kind() wire.Kind { return kindOf(lib.Xsqlite3_value_type(a.tls, a.p)) }

// Int returns a as an integer, as CAST would make it.
func (a Arg) Int() int64 { return lib.Xsqlite3_value_int64(a.tls, a.p) }

// Float returns a as a float, as CAST would make it.
func (a Arg) Float() float64 { return lib.Xsqlite3_value_double(a.tls, a.p) }

// Text returns a copy of a as text.
func (a Arg) Text() string {
	p := lib.Xsqlite3_value_text(a.tls, a.p) // before the length: it may convert
	return strings.Clone(viewString(p, int(lib.Xsqlite3_value_bytes(a.tls, a.p))))
}

// Bytes returns the bytes of a blob, or of anything else as text. They are
// SQLite's: not to be written, and good until the function returns or another
// method converts a. An empty value gives nil.
func (a Arg) Bytes() []byte {
	p := lib.Xsqlite3_value_blob(a.tls, a.p)
	return view(p, int(lib.Xsqlite3_value_bytes(a.tls, a.p)))
}

// Value returns a copy of a.
func (a Arg) Value() wire.Value {
	switch a.Kind() {
	case wire.KindInteger:
		return wire.Integer(a.Int())
	case wire.KindFloat:
		return wire.Float(a.Float())
	case wire.KindText:
		return wire.Text(a.Text())
	case wire.KindBlob:
		return wire.Blob(a.Bytes())
	}
	return wire.Null
}

// Context is one call of a function: where its result goes.
type Context struct {
	conn *Conn
	p    uintptr // sqlite3_context*
}

// Conn returns the connection that the function runs on.
func (x *Context) Conn() *Conn { return x.conn }

// Null makes the result NULL.
func (x *Context) Null() { lib.Xsqlite3_result_null(x.conn.tls, x.p) }

// Integer makes the result an integer.
func (x *Context) Integer(i int64) { lib.Xsqlite3_result_int64(x.conn.tls, x.p, i) }

// Float makes the result a float; NaN becomes NULL.
func (x *Context) Float(f float64) { lib.Xsqlite3_result_double(x.conn.tls, x.p, f) }

// Text makes the result a text, of which SQLite gets a copy.
func (x *Context) Text(s string) {
	if p := x.copy(s); p != 0 {
		lib.Xsqlite3_result_text64(x.conn.tls, x.p, p, uint64(len(s)), funcPtr(lib.Xsqlite3_free), lib.SQLITE_UTF8_ZT)
	}
}

// Blob makes the result a blob, of which SQLite gets a copy.
func (x *Context) Blob(b []byte) {
	if p := x.copy(unsafe.String(unsafe.SliceData(b), len(b))); p != 0 {
		lib.Xsqlite3_result_blob64(x.conn.tls, x.p, p, uint64(len(b)), funcPtr(lib.Xsqlite3_free))
	}
}

// copy puts s and a zero in memory that SQLite is to free. When memory is out
// the result is that error and the address 0.
func (x *Context) copy(s string) uintptr {
	p := lib.Xsqlite3_malloc64(x.conn.tls, uint64(len(s)+1))
	if p == 0 {
		lib.Xsqlite3_result_error_nomem(x.conn.tls, x.p)
		return 0
	}
	putString(p, s)
	return p
}

// Value makes the result v.
func (x *Context) Value(v wire.Value) {
	switch v.Kind() {
	case wire.KindInteger:
		x.Integer(v.Int())
	case wire.KindFloat:
		x.Float(v.Float64())
	case wire.KindText:
		x.Text(v.Str())
	case wire.KindBlob:
		if p := x.copy(v.Str()); p != 0 {
			lib.Xsqlite3_result_blob64(x.conn.tls, x.p, p, uint64(len(v.Str())), funcPtr(lib.Xsqlite3_free))
		}
	default:
		x.Null()
	}
}

// Error makes the statement fail with the text of err, and the code of the
// *Error that it wraps, else CodeError.
func (x *Context) Error(err error) {
	tls, text := x.conn.tls, err.Error()
	p := malloc(tls, len(text)+1)
	if p == 0 {
		lib.Xsqlite3_result_error_nomem(tls, x.p)
		return
	}
	putString(p, text)
	lib.Xsqlite3_result_error(tls, x.p, p, clampInt32(len(text))) // copies
	free(tls, p)
	if e, ok := errors.AsType[*Error](err); ok && e.Code != CodeOK {
		lib.Xsqlite3_result_error_code(tls, x.p, int32(e.Code))
	}
}
