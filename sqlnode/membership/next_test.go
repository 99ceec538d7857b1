package membership

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nearsql/nearsql/leader"
)

type id = leader.NodeID

// conf makes a configuration from names: those of learners begin with '-'.
func conf(names ...string) leader.Configuration {
	var c leader.Configuration
	for _, n := range names {
		if n[0] == '-' {
			c.Members = append(c.Members, leader.Member{ID: id(n[1:])})
		} else {
			c.Members = append(c.Members, leader.Member{ID: id(n), Voter: true})
		}
	}
	return c
}

func ids(names string) []id {
	var out []id
	for _, r := range names {
		out = append(out, id(r))
	}
	return out
}

func TestNextCases(t *testing.T) {
	for _, c := range []struct {
		name             string
		conf             leader.Configuration
		voters, learners string // wanted; one letter each
		self             id
		dead, refused    string
		kind             Kind
		id               id
	}{
		{"as it should be", conf("a", "b", "-c"), "ab", "c", "a", "", "", None, ""},
		{"nothing wanted", conf("a", "b"), "", "", "a", "", "", None, ""},
		{"not the primary", conf("a", "-b"), "ab", "", "b", "", "", None, ""},
		{"learners first", conf("a", "x"), "ab", "", "a", "", "", AddLearner, "b"},
		{"promote", conf("a", "-b"), "ab", "", "a", "", "", Promote, "b"},
		{"promote before the live one goes", conf("a", "x", "-b"), "ab", "", "a", "", "", Promote, "b"},
		{"also where there are enough", conf("a", "b", "x", "y", "-c"), "abc", "", "a", "", "", Promote, "c"},
		{"the dead one goes before the promotion", conf("a", "b", "x", "-c"), "abc", "", "a", "x", "", Remove, "x"},
		{"a dead learner is waited for", conf("a", "-b"), "ab", "", "a", "b", "", None, ""},
		{"and holds back the live voter", conf("a", "b", "x", "-c"), "abc", "", "a", "c", "", None, ""},
		{"but not one too many", conf("a", "b", "x", "y", "z", "-c"), "abc", "", "a", "c", "", Remove, "x"},
		{"the live voter goes after", conf("a", "b", "x"), "ab", "", "a", "", "", Remove, "x"},
		{"not if that leaves no majority", conf("a", "b", "x"), "ab", "", "a", "b", "", None, ""},
		{"not if no wanted voter would be left", conf("a", "x", "-b"), "b", "", "a", "b", "", None, ""},
		{"a learner nobody wants", conf("a", "-x"), "a", "", "a", "", "", Remove, "x"},
		{"a wanted learner", conf("a"), "a", "b", "a", "", "", AddLearner, "b"},
		{"a learner that votes is removed to be added", conf("a", "b"), "a", "b", "a", "", "", Remove, "b"},
		{"the primary hands on", conf("a", "b"), "b", "", "a", "", "", Transfer, "b"},
		{"to one that is alive", conf("a", "b", "c"), "bc", "", "a", "b", "", Transfer, "c"},
		{"or stays", conf("a", "b"), "b", "", "a", "b", "", None, ""},
		{"the next one removes it", conf("a", "b"), "b", "", "b", "", "", Remove, "a"},
		{"the sole voter waits for another", conf("a"), "b", "", "a", "", "", AddLearner, "b"},
		{"refused comes last", conf("a", "-b", "-c"), "abc", "", "a", "", "b", Promote, "c"},
		{"after learners", conf("a", "-b"), "ab", "c", "a", "", "b", AddLearner, "c"},
		{"but is tried again", conf("a", "-b"), "ab", "", "a", "", "b", Promote, "b"},
	} {
		in := func(set string) func(id) bool {
			return func(n id) bool { return slices.Contains(ids(set), n) }
		}
		got := Next(Facts{Conf: c.conf, Self: c.self, Voters: ids(c.voters), Learners: ids(c.learners),
			Alive: func(n id) bool { return !in(c.dead)(n) }, Refused: in(c.refused)})
		if got.Kind != c.kind || got.ID != c.id || (got.Why == "") != (c.name == "as it should be") {
			t.Errorf("%s: %+v, want %s %s", c.name, got, c.kind, c.id)
		}
	}
}

// group is a Raft group as far as membership goes.
type group struct {
	conf    leader.Configuration
	self    id
	dead    map[id]bool
	refused map[id]bool
}

func (g *group) count() (voters, alive, wanted int) { return g.countOf(nil) }

func (g *group) countOf(want []id) (voters, alive, wanted int) {
	for _, m := range g.conf.Members {
		if !m.Voter {
			continue
		}
		voters++
		if !g.dead[m.ID] {
			alive++
		}
		if slices.Contains(want, m.ID) {
			wanted++
		}
	}
	return voters, alive, wanted
}

// do carries a step out, as leader.Group does: it refuses what that refuses.
func (g *group) do(rt *rapid.T, s Step) {
	m, is := g.conf.Member(s.ID)
	i := slices.Index(g.conf.Members, m)
	switch {
	case s.Kind == AddLearner && !is:
		g.conf.Members = append(slices.Clone(g.conf.Members), leader.Member{ID: s.ID})
	case s.Kind == Promote && is && !m.Voter:
		if g.dead[s.ID] {
			rt.Fatalf("promotes %s, which is dead", s.ID)
		}
		g.conf.Members = slices.Clone(g.conf.Members)
		g.conf.Members[i].Voter = true
	case s.Kind == Remove && is && s.ID != g.self:
		g.conf.Members = slices.Delete(slices.Clone(g.conf.Members), i, i+1)
	case s.Kind == Transfer && is && m.Voter && s.ID != g.self:
		if g.dead[s.ID] {
			rt.Fatalf("hands on to %s, which is dead", s.ID)
		}
		g.self = s.ID
	default:
		rt.Fatalf("%+v can't be done on %+v by %s", s, g.conf.Members, g.self)
	}
}

// TestNextArrives goes from random members to random others, with steps that fail, primaries that
// change, and nodes that die, and checks each step; when all that is wanted lives, it wants to arrive.
func TestNextArrives(t *testing.T) {
	all := ids("abcdefgh")
	rapid.Check(t, func(rt *rapid.T) {
		g := &group{dead: map[id]bool{}, refused: map[id]bool{}}
		voters := rapid.SliceOfNDistinct(rapid.SampledFrom(all), 1, 5, rapid.ID).Draw(rt, "voters")
		for _, v := range voters {
			g.conf.Members = append(g.conf.Members, leader.Member{ID: v, Voter: true})
		}
		for _, l := range rapid.SliceOfNDistinct(rapid.SampledFrom(all), 0, 4, rapid.ID).Draw(rt, "learners") {
			if !slices.Contains(voters, l) {
				g.conf.Members = append(g.conf.Members, leader.Member{ID: l})
			}
		}
		g.self = voters[0]
		want := rapid.SliceOfNDistinct(rapid.SampledFrom(all), 1, 5, rapid.ID).Draw(rt, "want voters")
		learners := rapid.SliceOfNDistinct(rapid.SampledFrom(all), 0, 4, rapid.ID).Draw(rt, "want learners")
		wantedMayDie := rapid.Bool().Draw(rt, "wanted nodes may die")
		for _, d := range rapid.SliceOfNDistinct(rapid.SampledFrom(all), 0, 3, rapid.ID).Draw(rt, "dead") {
			if d == g.self || !wantedMayDie && slices.Contains(want, d) {
				continue
			}
			g.dead[d] = true
			if n, alive, _ := g.count(); 2*alive <= n { // there is no primary without a majority
				delete(g.dead, d)
			}
		}
		failing := rapid.IntRange(0, 30).Draw(rt, "steps that may fail")
		for step := range 200 {
			f := Facts{Conf: g.conf, Self: g.self, Voters: want, Learners: learners,
				Alive: func(n id) bool { return !g.dead[n] }, Refused: func(n id) bool { return g.refused[n] }}
			s := Next(f)
			if s.Kind == None {
				g.checkEnd(rt, s, want, learners)
				return
			}
			if step < failing && rapid.IntRange(0, 2).Draw(rt, "fails") == 0 {
				g.refused[s.ID] = true
				continue
			}
			delete(g.refused, s.ID)
			before := *g
			_, _, wantedBefore := g.countOf(want)
			if s.Kind == Remove && slices.Contains(want, s.ID) {
				rt.Fatalf("removes %s, which is wanted", s.ID)
			}
			g.do(rt, s)
			n, alive, wanted := g.countOf(want)
			if 2*alive <= n {
				rt.Fatalf("%+v on %+v (dead %v) leaves no majority", s, before.conf.Members, g.dead)
			}
			if wanted < wantedBefore {
				rt.Fatalf("%+v on %+v leaves fewer wanted voters", s, before.conf.Members)
			}
			if m, _ := before.conf.Member(s.ID); s.Kind == Remove && m.Voter && !g.dead[s.ID] && (n < len(want) || wanted == 0) {
				rt.Fatalf("%+v on %+v: a live voter goes too early", s, before.conf.Members)
			}
			// Now and then the others elect another.
			if rapid.IntRange(0, 5).Draw(rt, "election") == 0 {
				for _, m := range g.conf.Members {
					if m.Voter && !g.dead[m.ID] && m.ID != g.self {
						g.self = m.ID
						break
					}
				}
			}
		}
		rt.Fatalf("no end: %+v, want %v %v, dead %v", g.conf.Members, want, learners, g.dead)
	})
}

// checkEnd wants the members that are wanted, or a reason that holds.
func (g *group) checkEnd(rt *rapid.T, s Step, want, learners []id) {
	deadWanted := slices.ContainsFunc(want, func(n id) bool { return g.dead[n] })
	for _, m := range g.conf.Members {
		switch wanted := slices.Contains(want, m.ID); {
		case wanted && (m.Voter || g.dead[m.ID]):
		case wanted:
			rt.Fatalf("%s lives, and is no voter: %+v", m.ID, s)
		case m.Voter && g.dead[m.ID]:
			rt.Fatalf("%s is dead, not wanted, and still votes: %+v", m.ID, s)
		case m.Voter && !deadWanted:
			rt.Fatalf("%s is not wanted, and still votes: %+v", m.ID, s)
		case !m.Voter && !slices.Contains(learners, m.ID):
			rt.Fatalf("%s is not wanted, and still learns: %+v", m.ID, s)
		}
	}
	for _, n := range slices.Concat(want, learners) {
		if _, ok := g.conf.Member(n); !ok {
			rt.Fatalf("%s is no member: %+v", n, s)
		}
	}
	done := !slices.ContainsFunc(g.conf.Members, func(m leader.Member) bool { return m.Voter != slices.Contains(want, m.ID) })
	if done != (s.Why == "") {
		rt.Fatalf("arrived %v, says %q: %+v", done, s.Why, g.conf.Members)
	}
}

func TestContact(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	peers := []leader.PeerStats{
		{Member: leader.Member{ID: "recent"}, LastContact: now.Add(-9 * time.Second)},
		{Member: leader.Member{ID: "old"}, LastContact: now.Add(-10 * time.Second)},
		{Member: leader.Member{ID: "never"}},
	}
	for _, c := range []struct {
		primary time.Duration
		id      id
		want    bool
	}{
		{time.Minute, "recent", true}, {time.Minute, "old", false}, {time.Minute, "never", false}, {time.Minute, "unknown", false},
		{9 * time.Second, "old", true}, {9 * time.Second, "never", true},
	} {
		if got := Contact(peers, now.Add(-c.primary), now, 10*time.Second)(c.id); got != c.want {
			t.Errorf("%s, primary for %s: %v", c.id, c.primary, got)
		}
	}
}

func TestKindsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for k := range Transfer + 2 {
		s := fmt.Sprint(k)
		if seen[s] || s == "" {
			t.Errorf("kind %d is %q", uint8(k), s)
		}
		seen[s] = true
	}
}
