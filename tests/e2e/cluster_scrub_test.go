package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestClusterScrub flips a bit in the file of a tenant that nobody uses, on a node that runs and on one that is stopped, follower and
// primary: the scrub alone finds it, says so, and the node gets a sound copy from another.
func TestClusterScrub(t *testing.T) {
	t.Parallel()
	m := startMesh(t, []string{"n1", "n2", "n3"}, append([]string{"--scrub-every", "1s"}, hasty...)...)
	n1 := m.nodes["n1"]
	for _, name := range []string{"idle", "busy"} {
		n1.create(name)
		n1.mustRows(name, "CREATE TABLE a(id INTEGER PRIMARY KEY, v TEXT)")
		n1.mustRows(name, "WITH RECURSIVE c(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM c WHERE i<200) INSERT INTO a SELECT i, 'marker ' || i || printf('%0500d', i) FROM c")
	}
	rec, err := n1.Tenant(t.Context(), "idle")
	if err != nil {
		t.Fatal(err)
	}
	// base is the newest base of the idle tenant: a copy that was fetched has another name.
	base := func(id string) string {
		files, err := filepath.Glob(filepath.Join(m.nodes[id].dir, "groups", fmt.Sprint(rec.Group), "bases", rec.ID.String()+"*.db"))
		if err != nil || len(files) == 0 {
			return ""
		}
		return files[len(files)-1]
	}
	marker := func(id string) (int64, error) {
		b, err := os.ReadFile(base(id))
		at := bytes.Index(b, []byte("marker 1000"))
		if err == nil && (at < 0 || !bytes.Contains(b, []byte("marker 2000"))) {
			err = errors.New("some rows are missing")
		}
		return int64(at), err
	}
	for _, id := range m.ids() {
		eventually(t, soonMax, "all rows are in the base of "+id, func() error {
			n1.mustRows("busy", "UPDATE a SET v=v WHERE id=1") // so that there are checkpoints
			_, err := marker(id)
			return err
		})
	}
	primary := m.primary("default")
	for _, c := range []struct {
		id      string
		stopped bool
	}{{withoutNode(m.ids(), primary)[0], false}, {primary, false}, {withoutNode(m.ids(), primary)[1], true}} {
		n := m.nodes[c.id]
		corrupt, fetched, logged := n.metricSum("nearsql_corrupt_pages_total"), n.metricSum("nearsql_copies_fetched_total"), len(n.logText())
		if corrupt != 0 {
			t.Fatalf("%s has %v corrupt pages before one was damaged", c.id, corrupt)
		}
		if c.stopped {
			if code := n.stop(); code != exitDone {
				t.Fatalf("exit code %d", code)
			}
		}
		at, err := marker(c.id)
		if err != nil {
			t.Fatal(err)
		}
		file := base(c.id)
		flipByte(t, file, at+3)
		began := time.Now()
		if c.stopped {
			fetched = 0
			n.start()
			n.awaitReady()
		}
		eventually(t, catchMax, "the scrub finds the damage on "+c.id, func() error {
			if n.metricSum("nearsql_corrupt_pages_total") == 0 {
				return errors.New("no page is reported")
			}
			if n.metricSum("nearsql_copies_fetched_total") == fetched {
				return errors.New("no copy was fetched")
			}
			_, err := marker(c.id)
			return err
		})
		t.Logf("damage on %s (stopped: %v) was found and repaired after %s", c.id, c.stopped, time.Since(began).Round(10*time.Millisecond))
		for _, word := range []string{"corrupt page", filepath.Base(file), "out of service"} {
			if !strings.Contains(n.logText()[logged:], word) {
				t.Errorf("the log of %s does not tell of %q", c.id, word)
			}
		}
	}
	m.wantCount("idle", "a WHERE v LIKE 'marker '||id||'0%'", 200)
	m.wantEqual("idle")
	m.wantEqual("busy")
}
