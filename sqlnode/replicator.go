package sqlnode

import (
	"context"
	"hash/fnv"
	"net"
	"slices"
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
	started  time.Time
	wake     chan struct{}

	mu struct {
		sync.Mutex
		asked map[tenant.ID]struct{} // to be held on demand: fetched, or being fetched
	}
}

// Times of the replicator.
const (
	replicateEvery = 2 * time.Second
	// fanOut is how many nodes follow one that is itself fed by others; as many follow the voters directly.
	fanOut = 8
)

func newReplicator(n *Node, cfg *Config, budget *pagestore.Budget, dir string) (*replicator, error) {
	r := &replicator{n: n, demand: readpath.NewDemand(readpath.DemandConfig{}), started: cfg.Now(), wake: make(chan struct{}, 1)}
	r.mu.asked = map[tenant.ID]struct{}{}
	var err error
	r.set, err = replicas.New(replicas.Config{
		Dir: dir, FS: cfg.FS, Budget: budget, Log: cfg.Log, Now: cfg.Now,
		LTXBytes: cfg.LTXBytes, LTXAge: cfg.LTXAge, LTXRetention: min(cfg.LTXRetention, 4*time.Hour), ScrubEvery: cfg.ScrubEvery,
		FreeSpace: func() (int64, error) { return freeSpace(cfg.DataDir) }, MinFreeSpace: cfg.MinFreeSpace,
	})
	if err != nil {
		return nil, err
	}
	r.follower, err = replica.NewFollower(replica.FollowerConfig{
		Sink: r.set, Ticks: n.ticks, Log: cfg.Log, Feeders: r.feeders,
		Dial: func(ctx context.Context, node string) (net.Conn, error) {
			return n.net.Dial(ctx, node, cluster.PurposeStream, 0)
		},
	})
	if err != nil {
		return nil, err
	}
	r.set.SetFollower(r.follower)
	if r.feeder, err = replica.NewFeeder(replica.FeederConfig{Source: replicas.NewSource(n.groups, r.set, r.follower), Log: cfg.Log}); err != nil {
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
		if r.n.cat.View().Version > 0 {
			r.settle(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-r.wake:
		}
	}
}

// settle brings what is followed to what the catalogue wants.
func (r *replicator) settle(ctx context.Context) {
	v := r.n.cat.View()
	wanted := map[tenant.ID]catalogue.Tenant{}
	for t := range v.Placed() {
		if t.Placement.Holds(r.n.cfg.PoP, r.n.cfg.Region) && r.n.groups.get(t.Group) == nil {
			wanted[t.ID] = t
		}
	}
	for _, id := range r.demand.Evict(r.now()) {
		r.mu.Lock()
		delete(r.mu.asked, id)
		r.mu.Unlock()
		r.n.log.Info("copy on demand dropped: nobody reads it", "id", id)
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
	for id, t := range wanted {
		r.follower.Follow(id, t.Group, t.Policy)
	}
	for _, t := range r.set.Tenants() {
		if _, ok := wanted[t.ID()]; !ok && ctx.Err() == nil {
			r.drop(ctx, t.ID())
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
		r.mu.Unlock()
		r.demand.Fetched(t.ID, r.now(), nil) // from now on the follower does not give up
		r.follower.Follow(t.ID, t.Group, t.Policy)
	}
	return nil
}

// feeders are the nodes that a tenant may be had from, best first. The first few of the nodes that hold it are fed by voters, the others by
// those before them: so the voters' work does not grow with the number of PoPs.
func (r *replicator) feeders(id wire.TenantID) []string {
	v := r.n.cat.View()
	t, ok := v.TenantByID(id)
	if !ok {
		return nil
	}
	g, ok := v.Group(t.Group)
	if !ok {
		return nil
	}
	var voters []string
	for _, m := range g.Members.Voters {
		if m != r.n.id.Node {
			voters = append(voters, m)
		}
	}
	r.nearestFirst(v, voters)
	if !t.Placement.Standing() {
		return voters
	}
	var holders []string
	for _, nd := range v.Nodes() {
		if nd.State != catalogue.NodeRemoved && t.Placement.Holds(nd.PoP, nd.Region) && !slices.Contains(g.Members.Voters, nd.ID) {
			holders = append(holders, nd.ID)
		}
	}
	// The same order everywhere, another for each tenant.
	rank := func(node string) uint64 {
		h := fnv.New64a()
		h.Write(id[:])
		h.Write([]byte(node))
		return h.Sum64()
	}
	slices.SortFunc(holders, func(a, b string) int {
		x, y := rank(a), rank(b)
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	at := slices.Index(holders, r.n.id.Node)
	if at < fanOut {
		return voters
	}
	parent := (at - fanOut) / fanOut
	return append([]string{holders[parent]}, voters...)
}

// nearestFirst sorts nodes: those of this PoP, of this region, the others.
func (r *replicator) nearestFirst(v *catalogue.View, ids []string) {
	far := func(id string) int {
		nd, _ := v.Node(id)
		switch {
		case nd.PoP == r.n.cfg.PoP:
			return 0
		case nd.Region == r.n.cfg.Region && nd.Region != "":
			return 1
		}
		return 2
	}
	slices.SortStableFunc(ids, func(a, b string) int { return far(a) - far(b) })
}
