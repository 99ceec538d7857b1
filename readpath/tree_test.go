package readpath

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func ids(n int) []string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("n%d", i+4))
	}
	return list
}

// However many there are, voters feed the same few; nobody is far from them, and none feeds many more than others.
func TestTreeIsShallow(t *testing.T) {
	for _, n := range []int{1, 5, 6, 7, 20, 54, 55, 200} {
		nodes := ids(n)
		for tree := range uint32(8) {
			roots, fed := 0, map[string]int{}
			for _, self := range nodes {
				depth := 1
				for at := self; ; depth++ {
					u := Tree(tree, at, nodes, nil)
					if len(u.Relays) == 0 || depth > 10 {
						break
					}
					at = u.Relays[0]
				}
				if u := Tree(tree, self, nodes, nil); len(u.Relays) == 0 {
					roots++
				} else {
					fed[u.Relays[0]]++
				}
				if want := map[bool]int{true: 2, false: 3}[n <= TreeRoots*(TreeFan+1)]; depth > want {
					t.Errorf("%d nodes, tree %d: %s is fed over %d hops, want at most %d", n, tree, self, depth, want)
				}
			}
			if roots != min(n, TreeRoots) {
				t.Errorf("%d nodes, tree %d: voters feed %d", n, tree, roots)
			}
			for node, k := range fed {
				if k > 2*TreeFan+2 {
					t.Errorf("%d nodes, tree %d: %s feeds %d", n, tree, node, k)
				}
			}
		}
	}
}

// A ring can't come about, whatever nodes each of them knows of at whatever time.
func TestTreeHasNoRings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 80).Draw(t, "nodes")
		all := ids(n)
		tree := rapid.Uint32Range(0, 7).Draw(t, "tree")
		fedBy := map[string][]string{}
		for i, self := range all {
			known := slices.DeleteFunc(slices.Clone(all), func(string) bool { return rapid.IntRange(0, 2).Draw(t, "unknown") == 0 })
			if i%7 == 3 { // it can't be dialled, and nobody names it
				u := Tree(tree, self, slices.DeleteFunc(known, func(s string) bool { return s == self || leafID(all, s) }), []string{self})
				fedBy[self] = append(u.Relays, u.Others...)
				continue
			}
			known = slices.DeleteFunc(known, func(s string) bool { return leafID(all, s) })
			if !slices.Contains(known, self) {
				known = append(known, self)
			}
			u := Tree(tree, self, known, nil)
			fedBy[self] = append(u.Relays, u.Others...)
		}
		const under, done = 1, 2
		seen := map[string]int{}
		var visit func(string)
		visit = func(node string) {
			if seen[node] == under {
				t.Fatalf("a ring through %s", node)
			}
			if seen[node] == done {
				return
			}
			seen[node] = under
			for _, up := range fedBy[node] {
				visit(up)
			}
			seen[node] = done
		}
		for _, node := range all {
			visit(node)
		}
	})
}

func leafID(all []string, id string) bool { return slices.Index(all, id)%7 == 3 }

// One node more changes the feeder of few.
func TestTreeIsCalm(t *testing.T) {
	const n = 50
	moved, all := 0, 0
	for tree := range uint32(8) {
		before := ids(n)
		after := ids(n + 1)
		for _, self := range before {
			a, b := Tree(tree, self, before, nil), Tree(tree, self, after, nil)
			all++
			if !slices.Equal(a.Relays[:min(1, len(a.Relays))], b.Relays[:min(1, len(b.Relays))]) {
				moved++
			}
		}
	}
	if moved*5 > all {
		t.Errorf("one node more among %d: %d of %d feeders changed", n, moved, all)
	}
}
