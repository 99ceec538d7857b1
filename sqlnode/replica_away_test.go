package sqlnode

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// metric is a metric of the node without labels, as /metrics says it.
func (n *simNode) metric(t *testing.T, name string) int {
	t.Helper()
	text := n.want(t, "GET", "/metrics", "", 200)
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, "nearsql_"+name+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
			if err != nil {
				t.Fatal(err)
			}
			return int(f)
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// A replica that missed an hour of writes catches up by what changed, one that missed more than is kept by a copy. Until then both
// answer those who ask for no bound from what they have, and nobody else.
func TestReplicaAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t)
		s.inMemory() // whose files have virtual times

		s.tune = func(cfg *Config) {
			cfg.LTXAge, cfg.LTXRetention, cfg.CheckpointAge = 10*time.Minute, 61*time.Minute, 2*time.Minute
			cfg.HeartbeatTimeout = 10 * time.Second // an hour is long
		}
		defer s.close()
		a := s.start("n1")
		s.await(time.Minute, func() string { return ready(a) })
		s.start("n2", "n1")
		s.start("n3", "n1")
		s.awaitVoters("n1", "default", 3)
		hour, long := s.start("n4", "n1"), s.start("n5", "n1")
		s.await(time.Minute, func() string { return ready(hour) + ready(long) })
		a.want(t, "POST", "/v1/tenants", `{"name":"acme","replicas":"pop:pop-n4,pop:pop-n5"}`, 201)
		a.sql(t, "acme", "", "create table t(x integer primary key, y)")
		a.sql(t, "acme", "", "insert into t with recursive n(i) as (select 1 union all select i + 1 from n where i < 4000) select i, randomblob(800) from n")
		a.sql(t, "acme", "", "create table n(v)")
		a.sql(t, "acme", "", "insert into n values(0)")
		read := func(n *simNode, query string) (int, string) {
			return n.do("POST", "/v1/tenants/acme/sql?"+query, `{"sql":"select v from n"}`)
		}
		caught := func(n *simNode, v int) string {
			status, text := read(n, "max_staleness=1s&on_stale=fail")
			if status != 200 || !strings.Contains(text, fmt.Sprintf(`"rows":[[%d]]`, v)) || !strings.Contains(text, `"role":"replica"`) {
				return n.id.Node + ": " + text
			}
			return ""
		}
		for _, n := range []*simNode{hour, long} {
			s.await(time.Minute, func() string { return caught(n, 0) })
			if c, l := n.metric(t, "replica_copies_total"), n.metric(t, "replica_changes_total"); c != 1 || l != 0 {
				t.Fatalf("%s begins with %d copies, %d changes", n.id.Node, c, l)
			}
		}
		s.net.Isolate("n4")
		s.net.Isolate("n5")
		version := 0
		write := func(d time.Duration) {
			for until := time.Now().Add(d); time.Now().Before(until); time.Sleep(time.Minute) {
				version++
				a.sql(t, "acme", "", fmt.Sprintf("update n set v = %d", version))
				a.sql(t, "acme", "", "update t set y = randomblob(800) where x <= 500") // more than is kept in memory, in all
			}
		}
		old := func(n *simNode, v int) {
			t.Helper()
			if status, text := read(n, "max_staleness=any"); status != 200 || !strings.Contains(text, fmt.Sprintf(`"rows":[[%d]]`, v)) || !strings.Contains(text, `"role":"replica"`) {
				t.Fatalf("%s, without a bound: %d %s", n.id.Node, status, text)
			}
			if status, text := read(n, "max_staleness=5s&on_stale=fail"); status != 503 || code(text) != "STALE" {
				t.Fatalf("%s, with a bound: %d %s", n.id.Node, status, text)
			}
		}
		// back lets a node come back over a slow link, and looks at what it answers until it has caught up.
		back := func(n *simNode, was int) (polls int) {
			t.Helper()
			for _, o := range s.up() {
				if o != n {
					s.net.SetDelayBoth(n.id.Node, o.id.Node, 150*time.Millisecond)
				}
			}
			s.net.Rejoin(n.id.Node)
			begun := time.Now()
			for {
				status, text := read(n, "max_staleness=any")
				if status != 200 || !strings.Contains(text, `"role":"replica"`) {
					t.Fatalf("%s while it catches up, without a bound: %d %s", n.id.Node, status, text)
				}
				if strings.Contains(text, fmt.Sprintf(`"rows":[[%d]]`, version)) {
					return polls
				}
				if !strings.Contains(text, fmt.Sprintf(`"rows":[[%d]]`, was)) {
					t.Fatalf("%s shows a state between: %s", n.id.Node, text)
				}
				if status, text := read(n, "max_staleness=5s&on_stale=fail"); status == 200 && !strings.Contains(text, fmt.Sprintf(`"rows":[[%d]]`, version)) {
					t.Fatalf("%s answers with a bound from %s", n.id.Node, text)
				}
				// Who allows it is answered by another node, with all.
				if status, text := read(n, "max_staleness=5s"); status == 200 && !strings.Contains(text, fmt.Sprintf(`"rows":[[%d]]`, version)) {
					t.Fatalf("%s passes on a read with a bound, and gets %s", n.id.Node, text)
				}
				polls++
				if time.Since(begun) > 5*time.Minute {
					t.Fatalf("%s never catches up", n.id.Node)
				}
				time.Sleep(50 * time.Millisecond)
			}
		}
		write(time.Hour)
		old(hour, 0)
		polls := back(hour, 0)
		s.await(time.Minute, func() string { return caught(hour, version) })
		if c, l := hour.metric(t, "replica_copies_total"), hour.metric(t, "replica_changes_total"); c != 1 || l != 1 {
			t.Errorf("an hour away: %d copies, %d times by changes", c, l)
		}
		t.Logf("an hour away, %d writes missed: seen %d times while it caught up", version, polls)
		write(50 * time.Minute) // what is kept ends at 61, and is looked at with each new file, every 10 or so
		old(long, 0)
		// What changed in the first hour came to n4 as one, and is kept there for an hour from then on: n5 might ask it.
		if err := s.halt("n4"); err != nil {
			t.Fatal(err)
		}
		polls = back(long, 0)
		s.await(time.Minute, func() string { return caught(long, version) })
		if c, l := long.metric(t, "replica_copies_total"), long.metric(t, "replica_changes_total"); c != 2 || l != 0 {
			t.Errorf("away for longer than changes are kept: %d copies, %d times by changes", c, l)
		}
		t.Logf("away for 110 minutes: seen %d times while the copy came", polls)
		if polls == 0 {
			t.Error("nobody saw it while the copy came")
		}
		if got := long.sql(t, "acme", "?max_staleness=any", "select count(*), v from t, n"); got != fmt.Sprintf("[[4000,%d]]", version) {
			t.Error(got)
		}
	})
}
