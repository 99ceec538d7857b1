package sqlite

import (
	"unsafe"

	"modernc.org/libc"
	"modernc.org/libc/sys/types"
)

// at returns the T at an address in C memory. The address never is one of the
// Go heap, so none of the rules about hiding pointers from the collector
// apply; unsafe.Add from nil says so to vet.
func at[T any](p uintptr) *T { return (*T)(unsafe.Add(nil, p)) }

// view returns n bytes of C memory; they are the caller's for as long as C
// keeps them.
func view(p uintptr, n int) []byte {
	if p == 0 || n <= 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Add(nil, p)), n)
}

// viewString is view as a string: valid only as long as C keeps the bytes.
func viewString(p uintptr, n int) string {
	if p == 0 || n <= 0 {
		return ""
	}
	return unsafe.String((*byte)(unsafe.Add(nil, p)), n)
}

// goString copies a zero-terminated string out of C memory.
func goString(p uintptr) string { return libc.GoString(p) }

// funcPtr returns what C code takes as the pointer of f, a function of the top
// level: its funcval, which is static data.
func funcPtr[F any](f F) uintptr {
	return *(*uintptr)(unsafe.Pointer(&struct{ f F }{f}))
}

func malloc(tls *libc.TLS, n int) uintptr { return libc.Xmalloc(tls, types.Size_t(n)) }

func calloc(tls *libc.TLS, n int) uintptr { return libc.Xcalloc(tls, 1, types.Size_t(n)) }

func free(tls *libc.TLS, p uintptr) {
	if p != 0 {
		libc.Xfree(tls, p)
	}
}

// buffer is a piece of C memory that is used again.
type buffer struct {
	p   uintptr
	cap int
}

// A buffer above bufferKeep bytes is given back when a quarter of it would do.
const bufferKeep = 64 << 10

// fits says whether b should be used for n bytes.
func (b *buffer) fits(n int) bool {
	return b.p != 0 && n <= b.cap && (b.cap <= bufferKeep || n > b.cap/4)
}

// newBuffer returns a buffer for at least n bytes; p is 0 when memory is out.
func newBuffer(tls *libc.TLS, n int) buffer {
	n = max(n, 64)
	if n <= bufferKeep { // to a power of two: the allocator does so anyway
		c := 64
		for c < n {
			c *= 2
		}
		n = c
	}
	p := malloc(tls, n)
	if p == 0 {
		return buffer{}
	}
	return buffer{p: p, cap: n}
}

func (b *buffer) release(tls *libc.TLS) {
	free(tls, b.p)
	*b = buffer{}
}

// putString writes s and a zero byte at p.
func putString(p uintptr, s string) {
	b := unsafe.Slice((*byte)(unsafe.Add(nil, p)), len(s)+1)
	b[copy(b, s)] = 0
}
