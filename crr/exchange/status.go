package exchange

import (
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/wire"
)

// Held is what is not merged before its time has come, because its site's clock ran ahead.
type Held struct {
	Stamp crr.Stamp     // of what is furthest ahead
	Ahead time.Duration // then
	Since time.Time
	Tries int
}

// hold notes what the guard of the clock holds back, and leaves the peer alone until it may be taken.
func (p *peer) hold(e *crr.SkewError, now time.Time, timing *Timing) {
	if p.held == nil {
		p.held = &Held{Since: now}
	}
	p.held.Stamp, p.held.Ahead = e.Stamp, e.Ahead
	p.held.Tries++
	p.failures++
	p.notBefore = now.Add(min(max(e.Ahead-crr.DefaultMaxSkew, timing.Backoff), timing.BackoffMax))
}

// Status is how a tenant stands, as far as is known here.
type Status struct {
	Known bool // false: the file has not been looked at since the node started
	Head  crr.Head
	Sites []SiteStatus
}

// SiteStatus is another site.
type SiteStatus struct {
	Peer
	Connected bool
	Silent    time.Duration // since its node was heard of last, or since this one began to watch for it: steps of the wall clock do not count; 0 while connected
	Vector    crr.Vector    // that it surely has
	More      bool          // it has, or may have, what is not here
	Lag       time.Duration // between its newest transaction that is known of and the newest that is here
	Held      *Held         // nil: nothing is held back
	Fresh     time.Time     // PullAll calls that began no later have brought all that it had; zero: none
	Trip      time.Duration // round trip; 0: not measured yet
	Offset    time.Duration // of its wall clock, ahead of the local one
	Failures  int           // in a row
}

// Status says how a tenant stands; false if the node is no site of it.
func (x *Exchange) Status(id wire.TenantID) (Status, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	t := x.mu.tenants[id]
	if t == nil {
		return Status{}, false
	}
	out := Status{Known: t.known, Head: t.head}
	newest := crr.Vector{}
	for _, p := range t.peers {
		newest.Join(p.vector)
	}
	for _, p := range t.peers {
		s := SiteStatus{Peer: p.Peer, Vector: p.vector.Clone(), More: p.hasMore(t), Fresh: p.fresh, Failures: p.failures}
		if p.held != nil {
			held := *p.held
			s.Held = &held
		}
		if n := x.mu.nodes[p.Node]; n != nil {
			s.Silent = time.Since(later(p.since, n.seen))
		}
		if l := x.linkLocked(p.Node); l != nil {
			s.Connected, s.Silent = true, 0
			if c, ok := l.clock.best(); ok {
				s.Trip, s.Offset = c.trip, c.offset
			}
		}
		if have, is := t.head.Vector[p.Site], newest[p.Site]; is > have && have != 0 {
			s.Lag = is.Time().Sub(have.Time())
		}
		out.Sites = append(out.Sites, s)
	}
	return out, true
}

// HeldBack is of how many sites, counted for each tenant, the guard of the clock holds changes back now.
func (x *Exchange) HeldBack() (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, t := range x.mu.tenants {
		for _, p := range t.peers {
			if p.held != nil {
				n++
			}
		}
	}
	return n
}

// Tenants is how many tenants this node is a site of.
func (x *Exchange) Tenants() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.mu.tenants)
}
