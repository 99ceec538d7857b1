package catalogue

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// want checks the type of an error and the code that a client gets.
func want[E error](t *testing.T, err error, code wire.Code) E {
	t.Helper()
	e, is := errors.AsType[E](err)
	if !is {
		t.Fatalf("got %v, want a %T", err, e)
	}
	if got := AsWire(err); got.Code != code || got.Message == "" {
		t.Fatalf("%v: as %+v, want %s", err, got, code)
	}
	return e
}

func TestMigrateAndBootstrap(t *testing.T) {
	db, w := newCatalogue(t)
	ctx := t.Context()
	v := load(t, db)
	if v.Version != 1 || v.Cluster != "c1" || len(v.Nodes()) != 1 || len(v.Groups()) != 2 {
		t.Fatalf("%+v", v)
	}
	n, _ := v.Node("n1")
	wantNode := testNode("n1", "fra")
	wantNode.State, wantNode.Joined, wantNode.Version = NodeActive, start, 1
	if !reflect.DeepEqual(n, wantNode) {
		t.Errorf("node %+v, want %+v", n, wantNode)
	}
	sys, _ := v.Group(SystemGroup)
	def, found := v.GroupByName("default")
	if !sys.Founded || def.Founded || !found || def.ID != DefaultGroup || !slices.Equal(def.Voters, []string{"n1"}) || def.Target != 3 || !def.Created.Equal(start) {
		t.Errorf("groups %+v", v.Groups())
	}
	if s, found := v.Tenant("system"); !found || s.ID != tenant.SystemID() || s.Group != SystemGroup {
		t.Errorf("system: %+v %v", s, found)
	}
	// Again, and by another cluster.
	ok(t, Migrate(ctx, db))
	ok(t, w.Bootstrap(ctx, "c1", testNode("n1", "fra")))
	ok(t, w.Bootstrap(ctx, "c1", testNode("n9", "fra")))
	e := want[*OtherClusterError](t, w.Bootstrap(ctx, "c2", testNode("n2", "fra")), wire.CodeForbidden)
	if e.Have != "c1" {
		t.Error(e)
	}
	if v := load(t, db); v.Version != 1 || len(v.Nodes()) != 1 {
		t.Errorf("bootstrapped again: %+v", v)
	}
}

func TestUnknownSchemaIsRefused(t *testing.T) {
	db, _ := newCatalogue(t)
	d := NewDirectory()
	_, err := d.Refresh(t.Context(), db)
	ok(t, err)
	before := d.View()
	if _, err := db.db.Exec(`UPDATE meta SET value = 2 WHERE key = 'schema'; UPDATE meta SET value = 9 WHERE key = 'version'; DROP TABLE nodes`); err != nil {
		t.Fatal(err)
	}
	if e := want[*SchemaError](t, Migrate(t.Context(), db), wire.CodeNotReady); e.Have != 2 || e.Know != 1 {
		t.Error(e)
	}
	_, err = d.Refresh(t.Context(), db)
	want[*SchemaError](t, err, wire.CodeNotReady)
	if d.View() != before {
		t.Error("the view changed")
	}
	if _, err := db.db.Exec(`SELECT * FROM nodes`); err == nil {
		t.Error("Migrate made a table in a schema that it does not know")
	}
}

func TestClaims(t *testing.T) {
	db, w := newCatalogue(t)
	ctx := t.Context()
	a, b := tenantID(1), tenantID(2)
	ok(t, w.Claim(ctx, a, "a", 2, 1, tenant.Placement{}))
	ok(t, w.Claim(ctx, a, "a", 2, 1, tenant.Placement{})) // again
	if e := want[*tenant.ExistsError](t, w.Claim(ctx, b, "a", 2, 1, tenant.Placement{}), wire.CodeTenantExists); e.ID != a {
		t.Error(e)
	}
	if e := want[*ClaimError](t, w.Claim(ctx, a, "a2", 2, 1, tenant.Placement{}), wire.CodeTenantExists); e.Have.Name != "a" {
		t.Error(e)
	}
	want[*ClaimError](t, w.Claim(ctx, a, "a", 1, 1, tenant.Placement{}), wire.CodeTenantExists)
	want[*NoSuchGroupError](t, w.Claim(ctx, b, "b", 77, 1, tenant.Placement{}), wire.CodeNoSuchGroup)
	want[*tenant.NameError](t, w.Claim(ctx, b, "system", 2, 1, tenant.Placement{}), wire.CodeBadName)
	want[*tenant.NameError](t, w.Claim(ctx, b, "B", 2, 1, tenant.Placement{}), wire.CodeBadName)
	want[*InvalidError](t, w.Claim(ctx, tenant.SystemID(), "b", 2, 1, tenant.Placement{}), wire.CodeBadRequest)
	want[*InvalidError](t, w.Release(ctx, tenant.SystemID()), wire.CodeBadRequest)
	ok(t, w.Claim(ctx, b, "b", 2, 1, tenant.Placement{}))

	want[*tenant.ExistsError](t, w.Rename(ctx, a, "a", "b"), wire.CodeTenantExists)
	want[*ClaimError](t, w.Rename(ctx, a, "x", "y"), wire.CodeTenantExists)
	want[*tenant.NoSuchTenantError](t, w.Rename(ctx, tenantID(3), "x", "y"), wire.CodeNoSuchTenant)
	ok(t, w.Rename(ctx, a, "a", "c"))
	ok(t, w.Rename(ctx, a, "a", "c")) // again
	ok(t, w.Release(ctx, b))
	ok(t, w.Release(ctx, b))
	ok(t, w.Release(ctx, tenantID(3)))
	want[*tenant.NoSuchTenantError](t, w.Rename(ctx, b, "b", "d"), wire.CodeNoSuchTenant)
	ok(t, w.Rename(ctx, a, "c", "b")) // free now
	want[*tenant.ExistsError](t, w.Claim(ctx, b, "b", 2, 1, tenant.Placement{}), wire.CodeTenantExists)
	ok(t, w.Claim(ctx, b, "d", 2, 1, tenant.Placement{})) // undeleted with another name

	v := load(t, db)
	for name, id := range map[tenant.Name]tenant.ID{"b": a, "d": b} {
		if got, found := v.Tenant(name); !found || got.ID != id || got.Group != 2 {
			t.Errorf("%s: %+v %v", name, got, found)
		}
	}
	if _, found := v.Tenant("a"); found {
		t.Error("a is there")
	}
	if got := v.TenantNames("", 10); !slices.Equal(got, []tenant.Name{"b", "d", "system"}) {
		t.Error(got)
	}
	if got := v.TenantNames("b", 1); !slices.Equal(got, []tenant.Name{"d"}) {
		t.Error(got)
	}
}

func TestNodes(t *testing.T) {
	db, w := newCatalogue(t)
	ctx := t.Context()
	n := testNode("n2", "ams")
	ok(t, w.Announce(ctx, n))
	version := load(t, db).Version
	ok(t, w.Announce(ctx, n))
	if v := load(t, db).Version; v != version {
		t.Errorf("announced again: version %d, was %d", v, version)
	}
	n.ClusterAddr = "elsewhere:1"
	ok(t, w.Announce(ctx, n))
	if got, _ := load(t, db).Node("n2"); got.ClusterAddr != n.ClusterAddr || got.Version != version+1 || !reflect.DeepEqual(got.Labels, n.Labels) {
		t.Errorf("%+v", got)
	}
	stranger := n
	stranger.Incarnation, stranger.ClusterAddr = "another", "evil:1"
	want[*IncarnationError](t, w.Announce(ctx, stranger), wire.CodeForbidden)
	for _, bad := range []func(*Node){
		func(n *Node) { n.ID = "N" }, func(n *Node) { n.PoP = "" }, func(n *Node) { n.Region = "É" }, func(n *Node) { n.Incarnation = "" },
		func(n *Node) { n.ClusterAddr = "" }, func(n *Node) { n.Labels = map[string]string{"": "x"} },
	} {
		m := n
		bad(&m)
		want[*InvalidError](t, w.Announce(ctx, m), wire.CodeBadRequest)
	}

	want[*NoSuchNodeError](t, w.SetNodeState(ctx, "n7", NodeDraining), wire.CodeNoSuchNode)
	want[*InvalidError](t, w.SetNodeState(ctx, "n2", "gone"), wire.CodeBadRequest)
	want[*NodeStateError](t, w.SetNodeState(ctx, "n2", NodeRemoved), wire.CodeConflict)
	for _, s := range []NodeState{NodeDraining, NodeDraining, NodeActive, NodeRemoving, NodeActive, NodeDraining, NodeRemoving} {
		ok(t, w.SetNodeState(ctx, "n2", s))
		if got, _ := load(t, db).Node("n2"); got.State != s || got.ClusterAddr != n.ClusterAddr {
			t.Fatalf("%+v, want %s", got, s)
		}
		ok(t, w.Announce(ctx, n)) // which leaves the state
	}
	// Not removed while it is declared, or reported as voter or learner.
	ok(t, w.SetFounded(ctx, 2))
	members := func(index uint64, voters, learners []string) {
		ok(t, w.ReportMembers(ctx, 2, Members{Voters: voters, Learners: learners, Primary: "n1", Term: 1, Index: index}))
	}
	members(1, []string{"n1", "n2"}, nil)
	if e := want[*NodeStateError](t, w.SetNodeState(ctx, "n2", NodeRemoved), wire.CodeConflict); !slices.Equal(e.Groups, []string{"default"}) {
		t.Error(e)
	}
	members(2, []string{"n1"}, []string{"n2"})
	want[*NodeStateError](t, w.SetNodeState(ctx, "n2", NodeRemoved), wire.CodeConflict)
	members(3, []string{"n1", "n22", "xn2"}, []string{"-n2-"})
	ok(t, w.SetNodeState(ctx, "n2", NodeRemoved))
	ok(t, w.SetNodeState(ctx, "n2", NodeRemoved))
	want[*RemovedError](t, w.Announce(ctx, n), wire.CodeForbidden)
	want[*NodeStateError](t, w.SetNodeState(ctx, "n2", NodeActive), wire.CodeConflict)
	ok(t, w.Announce(ctx, testNode("n3", "ams")))
	_, err := w.CreateGroup(ctx, "g", []string{"n3"}, Policy{Target: 1})
	ok(t, err)
	ok(t, w.SetNodeState(ctx, "n3", NodeRemoving))
	if e := want[*NodeStateError](t, w.SetNodeState(ctx, "n3", NodeRemoved), wire.CodeConflict); !slices.Equal(e.Groups, []string{"g"}) { // declared alone
		t.Error(e)
	}
}

func TestGroups(t *testing.T) {
	db, w := newCatalogue(t)
	ctx := t.Context()
	for _, id := range []string{"n2", "n3", "n4"} {
		ok(t, w.Announce(ctx, testNode(id, "fra")))
	}
	three := Policy{Target: 3}
	id, err := w.CreateGroup(ctx, "g", []string{"n3", "n2"}, three)
	ok(t, err)
	again, err := w.CreateGroup(ctx, "g", []string{"n2", "n3"}, three)
	ok(t, err)
	if id != 3 || again != 3 {
		t.Fatalf("groups %d, %d", id, again)
	}
	_, err = w.CreateGroup(ctx, "g", []string{"n2"}, three)
	want[*GroupExistsError](t, err, wire.CodeConflict)
	_, err = w.CreateGroup(ctx, "h", []string{"n2", "n7"}, three)
	if e := want[*NotEligibleError](t, err, wire.CodeConflict); !slices.Equal(e.IDs, []string{"n7"}) {
		t.Error(e)
	}
	for _, bad := range []struct {
		name   string
		voters []string
		p      Policy
	}{{"H", []string{"n2"}, three}, {"h", nil, three}, {"h", []string{"n2", "n2"}, three}, {"h", []string{"n2"}, Policy{Target: 2}}, {"h", []string{"n2"}, Policy{Target: 1, Region: "A"}}} {
		_, err := w.CreateGroup(ctx, bad.name, bad.voters, bad.p)
		want[*InvalidError](t, err, wire.CodeBadRequest)
	}
	next, err := w.CreateGroup(ctx, "h", []string{"n4"}, Policy{Target: 1, Pinned: true, Region: "eu"})
	ok(t, err)
	if next != 4 {
		t.Error(next)
	}

	want[*NotFoundedError](t, w.SetVoters(ctx, 3, []string{"n1"}, []string{"n2", "n3"}), wire.CodeConflict)
	want[*NoSuchGroupError](t, w.SetFounded(ctx, 9), wire.CodeNoSuchGroup)
	want[*NoSuchGroupError](t, w.SetVoters(ctx, 9, []string{"n1"}, []string{"n1"}), wire.CodeNoSuchGroup)
	want[*NoSuchGroupError](t, w.SetPolicy(ctx, 9, three), wire.CodeNoSuchGroup)
	ok(t, w.SetFounded(ctx, 3))
	ok(t, w.SetFounded(ctx, 3))
	_, err = w.CreateGroup(ctx, "g", []string{"n2", "n3"}, three) // founded since: it is another's
	want[*GroupExistsError](t, err, wire.CodeConflict)
	ok(t, w.SetNodeState(ctx, "n2", NodeDraining))
	ok(t, w.SetNodeState(ctx, "n4", NodeDraining))
	if e := want[*VotersChangedError](t, w.SetVoters(ctx, 3, []string{"n1"}, []string{"n2"}), wire.CodeConflict); !slices.Equal(e.Have, []string{"n2", "n3"}) {
		t.Error(e)
	}
	want[*NotEligibleError](t, w.SetVoters(ctx, 3, []string{"n2", "n3", "n4"}, []string{"n2", "n3"}), wire.CodeConflict)
	ok(t, w.SetVoters(ctx, 3, []string{"n3", "n2", "n1"}, []string{"n3", "n2"})) // n2 drains, and is there already
	ok(t, w.SetVoters(ctx, 3, []string{"n3", "n2", "n1"}, []string{"n3", "n2"}))
	ok(t, w.SetPolicy(ctx, 3, Policy{Target: 5, Pinned: true, Region: "eu"}))
	g, _ := load(t, db).Group(3)
	if !slices.Equal(g.Voters, []string{"n1", "n2", "n3"}) || !g.Founded || g.Policy != (Policy{Target: 5, Pinned: true, Region: "eu"}) {
		t.Errorf("%+v", g)
	}
}

func TestReports(t *testing.T) {
	db, w := newCatalogue(t)
	report := func(m Members) Members {
		t.Helper()
		ok(t, w.ReportMembers(t.Context(), 2, m))
		g, _ := load(t, db).Group(2)
		return g.Members
	}
	m := func(term, index uint64, primary string, voters ...string) Members {
		return Members{Voters: voters, Learners: []string{}, Primary: primary, Term: term, Index: index}
	}
	first := m(2, 10, "n1", "n1", "n2")
	for _, c := range []struct{ give, want Members }{
		{first, first},
		{m(1, 99, "n3", "n3"), first},                                // an earlier term
		{m(2, 9, "n1", "n1"), first},                                 // an earlier configuration
		{m(2, 11, "n1", "n2", "n1"), m(2, 11, "n1", "n1", "n2")},     // in order
		{m(3, 8, "n2", "n1"), m(3, 8, "n2", "n1")},                   // of a later term, which undid the last
		{m(3, 8, "n2", "n1", "n2"), m(3, 8, "n2", "n1", "n2")},       // the same again is not older
		{m(2, 100, "n1", "n1", "n9"), m(3, 8, "n2", "n1", "n2")},     // late
		{m(10, 1, "n1", "n1", "n2"), m(10, 1, "n1", "n1", "n2")},     // 10 is above 3, not below as in text
		{m(10, 200, "n1", "n1", "n2"), m(10, 200, "n1", "n1", "n2")}, //
	} {
		if got := report(c.give); !reflect.DeepEqual(got, c.want) {
			t.Errorf("after %+v: %+v, want %+v", c.give, got, c.want)
		}
	}
	want[*InvalidError](t, w.ReportMembers(t.Context(), 2, Members{Term: 1}), wire.CodeBadRequest)
	want[*NoSuchGroupError](t, w.ReportMembers(t.Context(), 8, first), wire.CodeNoSuchGroup)
}

// TestLostAnswers does each operation once with its answer lost and once again, and wants what one
// operation alone leaves.
func TestLostAnswers(t *testing.T) {
	for name, op := range map[string]func(context.Context, *Writer) error{
		"bootstrap": func(ctx context.Context, w *Writer) error { return w.Bootstrap(ctx, "c1", testNode("n1", "fra")) },
		"claim": func(ctx context.Context, w *Writer) error {
			return w.Claim(ctx, tenantID(9), "new", 2, 1, tenant.Placement{})
		},
		"reclaim": func(ctx context.Context, w *Writer) error {
			return w.Claim(ctx, tenantID(2), "two", 2, 1, tenant.Placement{})
		},
		"place": func(ctx context.Context, w *Writer) error {
			return w.Place(ctx, tenantID(1), 5, tenant.Placement{Replicas: "all"})
		},
		"rename":   func(ctx context.Context, w *Writer) error { return w.Rename(ctx, tenantID(1), "one", "uno") },
		"release":  func(ctx context.Context, w *Writer) error { return w.Release(ctx, tenantID(1)) },
		"announce": func(ctx context.Context, w *Writer) error { return w.Announce(ctx, testNode("n5", "x")) },
		"drain":    func(ctx context.Context, w *Writer) error { return w.SetNodeState(ctx, "n2", NodeDraining) },
		"remove":   func(ctx context.Context, w *Writer) error { return w.SetNodeState(ctx, "n3", NodeRemoved) },
		"create": func(ctx context.Context, w *Writer) error {
			_, err := w.CreateGroup(ctx, "g", []string{"n2"}, Policy{Target: 1})
			return err
		},
		"found":  func(ctx context.Context, w *Writer) error { return w.SetFounded(ctx, 2) },
		"voters": func(ctx context.Context, w *Writer) error { return w.SetVoters(ctx, 1, []string{"n2"}, []string{"n1"}) },
		"policy": func(ctx context.Context, w *Writer) error { return w.SetPolicy(ctx, 1, Policy{Target: 5}) },
		"report": func(ctx context.Context, w *Writer) error {
			return w.ReportMembers(ctx, 2, Members{Voters: []string{"n1"}, Term: 1, Index: 1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			run := func(lose bool) *View {
				db, w := newCatalogue(t)
				ctx := t.Context()
				ok(t, w.Announce(ctx, testNode("n2", "fra")))
				ok(t, w.Announce(ctx, testNode("n3", "fra")))
				ok(t, w.SetNodeState(ctx, "n3", NodeRemoving))
				ok(t, w.Claim(ctx, tenantID(1), "one", 2, 1, tenant.Placement{}))
				ok(t, w.Claim(ctx, tenantID(2), "two", 2, 1, tenant.Placement{}))
				ok(t, w.Release(ctx, tenantID(2)))
				if name == "bootstrap" {
					db, w = openDB(t), nil
					ok(t, Migrate(ctx, db))
					w = NewWriter(db, func() time.Time { return start })
				}
				if lose {
					db.loseAnswer = true
					if err := op(ctx, w); AsWire(err).Code != wire.CodeUnknownOutcome {
						t.Fatal(err)
					}
					db.loseAnswer = false
				}
				before := load(t, db).Version
				ok(t, op(ctx, w))
				if after := load(t, db).Version; lose && after != before || !lose && after != before+1 {
					t.Errorf("lost answer %v: version %d, was %d", lose, after, before)
				}
				return load(t, db)
			}
			if a, b := dump(run(false)), dump(run(true)); a != b {
				t.Errorf("once:\n%s\ntwice:\n%s", a, b)
			}
		})
	}
}
