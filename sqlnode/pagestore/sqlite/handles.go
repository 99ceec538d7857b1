package sqlite

import (
	"sync"
	"sync/atomic"
)

// handle stands for a Conn in C memory: what SQLite hands back to a callback.
// 0 is none. 32 bits, so that it fits a C pointer anywhere.
type handle uint32

const (
	handleChunk  = 1 << 10
	handleChunks = 1 << 12
)

// handles maps numbers to connections for callbacks. Reading takes no lock: a
// callback runs once for each name in a statement. A number is given to a new
// Conn after the old one is closed, so the table is as large as the most
// connections ever open together, at most handleChunk*handleChunks.
type handleTable struct {
	chunks [handleChunks]atomic.Pointer[[handleChunk]atomic.Pointer[Conn]]

	mu struct {
		sync.Mutex
		next handle // numbers from here on have never been given
		free []handle
	}
}

var handles handleTable

// add gives c a number; false when there are no more.
func (t *handleTable) add(c *Conn) (handle, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var h handle
	if n := len(t.mu.free); n > 0 {
		h = t.mu.free[n-1]
		t.mu.free = t.mu.free[:n-1]
	} else {
		if t.mu.next+1 >= handleChunk*handleChunks {
			return 0, false
		}
		t.mu.next++
		h = t.mu.next
		if p := &t.chunks[h/handleChunk]; p.Load() == nil {
			p.Store(new([handleChunk]atomic.Pointer[Conn]))
		}
	}
	t.chunks[h/handleChunk].Load()[h%handleChunk].Store(c)
	return h, true
}

// get returns the connection of h; nil if it is closed.
func (t *handleTable) get(h handle) *Conn {
	if h >= handleChunk*handleChunks {
		return nil
	}
	chunk := t.chunks[h/handleChunk].Load()
	if chunk == nil {
		return nil
	}
	return chunk[h%handleChunk].Load()
}

// remove ends h.
func (t *handleTable) remove(h handle) {
	if h == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.chunks[h/handleChunk].Load()[h%handleChunk].Store(nil)
	t.mu.free = append(t.mu.free, h)
}
