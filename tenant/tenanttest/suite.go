package tenanttest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nearsql/nearsql/tenant"
)

// Catalogue holds an implementation against the contract. open gives a
// catalogue without tenants of users; it may hold the system tenant.
func Catalogue(t *testing.T, open func(t *testing.T) tenant.Catalogue) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, c tenant.Catalogue)
	}{
		{"create and find", createAndFind},
		{"names and ids are taken", taken},
		{"list goes by name, in pages", list},
		{"update compares and swaps", update},
		{"a deleted tenant frees its name", deleted},
		{"remove takes deleted ones only", remove},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

var start = time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)

// record is a valid tenant whose id ends with n.
func record(t *testing.T, n byte, name tenant.Name) tenant.Tenant {
	t.Helper()
	r, err := tenant.New(tenant.ID{0: 0xa0, 15: n}, name, tenant.CreateOptions{Limits: tenant.Limits{Readers: 7}}, 2, start)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr[E error](t *testing.T, what string, err error) {
	t.Helper()
	var want E
	if !errors.As(err, &want) {
		t.Fatalf("%s: got error %v, want a %T", what, err, want)
	}
}

func createAndFind(t *testing.T, c tenant.Catalogue) {
	ctx := t.Context()
	a := record(t, 1, "a")
	must(t, c.Create(ctx, a))
	got, err := c.Get(ctx, a.ID)
	must(t, err)
	if got != a {
		t.Fatalf("got %+v, want %+v", got, a)
	}
	got, err = c.ByName(ctx, "a")
	must(t, err)
	if got != a {
		t.Fatalf("got %+v, want %+v", got, a)
	}
	_, err = c.Get(ctx, tenant.ID{9: 9})
	wantErr[*tenant.NoSuchTenantError](t, "get of an unknown id", err)
	_, err = c.ByName(ctx, "b")
	wantErr[*tenant.NoSuchTenantError](t, "get of an unknown name", err)
	if err := c.Create(ctx, tenant.Tenant{Name: "b"}); err == nil {
		t.Fatal("a record that is not valid was created")
	}
}

func taken(t *testing.T, c tenant.Catalogue) {
	ctx := t.Context()
	must(t, c.Create(ctx, record(t, 1, "a")))
	wantErr[*tenant.ExistsError](t, "same name", c.Create(ctx, record(t, 2, "a")))
	wantErr[*tenant.ExistsError](t, "same id", c.Create(ctx, record(t, 1, "b")))
	b := record(t, 2, "b")
	must(t, c.Create(ctx, b))
	next := b
	next.Name = "a"
	wantErr[*tenant.ExistsError](t, "rename to a taken name", c.Update(ctx, b, next))
}

func list(t *testing.T, c tenant.Catalogue) {
	ctx := t.Context()
	for i, name := range []tenant.Name{"c", "a", "b", "d"} {
		must(t, c.Create(ctx, record(t, byte(i+1), name)))
	}
	var names []tenant.Name
	var after tenant.Name
	for {
		page, err := c.List(ctx, after, 3)
		must(t, err)
		if len(page) > 3 {
			t.Fatalf("a page of 3 has %d tenants", len(page))
		}
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			if r.Name != tenant.SystemName {
				names = append(names, r.Name)
			}
		}
		after = page[len(page)-1].Name
	}
	if want := []tenant.Name{"a", "b", "c", "d"}; !slices.Equal(names, want) {
		t.Fatalf("got %v, want %v", names, want)
	}
}

func update(t *testing.T, c tenant.Catalogue) {
	ctx := t.Context()
	a := record(t, 1, "a")
	must(t, c.Create(ctx, a))
	b, err := a.Apply(tenant.Renamed{Time: start, Name: "b"})
	must(t, err)
	must(t, c.Update(ctx, a, b))
	_, err = c.ByName(ctx, "a")
	wantErr[*tenant.NoSuchTenantError](t, "the old name", err)
	wantErr[*tenant.ChangedError](t, "an update from an old record", c.Update(ctx, a, b))
	ghost := record(t, 9, "ghost")
	wantErr[*tenant.NoSuchTenantError](t, "an update of nothing", c.Update(ctx, ghost, ghost))
	got, err := c.Get(ctx, a.ID)
	must(t, err)
	if got != b {
		t.Fatalf("got %+v, want %+v", got, b)
	}
}

func deleted(t *testing.T, c tenant.Catalogue) {
	ctx := t.Context()
	var gone []tenant.ID
	for n := byte(1); n <= 2; n++ {
		a := record(t, n, "a")
		must(t, c.Create(ctx, a))
		d, err := a.Apply(tenant.Deleted{Time: start.Add(time.Duration(n) * time.Minute)})
		must(t, err)
		must(t, c.Update(ctx, a, d))
		got, err := c.ByName(ctx, "a")
		must(t, err)
		if got != d {
			t.Fatalf("by name of a deleted tenant: got %+v, want %+v", got, d)
		}
		gone = append(gone, a.ID)
	}
	live := record(t, 3, "a")
	must(t, c.Create(ctx, live))
	got, err := c.ByName(ctx, "a")
	must(t, err)
	if got != live {
		t.Fatalf("got %+v, want the tenant that lives, %+v", got, live)
	}
	first, err := c.ListDeleted(ctx, tenant.ID{}, 1)
	must(t, err)
	if len(first) != 1 || first[0].ID != gone[0] {
		t.Fatalf("first deleted: got %+v, want id %s", first, gone[0])
	}
	rest, err := c.ListDeleted(ctx, first[0].ID, 10)
	must(t, err)
	if len(rest) != 1 || rest[0].ID != gone[1] {
		t.Fatalf("other deleted: got %+v, want id %s", rest, gone[1])
	}
	back, err := rest[0].Apply(tenant.Undeleted{Time: start, Name: "a"})
	must(t, err)
	wantErr[*tenant.ExistsError](t, "undelete under a taken name", c.Update(ctx, rest[0], back))
	back.Name = "a2"
	must(t, c.Update(ctx, rest[0], back))
}

func remove(t *testing.T, c tenant.Catalogue) {
	ctx := t.Context()
	a := record(t, 1, "a")
	must(t, c.Create(ctx, a))
	wantErr[*tenant.ChangedError](t, "remove of a live tenant", c.Remove(ctx, a))
	d, err := a.Apply(tenant.Deleted{Time: start})
	must(t, err)
	must(t, c.Update(ctx, a, d))
	wantErr[*tenant.ChangedError](t, "remove by an old record", c.Remove(ctx, a))
	must(t, c.Remove(ctx, d))
	_, err = c.Get(ctx, a.ID)
	wantErr[*tenant.NoSuchTenantError](t, "get after remove", err)
	wantErr[*tenant.NoSuchTenantError](t, "remove again", c.Remove(ctx, d))
}
