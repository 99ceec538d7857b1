//go:build unix

package sqlite

import "golang.org/x/sys/unix"

// mapMemory returns n bytes, all zero, outside of the Go heap.
func mapMemory(n int) ([]byte, error) {
	return unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
}

// unmapMemory gives back what mapMemory returned.
func unmapMemory(b []byte) error { return unix.Munmap(b) }
