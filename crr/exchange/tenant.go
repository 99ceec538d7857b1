package exchange

import (
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/wire"
)

// tenant is what is known of one tenant. All of it is guarded by Exchange.mu, but for the channels.
type tenant struct {
	id     wire.TenantID
	writer chan struct{} // held while frames are merged: those of a batch that comes in several are not mixed with others
	reader chan struct{} // held while an answer is read
	gone   bool

	at    time.Time // in the agenda
	place int       // in the agenda, from 1; 0: not in it

	peers []*peer // the nearest first, backups last

	// What the file has, as of the newest that was heard of it.
	known    bool
	head     crr.Head
	needHead bool // it is to be looked up
	looking  bool
	tries    int // look-ups that failed, in a row
	lookAt   time.Time
	changed  chan struct{} // closed and replaced when head, or what is known of a peer, changes

	// Heads to be sent.
	changedAt time.Time // since when it has changed and was not sent; zero: not
	headsAt   time.Time
	digestAt  time.Time
	urgent    bool
	stirred   bool // something of it was written since this node started

	// Pushes of local transactions.
	pushed   crr.Mark  // how far they were pushed; its site is 0 while the file has no number, or was not looked at
	pushedAt time.Time // when that was noted
	pushAt   time.Time // zero: nothing is to be pushed
	pushing  bool

	// Pushes of others.
	inbox    []*arrived
	early    []*arrived
	waiting  int // bytes of both
	merging  bool
	greeting map[*peer]crr.Vector // what peers said to have, for the site to hear

	pull *pull // under way
}

// arrived is a push to be merged.
type arrived struct {
	from  *peer
	heads uint64 // that had come from there before it
	data  []byte
	at    time.Time
}

// peer is another site of a tenant, as far as is known. All of it is guarded by Exchange.mu, but for its node, number and file, which are constant.
type peer struct {
	Peer
	vector crr.Vector // that it surely has
	exact  uint64     // hash of vector
	hash   uint64     // of what it has now; another one than exact: more, or something else
	told   bool       // hash was heard
	heads  uint64     // how many times it was
	greet  uint64     // hash of the vector that the site has heard from it
	moreAt time.Time  // when it is to be asked if it still has more; zero: not
	// After a failure.
	failures  int
	notBefore time.Time
	fetches   int // of copies, also those that came to nothing

	held  *Held // what the guard of the clock holds back
	fresh time.Time
	since time.Time // when this node began to watch for it
}

func newTenant(id wire.TenantID) *tenant {
	return &tenant{
		id: id, writer: make(chan struct{}, 1), reader: make(chan struct{}, 1), changed: make(chan struct{}),
		greeting: make(map[*peer]crr.Vector),
	}
}

// announce wakes those who wait for something of the tenant.
func (t *tenant) announce() {
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *tenant) peer(node string) *peer {
	for _, p := range t.peers {
		if p.Node == node {
			return p
		}
	}
	return nil
}

// setHead takes what the file has. It is called in any order; the newest counts.
func (t *tenant) setHead(h crr.Head, now time.Time, timing *Timing) {
	if t.known && t.head.File == h.File && h.Seq < t.head.Seq {
		return
	}
	moved := !t.known || t.head.Hash != h.Hash
	t.known, t.head, t.needHead, t.tries = true, h, false, 0
	if !t.pushed.Of(h.Identity) {
		t.pushed = h.Mark()
	}
	if !moved {
		return
	}
	t.tellLater(now, timing)
	for _, p := range t.peers {
		if !p.hasMore(t) {
			p.moreAt = time.Time{}
		}
	}
	t.announce()
}

// tellLater has the tenant's head sent when it is quiet.
func (t *tenant) tellLater(now time.Time, timing *Timing) {
	if t.changedAt.IsZero() {
		t.changedAt = now
	}
	t.headsAt = now.Add(timing.Quiet)
	if last := t.changedAt.Add(timing.QuietMax); last.Before(t.headsAt) {
		t.headsAt = last
	}
}

// hasMore says whether a peer has, or may have, what the file lacks.
func (p *peer) hasMore(t *tenant) bool {
	if !t.known || p.Site == 0 {
		return false
	}
	if !t.head.Vector.Covers(p.vector) {
		return true
	}
	return p.told && p.hash != p.exact && p.hash != t.head.Hash
}

// has takes the vector that the peer said to have, as it is told: nothing that it sent later has been taken before. It is asked from at on, if it has more.
func (p *peer) has(t *tenant, v crr.Vector, at time.Time) {
	p.vector = v.Clone()
	p.exact = p.vector.Hash()
	p.hash, p.told = p.exact, true
	p.suspect(t, at)
	t.announce()
}

// hasAtLeast takes a vector that the peer had at some time, or more: of a push, or of a pull. newest: it has told no head since. Otherwise a
// head that differs from what was known goes on to do so: what it told of may be newer than v.
func (p *peer) hasAtLeast(t *tenant, v crr.Vector, newest bool, at time.Time) {
	settled := newest || !p.told || p.hash == p.exact
	v = v.Clone()
	v.Join(p.vector)
	p.vector, p.exact = v, v.Hash()
	if settled {
		p.hash, p.told = p.exact, true
	}
	p.suspect(t, at)
	t.announce()
}

// forget gives up what is known of the peer, since it may have been started anew from other files.
func (p *peer) forget() {
	p.vector, p.exact, p.hash, p.told = nil, 0, 0, false
	p.moreAt = time.Time{}
}

// says takes the hash that the peer sent.
func (p *peer) says(t *tenant, hash uint64, at time.Time) {
	p.hash, p.told = hash, true
	p.heads++
	if t.known && hash == t.head.Hash {
		// It has just what is here.
		p.vector = t.head.Vector.Clone()
		p.exact = hash
	}
	p.suspect(t, at)
}

func (p *peer) suspect(t *tenant, at time.Time) {
	switch {
	case !p.hasMore(t):
		p.moreAt = time.Time{}
	case p.moreAt.IsZero() || at.Before(p.moreAt):
		p.moreAt = at
	}
}

// failed leaves the peer alone for a while.
func (p *peer) failed(now time.Time, timing *Timing) {
	p.failures++
	p.notBefore = now.Add(timing.backoff(p.failures))
}

func (p *peer) well() { p.failures, p.notBefore = 0, time.Time{} }
