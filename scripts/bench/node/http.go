package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nearsql/nearsql/scripts/bench/figures"
	"github.com/nearsql/nearsql/scripts/bench/load"
)

// httpConns is how many connections are kept open.
const httpConns = 64

// http loads a node over HTTP: point reads beside an echo, then inserts beside the disk.
func (b *bench) http() (err error) {
	dir, err := b.subdir("http")
	if err != nil {
		return err
	}
	if err := b.settledReads(filepath.Join(dir, "settled")); err != nil {
		return err
	}
	node, err := b.startNode(filepath.Join(dir, "data"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.stop()) }()
	if err := node.createTenant(b.ctx, "bench"); err != nil {
		return err
	}
	return b.httpInserts(node, dir)
}

// settle is how long a node has, that checkpoints each second, until what was written is in the tenant's base: where a
// node that is older than a minute has it.
const settle = 3 * time.Second

// settledReads measures reads of data that was written a while ago.
func (b *bench) settledReads(data string) (err error) {
	node, err := b.startNode(data, "--checkpoint-age", "1s")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.stop()) }()
	if err := node.createTenant(b.ctx, "bench"); err != nil {
		return err
	}
	select {
	case <-b.ctx.Done():
		return b.ctx.Err()
	case <-time.After(settle):
	}
	return b.httpReads(node)
}

// httpReads compares point reads with the echo.
func (b *bench) httpReads(node *process) (err error) {
	echo, err := b.self("echo.log", "echo")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, echo.stop()) }()
	ours, err := load.Dial(node.addr, httpConns)
	if err != nil {
		return err
	}
	defer ours.Close()
	theirs, err := load.Dial(echo.addr, httpConns)
	if err != nil {
		return err
	}
	defer theirs.Close()
	row := []byte(`"rows":[["` + rowText)
	reads := load.Run{Request: func(dst []byte, i int64) []byte { return node.read(dst, "bench", i) },
		Check: func(_ int64, status int, body []byte) error {
			if status != 200 || !bytes.Contains(body, row) {
				return &load.StatusError{Status: status, Body: string(body)}
			}
			return nil
		}}
	echoes := load.Run{Request: func(dst []byte, i int64) []byte { return echo.read(dst, "bench", i) }}
	var rates, bare []float64
	var latency load.Histogram
	var ourCPU, theirCPU time.Duration
	var ourN, theirN int64
	reads.Duration, echoes.Duration = b.httpTurn/time.Duration(b.slices), b.httpTurn/time.Duration(b.slices)
	for round := range b.rounds + 1 { // the first warms up, and counts for nothing
		var our, their load.Result
		if round == 1 {
			latency = load.Histogram{}
			ourCPU, theirCPU, ourN, theirN = -node.cpu(), -echo.cpu(), 0, 0
		}
		for range b.slices {
			for _, turn := range []struct {
				pool *load.Pool
				run  load.Run
				sum  *load.Result
			}{{ours, reads, &our}, {theirs, echoes, &their}} {
				r, err := turn.pool.Run(b.ctx, turn.run)
				if err != nil {
					return err
				}
				turn.sum.Requests += r.Requests
				turn.sum.Elapsed += r.Elapsed
				if turn.sum == &our {
					latency.Merge(&r.Latency)
				}
			}
		}
		ourN, theirN = ourN+our.Requests, theirN+their.Requests
		if round > 0 {
			rates, bare = append(rates, our.PerSecond()), append(bare, their.PerSecond())
		}
	}
	ourCPU += node.cpu()
	theirCPU += echo.cpu()
	b.Say("http: point reads over %d connections %.0f/s (%.1f us of the server's CPU each), p50 %s, p99 %s; echo %.0f/s (%.1f us); the load generator shares the CPUs", httpConns,
		figures.Median(rates), float64(ourCPU.Microseconds())/float64(ourN), us(latency.Quantile(0.5)), us(latency.Quantile(0.99)),
		figures.Median(bare), float64(theirCPU.Microseconds())/float64(theirN))
	b.Figure("http_read64", figures.Median(rates), "per_s")
	b.Figure("http_read64_vs_echo", figures.Median(figures.Ratios(rates, bare)), "x")
	return nil
}

// httpInserts measures acknowledged inserts, and what the disk can do.
func (b *bench) httpInserts(node *process, dir string) error {
	pool, err := load.Dial(node.addr, httpConns)
	if err != nil {
		return err
	}
	defer pool.Close()
	run := load.Run{Duration: b.insertTurn / 4, Request: func(dst []byte, i int64) []byte { return node.insert(dst, "bench", i) }}
	if _, err := pool.Run(b.ctx, run); err != nil { // to warm up
		return err
	}
	run.Duration = b.insertTurn
	var rates, groups, syncs, p50, p99 []float64
	for range b.rounds {
		s, err := syncRate(filepath.Join(dir, "sync"), b.diskTurn)
		if err != nil {
			return err
		}
		before, err := node.metric(b.ctx, "nearsql_write_groups_total")
		if err != nil {
			return err
		}
		r, err := pool.Run(b.ctx, run)
		if err != nil {
			return err
		}
		after, err := node.metric(b.ctx, "nearsql_write_groups_total")
		if err != nil {
			return err
		}
		rates, syncs = append(rates, r.PerSecond()), append(syncs, s)
		groups = append(groups, (after-before)/r.Elapsed.Seconds())
		p50, p99 = append(p50, figures.Milliseconds(r.Latency.Quantile(0.5))), append(p99, figures.Milliseconds(r.Latency.Quantile(0.99)))
	}
	b.Say("http: durable inserts over %d connections into one tenant: %.0f/s in %.0f transactions/s, p50 %.2f ms, p99 %.2f ms; the disk alone: %.0f syncs/s of 512 B",
		httpConns, figures.Median(rates), figures.Median(groups), figures.Median(p50), figures.Median(p99), figures.Median(syncs))
	b.Figure("acked_insert64", figures.Median(rates), "per_s")
	b.Figure("acked_insert64_p50", figures.Median(p50), "ms")
	b.Figure("acked_insert64_p99", figures.Median(p99), "ms")
	b.Figure("disk_syncs", figures.Median(syncs), "per_s")
	return nil
}

// syncRate appends 512 bytes to a file and syncs it, again and again.
func syncRate(path string, d time.Duration) (_ float64, err error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(path)) }()
	block := make([]byte, 512)
	began := time.Now()
	for n := 1; ; n++ {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := datasync(f); err != nil {
			return 0, err
		}
		if took := time.Since(began); took >= d {
			return float64(n) / took.Seconds(), nil
		}
	}
}

func us(d time.Duration) string { return fmt.Sprintf("%d us", d.Microseconds()) }
