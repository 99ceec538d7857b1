package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	"github.com/nearsql/nearsql/scripts/bench/figures"
	"github.com/nearsql/nearsql/scripts/bench/load"
	"github.com/nearsql/nearsql/sqlnode"
)

// tenantRows is how many rows each of the many tenants has.
const tenantRows = 100

// servePopulated is a node in this program, which checkpoints at once, so that a node that is started on
// its data directory later finds tenants at rest, not a log to replay.
func servePopulated(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("populate: want DIR")
	}
	cfg := sqlnode.DefaultConfig()
	cfg.DataDir, cfg.Listen = args[0], "127.0.0.1:0"
	cfg.CheckpointAge = 200 * time.Millisecond
	n, err := sqlnode.New(cfg)
	if err != nil {
		return err
	}
	err = n.Run(ctx, func(addr net.Addr) { fmt.Fprintf(out, "populate serves at http://%s, data in %s\n", addr, args[0]) })
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func tenantName(i int64) string { return fmt.Sprintf("t%05d", i) }

// manyTenants measures a node with many tenants of which some are used.
func (b *bench) manyTenants() error {
	dir, err := b.subdir("tenants")
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	if err := b.populate(data); err != nil {
		return fmt.Errorf("populate: %w", err)
	}
	node, err := b.startNode(data)
	if err != nil {
		return err
	}
	return errors.Join(b.useSome(node), node.stop())
}

// populate makes the tenants, each with a table and some rows.
func (b *bench) populate(data string) (err error) {
	p, err := b.startPopulated(data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	pool, err := load.Dial(p.addr, 16)
	if err != nil {
		return err
	}
	defer pool.Close()
	began := time.Now()
	n := int64(b.tenants)
	_, err = pool.Run(b.ctx, load.Run{Requests: n, Check: ok, Request: func(dst []byte, i int64) []byte {
		return load.AppendPost(dst, p.addr, "/v1/tenants", p.token, fmt.Appendf(nil, `{"name":%q}`, tenantName(i)))
	}})
	if err != nil {
		return err
	}
	created := time.Since(began)
	began = time.Now()
	fill := fmt.Appendf(nil, `{"statements":[{"sql":%q},{"sql":%q,"args":[%d]}]}`, createRead, fillRead, tenantRows)
	_, err = pool.Run(b.ctx, load.Run{Requests: n, Request: func(dst []byte, i int64) []byte { return p.post(dst, tenantName(i-n), fill) }})
	if err != nil {
		return err
	}
	filled := time.Since(began)
	began = time.Now()
	if err := b.settle(p); err != nil {
		return err
	}
	b.Say("tenants: %d made in %s, filled with %d rows each in %s, at rest after %s more", b.tenants, created.Round(time.Millisecond), tenantRows,
		filled.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	return nil
}

func (b *bench) startPopulated(data string) (*process, error) {
	p, err := b.self("populate.log", "populate", data)
	if err != nil {
		return nil, err
	}
	return p.withKey(data)
}

// settle waits until the node has put all changes into files.
func (b *bench) settle(p *process) error {
	for {
		left, err := p.metric(b.ctx, "nearsql_overlay_bytes")
		if err != nil || left == 0 {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-b.ctx.Done():
			return b.ctx.Err()
		}
	}
}

// useSome asks some of the tenants, none of which is open, one after another.
func (b *bench) useSome(node *process) error {
	idle, err := node.rss()
	if err != nil {
		return err
	}
	pool, err := load.Dial(node.addr, 1)
	if err != nil {
		return err
	}
	defer pool.Close()
	step := int64(b.tenants / b.used)
	run := load.Run{Requests: int64(b.used), Request: func(dst []byte, i int64) []byte {
		i %= int64(b.used)
		return node.post(dst, tenantName(i*step), fmt.Appendf(nil, `{"sql":%q,"args":[%d]}`, selectRead, i%tenantRows+1))
	}}
	cold, err := pool.Run(b.ctx, run)
	if err != nil {
		return err
	}
	run.Requests *= 3
	warm, err := pool.Run(b.ctx, run)
	if err != nil {
		return err
	}
	opened, err := node.metric(b.ctx, "nearsql_open_tenants")
	if err != nil {
		return err
	}
	used, err := node.rss()
	if err != nil {
		return err
	}
	b.Say("tenants: %d on the node, which starts in %s with %.0f MB; %d of them used in turn, %.0f open: cold p50 %.2f ms, p99 %.2f ms; warm p50 %.3f ms, p99 %.3f ms",
		b.tenants, node.took.Round(time.Millisecond), mb(idle), b.used, opened, figures.Milliseconds(cold.Latency.Quantile(0.5)), figures.Milliseconds(cold.Latency.Quantile(0.99)),
		figures.Milliseconds(warm.Latency.Quantile(0.5)), figures.Milliseconds(warm.Latency.Quantile(0.99)))
	b.Figure("tenants", float64(b.tenants), "tenants")
	b.Figure("tenants_restart", figures.Milliseconds(node.took), "ms")
	b.Figure("tenants_rss_idle", mb(idle), "MB")
	b.Figure("tenants_rss", mb(used), "MB")
	b.Figure("cold_open_p50", figures.Milliseconds(cold.Latency.Quantile(0.5)), "ms")
	b.Figure("cold_open_p99", figures.Milliseconds(cold.Latency.Quantile(0.99)), "ms")
	return nil
}

func mb(n int64) float64 { return float64(n) / 1e6 }
