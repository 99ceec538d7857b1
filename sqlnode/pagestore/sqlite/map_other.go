//go:build !unix

package sqlite

import (
	"unsafe"

	"modernc.org/libc"
)

// mapMemory returns n bytes, all zero, outside of the Go heap.
func mapMemory(n int) ([]byte, error) {
	tls := libc.NewTLS()
	defer tls.Close()
	p := calloc(tls, n)
	if p == 0 {
		return nil, codeError(CodeNoMem)
	}
	return view(p, n), nil
}

// unmapMemory gives back what mapMemory returned.
func unmapMemory(b []byte) error {
	tls := libc.NewTLS()
	defer tls.Close()
	free(tls, uintptr(unsafe.Pointer(unsafe.SliceData(b))))
	return nil
}
