package cluster_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/cluster/clustertest"
)

// TestTCP is for what memory does not have: real sockets, and a refusal that must not be lost by closing one.
func TestTCP(t *testing.T) {
	dir := authority(t, "n1", "n2")
	addrs := make(map[string]string) // constant once the nodes run
	configs := make(map[string]cluster.Config)
	for _, node := range []string{"n1", "n2"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addrs[node] = l.Addr().String()
		configs[node] = secure(t, cluster.Config{
			ClusterID: ours, Node: node, Listener: l,
			Dialer: func(ctx context.Context, addr string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", addr)
			},
			Resolve: func(node string) (string, error) { return addrs[node], nil },
		}, dir, node)
	}
	proxy, err := clustertest.NewProxy("127.0.0.1:0", addrs["n1"])
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- proxy.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	addrs["n1"] = proxy.Addr()
	n1, n2 := run(t, configs["n1"]), run(t, configs["n2"])
	handle(t, n1, cluster.PurposeConfirm, echo)
	serveHTTP(t, n1, whoAsks("n1"))
	for range 50 {
		_, err := n2.Dial(t.Context(), "n1", cluster.PurposeRaft, 1)
		wantRefused(t, err, cluster.CodeUnknownGroup)
	}
	c, err := n2.Dial(t.Context(), "n1", cluster.PurposeConfirm, 1)
	if err != nil {
		t.Fatal(err)
	}
	wantEcho(t, c)
	wantGet(t, n2, "http://n1/a", "n2 asks n1 for /a, true")

	proxy.Cut(clustertest.FromTarget)
	short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	_, err = n2.Dial(short, "n1", cluster.PurposeConfirm, 1)
	wantUnreachable(t, err, context.DeadlineExceeded)
	proxy.Heal(clustertest.FromTarget)
	wantEcho(t, c)
	if err := n1.stop(); err != nil {
		t.Fatal(err)
	}
	wantClosed(t, c)
}
