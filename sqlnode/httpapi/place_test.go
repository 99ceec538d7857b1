package httpapi

import (
	"context"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

func TestPlaceRoutes(t *testing.T) {
	f := newFixture(t, nil)
	const path = "/v1/tenants/acme/placement"
	if a := f.do("POST", "/v1/tenants", `{"name":"acme","replicas":"region:eu"}`); a.status != 201 || f.tenants.options.Replicas != "region:eu" {
		t.Fatalf("got %+v, %+v", a, f.tenants.options)
	}
	for _, body := range []string{`{"replicas":"all"}`, `{"replicas":""}`, `{"replicas":"pop:ams,region:us"}`} {
		if a := f.do("PUT", path, body); a.status != 200 || !strings.Contains(a.body, `"name":"acme"`) {
			t.Errorf("%s: got %+v", body, a)
		}
	}
	if want := []tenant.Placement{{Replicas: "all"}, {}, {Replicas: "pop:ams,region:us"}}; !reflect.DeepEqual(f.tenants.placed, want) {
		t.Errorf("got %+v", f.tenants.placed)
	}
	if a := f.do("GET", "/v1/tenants/acme", ""); !strings.Contains(a.body, `"policy":3,"placement":{"replicas":"pop:ams,region:us"}`) {
		t.Errorf("got %+v", a)
	}
	for _, c := range []struct {
		method, path, body string
		code               wire.Code
	}{
		{"PUT", path, ``, wire.CodeBadJSON},
		{"PUT", path, `{}`, wire.CodeBadRequest},
		{"PUT", path, `{"replicas":null}`, wire.CodeBadRequest},
		{"PUT", path, `{"replicas":["all"]}`, wire.CodeBadJSON},
		{"PUT", path, `{"replicas":"everywhere"}`, wire.CodeBadRequest},
		{"PUT", path, `{"replicas":"pop:A"}`, wire.CodeBadRequest},
		{"PUT", path, `{"replicas":"all","jurisdiction":""}`, wire.CodeBadRequest},
		{"PUT", path, `{"replicas":"all","jurisdiction":"E U"}`, wire.CodeBadRequest},
		{"PUT", path, `{"replicas":"all","jurisdiction":"eu"}`, wire.CodeConflict},
		{"PUT", path, `{"replicas":"all","policy":7}`, wire.CodeUnknownField},
		{"PUT", path + "?force=1", `{"replicas":"all"}`, wire.CodeBadRequest},
		{"PUT", "/v1/tenants/nobody/placement", `{"replicas":"all"}`, wire.CodeNoSuchTenant},
		{"PUT", "/v1/tenants/A/placement", `{"replicas":"all"}`, wire.CodeBadName},
		{"POST", path, `{"replicas":"all"}`, wire.CodeMethodNotAllowed},
		{"GET", "/v1/tenants/nobody/copies", "", wire.CodeNoSuchTenant},
		{"GET", "/v1/tenants/acme/copies?all=1", "", wire.CodeBadRequest},
		{"POST", "/v1/tenants", `{"name":"b","replicas":"everywhere"}`, wire.CodeBadRequest},
	} {
		if a := f.do(c.method, c.path, c.body); code(t, a) != c.code {
			t.Errorf("%s %s %s: got %d %s, want %s", c.method, c.path, c.body, a.status, a.body, c.code)
		}
	}
	if len(f.tenants.placed) != 3 {
		t.Errorf("what was refused was placed: %+v", f.tenants.placed)
	}
	for method, p := range map[string]string{"PUT": path, "GET": "/v1/tenants/acme/copies"} {
		for _, token := range []string{"acme", "nobody"} {
			if a := f.do(method, p, `{"replicas":"all"}`, "Authorization: Bearer "+token); a.status != http.StatusForbidden && a.status != http.StatusUnauthorized {
				t.Errorf("%s as %s: got %+v", p, token, a)
			}
		}
	}
}

func TestCopiesRoute(t *testing.T) {
	f := newFixture(t, nil)
	f.do("POST", "/v1/tenants", `{"name":"acme"}`)
	if a := f.do("GET", "/v1/tenants/acme/copies", ""); a.body != `{"copies":[]}`+"\n" {
		t.Errorf("got %+v", a)
	}
	behind, stale := uint64(0), int64(31)
	f.tenants.copies = []CopyInfo{
		{Node: "n1", PoP: "ams", Region: "eu", Role: CopyPrimary, State: CopyInService, Epoch: "1", TXID: "000000000000002a", Checksum: "8c0ffee000000000", Behind: &behind, StalenessMS: &stale},
		{Node: "n2", PoP: "nrt", Role: CopyReplica, State: CopyUnreachable, Feeder: "n1", Error: "no route"},
	}
	const want = `{"copies":[{"node":"n1","pop":"ams","region":"eu","role":"primary","state":"in service","epoch":"1","txid":"000000000000002a","checksum":"8c0ffee000000000","behind":0,"staleness_ms":31},` +
		`{"node":"n2","pop":"nrt","region":"","role":"replica","state":"unreachable","epoch":"","txid":"","checksum":"","behind":null,"staleness_ms":null,"feeder":"n1","error":"no route"}]}` + "\n"
	if a := f.do("GET", "/v1/tenants/acme/copies", ""); a.status != 200 || a.body != want {
		t.Errorf("got %+v", a)
	}
}

// TestPlaceIsForwarded: a node that is not the primary passes the change on, again when an answer got lost.
func TestPlaceIsForwarded(t *testing.T) {
	run(t, func(t *testing.T) {
		m := newMesh(t, nil, "n1", "n2")
		m.nodes["n1"].sendsTo("n2")
		n2 := m.nodes["n2"].tenants
		if _, err := n2.Create(context.Background(), "acme", tenant.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		n2.copies = []CopyInfo{{Node: "n2", Role: CopyPrimary, State: CopyInService}}
		a := m.do("n1", "PUT", "/v1/tenants/acme/placement", `{"replicas":"all"}`)
		if a.status != 200 || !strings.Contains(a.body, `"placement":{"replicas":"all"}`) || !reflect.DeepEqual(n2.placed, []tenant.Placement{{Replicas: "all"}}) {
			t.Errorf("got %+v, placed %+v", a, n2.placed)
		}
		before := m.dials("n2")
		m.setFault(func(host string, n int) (int, error) {
			if host == "n2" && n == before+1 {
				return 20, nil
			}
			return -1, nil
		})
		a = m.do("n1", "PUT", "/v1/tenants/acme/placement", `{"replicas":"none"}`)
		if a.status != 200 || len(n2.placed) != 3 || n2.placed[2] != n2.placed[1] || m.dials("n2") != before+2 {
			t.Errorf("got %+v, placed %+v", a, n2.placed)
		}
		if a := m.do("n1", "GET", "/v1/tenants/acme/copies", ""); a.status != 200 || !strings.Contains(a.body, `"node":"n2"`) {
			t.Errorf("got %+v", a)
		}
		// What the other node refuses comes back as it is, and who asks is checked first.
		if a := m.do("n1", "PUT", "/v1/tenants/acme/placement", `{"replicas":"all","jurisdiction":"eu"}`); code(t, a) != wire.CodeConflict {
			t.Errorf("got %+v", a)
		}
		before = m.dials("n2")
		a, err := m.ask(t.Context(), "pub.n1", "PUT", "/v1/tenants/acme/placement", strings.NewReader(`{"replicas":"all"}`), "Authorization: Bearer acme")
		if err != nil || a.status != http.StatusForbidden || m.dials("n2") != before {
			t.Errorf("got %+v, %v", a, err)
		}
	})
}
