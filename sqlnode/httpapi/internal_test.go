package httpapi

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/wire"
)

func TestIdentityBetweenNodes(t *testing.T) {
	run(t, func(t *testing.T) {
		m := newMesh(t, nil, "n1", "n2")
		m.nodes["n1"].sendsTo("n2")
		n2 := m.nodes["n2"]
		ctx := t.Context()
		a, err := m.ask(ctx, "pub.n1", "POST", acmeSQL, strings.NewReader(selectOne), "Authorization: Bearer both", "Idempotency-Key: k", "Content-Type: application/json")
		if err != nil || a.status != 200 {
			t.Fatalf("got %+v, %v", a, err)
		}
		if r := n2.sql.last(); r.Subject != "both-key" || r.IdempotencyKey != "k" {
			t.Errorf("got %+v", r)
		}
		if h := <-n2.heads; h.Get(headerRights) != `{"tenants":["acme"]}` || h.Get(headerHops) != "1" {
			t.Errorf("got %v", h)
		}
		inner := []string{headerSubject + ": root", headerRights + `: {"admin":true}`, headerHops + ": 1"}
		for name, c := range map[string]struct {
			host, path string
			headers    []string
			want       wire.Code
		}{
			"by a node":                    {"n2", "/v1/tenants", inner, ""},
			"headers on the public side":   {"pub.n2", "/v1/tenants", inner, wire.CodeUnauthenticated},
			"headers beside a lesser one":  {"pub.n2", "/v1/tenants", append([]string{"Authorization: Bearer acme"}, inner...), wire.CodeForbidden},
			"headers of one passed on":     {"pub.n1", "/v1/tenants", append([]string{"Authorization: Bearer acme"}, inner...), wire.CodeForbidden},
			"no headers":                   {"n2", "/v1/tenants", nil, wire.CodeUnauthenticated},
			"a token for a node":           {"n2", "/v1/tenants", []string{"Authorization: Bearer root"}, wire.CodeUnauthenticated},
			"no rights":                    {"n2", "/v1/tenants", []string{inner[0], inner[2]}, wire.CodeUnauthenticated},
			"no subject":                   {"n2", "/v1/tenants", inner[1:], wire.CodeUnauthenticated},
			"no hops":                      {"n2", "/v1/tenants", inner[:2], wire.CodeUnauthenticated},
			"two hops":                     {"n2", "/v1/tenants", []string{inner[0], inner[1], headerHops + ": 2"}, wire.CodeUnauthenticated},
			"rights of a newer node":       {"n2", "/v1/tenants", []string{inner[0], headerRights + `: {"admin":true,"read_only":true}`, inner[2]}, wire.CodeUnauthenticated},
			"rights that are no JSON":      {"n2", "/v1/tenants", []string{inner[0], headerRights + `: admin`, inner[2]}, wire.CodeUnauthenticated},
			"rights to a tenant":           {"n2", "/v1/tenants", []string{inner[0], headerRights + `: {"tenants":["acme"]}`, inner[2]}, wire.CodeForbidden},
			"rights to another tenant":     {"n2", acmeSQL + "?q=select", []string{inner[0], headerRights + `: {"tenants":["beta"]}`, inner[2]}, wire.CodeForbidden},
			"no time":                      {"n2", "/v1/tenants", append([]string{headerTimeout + ": 0"}, inner...), wire.CodeBadRequest},
			"time that is no number":       {"n2", "/v1/tenants", append([]string{headerTimeout + ": soon"}, inner...), wire.CodeBadRequest},
			"an internal route, in public": {"pub.n2", "/internal/v1/hello", []string{"Authorization: Bearer root"}, wire.CodeNotFound},
			"an internal route":            {"n2", "/internal/v1/hello", nil, ""},
			"none":                         {"n2", "/internal/v1/none", nil, wire.CodeNotFound},
		} {
			a, err := m.ask(ctx, c.host, "GET", c.path, nil, c.headers...)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if c.want != "" && code(t, a) != c.want || c.want == "" && a.status != 200 {
				t.Errorf("%s: got %+v, want %q", name, a, c.want)
			}
		}
	})
}

func TestInternalRoutesAreInternal(t *testing.T) {
	f := newFixture(t, nil)
	for _, pattern := range []string{"GET /v1/hello", "/", "internal/x", "GET /internal"} {
		_, err := New(DefaultConfig(), Deps{SQL: f.sql, Tenants: f.tenants, Auth: fakeAuth{}, Status: f.status, Counts: NewCounts(),
			Log: f.handler.log, InternalRoutes: map[string]http.Handler{pattern: http.NotFoundHandler()}})
		if err == nil {
			t.Errorf("%q was taken", pattern)
		}
	}
}

func FuzzNodeIdentity(f *testing.F) {
	f.Add("root", `{"admin":true}`, "1", "5000")
	f.Add("a%20b", `{"tenants":["acme"]}`, "1", "")
	f.Add("%zz", `{}{}`, "2", "-1")
	f.Fuzz(func(t *testing.T, subject, rights, hops, left string) {
		r := &http.Request{Header: http.Header{headerSubject: {subject}, headerRights: {rights}, headerHops: {hops}, headerTimeout: {left}}}
		if d, err := timeLeft(r); err == nil && (d < time.Millisecond || d > timeParamMax) {
			t.Errorf("%q left is %v", left, d)
		}
		id, err := nodeIdentity(r)
		if err != nil {
			if clientError(err).Code != wire.CodeUnauthenticated {
				t.Errorf("got %v", err)
			}
			return
		}
		name := ""
		if len(id.Tenants) > 0 {
			name = id.Tenants[0]
		}
		h := http.Header{}
		if err := appendIdentity(h, id, name); err != nil {
			t.Fatal(err)
		}
		again, err := nodeIdentity(&http.Request{Header: h})
		if len(h[headerSubject][0]) > rightsMax || len(h[headerRights][0]) > rightsMax {
			return
		}
		if err != nil || again.Subject != id.Subject || again.Admin != id.Admin || again.mayUse(name) != id.mayUse(name) {
			t.Errorf("%+v came back as %+v, %v", id, again, err)
		}
	})
}
