package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/wire"
)

// TestClusterReplace loses a node for good and puts another in its place by one command, then drains one, under writes. Who was
// removed does not come back.
func TestClusterReplace(t *testing.T) {
	t.Parallel()
	m := startMesh(t, []string{"n1", "n2", "n3"})
	c := m.gather("busy", 3, 2)
	c.goesOn(30)
	dead := m.primary("default")
	left := withoutNode(m.ids(), dead)
	m.nodes[dead].kill()
	c.goesOn(30)

	m.start("n4", left[0]).awaitReady()
	began := time.Now()
	m.at(left[0], "node", "remove", dead, "--yes")
	t.Logf("node remove of a node that is dead: done after %s", time.Since(began).Round(time.Millisecond))
	m.settled("default", left[0], left[1], "n4")
	m.settled("system", left[0], left[1], "n4")
	c.goesOn(30)

	m.checkRemoved(dead, left[0])

	// One that is alive leaves without being missed.
	m.start("n5", left[0]).awaitReady()
	began = time.Now()
	m.at("n4", "node", "drain", left[0])
	t.Logf("node drain: done after %s", time.Since(began).Round(time.Millisecond))
	m.settled("default", left[1], "n4", "n5")
	m.settled("system", left[1], "n4", "n5")
	gap := c.during(func() {
		if code := m.nodes[left[0]].stop(); code != exitDone {
			t.Errorf("the drained node ended with exit code %d", code)
		}
	})
	t.Logf("SIGTERM of a drained node: %s without an answer to a write", gap.Round(time.Millisecond))
	m.nodes[left[0]].start()
	m.nodes[left[0]].awaitReady()
	c.goesOn(30)
	c.end(m)
	m.wantCount("busy", "log WHERE 0", 0) // the drained node answers too
}

// checkRemoved starts a node again that was removed, with its data and without.
func (m *mesh) checkRemoved(id, member string) {
	t := m.t
	n := m.nodes[id]
	delete(m.nodes, id)
	n.launch()
	const word = "was removed from the cluster"
	eventually(t, startMax, "a node that was removed is refused", func() error {
		for _, o := range m.all() {
			if strings.Contains(o.logText(), word) {
				return nil
			}
		}
		return fmt.Errorf("no member's log tells of a node that %s", word)
	})
	// It ends by itself, once most of the members that it knows have told it.
	if code := n.wait(electMax); code != exitFailed {
		t.Errorf("a node that was removed ends with exit code %d, want %d", code, exitFailed)
	}
	last := lastLine(strings.TrimSpace(n.logText()))
	if !strings.HasPrefix(last, "nearsql: ") || !strings.Contains(last, word) {
		t.Errorf("a node that was removed ends with %q, which does not tell of that", last)
	}
	t.Logf("removed: %s", last)
	n.kill()
	if err := os.RemoveAll(n.dir); err != nil {
		t.Fatal(err)
	}
	m.stranger(id, freePort(t), m.certs, id, member).wantNoStart(t, id, "never used again")
	nodes, err := m.nodes[member].Nodes(t.Context())
	if err != nil || slices.ContainsFunc(nodes, func(o client.Node) bool { return o.ID == id }) {
		t.Errorf("nodes: %v, %v; %s was removed", nodes, err, id)
	}
}

// TestClusterRecover loses two of three nodes for good: what is left answers nothing that could be wrong, and goes on from its
// own copy after nearsql recover.
func TestClusterRecover(t *testing.T) {
	t.Parallel()
	m := startMesh(t, []string{"n1", "n2", "n3"})
	m.nodes["n1"].create("acme")
	m.nodes["n1"].mustRows("acme", "CREATE TABLE t(id INTEGER PRIMARY KEY)")
	for i := range int64(20) {
		m.nodes["n1"].mustRows("acme", "INSERT INTO t VALUES(?)", wire.Integer(i))
	}
	_, before, err := m.nodes["n3"].strong(t.Context(), "acme", "SELECT count(*) FROM t")
	if err != nil {
		t.Fatal(err)
	}
	lost := []*node{m.nodes["n1"], m.nodes["n2"]}
	for _, n := range lost {
		n.kill()
	}
	n := m.nodes["n3"]
	refused := func(what string, r *wire.Request, sql string, codes ...wire.Code) {
		t.Helper()
		r.Timeout = time.Second
		if rows, _, err := n.read(t.Context(), "acme", r, sql); !slices.Contains(codes, codeOf(err)) {
			t.Errorf("%s without a majority: %v, %v, want one of %v", what, rows, err, codes)
		}
	}
	eventually(t, electMax, "the survivor knows that it is alone", func() error {
		_, _, err := n.read(t.Context(), "acme", &wire.Request{MaxStaleness: 100 * time.Millisecond, Timeout: time.Second}, "SELECT 1")
		if err == nil {
			return errors.New("it answers a read with a bound of 100ms")
		}
		return nil
	})
	refused("a write", &wire.Request{}, "INSERT INTO t VALUES(100)", wire.CodeNotPrimary, wire.CodeUnknownOutcome, wire.CodeTimeout)
	refused("a strong read", &wire.Request{Consistency: wire.Strong}, "SELECT 1", wire.CodeNotPrimary, wire.CodeTimeout)
	refused("a bounded read", &wire.Request{MaxStaleness: 500 * time.Millisecond}, "SELECT 1", wire.CodeStale, wire.CodeTimeout, wire.CodeNotPrimary)
	rows, _, err := n.read(t.Context(), "acme", &wire.Request{MaxStaleness: wire.AnyStaleness, Bookmark: before.Bookmark}, "SELECT count(*) FROM t")
	if err != nil || rows[0][0].Int() != 20 {
		t.Errorf("a read of any age without a majority: %v, %v, want 20", rows, err)
	}

	recover := []string{"recover", "--data-dir", n.dir, "--group", "all", "--yes", "--i-accept-losing-acknowledged-writes"}
	if r := command(t, t.TempDir(), "", recover...); r.code == exitDone {
		t.Errorf("recover on a node that runs: exit code %d\n%s%s", r.code, r.out, r.err)
	}
	if code := n.stop(); code != exitDone {
		t.Errorf("the survivor ended with exit code %d", code)
	}
	if r := command(t, t.TempDir(), "", recover[:len(recover)-1]...); r.code != exitUsage {
		t.Errorf("recover without the confession: exit code %d, want %d", r.code, exitUsage)
	}
	if r := command(t, t.TempDir(), "no\n", slices.DeleteFunc(slices.Clone(recover), func(s string) bool { return s == "--yes" })...); r.code != exitFailed || !strings.Contains(r.err, "nothing was changed") {
		t.Errorf("recover, not confirmed: exit code %d\n%s%s", r.code, r.out, r.err)
	}
	t.Log(m.run(recover...))
	began := time.Now()
	n.start()
	n.awaitReady()
	t.Logf("ready %s after its start", time.Since(began).Round(time.Millisecond))
	n.mustRows("acme", "INSERT INTO t VALUES(100)")
	_, _, err = n.read(t.Context(), "acme", &wire.Request{MaxStaleness: wire.AnyStaleness, Bookmark: before.Bookmark}, "SELECT count(*) FROM t")
	if codeOf(err) != wire.CodeBookmarkLost {
		t.Errorf("a bookmark of the lost history: %v, want %s", err, wire.CodeBookmarkLost)
	}

	// As it says: forget the lost nodes, and take others.
	for _, id := range []string{"n1", "n2"} {
		m.at("n3", "node", "remove", id, "--yes")
		delete(m.nodes, id)
	}
	for _, id := range []string{"n4", "n5"} {
		m.start(id, "n3").awaitReady()
	}
	m.settled("system", "n3", "n4", "n5")
	m.settled("default", "n3", "n4", "n5")
	m.wantCount("acme", "t", 21)
	m.wantEqual("acme")

	// A lost node that starts against all advice is of another cluster now.
	lost[0].launch()
	eventually(t, startMax, "a node that was left behind is refused", func() error {
		for _, id := range m.running() {
			if strings.Contains(m.nodes[id].logText(), "wrong cluster") {
				return nil
			}
		}
		return errors.New("no log tells of a wrong cluster")
	})
	lost[0].kill()
	m.wantCount("acme", "t", 21)
}
