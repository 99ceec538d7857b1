package sqlnode

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What a feeder gives away it decides by the tenant's record and the catalogue, not by what a node asks for.
func TestFeedersKeepJurisdictions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t)
		s.tune = func(cfg *Config) {
			cfg.Region = "eu"
			if strings.HasPrefix(cfg.NodeID, "x") {
				cfg.Region = "us"
			}
		}
		defer s.close()
		a := s.start("n1")
		s.await(time.Minute, func() string { return ready(a) })
		s.start("n2", "n1")
		s.start("n3", "n1")
		s.awaitVoters("n1", "default", 3)
		inside, outside := s.start("n4", "n1"), s.start("x5", "n1")
		s.await(time.Minute, func() string { return ready(inside) + ready(outside) })
		a.want(t, "POST", "/v1/groups", `{"name":"eu","region":"eu"}`, 201)
		s.awaitVoters("n1", "eu", 3)
		a.want(t, "POST", "/v1/tenants", `{"name":"acme","replicas":"all","jurisdiction":"eu","group":"eu"}`, 201)
		a.sql(t, "acme", "", "create table t(x)")
		holds := func(n *simNode) string {
			if len(n.repl.set.Tenants()) == 0 {
				return n.id.Node + " has no copy"
			}
			return ""
		}
		if g, ok := a.cat.View().GroupByName("eu"); ok { // the one of four that does not vote
			for _, n := range s.up() {
				if n != outside && !slices.Contains(g.Members.Voters, n.id.Node) {
					inside = n
				}
			}
		}
		s.await(time.Minute, func() string { return holds(inside) })
		row, _ := a.cat.View().Tenant("acme")
		// The node outside asks all the same, of whoever has it.
		sent := func() (n int64) {
			for _, f := range s.up() {
				n += f.repl.feeder.Stats.Copies.Load()
			}
			return n
		}
		before := sent()
		stop := time.Now().Add(time.Minute)
		for time.Now().Before(stop) {
			outside.repl.follower.Follow(row.ID, row.Group, 1)
			time.Sleep(100 * time.Millisecond)
		}
		if holds(outside) == "" || sent() != before {
			t.Errorf("the node outside was sent the tenant: %d copies more", sent()-before)
		}
		if st, _ := outside.repl.follower.Status(row.ID); st.Joined {
			t.Errorf("the node outside is fed: %+v", st)
		}
		// Inside it goes on.
		a.sql(t, "acme", "", "insert into t values(1)")
		s.await(time.Minute, func() string {
			_, text := inside.do("POST", "/v1/tenants/acme/sql?max_staleness=1s&on_stale=fail", `{"sql":"select x from t"}`)
			if !strings.Contains(text, `"rows":[[1]]`) || !strings.Contains(text, `"role":"replica"`) {
				return text
			}
			return ""
		})
	})
}
