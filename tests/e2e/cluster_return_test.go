package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nearsql/nearsql/sqlnode/client"
)

// returning is a node whose file of conflict-free tables can't stay what it was: it must become another site, and is killed while it does.
type returning struct {
	*likes
	m     *mesh
	rng   *rand.Rand
	kills int
	at    map[string]int // kills, by what was there of the return
	quiet atomic.Bool    // nobody is asked for increments
}

// TestKilledReturn kills a node with kill -9, again and again, while it returns under a new number: what was answered anywhere is there at all nodes then, and
// nothing is there twice.
func TestKilledReturn(t *testing.T) {
	t.Parallel()
	n, kills, late := 1, 3, 1
	if *long {
		n, kills, late = 10, 8, 4
	}
	r := &returning{m: startMesh(t, []string{"n1", "n2", "n3"}), rng: newRand(t), at: map[string]int{}}
	r.likes = r.m.like("acme")
	for range n {
		r.m.eachTakes(r.likes)
		r.older()
		r.through(kills, 0)
		r.m.eachTakes(r.likes)
		r.retired()
		r.through(kills, late)
	}
	t.Logf("%d kills, by what the node had on disk: %v; increments by node: %v", r.kills, r.at, r.mu.here)
}

// eachTakes has each node do some increments.
func (m *mesh) eachTakes(l *likes) {
	m.t.Helper()
	for _, id := range m.ids() {
		l.must(id, m.nodes[id], 3, "by "+id)
	}
	l.check(m)
}

// file is the file of n3's conflict-free tables.
func (r *returning) file() string {
	r.t.Helper()
	all, err := filepath.Glob(filepath.Join(r.m.nodes["n3"].dir, "crr", "*.db"))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, path := range all {
		if !strings.Contains(filepath.Base(path), ".old-") {
			return path
		}
	}
	r.t.Fatalf("no file of conflict-free tables among %v", all)
	return ""
}

// older puts an older copy in the place of n3's file, while n3 is down; now and then the record of what it sent goes, too.
func (r *returning) older() {
	t, n := r.t, r.m.nodes["n3"]
	if code := n.stop(); code != exitDone {
		t.Fatalf("exit code %d", code)
	}
	path := r.file()
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-wal"); err == nil {
		t.Fatal("a node that has stopped leaves a log beside its file")
	}
	n.start()
	n.awaitReady()
	r.must("n3", n, 5, "newer")
	for _, id := range []string{"n1", "n2"} {
		r.has(id, r.m.nodes[id])
	}
	n.kill()
	for _, end := range []string{"-wal", "-shm"} {
		if err := os.Remove(path + end); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if r.rng.IntN(3) == 0 {
		t.Log("the record of what n3 sent is gone, too")
		if err := os.Remove(path + ".sent"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
}

// retired retires n3's site while it is down, with increments that nobody else has.
func (r *returning) retired() {
	t, m := r.t, r.m
	m.nodes["n1"].kill()
	m.nodes["n2"].kill()
	for range 5 {
		if by, err := r.add(m.nodes["n3"], "alone"); err != nil || by != "n3" {
			t.Fatalf("a write of conflict-free tables at the only node of three: by %q, %v", by, err)
		}
	}
	m.nodes["n3"].kill()
	for _, id := range []string{"n1", "n2"} {
		m.nodes[id].start()
	}
	for _, id := range []string{"n1", "n2"} {
		m.nodes[id].awaitReady()
	}
	eventually(t, settleMax, "n3's site is retired", func() error {
		_, err := m.nodes["n1"].RetireSites(t.Context(), r.tenant, client.RetireSites{Nodes: []string{"n3"}, Force: true})
		return err
	})
}

// through starts n3, kills it so many times at moments of its return, and so many times more when it writes anew what its old file has alone; and
// waits until it is through. All nodes are asked for increments meanwhile.
func (r *returning) through(kills, late int) {
	t, m, n := r.t, r.m, r.m.nodes["n3"]
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	all.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			if !r.quiet.Load() {
				_, _ = r.add(m.nodes[[]string{"n1", "n2"}[i%2]], "meanwhile") // noted
			}
			<-tick.C
		}
	})
	for i := range kills + late {
		r.quiet.Store(i >= kills)
		address := n.launch()
		life, died := context.WithCancel(ctx)
		var asking sync.WaitGroup
		asking.Go(func() { r.ask(life, n, address) })
		if i < kills {
			r.moment(n)
		} else {
			r.lateMoment(n)
		}
		n.kill()
		died()
		asking.Wait()
		r.kills++
	}
	r.quiet.Store(false)
	n.start()
	n.awaitReady()
	r.must("n3", n, 3, "back")
	eventually(t, catchMax, "n3 is through", func() error {
		if all, err := filepath.Glob(filepath.Join(n.dir, "crr", "*.old-*")); err != nil || len(all) > 0 {
			return fmt.Errorf("there are %v, %v", all, err)
		}
		st, err := n.Tables(t.Context(), r.tenant)
		if err != nil || st.Site == 0 || st.Care != "" || st.Problem != "" {
			return fmt.Errorf("%+v, %v", st, err)
		}
		return nil
	})
	stop()
	all.Wait()
	r.agree(m)
}

// ask asks n3 for increments as soon as it serves.
func (r *returning) ask(ctx context.Context, n *node, address <-chan string) {
	select {
	case url := <-address:
		c, err := client.New(url, client.Options{Token: n.key, HTTP: newHTTP()})
		if err != nil {
			r.t.Error(err)
			return
		}
		defer c.CloseIdle()
		at := &node{t: r.t, Client: c}
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			if !r.quiet.Load() {
				_, _ = r.add(at, "while it returns") // noted
			}
			<-tick.C
		}
	case <-ctx.Done():
	}
}

// moment returns a moment after a change of n3's files of conflict-free tables, or after a while in which there is none.
func (r *returning) moment(n *node) {
	r.t.Helper()
	changes := 1 + r.rng.IntN(8)
	if r.rng.IntN(2) == 0 {
		changes += r.rng.IntN(60) // late
	}
	was := r.disk(n)
	r.look(n, 5*time.Second, func(is string) bool {
		if is != was {
			was = is
			changes--
		}
		return changes == 0
	})
	r.soon(n)
}

// lateMoment returns a moment after n3 has begun to write anew what its old file has alone: when the old file is there and nothing changes, the next
// change is that.
func (r *returning) lateMoment(n *node) {
	r.t.Helper()
	if !r.look(n, 20*time.Second, func(is string) bool { return strings.Contains(is, ".old-") }) {
		r.soon(n)
		return
	}
	was, since := "", time.Now()
	r.look(n, 5*time.Second, func(is string) bool {
		if is != was {
			was, since = is, time.Now()
		}
		return time.Since(since) > 1500*time.Millisecond
	})
	if r.look(n, 10*time.Second, func(is string) bool { return is != was }) {
		r.at["when it writes anew"]++
	}
	r.soon(n)
}

// look looks at n3's files until there is what is waited for, or for so long; it says whether it was there.
func (r *returning) look(n *node, most time.Duration, there func(is string) bool) bool {
	r.t.Helper()
	end := time.NewTimer(most)
	defer end.Stop()
	tick := time.NewTicker(500 * time.Microsecond)
	defer tick.Stop()
	for {
		select {
		case <-end.C:
			return false
		case <-n.ended:
			r.t.Fatalf("the node ended by itself\n%s", n.logTail(4000))
		case <-tick.C:
			if there(r.disk(n)) {
				return true
			}
		}
	}
}

// soon waits a moment more, and notes what there is then.
func (r *returning) soon(n *node) {
	after := time.NewTimer(time.Duration(r.rng.IntN(30_000)) * time.Microsecond)
	<-after.C
	what := "the file alone"
	for _, part := range []string{".fetch.tmp", ".old-"} {
		if strings.Contains(r.disk(n), part) {
			what = "also *" + part + "*"
		}
	}
	r.at[what]++
}

// disk is what n3 has of conflict-free tables, to see it change.
func (r *returning) disk(n *node) string {
	list, err := os.ReadDir(filepath.Join(n.dir, "crr"))
	if err != nil {
		r.t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range list {
		if info, err := e.Info(); err == nil && !strings.HasSuffix(e.Name(), "-shm") {
			fmt.Fprintln(&b, e.Name(), info.Size(), info.ModTime().UnixNano())
		}
	}
	return b.String()
}
