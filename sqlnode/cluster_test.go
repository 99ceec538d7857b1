package sqlnode

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/cluster/clustertest"
)

// simulation is a cluster in one process on virtual time: whole nodes, real files, a network in memory.
type simulation struct {
	t     *testing.T
	net   *clustertest.Network
	dir   string
	nodes map[string]*simNode
}

// simNode is one of its nodes, up or down.
type simNode struct {
	*Node
	cfg   Config
	stop  context.CancelFunc
	ended chan error
}

func newSimulation(t *testing.T) *simulation {
	s := &simulation{t: t, net: clustertest.New(clustertest.Options{}), dir: t.TempDir(), nodes: map[string]*simNode{}}
	return s
}

// close stops all nodes.
func (s *simulation) close() {
	for id := range s.nodes {
		if err := s.halt(id); err != nil && !errors.Is(err, context.Canceled) {
			s.t.Errorf("node %s ended with %v", id, err)
		}
	}
}

// config is that of a node; the network knows nodes by name, addresses have a port for those who want one.
func (s *simulation) config(id string) Config {
	node := s.net.Node(id)
	l, err := node.Listen()
	if err != nil {
		s.t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Listen, cfg.MinFreeSpace = filepath.Join(s.dir, id), "", -1
	cfg.NodeID, cfg.PoP = id, "pop-"+id
	cfg.ClusterListener, cfg.ClusterAdvertise = l, id+":1"
	cfg.ClusterDialer = func(ctx context.Context, addr string) (net.Conn, error) {
		return node.Dial(ctx, strings.TrimSuffix(addr, ":1"))
	}
	cfg.ShutdownGrace = 2 * time.Second
	return cfg
}

// start starts a node: a new one makes a cluster, or joins that of the nodes named.
func (s *simulation) start(id string, join ...string) *simNode {
	s.t.Helper()
	cfg := s.config(id)
	if len(join) > 0 {
		for i := range join {
			join[i] += ":1"
		}
		if err := Join(context.Background(), cfg, join); err != nil {
			s.t.Fatalf("%s: %v", id, err)
		}
	}
	n, err := New(cfg)
	if err != nil {
		s.t.Fatalf("%s: %v", id, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	sn := &simNode{Node: n, cfg: cfg, stop: cancel, ended: make(chan error, 1)}
	s.nodes[id] = sn
	go func() { sn.ended <- n.Run(ctx, nil) }()
	return sn
}

// halt stops a node in order.
func (s *simulation) halt(id string) error {
	n := s.nodes[id]
	delete(s.nodes, id)
	n.stop()
	return <-n.ended
}

// await waits until f says nothing.
func (s *simulation) await(d time.Duration, f func() string) {
	s.t.Helper()
	end := time.Now().Add(d)
	for {
		why := f()
		if why == "" {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("after %v: %s", d, why)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// awaitVoters waits until a group has that many voters.
func (s *simulation) awaitVoters(on string, group string, n int) {
	s.t.Helper()
	s.await(time.Minute, func() string {
		status, text := s.nodes[on].do("GET", "/v1/groups/"+group, "")
		var g struct{ Voters []string }
		if json.Unmarshal([]byte(text), &g); status == 200 && len(g.Voters) == n {
			return ""
		}
		return text
	})
}

// do sends a request to the node's API, as root.
func (n *simNode) do(method, path, body string) (int, string) {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+n.auth.text)
	w := httptest.NewRecorder()
	n.Handler().ServeHTTP(w, req)
	return w.Code, w.Body.String()
}

func (n *simNode) want(t *testing.T, method, path, body string, status int) string {
	t.Helper()
	got, text := n.do(method, path, body)
	if got != status {
		t.Fatalf("%s: %s %s %s: status %d, want %d: %s", n.id.Node, method, path, body, got, status, text)
	}
	return text
}

// sql runs one statement and returns its rows as JSON.
func (n *simNode) sql(t *testing.T, tenant, query, sql string) string {
	t.Helper()
	b, _ := json.Marshal(map[string]string{"sql": sql})
	var answer struct {
		Results []struct{ Rows json.RawMessage }
	}
	text := n.want(t, "POST", "/v1/tenants/"+tenant+"/sql"+query, string(b), 200)
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatalf("%s: %v in %s", sql, err, text)
	}
	return string(answer.Results[0].Rows)
}

func TestThreeNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t)
		defer s.close()
		a := s.start("n1")
		s.await(time.Minute, func() string { return ready(a) })
		b, c := s.start("n2", "n1"), s.start("n3", "n1")
		s.awaitVoters("n1", "default", 3)
		s.awaitVoters("n3", "system", 3)
		t.Log("three voters after", time.Since(a.started))

		// Whoever is asked, the tenant is there, and a strong read sees what was written anywhere.
		b.want(t, "POST", "/v1/tenants", `{"name":"acme"}`, 201)
		c.sql(t, "acme", "", "create table t(x integer primary key, y)")
		for i, n := range []*simNode{a, b, c, a, b, c} {
			n.sql(t, "acme", "", fmt.Sprintf("insert into t values(%d, 'row')", i))
			for _, r := range []*simNode{a, b, c} {
				if got := r.sql(t, "acme", "?consistency=strong", "select count(*) from t"); got != fmt.Sprintf("[[%d]]", i+1) {
					t.Fatalf("node %s sees %s, want %d rows", r.id.Node, got, i+1)
				}
				r.sql(t, "acme", "", "select count(*) from t")
			}
		}
		if got := code(a.want(t, "POST", "/v1/tenants", `{"name":"acme"}`, 409)); got != "TENANT_EXISTS" {
			t.Fatal(got)
		}
		if got := code(b.want(t, "POST", "/v1/tenants/other/sql", `{"sql":"select 1"}`, 404)); got != "NO_SUCH_TENANT" {
			t.Fatal(got)
		}
		// The primary stops in order: leadership is handed on, and nobody notices for long.
		lead := s.primary("default")
		before := time.Now()
		if err := s.halt(lead); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		var rest *simNode
		for _, n := range s.nodes {
			rest = n
		}
		rest.sql(t, "acme", "", "insert into t values(100, 'after')")
		t.Logf("%s stopped; a write %v later", lead, time.Since(before))
		again := s.start(lead)
		s.await(time.Minute, func() string { return ready(again) })
		if got := again.sql(t, "acme", "?consistency=strong", "select count(*) from t"); got != "[[7]]" {
			t.Fatalf("the node that came back sees %s", got)
		}
		file := again.want(t, "GET", "/v1/tenants/acme/export", "", 200)
		for id, n := range s.nodes {
			if other := n.want(t, "GET", "/v1/tenants/acme/export", "", 200); !bytes.Equal([]byte(file), []byte(other)) {
				t.Errorf("node %s has another copy", id)
			}
		}
		rest.want(t, "DELETE", "/v1/tenants/acme", "", 204)
		for id, n := range s.nodes {
			if status, text := n.do("POST", "/v1/tenants/acme/sql?consistency=strong", `{"sql":"select 1"}`); status != 404 && status != 410 {
				t.Errorf("node %s: %d %s", id, status, text)
			}
		}
	})
}

func ready(n *simNode) string {
	if err := (statusService{n.Node}).Ready(context.Background()); err != nil {
		return err.Error()
	}
	return ""
}

// primary is the node that leads a group.
func (s *simulation) primary(group string) (id string) {
	s.t.Helper()
	s.await(time.Minute, func() string {
		for _, n := range s.nodes {
			status, text := n.do("GET", "/v1/groups/"+group, "")
			var g struct{ Primary string }
			if json.Unmarshal([]byte(text), &g); status == 200 && g.Primary != "" {
				id = g.Primary
				return ""
			}
		}
		return "no primary"
	})
	return id
}

var _ = io.EOF
var _ = http.StatusOK
