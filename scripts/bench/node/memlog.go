package main

import (
	"bytes"
	"sync"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
)

// memLog is a log in memory: it keeps entries in order, applies them and syncs nothing. It answers
// from a goroutine of its own, as the real one does.
type memLog struct {
	g    *pagestore.Group
	work chan func()
	done sync.WaitGroup

	index   uint64   // of the newest entry
	entries [][]byte // since the newest snapshot
	bytes   int64    // of all entries ever; sized by who measures them
}

// newMemLog starts the log of a group; stop ends it.
func newMemLog(g *pagestore.Group) *memLog {
	l := &memLog{g: g, work: make(chan func(), 1024)}
	g.SetLog(l)
	l.done.Go(func() {
		for f := range l.work {
			f()
		}
	})
	return l
}

func (l *memLog) stop() {
	close(l.work)
	l.done.Wait()
}

// Primary implements pagestore.Log.
func (l *memLog) Primary() error { return nil }

// Propose implements pagestore.Log.
func (l *memLog) Propose(entry []byte, done func(any, error)) {
	l.work <- func() {
		l.index++
		l.bytes += int64(len(entry))
		l.entries = append(l.entries, entry)
		done(l.g.Apply(l.index, 1, entry), nil)
	}
}

// Snapshot implements pagestore.Log.
func (l *memLog) Snapshot() error {
	type captured struct {
		c   *pagestore.Capture
		err error
	}
	ch := make(chan captured)
	l.work <- func() {
		c, err := l.g.Capture()
		ch <- captured{c, err}
		if err == nil {
			l.entries = nil
		}
	}
	c := <-ch
	if c.err != nil {
		return c.err
	}
	defer c.c.Release()
	var manifest bytes.Buffer
	return c.c.Persist(&manifest)
}

// logged is the number of entries and bytes so far.
func (l *memLog) logged() (entries uint64, bytes int64) {
	ch := make(chan struct{})
	l.work <- func() {
		entries, bytes = l.index, l.bytes
		close(ch)
	}
	<-ch
	return entries, bytes
}
