package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nearsql/nearsql/scripts/bench/load"
	"github.com/nearsql/nearsql/scripts/localcluster"
)

// bodyOf is the body of a request, which must be JSON.
func bodyOf(t *testing.T, request []byte) (path, body string) {
	t.Helper()
	head, body, ok := strings.Cut(string(request), "\r\n\r\n")
	if !ok || !json.Valid([]byte(body)) {
		t.Fatalf("request %q", request)
	}
	return strings.Fields(head)[1], body
}

func TestRequests(t *testing.T) {
	ours := &nearsql{Cluster: &localcluster.Cluster{Nodes: []*localcluster.Node{{Addr: "h:1"}}}, tenant: "bench", token: "key"}
	theirs := &rqlite{http: []string{"h:2"}}
	one, two := statement{`SELECT "a"`, number(7)}, statement{sql: "SELECT 2"}
	for _, c := range []struct {
		request    []byte
		path, body string
	}{
		{ours.write(nil, 0, one), "/v1/tenants/bench/sql", `{"sql":"SELECT \"a\"","args":[7]}`},
		{ours.write(nil, 0, one, two), "/v1/tenants/bench/sql", `{"statements":[{"sql":"SELECT \"a\"","args":[7]},{"sql":"SELECT 2"}]}`},
		{ours.read(nil, 0, strong, two), "/v1/tenants/bench/sql?consistency=strong", `{"sql":"SELECT 2"}`},
		{theirs.write(nil, 0, one), "/db/execute", `[["SELECT \"a\"",7]]`},
		{theirs.write(nil, 0, one, two), "/db/execute?transaction", `[["SELECT \"a\"",7],["SELECT 2"]]`},
		{theirs.read(nil, 0, strong, two), "/db/query?level=linearizable", `[["SELECT 2"]]`},
	} {
		if path, body := bodyOf(t, c.request); path != c.path || body != c.body {
			t.Errorf("got %s %s\nwant %s %s", path, body, c.path, c.body)
		}
	}
	if theirs.check(200, []byte(`{"results":[{"error":"no such table"}]}`)) == nil {
		t.Error("a statement that failed counts as done")
	}
}

// deaf is a system of two servers that take writes, or not.
type deaf struct {
	system
	servers []*httptest.Server
	silent  atomic.Bool
	writes  atomic.Int64
}

func newDeaf(t *testing.T) *deaf {
	d := &deaf{}
	for range 2 {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if d.silent.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			d.writes.Add(1)
		}))
		t.Cleanup(s.Close)
		d.servers = append(d.servers, s)
	}
	return d
}

func (d *deaf) addr(node int) string { return strings.TrimPrefix(d.servers[node].URL, "http://") }

func (d *deaf) write(dst []byte, node int, _ ...statement) []byte {
	return load.AppendPost(dst, d.addr(node), "/w", "", []byte("x"))
}

func (d *deaf) check(status int, _ []byte) error {
	if status != 200 {
		return errors.New("refused")
	}
	return nil
}

func TestTrickleMeasuresTheGap(t *testing.T) {
	d := newDeaf(t)
	w := newTrickle(t.Context(), d, []int{0, 1})
	defer w.end()
	if !w.await(100*time.Millisecond, 10*time.Second) {
		t.Fatal("no write is acknowledged")
	}
	died := time.Now()
	d.silent.Store(true)
	if w.awaitAfter(died.Add(20*time.Millisecond), 0, 300*time.Millisecond) {
		t.Error("a write was acknowledged that was refused")
	}
	d.silent.Store(false)
	if !w.awaitAfter(died.Add(20*time.Millisecond), 50*time.Millisecond, 10*time.Second) {
		t.Fatal("writes are not acknowledged again")
	}
	if gap, most := w.gap(died), time.Since(died); gap < 250*time.Millisecond || gap > most {
		t.Errorf("gap of %s, want 300 ms to %s", gap, most)
	}
	w.end()
	n := d.writes.Load()
	if w.lastError() == nil || n == 0 {
		t.Errorf("%d writes, last error %v", n, w.lastError())
	}
}

func TestRaftWALIsRewritten(t *testing.T) {
	w, err := openRaftWAL(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	for _, each := range []int{64, 1, 64} {
		rate, err := w.run(20*time.Millisecond, each)
		if err != nil || rate <= 0 {
			t.Fatalf("%d to a sync: %v per second, %v", each, rate, err)
		}
		if first, _ := w.log.FirstIndex(); first != w.next-uint64(each) {
			t.Errorf("the log begins at %d and ends before %d", first, w.next)
		}
	}
}

// TestRqlite runs a cluster of rqlite, if scripts/bench-rqlite has built it before.
func TestRqlite(t *testing.T) {
	cache := os.Getenv("NEARSQL_BENCH_CACHE")
	if cache == "" {
		cache = filepath.Join(os.TempDir(), "nearsql-bench")
	}
	binaries, _ := filepath.Glob(filepath.Join(cache, "rqlited-v?.*[0-9]"))
	if len(binaries) == 0 {
		t.Skipf("rqlite is not in %s: run scripts/bench-rqlite", cache)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := startRqlite(ctx, binaries[len(binaries)-1], t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	defer s.stop()
	if err := prepare(ctx, s); err != nil {
		t.Fatal(err)
	}
	for node := range s.nodes() {
		for _, l := range []level{strong, weak, follower, whatever} {
			if node > 0 && l != strong {
				continue // may not have the rows yet
			}
			leader, err := s.leader(ctx)
			if err != nil {
				t.Fatal(err)
			}
			at := (leader + node) % s.nodes()
			b, err := once(ctx, s, at, s.read(nil, at, l, statement{selectRead, number(5)}))
			if err != nil || !strings.Contains(string(b), string(s.row(`"`+rowText))) {
				t.Errorf("level %d at node %d: %s, %v", l, node, b, err)
			}
		}
	}
	b := &bench{ctx: ctx, sizes: short}
	gap, err := b.gap(s, true)
	if err != nil || gap < 100*time.Millisecond {
		t.Errorf("gap of %s, %v", gap, err)
	}
	t.Logf("gap of %s", gap)
}
