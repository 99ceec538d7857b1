package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestCRRCommands runs the commands against a node that answers as httpapi does, and looks at what it is asked.
func TestCRRCommands(t *testing.T) {
	t.Chdir(t.TempDir())
	var asked []string
	answers := map[string]string{
		"GET /v1/tenants/acme":               `{"id":"000102030405060708090a0b0c0d0e0f","name":"acme","group":2,"epoch":1,"state":"active","page_size":4096,"created":"2026-01-02T03:04:05Z","limits":{},"policy":1,"placement":{},"tables":2,"conflict_free":[{"name":"likes","columns":{"post":"key","n":"counter","title":"lww"}}]}`,
		"GET /v1/tenants/acme/copies":        `{"copies":[]}`,
		"GET /v1/tenants/acme/crr":           `{"node":"n1","schema":2,"site":1,"tables":[{"name":"likes","columns":{"post":"key","n":"counter"}}],"sites":[{"site":2,"node":"n2","connected":true,"newest":null,"lag_ms":1500,"more":true,"round_trip_ms":1,"clock_offset_ms":0,"held":"since"}],"members":[{"site":1,"node":"n1","state":"active"},{"site":3,"node":"n3","state":"retired","final":"2026-01-02T03:04:05Z"}],"care":"it is replaced"}`,
		"POST /v1/tenants/acme/crr/retire":   `{"retired":[{"site":3,"node":"n3","final":"2026-01-02T03:04:05Z"}]}`,
		"POST /v1/tenants/acme/crr/restamp":  `{"node":"n3","site":7,"pending":true}`,
		"POST /v1/tenants/acme/crr/rebuild":  `{"node":"n3","site":8,"aside":"/d/crr/1.damaged-2.db","salvaging":true,"pending":false}`,
		"POST /v1/tenants/acme/crr/adopt":    `{"table":"visits","rows":12}`,
		"POST /v1/tenants/acme/crr/release":  `{"table":"visits","rows":12}`,
		"POST /v1/tenants/nobody/crr/retire": `{"error":"no","message":"no tenant is named \"nobody\"","code":"NO_SUCH_TENANT","statement":null,"retryable":false}`,
	}
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		route := r.Method + " " + r.URL.Path
		if r.Method == http.MethodPost {
			asked = append(asked, strings.TrimSpace(route[len("POST /v1/tenants/"):]+" "+string(body)))
		}
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(answers[route], `"error"`) {
			w.WriteHeader(http.StatusNotFound)
		}
		fmt.Fprint(w, answers[route])
	}))
	defer node.Close()
	t.Setenv("NEARSQL_URL", node.URL)
	t.Setenv("NEARSQL_TOKEN", "t")
	nearsql := func(args ...string) result { t.Helper(); return command(t, "", args...) }
	nearsql("tenant", "show", "acme").want(t, 0, "\nconflict-free tables:\ntable  columns\n-----  ----------------------------\nlikes  n:counter post:key title:lww\n", "")
	nearsql("tenant", "show", "acme", "--json").want(t, 0, `"conflict_free":[{"name":"likes","columns":{"n":"counter","post":"key","title":"lww"}}]`, "")
	nearsql("crr", "status", "acme").want(t, 0, "3       n3    retired  2026-01-02T03:04:05Z\n", "")
	nearsql("crr", "status", "acme").want(t, 0, "being looked after: it is replaced\n", "")
	nearsql("crr", "status", "acme", "--json").want(t, 0, `"state":"retired"`, "")
	nearsql("crr", "retire", "acme", "3", "n4", "n5").want(t, 0, "retired site 3 of node n3; what it wrote until 2026-01-02T03:04:05Z counts\n", "")
	nearsql("crr", "retire", "acme", "n3", "--force", "--json").want(t, 0, `{"retired":[{"site":3`, "")
	nearsql("crr", "retire", "acme").want(t, 2, "", "TENANT SITE|NODE...")
	nearsql("crr", "retire", "nobody", "3").want(t, 3, "", "NO_SUCH_TENANT")
	nearsql("crr", "restamp", "acme", "--node", "n3").want(t, 0, "node n3 is site 7 now; it is being written anew", "")
	nearsql("crr", "restamp", "acme").want(t, 0, "node n3", "")
	nearsql("crr", "rebuild", "acme", "--node", "n3").want(t, 0, "node n3 is site 8 now, with a copy of another site's file; the damaged one is /d/crr/1.damaged-2.db: what could be read", "")
	nearsql("crr", "rebuild").want(t, 2, "", "TENANT")
	nearsql("crr", "adopt", "acme", "visits", "--declare", "create table visits(a)").want(t, 0, "table visits is conflict-free; 12 rows were copied\n", "")
	nearsql("crr", "adopt", "acme", "visits", "--declare", "x", "--cancel").want(t, 2, "", "--cancel")
	nearsql("crr", "release", "acme", "visits").want(t, 0, "table visits is strong; 12 rows were copied\n", "")
	nearsql("crr", "release", "acme", "visits", "--cancel").want(t, 0, "table visits is what it was\n", "")
	nearsql("crr", "release", "acme").want(t, 2, "", "TENANT TABLE")
	want := []string{
		`acme/crr/retire {"sites":[3],"nodes":["n4","n5"]}`, `acme/crr/retire {"nodes":["n3"],"force":true}`, `nobody/crr/retire {"sites":[3]}`,
		`acme/crr/restamp {"node":"n3"}`, `acme/crr/restamp {}`, `acme/crr/rebuild {"node":"n3"}`, `acme/crr/adopt {"table":"visits","declare":"create table visits(a)"}`,
		`acme/crr/release {"table":"visits"}`, `acme/crr/release {"table":"visits","cancel":true}`,
	}
	if got := strings.Join(asked, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("the node was asked\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}
