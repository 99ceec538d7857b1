package pagestore

import (
	"context"
	"sync"
)

// buildQueue hands tenants with entries to build to the builders. It is as long as there
// are tenants at most, as each is in it once; what their entries take is bounded by throttle.
type buildQueue struct {
	mu struct {
		sync.Mutex
		tenants []*Tenant
		bytes   int64 // of all entries not built yet
		workers int
	}
	ready chan struct{} // has an item when tenants may not be empty
	room  chan struct{} // has an item when bytes or workers went down
}

func (q *buildQueue) init() {
	q.ready, q.room = make(chan struct{}, 1), make(chan struct{}, 1)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// put adds a tenant. It never blocks.
func (q *buildQueue) put(t *Tenant) {
	q.mu.Lock()
	q.mu.tenants = append(q.mu.tenants, t)
	q.mu.Unlock()
	signal(q.ready)
}

// take returns the tenant that waits longest, or nil when ctx ends.
func (q *buildQueue) take(ctx context.Context) *Tenant {
	for ctx.Err() == nil {
		q.mu.Lock()
		if len(q.mu.tenants) > 0 {
			t := q.mu.tenants[0]
			q.mu.tenants[0] = nil
			q.mu.tenants = q.mu.tenants[1:]
			if len(q.mu.tenants) > 0 {
				signal(q.ready)
			}
			q.mu.Unlock()
			return t
		}
		q.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-q.ready:
		}
	}
	return nil
}

// work counts a builder, until what it returns is called.
func (q *buildQueue) work() func() {
	q.workers(1)
	return func() { q.workers(-1) }
}

func (q *buildQueue) workers(n int) {
	q.mu.Lock()
	q.mu.workers += n
	q.mu.Unlock()
	signal(q.room)
}

// add counts bytes of entries that wait, or with n below zero wait no more.
func (q *buildQueue) add(n int64) {
	q.mu.Lock()
	q.mu.bytes += n
	q.mu.Unlock()
	if n < 0 {
		signal(q.room)
	}
}

// throttle waits while more than limit bytes wait and builders are at work. It is called by
// those who apply entries.
func (q *buildQueue) throttle(limit int64) {
	for waited := false; ; waited = true {
		q.mu.Lock()
		wait := q.mu.bytes > limit && q.mu.workers > 0
		q.mu.Unlock()
		if !wait {
			if waited {
				signal(q.room) // others may wait for the same room
			}
			return
		}
		<-q.room
	}
}
