package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/wire"
)

var (
	aList     = key{tenant: "t", kind: list}
	aRegister = key{tenant: "t", kind: register}
)

// at is an op from one second to another.
func at(call, back int, o op) *op {
	o.call, o.back = time.Duration(call)*time.Second, time.Duration(back)*time.Second
	return &o
}

func is(text string) state { return state{true, text} }

func TestCheckKey(t *testing.T) {
	var (
		a     = at(1, 2, op{verb: appends, value: "1", seen: is("1")})
		b     = at(3, 4, op{verb: appends, value: "2", seen: is("1,2")})
		set1  = at(1, 2, op{verb: set, value: "1"})
		set2  = at(3, 4, op{verb: set, value: "2"})
		maybe = at(3, 4, op{verb: set, value: "2", unknown: true})
	)
	for _, c := range []struct {
		name  string
		key   key
		ops   []*op
		final *state
		want  string // "" for a history of one copy
	}{
		{"appends and reads", aList, []*op{at(0, 1, op{verb: read}), a, b, at(5, 6, op{verb: read, seen: is("1,2")})}, new(is("1,2")), ""},
		{"a read beside an append sees either", aList, []*op{a, b, at(3, 4, op{verb: read, seen: is("1")})}, nil, ""},
		{"a stale read", aList, []*op{a, b, at(5, 6, op{verb: read, seen: is("1")})}, nil, "not linearizable"},
		{"an empty stale read", aList, []*op{a, at(5, 6, op{verb: read})}, nil, "not linearizable"},
		{"reads that go back", aList, []*op{a, at(3, 9, op{verb: appends, value: "2", seen: is("1,2")}), at(4, 5, op{verb: read, seen: is("1,2")}), at(6, 7, op{verb: read, seen: is("1")})}, nil, "not linearizable"},
		{"an append that was based on an old state", aList, []*op{a, at(3, 4, op{verb: appends, value: "2", seen: is("2")})}, nil, "not linearizable"},
		{"a lost write", aList, []*op{a, b}, new(is("1")), "2 was acknowledged and is lost"},
		{"all lost", aList, []*op{a}, new(state{}), "1 was acknowledged and is lost"},
		{"a write twice", aList, []*op{a, b}, new(is("1,2,2")), "2 is there 2 times"},
		{"a refused write that is there", aList, []*op{a, at(3, 4, op{verb: appends, value: "2", refused: true})}, new(is("1,2")), "2 was refused and is there"},
		{"a write that nobody made", aList, []*op{a}, new(is("1,7")), "7 is there and was never written"},
		{"an unknown append that happens late", aList, []*op{a, at(3, 4, op{verb: appends, value: "2", unknown: true}), at(5, 6, op{verb: read, seen: is("1")}), at(7, 8, op{verb: read, seen: is("1,2")})}, new(is("1,2")), ""},
		{"an unknown append that never happens", aList, []*op{a, at(3, 4, op{verb: appends, value: "2", unknown: true}), b}, nil, ""},
		{"an unknown append that happens and does not", aList, []*op{a, at(3, 4, op{verb: appends, value: "2", unknown: true}), at(5, 6, op{verb: read, seen: is("1,2")}), at(7, 8, op{verb: read, seen: is("1")})}, nil, "not linearizable"},
		{"a refused read says nothing", aList, []*op{a, at(5, 6, op{verb: read, refused: true})}, nil, ""},
		{"the end is a read too", aRegister, []*op{set1, set2}, new(is("1")), "not linearizable"},
		{"sets", aRegister, []*op{set1, set2, at(5, 6, op{verb: read, seen: is("2")})}, new(is("2")), ""},
		{"an unknown set after all", aRegister, []*op{set1, maybe, at(5, 6, op{verb: read, seen: is("1")})}, new(is("2")), ""},
		{"a swap that can't have", aRegister, []*op{set1, set2, at(5, 6, op{verb: swap, old: "1", value: "3", happened: true})}, nil, "not linearizable"},
		{"a swap that must have", aRegister, []*op{set1, at(5, 6, op{verb: swap, old: "1", value: "3"})}, nil, "not linearizable"},
		{"a swap of nothing", aRegister, []*op{at(1, 2, op{verb: swap, old: "1", value: "3"}), set1}, nil, ""},
		{"two creates", aRegister, []*op{at(1, 2, op{verb: create, value: "1", happened: true}), at(3, 4, op{verb: create, value: "2", happened: true})}, nil, "not linearizable"},
		{"a create that says no", aRegister, []*op{set1, at(3, 4, op{verb: create, value: "2"})}, new(is("1")), ""},
		{"a create that says no to nothing", aRegister, []*op{at(1, 2, op{verb: create, value: "2"}), at(3, 4, op{verb: read})}, nil, "not linearizable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, o := range c.ops {
				o.key = c.key
			}
			got, undecided := checkKey(c.key, c.ops, c.final)
			if undecided || (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, undecided %v; want %q", got, undecided, c.want)
			}
		})
	}
}

// TestCheckTakesOneCopy holds that no history of one copy is refused, whatever its order, its unknown and its refused ops.
func TestCheckTakesOneCopy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := key{tenant: "t", kind: kind(rapid.IntRange(0, 1).Draw(t, "kind"))}
		var now state
		var ops []*op
		for i := range rapid.IntRange(0, 25).Draw(t, "ops") {
			o := &op{key: k, client: i, value: fmt.Sprint(i)}
			if rapid.Bool().Draw(t, "write") {
				o.verb = appends
				if k.kind == register {
					o.verb = rapid.SampledFrom([]verb{set, swap, create}).Draw(t, "verb")
					o.old = rapid.SampledFrom([]string{now.text, "nothing"}).Draw(t, "old")
				}
			}
			// It happens at second i; it was called before, and answered after.
			o.call = time.Duration(i)*time.Second - time.Duration(rapid.IntRange(1, 3000).Draw(t, "before"))*time.Millisecond
			o.back = time.Duration(i)*time.Second + time.Duration(rapid.IntRange(1, 3000).Draw(t, "after"))*time.Millisecond
			fate := rapid.IntRange(0, 9).Draw(t, "fate")
			if fate == 0 {
				o.refused = true
			} else if fate != 1 || o.verb == read { // 1: unknown, and it never happened
				o.unknown = fate <= 2
				ask := *o
				ask.unknown = true
				_, next := step(now, &ask)
				switch {
				case o.verb == read:
					o.seen = now
				case o.verb == appends:
					o.seen = next
				default:
					o.happened = next.text == o.value && next != now
				}
				if o.verb != read {
					now = next
				}
				if o.unknown {
					o.seen, o.happened = state{}, false
				}
			} else {
				o.unknown = true
			}
			ops = append(ops, o)
		}
		for _, final := range []*state{nil, &now} {
			if fault, undecided := checkKey(k, slices.Clone(ops), final); fault != "" || undecided {
				t.Fatalf("undecided %v: %s", undecided, fault)
			}
		}
	})
}

func TestLearn(t *testing.T) {
	row := client.Result{Rows: [][]wire.Value{{wire.Text("1,2")}}}
	changed := client.Result{Summary: wire.Summary{RowsAffected: 1}}
	lost := &client.UnreachableError{Err: errors.New("connection reset")}
	for _, c := range []struct {
		name string
		verb verb
		r    client.Result
		err  error
		want op
	}{
		{"a row", read, row, nil, op{seen: is("1,2")}},
		{"no row", read, client.Result{}, nil, op{}},
		{"an append", appends, row, nil, op{seen: is("1,2")}},
		{"a swap", swap, changed, nil, op{happened: true}},
		{"a swap that says no", swap, client.Result{}, nil, op{}},
		{"a create", create, changed, nil, op{happened: true}},
		{"a create that says no", create, client.Result{}, wire.NewError("SQLITE_CONSTRAINT_PRIMARYKEY", "there"), op{}},
		{"no primary", set, client.Result{}, wire.NewError(wire.CodeNotPrimary, "none"), op{refused: true, code: "NOT_PRIMARY"}},
		{"an unknown outcome", set, client.Result{}, wire.NewError(wire.CodeUnknownOutcome, "lost"), op{unknown: true, code: "UNKNOWN_OUTCOME"}},
		{"a lost connection", set, client.Result{}, lost, op{unknown: true, code: "connection lost"}},
		{"no answer", set, client.Result{}, fmt.Errorf("ask: %w", context.DeadlineExceeded), op{unknown: true, code: "no answer in time"}},
		{"nobody there", set, client.Result{}, &client.UnreachableError{Err: &net.OpError{Op: "dial", Err: errors.New("refused")}}, op{refused: true, code: "no connection"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := op{verb: c.verb}
			learn(&got, c.r, c.err)
			if c.verb == read || c.verb == appends || c.verb == set {
				got.happened = false // is not asked for
			}
			c.want.verb = c.verb
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestPlan(t *testing.T) {
	for _, nodes := range []int{1, 3, 5} {
		for seed := range uint64(50) {
			make := func() []fault { return plan(rand.New(rand.NewPCG(seed, 0)), usual(nodes), nodes, 10*time.Minute) }
			list := make()
			if !slices.Equal(list, make()) {
				t.Fatalf("seed %d: two plans of one seed differ", seed)
			}
			if len(list) < 50 {
				t.Errorf("seed %d: %d faults in ten minutes", seed, len(list))
			}
			var seen [faults]int
			for i, f := range list {
				seen[f.what]++
				if f.until < f.at || f.until > 10*time.Minute || i > 0 && f.at < list[i-1].at {
					t.Fatalf("seed %d: %s", seed, f)
				}
				if f.a < thePrimary || f.a >= nodes || f.b < 0 || f.b >= nodes || nodes > 1 && f.a == f.b {
					t.Fatalf("seed %d, %d nodes: %s", seed, nodes, f)
				}
			}
			for w, n := range seen {
				if nodes > 1 && n == 0 && seed == 0 {
					t.Errorf("seed %d: no %s in ten minutes", seed, what(w))
				}
			}
		}
	}
}

func TestOnlySomeFaults(t *testing.T) {
	w, err := usual(3).only("pause,kill all")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range plan(rand.New(rand.NewPCG(1, 0)), w, 3, time.Minute) {
		if f.what != pause && f.what != killAll {
			t.Errorf("there is %s", f)
		}
	}
	for _, names := range []string{"", "nothing", "kill,cut"} {
		if _, err := usual(1).only(names); err == nil {
			t.Errorf("%q is taken for one node", names)
		}
	}
}

func TestProblemsOfAClassAreCounted(t *testing.T) {
	h := newHistory()
	for i := range 10 {
		h.complain("one", "%d", i)
	}
	h.complain("two", "x")
	if got, want := h.problems(), []string{"one: 0", "one: 1", "one: 2", "two: x"}; !slices.Equal(got, want) || h.mu.classes["one"] != 10 {
		t.Errorf("got %q, %v", got, h.mu.classes)
	}
}

func TestRoundsEnd(t *testing.T) {
	h := newHistory()
	h.began = time.Now().Add(-10 * roundTime)
	k := key{tenant: "t", round: 3}
	o := &op{key: k}
	h.begin(o)
	if _, ended := h.ended(3); ended {
		t.Error("a round ended with an op under way")
	}
	h.end(o)
	if ops, ended := h.ended(3); !ended || len(ops[k]) != 1 {
		t.Errorf("round 3: %v, %v", ops, ended)
	}
	if _, ended := h.ended(h.round()); ended {
		t.Error("the round of now has ended")
	}
}

func TestCompareCopies(t *testing.T) {
	at := func(node string, sum byte, changes uint32) copied { return copied{node, [32]byte{sum}, changes} }
	for name, c := range map[string]struct {
		list   []copied
		fault  string
		others bool
	}{
		"one":                   {list: []copied{at("n1", 1, 5)}},
		"the same":              {list: []copied{at("n1", 1, 5), at("n2", 1, 5), at("n3", 1, 5)}},
		"differ":                {list: []copied{at("n1", 1, 5), at("n2", 1, 5), at("n3", 2, 5)}, fault: "the copies of nodes n1 and n3 differ"},
		"one is behind":         {list: []copied{at("n1", 1, 4), at("n2", 2, 5), at("n3", 2, 5)}, others: true},
		"behind, others differ": {list: []copied{at("n1", 1, 4), at("n2", 2, 5), at("n3", 3, 5)}, fault: "the copies of nodes n2 and n3 differ"},
	} {
		fault, err := compareCopies(c.list)
		if fault != c.fault || errors.Is(err, errOtherStates) != c.others {
			t.Errorf("%s: %q, %v", name, fault, err)
		}
	}
}
