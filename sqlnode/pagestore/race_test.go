//go:build race

package pagestore

// With a page cache of our own SQLite counts the memory of its page buffers without its
// mutex (pcache1 is never initialized), which is harmless and which the race detector reports.
const ownPageCache = false
