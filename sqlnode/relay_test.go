package sqlnode

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/tenant"
)

// However many nodes hold a tenant, voters feed a few of them, also those that came when there was nobody else; and every follower is fed by what
// was chosen for it.
func TestVotersFeedFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t)
		s.tune = func(cfg *Config) { cfg.HeartbeatTimeout = 2 * time.Second }
		defer s.close()
		a := s.start("n1")
		s.await(time.Minute, func() string { return ready(a) })
		s.start("n2", "n1")
		s.start("n3", "n1")
		s.awaitVoters("n1", "default", 3)
		const tenants = 4
		for i := range tenants {
			a.want(t, "POST", "/v1/tenants", fmt.Sprintf(`{"name":"t%d","replicas":"all"}`, i), 201)
		}
		var followers []*simNode
		for i := range readpath.TreeRoots + 4 {
			n := s.start(fmt.Sprintf("n%d", 4+i), "n1")
			for _, o := range s.up() {
				if o != n {
					s.net.SetDelayBoth(n.id.Node, o.id.Node, 40*time.Millisecond)
				}
			}
			s.await(time.Minute, func() string { return ready(n) })
			followers = append(followers, n)
		}
		g, _ := a.cat.View().GroupByName("default")
		settled := func() string {
			for i := range tenants {
				row, ok := a.cat.View().Tenant(tenant.Name(fmt.Sprintf("t%d", i)))
				if !ok {
					return "no tenant"
				}
				byVoters := 0
				for _, n := range followers {
					st, _ := n.repl.follower.Status(row.ID)
					if want := n.repl.feeders(row.ID); !st.Joined || len(want) == 0 || st.Feeder != want[0] {
						return fmt.Sprintf("%s follows t%d from %q (%v), and not from the first of %v", n.id.Node, i, st.Feeder, st.Joined, want)
					}
					if slices.Contains(g.Members.Voters, st.Feeder) {
						byVoters++
					}
				}
				if byVoters > readpath.TreeRoots {
					return fmt.Sprintf("t%d: voters feed %d nodes", i, byVoters)
				}
			}
			return ""
		}
		s.await(time.Minute, settled)
		// A relay that dies leaves nobody without service, and gets its own back.
		gone := followers[0].id.Node
		if err := s.halt(gone); err != nil {
			t.Fatal(err)
		}
		a.sql(t, "t0", "", "create table t(x)")
		for _, n := range followers[1:] {
			s.await(20*time.Second, func() string {
				status, text := n.do("POST", "/v1/tenants/t0/sql?max_staleness=1s&on_stale=fail", `{"sql":"select count(*) from t"}`)
				if status != 200 {
					return n.id.Node + ": " + text
				}
				return ""
			})
		}
		followers[0] = s.start(gone)
		s.await(2*time.Minute, settled)
	})
}
