package readpath

import "sync"

// Freshness is what is known of the age of a state: it contains all that was committed before AsOf.
type Freshness struct {
	Known bool
	AsOf  Instant
}

// Asked is the moment at which a question was sent.
type Asked struct {
	at  Instant
	era uint64
	seq uint64
}

// At is the moment.
func (a Asked) At() Instant { return a.at }

// pairsMax bounds the pairs that are kept. When there are more, every second of the older half goes.
const pairsMax = 64

// Pairs are what a node knows of one group's indexes: at this moment I asked, and this was the index.
type Pairs struct {
	ticks *Ticks

	mu struct {
		sync.Mutex
		seq   uint64
		pairs []pair // invariant: in the order in which they were asked
		era   uint64 // invariant: of all pairs
	}
}

type pair struct {
	asked Asked
	index uint64
}

// NewPairs returns no pairs.
func NewPairs(ticks *Ticks) *Pairs { return &Pairs{ticks: ticks} }

// Ask notes the moment. The question is sent after that, never before.
func (p *Pairs) Ask() Asked {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.seq++
	now, era := p.ticks.Now()
	return Asked{at: now, era: era, seq: p.mu.seq}
}

// Confirm notes the answer to a question.
func (p *Pairs) Confirm(a Asked, index uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.eraLocked()
	if a.era != p.mu.era {
		return
	}
	at := len(p.mu.pairs)
	for at > 0 && p.mu.pairs[at-1].asked.seq > a.seq {
		at--
	}
	p.mu.pairs = append(p.mu.pairs, pair{})
	copy(p.mu.pairs[at+1:], p.mu.pairs[at:])
	p.mu.pairs[at] = pair{a, index}
	if len(p.mu.pairs) > pairsMax {
		p.thinLocked()
	}
}

// thinLocked drops every second pair of the older half.
func (p *Pairs) thinLocked() {
	kept := p.mu.pairs[:0]
	for i, q := range p.mu.pairs {
		if i >= pairsMax/2 || i%2 == 1 {
			kept = append(kept, q)
		}
	}
	p.mu.pairs = kept
}

// eraLocked drops all pairs if the node stood still since.
func (p *Pairs) eraLocked() {
	if _, era := p.ticks.Now(); era != p.mu.era {
		p.mu.era = era
		p.mu.pairs = p.mu.pairs[:0]
	}
}

// Fresh says how fresh a state is that contains all up to an index.
func (p *Pairs) Fresh(index uint64) Freshness {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.eraLocked()
	for i := len(p.mu.pairs) - 1; i >= 0; i-- {
		if q := p.mu.pairs[i]; q.index <= index {
			return Freshness{Known: true, AsOf: q.asked.at}
		}
	}
	return Freshness{}
}
