package replica

import "time"

// Timing is how patient the two ends of a stream are. Zero fields mean the defaults. Who turns it: tests, and clusters whose
// links stall for longer.
type Timing struct {
	// Heartbeat is how long an end is silent at most. 1 s.
	Heartbeat time.Duration
	// Dead is how long the other end may be silent. 5 s.
	Dead time.Duration
	// Probe is how long after a question the next is sent to a feeder. 500 ms.
	Probe time.Duration
	// Answer is how long an answer may take. 3 s.
	Answer time.Duration
	// Backoff is how long a feeder is left alone after its stream broke, at first and at most. 100 ms, 10 s.
	Backoff, BackoffMax time.Duration
	// Relax is how long a node that follows nobody insists on a feeder that is nearer to the voters than it was. 10 s.
	Relax time.Duration
}

func (t *Timing) setDefaults() {
	for p, v := range map[*time.Duration]time.Duration{
		&t.Heartbeat: time.Second, &t.Dead: 5 * time.Second, &t.Probe: 500 * time.Millisecond, &t.Answer: 3 * time.Second,
		&t.Backoff: 100 * time.Millisecond, &t.BackoffMax: 10 * time.Second, &t.Relax: 10 * time.Second,
	} {
		if *p <= 0 {
			*p = v
		}
	}
}

// retryParked is how often a feeder looks whether a copy that followed nobody follows somebody again.
const retryParked = 250 * time.Millisecond

// slotWindow is how many bytes of a copy or LTX file may be on their way for one slot (FORMAT.md of wire/stream).
const slotWindow = 256 << 10
