package exchange

import (
	"math/rand/v2"
	"time"
)

// Timing is how long the exchange waits for what. Zero fields mean the defaults. Who turns it: tests, and clusters whose links stall for longer.
type Timing struct {
	// Heartbeat is how long an end is silent at most. 1 s.
	Heartbeat time.Duration
	// Dead is how long the other end may be silent. 5 s.
	Dead time.Duration
	// Gather is how long transactions are gathered for a push: at first, and while there are many. 5 ms, 20 ms.
	Gather, GatherMax time.Duration
	// Early is how long a push is kept for what it follows. 100 ms.
	Early time.Duration
	// Quiet is how long a tenant is quiet before its head is sent, and how long that is put off at most. 1 s, 5 s.
	Quiet, QuietMax time.Duration
	// Grace is how long another head is left to pushes that may be under way. 300 ms.
	Grace time.Duration
	// Digest is how often the head of each tenant is sent in any case. 5 min.
	Digest time.Duration
	// Stall is how long an answer may make no progress. 10 s.
	Stall time.Duration
	// Ask is how long PullAll waits for a peer. 3 s.
	Ask time.Duration
	// Backoff is how long a peer is left alone after a failure, at first and at most. 100 ms, 30 s.
	Backoff, BackoffMax time.Duration
}

func (t *Timing) setDefaults() {
	for p, v := range map[*time.Duration]time.Duration{
		&t.Heartbeat: time.Second, &t.Dead: 5 * time.Second, &t.Gather: 5 * time.Millisecond, &t.GatherMax: 20 * time.Millisecond,
		&t.Early: 100 * time.Millisecond, &t.Quiet: time.Second, &t.QuietMax: 5 * time.Second, &t.Grace: 300 * time.Millisecond,
		&t.Digest: 5 * time.Minute, &t.Stall: 10 * time.Second, &t.Ask: 3 * time.Second,
		&t.Backoff: 100 * time.Millisecond, &t.BackoffMax: 30 * time.Second,
	} {
		if *p <= 0 {
			*p = v
		}
	}
}

// backoff is how long to wait after n failures, the first being 1.
func (t *Timing) backoff(n int) time.Duration {
	d := t.BackoffMax
	if n < 12 {
		d = min(d, t.Backoff<<max(n-1, 0))
	}
	return d/2 + rand.N(d/2+1)
}
