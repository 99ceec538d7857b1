package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/wire"
)

// flipByte changes one bit of a file in place, also while others have it open.
func flipByte(t testing.TB, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	if err == nil {
		b[0] ^= 0x20
		_, err = f.WriteAt(b[:], at)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// metricSum adds up the values of a metric, whatever its labels.
func (n *node) metricSum(name string) (sum float64) {
	n.t.Helper()
	a := n.do("GET", "/metrics", nil)
	for line := range strings.Lines(string(a.body)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		fields := strings.Fields(line)
		v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			n.t.Fatalf("metric %s: %q: %v", name, line, err)
		}
		sum += v
	}
	return sum
}

// TestClusterDamage flips a bit on one node's disk: it is found when the page is read, reported, and repaired from the other nodes, on
// a node that follows and on the primary. Nobody is told anything wrong.
func TestClusterDamage(t *testing.T) {
	t.Parallel()
	m := startMesh(t, []string{"n1", "n2", "n3"}, hasty...)
	n1 := m.nodes["n1"]
	n1.create("hurt")
	rec, err := n1.Tenant(t.Context(), "hurt")
	if err != nil {
		t.Fatal(err)
	}
	n1.mustRows("hurt", "CREATE TABLE a(id INTEGER PRIMARY KEY, v TEXT)")
	n1.mustRows("hurt", "WITH RECURSIVE c(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM c WHERE i<200) INSERT INTO a SELECT i, 'marker ' || i || printf('%0500d', i) FROM c")
	base := func(id string) string {
		return filepath.Join(m.nodes[id].dir, "groups", fmt.Sprint(rec.Group), "bases", rec.ID.String()+".db")
	}
	for i, role := range []string{"a voter", "the primary"} {
		id := withoutNode(m.ids(), m.primary("default"))[i]
		n := m.nodes[id]
		eventually(t, soonMax, "all rows are in the base of "+id, func() error {
			n1.mustRows("hurt", "UPDATE a SET v=v WHERE id=1") // so that there are checkpoints
			b, err := os.ReadFile(base(id))
			if err == nil && (!bytes.Contains(b, []byte("marker 1000")) || !bytes.Contains(b, []byte("marker 2000"))) {
				err = errors.New("some are missing")
			}
			return err
		})
		if code := n.stop(); code != exitDone {
			t.Fatalf("exit code %d", code)
		}
		b, err := os.ReadFile(base(id))
		if err != nil {
			t.Fatal(err)
		}
		at := int64(bytes.Index(b, []byte("marker 1000")))
		if at < 0 {
			t.Fatal("the row is not in the base")
		}
		flipByte(t, base(id), at+3)
		n.start()
		m.caughtUp(id, "hurt")
		if role == "the primary" {
			m.at(id, "group", "move-leader", "default", "--to", id)
			_, meta, err := n.Query(t.Context(), "hurt", "CREATE TABLE other(id INTEGER)")
			if err != nil || meta.Node != id {
				t.Fatalf("a write after the move to %s: at %s, %v", id, meta.Node, err)
			}
		}
		before, logged := n.metricSum("nearsql_copies_fetched_total"), len(n.logText())
		// Whoever reads the page is told of the fault, or gets the right answer from another node; never something else.
		eventually(t, catchMax, "the page is repaired", func() error {
			rows, meta, err := n.read(t.Context(), "hurt", &wire.Request{MaxStaleness: wire.AnyStaleness}, "SELECT count(*), sum(v LIKE 'marker '||id||'0%') FROM a")
			if err == nil && (rows[0][0].Int() != 200 || rows[0][1].Int() != 200) {
				t.Fatalf("a damaged page is read: %v from %s", rows, meta.Node)
			}
			if err != nil && codeOf(err) != wire.CodeCorrupt && !codeOf(err).Retryable() {
				t.Fatalf("read of a damaged page: %v", err)
			}
			if err == nil && meta.Node != id {
				err = fmt.Errorf("%s answers for it", meta.Node)
			}
			if err == nil && n.metricSum("nearsql_copies_fetched_total") == before {
				err = errors.New("no copy was fetched")
			}
			return err
		})
		for _, word := range []string{"corrupt page", "out of service"} {
			if !strings.Contains(n.logText()[logged:], word) {
				t.Errorf("damage on %s: the log does not tell of %q", role, word)
			}
		}
		if role == "the primary" {
			if !strings.Contains(n.logText()[logged:], "primary=false") {
				t.Error("a primary with a damaged page did not hand on its leadership")
			}
		}
		if n.metricSum("nearsql_corrupt_pages_total") == 0 {
			t.Errorf("damage on %s: nearsql_corrupt_pages_total counts none", role)
		}
		m.wantCount("hurt", "a WHERE v LIKE 'marker '||id||'0%'", 200)
		m.wantEqual("hurt")
		t.Logf("damage on %s (%s): found and repaired; the primary is %s", role, id, m.primary("default"))
	}
}

// TestClusterImport imports a large database while a node is down, which then catches up.
func TestClusterImport(t *testing.T) {
	t.Parallel()
	mib := 24
	switch {
	case *long:
		mib = 100
	case testing.Short():
		mib = 8
	}
	file := filepath.Join(t.TempDir(), "large.db")
	makeLarge(t, file, mib)
	m := startMesh(t, []string{"n1", "n2", "n3"}, hasty...)
	down := withoutNode(m.ids(), m.primary("default"))[0]
	m.nodes[down].kill()
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		t.Fatal(err)
	}
	at := m.any()
	patient, err := client.New(at.url, client.Options{Token: at.key}) // no bound on the wait for an answer
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	// Another primary may be elected meanwhile, on a busy machine: then it is asked for again, unless it was done.
	eventually(t, catchMax, "the import", func() error {
		began = time.Now()
		if _, err := in.Seek(0, io.SeekStart); err != nil {
			return err
		}
		_, err := patient.Import(t.Context(), "large", client.SQLite, struct{ io.Reader }{in}, noOptions) // it is not closed with the request
		if codeOf(err) == wire.CodeTenantExists {
			_, _, err = at.strong(t.Context(), "large", "SELECT 1 FROM item LIMIT 1")
		}
		return err
	})
	took := time.Since(began)
	t.Logf("import of %d MB with one node of three down: %s, %.1f MB/s", info.Size()/1e6, took.Round(10*time.Millisecond), float64(info.Size())/1e6/took.Seconds())
	began = time.Now()
	m.nodes[down].start()
	m.caughtUp(down, "large")
	t.Logf("the node that was down has it %s after its start", time.Since(began).Round(10*time.Millisecond))
	m.wantEqual("large")
	copied := exportFile(t, m.nodes[down], "large")
	sameRows(t, openFile(t, file), copied)
	m.nodes[down].mustRows("large", "INSERT INTO item VALUES(-1, 'later', 0, NULL)")
	m.wantCount("large", "item WHERE id=-1", 1)
}
