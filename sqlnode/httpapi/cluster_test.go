package httpapi

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/wire"
)

// clusterFixture serves a node of a fakeCluster.
func clusterFixture(t *testing.T) (*fixture, *fakeCluster) {
	f := newFixture(t, nil)
	c := &fakeCluster{}
	f.handler.cluster = c
	return f, c
}

func TestClusterRoutes(t *testing.T) {
	f, c := clusterFixture(t)
	const n2 = `{"id":"n2","pop":"ams","region":"eu","state":"active","cluster_addr":"n2:7601","public_url":"","joined":"2001-09-09T01:46:40Z",` +
		`"self":false,"connected":false,"last_contact":null,"groups":[]}`
	const eu = `{"id":7,"name":"eu","declared":[],"voters":[],"learners":[],"primary":"","term":0,"pinned":false,"target":0,"region":"eu","tenants":0,"members":[]}`
	for _, s := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/v1/nodes", "", 200, `{"nodes":[{"id":"n1","pop"`},
		{"GET", "/v1/nodes/n2", "", 200, n2},
		{"POST", "/v1/nodes/n2/drain", "", 202, `{"id":"n2","state":"draining"}`},
		{"GET", "/v1/nodes/n2", "", 200, `"state":"draining"`},
		{"POST", "/v1/nodes/n2/undrain", "", 202, `{"id":"n2","state":"active"}`},
		{"DELETE", "/v1/nodes/n3", "", 202, `{"id":"n3","state":"removing"}`},
		{"GET", "/v1/groups", "", 200, `{"groups":[{"id":1,"name":"system"`},
		{"GET", "/v1/groups/eu", "", 200, eu},
		{"GET", "/v1/groups/7", "", 200, eu},
		{"POST", "/v1/groups", `{"name":"us","voters":["n1","n2"],"target":2,"region":"us"}`, 201, `"name":"us","declared":["n1","n2"]`},
		{"POST", "/v1/groups/eu/move-leader", `{"to":"n3"}`, 200, `{"group":"eu","primary":"n3"}`},
	} {
		a := f.do(s.method, s.path, s.body)
		if a.status != s.status || !strings.Contains(a.body, s.want) {
			t.Errorf("%s %s: got %d %s", s.method, s.path, a.status, a.body)
		}
	}
	if want := []GroupOptions{{Name: "us", Voters: []string{"n1", "n2"}, Target: 2, Region: "us"}}; !reflect.DeepEqual(c.mu.created, want) || !reflect.DeepEqual(c.mu.moved, []string{"eu n3"}) {
		t.Errorf("got %+v, %v", c.mu.created, c.mu.moved)
	}
	for _, s := range []struct {
		method, path, body string
		code               wire.Code
	}{
		{"GET", "/v1/nodes?all=1", "", wire.CodeBadRequest},
		{"GET", "/v1/nodes/x", "", wire.CodeNoSuchNode},
		{"GET", "/v1/nodes/N%2F1", "", wire.CodeNoSuchNode},
		{"POST", "/v1/nodes/x/drain", "", wire.CodeNoSuchNode},
		{"PUT", "/v1/nodes/n1", "", wire.CodeMethodNotAllowed},
		{"GET", "/v1/groups/us", "", wire.CodeNoSuchGroup},
		{"GET", "/v1/groups/%20", "", wire.CodeNoSuchGroup},
		{"POST", "/v1/groups", `{"name":"eu"}`, wire.CodeConflict},
		{"POST", "/v1/groups", `{"name":"7"}`, wire.CodeBadName},
		{"POST", "/v1/groups", `{}`, wire.CodeBadName},
		{"POST", "/v1/groups", `{"name":"E U"}`, wire.CodeBadName},
		{"POST", "/v1/groups", `{"name":"us","target":-1}`, wire.CodeBadRequest},
		{"POST", "/v1/groups", `{"name":"us","voters":["n1","n1"]}`, wire.CodeBadRequest},
		{"POST", "/v1/groups", `{"name":"us","voters":["N 1"]}`, wire.CodeBadRequest},
		{"POST", "/v1/groups", `{"name":"us","members":3}`, wire.CodeUnknownField},
		{"POST", "/v1/groups/us/move-leader", `{"to":"n1"}`, wire.CodeNoSuchGroup},
		{"POST", "/v1/groups/eu/move-leader", `{}`, wire.CodeBadRequest},
	} {
		if a := f.do(s.method, s.path, s.body); code(t, a) != s.code {
			t.Errorf("%s %s %s: got %d %s, want %s", s.method, s.path, s.body, a.status, a.body, s.code)
		}
	}
	for _, path := range []string{"/v1/nodes", "/v1/nodes/n1", "/v1/groups", "/v1/groups/eu"} {
		if a := f.do("GET", path, "", "Authorization: Bearer acme"); a.status != http.StatusForbidden {
			t.Errorf("%s: got %+v", path, a)
		}
		alone := newFixture(t, nil)
		if a := alone.do("GET", path, ""); code(t, a) != wire.CodeNotFound || !strings.Contains(a.body, "on its own") {
			t.Errorf("%s: got %+v", path, a)
		}
	}
}

// TestGroupByName: a tenant's group is given by number or by name.
func TestGroupByName(t *testing.T) {
	f, _ := clusterFixture(t)
	for name, c := range map[string]struct {
		group string
		id    wire.GroupID
		code  wire.Code
	}{
		"a": {`5`, 5, ""}, "b": {`"eu"`, 7, ""}, "c": {`"6"`, 6, ""}, "d": {`null`, 0, ""},
		"e": {`"us"`, 0, wire.CodeNoSuchGroup}, "f": {`"U S"`, 0, wire.CodeBadJSON}, "g": {`""`, 0, wire.CodeBadJSON}, "h": {`-1`, 0, wire.CodeBadJSON}, "i": {`[1]`, 0, wire.CodeBadJSON},
	} {
		for _, a := range []answer{
			f.do("POST", "/v1/tenants", `{"name":"`+name+`","group":`+c.group+`}`),
			f.do("POST", "/v1/tenants/"+name+"x/import?options={%22group%22:"+strings.NewReplacer(`"`, "%22", " ", "%20").Replace(c.group)+"}", "x"),
		} {
			if c.code != "" && code(t, a) != c.code || c.code == "" && (a.status != 201 || f.tenants.options.Group != c.id) {
				t.Errorf("%s: got %+v, group %d", c.group, a, f.tenants.options.Group)
			}
		}
	}
	alone := newFixture(t, nil)
	if a := alone.do("POST", "/v1/tenants", `{"name":"a","group":"eu"}`); code(t, a) != wire.CodeNotFound {
		t.Errorf("got %+v", a)
	}
}
