package sqlnode

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/readpath/replica"
	"github.com/nearsql/nearsql/sqlnode/catalogue"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/replicas"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// replicator keeps the copies of tenants that this node does not vote on: those that are placed here, and those that are
// read here often. It follows other nodes, and feeds nodes that follow this one.
type replicator struct {
	n        *Node
	set      *replicas.Set
	follower *replica.Follower
	feeder   *replica.Feeder
	demand   *readpath.Demand
	strong   *strongWays
	started  time.Time
	wake     chan struct{}

	trees feedTrees

	settled struct { // of run's goroutine
		version uint64 // of the catalogue
		at      time.Time
	}
	mu struct {
		sync.Mutex
		asked map[tenant.ID]struct{} // to be held on demand: fetched, or being fetched
		fresh bool                   // asked has changed
	}
}

// Times of the replicator.
const (
	replicateEvery = 2 * time.Second
	// settleEvery is how often all that is followed is compared with what is wanted although nothing is known to have changed.
	settleEvery = time.Minute
)

func newReplicator(n *Node, cfg *Config, budget *pagestore.Budget, dir string) (*replicator, error) {
	r := &replicator{n: n, demand: readpath.NewDemand(readpath.DemandConfig{}), strong: newStrongWays(), started: cfg.Now(), wake: make(chan struct{}, 1)}
	r.mu.asked = map[tenant.ID]struct{}{}
	var err error
	r.set, err = replicas.New(replicas.Config{
		Dir: dir, FS: cfg.FS, Budget: budget, Log: cfg.Log, Now: cfg.Now,
		LTXBytes: cfg.LTXBytes, LTXAge: cfg.LTXAge, LTXRetention: min(cfg.LTXRetention, 4*time.Hour), ScrubEvery: cfg.ScrubEvery,
		Space: cfg.space,
	})
	if err != nil {
		return nil, err
	}
	r.follower, err = replica.NewFollower(replica.FollowerConfig{
		Sink: r.set, Ticks: n.ticks, Log: cfg.Log, Feeders: r.feeders, Voters: r.voters,
		Dial: func(ctx context.Context, node string) (net.Conn, error) {
			return n.net.Dial(ctx, node, cluster.PurposeStream, 0)
		},
	})
	if err != nil {
		return nil, err
	}
	r.set.SetFollower(r.follower)
	if r.feeder, err = replica.NewFeeder(replica.FeederConfig{Source: replicas.NewSource(n.groups, r.set, r.follower).Admitting(r.admit), Log: cfg.Log}); err != nil {
		return nil, err
	}
	// What is here of an earlier run is kept as if it had been asked for, unless it is placed here anyway.
	for _, t := range r.set.Tenants() {
		r.mu.asked[t.ID()] = struct{}{}
		r.demand.Fetched(t.ID(), r.now(), nil)
	}
	return r, n.net.Handle(cluster.PurposeStream, func(ctx context.Context, c *cluster.Conn) { r.feeder.Serve(ctx, c.From(), c) })
}

// now is the clock of Demand.
func (r *replicator) now() time.Duration { return r.n.cfg.Now().Sub(r.started) }

// Host implements replicas.Hosts.
func (g *groups) Host(id wire.GroupID) (replicas.Host, bool) {
	h := g.get(id)
	if h == nil || h.lane == nil {
		return replicas.Host{}, false
	}
	return replicas.Host{Pages: h.pages, Lane: h.lane, ReadIndex: func(ctx context.Context) (uint64, error) { return h.log().ReadIndexAt(ctx) }}, true
}

// HostOf implements replicas.Hosts.
func (g *groups) HostOf(id wire.TenantID) (replicas.Host, bool) {
	for _, h := range g.all() {
		if t, err := h.pages.Tenant(id); err == nil && t.Failed() == nil {
			return g.Host(h.id)
		}
	}
	return replicas.Host{}, false
}

// changed says that the catalogue has changed.
func (r *replicator) changed() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run keeps what is to be kept until ctx ends.
func (r *replicator) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _ = r.set.Run(ctx) })
	wg.Go(func() { _ = r.follower.Run(ctx) })
	wg.Go(func() { _ = r.feeder.Run(ctx) })
	tick := time.NewTicker(replicateEvery)
	defer tick.Stop()
	for {
		if v := r.n.cat.View(); v.Version > 0 {
			if r.trees.changed(v) {
				r.follower.Reconsider()
			}
			r.evict()
			if r.due(v.Version) {
				r.settle(ctx, v)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-r.wake:
		}
	}
}

// due says whether what is followed may not be what is wanted.
func (r *replicator) due(version uint64) bool {
	r.mu.Lock()
	fresh := r.mu.fresh
	r.mu.fresh = false
	r.mu.Unlock()
	if !fresh && version == r.settled.version && time.Since(r.settled.at) < settleEvery {
		return false
	}
	r.settled.version, r.settled.at = version, time.Now()
	return true
}

// evict ends that tenants are held that nobody reads.
func (r *replicator) evict() {
	for _, id := range r.demand.Evict(r.now()) {
		r.mu.Lock()
		delete(r.mu.asked, id)
		r.mu.fresh = true
		r.mu.Unlock()
		r.n.log.Info("copy on demand dropped: nobody reads it", "id", id)
	}
}

// settle brings what is followed to what the catalogue wants.
func (r *replicator) settle(ctx context.Context, v *catalogue.View) {
	wanted := map[tenant.ID]catalogue.Tenant{}
	for t := range v.Placed() {
		if t.Placement.Holds(r.n.cfg.PoP, r.n.cfg.Region) && r.n.groups.get(t.Group) == nil {
			wanted[t.ID] = t
		}
	}
	r.mu.Lock()
	for id := range r.mu.asked {
		if _, placed := wanted[id]; placed {
			continue
		}
		t, ok := v.TenantByID(id)
		if ok && t.Live && r.onDemand(t) && r.n.groups.get(t.Group) == nil {
			wanted[id] = t
		} else {
			delete(r.mu.asked, id)
			r.demand.Forget(id)
		}
	}
	r.mu.Unlock()
	r.addLeft(v, wanted)
	for id, t := range wanted {
		r.follower.Follow(id, t.Group, t.Policy)
	}
	for _, t := range r.set.Tenants() {
		if _, ok := wanted[t.ID()]; !ok && ctx.Err() == nil && !r.n.sites.stays(t) {
			r.drop(ctx, t.ID())
		}
	}
}

// addLeft adds the tenants whose conflict-free tables are here still although the node keeps them no more, as after it lost its vote: what they have has to be
// sent, and their site to say so before it is retired. For that the node needs a copy of the tenant once more.
func (r *replicator) addLeft(v *catalogue.View, wanted map[tenant.ID]catalogue.Tenant) {
	files, err := r.n.sites.files.List()
	if err != nil {
		r.n.log.Warn("it is not known which conflict-free tables are here", "error", err)
		return
	}
	for _, id := range files {
		t, ok := v.TenantByID(id)
		if _, already := wanted[id]; already || !ok || !t.Live || r.n.groups.get(t.Group) != nil || !t.Placement.Allows(r.n.cfg.Region) {
			continue
		}
		if have, ok := r.set.Tenant(id); !ok || r.n.sites.stays(have) {
			wanted[id] = t
		}
	}
}

// onDemand says whether a copy may be kept here because it is read.
func (r *replicator) onDemand(t catalogue.Tenant) bool {
	return (t.Placement.Replicas == "" || t.Placement.Replicas == tenant.ReplicasOnDemand) && t.Placement.Allows(r.n.cfg.Region)
}

// drop ends that a tenant is followed, and removes its copy.
func (r *replicator) drop(ctx context.Context, id tenant.ID) {
	if t, ok := r.set.Tenant(id); ok {
		r.n.dir.forget(string(t.Record().Name))
		r.n.engine.Forget(t)
	}
	r.follower.Unfollow(id)
	if err := r.set.Drop(ctx, id); err != nil {
		r.n.log.Warn("a copy stays for now", "id", id, "error", err)
	}
}

// find is this node's copy of a tenant, if it serves; else the read counts for fetching one.
func (r *replicator) find(t catalogue.Tenant) *resident {
	if p, ok := r.set.Tenant(t.ID); ok && p.Failed() == nil {
		if !t.Placement.Standing() {
			r.demand.Read(t.ID, r.now())
		}
		return &resident{Tenant: p, group: t.Group, q: quorum{t: p}}
	}
	if r.onDemand(t) && r.demand.Read(t.ID, r.now()) {
		r.n.log.Info("copy on demand wanted: it is read here", "tenant", string(t.Name), "id", t.ID)
		r.mu.Lock()
		r.mu.asked[t.ID] = struct{}{}
		r.mu.fresh = true
		r.mu.Unlock()
		r.demand.Fetched(t.ID, r.now(), nil) // from now on the follower does not give up
		r.follower.Follow(t.ID, t.Group, t.Policy)
	}
	return nil
}

// admit says whether a node may have a copy of a tenant of that record: whatever it says itself, its region is that of the catalogue.
func (r *replicator) admit(rec tenant.Tenant, receiver string) error {
	if rec.Placement.Jurisdiction == "" {
		return nil
	}
	nd, ok := r.n.cat.View().Node(receiver)
	if !ok || nd.State == catalogue.NodeRemoved || !rec.Placement.Allows(nd.Region) {
		r.n.log.Warn("a node asks for a tenant that it may not have", "node", receiver, "region", nd.Region, "tenant", rec.ID, "jurisdiction", rec.Placement.Jurisdiction)
		return wire.NewError(wire.CodeForbidden, "node %s is outside the tenant's jurisdiction %q", receiver, rec.Placement.Jurisdiction)
	}
	return nil
}
