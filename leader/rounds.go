package leader

import (
	"context"
	"sync"
)

// rounds lets calls share the work of one: a call is answered by a round that
// begins after it came. At most one round is under way and one waits.
type rounds struct {
	// do makes a round.
	do func(context.Context) (uint64, error)

	wake chan struct{} // holds one
	mu   struct {
		sync.Mutex
		next    *round // that calls join; nil if none came since the last began
		stopped bool
	}
}

// round is what calls wait for.
type round struct {
	done  chan struct{}
	index uint64 // constant from when done is closed
	err   error
}

func newRounds(do func(context.Context) (uint64, error)) *rounds {
	return &rounds{do: do, wake: make(chan struct{}, 1)}
}

// join waits for the answer of the next round.
func (r *rounds) join(ctx context.Context) (uint64, error) {
	r.mu.Lock()
	if r.mu.stopped {
		r.mu.Unlock()
		return 0, ErrStopped
	}
	if r.mu.next == nil {
		r.mu.next = &round{done: make(chan struct{})}
		wake(r.wake)
	}
	n := r.mu.next
	r.mu.Unlock()
	select {
	case <-n.done:
		return n.index, n.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// run makes rounds until ctx ends.
func (r *rounds) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
		case <-r.wake:
		}
		r.mu.Lock()
		n := r.mu.next
		r.mu.next = nil
		r.mu.stopped = ctx.Err() != nil
		stopped := r.mu.stopped
		r.mu.Unlock()
		if n != nil {
			if stopped {
				n.err = ErrStopped
			} else {
				n.index, n.err = r.do(ctx)
			}
			close(n.done)
		}
		if stopped {
			return
		}
	}
}
