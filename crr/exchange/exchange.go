package exchange

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/wire"
)

// Config is what an Exchange needs. Zero numbers mean the defaults.
type Config struct {
	Node string // of this node
	Host Host
	// Dial opens a connection to a node: cluster.Net.Dial with cluster.PurposeExchange.
	Dial func(ctx context.Context, node string) (net.Conn, error)
	// Durable waits until all that is committed in the tenant's file at the time of the call is on disk. nil: it is when it is committed (synchronous=FULL).
	Durable func(ctx context.Context, id wire.TenantID) error
	Now     func() time.Time // wall clock; nil: time.Now
	Log     *slog.Logger     // nil for none
	Timing  Timing

	// Mesh is up to how many peers a push goes to each of; beyond, some pass it on. 50.
	Mesh int
	// Pulls is how many tenants pull at a time. Each takes up to about 6 MiB. 16.
	Pulls int
	// Answers is how many answers are made at a time, and half of that for one peer. Each takes up to about 5 MiB. 8.
	Answers int
	// PushBytes is how much waits to be sent to a peer, and how much of one tenant waits to be merged, before pushes are dropped. 1 MiB.
	PushBytes int
	// ConnsMax is how many nodes may be connected. 1024.
	ConnsMax int
}

func (c *Config) setDefaults() {
	for p, v := range map[*int]int{&c.Mesh: 50, &c.Pulls: 16, &c.Answers: 8, &c.PushBytes: 1 << 20, &c.ConnsMax: 1024} {
		if *p <= 0 {
			*p = v
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Timing.setDefaults()
}

// Exchange is one node's part in all tenants that it is a site of.
type Exchange struct {
	Stats Stats

	cfg Config
	log *slog.Logger

	wake    chan struct{} // holds one: the agenda has changed
	pulls   chan struct{} // holds one for each pull under way
	answers chan struct{} // holds one for each answer that is being made
	opens   chan struct{} // holds one for each file that is opened for its head
	ahead   atomic.Int64  // of the local clock, in nanoseconds

	goroutines sync.WaitGroup // of Run, and Serve

	mu struct {
		sync.Mutex
		running bool
		ended   bool // invariant: once set, no link and no goroutine is added
		tenants map[wire.TenantID]*tenant
		nodes   map[string]*node
		links   map[string]*link // the newest to each node
		agenda  agenda
		nextID  uint64
		waiting int // bytes of pushes of all tenants that wait to be merged
	}
}

// New returns an Exchange of no tenants.
func New(cfg Config) (*Exchange, error) {
	switch {
	case cfg.Node == "":
		return nil, errors.New("exchange: Config.Node is missing")
	case cfg.Host == nil:
		return nil, errors.New("exchange: Config.Host is missing")
	case cfg.Dial == nil:
		return nil, errors.New("exchange: Config.Dial is missing")
	}
	cfg.setDefaults()
	x := &Exchange{
		cfg: cfg, log: cfg.Log.With("node", cfg.Node), wake: make(chan struct{}, 1),
		pulls: make(chan struct{}, cfg.Pulls), answers: make(chan struct{}, cfg.Answers), opens: make(chan struct{}, 4),
	}
	x.mu.tenants = make(map[wire.TenantID]*tenant)
	x.mu.nodes = make(map[string]*node)
	x.mu.links = make(map[string]*link)
	return x, nil
}

// Add makes this node a site of a tenant, or takes its peers anew when it is one: the node calls it for each at its start, and
// whenever what Host.Peers says has changed, or a change of its schema has been made.
func (x *Exchange) Add(id wire.TenantID) {
	peers := slices.Clone(x.cfg.Host.Peers(id))
	x.mu.Lock()
	defer x.mu.Unlock()
	t := x.mu.tenants[id]
	if t == nil {
		t = newTenant(id)
		t.digestAt = time.Now().Add(jitter(x.cfg.Timing.Digest))
		x.mu.tenants[id] = t
	}
	x.setPeersLocked(t, peers)
	t.needHead = true
	x.touchLocked(t)
}

// Remove ends that this node is a site of a tenant. What is under way may still call the Host for it.
func (x *Exchange) Remove(id wire.TenantID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if t := x.mu.tenants[id]; t != nil {
		t.gone = true
		x.setPeersLocked(t, nil)
		for _, list := range [][]*arrived{t.inbox, t.early} {
			for _, a := range list {
				x.droppedLocked(t, a)
			}
		}
		t.inbox, t.early = nil, nil
		x.mu.agenda.remove(t)
		delete(x.mu.tenants, id)
		t.announce()
	}
}

// Committed says that transactions have been committed between two states of a tenant's file, of which the local ones are to be
// pushed. It is quick. What was committed while nobody said so is pulled by the others.
func (x *Exchange) Committed(id wire.TenantID, before, after crr.Head) {
	if after.Site == 0 || after.Vector[after.Site] <= before.Vector[after.Site] {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	t := x.mu.tenants[id]
	if t == nil {
		return
	}
	if !t.pushed.Of(after.Identity) && before.Identity == after.Identity {
		t.pushed = before.Mark()
	}
	if t.pushAt.IsZero() {
		now, wait := time.Now(), x.cfg.Timing.Gather
		if now.Sub(t.pushedAt) < 4*x.cfg.Timing.GatherMax {
			wait = x.cfg.Timing.GatherMax
		}
		t.pushAt = now.Add(wait)
	}
	x.touchLocked(t)
}

// Ahead is how far the local clock is ahead of the median of the peers', as far as is known: for crr.Site.SetOffset, before local
// writes. One peer alone does not outweigh this node.
func (x *Exchange) Ahead() time.Duration { return time.Duration(x.ahead.Load()) }

// Run works until ctx ends, and returns nil after its last goroutine. It is called once.
func (x *Exchange) Run(ctx context.Context) error {
	x.mu.Lock()
	if x.mu.running {
		x.mu.Unlock()
		return errors.New("exchange: Run was called before")
	}
	x.mu.running = true
	x.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		timer.Reset(x.round(ctx))
		select {
		case <-ctx.Done():
		case <-x.wake:
		case <-timer.C:
		}
	}
	x.end()
	cancel()
	x.goroutines.Wait()
	return nil
}

// round does all that is due, and returns how long nothing will be.
func (x *Exchange) round(ctx context.Context) time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := time.Now()
	for t := x.mu.agenda.due(now); t != nil; t = x.mu.agenda.due(now) {
		if at := x.stepLocked(ctx, now, t); !at.IsZero() {
			x.mu.agenda.set(t, at)
		}
	}
	next := x.dialLocked(ctx, now)
	if at := x.mu.agenda.next(); !at.IsZero() && at.Before(next) {
		next = at
	}
	return max(next.Sub(now), 0)
}

func (x *Exchange) end() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.mu.ended = true
	for _, t := range x.mu.tenants {
		t.announce()
	}
	for _, l := range x.mu.links {
		l.cancel(errEnded)
	}
}

var errEnded = errors.New("exchange: this node is stopping")

// touchLocked has a tenant looked at now.
func (x *Exchange) touchLocked(t *tenant) {
	if !t.gone {
		x.mu.agenda.set(t, time.Now())
		kick(x.wake)
	}
}

// touch has a tenant looked at after f has changed it.
func (x *Exchange) touch(t *tenant, f func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	f()
	x.touchLocked(t)
}

func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
