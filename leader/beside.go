package leader

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// besideBytes bounds the entries that are stored while raft sends them already: until they are in the log, recent has them.
const besideBytes = recentBytes / 2

// beside is a primary's entries on their way to its own disk, while raft sends them to the others already (Ongaro,
// "Consensus: Bridging Theory and Practice", 10.2.1): one sync takes place beside the other, instead of before it.
// raft believes that they are stored, and counts this node for their majority. So nothing that rests on that may
// leave this node, or be given to its machine, before they are; DESIGN.md says what that is.
type beside struct {
	turn chan struct{} // has something in it while the log is changed; a channel for the same reason as logstore's
	from time.Duration // how long storing must take for this to be worth its while
	took atomic.Int64  // by storing, smoothed, in ns; written by who has the turn

	mu struct {
		sync.Mutex
		// Indexes of the entries that are being stored; both 0 if there are none. If they could not be stored, they stay here.
		first, last uint64
		done        chan struct{} // closed when that has succeeded, or failed
	}
}

func newBeside(from time.Duration) *beside { return &beside{turn: make(chan struct{}, 1), from: from} }

// worth says whether storing takes so long here that the way by another goroutine is shorter.
func (b *beside) worth() bool { return b.took.Load() >= int64(b.from) }

// timed stores entries by the function given, and notes how long that takes. The caller has the turn.
func (b *beside) timed(entries []*raft.Log, store func([]*raft.Log) error) error {
	began := time.Now()
	err := store(entries)
	was := b.took.Load()
	b.took.Store(was + (int64(time.Since(began))-was)/8)
	return err
}

// start stores entries by the function given, and returns before that. The caller has the turn, and loses it when they are stored.
func (b *beside) start(entries []*raft.Log, store func([]*raft.Log) error) {
	done := make(chan struct{})
	b.mu.Lock()
	b.mu.first, b.mu.last, b.mu.done = entries[0].Index, entries[len(entries)-1].Index, done
	b.mu.Unlock()
	go func() {
		if err := b.timed(entries, store); err == nil {
			b.mu.Lock()
			b.mu.first, b.mu.last = 0, 0
			b.mu.Unlock()
		}
		close(done)
		<-b.turn
	}()
}

// bound is the largest index at or below the one given that is not of an entry that is being stored. What raft held before
// the call is stored up to there.
func (b *beside) bound(index uint64) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.first > 0 && index >= b.mu.first {
		return b.mu.first - 1
	}
	return index
}

// await returns when the entry of an index, which raft has, is no longer being stored: it is stored, or that failed.
func (b *beside) await(index uint64) {
	b.mu.Lock()
	first, done := b.mu.first, b.mu.done
	b.mu.Unlock()
	if first > 0 && index >= first {
		<-done
	}
}

// settle returns when what raft has is stored, or that failed.
func (b *beside) settle() { b.await(1<<64 - 1) }

// pending returns the last index of the entries that are being stored; 0 if there are none.
func (b *beside) pending() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.last
}

// besides says whether entries are stored beside: commands of a primary, which raft sends to others, and so few
// that recent has them all.
func (l *groupLog) besides(entries []*raft.Log) bool {
	if !l.beside.worth() || !l.leads() || !l.several() || len(entries) > recentEntries/2 {
		return false
	}
	size := int64(0)
	for _, e := range entries {
		size += entrySize(e)
		if e.Type != raft.LogCommand || size > besideBytes {
			return false
		}
	}
	return true
}
