package sqlnode

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/sqlnode/catalogue"
)

// outgoingOnly lets the nodes whose ids begin with w listen nowhere.
func outgoingOnly(cfg *Config) {
	if strings.HasPrefix(cfg.NodeID, "w") {
		cfg.ClusterListener.Close() // whoever dials such a node is refused
		cfg.ClusterListener, cfg.ClusterAdvertise = OutgoingOnly(), ""
	}
}

// A node that listens nowhere joins, hears of what others change, keeps copies, answers from them and passes on the rest; it is
// no voter and nobody's feeder, and others go on without it and with it.
func TestOutgoingOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t)
		s.tune = outgoingOnly
		defer s.close()
		a := s.start("n1")
		s.await(time.Minute, func() string { return ready(a) })
		s.start("n2", "n1")
		s.start("n3", "n1")
		s.awaitVoters("n1", "default", 3)
		workers := []*simNode{s.start("w1", "n1"), s.start("w2", "n1", "n2")}
		far := s.start("n4", "n1")
		for _, n := range append(workers, far) {
			s.await(time.Minute, func() string { return ready(n) })
		}
		a.want(t, "POST", "/v1/tenants", `{"name":"acme","replicas":"all"}`, 201)
		workers[0].sql(t, "acme", "", "create table t(x integer primary key)")
		reads := func(n *simNode, want int) string {
			_, text := n.do("POST", "/v1/tenants/acme/sql?max_staleness=1s&on_stale=fail", `{"sql":"select count(*) from t"}`)
			if !strings.Contains(text, fmt.Sprintf(`"rows":[[%d]]`, want)) || !strings.Contains(text, `"role":"replica"`) {
				return n.id.Node + ": " + text
			}
			return ""
		}
		for i := range 5 {
			workers[i%2].sql(t, "acme", "", fmt.Sprintf("insert into t values(%d)", i))
			for _, n := range append(workers, far) {
				s.await(time.Minute, func() string { return reads(n, i+1) })
			}
		}
		check := func() {
			t.Helper()
			for _, n := range s.up() {
				for _, w := range []string{"w1", "w2"} {
					if nd, ok := n.cat.View().Node(w); !ok || nd.State != catalogue.NodeActive || nd.ClusterAddr != catalogue.OutgoingOnly {
						t.Errorf("%s knows %s as %+v", n.id.Node, w, nd)
					}
				}
				for _, g := range n.cat.View().Groups() {
					for _, v := range g.Members.Voters {
						if strings.HasPrefix(v, "w") {
							t.Errorf("%s votes in group %s", v, g.Name)
						}
					}
				}
				for _, c := range n.repl.set.Tenants() {
					if st, _ := n.repl.follower.Status(c.ID()); strings.HasPrefix(st.Feeder, "w") {
						t.Errorf("%s is fed by %s", n.id.Node, st.Feeder)
					}
				}
			}
		}
		check()
		// A worker that is killed comes back, and so does one that was cut off; the primary may be another by then.
		s.kill("w1", nil)
		s.net.Isolate("w2")
		a.sql(t, "acme", "", "insert into t values(100)")
		if err := s.halt("n1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		workers[1].want(t, "POST", "/v1/tenants/acme/sql?max_staleness=any", `{"sql":"select count(*) from t"}`, 200)
		if got := code(workers[1].want(t, "POST", "/v1/tenants/acme/sql?max_staleness=2s&on_stale=fail", `{"sql":"select count(*) from t"}`, 503)); got != "STALE" {
			t.Fatal(got)
		}
		s.net.Rejoin("w2")
		s.net.HealAll()
		workers[0] = s.start("w1")
		for _, n := range append(workers, far) {
			s.await(time.Minute, func() string { return reads(n, 6) })
		}
		workers[0].sql(t, "acme", "", "insert into t values(101)")
		// It hears of what the catalogue says of later on, by the log that comes over its own lines.
		far.want(t, "POST", "/v1/tenants", `{"name":"later","replicas":"all"}`, 201)
		for _, w := range workers {
			s.await(time.Minute, func() string {
				if _, ok := w.cat.View().Tenant("later"); !ok {
					return w.id.Node + " does not know of the new tenant"
				}
				return reads(w, 7)
			})
		}
		back := s.start("n1")
		s.await(time.Minute, func() string { return ready(back) + reads(workers[0], 7) })
		check()
	})
}
