package pagestore

import (
	"context"
	"sync"
	"time"
)

// buildQueue hands tenants with entries to build to the builders. It is as long as there
// are tenants at most, as each is in it once; what their entries take is bounded by throttle.
type buildQueue struct {
	mu struct {
		sync.Mutex
		tenants []*Tenant
		later   []*putOff // in the order in which they are due
		bytes   int64     // of all entries not built yet
		workers int
	}
	ready chan struct{} // has an item when tenants may not be empty
	room  chan struct{} // has an item when bytes or workers went down
	due   chan struct{} // has an item when the first of later is a new one
}

// putOff is a tenant that waits for more to build, or for somebody to want it. It is guarded by the queue's lock.
type putOff struct {
	t   *Tenant // nil when it waits no more
	due time.Time
}

func (q *buildQueue) init() {
	q.ready, q.room, q.due = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
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

// putLater adds a tenant after a time, which is the same at each call, or when hurry is called with what it returns. It never blocks.
func (q *buildQueue) putLater(t *Tenant, after time.Duration) *putOff {
	p := &putOff{t, time.Now().Add(after)}
	q.mu.Lock()
	q.mu.later = append(q.mu.later, p)
	first := len(q.mu.later) == 1
	q.mu.Unlock()
	if first {
		signal(q.due)
	}
	return p
}

// hurry adds a tenant at once that was to be added later.
func (q *buildQueue) hurry(p *putOff) {
	q.mu.Lock()
	t := p.t
	p.t = nil
	if t != nil {
		q.mu.tenants = append(q.mu.tenants, t)
	}
	q.mu.Unlock()
	if t != nil {
		signal(q.ready)
	}
}

// fetchDue adds those that are due, and returns how long the next one has; 0 if there is none.
func (q *buildQueue) fetchDue(now time.Time) (next time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	found := false
	for len(q.mu.later) > 0 {
		p := q.mu.later[0]
		if next = p.due.Sub(now); p.t != nil && next > 0 {
			break
		}
		if p.t != nil {
			q.mu.tenants = append(q.mu.tenants, p.t)
			p.t, found = nil, true
		}
		q.mu.later[0] = nil
		q.mu.later = q.mu.later[1:]
		next = 0
	}
	if found {
		signal(q.ready)
	}
	return next
}

// keepTime adds tenants when they are due, until ctx ends.
func (q *buildQueue) keepTime(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := q.fetchDue(time.Now())
		timer.Stop()
		if next > 0 {
			timer.Reset(next)
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-q.due:
		}
	}
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
