package catalogue

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// dump is all that a View says, as text.
func dump(v *View) string {
	var b strings.Builder
	fmt.Fprintf(&b, "version %d cluster %q\n", v.Version, v.Cluster)
	for _, n := range v.Nodes() {
		fmt.Fprintf(&b, "%+v\n", n)
	}
	for _, g := range v.Groups() {
		fmt.Fprintf(&b, "%+v count %d:", g, v.TenantCount(g.ID))
		for t := range v.TenantsOf(g.ID) {
			fmt.Fprintf(&b, " %s=%s", t.ID, t.Name)
		}
		b.WriteByte('\n')
	}
	for t := range v.byID.from(&Tenant{}) {
		fmt.Fprintf(&b, "%+v\n", *t)
	}
	for t := range v.byName.from(&Tenant{}) {
		fmt.Fprintf(&b, "%s=%s %v\n", t.Name, t.ID, t.Live)
	}
	for t := range v.Placed() {
		fmt.Fprintf(&b, "placed %s: %d %+v\n", t.ID, t.Policy, t.Placement)
	}
	fmt.Fprintln(&b, v.TenantNames("", 1<<30), v.byID.n, v.byName.n, v.byGroup.n, v.placed.n)
	return b.String()
}

// TestFollowers makes random changes, and wants followers that refresh now and then to have what
// a new one has, and that to be what was done.
func TestFollowers(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		db, w := newCatalogue(t)
		ctx := t.Context()
		now := start
		w.now = func() time.Time { return now }
		followers := []*Directory{NewDirectory(), NewDirectory()}
		names := map[tenant.Name]tenant.ID{"system": tenant.SystemID()} // the model
		nameOf := func(id tenant.ID) (tenant.Name, bool) {
			for n, i := range names {
				if i == id {
					return n, true
				}
			}
			return "", false
		}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			now = now.Add(time.Minute)
			id := tenantID(rapid.IntRange(1, 6).Draw(rt, "id"))
			name := tenant.Name(rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(rt, "name"))
			switch op := rapid.IntRange(0, 8).Draw(rt, "op"); op {
			case 8:
				p := tenant.Placement{Replicas: rapid.SampledFrom([]tenant.Replicas{"", "none", "all", "pop:ams"}).Draw(rt, "replicas")}
				policy := uint32(rapid.IntRange(1, 9).Draw(rt, "policy"))
				before, _ := load(t, db).TenantByID(id)
				err := w.Place(ctx, id, policy, p)
				if before.Live && policy > before.Policy {
					before.Policy, before.Placement = policy, p
				}
				if wantErr := !before.Live || policy == before.Policy && p != before.Placement; (err != nil) != wantErr {
					rt.Fatalf("place %s %d %+v: %v", id, policy, p, err)
				}
				if after, _ := load(t, db).TenantByID(id); after.Policy != before.Policy || after.Placement != before.Placement {
					rt.Fatalf("place %s %d %+v: got %+v, want %+v", id, policy, p, after, before)
				}
			case 0, 1:
				_, taken := names[name]
				_, has := nameOf(id)
				err := w.Claim(ctx, id, name, 2, 1, tenant.Placement{})
				if wantErr := (taken && names[name] != id) || (has && names[name] != id); (err != nil) != wantErr {
					rt.Fatalf("claim %s %s: %v", id, name, err)
				}
				if err == nil {
					names[name] = id
				}
			case 2:
				from, has := nameOf(id)
				err := w.Rename(ctx, id, from, name)
				_, taken := names[name]
				if wantErr := !has || taken && names[name] != id; (err != nil) != wantErr {
					rt.Fatalf("rename %s %s: %v", id, name, err)
				}
				if err == nil {
					delete(names, from)
					names[name] = id
				}
			case 3:
				ok := w.Release(ctx, id)
				if ok != nil {
					rt.Fatal(ok)
				}
				if n, has := nameOf(id); has {
					delete(names, n)
				}
			case 4:
				if _, err := w.Trim(ctx, now.Add(-time.Duration(rapid.IntRange(-1, 10).Draw(rt, "age"))*time.Minute)); err != nil {
					rt.Fatal(err)
				}
			case 5:
				if err := w.Announce(ctx, testNode(fmt.Sprintf("m%d", rapid.IntRange(1, 4).Draw(rt, "n")), string(name))); err != nil {
					rt.Fatal(err)
				}
			default:
				f := followers[op-6]
				changed, err := f.Refresh(ctx, db)
				if err != nil {
					rt.Fatal(err)
				}
				again, err := f.Refresh(ctx, db)
				if err != nil || again {
					rt.Fatalf("refreshed twice: %v %v", again, err)
				}
				if got, fresh := dump(f.View()), dump(load(t, db)); got != fresh {
					rt.Fatalf("changed %v, got:\n%s\nwant:\n%s", changed, got, fresh)
				}
			}
		}
		v := load(t, db)
		if got := v.TenantNames("", 100); !slices.Equal(got, slices.Sorted(maps.Keys(names))) {
			rt.Fatalf("names %v, want %v", got, names)
		}
		for n, id := range names {
			if got, found := v.Tenant(n); !found || got.ID != id {
				rt.Fatalf("%s: %+v, want %s", n, got, id)
			}
		}
		for _, n := range []tenant.Name{"a", "b", "c", "d", "bb"} {
			if _, found := v.Tenant(n); found != (names[n] != tenant.ID{}) {
				rt.Fatalf("%s is there: %v", n, found)
			}
		}
		placed := 0
		for t := range v.byID.from(&Tenant{}) {
			if t.Live && t.Placement.Standing() {
				placed++
			}
		}
		if got := len(placedNames(v)); got != placed || v.PlacedCount() != placed {
			rt.Fatalf("%d are placed (%d), want %d", got, v.PlacedCount(), placed)
		}
		for t := range v.byID.from(&Tenant{}) {
			if g, found := v.Gone(t.Name); !t.Live && (!found || g.Live || g.Version < t.Version) {
				rt.Fatalf("gone %s: %+v %v", t.Name, g, found)
			}
		}
	})
}

// TestRefreshAcrossPages changes rows between the pages of a load; what is loaded must be
// what is there at its end, with no name lost or twice.
func TestRefreshAcrossPages(t *testing.T) {
	db, w := newCatalogue(t)
	ctx := t.Context()
	const n = 2500
	insert := func(from, to int) {
		for i := from; i < to; i++ {
			if _, err := db.db.Exec(`INSERT INTO tenants VALUES (?1, ?2, 2, 'live', 1, '', 0, (SELECT value FROM meta WHERE key = 'version') + ?3)`,
				func() []byte { id := tenantID(i); return id[:] }(), fmt.Sprintf("t%05d", i), i/700); err != nil { // many rows of one version
				t.Fatal(err)
			}
		}
	}
	db.db.SetMaxOpenConns(1)
	if _, err := db.db.Exec(`BEGIN`); err != nil {
		t.Fatal(err)
	}
	insert(1, n)
	if _, err := db.db.Exec(`UPDATE meta SET value = 100 WHERE key = 'version'; COMMIT`); err != nil {
		t.Fatal(err)
	}
	d := NewDirectory()
	db.beforeQuery = func(q int) {
		if q < 2 || q > 8 {
			return
		}
		// One name goes to another tenant, one that was read to one that was not, and back.
		for i := range 20 {
			a, b := q*20+i, n-q*20-i
			nameA, nameB := tenant.Name(fmt.Sprintf("t%05d", a)), tenant.Name(fmt.Sprintf("t%05d", b))
			ok(t, w.Rename(ctx, tenantID(a), nameA, "spare"))
			ok(t, w.Rename(ctx, tenantID(b), nameB, nameA))
			ok(t, w.Rename(ctx, tenantID(a), "spare", nameB))
		}
		ok(t, w.Release(ctx, tenantID(q)))
	}
	_, err := d.Refresh(ctx, db)
	ok(t, err)
	db.beforeQuery = nil
	v := d.View()
	names := v.TenantNames("", n+10)
	if len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Error("a name twice")
	}
	live := 0
	for tn := range v.byID.from(&Tenant{}) {
		if got, found := v.Tenant(tn.Name); tn.Live && (!found || got.ID != tn.ID) {
			t.Errorf("%s is named %s, which is %s", tn.ID, tn.Name, got.ID)
		}
		if tn.Live {
			live++
		}
	}
	if live != len(names) || live < n-8 {
		t.Errorf("%d live, %d names", live, len(names))
	}
	if _, err := d.Refresh(ctx, db); err != nil {
		t.Fatal(err)
	}
	if got, fresh := dump(d.View()), dump(load(t, db)); got != fresh {
		t.Error("the follower differs from a new one")
	}
}

// TestCopyWentBack gives a follower an older copy, at rest and in the middle of a load.
func TestCopyWentBack(t *testing.T) {
	db, w := newCatalogue(t)
	older, wo := newCatalogue(t)
	ctx := t.Context()
	for i := range 5 {
		ok(t, w.Claim(ctx, tenantID(i+1), tenant.Name(fmt.Sprintf("t%d", i)), 2, 1, tenant.Placement{}))
	}
	ok(t, wo.Claim(ctx, tenantID(1), "t0", 2, 1, tenant.Placement{}))
	d := NewDirectory()
	_, err := d.Refresh(ctx, db)
	ok(t, err)
	changed, err := d.Refresh(ctx, older)
	ok(t, err)
	if got := dump(d.View()); !changed || got != dump(load(t, older)) {
		t.Errorf("changed %v:\n%s", changed, got)
	}
	// A copy of as many changes, but others: only Reload sees it.
	for _, name := range []tenant.Name{"x", "y", "z", "w"} {
		ok(t, wo.Claim(ctx, tenantID(int(name[0])), name, 2, 1, tenant.Placement{}))
	}
	_, err = d.Refresh(ctx, db)
	ok(t, err)
	ok(t, d.Reload(ctx, older))
	if got := dump(d.View()); got != dump(load(t, older)) {
		t.Errorf("reloaded:\n%s", got)
	}
	d = NewDirectory()
	before := d.View()
	db.queries = 0
	db.beforeQuery = func(q int) {
		if q == 3 {
			if _, err := db.db.Exec(`UPDATE meta SET value = 2 WHERE key = 'version'`); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := d.Refresh(ctx, db); !errors.Is(err, ErrWentBack) || d.View() != before {
		t.Errorf("%v", err)
	}
}

// TestTrim wants a follower that missed trimmed rows to lose them all the same, also when they
// are trimmed while it loads, and Trim to take the old ones alone.
func TestTrim(t *testing.T) {
	for _, during := range []bool{false, true} {
		db, w := newCatalogue(t)
		ctx := t.Context()
		now := start
		w.now = func() time.Time { return now }
		for i := range 5 {
			ok(t, w.Claim(ctx, tenantID(i+1), tenant.Name(fmt.Sprintf("t%d", i)), 2, 1, tenant.Placement{}))
		}
		d := NewDirectory()
		_, err := d.Refresh(ctx, db)
		ok(t, err)
		ok(t, w.Release(ctx, tenantID(1)))
		ok(t, w.Release(ctx, tenantID(2)))
		now = now.Add(time.Hour)
		ok(t, w.Release(ctx, tenantID(3)))
		trim := func() {
			n, err := w.Trim(ctx, now)
			ok(t, err)
			if n != 2 {
				t.Errorf("trimmed %d", n)
			}
		}
		if during {
			db.queries = 0
			db.beforeQuery = func(q int) {
				if q == 2 {
					trim()
				}
			}
		} else {
			trim()
		}
		_, err = d.Refresh(ctx, db)
		ok(t, err)
		db.beforeQuery = nil
		if got, fresh := dump(d.View()), dump(load(t, db)); got != fresh {
			t.Errorf("during %v:\n%s\nwant\n%s", during, got, fresh)
		}
		if got := d.View().TenantNames("", 9); !slices.Equal(got, []tenant.Name{"system", "t3", "t4"}) {
			t.Error(got)
		}
		if g, found := d.View().Gone("t2"); !found || g.ID != tenantID(3) {
			t.Error(g, found)
		}
		// Trimmed with no other change.
		now = now.Add(time.Hour)
		if n, err := w.Trim(ctx, now); n != 1 || err != nil {
			t.Error(n, err)
		}
		changed, err := d.Refresh(ctx, db)
		ok(t, err)
		if g, found := d.View().Gone("t2"); !changed || found {
			t.Errorf("changed %v: %+v is kept", changed, g)
		}
	}
}

// TestWatchAndRead reads from many goroutines while the directory is refreshed: a reader's View
// always has the group of each tenant that it has.
func TestWatchAndRead(t *testing.T) {
	db, w := newCatalogue(t)
	ctx := t.Context()
	d := NewDirectory()
	_, passed := d.Watch()
	_, err := d.Refresh(ctx, db)
	ok(t, err)
	select {
	case <-passed:
	default:
		t.Error("not woken")
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			var last uint64
			for {
				v := d.View()
				if v.Version < last {
					t.Errorf("version %d after %d", v.Version, last)
				}
				last = v.Version
				for _, n := range v.TenantNames("", 100) {
					if tn, found := v.Tenant(n); !found {
						t.Errorf("no tenant %s", n)
					} else if _, found := v.Group(tn.Group); !found {
						t.Errorf("tenant %s without group %d", n, tn.Group)
					}
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for {
				if _, err := d.Refresh(ctx, db); err != nil {
					t.Error(err)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range 30 {
		id, err := w.CreateGroup(ctx, fmt.Sprintf("g%d", i), []string{"n1"}, Policy{Target: 1})
		ok(t, err)
		ok(t, w.Claim(ctx, tenantID(i+1), tenant.Name(fmt.Sprintf("t%d", i)), id, 1, tenant.Placement{}))
	}
	close(done)
	wg.Wait()
}

// TestIndex holds an index against a sorted slice, with small and large changes.
func TestIndex(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		x := index{cmp: compareNames}
		var model []*Tenant
		version := uint64(0)
		for range rapid.IntRange(1, 12).Draw(rt, "rounds") {
			size := rapid.SampledFrom([]int{1, 5, 60, 700}).Draw(rt, "size")
			var out, in []*Tenant
			for range rapid.IntRange(0, min(size, len(model))).Draw(rt, "out") {
				i := rapid.IntRange(0, len(model)-1).Draw(rt, "i")
				out = append(out, model[i])
				model = slices.Delete(model, i, i+1)
			}
			base := rapid.IntRange(0, 100_000).Draw(rt, "base")
			for i := range rapid.IntRange(0, size).Draw(rt, "in") {
				version++
				tn := &Tenant{Name: tenant.Name(fmt.Sprintf("t%06d", base+i/2)), Live: i%2 == 0, Version: version}
				in = append(in, tn)
				model = append(model, tn)
			}
			slices.SortFunc(model, compareNames)
			before := slices.Collect(x.from(&Tenant{}))
			y := x.with(out, in)
			if after := slices.Collect(x.from(&Tenant{})); !slices.Equal(before, after) {
				rt.Fatal("the old index changed")
			}
			x = y
			if got := slices.Collect(x.from(&Tenant{})); !slices.Equal(got, model) || x.n != len(model) {
				rt.Fatalf("%d in index (n %d), want %d", len(got), x.n, len(model))
			}
			for _, c := range x.chunks {
				if len(c) == 0 || len(c) > chunkMax {
					rt.Fatalf("chunk of %d", len(c))
				}
			}
			probe := &Tenant{Name: tenant.Name(fmt.Sprintf("t%06d", base)), Live: true, Version: 1 << 60}
			i, _ := slices.BinarySearchFunc(model, probe, compareNames)
			if got := slices.Collect(x.from(probe)); !slices.Equal(got, model[i:]) {
				rt.Fatal("from in the middle differs")
			}
			if got := x.first(probe); i < len(model) && got != model[i] || i == len(model) && got != nil {
				rt.Fatal("first differs")
			}
		}
	})
}

// TestIndexGrowsOneByOne splits chunks, and empties them.
func TestIndexGrowsOneByOne(t *testing.T) {
	x := index{cmp: compareNames}
	var all []*Tenant
	for i := range 4 * chunkMax {
		all = append(all, &Tenant{Name: tenant.Name(fmt.Sprintf("t%06d", i*7919%10007)), Live: true})
	}
	check := func(want []*Tenant) {
		t.Helper()
		want = slices.SortedFunc(slices.Values(want), compareNames)
		if got := slices.Collect(x.from(&Tenant{})); !slices.Equal(got, want) || x.n != len(want) {
			t.Fatalf("%d in the index (n %d), want %d", len(got), x.n, len(want))
		}
		for _, c := range x.chunks {
			if len(c) == 0 || len(c) > chunkMax {
				t.Fatalf("a chunk of %d", len(c))
			}
		}
	}
	for i, tn := range all {
		x = x.with(nil, []*Tenant{tn})
		if i%97 == 0 {
			check(all[:i+1])
		}
	}
	for i, tn := range all {
		x = x.with([]*Tenant{tn}, nil)
		if i%97 == 0 {
			check(all[i+1:])
		}
	}
	check(nil)
}

// BenchmarkRefreshOneOf100000 is the cost of a change and of a look-up among many tenants.
func BenchmarkRefreshOneOf100000(b *testing.B) {
	var all []*Tenant
	for i := range 100_000 {
		all = append(all, &Tenant{ID: tenant.ID{0: byte(i >> 16), 1: byte(i >> 8), 2: byte(i)}, Name: tenant.Name(fmt.Sprintf("t%06d", i)), Live: true, Group: wire.GroupID(2 + i%20)})
	}
	v := newView().with(change{tenants: all})
	b.Run("change", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i++
			t := *all[i*7919%len(all)]
			t.Version = uint64(i)
			v = v.with(change{tenants: []*Tenant{&t}})
		}
	})
	b.Run("find", func(b *testing.B) {
		i := 0
		for b.Loop() {
			i++
			if _, ok := v.Tenant(all[i*7919%len(all)].Name); !ok {
				b.Fatal("not found")
			}
		}
	})
	b.Run("load", func(b *testing.B) {
		for b.Loop() {
			newView().with(change{tenants: all})
		}
	})
}
