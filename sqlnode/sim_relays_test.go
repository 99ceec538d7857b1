package sqlnode

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/readpath/replica"
	"github.com/nearsql/nearsql/sqlnode/replicas"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// simShape is how many nodes voters feed, and how many each of those feeds on average: relays of relays with a handful of nodes. The zero one is the product's.
type simShape struct{ roots, fan int }

func (s simShape) String() string {
	if s == (simShape{}) {
		return "as always"
	}
	return fmt.Sprintf("voters feed %d, relays %d", s.roots, s.fan)
}

// chance is a shape with relays.
func (s simShape) chance(rng *rand.Rand) simShape {
	return []simShape{{1, 1}, {1, 2}, {2, 1}}[rng.IntN(3)]
}

// upstream is readpath.Tree with these numbers.
func (s simShape) upstream(tree uint32, self string, relays, leaves []string) readpath.Upstream {
	if s == (simShape{}) {
		return readpath.Tree(tree, self, relays, leaves)
	}
	order := slices.Clone(relays)
	readpath.Spread(tree, "", order)
	nearest := func(nodes []string) []string {
		own := slices.Clone(nodes)
		readpath.Spread(tree, self, own)
		return own[:min(len(own), 6)]
	}
	at := slices.Index(order, self)
	if at < 0 {
		near := nearest(order)
		return readpath.Upstream{Relays: near[:min(len(near), 2)], Others: near[min(len(near), 2):]}
	}
	if at < s.roots {
		return readpath.Upstream{Others: nearest(order[:at])}
	}
	from, size := 0, s.roots
	for at >= from+size+size*s.fan {
		from, size = from+size, size*s.fan
	}
	near := nearest(order[from : from+size])
	return readpath.Upstream{Relays: near[:min(len(near), 2)], Others: near[min(len(near), 2):]}
}

// TestSimShape: simulations have the product's trees, but for the numbers; and whatever those are, no relay is named to one before it.
func TestSimShape(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var relays []string
		for i := range rapid.IntRange(0, 80).Draw(t, "relays") {
			relays = append(relays, fmt.Sprintf("n%d", i))
		}
		tree := rapid.Uint32Range(0, treeCount-1).Draw(t, "tree")
		order := slices.Clone(relays)
		readpath.Spread(tree, "", order)
		few := simShape{rapid.IntRange(1, 2).Draw(t, "roots"), rapid.IntRange(1, 3).Draw(t, "fan")}
		byVoters := 0
		for at, self := range order {
			want, got := readpath.Tree(tree, self, relays, nil), simShape{readpath.TreeRoots, readpath.TreeFan}.upstream(tree, self, relays, nil)
			if !slices.Equal(got.Relays, want.Relays) || !slices.Equal(got.Others, want.Others) {
				t.Fatalf("%s follows %v, want %v", self, got, want)
			}
			u := few.upstream(tree, self, relays, nil)
			if len(u.Relays) == 0 {
				byVoters++
			}
			for _, r := range slices.Concat(u.Relays, u.Others) {
				if slices.Index(order, r) >= at {
					t.Fatalf("%s, number %d, is fed by %s, number %d", self, at, r, slices.Index(order, r))
				}
			}
		}
		if want := min(few.roots, len(relays)); byVoters != want {
			t.Fatalf("voters feed %d, want %d", byVoters, want)
		}
	})
}

// simRelays is what of a run is about relays. Guarded by simWorld.mu.
type simRelays struct {
	shapes  map[string]simShape // of each node: they may differ for a while
	hops    int                 // the longest way from voters that was seen
	relayed int                 // copies that were seen to be fed by relays
	feeders map[string]string   // by node and tenant
	changes int                 // of feeders that were seen
}

// feedTree is whom a node follows.
func (w *simWorld) feedTree(node string) feedTree {
	return func(tree uint32, self string, relays, leaves []string) readpath.Upstream {
		w.mu.Lock()
		s, ok := w.mu.relays.shapes[node]
		w.mu.Unlock()
		if !ok {
			s = w.shape
		}
		return s.upstream(tree, self, relays, leaves)
	}
}

// reshape has nodes follow others, one node after the other, as when nodes hear at different times of one that came or went.
func (w *simWorld) reshape(string, func()) {
	if w.shape == (simShape{}) {
		return
	}
	shape := w.shape.chance(w.chance())
	for _, id := range w.ids() {
		w.mu.Lock()
		w.mu.relays.shapes[id] = shape
		w.mu.Unlock()
		if n := w.s.node(id); n != nil {
			n.repl.trees.mu.Lock()
			n.repl.trees.mu.lists = nil
			n.repl.trees.mu.Unlock()
			n.repl.follower.Reconsider()
		}
		time.Sleep(time.Duration(w.pick(1000)) * time.Millisecond)
	}
}

// replicasApart leaves those that never vote the company of each other.
func (w *simWorld) replicasApart(_ string, wait func()) {
	var list [][2]string
	for _, a := range w.ids() {
		for _, b := range w.ids() {
			if isReplica(a) && !isReplica(b) {
				list = append(list, [2]string{a, b})
			}
		}
	}
	w.cut(list, true, wait)
}

// watchRelays counts by whom a node is fed.
func (w *simWorld) watchRelays(n *simNode) {
	for _, t := range n.repl.set.Tenants() {
		st, ok := n.repl.follower.Status(t.ID())
		if !ok || st.Feeder == "" || !st.Joined {
			continue
		}
		w.mu.Lock()
		r, key := &w.mu.relays, n.id.Node+" "+t.ID().String()
		if r.feeders[key] != "" && r.feeders[key] != st.Feeder {
			r.changes++
		}
		r.feeders[key] = st.Feeder
		if r.hops = max(r.hops, int(st.Hops)); st.Hops > 1 {
			r.relayed++
		}
		w.mu.Unlock()
	}
}

// believing is a source of relays that tell those whom they feed what they have themselves, and don't ask.
type believing struct {
	*replicas.Source
	r *replicator
}

// ReadIndex implements replica.Source, wrongly.
func (b believing) ReadIndex(ctx context.Context, group wire.GroupID) (uint64, error) {
	if _, ok := b.r.n.groups.Host(group); ok {
		return b.Source.ReadIndex(ctx, group)
	}
	known := uint64(0)
	for _, t := range b.r.set.Tenants() {
		if st, ok := b.r.follower.Status(t.ID()); ok && st.Joined && t.Record().Group == group {
			known = max(known, st.Index)
		}
	}
	if known == 0 {
		return 0, replica.ErrUnknownGroup
	}
	return known, nil
}

// TestReplicasBehindRelays: with relays of relays a strong read, one with a bound and one with a bookmark hold what they promise at the last of a chain, also
// when those before it die, and when it is cut off from all but its relay; and it does have its transactions from there.
func TestReplicasBehindRelays(t *testing.T) {
	simScenario(t, simOptions{seed: 1, nodes: 3, replicas: 3, shape: simShape{1, 1}}, func(t *testing.T, w *simWorld) {
		n1 := w.s.node("n1")
		row, ok := n1.cat.View().Tenant(tenant.Name("t0"))
		if !ok {
			t.Fatal("no tenant")
		}
		// chain is the replicas, once each is fed by the one before it.
		chain := func() (c [3]*simNode) {
			t.Helper()
			w.s.await(time.Minute, func() string {
				c = [3]*simNode{}
				for _, n := range w.s.replicas() {
					st, _ := n.repl.follower.Status(row.ID)
					if want := n.repl.feeders(row.ID); !st.Joined || st.Feeder != want[0] || st.Hops < 1 || st.Hops > 3 {
						return fmt.Sprintf("%s is %d hops from voters, fed by %q of %v", n.id.Node, st.Hops, st.Feeder, want)
					}
					c[st.Hops-1] = n
				}
				if slices.Contains(c[:], nil) {
					return "they are no chain"
				}
				return ""
			})
			return c
		}
		c := chain()
		first, second, last := c[0], c[1], c[2]
		n1.sql(t, "t0", "", "INSERT INTO list VALUES('a', 'first')")
		fresh := func(n *simNode, query, want string) {
			t.Helper()
			w.s.await(30*time.Second, func() string {
				status, text := n.do("POST", "/v1/tenants/t0/sql?on_stale=fail&"+query, `{"sql":"SELECT v FROM list WHERE k = 'a'"}`)
				if status != 200 {
					return fmt.Sprintf("%s, %s: %d %s", n.id.Node, query, status, text)
				}
				a := decode[simAnswer](t, text)
				if got := fmt.Sprint(a.Results[0].Rows); a.Meta.Node != n.id.Node || got != want {
					t.Fatalf("%s, %s: %s from %s, want %s", n.id.Node, query, got, a.Meta.Node, want)
				}
				return ""
			})
		}
		time.Sleep(700 * time.Millisecond)
		fresh(last, "max_staleness=500ms", "[[first]]")
		// Two die: the last finds a way around them, and is fed by voters.
		for _, n := range []*simNode{first, second} {
			w.seize(n.id.Node)
			w.s.kill(n.id.Node, nil)
		}
		n1.sql(t, "t0", "", "UPDATE list SET v = 'second'")
		time.Sleep(700 * time.Millisecond)
		fresh(last, "max_staleness=500ms", "[[second]]")
		for _, n := range []*simNode{first, second} {
			w.up(n.id.Node)
			w.leave(n.id.Node)
		}
		c = chain()
		first, second, last = c[0], c[1], c[2]
		// The voters are out of its reach: what it knows it knows by its relays, which ask for it.
		for _, id := range w.ids() {
			if !isReplica(id) {
				w.s.net.CutBoth(last.id.Node, id)
				w.s.net.CutBoth(second.id.Node, id)
			}
		}
		n1.sql(t, "t0", "", "UPDATE list SET v = 'third'")
		time.Sleep(700 * time.Millisecond)
		fresh(last, "max_staleness=500ms", "[[third]]")
		// The first loses them too: nobody behind it believes to be fresh.
		for _, id := range w.ids() {
			if !isReplica(id) {
				w.s.net.CutBoth(first.id.Node, id)
			}
		}
		n1.sql(t, "t0", "", "UPDATE list SET v = 'fourth'")
		time.Sleep(700 * time.Millisecond)
		for _, n := range []*simNode{first, second, last} {
			status, text := n.do("POST", "/v1/tenants/t0/sql?max_staleness=500ms&on_stale=fail", `{"sql":"SELECT v FROM list WHERE k = 'a'"}`)
			if status == 200 {
				t.Errorf("%s, which no voter reaches, believes to be fresh: %s", n.id.Node, text)
			}
		}
		w.s.net.HealAll()
		fresh(last, "max_staleness=500ms", "[[fourth]]")
	})
}
