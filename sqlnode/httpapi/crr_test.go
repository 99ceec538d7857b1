package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// fakeTables is fakeTenants with conflict-free tables; it notes what it is asked for.
type fakeTables struct {
	*fakeTenants
	asked []string
}

func (f *fakeTables) Tables(_ context.Context, name string) (TablesInfo, error) {
	return TablesInfo{Node: "n1", Schema: 3, Site: 1, Tables: []TableInfo{{"likes", map[string]string{"post": "key", "n": "counter"}}}, Sites: []SiteInfo{},
		Members: []SiteMember{{Site: 1, Node: "n1", State: "active"}}}, nil
}

func (f *fakeTables) note(what string, in any) {
	f.asked = append(f.asked, fmt.Sprintf("%s %+v", what, in))
}

func (f *fakeTables) RetireSites(_ context.Context, name string, o RetireOptions) ([]RetiredSite, error) {
	f.note("retire "+name, o)
	return []RetiredSite{{3, "n3", time.UnixMilli(1).UTC()}}, nil
}

func (f *fakeTables) Restamp(_ context.Context, name, node string) (Restamped, error) {
	f.note("restamp "+name, node)
	return Restamped{"n3", 7, true}, nil
}

func (f *fakeTables) Adopt(_ context.Context, name string, o ConvertOptions) (Converted, error) {
	f.note("adopt "+name, o)
	return Converted{o.Table, 5}, nil
}

func (f *fakeTables) Release(_ context.Context, name string, o ConvertOptions) (Converted, error) {
	f.note("release "+name, o)
	return Converted{}, wire.NewError(wire.CodeUnreachable, "n3 does not answer")
}

func TestRoutesOfConflictFreeTables(t *testing.T) {
	f := newFixture(t, nil)
	tables := &fakeTables{fakeTenants: f.tenants}
	const path = "/v1/tenants/acme/crr"
	for _, route := range []string{"/retire", "/restamp", "/adopt", "/release"} {
		if a := f.do("POST", path+route, `{}`); code(t, a) != wire.CodeNotFound {
			t.Errorf("%s of a node without conflict-free tables: %+v", route, a)
		}
	}
	f.handler.tenants = tables
	for _, c := range []struct{ route, body, want string }{
		{"/retire", `{"sites":[3]}`, `{"retired":[{"site":3,"node":"n3","final":"1970-01-01T00:00:00.001Z"}]}`},
		{"/retire", `{"nodes":["n3","n4"],"force":true}`, `{"retired":[`},
		{"/restamp", `{}`, `{"node":"n3","site":7,"pending":true}`},
		{"/restamp", `{"node":"n3"}`, `"pending":true`},
		{"/adopt", `{"table":"t","declare":"create table t(a)"}`, `{"table":"t","rows":5}`},
		{"/adopt", `{"table":"t","cancel":true}`, `{"table":"t","rows":5}`},
	} {
		if a := f.do("POST", path+c.route, c.body); a.status != http.StatusOK || !strings.Contains(a.body, c.want) {
			t.Errorf("%s %s: %+v", c.route, c.body, a)
		}
	}
	want := []string{"retire acme {Sites:[3] Nodes:[] Force:false}", "retire acme {Sites:[] Nodes:[n3 n4] Force:true}", "restamp acme ", "restamp acme n3",
		"adopt acme {Table:t Declare:create table t(a) Cancel:false}", "adopt acme {Table:t Declare: Cancel:true}"}
	if !reflect.DeepEqual(tables.asked, want) {
		t.Errorf("got %q", tables.asked)
	}
	for _, c := range []struct {
		route, body string
		code        wire.Code
	}{
		{"/retire", ``, wire.CodeBadJSON}, {"/retire", `{}`, wire.CodeBadRequest}, {"/retire", `{"force":true}`, wire.CodeBadRequest}, {"/retire", `{"sites":["3"]}`, wire.CodeBadJSON},
		{"/retire", `{"sites":[3],"final":1}`, wire.CodeUnknownField}, {"/restamp", `{"site":1}`, wire.CodeUnknownField}, {"/adopt", `{}`, wire.CodeBadRequest},
		{"/adopt", `{"table":["t"]}`, wire.CodeBadJSON}, {"/adopt?cancel=1", `{"table":"t"}`, wire.CodeBadRequest}, {"/release", `{"table":"t"}`, wire.CodeUnreachable},
	} {
		if a := f.do("POST", path+c.route, c.body); code(t, a) != c.code {
			t.Errorf("%s %s: got %d %s, want %s", c.route, c.body, a.status, a.body, c.code)
		}
	}
	for _, token := range []string{"acme", "both"} { // only administrators
		if a := f.do("POST", path+"/retire", `{"sites":[3]}`, "Authorization: Bearer "+token); code(t, a) != wire.CodeForbidden {
			t.Errorf("%s: %+v", token, a)
		}
	}
}

// A tenant's record has its conflict-free tables with it, and is what it was without some.
func TestTenantWithConflictFreeTables(t *testing.T) {
	f := newFixture(t, nil)
	f.do("POST", "/v1/tenants", `{"name":"acme"}`)
	plain := f.do("GET", "/v1/tenants/acme", "")
	f.handler.tenants = &fakeTables{fakeTenants: f.tenants}
	if a := f.do("GET", "/v1/tenants/acme", ""); a.body != plain.body || strings.Contains(a.body, "conflict_free") {
		t.Errorf("got %s, want %s", a.body, plain.body)
	}
	f.tenants.mu.Lock()
	rec := f.tenants.mu.all["acme"]
	rec.Tables = 3
	f.tenants.mu.all["acme"] = rec
	f.tenants.mu.Unlock()
	a := f.do("GET", "/v1/tenants/acme", "")
	if !strings.Contains(a.body, `"tables":3,"conflict_free":[{"name":"likes","columns":{"n":"counter","post":"key"}}]}`) {
		t.Errorf("got %s", a.body)
	}
	var back tenant.Tenant
	if err := back.UnmarshalJSON([]byte(a.body)); err != nil || back != rec {
		t.Errorf("%+v reads as %+v, %v", rec, back, err)
	}
}

// A request that either of two nodes may be able to answer is sent to the other once, and then answered with what was wrong.
func TestEitherNode(t *testing.T) {
	f := newFixture(t, nil)
	stale := wire.NewError(wire.CodeUnreachable, "not all sites were asked")
	w := &discard{header: http.Header{}}
	r, err := http.NewRequest("GET", "/v1/tenants/acme/sql?q=select+1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.handler.inner.elsewhere(w, r, &errand{}, &ElsewhereError{Node: "n2", Either: true, Err: stale}, nil); got != error(stale) || len(w.header) != 0 {
		t.Errorf("a node that was asked by another says %v with %v", got, w.header)
	}
	if got := f.handler.inner.elsewhere(w, r, &errand{}, &ElsewhereError{Node: "n2", Err: stale}, nil); got == error(stale) || w.header.Get(headerPrimary) != "n2" {
		t.Errorf("a node that was asked by another says %v with %v", got, w.header)
	}
}

// discard takes an answer.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}
