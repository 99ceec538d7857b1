package copies

import (
	"context"
	"sync"
	"time"
)

// pacer spreads the bytes of several senders over time. They take turns in the order in which they ask, so with chunks of
// one size all get the same.
type pacer struct {
	rate int64 // bytes per second; 0 is no bound

	mu struct {
		sync.Mutex
		next time.Time // when the next chunk may go
	}
}

func newPacer(rate int64) *pacer { return &pacer{rate: rate} }

// burst is by how much a chunk may go early: timers are no finer.
const burst = 5 * time.Millisecond

// wait returns when n bytes may go, or when ctx ends.
func (p *pacer) wait(ctx context.Context, n int) error {
	if p.rate <= 0 {
		return ctx.Err()
	}
	now := time.Now()
	p.mu.Lock()
	at := p.mu.next
	if at.Before(now) {
		at = now
	}
	p.mu.next = at.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	p.mu.Unlock()
	d := at.Sub(now)
	if d <= burst {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
