package leader

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/nearsql/nearsql/leader/logstore"
	"github.com/nearsql/nearsql/leader/snapshots"
)

// groupLog is the log as raft sees it.
type groupLog struct {
	*logstore.Store
	several func() bool // whether the group has other members
	leads   func() bool // whether this node is the primary
	recent  recent      // what others of them read
	beside  *beside     // what is not stored yet

	mu struct {
		sync.Mutex
		// invariant: ascending; indexes of configurations that were in the log, the newest among them
		configurations []uint64
	}
}

// StoreLog implements raft.LogStore.
func (l *groupLog) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore. A primary's commands are stored when it has returned; all else before.
func (l *groupLog) StoreLogs(entries []*raft.Log) error {
	l.beside.turn <- struct{}{}
	if err := l.Err(); err != nil {
		<-l.beside.turn
		return err
	}
	if l.besides(entries) {
		l.recent.stored(entries) // before raft sends them
		l.beside.start(entries, l.Store.StoreLogs)
		return nil
	}
	defer func() { <-l.beside.turn }()
	if err := l.beside.timed(entries, l.Store.StoreLogs); err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type == raft.LogConfiguration {
			l.noteConfiguration(e.Index)
		}
	}
	if l.several() {
		l.recent.stored(entries)
	}
	return nil
}

// LastIndex implements raft.LogStore.
func (l *groupLog) LastIndex() (uint64, error) {
	if last := l.beside.pending(); last > 0 {
		return last, nil
	}
	return l.Store.LastIndex()
}

// GetLog implements raft.LogStore.
func (l *groupLog) GetLog(index uint64, entry *raft.Log) error {
	if l.recent.get(index, entry) {
		return nil
	}
	return l.Store.GetLog(index, entry)
}

// newGroupLog returns the log of a group. several and leads are asked when entries are stored; storeBeside is Config's.
func newGroupLog(store *logstore.Store, storeBeside time.Duration, several, leads func() bool) *groupLog {
	return &groupLog{Store: store, several: several, leads: leads, beside: newBeside(storeBeside)}
}

func (l *groupLog) noteConfiguration(index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// At most one is not committed: two would do.
	if n := len(l.mu.configurations); n >= 4 {
		l.mu.configurations = slices.Delete(l.mu.configurations, 0, n-3)
	}
	l.mu.configurations = append(l.mu.configurations, index)
}

// DeleteRange implements raft.LogStore. Of a log that is shortened at its
// beginning, the entry that its snapshot ends with stays: raft compares the
// entry before those that a primary sends, and has the snapshot's term for that
// only while nothing follows it. Without it a voter whose other entries
// are not the primary's could never follow again.
func (l *groupLog) DeleteRange(from, to uint64) error {
	l.beside.turn <- struct{}{}
	defer func() { <-l.beside.turn }()
	first, err := l.FirstIndex()
	if err != nil {
		return err
	}
	last, err := l.LastIndex()
	if err != nil {
		return err
	}
	switch {
	case from > to:
		return nil
	case to >= last:
		l.mu.Lock()
		l.mu.configurations = slices.DeleteFunc(l.mu.configurations, func(i uint64) bool { return i >= from })
		l.mu.Unlock()
	case from <= first && l.several():
		if to--; to < from {
			return nil
		}
	}
	l.recent.forget(from, to)
	return l.Store.DeleteRange(from, to)
}

// newestConfiguration is the index of the newest configuration; 0 if there is none.
func (l *groupLog) newestConfiguration(snaps *snapshots.Store) (uint64, error) {
	l.mu.Lock()
	if n := len(l.mu.configurations); n > 0 {
		defer l.mu.Unlock()
		return l.mu.configurations[n-1], nil
	}
	l.mu.Unlock()
	list, err := snaps.List()
	if err != nil || len(list) == 0 {
		return 0, err
	}
	return list[0].ConfigurationIndex, nil
}

// has says whether this node durably has all up to the entry of that index and
// term, which is committed.
func (l *groupLog) has(snaps *snapshots.Store, index, term uint64) (bool, error) {
	l.beside.settle()
	list, err := snaps.List()
	if err != nil {
		return false, err
	}
	if len(list) > 0 && list[0].Index >= index {
		return true, nil
	}
	var entry raft.Log
	if err := l.GetLog(index, &entry); errors.Is(err, raft.ErrLogNotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return entry.Term == term, l.Err()
}

// dropBehindSnapshot deletes a log that does not reach the newest snapshot, or
// has another entry where it ends: what a crash between installing a snapshot and deleting
// the log leaves behind. What it deletes is in the snapshot, or was never committed.
func (l *groupLog) dropBehindSnapshot(snaps *snapshots.Store) error {
	list, err := snaps.List()
	if err != nil || len(list) == 0 {
		return err
	}
	first, err := l.FirstIndex()
	if err != nil {
		return err
	}
	last, err := l.LastIndex()
	if err != nil || last == 0 {
		return err
	}
	end := list[0]
	switch {
	case last < end.Index:
	case first > end.Index:
		return nil
	default:
		var entry raft.Log
		if err := l.GetLog(end.Index, &entry); err != nil {
			return err
		}
		if entry.Term == end.Term {
			return nil
		}
	}
	return l.Store.DeleteRange(first, last)
}
