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
)

// FollowerConfig is what a Follower needs. Zero numbers mean the defaults.
type FollowerConfig struct {
	Sink Sink
	// Dial opens a stream to a node: cluster.Net.Dial with cluster.PurposeStream.
	Dial func(ctx context.Context, node string) (net.Conn, error)
	// Feeders are the nodes that a tenant may be had from, the best first: inside its jurisdiction, and not this one. It must be quick. When its
	// answers change, Reconsider is to be called. Of those that don't vote, all nodes should name only such as come before themselves in one order
	// that they agree on: then no ring can come about. One that comes about breaks by itself, after a while without service.
	Feeders func(id wire.TenantID) []string
	// Voters are the nodes that vote in a group, as far as this node knows, the one to be asked first: for the index of a group whose
	// tenants come by relays alone. It must be quick. nil means to ask relays.
	Voters func(group wire.GroupID) []string
	Ticks  *readpath.Ticks
	Log    *slog.Logger // nil for none
	Timing Timing

	// Window is how many bytes of entries and copies a feeder may have on their way. 4 MiB.
	Window int
	// TailBytes is how much is kept of each lane for those that follow this node; 0 means the TailBytes of this package.
	TailBytes int64
	// Moves is how many tenants may be on their way from one feeder to a better one at a time. 32.
	Moves int
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
	Moved    atomic.Int64 // times that a tenant went from one feeder to a better one
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
		groups  map[wire.GroupID]*groupIn // never shrinks: there are tens of groups
		due     dueHeap                   // tenants that the manager is to look at, by time
		moving  int                       // tenants that have a next
		reseat  bool                      // who is asked for the indexes of groups is to be looked at
		changed chan struct{}             // closed and replaced when a copy comes to contain more
		idle    *sync.Cond                // a tenant is not busy any more
	}
}

// groupIn is a group that tenants are followed of. All of it is guarded by Follower.mu.
type groupIn struct {
	tenants   int // that are known to be of it
	pairs     *readpath.Pairs
	asker     *link     // the voter that is asked because all tenants come by relays; nil for none
	byVoter   bool      // a voter feeds a tenant, and is asked
	asked     time.Time // when the newest question was sent, to whomever
	confirmed time.Time // when the newest question was sent that was answered
}

// followed is a tenant that is followed. All of it is guarded by Follower.mu.
type followed struct {
	id     wire.TenantID
	group  wire.GroupID // see setGroupLocked
	policy uint32

	cur *sub // where it is followed from; nil while that is nobody
	// next is where it is followed from too, because that is better, until it is joined there. nil otherwise, and while cur is.
	next *sub

	due time.Time // when the manager looks at it
	at  int       // place in Follower.mu.due; -1 for none

	tries   int // feeders that it was not to be had from, in a row
	moves   int // of it to a better feeder that failed, in a row
	notYet  time.Time
	lost    time.Time // since when it is not joined
	hops    uint8     // of this node from the voters, as of when it was fed last; 0 if never
	ending  bool      // Unfollow was called
	anew    bool      // what is here is of no use: a copy is wanted
	busy    bool      // the Sink is at work on it for a link, which may have ended
	known   uint64    // entries of the tenant up to this index are contained
	last    uint64    // no entry of the tenant that is contained has a larger index
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
	if cfg.Moves <= 0 {
		cfg.Moves = 32
	}
	if cfg.Voters == nil {
		cfg.Voters = func(wire.GroupID) []string { return nil }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Timing.setDefaults()
	f := &Follower{cfg: cfg, log: cfg.Log, wake: make(chan struct{}, 1)}
	f.mu.tenants = make(map[wire.TenantID]*followed)
	f.mu.links = make(map[string]*link)
	f.mu.groups = make(map[wire.GroupID]*groupIn)
	f.mu.changed = make(chan struct{})
	f.mu.idle = sync.NewCond(&f.mu)
	return f, nil
}

// Follow lets this node follow a tenant from now on, or tells of a newer policy or another group of one that it follows. group is 0 if it
// is not known.
func (f *Follower) Follow(id wire.TenantID, group wire.GroupID, policy uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.mu.tenants[id]
	if t == nil {
		t = &followed{id: id, lost: time.Now(), at: -1}
		f.mu.tenants[id] = t
		f.Stats.Tenants.Add(1)
		f.scheduleLocked(t, time.Now())
	}
	t.policy = max(t.policy, policy)
	if t.group != group && group != 0 {
		f.detachLocked(t, true)
		f.setGroupLocked(t, group)
		t.known = 0
	}
}

// setGroupLocked says whose tenant it is; 0 if that is not known.
func (f *Follower) setGroupLocked(t *followed, group wire.GroupID) {
	if t.group == group {
		return
	}
	if g := f.mu.groups[t.group]; g != nil {
		g.tenants--
	}
	t.group = group
	if group != 0 {
		f.groupLocked(group).tenants++
	}
}

// groupLocked is what is known of a group.
func (f *Follower) groupLocked(id wire.GroupID) *groupIn {
	g := f.mu.groups[id]
	if g == nil {
		g = &groupIn{pairs: readpath.NewPairs(f.cfg.Ticks)}
		f.mu.groups[id] = g
	}
	return g
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
		f.mu.idle.Wait()
	}
	f.setGroupLocked(t, 0)
	f.unscheduleLocked(t)
	delete(f.mu.tenants, id)
	f.Stats.Tenants.Add(-1)
}

// Follows says whether a tenant is followed.
func (f *Follower) Follows(id wire.TenantID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.tenants[id] != nil
}

// Reconsider says that Feeders or Voters may answer otherwise now. Tenants that have a better feeder than theirs go there by and by.
func (f *Follower) Reconsider() {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for _, t := range f.mu.tenants {
		if t.at < 0 && t.cur != nil {
			f.scheduleLocked(t, now.Add(jitter(2*f.cfg.Timing.Settle)))
		}
	}
	f.mu.reseat = true
	kick(f.wake)
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
		next := f.manage(func(l *link) { links.Go(func() { l.run(ctx) }) })
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

// jitter is a duration from half of d to d, so that those who lost a feeder together do not come together.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}

// announceLocked lets those go on who wait for a copy to contain more.
func (f *Follower) announceLocked() {
	close(f.mu.changed)
	f.mu.changed = make(chan struct{})
}

// headLocked is where the Sink's copy is. It lets go of the lock meanwhile, and nobody else brings entries.
func (f *Follower) headLocked(t *followed) Head {
	t.busy = true
	f.mu.Unlock()
	head := f.cfg.Sink.Head(t.id)
	f.mu.Lock()
	f.doneLocked(t)
	return head
}

// doneLocked says that the Sink is not at work on a tenant any more.
func (f *Follower) doneLocked(t *followed) {
	t.busy = false
	f.mu.idle.Broadcast()
	if t.cur == nil {
		f.scheduleLocked(t, time.Now()) // the manager has waited for that
	}
}
