package copies

import (
	"context"
	"sync"
	"time"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
)

// kept are the states of copies: those that are being sent, and those that broke off and may be asked for again. There is at most
// one for each text that a receiver drew.
type kept struct {
	limit int           // of those that nobody reads
	age   time.Duration // of these

	mu struct {
		sync.Mutex
		pins   map[string]*pin // by key
		idle   int
		closed bool // nothing more is kept
	}
}

// pin is one state. Who took it uses copy alone.
type pin struct {
	key  string
	copy *pagestore.PinnedCopy

	// Guarded by kept.mu:
	cancel func()    // ends who reads it; nil while nobody does
	since  time.Time // when it broke off
}

func newKept(limit int, age time.Duration) *kept {
	k := &kept{limit: limit, age: age}
	k.mu.pins = map[string]*pin{}
	return k
}

func (q *request) key() string { return q.path() + " " + q.fetch }

// take returns the state of a copy that broke off; nil if none is kept. busy says that another request reads it still; that one is
// told to end.
func (k *kept) take(q *request, cancel func()) (_ *pin, busy bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p, ok := k.mu.pins[q.key()]
	switch {
	case !ok:
		return nil, false
	case p.cancel != nil:
		p.cancel()
		return nil, true
	}
	p.cancel = cancel
	k.mu.idle--
	return p, false
}

// begin makes a new state that the caller reads. It is the caller's alone if one of the same key came to be meanwhile.
func (k *kept) begin(q *request, c *pagestore.PinnedCopy, cancel func()) *pin {
	p := &pin{key: q.key(), copy: c, cancel: cancel}
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.mu.pins[p.key]; !ok {
		k.mu.pins[p.key] = p
	}
	return p
}

// end is called by who read p. brokeOff keeps it for a while; else it is done with.
func (k *kept) end(p *pin, brokeOff bool) {
	k.mu.Lock()
	var old *pin
	own := k.mu.pins[p.key] == p
	switch {
	case own && brokeOff && !k.mu.closed && k.limit > 0:
		p.cancel, p.since = nil, time.Now()
		if k.mu.idle++; k.mu.idle > k.limit {
			old = k.oldestLocked()
			k.dropLocked(old)
		}
	default:
		if own {
			delete(k.mu.pins, p.key)
		}
		old = p
	}
	k.mu.Unlock()
	if old != nil {
		old.copy.Close()
	}
}

func (k *kept) oldestLocked() (oldest *pin) {
	for _, p := range k.mu.pins {
		if p.cancel == nil && (oldest == nil || p.since.Before(oldest.since)) {
			oldest = p
		}
	}
	return oldest
}

// dropLocked forgets one that nobody reads.
func (k *kept) dropLocked(p *pin) {
	delete(k.mu.pins, p.key)
	k.mu.idle--
}

// expire lets go of what broke off before the time given.
func (k *kept) expire(before time.Time) {
	k.mu.Lock()
	var old []*pin
	for _, p := range k.mu.pins {
		if p.cancel == nil && !p.since.After(before) {
			k.dropLocked(p)
			old = append(old, p)
		}
	}
	k.mu.Unlock()
	for _, p := range old {
		p.copy.Close()
	}
}

func (k *kept) run(ctx context.Context) error {
	tick := time.NewTicker(max(k.age/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			k.mu.Lock()
			k.mu.closed = true
			k.mu.Unlock()
			k.expire(time.Now())
			return ctx.Err()
		case <-tick.C:
			k.expire(time.Now().Add(-k.age))
		}
	}
}
