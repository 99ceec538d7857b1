package readpath

import (
	"context"
	"errors"
	"sync"
)

// ErrEnded says that the part that was asked has ended.
var ErrEnded = errors.New("this part of the node has ended")

// Rounds lets questions share an answer: each is answered by a round that begins after it came. One round is under way and one waits.
type Rounds struct {
	ask func(context.Context) (uint64, error)

	mu struct {
		sync.Mutex
		running *round
		next    *round
		ended   bool
	}
	goroutines sync.WaitGroup
}

type round struct {
	done  chan struct{}
	index uint64 // constant once done is closed, as err
	err   error
}

// NewRounds returns Rounds that ask by calling ask, once per round. ask bounds the time that it takes.
func NewRounds(ask func(context.Context) (uint64, error)) *Rounds { return &Rounds{ask: ask} }

// Join waits for the answer of a round that begins after the call. Rounds run under the context of the call that began them.
func (r *Rounds) Join(ctx context.Context) (uint64, error) {
	n, err := r.join(context.WithoutCancel(ctx))
	if err != nil {
		return 0, err
	}
	select {
	case <-n.done:
		return n.index, n.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (r *Rounds) join(ctx context.Context) (*round, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.ended {
		return nil, ErrEnded
	}
	if r.mu.next == nil {
		r.mu.next = &round{done: make(chan struct{})}
	}
	n := r.mu.next
	if r.mu.running == nil {
		r.mu.running, r.mu.next = n, nil
		r.goroutines.Go(func() { r.run(ctx, n) })
	}
	return n, nil
}

// run makes rounds until none is wanted.
func (r *Rounds) run(ctx context.Context, n *round) {
	for n != nil {
		n.index, n.err = r.ask(ctx)
		close(n.done)
		r.mu.Lock()
		n, r.mu.next = r.mu.next, nil
		r.mu.running = n
		r.mu.Unlock()
	}
}

// End refuses further questions and returns after the last round.
func (r *Rounds) End() {
	r.mu.Lock()
	r.mu.ended = true
	r.mu.Unlock()
	r.goroutines.Wait()
}
