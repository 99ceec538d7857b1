package main

import (
	"bytes"
	"sync"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
)

// memLog is a log in memory: it keeps entries in order, applies them and syncs nothing.
//
// It answers before Propose returns, so that nothing but the engine is measured: faster than a real log
// may, since pagestore.Log has the answer come from another goroutine. One that is apart keeps to that, and so adds
// what waking two goroutines takes.
type memLog struct {
	g     *pagestore.Group
	apart chan func() // nil when it is not
	done  sync.WaitGroup

	mu      sync.Mutex
	index   uint64   // of the newest entry
	entries [][]byte // since the newest snapshot
	bytes   int64    // of all entries ever
}

// newMemLog starts the log of a group; stop ends it.
func newMemLog(g *pagestore.Group, apart bool) *memLog {
	l := &memLog{g: g}
	g.SetLog(l)
	if apart {
		l.apart = make(chan func(), 1024)
		l.done.Go(func() {
			for f := range l.apart {
				f()
			}
		})
	}
	return l
}

func (l *memLog) stop() {
	if l.apart != nil {
		close(l.apart)
		l.done.Wait()
	}
}

// Primary implements pagestore.Log.
func (l *memLog) Primary() error { return nil }

// Propose implements pagestore.Log.
func (l *memLog) Propose(entry []byte, done func(any, error)) {
	if l.apart != nil {
		l.apart <- func() { done(l.append(entry), nil) }
		return
	}
	done(l.append(entry), nil)
}

func (l *memLog) append(entry []byte) any {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.index++
	l.bytes += int64(len(entry))
	l.entries = append(l.entries, entry)
	return l.g.Apply(l.index, 1, entry)
}

// Snapshot implements pagestore.Log.
func (l *memLog) Snapshot() error {
	c, err := l.capture()
	if err != nil {
		return err
	}
	defer c.Release()
	var manifest bytes.Buffer
	return c.Persist(&manifest)
}

func (l *memLog) capture() (*pagestore.Capture, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, err := l.g.Capture()
	if err == nil {
		l.entries = nil
	}
	return c, err
}

// logged is the number of entries and bytes so far.
func (l *memLog) logged() (entries uint64, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.index, l.bytes
}
