package catalogue

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nearsql/nearsql/wire"
)

// Change is one change of the catalogue that Declare finds due: other voters for a group, or that a node is removed.
type Change struct {
	Group    wire.GroupID // 0 when a node is removed
	Old, New []string     // declared voters, by id
	Node     string       // that is removed; "" when voters change
	Why      string       // for the log
}

// Apply makes a change that Declare found, if it is still due: the errors are those of SetVoters and SetNodeState.
func (w *Writer) Apply(ctx context.Context, c Change) error {
	if c.Node != "" {
		return w.SetNodeState(ctx, c.Node, NodeRemoved)
	}
	return w.SetVoters(ctx, c.Group, c.New, c.Old)
}

// Declare says which changes are due, given the nodes and groups of a View: which nodes should vote in each
// group that is founded and not pinned, and which nodes that are being removed have left all groups.
//
// Of a group it keeps the voters that may vote: those that are active, listen, and are in the group's region. It adds others until there are as many as
// the target, or the largest odd number below it that there are nodes for (an even number of voters survives the loss of no more
// nodes than the odd number below it): first nodes of PoPs that have no voter, then those that vote in the fewest groups. So a group of one
// stays so until there are three nodes. It takes voters away only where there are more than the target.
//
// A voter that may not vote any more leaves when another can take its place. One that is being removed leaves without, too, as long
// as others are left. No group becomes empty: voters that nobody can replace stay.
//
// It is pure. Made all at once or one by one, its changes lead to a catalogue for which it returns none.
func Declare(nodes []Node, groups []Group) []Change {
	d := newDeclaration(nodes, groups)
	var changes []Change
	for _, g := range groups {
		if g.Pinned || !g.Founded {
			continue
		}
		voters, why := d.voters(g)
		if slices.Equal(voters, g.Voters) {
			continue
		}
		d.count(g.Voters, -1)
		d.count(voters, +1)
		changes = append(changes, Change{Group: g.ID, Old: g.Voters, New: voters, Why: why})
	}
	for _, n := range nodes {
		if n.State == NodeRemoving && !inAny(groups, n.ID) {
			changes = append(changes, Change{Node: n.ID, Why: "it is in no group any more"})
		}
	}
	return changes
}

// Choose returns voters for a new group of that policy, by the rules of Declare; none if no node is eligible.
func Choose(nodes []Node, groups []Group, p Policy) []string {
	voters, _ := newDeclaration(nodes, groups).voters(Group{Policy: p})
	return voters
}

// SystemLearners returns who should follow the group `system` without a vote: all nodes but its declared voters, those removed,
// and those being removed that are in no other group any more.
func SystemLearners(nodes []Node, groups []Group) []string {
	var voters []string
	others := make([]Group, 0, len(groups))
	for _, g := range groups {
		if g.ID == SystemGroup {
			voters = g.Voters
		} else {
			others = append(others, g)
		}
	}
	var learners []string
	for _, n := range nodes {
		switch {
		case n.State == NodeRemoved, slices.Contains(voters, n.ID):
		case n.State == NodeRemoving && !inAny(others, n.ID):
		default:
			learners = append(learners, n.ID)
		}
	}
	return learners
}

// inAny says whether a node is declared or reported as a member of a group.
func inAny(groups []Group, id string) bool {
	return slices.ContainsFunc(groups, func(g Group) bool { return slices.Contains(g.Voters, id) || g.Members.has(id) })
}

// declaration is what Declare knows of nodes while it goes through the groups.
type declaration struct {
	nodes []Node
	byID  map[string]Node
	votes map[string]int // in how many groups a node is declared a voter
}

func newDeclaration(nodes []Node, groups []Group) *declaration {
	d := &declaration{nodes: nodes, byID: make(map[string]Node, len(nodes)), votes: make(map[string]int)}
	for _, n := range nodes {
		d.byID[n.ID] = n
	}
	for _, g := range groups {
		d.count(g.Voters, +1)
	}
	return d
}

func (d *declaration) count(voters []string, by int) {
	for _, id := range voters {
		d.votes[id] += by
	}
}

// voters returns who should vote in g, by id, and why others than now.
func (d *declaration) voters(g Group) (voters []string, why string) {
	var keep, drain, remove []string // of the voters of now
	for _, id := range g.Voters {
		switch n, known := d.byID[id]; {
		case eligible(n, g.Policy):
			keep = append(keep, id)
		case known && (n.State == NodeActive || n.State == NodeDraining):
			drain = append(drain, id)
		default:
			remove = append(remove, id)
		}
	}
	able := 0
	for _, n := range d.nodes {
		if eligible(n, g.Policy) {
			able++
		}
	}
	odd := min(g.Target, able)
	if odd%2 == 0 {
		odd--
	}
	// A place that is given up is taken by another, if there is one, also where that makes an even number.
	size := min(max(odd, len(keep), min(len(g.Voters), able)), g.Target)
	chosen := d.fill(d.shrink(keep, size), size, g.Policy)
	added := len(chosen) - len(keep)
	for _, id := range drain {
		if len(chosen) >= min(len(g.Voters), g.Target) {
			break
		}
		chosen = append(chosen, id)
	}
	if len(chosen) == 0 { // nobody could take over
		chosen = append(chosen, remove...)
	}
	slices.Sort(chosen)
	return chosen, fmt.Sprintf("%d of %d voters can stay, %d nodes can vote, target %d, %d added", len(keep), len(g.Voters), able, g.Target, max(added, 0))
}

// eligible says whether a node may be a voter under a policy. One that listens nowhere may not.
func eligible(n Node, p Policy) bool {
	return n.State == NodeActive && n.Listens() && (p.Region == "" || n.Region == p.Region)
}

// fill adds nodes to voters until there are size, or no more that are eligible.
func (d *declaration) fill(voters []string, size int, p Policy) []string {
	for len(voters) < size {
		pops := d.pops(voters)
		best := ""
		for _, n := range d.nodes {
			if !eligible(n, p) || slices.Contains(voters, n.ID) {
				continue
			}
			if best == "" || d.compare(pops, n, d.byID[best]) < 0 {
				best = n.ID
			}
		}
		if best == "" {
			break
		}
		voters = append(voters, best)
	}
	return voters
}

// shrink takes voters away until there are size: those of PoPs with several first, then those with the most groups.
func (d *declaration) shrink(voters []string, size int) []string {
	for len(voters) > size {
		pops := d.pops(voters)
		worst := slices.MaxFunc(voters, func(a, b string) int {
			x, y := d.byID[a], d.byID[b]
			return cmp.Or(cmp.Compare(pops[x.PoP], pops[y.PoP]), cmp.Compare(d.votes[a], d.votes[b]), strings.Compare(a, b))
		})
		voters = slices.DeleteFunc(slices.Clone(voters), func(id string) bool { return id == worst })
	}
	return voters
}

// pops counts the voters of each PoP.
func (d *declaration) pops(voters []string) map[string]int {
	pops := make(map[string]int, len(voters))
	for _, id := range voters {
		pops[d.byID[id].PoP]++
	}
	return pops
}

// compare orders nodes by how well they suit a group that has voters in those PoPs.
func (d *declaration) compare(pops map[string]int, a, b Node) int {
	return cmp.Or(cmp.Compare(pops[a.PoP], pops[b.PoP]), cmp.Compare(d.votes[a.ID], d.votes[b.ID]), strings.Compare(a.ID, b.ID))
}
