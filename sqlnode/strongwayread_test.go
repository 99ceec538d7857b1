package sqlnode

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/tenant"
)

// wayReads is how many strong reads, one a second, it takes at most until the way that has become the quicker one is taken.
const wayReads = 8

// waySim is three voters, and nodes without a vote that hold the tenant acme.
type waySim struct {
	*simulation
	t      *testing.T
	far    *simNode // whose strong reads it is about
	asked  string   // the voter that it asks for the index
	led    string   // the primary, another voter
	writes int
}

// newWaySim starts n4, which follows a voter; or n5 too, which follows n4.
func newWaySim(t *testing.T, relay bool) *waySim {
	s := &waySim{simulation: newSimulation(t), t: t}
	s.tune = func(cfg *Config) {
		cfg.HeartbeatTimeout = 2 * time.Second
		if relay {
			cfg.feedTree = func(_ uint32, self string, _, _ []string) (u readpath.Upstream) {
				if self == "n5" {
					u.Relays = []string{"n4"}
				}
				return u
			}
		}
	}
	a := s.start("n1")
	s.await(time.Minute, func() string { return ready(a) })
	s.start("n2", "n1")
	s.start("n3", "n1")
	s.awaitVoters("n1", "default", 3)
	a.want(t, "POST", "/v1/tenants", `{"name":"acme","replicas":"all"}`, 201)
	s.far = s.start("n4", "n1")
	if relay {
		s.far = s.start("n5", "n1")
	}
	g, _ := a.cat.View().GroupByName("default")
	s.await(time.Minute, func() string {
		row, ok := s.far.cat.View().Tenant(tenant.Name("acme"))
		if !ok {
			return "the tenant is not known yet"
		}
		st, _ := s.far.repl.follower.Status(row.ID)
		if list := s.far.repl.feeders(row.ID); ready(s.far) != "" || !st.Joined || len(list) == 0 || st.Feeder != list[0] {
			return fmt.Sprintf("it follows %q, joined %v, of %v", st.Feeder, st.Joined, list)
		}
		s.asked = s.far.repl.voters(g.ID)[0]
		if st.Feeder != "n4" && st.Feeder != s.asked {
			return "it follows " + st.Feeder
		}
		return ""
	})
	voters := []string{"n1", "n2", "n3"}
	s.led = voters[(slices.Index(voters, s.asked)+1)%3]
	s.await(time.Minute, func() string {
		a.do("POST", "/v1/groups/default/move-leader", `{"to":"`+s.led+`"}`)
		if p := s.primary("default"); p != s.led {
			return p + " leads"
		}
		if p := s.far.memberOf(g.ID); p != s.led {
			return "reads are forwarded to " + p
		}
		return ""
	})
	a.sql(t, "acme", "", "create table t(x integer primary key)")
	return s
}

// distance sets how far nodes are from each other, one way.
func (s *waySim) distance(d time.Duration, a string, others ...string) {
	for _, o := range others {
		s.net.SetDelayBoth(a, o, d)
	}
}

// write is answered, by the primary itself.
func (s *waySim) write() {
	s.t.Helper()
	s.node(s.led).sql(s.t, "acme", "", fmt.Sprintf("insert into t values(%d)", s.writes))
	s.writes++
}

// read is a strong read, which must see all that was written. It returns the role of the node that served it.
func (s *waySim) read(query string) string {
	s.t.Helper()
	text := s.far.want(s.t, "POST", "/v1/tenants/acme/sql?consistency=strong"+query, `{"sql":"select count(*) from t"}`, 200)
	var a struct {
		Results []struct{ Rows [][]int }
		Meta    struct{ Role, Consistency string }
	}
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		s.t.Fatal(err)
	}
	if got := a.Results[0].Rows[0][0]; got != s.writes || a.Meta.Consistency != "strong" {
		s.t.Fatalf("a strong read sees %d rows, want %d: %s", got, s.writes, text)
	}
	return a.Meta.Role
}

// settles wants reads to be served by a node of that role after wayReads at most, and by no other then.
func (s *waySim) settles(role string) {
	s.t.Helper()
	last := ""
	for i := range wayReads + 12 {
		time.Sleep(time.Second)
		s.write()
		got := s.read("")
		if got != last {
			s.t.Logf("read %d is served by a %s", i+1, got)
			last = got
		}
		if i >= wayReads && got != role {
			s.t.Fatalf("read %d after the change is served by a %s, want a %s: %+v", i+1, got, role, s.times())
		}
	}
}

// times is what the node knows.
func (s *waySim) times() (out []string) {
	w := s.far.repl.strong
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range w.mu.groups {
		out = append(out, fmt.Sprintf("%s: %+v", g.node, g.voter))
		for id, f := range g.feeders {
			out = append(out, fmt.Sprintf("by %s: last %v, %+v", id, f.last, f.index))
		}
	}
	return out
}

// count is one of the node's metrics, with its labels.
func (s *waySim) count(name string) int {
	s.t.Helper()
	for line := range strings.Lines(s.far.want(s.t, "GET", "/metrics", "", 200)) {
		if v, ok := strings.CutPrefix(line, "nearsql_replica_strong_"+name+" "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(v))
			if err != nil {
				s.t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// Strong reads on a copy that follows go by index where its feeder is quick, and to the primary where that is nearer, and change over when the distances do. What
// either way takes is found out at a bounded cost.
func TestStrongReadsGoTheQuickerWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newWaySim(t, false)
		defer s.close()
		nearVoter := func() { s.distance(5*time.Millisecond, "n4", s.asked); s.distance(60*time.Millisecond, "n4", s.led) }
		nearPrimary := func() { s.distance(150*time.Millisecond, "n4", s.asked); s.distance(20*time.Millisecond, "n4", s.led) }
		nearPrimary()
		s.settles("primary")
		nearVoter()
		s.settles("replica")
		nearPrimary()
		s.settles("primary")

		// A hundred reads in ten seconds: the other way is tried about once a second, and no read goes there.
		index, forward, tried, timed := s.count(`reads_total{way="index"}`), s.count(`reads_total{way="forward"}`), s.count(`seconds_count{way="index"}`), s.count(`seconds_count{way="forward"}`)
		for range 100 {
			s.read("")
			time.Sleep(60 * time.Millisecond) // and 40 for the read
		}
		if n := s.count(`reads_total{way="forward"}`) - forward; n != 100 || s.count(`reads_total{way="index"}`) != index {
			t.Errorf("of 100 reads %d were forwarded", n)
		}
		for way, before := range map[string]int{"index": tried, "forward": timed} {
			if n := s.count(`seconds_count{way="`+way+`"}`) - before; n < 4 || n > 12 {
				t.Errorf("%s was measured %d times in ten seconds", way, n)
			}
		}
		// Nothing is done while no strong reads come.
		time.Sleep(2 * time.Second) // what was under way ends
		tried, timed = s.count(`seconds_count{way="index"}`), s.count(`seconds_count{way="forward"}`)
		time.Sleep(20 * time.Second)
		if n, m := s.count(`seconds_count{way="index"}`)-tried, s.count(`seconds_count{way="forward"}`)-timed; n+m > 0 {
			t.Errorf("measured %d and %d times although nobody reads", n, m)
		}
	})
}

// The feeder is a relay: where it is far away what it brings is late, however near the voter is that is asked.
func TestStrongReadsBehindRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newWaySim(t, true)
		defer s.close()
		s.distance(5*time.Millisecond, "n5", s.asked)
		s.distance(30*time.Millisecond, "n5", s.led)
		s.distance(100*time.Millisecond, "n4", "n1", "n2", "n3", "n5")
		s.settles("primary")
		s.distance(2*time.Millisecond, "n4", "n1", "n2", "n3", "n5")
		s.distance(100*time.Millisecond, "n5", s.led)
		s.settles("replica")
		s.distance(100*time.Millisecond, "n4", "n1", "n2", "n3", "n5")
		s.distance(30*time.Millisecond, "n5", s.led)
		s.settles("primary")
	})
}

// When one way fails the other is taken, by the same read where there is time.
func TestStrongReadsTakeTheOtherWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newWaySim(t, false)
		defer s.close()
		s.distance(5*time.Millisecond, "n4", s.asked)
		s.distance(60*time.Millisecond, "n4", s.led)
		s.settles("replica")
		// What the feeder sends does not come: the read that finds it out is forwarded, those after it at once.
		s.net.Hold(s.asked, "n4", cluster.PurposeStream)
		turned := s.count("turned_total")
		for i := range 3 {
			s.write()
			began := time.Now()
			if role := s.read("&timeout=2s"); role != "primary" {
				t.Fatalf("read %d is served by a %s", i, role)
			}
			if took := time.Since(began); took > time.Second || i > 0 && took > 200*time.Millisecond {
				t.Errorf("read %d took %v", i, took)
			}
		}
		if n := s.count("turned_total") - turned; n != 1 {
			t.Errorf("%d reads were to go by index first, want 1", n)
		}
		// One that is not to be forwarded is not.
		if got := code(s.far.want(t, "POST", "/v1/tenants/acme/sql?consistency=strong&on_stale=fail", `{"sql":"select count(*) from t"}`, 503)); got != "STALE" {
			t.Error(got)
		}
		s.net.Release(s.asked, "n4")
		s.settles("replica")
		if role := s.read("&on_stale=fail"); role != "replica" {
			t.Errorf("a read that is not to be forwarded is served by a %s", role)
		}

		// The primary is near, and then does not answer this node any more.
		s.distance(150*time.Millisecond, "n4", s.asked)
		s.distance(20*time.Millisecond, "n4", s.led)
		s.settles("primary")
		s.net.CutBoth("n4", s.led)
		s.write()
		late := 0
		for {
			status, text := s.far.do("POST", "/v1/tenants/acme/sql?consistency=strong&timeout=1s", `{"sql":"select count(*) from t"}`)
			if status == 200 {
				break
			}
			if late++; late > wayReads {
				t.Fatalf("after %d reads: %s", late, text)
			}
		}
		s.settles("replica")
		s.net.HealAll()
		s.settles("primary")
	})
}
