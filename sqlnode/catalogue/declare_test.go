package catalogue

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/nearsql/nearsql/wire"
)

// apply makes changes on copies of the rows.
func apply(nodes []Node, groups []Group, changes []Change) ([]Node, []Group) {
	nodes, groups = slices.Clone(nodes), slices.Clone(groups)
	for _, c := range changes {
		for i := range nodes {
			if nodes[i].ID == c.Node {
				nodes[i].State = NodeRemoved
			}
		}
		for i := range groups {
			if c.Node == "" && groups[i].ID == c.Group {
				groups[i].Voters = c.New
			}
		}
	}
	return nodes, groups
}

func drawNodes(rt *rapid.T) []Node {
	var nodes []Node
	for i := range rapid.IntRange(1, 9).Draw(rt, "nodes") {
		nodes = append(nodes, Node{ID: fmt.Sprintf("n%d", i), PoP: rapid.SampledFrom([]string{"p", "q", "r", "s"}).Draw(rt, "pop"),
			Region: rapid.SampledFrom([]string{"eu", "us"}).Draw(rt, "region"),
			State:  rapid.SampledFrom([]NodeState{NodeActive, NodeActive, NodeActive, NodeDraining, NodeRemoving, NodeRemoved}).Draw(rt, "state")})
	}
	return nodes
}

func drawSome(rt *rapid.T, nodes []Node, least int, label string) []string {
	var ids []string
	for _, n := range nodes {
		ids = append(ids, n.ID)
	}
	ids = append(ids, "unknown")
	got := rapid.SliceOfNDistinct(rapid.SampledFrom(ids), least, 5, rapid.ID).Draw(rt, label)
	return slices.Sorted(slices.Values(got))
}

func drawGroups(rt *rapid.T, nodes []Node) []Group {
	var groups []Group
	for i := range rapid.IntRange(1, 5).Draw(rt, "groups") {
		g := Group{ID: wire.GroupID(i + 1), Voters: drawSome(rt, nodes, 1, "voters"),
			Policy: Policy{Target: rapid.SampledFrom([]int{1, 3, 5}).Draw(rt, "target"), Region: rapid.SampledFrom([]string{"", "", "eu"}).Draw(rt, "group region"),
				Pinned: rapid.IntRange(0, 5).Draw(rt, "pinned") == 0},
			Founded: rapid.IntRange(0, 5).Draw(rt, "unfounded") != 0,
			Members: Members{Voters: drawSome(rt, nodes, 0, "members"), Learners: drawSome(rt, nodes, 0, "learners")}}
		groups = append(groups, g)
	}
	return groups
}

// TestDeclareHolds checks what Declare promises on random catalogues.
func TestDeclareHolds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		nodes := drawNodes(rt)
		groups := drawGroups(rt, nodes)
		changes := Declare(nodes, groups)
		byID := map[string]Node{}
		for _, n := range nodes {
			byID[n.ID] = n
		}
		_, after := apply(nodes, groups, changes)
		for i, g := range groups {
			checkDeclared(rt, byID, nodes, g, after[i].Voters)
		}
		for _, c := range changes {
			if c.Node != "" && (byID[c.Node].State != NodeRemoving || inAny(groups, c.Node)) {
				rt.Fatalf("%+v is removed", byID[c.Node])
			}
			if c.Node == "" && !slices.Equal(c.Old, groups[c.Group-1].Voters) {
				rt.Fatalf("%+v: not what was declared", c)
			}
		}
		// At once.
		n, g := apply(nodes, groups, changes)
		if rest := votersOnly(Declare(n, g)); len(rest) > 0 {
			rt.Fatalf("after %+v: %+v", changes, rest)
		}
		// One by one, in any order, each decided anew.
		n, g = nodes, groups
		for range 100 {
			changes := Declare(n, g)
			if len(changes) == 0 {
				return
			}
			n, g = apply(n, g, []Change{changes[rapid.IntRange(0, len(changes)-1).Draw(rt, "which")]})
		}
		rt.Fatal("no end")
	})
}

// votersOnly leaves out nodes that are removed: that may take the changes before it.
func votersOnly(changes []Change) []Change {
	return slices.DeleteFunc(changes, func(c Change) bool { return c.Node != "" })
}

func checkDeclared(rt *rapid.T, byID map[string]Node, nodes []Node, g Group, got []string) {
	fail := func(what string) {
		rt.Helper()
		rt.Fatalf("%s: group %+v: declared %v\nnodes %+v", what, g, got, nodes)
	}
	if g.Pinned || !g.Founded {
		if !slices.Equal(got, g.Voters) {
			fail("changed")
		}
		return
	}
	if len(got) == 0 || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
		fail("empty, or not in order")
	}
	able, kept := 0, 0
	for _, n := range nodes {
		if eligible(n, g.Policy) {
			able++
			if slices.Contains(g.Voters, n.ID) {
				kept++
			}
		}
	}
	voting, removing := 0, 0
	for _, id := range got {
		switch {
		case eligible(byID[id], g.Policy):
			voting++
		case !slices.Contains(g.Voters, id):
			fail("a node that may not vote was added")
		case byID[id].State == NodeRemoving || byID[id].State == NodeRemoved || id == "unknown":
			removing++
		}
	}
	for _, id := range g.Voters {
		if eligible(byID[id], g.Policy) && !slices.Contains(got, id) && len(g.Voters) <= g.Target {
			fail("one that may vote was taken away")
		}
	}
	if voting < min(kept, g.Target) {
		fail("fewer than there were")
	}
	if removing > 0 && removing != len(got) {
		fail("one that is removed stays, with others there")
	}
	if removing > 0 && able > 0 {
		fail("one that is removed stays, with a replacement there")
	}
	if voting < len(got) && voting < min(able, len(g.Voters), g.Target) {
		fail("a place is not taken over")
	}
	if kept <= 1 && len(g.Voters) == 1 && able < 3 && len(got) != 1 {
		fail("a group of one grew to two")
	}
	if able >= g.Target && voting != g.Target {
		fail("target missed")
	}
	// As many PoPs as can be, with what was kept.
	pops := map[string]bool{}
	all := map[string]bool{}
	for _, n := range nodes {
		if eligible(n, g.Policy) {
			all[n.PoP] = true
			if slices.Contains(got, n.ID) {
				pops[n.PoP] = true
			}
		}
	}
	keptPops := map[string]bool{}
	for _, id := range g.Voters {
		if eligible(byID[id], g.Policy) {
			keptPops[byID[id].PoP] = true
		}
	}
	possible := min(len(all), len(keptPops)+voting-kept)
	if kept > g.Target {
		possible = min(len(keptPops), g.Target)
	}
	if len(pops) < possible {
		fail(fmt.Sprintf("%d PoPs of %d possible", len(pops), possible))
	}
}

func TestDeclareCases(t *testing.T) {
	node := func(id, pop string, s NodeState) Node { return Node{ID: id, PoP: pop, State: s} }
	const A, D, R = NodeActive, NodeDraining, NodeRemoving
	for _, c := range []struct {
		name   string
		nodes  []Node
		voters []string
		target int
		want   []string
	}{
		{"alone", []Node{node("a", "p", A)}, []string{"a"}, 3, []string{"a"}},
		{"two are not enough", []Node{node("a", "p", A), node("b", "q", A)}, []string{"a"}, 3, []string{"a"}},
		{"three are", []Node{node("a", "p", A), node("b", "q", A), node("c", "r", A)}, []string{"a"}, 3, []string{"a", "b", "c"}},
		{"other PoPs first", []Node{node("a", "p", A), node("b", "p", A), node("c", "q", A), node("d", "r", A)}, []string{"a"}, 3, []string{"a", "c", "d"}},
		{"four make three", []Node{node("a", "p", A), node("b", "q", A), node("c", "r", A), node("d", "s", A)}, []string{"a"}, 5, []string{"a", "b", "c"}},
		{"drains, nobody else", []Node{node("a", "p", A), node("b", "q", A), node("c", "r", D)}, []string{"a", "b", "c"}, 3, []string{"a", "b", "c"}},
		{"drains, replaced", []Node{node("a", "p", A), node("b", "q", A), node("c", "r", D), node("d", "r", A)}, []string{"a", "b", "c"}, 3, []string{"a", "b", "d"}},
		{"removed, nobody else", []Node{node("a", "p", A), node("b", "q", A), node("c", "r", R)}, []string{"a", "b", "c"}, 3, []string{"a", "b"}},
		{"removed of two", []Node{node("a", "p", A), node("b", "q", R)}, []string{"a", "b"}, 3, []string{"a"}},
		{"removed of two, replaced", []Node{node("a", "p", A), node("b", "q", R), node("c", "q", A)}, []string{"a", "b"}, 3, []string{"a", "c"}},
		{"the last stays", []Node{node("a", "p", R)}, []string{"a"}, 3, []string{"a"}},
		{"the last drains to another", []Node{node("a", "p", D), node("b", "p", A)}, []string{"a"}, 3, []string{"b"}},
		{"one drains, one is removed", []Node{node("a", "p", D), node("b", "p", R)}, []string{"a", "b"}, 3, []string{"a"}},
		{"a lower target", []Node{node("a", "p", A), node("b", "p", A), node("c", "q", A), node("d", "r", A), node("e", "s", A)},
			[]string{"a", "b", "c", "d", "e"}, 3, []string{"a", "c", "d"}},
	} {
		groups := []Group{{ID: 1, Voters: c.voters, Founded: true, Policy: Policy{Target: c.target}}}
		_, got := apply(c.nodes, groups, Declare(c.nodes, groups))
		if !slices.Equal(got[0].Voters, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got[0].Voters, c.want)
		}
	}
}

// TestDeclareSpreads wants the votes of many groups spread over the nodes.
func TestDeclareSpreads(t *testing.T) {
	var nodes []Node
	var groups []Group
	for i := range 9 {
		nodes = append(nodes, Node{ID: fmt.Sprintf("n%d", i), PoP: fmt.Sprintf("p%d", i%3), State: NodeActive})
	}
	for i := range 30 {
		groups = append(groups, Group{ID: wire.GroupID(i + 1), Voters: []string{"n0"}, Founded: true, Policy: Policy{Target: 3}})
	}
	_, groups = apply(nodes, groups, Declare(nodes, groups))
	votes := map[string]int{}
	for _, g := range groups {
		for _, v := range g.Voters {
			votes[v]++
		}
	}
	delete(votes, "n0")
	counts := slices.Sorted(maps.Values(votes))
	if counts[0] != 10 || counts[len(counts)-1] != 10 { // 60 votes of the PoPs p1 and p2, by 6 nodes
		t.Errorf("votes %v", votes)
	}
	if got := Choose(nodes, groups, Policy{Target: 3}); len(got) != 3 || slices.Contains(got, "n0") {
		t.Errorf("a new group: %v", got)
	}
	if got := Choose(nodes, groups, Policy{Target: 3, Region: "mars"}); len(got) != 0 {
		t.Errorf("a new group on mars: %v", got)
	}
}

func TestSystemLearners(t *testing.T) {
	nodes := []Node{{ID: "a", State: NodeActive}, {ID: "b", State: NodeActive}, {ID: "c", State: NodeDraining}, {ID: "d", State: NodeRemoving},
		{ID: "e", State: NodeRemoving}, {ID: "f", State: NodeRemoving}, {ID: "g", State: NodeRemoved}}
	groups := []Group{{ID: 1, Voters: []string{"a"}, Members: Members{Voters: []string{"a"}, Learners: []string{"d", "e", "f"}}},
		{ID: 2, Voters: []string{"a", "e"}, Members: Members{Learners: []string{"f"}}}}
	if got := SystemLearners(nodes, groups); !slices.Equal(got, []string{"b", "c", "e", "f"}) {
		t.Error(got)
	}
}

// TestApply carries a node's removal through the tables.
func TestApply(t *testing.T) {
	db, w := newCatalogue(t)
	ctx := t.Context()
	for _, id := range []string{"n2", "n3"} {
		ok(t, w.Announce(ctx, testNode(id, id)))
	}
	ok(t, w.SetFounded(ctx, DefaultGroup))
	settle := func() *View {
		for range 10 {
			v := load(t, db)
			changes := Declare(v.Nodes(), v.Groups())
			if len(changes) == 0 {
				return v
			}
			for _, c := range changes {
				ok(t, w.Apply(ctx, c))
			}
		}
		t.Fatal("no end")
		return nil
	}
	report := func(term uint64, voters ...string) {
		for _, g := range []wire.GroupID{SystemGroup, DefaultGroup} {
			ok(t, w.ReportMembers(ctx, g, Members{Voters: voters, Primary: voters[0], Term: term, Index: 1}))
		}
	}
	v := settle()
	if g, _ := v.Group(2); !slices.Equal(g.Voters, []string{"n1", "n2", "n3"}) {
		t.Fatalf("%+v", g)
	}
	report(1, "n1", "n2", "n3")
	ok(t, w.SetNodeState(ctx, "n1", NodeRemoving))
	v = settle()
	if g, _ := v.Group(1); !slices.Equal(g.Voters, []string{"n2", "n3"}) {
		t.Fatalf("%+v", g)
	}
	if n, _ := v.Node("n1"); n.State != NodeRemoving {
		t.Fatalf("removed while it votes: %+v", n)
	}
	report(2, "n2", "n3")
	if n, _ := settle().Node("n1"); n.State != NodeRemoved {
		t.Fatalf("%+v", n)
	}
}

// A node that nobody can dial never votes, however few others there are.
func TestDeclareOnlyWhoListens(t *testing.T) {
	nodes := []Node{{ID: "n1", State: NodeActive}, {ID: "n2", State: NodeActive}, {ID: "n3", State: NodeActive, ClusterAddr: OutgoingOnly}}
	if c := Declare(nodes, []Group{{ID: 1, Founded: true, Voters: []string{"n1"}, Policy: Policy{Target: 3}}}); len(c) != 0 {
		t.Fatalf("%+v", c)
	}
	nodes = append(nodes, Node{ID: "n4", State: NodeActive})
	if got := Choose(nodes, nil, Policy{Target: 3}); !slices.Equal(got, []string{"n1", "n2", "n4"}) {
		t.Fatalf("%v", got)
	}
}
