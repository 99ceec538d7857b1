package sqlnode

import (
	"hash/fnv"
	"slices"
	"sync"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/sqlnode/catalogue"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// feeders are the nodes that a tenant may be had from, best first. Voters feed a few of those that hold it, and those the others: so the voters' work
// does not grow with the number of PoPs.
func (r *replicator) feeders(id wire.TenantID) []string {
	v := r.n.cat.View()
	t, ok := v.TenantByID(id)
	if !ok {
		return nil
	}
	if !t.Placement.Standing() {
		return r.voters(t.Group)
	}
	return r.trees.list(treeKey{t.Group, t.Placement, treeOf(id)}, r)
}

// voters are the nodes that vote in a group, the nearest first, and those that are as near in an order of this node's own.
func (r *replicator) voters(group wire.GroupID) []string {
	v := r.n.cat.View()
	g, ok := v.Group(group)
	if !ok {
		return nil
	}
	voters := slices.DeleteFunc(slices.Clone(g.Members.Voters), func(m string) bool { return m == r.n.id.Node })
	readpath.Spread(uint32(group), r.n.id.Node, voters)
	r.nearestFirst(v, voters)
	return voters
}

// upstream is what feeders says of all tenants that are alike.
func (r *replicator) upstream(v *catalogue.View, k treeKey) []string {
	g, _ := v.Group(k.group)
	var relays, leaves []string
	for _, nd := range v.Nodes() {
		switch {
		case nd.State == catalogue.NodeRemoved, !k.placement.Holds(nd.PoP, nd.Region), slices.Contains(g.Members.Voters, nd.ID):
		case nd.ClusterAddr == catalogue.OutgoingOnly:
			leaves = append(leaves, nd.ID)
		default:
			relays = append(relays, nd.ID)
		}
	}
	u := r.n.cfg.feedTree(k.tree, r.n.id.Node, relays, leaves)
	return slices.Concat(u.Relays, r.voters(k.group), u.Others)
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

// feedTree says whom a node follows, as readpath.Tree does. All nodes of a cluster have one order in each tree, and a relay is named only to nodes
// after it: then nothing goes round in rings, even while nodes differ about the rest.
type feedTree func(tree uint32, self string, relays, leaves []string) readpath.Upstream

// treeCount is how many trees there are: so many nodes relay as there are nodes, and each has few streams.
const treeCount = 8

func treeOf(id wire.TenantID) uint32 {
	h := fnv.New32a()
	h.Write(id[:])
	return h.Sum32() % treeCount
}

// treeKey is what those tenants have in common that have the same feeders.
type treeKey struct {
	group     wire.GroupID
	placement tenant.Placement
	tree      uint32
}

// treesMax is how many lists are kept.
const treesMax = 4096

// feedTrees remembers who feeds this node, until nodes or voters change.
type feedTrees struct {
	mu struct {
		sync.Mutex
		nodes  []catalogue.Node
		groups []catalogue.Group
		lists  map[treeKey][]string // never changed in place
	}
}

// changed forgets all if nodes or voters are others than when it was called last.
func (f *feedTrees) changed(v *catalogue.View) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	same := slices.EqualFunc(f.mu.nodes, v.Nodes(), func(a, b catalogue.Node) bool {
		return a.ID == b.ID && a.State == b.State && a.PoP == b.PoP && a.Region == b.Region && a.ClusterAddr == b.ClusterAddr
	}) && slices.EqualFunc(f.mu.groups, v.Groups(), func(a, b catalogue.Group) bool {
		return a.ID == b.ID && slices.Equal(a.Members.Voters, b.Members.Voters)
	})
	if !same {
		f.mu.nodes, f.mu.groups, f.mu.lists = v.Nodes(), v.Groups(), nil
	}
	return !same
}

// list is the feeders of the tenants that are alike.
func (f *feedTrees) list(k treeKey, r *replicator) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l, ok := f.mu.lists[k]; ok {
		return l
	}
	l := r.upstream(r.n.cat.View(), k)
	if f.mu.lists == nil || len(f.mu.lists) >= treesMax {
		f.mu.lists = map[treeKey][]string{}
	}
	f.mu.lists[k] = l
	return l
}
