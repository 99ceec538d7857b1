package catalogue

import (
	"bytes"
	"cmp"
	"iter"
	"math"
	"slices"
	"strings"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// View is the catalogue as it was once. It never changes, and may be used by many at a time.
type View struct {
	Version uint64 // it has all changes up to this one
	Cluster string // the cluster's id; "" before Bootstrap

	trimmed uint64
	nodes   []Node  // by id
	groups  []Group // by id
	byID    index
	byName  index
	byGroup index // of those that are live
	placed  index // of those that are live and have standing replicas, by id
	counts  map[wire.GroupID]int
}

func newView() *View {
	return &View{byID: index{cmp: compareIDs}, byName: index{cmp: compareNames}, byGroup: index{cmp: compareGroups},
		placed: index{cmp: compareIDs}}
}

func compareIDs(a, b *Tenant) int { return bytes.Compare(a.ID[:], b.ID[:]) }

// compareNames has the one that is live first of those with one name, then those gone, the newest first.
func compareNames(a, b *Tenant) int {
	if c := strings.Compare(string(a.Name), string(b.Name)); c != 0 {
		return c
	}
	if a.Live != b.Live {
		if a.Live {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(b.Version, a.Version), compareIDs(a, b))
}

func compareGroups(a, b *Tenant) int {
	return cmp.Or(cmp.Compare(a.Group, b.Group), compareIDs(a, b))
}

// Node returns the node with that id.
func (v *View) Node(id string) (Node, bool) {
	i, ok := slices.BinarySearchFunc(v.nodes, id, func(n Node, id string) int { return strings.Compare(n.ID, id) })
	if !ok {
		return Node{}, false
	}
	return v.nodes[i], true
}

// Nodes returns all nodes, by id, those that were removed too. The slice must not be changed.
func (v *View) Nodes() []Node { return v.nodes }

// Group returns the group with that number.
func (v *View) Group(id wire.GroupID) (Group, bool) {
	i, ok := slices.BinarySearchFunc(v.groups, id, func(g Group, id wire.GroupID) int { return cmp.Compare(g.ID, id) })
	if !ok {
		return Group{}, false
	}
	return v.groups[i], true
}

// GroupByName returns the group with that name.
func (v *View) GroupByName(name string) (Group, bool) {
	i := slices.IndexFunc(v.groups, func(g Group) bool { return g.Name == name })
	if i < 0 {
		return Group{}, false
	}
	return v.groups[i], true
}

// Groups returns all groups, by number. The slice must not be changed.
func (v *View) Groups() []Group { return v.groups }

// Tenant returns the live tenant that bears the name.
func (v *View) Tenant(name tenant.Name) (Tenant, bool) {
	t := v.byName.first(&Tenant{Name: name, Live: true, Version: math.MaxUint64})
	if t == nil || t.Name != name || !t.Live {
		return Tenant{}, false
	}
	return *t, true
}

// Gone returns the tenant that bore the name and is gone, the newest if there are several: its group knows whether it can be undeleted.
func (v *View) Gone(name tenant.Name) (Tenant, bool) {
	t := v.byName.first(&Tenant{Name: name, Version: math.MaxUint64})
	if t == nil || t.Name != name {
		return Tenant{}, false
	}
	return *t, true
}

// TenantByID returns the tenant with that id, live or gone.
func (v *View) TenantByID(id tenant.ID) (Tenant, bool) {
	t := v.byID.first(&Tenant{ID: id})
	if t == nil || t.ID != id {
		return Tenant{}, false
	}
	return *t, true
}

// TenantsOf gives the live tenants of a group, by id.
func (v *View) TenantsOf(group wire.GroupID) iter.Seq[Tenant] {
	return func(yield func(Tenant) bool) {
		for t := range v.byGroup.from(&Tenant{Group: group}) {
			if t.Group != group || !yield(*t) {
				return
			}
		}
	}
}

// Placed gives the live tenants that are to have replicas at places of their own (tenant.Placement.Standing), by id. Which
// of them a node holds Placement.Holds says.
func (v *View) Placed() iter.Seq[Tenant] {
	return func(yield func(Tenant) bool) {
		for t := range v.placed.from(&Tenant{}) {
			if !yield(*t) {
				return
			}
		}
	}
}

// PlacedCount is how many tenants Placed gives.
func (v *View) PlacedCount() int { return v.placed.n }

// TenantCount is how many live tenants a group has.
func (v *View) TenantCount(group wire.GroupID) int { return v.counts[group] }

// TenantNames returns at most limit names of live tenants above after, in order. The tenant `system` is among them.
func (v *View) TenantNames(after tenant.Name, limit int) []tenant.Name {
	var names []tenant.Name
	if limit <= 0 {
		return nil
	}
	for t := range v.byName.from(&Tenant{Name: after, Live: true, Version: math.MaxUint64}) {
		if !t.Live || t.Name <= after {
			continue
		}
		if names = append(names, t.Name); len(names) == limit {
			break
		}
	}
	return names
}

// change is what a View lacks.
type change struct {
	meta    meta
	nodes   []Node
	groups  []Group
	tenants []*Tenant
}

// with returns a View with the changes.
func (v *View) with(c change) *View {
	w := &View{Version: c.meta.version, Cluster: c.meta.cluster, trimmed: c.meta.trimmed}
	w.nodes = merge(v.nodes, c.nodes, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	w.groups = merge(v.groups, c.groups, func(a, b Group) int { return cmp.Compare(a.ID, b.ID) })
	var out, in, outLive, inLive, outPlaced, inPlaced []*Tenant
	for _, t := range c.tenants {
		if old := v.byID.first(t); old != nil && old.ID == t.ID {
			out = append(out, old)
			if old.Live {
				outLive = append(outLive, old)
			}
			if old.placed() {
				outPlaced = append(outPlaced, old)
			}
		}
		in = append(in, t)
		if t.Live {
			inLive = append(inLive, t)
		}
		if t.placed() {
			inPlaced = append(inPlaced, t)
		}
	}
	if w.trimmed > v.trimmed {
		for t := range v.byID.from(&Tenant{}) {
			// One that is in out too is removed once and then not found.
			if !t.Live && t.Version <= w.trimmed {
				out = append(out, t)
			}
		}
	}
	w.byID, w.byName, w.byGroup = v.byID.with(out, in), v.byName.with(out, in), v.byGroup.with(outLive, inLive)
	w.placed = v.placed.with(outPlaced, inPlaced)
	w.counts = make(map[wire.GroupID]int, len(w.groups))
	for id, n := range v.counts {
		w.counts[id] = n
	}
	for _, t := range outLive {
		w.counts[t.Group]--
	}
	for _, t := range inLive {
		w.counts[t.Group]++
	}
	return w
}

// merge returns old, sorted by compare, with what is newer in the place of what is equal to it.
func merge[T any](old, newer []T, compare func(a, b T) int) []T {
	if len(newer) == 0 {
		return old
	}
	all := slices.Clone(old)
	for _, n := range newer {
		i, found := slices.BinarySearchFunc(all, n, compare)
		if found {
			all[i] = n
		} else {
			all = slices.Insert(all, i, n)
		}
	}
	return all
}
