package sqldriver_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/cluster/clustertest"
	"github.com/nearsql/nearsql/sqlnode"
	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/sqlnode/sqldriver"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// nodes are nodes in this process.
type nodes struct {
	t   testing.TB
	net *clustertest.Network
	dir string
	up  map[string]*node
}

type node struct {
	*sqlnode.Node
	stop  context.CancelFunc
	ended chan error
}

func newNodes(t testing.TB) *nodes {
	return &nodes{t: t, net: clustertest.New(clustertest.Options{}), dir: t.TempDir(), up: map[string]*node{}}
}

// start starts a node, which joins the others if there are any.
func (s *nodes) start(id string) *node {
	s.t.Helper()
	at := s.net.Node(id)
	l, err := at.Listen()
	if err != nil {
		s.t.Fatal(err)
	}
	cfg := sqlnode.DefaultConfig()
	cfg.DataDir, cfg.Listen, cfg.MinFreeSpace = filepath.Join(s.dir, id), "", -1
	cfg.NodeID, cfg.PoP, cfg.ShutdownGrace = id, "pop-"+id, 2*time.Second
	cfg.ClusterListener, cfg.ClusterAdvertise = l, id+":1"
	cfg.ClusterDialer = func(ctx context.Context, addr string) (net.Conn, error) {
		return at.Dial(ctx, strings.TrimSuffix(addr, ":1"))
	}
	if os.Getenv("NEARSQL_TEST_LOG") != "" {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("on", id)
	}
	if len(s.up) > 0 {
		if err := sqlnode.Join(s.t.Context(), cfg, []string{"n1:1"}); err != nil {
			s.t.Fatal(err)
		}
	}
	n := &node{ended: make(chan error, 1)}
	if n.Node, err = sqlnode.New(cfg); err != nil {
		s.t.Fatal(err)
	}
	var ctx context.Context
	ctx, n.stop = context.WithCancel(context.Background())
	s.up[id] = n
	go func() { n.ended <- n.Run(ctx, nil) }()
	s.await(func() error { return s.client(id).Ready(s.t.Context()) })
	return n
}

// close stops all nodes.
func (s *nodes) close() {
	for id, n := range s.up {
		n.stop()
		if err := <-n.ended; err != nil && !errors.Is(err, context.Canceled) {
			s.t.Errorf("node %s ended with %v", id, err)
		}
	}
}

// single is a node on its own, with the tenant acme.
func single(t testing.TB) *node {
	cfg := sqlnode.DefaultConfig()
	cfg.DataDir, cfg.Listen, cfg.MinFreeSpace = t.TempDir(), "", -1
	n := &node{ended: make(chan error, 1)}
	var err error
	if n.Node, err = sqlnode.New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	ready := make(chan struct{})
	go func() { n.ended <- n.Run(ctx, func(net.Addr) { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-n.ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the node ended with %v", err)
		}
	})
	<-ready
	c, err := n.Client()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateTenant(t.Context(), "acme", tenant.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return n
}

// open is a session on one node.
func (n *node) open(t testing.TB, opts ...sqldriver.Option) *sql.DB {
	db := sqldriver.Open(n.Node, "acme", opts...)
	t.Cleanup(func() { db.Close() })
	return db
}

func (s *nodes) client(id string) *client.Client {
	c, err := s.up[id].Client()
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// await waits until f has no error.
func (s *nodes) await(f func() error) {
	s.t.Helper()
	end := time.Now().Add(3 * time.Minute)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("after three minutes: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// edge is three voters, and n4 with a copy of the tenant acme that follows, 40 ms from the others.
func edge(t testing.TB) *nodes {
	s := newNodes(t)
	for _, id := range []string{"n1", "n2", "n3", "n4"} {
		s.start(id)
		if id == "n3" {
			s.await(func() error {
				g, err := s.client("n1").Group(t.Context(), "default")
				if err == nil && len(g.Voters) < 3 {
					err = errors.New("not three voters")
				}
				return err
			})
		}
	}
	for _, id := range []string{"n1", "n2", "n3"} {
		s.net.SetDelayBoth("n4", id, 40*time.Millisecond)
	}
	c := s.client("n4")
	if _, err := c.CreateTenant(t.Context(), "acme", tenant.CreateOptions{Replicas: "pop:pop-n4"}); err != nil {
		t.Fatal(err)
	}
	db := sqldriver.Open(s.up["n4"].Node, "acme")
	defer db.Close()
	s.exec(db, "create table t(x integer primary key, y text unique)")
	s.await(func() error {
		if m := s.where(db, "select count(*) from t"); m.Node != "n4" {
			return errors.New("answered by " + m.Node)
		}
		return nil
	})
	return s
}

func (s *nodes) exec(db *sql.DB, text string, args ...any) sql.Result {
	s.t.Helper()
	r, err := db.ExecContext(s.t.Context(), text, args...)
	if err != nil {
		s.t.Fatalf("%s: %v", text, err)
	}
	return r
}

// where is how a query was answered.
func (s *nodes) where(db *sql.DB, text string) (m wire.Meta) {
	s.t.Helper()
	if _, err := db.ExecContext(sqldriver.WithMeta(s.t.Context(), func(got wire.Meta) { m = got }), text); err != nil {
		s.t.Fatalf("%s: %v", text, err)
	}
	return m
}

// primary is the node that leads the tenants' group.
func (s *nodes) primary() (id string) {
	s.t.Helper()
	s.await(func() error {
		g, err := s.client("n1").Group(s.t.Context(), "default")
		if id = g.Primary; err == nil && s.up[id] == nil {
			err = errors.New("no primary")
		}
		return err
	})
	return id
}
