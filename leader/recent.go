package leader

import (
	"sync"

	"github.com/hashicorp/raft"
)

const (
	// recentEntries and recentBytes bound the entries that a group keeps in memory.
	recentEntries = 1024
	recentBytes   = 4 << 20
)

// recent has the newest entries of a log, as they were stored. raft reads each of them again: the primary for
// every follower and for the term of the entry before, a follower when it applies it. Without them
// each reading is one of the file, with a checksum.
type recent struct {
	mu struct {
		sync.RWMutex
		ring  []raft.Log // the entry of index i at i modulo its length; nil before the first
		first uint64     // invariant: the entries of first <= index < next are here, in the order of the log, without a gap
		next  uint64
		bytes int64 // of them
	}
}

// entrySize is what an entry counts for, in bytes.
func entrySize(e *raft.Log) int64 { return int64(len(e.Data) + len(e.Extensions)) }

// stored takes entries in that the log has, or is about to have (see beside).
func (r *recent) stored(entries []*raft.Log) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := &r.mu
	if m.ring == nil {
		m.ring = make([]raft.Log, recentEntries)
	}
	for _, e := range entries {
		if e.Index != m.next {
			r.dropLocked(m.first, m.next)
			m.first, m.next = e.Index, e.Index
		}
		for m.first < m.next && (m.next-m.first >= recentEntries || m.bytes+entrySize(e) > recentBytes) {
			r.dropLocked(m.first, m.first+1)
			m.first++
		}
		m.ring[e.Index%recentEntries] = *e
		m.next++
		m.bytes += entrySize(e)
	}
}

// dropLocked forgets the entries of from <= index < to.
func (r *recent) dropLocked(from, to uint64) {
	for i := from; i < to; i++ {
		e := &r.mu.ring[i%recentEntries]
		r.mu.bytes -= entrySize(e)
		*e = raft.Log{}
	}
}

// forget drops the entries of from <= index <= to, which the log is about to lose, at its beginning or its end.
func (r *recent) forget(from, to uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := &r.mu
	switch {
	case to < m.first || from >= m.next:
	case from <= m.first:
		end := min(to+1, m.next)
		r.dropLocked(m.first, end)
		m.first = end
	default: // what is behind them goes too
		r.dropLocked(from, m.next)
		m.next = from
	}
}

// get copies the entry of an index, and says whether it is here.
func (r *recent) get(index uint64, to *raft.Log) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if index < r.mu.first || index >= r.mu.next {
		return false
	}
	*to = r.mu.ring[index%recentEntries]
	return true
}
