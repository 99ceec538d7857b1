package cluster_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/cluster/clustertest"
)

var ours = cluster.ID{1, 2, 3}

// running is a Net that runs until the test ends.
type running struct {
	*cluster.Net
	stop func() error // ends Run and returns its error
}

// configure is a Config of a node on the network.
func configure(t *testing.T, network *clustertest.Network, node string) cluster.Config {
	t.Helper()
	p := network.Node(node)
	l, err := p.Listen()
	if err != nil {
		t.Fatal(err)
	}
	return cluster.Config{ClusterID: ours, Node: node, Listener: l, Dialer: p.Dial, Resolve: network.Resolve}
}

func run(t *testing.T, cfg cluster.Config) running {
	t.Helper()
	n, err := cluster.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stopped := false
	stop := func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Run of %s: %v", cfg.Node, err)
		}
		if s := n.Stats(); s.Open != 0 || s.HalfOpen != 0 {
			t.Errorf("%s: after Run %d connections are open, %d half", cfg.Node, s.Open, s.HalfOpen)
		}
	})
	return running{n, stop}
}

func start(t *testing.T, network *clustertest.Network, node string) running {
	t.Helper()
	return run(t, configure(t, network, node))
}

// echo is a handler that sends back what it gets.
func echo(_ context.Context, c *cluster.Conn) { _, _ = io.Copy(c, c) }

func handle(t *testing.T, n running, p cluster.Purpose, h func(context.Context, *cluster.Conn)) {
	t.Helper()
	if err := n.Handle(p, h); err != nil {
		t.Fatal(err)
	}
}

func wantEcho(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
		t.Fatalf("got %q, %v", b, err)
	}
}

func wantRefused(t *testing.T, err error, code cluster.Code) *cluster.RefusedError {
	t.Helper()
	var r *cluster.RefusedError
	if !errors.As(err, &r) || r.Code != code {
		t.Fatalf("got %v, want a refusal: %v", err, code)
	}
	return r
}

func wantUnreachable(t *testing.T, err error, cause error) *cluster.UnreachableError {
	t.Helper()
	var u *cluster.UnreachableError
	if !errors.As(err, &u) || cause != nil && !errors.Is(err, cause) {
		t.Fatalf("got %v, want unreachable because of: %v", err, cause)
	}
	return u
}

func wantTook(t *testing.T, since time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(since); got != want {
		t.Fatalf("took %v, want %v", got, want)
	}
}

func wantClosed(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("read %d bytes, %v; want the end", n, err)
	}
}
