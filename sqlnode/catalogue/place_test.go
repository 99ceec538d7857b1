package catalogue

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

func placedNames(v *View) []tenant.Name {
	var names []tenant.Name
	for t := range v.Placed() {
		names = append(names, t.Name)
	}
	slices.Sort(names)
	return names
}

func TestPlace(t *testing.T) {
	db, w := newCatalogue(t)
	ctx := t.Context()
	a, b := tenantID(1), tenantID(2)
	all, eu := tenant.Placement{Replicas: tenant.ReplicasAll}, tenant.Placement{Replicas: "region:eu", Jurisdiction: "eu"}
	ok(t, w.Claim(ctx, a, "a", 2, 1, tenant.Placement{}))
	ok(t, w.Claim(ctx, b, "b", 2, 3, eu))
	is := func(name tenant.Name, policy uint32, p tenant.Placement) {
		t.Helper()
		if got, found := load(t, db).Tenant(name); !found || got.Policy != policy || got.Placement != p {
			t.Errorf("%s: got %+v, want policy %d, %+v", name, got, policy, p)
		}
	}
	is("a", 1, tenant.Placement{})
	is("b", 3, eu)
	if v := load(t, db); !slices.Equal(placedNames(v), []tenant.Name{"b"}) || v.PlacedCount() != 1 {
		t.Errorf("placed %v", placedNames(v))
	}
	ok(t, w.Place(ctx, a, 2, all))
	is("a", 2, all)
	version := load(t, db).Version
	ok(t, w.Place(ctx, a, 2, all)) // again
	ok(t, w.Place(ctx, a, 1, eu))  // late
	if v := load(t, db).Version; v != version {
		t.Errorf("version %d, was %d", v, version)
	}
	is("a", 2, all)
	if e := want[*PlacementError](t, w.Place(ctx, a, 2, eu), wire.CodeConflict); e.Have.Placement != all {
		t.Errorf("%+v", e)
	}
	is("a", 2, all)
	ok(t, w.Place(ctx, a, 7, tenant.Placement{Replicas: tenant.ReplicasNone}))
	is("a", 7, tenant.Placement{Replicas: tenant.ReplicasNone})
	ok(t, w.Place(ctx, a, 8, all))

	want[*tenant.NoSuchTenantError](t, w.Place(ctx, tenantID(9), 2, all), wire.CodeNoSuchTenant)
	want[*InvalidError](t, w.Place(ctx, a, 0, all), wire.CodeBadRequest)
	want[*InvalidError](t, w.Place(ctx, a, 9, tenant.Placement{Replicas: "x"}), wire.CodeBadRequest)
	want[*InvalidError](t, w.Place(ctx, tenant.SystemID(), 9, all), wire.CodeBadRequest)
	want[*InvalidError](t, w.Claim(ctx, tenantID(9), "x", 2, 1, tenant.Placement{Replicas: "x"}), wire.CodeBadRequest)
	want[*InvalidError](t, w.Claim(ctx, tenantID(9), "x", 2, 0, all), wire.CodeBadRequest)

	// One that is gone is not placed; claimed again it has the later of what the row and the claim say.
	ok(t, w.Release(ctx, a))
	want[*tenant.NoSuchTenantError](t, w.Place(ctx, a, 9, eu), wire.CodeNoSuchTenant)
	if got := placedNames(load(t, db)); !slices.Equal(got, []tenant.Name{"b"}) {
		t.Errorf("placed %v", got)
	}
	ok(t, w.Claim(ctx, a, "a", 2, 3, eu))
	is("a", 8, all)
	ok(t, w.Release(ctx, a))
	ok(t, w.Claim(ctx, a, "a", 2, 9, eu))
	is("a", 9, eu)
	ok(t, w.Rename(ctx, a, "a", "c"))
	is("c", 9, eu)
	if s, _ := load(t, db).Tenant("system"); s.Policy != 1 || s.Placement != (tenant.Placement{}) {
		t.Errorf("system: %+v", s)
	}
}

// TestPlaceInAnyOrder: changes of a record that come late, twice and in any order leave the last of them.
func TestPlaceInAnyOrder(t *testing.T) {
	specs := []tenant.Placement{{}, {Replicas: "all"}, {Replicas: "none"}, {Replicas: "pop:ams"}, {Replicas: "region:eu"}}
	rapid.Check(t, func(rt *rapid.T) {
		db, w := newCatalogue(t)
		id := tenantID(1)
		ok(t, w.Claim(t.Context(), id, "a", 2, 1, specs[0]))
		n := rapid.IntRange(1, 8).Draw(rt, "changes")
		history := []tenant.Placement{specs[0]}
		for range n {
			history = append(history, rapid.SampledFrom(specs).Draw(rt, "placement"))
		}
		order := rapid.SliceOfN(rapid.IntRange(0, n), 1, 12).Draw(rt, "order")
		follower := NewDirectory()
		for _, i := range order {
			if err := w.Place(t.Context(), id, uint32(i+1), history[i]); err != nil {
				rt.Fatal(err)
			}
			if _, err := follower.Refresh(t.Context(), db); err != nil {
				rt.Fatal(err)
			}
		}
		last := slices.Max(order)
		got, _ := follower.View().TenantByID(id)
		if got.Policy != uint32(last+1) || got.Placement != history[last] {
			rt.Fatalf("order %v of %v: got %+v", order, history, got)
		}
		if got := len(placedNames(follower.View())) == 1; got != history[last].Standing() {
			rt.Fatalf("%+v is placed: %v", history[last], got)
		}
	})
}
