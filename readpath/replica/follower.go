package replica

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
)

// FollowerConfig is what a Follower needs. Zero numbers mean the defaults.
type FollowerConfig struct {
	Sink Sink
	// Dial opens a stream to a node: cluster.Net.Dial with cluster.PurposeStream.
	Dial func(ctx context.Context, node string) (net.Conn, error)
	// Feeders are the nodes that a tenant may be had from, the best first: inside its jurisdiction, and not this one. It must be quick.
	Feeders func(id wire.TenantID) []string
	Ticks   *readpath.Ticks
	Log     *slog.Logger // nil for none
	Timing  Timing

	// Window is how many bytes of entries and copies a feeder may have on their way. 4 MiB.
	Window int
	// TailBytes is how much is kept of each lane for those that follow this node; 0 means the TailBytes of this package.
	TailBytes int64
}

// FollowerStats counts what a Follower did; for metrics.
type FollowerStats struct {
	Tenants  atomic.Int64 // followed
	Joined   atomic.Int64 // of them, joined now
	Streams  atomic.Int64 // open
	Txns     atomic.Int64
	TxnBytes atomic.Int64 // of entries
	Copies   atomic.Int64 // installed
	LTX      atomic.Int64 // installed
	Diverged atomic.Int64
	Refused  atomic.Int64 // streams that ended because of what the feeder sent
}

// Follower keeps copies of tenants that this node does not vote on.
type Follower struct {
	Stats FollowerStats

	cfg FollowerConfig
	log *slog.Logger

	wake chan struct{} // holds one: the manager has something to do

	mu struct {
		sync.Mutex
		running bool
		ended   bool
		tenants map[wire.TenantID]*followed
		links   map[string]*link
		changed chan struct{} // closed and replaced when a copy comes to contain more
	}
}

// followed is a tenant that is followed. All of it is guarded by Follower.mu.
type followed struct {
	id     wire.TenantID
	group  wire.GroupID
	policy uint32

	link    *link // nil while it is followed from nobody
	slot    stream.Slot
	lane    *laneIn // nil before enter
	tries   int     // feeders that it was not to be had from, in a row
	notYet  time.Time
	lost    time.Time // since when it is not joined
	hops    uint8     // of this node from the voters, as of when it was fed last; 0 if never
	moved   time.Time // when the feeder last sent something of it
	ending  bool      // Unfollow was called
	bound   uint8     // hops that the feeder must have fewer than
	anew    bool      // what is here is of no use: a copy is wanted
	busy    bool      // the Sink is at work on it for a link, which may have ended
	known   uint64    // entries of the tenant up to this index are contained
	joined  bool
	index   uint64 // up to which it was joined
	marks   uint64 // of the lane then
	before  *readpath.Pairs
	covered uint64 // of before
}

// NewFollower returns a Follower that follows nothing.
func NewFollower(cfg FollowerConfig) (*Follower, error) {
	switch {
	case cfg.Sink == nil:
		return nil, errors.New("replica: FollowerConfig.Sink is missing")
	case cfg.Dial == nil:
		return nil, errors.New("replica: FollowerConfig.Dial is missing")
	case cfg.Feeders == nil:
		return nil, errors.New("replica: FollowerConfig.Feeders is missing")
	case cfg.Ticks == nil:
		return nil, errors.New("replica: FollowerConfig.Ticks is missing")
	}
	if cfg.Window <= 0 {
		cfg.Window = 4 << 20
	}
	cfg.Window = max(cfg.Window, windowMin)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Timing.setDefaults()
	f := &Follower{cfg: cfg, log: cfg.Log, wake: make(chan struct{}, 1)}
	f.mu.tenants = make(map[wire.TenantID]*followed)
	f.mu.links = make(map[string]*link)
	f.mu.changed = make(chan struct{})
	return f, nil
}

// Follow lets this node follow a tenant from now on, or tells of a newer policy or another group of one that it follows. group is 0 if it
// is not known.
func (f *Follower) Follow(id wire.TenantID, group wire.GroupID, policy uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.mu.tenants[id]
	if t == nil {
		t = &followed{id: id, lost: time.Now()}
		f.mu.tenants[id] = t
		f.Stats.Tenants.Add(1)
	}
	t.policy = max(t.policy, policy)
	if t.group != group && group != 0 {
		f.detachLocked(t, true)
		t.group, t.known = group, 0
	}
	kick(f.wake)
}

// Unfollow ends that, and returns when the Sink is not at work on the tenant any more: the copy is the caller's to drop then. It is not to
// be called by a Sink.
func (f *Follower) Unfollow(id wire.TenantID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.mu.tenants[id]
	if t == nil || t.ending {
		return
	}
	t.ending = true
	f.detachLocked(t, true)
	for t.busy {
		changed := f.mu.changed
		f.mu.Unlock()
		<-changed
		f.mu.Lock()
	}
	delete(f.mu.tenants, id)
	f.Stats.Tenants.Add(-1)
}

// Follows says whether a tenant is followed.
func (f *Follower) Follows(id wire.TenantID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.tenants[id] != nil
}

// detachLocked ends that a tenant is followed from its feeder, and remembers how fresh it was. say lets the feeder know.
func (f *Follower) detachLocked(t *followed, say bool) {
	f.unjoinLocked(t)
	if t.lane != nil && t.lane.tenants[t.id] == t {
		delete(t.lane.tenants, t.id)
		t.lane.tail.Leave(t.id)
	}
	if l := t.link; l != nil {
		delete(l.slots, t.slot)
		l.abortLocked(t.slot)
		if say {
			l.sendLocked(stream.Unsubscribe{Slot: t.slot})
		}
	}
	t.link, t.lane, t.slot = nil, nil, 0
	kick(f.wake)
}

// unjoinLocked ends that marks cover a tenant; what is known of its freshness stays known.
func (f *Follower) unjoinLocked(t *followed) {
	if !t.joined {
		return
	}
	t.before, t.covered = t.lane.pairs, t.coveredLocked()
	t.known = max(t.known, t.covered)
	t.joined = false
	t.lost = time.Now()
	f.Stats.Joined.Add(-1)
}

// coveredLocked is the index up to which a joined tenant is contained.
func (t *followed) coveredLocked() uint64 {
	if t.lane.marks > t.marks {
		return max(t.index, t.lane.through)
	}
	return t.index
}

// Run follows until ctx ends, and returns nil after the last of its goroutines. It is called once.
func (f *Follower) Run(ctx context.Context) error {
	f.mu.Lock()
	if f.mu.running {
		f.mu.Unlock()
		return errors.New("replica: Run was called before")
	}
	f.mu.running = true
	f.mu.Unlock()
	var links sync.WaitGroup
	for ctx.Err() == nil {
		next := f.assign(func(l *link) { links.Go(func() { l.run(ctx) }) })
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
		case <-f.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	f.mu.Lock()
	f.mu.ended = true
	f.mu.Unlock()
	links.Wait()
	return nil
}

// assign gives each tenant without a feeder one, and starts links. It returns when it is to be called again.
func (f *Follower) assign(start func(*link)) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	next := time.Minute
	for _, t := range f.mu.tenants {
		if t.link != nil && !t.joined && !t.busy && t.link.connected && now.Sub(t.moved) > f.cfg.Timing.Relax {
			f.detachLocked(t, true) // the feeder has nobody to follow itself
			t.tries++
		}
		if t.link != nil && !t.joined {
			next = min(next, f.cfg.Timing.Relax)
		}
		if t.link != nil || t.busy || t.ending {
			continue
		}
		if wait := t.notYet.Sub(now); wait > 0 {
			next = min(next, wait)
			continue
		}
		if t.hops > 0 && now.Sub(t.lost) > f.cfg.Timing.Relax {
			t.hops = 0
		}
		nodes := f.cfg.Feeders(t.id)
		if len(nodes) == 0 {
			next = min(next, f.cfg.Timing.BackoffMax/4)
			continue
		}
		l, wait := f.pickLocked(t, nodes, now)
		if l == nil {
			next = min(next, wait)
			continue
		}
		if !l.running {
			l.running = true
			start(l)
		}
		l.takeLocked(t)
	}
	return max(next, time.Millisecond)
}

// pickLocked is the first of the nodes that may be tried now, beginning after as many as refused before.
func (f *Follower) pickLocked(t *followed, nodes []string, now time.Time) (*link, time.Duration) {
	wait := f.cfg.Timing.BackoffMax
	for i := range nodes {
		node := nodes[(t.tries+i)%len(nodes)]
		l := f.mu.links[node]
		if l == nil {
			l = newLink(f, node)
			f.mu.links[node] = l
		}
		if d := l.notBefore.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		return l, 0
	}
	return nil, wait
}

// jitter is a duration from half of d to d, so that those who lost a feeder together do not come together.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}

// retryLocked lets a tenant try the next feeder, a little later.
func (f *Follower) retryLocked(t *followed) {
	t.tries++
	d := f.cfg.Timing.BackoffMax
	if shift := t.tries / max(1, len(f.mu.links)); shift < 10 {
		d = min(d, f.cfg.Timing.Backoff<<shift)
	}
	t.notYet = time.Now().Add(jitter(d))
	kick(f.wake)
}

// announceLocked lets those go on who wait for a copy to contain more.
func (f *Follower) announceLocked() {
	close(f.mu.changed)
	f.mu.changed = make(chan struct{})
}
