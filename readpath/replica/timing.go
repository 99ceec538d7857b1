package replica

import "time"

// Timing is how patient the two ends of a stream are. Zero fields mean the defaults. Who turns it: tests, and clusters whose
// links stall for longer.
type Timing struct {
	// Heartbeat is how long an end is silent at most. 1 s.
	Heartbeat time.Duration
	// Dead is how long the other end may be silent. 5 s.
	Dead time.Duration
	// Probe is how long after a question the next is sent. 400 ms: what a copy shows is older than that by the time that an index, and what
	// leads to it, take on their way; together they should stay below 500 ms and a round trip.
	Probe time.Duration
	// Answer is how long an answer may take. 3 s.
	Answer time.Duration
	// Backoff is how long a feeder is left alone after its stream broke, at first and at most. 100 ms, 10 s.
	Backoff, BackoffMax time.Duration
	// Relax is how long a node that follows nobody insists on a feeder that is nearer to the voters than it was. 10 s.
	Relax time.Duration
	// Settle is about how long a tenant stays with the feeder that it has before it looks for a better one, and how long it waits after a failed
	// try, at first. 2 s.
	Settle time.Duration
}

func (t *Timing) setDefaults() {
	for p, v := range map[*time.Duration]time.Duration{
		&t.Heartbeat: time.Second, &t.Dead: 5 * time.Second, &t.Probe: 400 * time.Millisecond, &t.Answer: 3 * time.Second,
		&t.Backoff: 100 * time.Millisecond, &t.BackoffMax: 10 * time.Second, &t.Relax: 10 * time.Second, &t.Settle: 2 * time.Second,
	} {
		if *p <= 0 {
			*p = v
		}
	}
}

// retryParked is how often a feeder looks whether a copy that followed nobody follows somebody again.
const retryParked = 50 * time.Millisecond

// markEvery is how often a voter says unasked how far a lane is, while that changes: for those who are asked by nobody and relay, or
// ask another voter.
const markEvery = 50 * time.Millisecond

// heldMax is how long other tenants of a lane get no marks because one of them follows nobody.
const heldMax = time.Second

// slotWindow is how many bytes of a copy or LTX file may be on their way for one slot (FORMAT.md of wire/stream).
const slotWindow = 256 << 10
