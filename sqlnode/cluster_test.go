package sqlnode

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestThreeNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t)
		defer s.close()
		a := s.start("n1")
		s.await(time.Minute, func() string { return ready(a) })
		b, c := s.start("n2", "n1"), s.start("n3", "n1")
		s.awaitVoters("n1", "default", 3)
		s.awaitVoters("n3", "system", 3)
		t.Log("three voters after", time.Since(a.started))

		// Whoever is asked, the tenant is there, and a strong read sees what was written anywhere.
		b.want(t, "POST", "/v1/tenants", `{"name":"acme"}`, 201)
		c.sql(t, "acme", "", "create table t(x integer primary key, y)")
		for i, n := range []*simNode{a, b, c, a, b, c} {
			n.sql(t, "acme", "", fmt.Sprintf("insert into t values(%d, 'row')", i))
			for _, r := range []*simNode{a, b, c} {
				if got := r.sql(t, "acme", "?consistency=strong", "select count(*) from t"); got != fmt.Sprintf("[[%d]]", i+1) {
					t.Fatalf("node %s sees %s, want %d rows", r.id.Node, got, i+1)
				}
				r.sql(t, "acme", "", "select count(*) from t")
			}
		}
		if got := code(a.want(t, "POST", "/v1/tenants", `{"name":"acme"}`, 409)); got != "TENANT_EXISTS" {
			t.Fatal(got)
		}
		if got := code(b.want(t, "POST", "/v1/tenants/other/sql", `{"sql":"select 1"}`, 404)); got != "NO_SUCH_TENANT" {
			t.Fatal(got)
		}
		// The primary stops in order: leadership is handed on, and nobody notices for long.
		lead := s.primary("default")
		before := time.Now()
		if err := s.halt(lead); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		rest := s.up()[0]
		rest.sql(t, "acme", "", "insert into t values(100, 'after')")
		t.Logf("%s stopped; a write %v later", lead, time.Since(before))
		again := s.start(lead)
		s.await(time.Minute, func() string { return ready(again) })
		if got := again.sql(t, "acme", "?consistency=strong", "select count(*) from t"); got != "[[7]]" {
			t.Fatalf("the node that came back sees %s", got)
		}
		file := again.want(t, "GET", "/v1/tenants/acme/export", "", 200)
		for _, n := range s.up() {
			if other := n.want(t, "GET", "/v1/tenants/acme/export", "", 200); !bytes.Equal([]byte(file), []byte(other)) {
				t.Errorf("node %s has another copy", n.id.Node)
			}
		}
		rest.want(t, "DELETE", "/v1/tenants/acme", "", 204)
		for _, n := range s.up() {
			if status, text := n.do("POST", "/v1/tenants/acme/sql?consistency=strong", `{"sql":"select 1"}`); status != 404 && status != 410 {
				t.Errorf("node %s: %d %s", n.id.Node, status, text)
			}
		}
	})
}

func ready(n *simNode) string {
	if err := (statusService{n.Node}).Ready(context.Background()); err != nil {
		return err.Error()
	}
	return ""
}

// primary is the node that leads a group.
func (s *simulation) primary(group string) (id string) {
	s.t.Helper()
	s.await(time.Minute, func() string {
		for _, n := range s.up() {
			status, text := n.do("GET", "/v1/groups/"+group, "")
			var g struct{ Primary string }
			if json.Unmarshal([]byte(text), &g); status == 200 && g.Primary != "" {
				id = g.Primary
				return ""
			}
		}
		return "no primary"
	})
	return id
}

// awaitVoters waits until a group has that many voters.
func (s *simulation) awaitVoters(on string, group string, n int) {
	s.t.Helper()
	s.await(time.Minute, func() string {
		status, text := s.node(on).do("GET", "/v1/groups/"+group, "")
		var g struct{ Voters []string }
		if json.Unmarshal([]byte(text), &g); status == 200 && len(g.Voters) == n {
			return ""
		}
		return text
	})
}
