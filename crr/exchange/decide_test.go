package exchange

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/crr/exchange/frame"
	"github.com/nearsql/nearsql/wire"
	"pgregory.net/rapid"
)

// Everybody gets a push once, from somebody who has it.
func TestBranches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, mesh := rapid.IntRange(0, 600).Draw(t, "n"), rapid.IntRange(1, 60).Draw(t, "mesh")
		var to []string
		for i := range n {
			to = append(to, fmt.Sprint("n", i))
		}
		var got []string
		out := branches(to, mesh)
		for i, b := range out {
			if b[0] != to[i] || len(b)-1 > frame.MaxRelay {
				t.Fatalf("branch %d of %d: %d nodes, of which the first is %s", i, len(out), len(b), b[0])
			}
			got = append(got, b...)
		}
		slices.Sort(got)
		slices.Sort(to)
		if !slices.Equal(got, to) || n <= mesh && len(out) != n || n > mesh && len(out)*len(out) > 4*n+4 {
			t.Fatalf("%d nodes in %d branches", n, len(out))
		}
	})
}

func TestAhead(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		others []time.Duration // ahead of this clock
		want   time.Duration   // this clock ahead of all
	}{
		{nil, 0},
		{[]time.Duration{7 * s}, 0}, // one against one
		{[]time.Duration{7 * s, 7 * s}, -7 * s},
		{[]time.Duration{-7 * s, -9 * s}, 7 * s},
		{[]time.Duration{7 * s, -1}, 0},
		{[]time.Duration{1000 * time.Hour, s, -s, 2 * s}, -s},
		{[]time.Duration{-7 * s, -8 * s, -7 * s}, 7 * s},
		{[]time.Duration{-7 * s, s, s}, -0},
	} {
		if got := ahead(c.others); got != c.want {
			t.Errorf("%v: %v ahead, want %v", c.others, got, c.want)
		}
	}
}

// The measured offset is right within half of the round trip, however the two ways share it.
func TestLinkClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		off := time.Duration(rapid.Int64Range(-1e18, 1e18).Draw(t, "offset"))
		there := time.Duration(rapid.Int64Range(0, 3e8).Draw(t, "there"))
		back := time.Duration(rapid.Int64Range(0, 3e8).Draw(t, "back"))
		now := time.UnixMilli(1_700_000_000_000)
		var near, far linkClock
		b := near.beat(now)
		now = now.Add(there)
		far.heard(b, now.Add(off))
		now = now.Add(time.Second)
		b = far.beat(now.Add(off))
		now = now.Add(back)
		near.heard(b, now)
		got, ok := near.best()
		if !ok || (got.offset-off).Abs() > (there+back)/2+5*time.Microsecond || (got.trip-there-back).Abs() > 5*time.Microsecond {
			t.Fatalf("%+v, %v; the offset is %v", got, ok, off)
		}
	})
	var c linkClock
	for _, v := range []int64{-1 << 63, 1<<63 - 1, 5} {
		c.heard(frame.Heartbeat{Now: v, Echo: v, At: -v}, time.UnixMilli(1))
		c.best()
	}
}

// Answers to different tenants take turns by bytes, and pushes are not kept waiting.
func TestTurns(t *testing.T) {
	x := &Exchange{}
	x.cfg.setDefaults()
	l := &link{x: x, wake: make(chan struct{}, 1), up: true, answers: make(map[uint64]*answer)}
	l.out.init(l)
	for id := uint64(1); id <= 3; id++ {
		a := &answer{l: l, id: id, kind: frame.Batch, credit: 1 << 30, moved: make(chan struct{}, 1)}
		n := 100 << 10
		if id == 1 {
			n = 4 << 20
		}
		a.frames, a.queued = [][]byte{make([]byte, n)}, n
		l.answers[id] = a
		l.out.turns = append(l.out.turns, a)
	}
	for range 3 {
		l.out.push(frame.Push{Tenant: wire.TenantID{1}, Data: make([]byte, 1000)})
	}
	var order []uint64
	pushes := 0
	for len(order) < 10 {
		fs, err := l.take(false)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range fs {
			switch f := f.(type) {
			case frame.Answer:
				order = append(order, f.ID)
			case frame.Push:
				if pushes++; len(order) > 3 {
					t.Errorf("a push came after %d parts of answers", len(order))
				}
			}
		}
	}
	if want := []uint64{1, 2, 3, 1, 2, 3, 1, 1, 1, 1}; !slices.Equal(order[:10], want) || pushes != 3 {
		t.Errorf("answers came as %v, want %v; %d pushes", order, want, pushes)
	}
}

func TestAgenda(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a agenda
		now := time.UnixMilli(0)
		ts := make([]*tenant, 8)
		want := make(map[*tenant]time.Time)
		for i := range ts {
			ts[i] = newTenant(wire.TenantID{byte(i)})
		}
		for range 60 {
			x := ts[rapid.IntRange(0, 7).Draw(t, "tenant")]
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0, 1, 2:
				at := now.Add(time.Duration(rapid.IntRange(0, 50).Draw(t, "at")))
				a.set(x, at)
				if old, ok := want[x]; !ok || at.Before(old) {
					want[x] = at
				}
			case 3:
				a.remove(x)
				delete(want, x)
			default:
				now = now.Add(10)
				for x := a.due(now); x != nil; x = a.due(now) {
					if at, ok := want[x]; !ok || at.After(now) {
						t.Fatalf("taken at %v, due %v, %v", now, at, ok)
					}
					delete(want, x)
				}
			}
			for _, at := range want {
				if next := a.next(); next.After(at) {
					t.Fatalf("next is %v, one is due %v", next, at)
				}
			}
		}
	})
}

// The nearest peer that has more is asked, a backup only if no other has; one that has failed, or is behind, is not.
func TestChoiceOfPeer(t *testing.T) {
	x, err := New(Config{Node: "me", Host: noHost{}, Dial: noDial})
	if err != nil {
		t.Fatal(err)
	}
	tn := newTenant(wire.TenantID{1})
	x.setPeersLocked(tn, []Peer{{Node: "me", Site: 9}, {Node: "home", Site: 1, Backup: true}, {Node: "near", Site: 2}, {Node: "far", Site: 3}})
	if got := []string{tn.peers[0].Node, tn.peers[1].Node, tn.peers[2].Node}; !slices.Equal(got, []string{"near", "far", "home"}) || len(tn.peers) != 3 {
		t.Fatalf("peers are %v", got)
	}
	now := time.Now()
	tn.setHead(crr.Head{Vector: crr.Vector{2: 5}, Hash: crr.Vector{2: 5}.Hash(), Seq: 1}, now, &x.cfg.Timing)
	near, far := tn.peers[0], tn.peers[1]
	near.has(tn, crr.Vector{2: 4}, now)
	far.has(tn, crr.Vector{2: 5, 3: 1}, now)
	if near.hasMore(tn) || !near.moreAt.IsZero() || !far.hasMore(tn) || far.moreAt != now {
		t.Errorf("near %+v, far %+v", near, far)
	}
	near.says(tn, 77, now.Add(time.Second))
	if !near.hasMore(tn) || near.moreAt != now.Add(time.Second) {
		t.Errorf("an unknown hash is not looked into: %+v", near)
	}
	near.says(tn, tn.head.Hash, now)
	if near.hasMore(tn) || !near.vector.Equal(tn.head.Vector) {
		t.Errorf("an equal hash: %+v", near)
	}
	// Having taken what far has ends the wish to ask it.
	v := crr.Vector{2: 5, 3: 1}
	tn.setHead(crr.Head{Vector: v, Hash: v.Hash(), Seq: 2}, now, &x.cfg.Timing)
	if !far.moreAt.IsZero() {
		t.Error("far is asked for what is here")
	}
	// An older look at the file changes nothing.
	tn.setHead(crr.Head{Vector: crr.Vector{2: 5}, Hash: 1, Seq: 1}, now, &x.cfg.Timing)
	if tn.head.Seq != 2 {
		t.Error("an older head was taken")
	}
}

// What is known of a peer does not go back by what it said earlier and is taken later, and what its newest head tells of is asked for.
func TestKnowledgeOfPeer(t *testing.T) {
	x, err := New(Config{Node: "me", Host: noHost{}, Dial: noDial})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	begin := func() (*tenant, *peer) {
		tn := newTenant(wire.TenantID{1})
		x.setPeersLocked(tn, []Peer{{Node: "b", Site: 2}})
		here := crr.Vector{2: 1, 3: 1}
		tn.setHead(crr.Head{Vector: here, Hash: here.Hash(), Seq: 1}, now, &x.cfg.Timing)
		return tn, tn.peers[0]
	}
	tn, p := begin()
	p.has(tn, crr.Vector{2: 5, 3: 1}, now)
	p.hasAtLeast(tn, crr.Vector{2: 1}, false, now.Add(time.Hour))
	if want := (crr.Vector{2: 5, 3: 1}); !p.vector.Equal(want) || p.moreAt != now {
		t.Errorf("after an older request: %s, asked from %v", p.vector, p.moreAt)
	}

	newer := crr.Vector{2: 6, 3: 9}.Hash()
	tn, p = begin()
	p.says(tn, newer, now)
	p.hasAtLeast(tn, crr.Vector{2: 1, 3: 1}, false, now)
	if p.moreAt.IsZero() {
		t.Error("a head is forgotten for a push that came before it")
	}
	p.hasAtLeast(tn, crr.Vector{2: 1, 3: 1}, true, now)
	if !p.moreAt.IsZero() {
		t.Error("a head counts although a push that came after it says that there is nothing more")
	}
	p.says(tn, newer, now)
	p.has(tn, crr.Vector{2: 1, 3: 1}, now)
	if !p.moreAt.IsZero() {
		t.Error("a head counts although an answer that came after it says that there is nothing more")
	}
	p.has(tn, crr.Vector{2: 7}, now)
	p.forget()
	if p.hasMore(tn) || !p.moreAt.IsZero() {
		t.Error("something is known of a peer that was started anew")
	}
}

// A head waits for the pushes of its tenant that were queued before it: who gets it takes it for newer.
func TestHeadBehindPushes(t *testing.T) {
	x := &Exchange{}
	x.cfg.setDefaults()
	l := &link{x: x, wake: make(chan struct{}, 1), up: true, answers: make(map[uint64]*answer)}
	l.out.init(l)
	busy, quiet := newTenant(wire.TenantID{1}), newTenant(wire.TenantID{2})
	busy.known, quiet.known = true, true
	for range 3 {
		l.out.push(frame.Push{Tenant: busy.id, Data: make([]byte, quantum)})
	}
	l.out.head(busy, true)
	l.out.head(quiet, false)
	var order []string
	for len(order) < 5 {
		fs, err := l.take(false)
		if err != nil || len(fs) == 0 {
			t.Fatalf("%v: %v, %v", order, fs, err)
		}
		for _, f := range fs {
			switch f := f.(type) {
			case frame.Heads:
				order = append(order, fmt.Sprintf("head of %d", f.Heads[0].Tenant[0]))
			case frame.Push:
				order = append(order, "push")
			}
		}
	}
	if want := []string{"head of 2", "push", "push", "push", "head of 1"}; !slices.Equal(order, want) {
		t.Errorf("sent are %v", order)
	}
	if len(l.out.pushing) != 0 {
		t.Errorf("%v is remembered of pushes that were sent", l.out.pushing)
	}
}
