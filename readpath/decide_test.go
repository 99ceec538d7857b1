package readpath

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/wire"
)

var (
	someTenant = wire.TenantID{1, 2, 3, 4, 5, 6, 7, 8, 9}
	start      = Instant{Mono: time.Hour, Boot: time.Hour, Wall: time.Hour}
)

// ago is a moment before start.
func ago(d time.Duration) Freshness {
	return Freshness{Known: true, AsOf: Instant{Mono: start.Mono - d, Boot: start.Boot - d, Wall: start.Wall - d}}
}

func mark(epoch wire.Epoch, tx wire.TXID, sum wire.Checksum) *wire.BookmarkPos {
	b, err := wire.ParseBookmark(wire.Bookmark(wire.Pos{Tenant: someTenant, Epoch: epoch, TXID: tx, Checksum: sum}))
	if err != nil {
		panic(err)
	}
	return &b
}

func within(d time.Duration) Level { return Level{Consistency: Bounded, Staleness: d} }

// facts of a replica with a copy at transaction 10 of epoch 2, 100 ms old.
func replicaFacts() Facts {
	return Facts{Tenant: someTenant, Self: "me", Primary: "p", Nodes: []Candidate{{"near", false}, {"voter", true}, {"p", true}},
		WaitMax: 200 * time.Millisecond,
		Copy:    Copy{Role: RoleReplica, Fresh: ago(100 * time.Millisecond), Epoch: 2, Logged: 10, Visible: 9, Checksum: 99}}
}

func TestDecide(t *testing.T) {
	other := mark(2, 5, 1)
	tests := []struct {
		name  string
		level Level
		facts func(f *Facts)
		want  string // action, and node, code or what is waited for
	}{
		{"fresh enough", within(time.Second), nil, "serve 10"},
		{"not fresh enough", within(50 * time.Millisecond), nil, "forward p"},
		{"0.1 % counts", within(100 * time.Millisecond), nil, "forward p"},
		{"not fresh, asks", within(50 * time.Millisecond), func(f *Facts) { f.Copy.Askable = true }, "wait probe 200ms"},
		{"not fresh, has asked", within(50 * time.Millisecond), func(f *Facts) { f.Copy.Askable, f.Waited = true, 200*time.Millisecond }, "forward p"},
		{"not fresh, fails", Level{Consistency: Bounded, OnStale: StaleFails}, nil, "refuse STALE"},
		{"unknown", within(time.Hour), func(f *Facts) { f.Copy.Fresh = Freshness{} }, "forward p"},
		{"unknown, any", Level{Consistency: Any}, func(f *Facts) { f.Copy.Fresh = Freshness{} }, "serve 0"},
		{"bound 0 and a question of the same moment", within(0), func(f *Facts) { f.Copy.Fresh = ago(0) }, "forward p"},
		{"bound 0 and a later question", within(0), func(f *Facts) { f.Copy.Fresh = ago(-1) }, "serve 10"},
		{"one clock says more", within(time.Second), func(f *Facts) { f.Copy.Fresh.AsOf.Boot -= time.Minute }, "forward p"},
		{"no copy", within(time.Second), func(f *Facts) { f.Copy = Copy{} }, "forward near"},
		{"no copy, fails on stale", Level{Consistency: Bounded, OnStale: StaleFails}, func(f *Facts) { f.Copy = Copy{} }, "forward near"},
		{"no copy, forwarded once", within(time.Second), func(f *Facts) { f.Copy, f.Via = Copy{}, []string{"x"} }, "forward p"},
		{"forwarded twice", within(0), func(f *Facts) { f.Via = []string{"x", "y"} }, "refuse STALE"},
		{"came from the primary", within(0), func(f *Facts) { f.Via = []string{"p"} }, "refuse STALE"},
		{"no primary", within(0), func(f *Facts) { f.Primary = "" }, "forward voter"},
		{"this is the primary, deposed", within(time.Second), func(f *Facts) { f.Copy.Role, f.Primary, f.Copy.Fresh = RolePrimary, "me", ago(time.Minute) }, "forward voter"},
		{"nobody", within(0), func(f *Facts) { f.Primary, f.Nodes = "", nil }, "refuse STALE"},
		{"strong at a replica", Level{Consistency: Strong}, nil, "forward p"},
		{"strong at a voter", Level{Consistency: Strong}, func(f *Facts) { f.Copy.Role = RoleVoter }, "serve 10 confirm"},
		{"strong at the primary", Level{Consistency: Strong}, func(f *Facts) { f.Copy.Role = RolePrimary }, "serve 10 confirm"},
		{"strong without a primary", Level{Consistency: Strong}, func(f *Facts) { f.Primary = "" }, "refuse NOT_PRIMARY"},
		{"strong, forwarded to a replica", Level{Consistency: Strong}, func(f *Facts) { f.Via = []string{"p"} }, "refuse NOT_PRIMARY"},

		{"bookmark met", Level{Consistency: Any, Bookmark: mark(2, 9, 99)}, nil, "serve 9"},
		{"bookmark not visible yet", Level{Consistency: Any, Bookmark: mark(2, 10, 1)}, nil, "serve 10"},
		{"bookmark ahead", Level{Consistency: Any, Bookmark: mark(2, 11, 1)}, nil, "forward p"},
		{"bookmark ahead, asks", Level{Consistency: Any, Bookmark: mark(2, 11, 1)}, func(f *Facts) { f.Copy.Askable = true }, "wait probe 200ms 11"},
		{"bookmark ahead of all there is", Level{Consistency: Any, Bookmark: mark(2, 11, 1)}, func(f *Facts) { f.Copy.Fresh = ago(-1) }, "refuse BOOKMARK_LOST"},
		{"bookmark of a lost epoch", Level{Consistency: Any, Bookmark: mark(1, 3, 1)}, nil, "refuse BOOKMARK_LOST"},
		{"bookmark of a later epoch", Level{Consistency: Any, Bookmark: mark(3, 3, 1)}, nil, "forward p"},
		{"bookmark of an epoch that never was", Level{Consistency: Any, Bookmark: mark(3, 3, 1)}, func(f *Facts) { f.Copy.Fresh = ago(-1) }, "refuse BOOKMARK_LOST"},
		{"bookmark of another transaction", Level{Consistency: Any, Bookmark: mark(2, 9, 98)}, nil, "refuse BOOKMARK_LOST"},
		{"bookmark and bound", Level{Consistency: Bounded, Staleness: time.Second, Bookmark: other}, nil, "serve 10"},
		{"bookmark met, bound not", Level{Consistency: Bounded, Bookmark: other}, nil, "forward p"},
		{"bookmark of another tenant", Level{Consistency: Any, Bookmark: other}, func(f *Facts) { f.Tenant = wire.TenantID{9} }, "refuse BAD_BOOKMARK"},
		{"bookmark ahead at a voter, strong", Level{Consistency: Strong, Bookmark: mark(2, 11, 1)}, func(f *Facts) { f.Copy.Role = RoleVoter }, "wait probe 200ms 11"},
		{"bookmark that never was, strong", Level{Consistency: Strong, Bookmark: mark(2, 11, 1)}, func(f *Facts) { f.Copy.Role, f.Copy.Fresh = RoleVoter, ago(-1) }, "refuse BOOKMARK_LOST"},
	}
	for _, c := range tests {
		f := replicaFacts()
		if c.facts != nil {
			c.facts(&f)
		}
		if got := describe(Decide(c.level, &f, start)); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func describe(d Decision) string {
	parts := []string{d.Action.String()}
	if d.Node != "" {
		parts = append(parts, d.Node)
	}
	if d.Err != nil {
		parts = append(parts, string(d.Err.Code))
	}
	if d.Probe {
		parts = append(parts, "probe", d.Limit.String())
	}
	if d.Action == Serve || d.TXID != 0 {
		parts = append(parts, strconv.FormatUint(uint64(d.TXID), 10))
	}
	if d.Confirm {
		parts = append(parts, "confirm")
	}
	return strings.Join(parts, " ")
}

func BenchmarkDecide(b *testing.B) {
	f := replicaFacts()
	level := within(time.Second)
	level.Bookmark = mark(2, 5, 1)
	b.ReportAllocs()
	for b.Loop() {
		if Decide(level, &f, start).Action != Serve {
			b.Fatal("not served")
		}
	}
}
