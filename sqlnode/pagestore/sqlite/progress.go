package sqlite

import (
	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// SetProgress has f called after about everyNOps operations of the virtual
// machine; when it returns true the statement ends with CodeInterrupt. f must
// not use the connection. A nil f, or everyNOps below 1, ends it.
func (c *Conn) SetProgress(everyNOps int, f func() (stop bool)) {
	if c.db == 0 {
		return
	}
	if f == nil || everyNOps < 1 {
		c.progress = nil
		lib.Xsqlite3_progress_handler(c.tls, c.db, 0, 0, 0)
		return
	}
	c.progress = f
	lib.Xsqlite3_progress_handler(c.tls, c.db, clampInt32(everyNOps), funcPtr(onProgress), uintptr(c.h))
}

func onProgress(_ *libc.TLS, arg uintptr) int32 {
	c := handles.get(handle(arg))
	if c == nil || c.progress == nil {
		return 0
	}
	return libc.Bool32(c.progress())
}
