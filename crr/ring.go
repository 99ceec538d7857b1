package crr

import (
	"slices"
	"sync"

	"github.com/nearsql/nearsql/wire"
)

// ring remembers the rows changed lately, in the order of their transactions'
// numbers. It spares the reading of all metadata; it may name rows whose change was rolled back.
//
// Its writer is the site's; readers on other goroutines ask it for what changed.
// A row is in the ring before its transaction commits, so a reader that sees the transaction finds it. The file's next writer has another ring, of which
// a reader that was made before knows nothing: when the writer is closed, which is before the next one is there, its ring answers nobody any more.
type ring struct {
	entries, bytes int // bounds; constant

	mu struct {
		sync.Mutex
		last  int64 // newest number given out; never given out again, also when its transaction is rolled back
		from  int64 // every change after this number is in list
		list  []touched
		bytes int
		ended bool // the writer is closed: it may not be the newest
	}
}

// touched is a changed row.
type touched struct {
	lseq int64
	row  rowID
}

// rowID names a row in a file.
type rowID struct {
	table uint32
	key   wire.Value
}

func (r *ring) next() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.last++
	return r.mu.last
}

// newest is the newest number given out.
func (r *ring) newest() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.last
}

// start empties the ring: what is up to last is known to the file alone.
func (r *ring) start(last int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.last = max(r.mu.last, last)
	r.mu.from, r.mu.list, r.mu.bytes = r.mu.last, nil, 0
}

// end is called when the writer is closed: others may write from then on.
func (r *ring) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.ended, r.mu.list, r.mu.bytes = true, nil, 0
}

func (r *ring) add(lseq int64, table uint32, key wire.Value) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := &r.mu
	m.list = append(m.list, touched{lseq, rowID{table, key}})
	m.bytes += key.Size()
	if len(m.list) <= r.entries && m.bytes <= r.bytes {
		return
	}
	// Half is dropped at once, and whole transactions only.
	cut := len(m.list) / 2
	m.from = m.list[cut].lseq
	for cut < len(m.list) && m.list[cut].lseq == m.from {
		cut++
	}
	m.list = slices.Delete(m.list, 0, cut) // in place: the ring's memory is used again
	m.bytes = 0
	for _, t := range m.list {
		m.bytes += t.row.key.Size()
	}
}

// since returns the rows changed after a number and up to another, each once; ok is false when the ring doesn't reach back so far, or
// can't know.
func (r *ring) since(after, upto int64) (rows []rowID, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.ended || after < r.mu.from {
		return nil, false
	}
	seen := make(map[rowID]bool)
	for i := len(r.mu.list) - 1; i >= 0 && r.mu.list[i].lseq > after; i-- {
		t := r.mu.list[i]
		if t.lseq <= upto && !seen[t.row] {
			seen[t.row] = true
			rows = append(rows, t.row)
		}
	}
	return rows, true
}

func (r *ring) size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.mu.list)
}
