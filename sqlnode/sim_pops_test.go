package sqlnode

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestTablesAcrossPoPs: five PoPs 80 to 250 ms from each other and back, whose clocks disagree, write conflict-free tables while they are cut off from each
// other for hours, killed and restarted, taken out and brought in. In the end all have the same, and all that was acknowledged.
func TestTablesAcrossPoPs(t *testing.T) {
	hours := time.Hour
	if *simMinutes > 0 {
		hours = 6 * time.Hour
	}
	popScenario(t, func(t *testing.T, w *simWorld, x *simTables) {
		load := w.load(x, 6, 2*time.Second)
		defer load()
		time.Sleep(30 * time.Second)

		// Two PoPs are cut off from all others, the rest goes on.
		for _, id := range w.ids() {
			w.cutPoP("n4", id)
			w.cutPoP("n5", id)
		}
		load()
		slow := w.load(x, 5, hours/100)
		defer slow()
		time.Sleep(hours)
		slow()
		fast := w.load(x, 5, time.Second)
		defer fast()
		time.Sleep(20 * time.Second)
		for i := range 3 { // the middle of it all
			w.seize("n4")
			w.s.kill("n4", nil)
			time.Sleep(time.Duration(i) * time.Second)
			w.up("n4")
			w.leave("n4")
			w.s.await(time.Minute, func() string { return x.has(w.s.node("n4")) })
			time.Sleep(5 * time.Second)
		}
		if n := len(x.mu.here["n4"]); n < 10 {
			t.Errorf("the scenario shows little: %d rows were acknowledged at n4", n)
		}
		fast()
		for _, wrong := range x.mu.wrong {
			t.Error(wrong)
		}
		w.s.net.HealAll()
		for _, wrong := range x.judge(10 * time.Minute) {
			t.Errorf("after the partition: %s", wrong)
		}
		t.Log(x.tally())
	})
}

// TestSitesComeAndGo: a PoP is taken from the tenant's placement while all write, another comes, and a node is removed.
func TestSitesComeAndGo(t *testing.T) {
	popScenario(t, func(t *testing.T, w *simWorld, x *simTables) {
		load := w.load(x, 6, time.Second)
		defer load()
		time.Sleep(10 * time.Second)
		w.mu.Lock()
		w.mu.list = append(w.mu.list, "n6")
		w.mu.Unlock()
		n6 := w.s.start("n6", "n1")
		w.distances("n6")
		w.s.await(time.Minute, func() string { return ready(n6) })
		time.Sleep(10 * time.Second)

		// A node that has no vote goes from the tenant: its site is retired once the others have all that it wrote.
		gone, pops := w.without("default"), ""
		for _, id := range w.ids() {
			if id != gone {
				pops += ",pop:pop-" + id
			}
		}
		w.s.node("n1").want(t, "PUT", "/v1/tenants/"+x.tenant+"/placement", `{"replicas":"`+pops[1:]+`"}`, 200)
		w.s.await(5*time.Minute, func() string { return x.knows("n1", gone, false) })
		w.s.await(5*time.Minute, func() string { return x.knows("n1", "n6", true) })
		// And then from the cluster.
		w.mu.Lock()
		w.mu.removing[gone] = true
		w.mu.Unlock()
		w.tell("DELETE", "/v1/nodes/"+gone)
		time.Sleep(10 * time.Second)
		load()
		if why := w.settle(2 * time.Minute); why != "" {
			t.Fatal(why)
		}
		for _, wrong := range x.judge(10 * time.Minute) {
			t.Error(wrong)
		}
		t.Log(x.tally())
	})
}

// popScenario runs f on five PoPs.
func popScenario(t *testing.T, f func(t *testing.T, w *simWorld, x *simTables)) {
	simScenario(t, simOptions{seed: 1, nodes: 5, sites: true, far: true}, func(t *testing.T, w *simWorld) {
		for i, id := range w.ids() {
			w.s.clock(id).jumped.Store(int64(time.Duration(i-2) * 900 * time.Millisecond))
			w.s.clock(id).drifts = 0
		}
		f(t, w, w.tables)
		w.tables = nil // it was judged
	})
}

// load has clients write and read until the func that is returned is called, which may be called again.
func (w *simWorld) load(x *simTables, clients int, rest time.Duration) func() {
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for range clients {
		rng := w.chance()
		all.Go(func() { x.client(ctx, rng, rest) })
	}
	return func() {
		stop()
		all.Wait()
	}
}

// cutPoP cuts both ways between two nodes.
func (w *simWorld) cutPoP(a, b string) {
	if a != b {
		w.s.net.CutBoth(a, b)
	}
}

// knows says why a node does not know another's site, or does.
func (x *simTables) knows(on, site string, want bool) string {
	text := x.w.s.node(on).want(x.w.t, "GET", "/v1/tenants/"+x.tenant+"/crr", "", 200)
	for _, s := range decode[struct{ Sites []struct{ Node string } }](x.w.t, text).Sites {
		if s.Node == site {
			want = !want
		}
	}
	if want {
		return fmt.Sprintf("%s says: %s", on, text)
	}
	return ""
}
