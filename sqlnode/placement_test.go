package sqlnode

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/sqlnode/catalogue"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

func TestPlaceOnOneNode(t *testing.T) {
	r := startNode(t, testNodeConfig(t))
	r.want("POST", "/v1/tenants", `{"name":"acme","replicas":"all"}`, 201)
	if got := r.want("GET", "/v1/tenants", "", 200); !strings.Contains(got, `"placement":{"replicas":"all"}`) {
		t.Errorf("listed: %s", got)
	}
	for i, c := range []struct {
		replicas string
		policy   int
	}{{"all", 1}, {"none", 2}, {"none", 2}, {"region:eu", 3}, {"", 4}} {
		got := decode[tenant.Tenant](t, r.want("PUT", "/v1/tenants/acme/placement", `{"replicas":"`+c.replicas+`"}`, 200))
		row, _ := r.n.cat.View().Tenant("acme")
		if r.n.refreshCatalogue(t.Context()) == nil {
			row, _ = r.n.cat.View().Tenant("acme")
		}
		if string(got.Placement.Replicas) != c.replicas || int(got.Policy) != c.policy || row.Policy != got.Policy || row.Placement != got.Placement {
			t.Errorf("step %d: got %+v, the catalogue has %+v", i, got, row)
		}
	}
	copies := decode[copyList](t, r.want("GET", "/v1/tenants/acme/copies", "", 200)).Copies
	if len(copies) != 1 || copies[0].Role != httpapi.CopyPrimary || copies[0].State != httpapi.CopyInService || copies[0].Behind == nil || *copies[0].Behind != 0 || copies[0].Epoch != "1" {
		t.Errorf("got %+v", copies)
	}
	if got := code(r.want("PUT", "/v1/tenants/system/placement", `{"replicas":"all"}`, 403)); got != "FORBIDDEN" {
		t.Error(got)
	}
	r.want("DELETE", "/v1/tenants/acme", "", 204)
	for method, path := range map[string]string{"PUT": "/v1/tenants/acme/placement", "GET": "/v1/tenants/acme/copies"} {
		if got := code(r.want(method, path, `{"replicas":"all"}`, 410)); got != "TENANT_DELETED" {
			t.Error(path, got)
		}
	}
}

type copyList struct{ Copies []httpapi.CopyInfo }

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// placedCluster is n1 to n3 in region eu, which vote, and n4 in us, which does not.
func placedCluster(t *testing.T) *simulation {
	s := newSimulation(t)
	s.tune = func(cfg *Config) {
		if cfg.Region = "eu"; cfg.NodeID == "n4" {
			cfg.Region = "us"
		}
	}
	a := s.start("n1")
	s.await(time.Minute, func() string { return ready(a) })
	s.start("n2", "n1")
	s.start("n3", "n1")
	s.awaitVoters("n1", "default", 3)
	n4 := s.start("n4", "n1")
	s.await(time.Minute, func() string { return ready(n4) })
	return s
}

// awaitPlaced waits until the catalogues of all nodes have the tenant's placement of that number, as p.
func (s *simulation) awaitPlaced(name tenant.Name, policy uint32, p tenant.Placement) {
	s.t.Helper()
	s.await(3*time.Minute, func() string {
		for _, n := range s.up() {
			v := n.cat.View()
			row, _ := v.Tenant(name)
			placed := slices.ContainsFunc(slices.Collect(v.Placed()), func(t catalogue.Tenant) bool { return t.Name == name })
			if row.Policy != policy || row.Placement != p || placed != p.Standing() {
				return fmt.Sprintf("node %s has %+v, placed: %v; want policy %d, %+v", n.id.Node, row, placed, policy, p)
			}
		}
		return ""
	})
}

func TestPlaceInACluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := placedCluster(t)
		defer s.close()
		n4 := s.node("n4")
		n4.want(t, "POST", "/v1/tenants", `{"name":"acme","replicas":"pop:pop-n4"}`, 201)
		s.awaitPlaced("acme", 1, tenant.Placement{Replicas: "pop:pop-n4"})
		n4.sql(t, "acme", "", "create table t(x)")

		// Whoever is asked knows of all copies.
		for _, n := range s.up() {
			s.await(time.Minute, func() string {
				text := n.want(t, "GET", "/v1/tenants/acme/copies", "", 200)
				list := decode[copyList](t, text).Copies
				if len(list) != 4 || list[0].Role != httpapi.CopyPrimary || list[1].Role != httpapi.CopyVoter || list[2].Role != httpapi.CopyVoter ||
					list[3].Role != httpapi.CopyReplica || list[3].Node != "n4" || list[3].Region != "us" || list[3].Feeder == "" {
					return text
				}
				for _, c := range list {
					if c.State != httpapi.CopyInService || c.Behind == nil || *c.Behind != 0 || c.StalenessMS == nil || c.TXID != list[0].TXID || c.Checksum != list[0].Checksum || c.PoP != "pop-"+c.Node {
						return text
					}
				}
				return ""
			})
		}

		// Any node takes the change, and takes it once.
		lead := s.primary("default")
		policy := uint32(1)
		for i, n := range s.up() {
			replicas := tenant.Replicas([]string{"all", "none", "region:us", "on-demand"}[i])
			policy++
			for range 2 {
				got := decode[tenant.Tenant](t, n.want(t, "PUT", "/v1/tenants/acme/placement", fmt.Sprintf(`{"replicas":%q}`, replicas), 200))
				if got.Policy != policy || got.Placement.Replicas != replicas {
					t.Fatalf("by %s: got %+v, want policy %d, %s", n.id.Node, got, policy, replicas)
				}
			}
			s.awaitPlaced("acme", policy, tenant.Placement{Replicas: replicas})
		}
		if got := code(n4.want(t, "PUT", "/v1/tenants/acme/placement", `{"replicas":"all","jurisdiction":"eu"}`, 409)); got != "CONFLICT" {
			t.Error(got)
		}

		// Changes at the same time follow one another; the catalogue ends where the record does.
		var wg sync.WaitGroup
		for i, n := range s.up() {
			wg.Go(func() {
				if status, text := n.do("PUT", "/v1/tenants/acme/placement", fmt.Sprintf(`{"replicas":"pop:p%d"}`, i)); status != 200 {
					t.Errorf("by %s: %d %s", n.id.Node, status, text)
				}
			})
		}
		wg.Wait()
		rec := decode[tenant.Tenant](t, n4.want(t, "GET", "/v1/tenants/acme", "", 200))
		if rec.Policy != policy+4 {
			t.Errorf("policy %d after four changes, was %d", rec.Policy, policy)
		}
		s.awaitPlaced("acme", rec.Policy, rec.Placement)

		// A node that is down is seen to be.
		for _, id := range []string{"n1", "n2", "n3"} {
			if id != lead {
				s.kill(id, nil)
				list := decode[copyList](t, n4.want(t, "GET", "/v1/tenants/acme/copies", "", 200)).Copies
				i := slices.IndexFunc(list, func(c httpapi.CopyInfo) bool { return c.Node == id })
				if len(list) != 3 || i < 0 || list[i].State != httpapi.CopyUnreachable || list[i].Error == "" || list[i].Behind != nil || list[i].TXID != "" || list[i].Role != httpapi.CopyVoter {
					t.Errorf("%s is down: %+v", id, list)
				}
				break
			}
		}
	})
}

// TestPlacementHeals: where the catalogue and the record of a tenant differ, after a crash between the two or a recovery that lost changes of the record,
// the record's placement comes to the catalogue with a number above all before.
func TestPlacementHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := placedCluster(t)
		defer s.close()
		s.node("n4").want(t, "POST", "/v1/tenants", `{"name":"acme"}`, 201)
		ctx := context.Background()
		lead := s.node(s.primary("default"))
		h := lead.groups.get(defaultGroup)
		row, _ := lead.cat.View().Tenant("acme")

		// The record went ahead.
		all := tenant.Placement{Replicas: tenant.ReplicasAll}
		if err := h.control(ctx, row.ID, tenant.PlacementChanged{Time: tenant.Millis(time.Now()), Policy: 2, Placement: all}); err != nil {
			t.Fatal(err)
		}
		s.awaitPlaced("acme", 2, all)

		// The catalogue has a later one.
		lost := tenant.Placement{Replicas: "pop:x"}
		if err := lead.place(ctx, tenant.Tenant{ID: row.ID, Policy: 7, Placement: lost}); err != nil {
			t.Fatal(err)
		}
		s.awaitPlaced("acme", 8, all)

		// It has another of the same number.
		none := tenant.Placement{Replicas: tenant.ReplicasNone}
		if err := lead.place(ctx, tenant.Tenant{ID: row.ID, Policy: 9, Placement: lost}); err != nil {
			t.Fatal(err)
		}
		if err := h.control(ctx, row.ID, tenant.PlacementChanged{Time: tenant.Millis(time.Now()), Policy: 9, Placement: none}); err != nil {
			t.Fatal(err)
		}
		s.awaitPlaced("acme", 10, none)
	})
}

func TestJurisdiction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := placedCluster(t)
		defer s.close()
		n4 := s.node("n4")
		if got := code(n4.want(t, "POST", "/v1/tenants", `{"name":"acme","jurisdiction":"eu"}`, 409)); got != "CONFLICT" { // the group may have voters anywhere
			t.Error(got)
		}
		n4.want(t, "POST", "/v1/groups", `{"name":"eu","region":"eu"}`, 201)
		s.awaitVoters("n4", "eu", 3)
		if got := code(n4.want(t, "POST", "/v1/tenants", `{"name":"acme","jurisdiction":"us","group":"eu"}`, 409)); got != "CONFLICT" {
			t.Error(got)
		}
		n4.want(t, "POST", "/v1/tenants", `{"name":"acme","jurisdiction":"eu","replicas":"all","group":"eu"}`, 201)
		s.awaitPlaced("acme", 1, tenant.Placement{Replicas: "all", Jurisdiction: "eu"})
		for _, c := range decode[copyList](t, n4.want(t, "GET", "/v1/tenants/acme/copies", "", 200)).Copies {
			if c.Region != "eu" {
				t.Errorf("a copy outside: %+v", c)
			}
		}
		for body, status := range map[string]int{
			`{"replicas":"region:us"}`: 200, `{"replicas":"all","jurisdiction":"eu"}`: 200, `{"replicas":"all","jurisdiction":"us"}`: 409,
		} {
			text := n4.want(t, "PUT", "/v1/tenants/acme/placement", body, status)
			if status == 200 && decode[tenant.Tenant](t, text).Placement.Jurisdiction != "eu" {
				t.Errorf("%s: got %s", body, text)
			}
		}
	})
}

// TestCompareCopies: copies are compared with the newest primary, within its epoch.
func TestCompareCopies(t *testing.T) {
	list := []httpapi.CopyInfo{{Node: "d", Role: httpapi.CopyReplica}, {Node: "c", Role: httpapi.CopyVoter}, {Node: "b", Role: httpapi.CopyPrimary},
		{Node: "a", Role: httpapi.CopyVoter}, {Node: "e", Role: httpapi.CopyOnDemand}, {Node: "f", Role: httpapi.CopyLearner}}
	pos := func(epoch, tx int) wire.Pos { return wire.Pos{Epoch: wire.Epoch(epoch), TXID: wire.TXID(tx)} }
	compareCopies(list, []wire.Pos{pos(1, 90), pos(2, 40), pos(2, 42), pos(2, 43), {}, pos(2, 0)})
	var got []string
	for _, c := range list {
		behind := "-"
		if c.Behind != nil {
			behind = fmt.Sprint(*c.Behind)
		}
		got = append(got, c.Node+behind)
	}
	if want := "b0 a0 c2 f42 d- e-"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}
