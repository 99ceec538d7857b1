package e2e_test

import (
	"fmt"
	"testing"
	"time"
)

// TestClusterFailover kills and stops nodes under writes and reads through all nodes: no answered write is lost, no read is
// older than it may be, writes go on, and who was away catches up.
func TestClusterFailover(t *testing.T) {
	t.Parallel()
	m := startMesh(t, []string{"n1", "n2", "n3"})
	c := m.gather("busy", 6, 4)
	c.goesOn(100)

	first := m.primary("default")
	gap := c.during(m.nodes[first].kill)
	t.Logf("kill -9 of the primary: %s without an answer to a write", gap.Round(time.Millisecond))
	c.goesOn(100)
	m.nodes[first].start()
	m.caughtUp(first, "busy")

	// As in an upgrade: each node, one after the other, the primary last.
	last := m.primary("default")
	order := append(withoutNode(m.ids(), last), last)
	for _, id := range order {
		code := 0
		gap := c.during(func() { code = m.nodes[id].stop() })
		if code != exitDone {
			t.Errorf("%s ended with exit code %d", id, code)
		}
		what := "a voter"
		if id == last {
			what = "the primary"
		}
		t.Logf("SIGTERM of %s: %s without an answer to a write", what, gap.Round(time.Millisecond))
		m.nodes[id].start()
		m.caughtUp(id, "busy")
	}
	c.goesOn(50)
	c.end(m)
	m.wantEqual("busy")
}

// caughtUp waits until a node shows by its own copy what any other was told before.
func (m *mesh) caughtUp(id, tenant string) {
	m.t.Helper()
	began := time.Now()
	eventually(m.t, catchMax, id+" has caught up", func() error {
		_, meta, err := m.nodes[id].strong(m.t.Context(), tenant, "SELECT 1")
		if err == nil && meta.Node != id {
			err = fmt.Errorf("%s answered for it", meta.Node)
		}
		return err
	})
	m.t.Logf("%s answers strong reads by its own copy after %s", id, time.Since(began).Round(time.Millisecond))
}

func withoutNode(ids []string, id string) []string {
	var rest []string
	for _, o := range ids {
		if o != id {
			rest = append(rest, o)
		}
	}
	return rest
}
