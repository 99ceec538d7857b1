package pagestore

import (
	"sync"
	"sync/atomic"
)

// Budget bounds the memory that page versions of all stores of a node take.
// Soft is where checkpoints are wanted, hard is where commits are refused.
type Budget struct {
	Soft, Hard int64 // bytes; constant after NewBudget

	used atomic.Int64

	pool struct {
		sync.Mutex
		free map[int][][]byte // by page size; at most poolPages of each
	}
}

// poolPages bounds the freed page buffers that are kept for reuse, per page size.
const poolPages = 2048

// NewBudget returns a budget of hard bytes, with the soft mark at half of it.
func NewBudget(hard int64) *Budget {
	b := &Budget{Soft: hard / 2, Hard: hard}
	b.pool.free = map[int][][]byte{}
	return b
}

// Used is the number of bytes of page versions in memory.
func (b *Budget) Used() int64 { return b.used.Load() }

// newPage returns a buffer of one page with any content.
func (b *Budget) newPage(size int) []byte {
	b.pool.Lock()
	if l := b.pool.free[size]; len(l) > 0 {
		p := l[len(l)-1]
		b.pool.free[size] = l[:len(l)-1]
		b.pool.Unlock()
		return p
	}
	b.pool.Unlock()
	return make([]byte, size)
}

// recycle takes back a buffer that nobody can see any more.
func (b *Budget) recycle(p []byte) {
	if p == nil {
		return
	}
	b.pool.Lock()
	if l := b.pool.free[len(p)]; len(l) < poolPages {
		b.pool.free[len(p)] = append(l, p)
	}
	b.pool.Unlock()
}
