package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/scripts/bench/figures"
	"github.com/nearsql/nearsql/scripts/bench/load"
	"github.com/nearsql/nearsql/sqlnode"
)

// startNode runs a node in this process, which a profile then shows.
func startNode(t testing.TB) *process {
	t.Helper()
	cfg := sqlnode.DefaultConfig()
	cfg.DataDir, cfg.Listen = t.TempDir(), "127.0.0.1:0"
	n, err := sqlnode.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan net.Addr, 1), make(chan error, 1)
	go func() { ended <- n.Run(ctx, func(a net.Addr) { ready <- a }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	key, err := os.ReadFile(filepath.Join(cfg.DataDir, sqlnode.RootKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case a := <-ready:
		return &process{addr: a.String(), token: strings.TrimSpace(string(key))}
	case err := <-ended:
		t.Fatal(err)
		return nil
	}
}

func TestRequestsAreWhatTheNodeTakes(t *testing.T) {
	p := startNode(t)
	ctx := context.Background()
	if err := p.createTenant(ctx, "bench"); err != nil {
		t.Fatal(err)
	}
	if err := p.once(ctx, p.insert(nil, "bench", 1), p.read(nil, "bench", 2)); err != nil {
		t.Error(err)
	}
	var status *load.StatusError
	if err := p.once(ctx, p.read(nil, "another", 2)); !errors.As(err, &status) || status.Status != 404 {
		t.Errorf("read of no tenant: %v", err)
	}
	if groups, err := p.metric(ctx, "nearsql_write_groups_total"); err != nil || groups < 2 {
		t.Errorf("%v transactions, %v", groups, err)
	}
}

func benchmarkHTTP(b *testing.B, request func(p *process, dst []byte, i int64) []byte) {
	p := startNode(b)
	if err := p.createTenant(context.Background(), "bench"); err != nil {
		b.Fatal(err)
	}
	pool, err := load.Dial(p.addr, httpConns)
	if err != nil {
		b.Fatal(err)
	}
	defer pool.Close()
	b.ReportAllocs()
	b.ResetTimer()
	r, err := pool.Run(context.Background(), load.Run{Requests: int64(b.N), Request: func(dst []byte, i int64) []byte { return request(p, dst, i) }})
	if err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(figures.Milliseconds(r.Latency.Quantile(0.5)), "p50-ms")
	b.ReportMetric(figures.Milliseconds(r.Latency.Quantile(0.99)), "p99-ms")
}

func BenchmarkHTTPRead64(b *testing.B) {
	benchmarkHTTP(b, func(p *process, dst []byte, i int64) []byte { return p.read(dst, "bench", i) })
}

func BenchmarkHTTPInsert64(b *testing.B) {
	benchmarkHTTP(b, func(p *process, dst []byte, i int64) []byte { return p.insert(dst, "bench", i) })
}
