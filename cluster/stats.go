package cluster

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// warnEvery is how often a refusal of one kind is logged.
const warnEvery = time.Minute

// Stats is what a Net has seen since it was made.
type Stats struct {
	Accepted uint64
	Dialled  uint64
	Dropped  uint64          // accepted connections without a hello that could be answered, and those beyond HalfOpenMax
	Refused  map[Code]uint64 // by this node; unknown codes never
	Open     int             // connections now, dialled ones too
	HalfOpen int             // accepted connections without an answer, now
	Bytes    map[Purpose]Bytes
}

// Bytes is what went over connections of a purpose, after the hello.
type Bytes struct {
	Read, Written uint64
}

// Stats returns the counts of now.
func (n *Net) Stats() Stats {
	s := n.count.snapshot()
	n.mu.Lock()
	defer n.mu.Unlock()
	s.Open, s.HalfOpen = len(n.mu.conns), len(n.mu.halfOpen)
	return s
}

// Connected says whether there is a connection to or from a node.
func (n *Net) Connected(node string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.mu.conns {
		if c.Peer() == node {
			return true
		}
	}
	return false
}

// counters are the counts of a Net, and when a refusal was logged.
type counters struct {
	quiet time.Duration // constant
	bytes [256]struct{ read, written atomic.Uint64 }

	mu struct {
		sync.Mutex
		accepted, dialled, dropped uint64
		refused                    map[Code]uint64
		logged                     [codeCount]time.Time
		silent                     [codeCount]uint64 // refusals since then
	}
}

func (c *counters) accept() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.accepted++
}

func (c *counters) dial() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.dialled++
}

func (c *counters) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.dropped++
}

// refuse says whether to log a refusal, and how many were not logged before it.
func (c *counters) refuse(code Code, now time.Time) (log bool, silent uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.refused == nil {
		c.mu.refused = make(map[Code]uint64)
	}
	c.mu.refused[code]++
	if last := c.mu.logged[code]; !last.IsZero() && now.Sub(last) < c.quiet {
		c.mu.silent[code]++
		return false, 0
	}
	silent = c.mu.silent[code]
	c.mu.logged[code], c.mu.silent[code] = now, 0
	return true, silent
}

func (c *counters) read(p Purpose, n int)  { c.bytes[p].read.Add(uint64(n)) }
func (c *counters) wrote(p Purpose, n int) { c.bytes[p].written.Add(uint64(n)) }

func (c *counters) snapshot() Stats {
	s := Stats{Bytes: make(map[Purpose]Bytes)}
	for p := range c.bytes {
		b := Bytes{Read: c.bytes[p].read.Load(), Written: c.bytes[p].written.Load()}
		if b != (Bytes{}) {
			s.Bytes[Purpose(p)] = b
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Accepted, s.Dialled, s.Dropped = c.mu.accepted, c.mu.dialled, c.mu.dropped
	s.Refused = maps.Clone(c.mu.refused)
	return s
}
