package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/scripts/bench/figures"
	"github.com/nearsql/nearsql/scripts/bench/load"
	"github.com/nearsql/nearsql/scripts/localcluster"
)

// oneWay is the distance between voters: a round trip takes twice as long.
const oneWay = 25 * time.Millisecond

// distance compares many writers to many tenants where voters are 50 ms apart with the same where they are not. It runs a cluster of its
// own, whose connections go through this process both times.
func (b *bench) distance() (err error) {
	ctx, cancel := context.WithTimeout(b.ctx, startMax)
	defer cancel()
	var tenants []string
	for i := range b.tenants {
		tenants = append(tenants, fmt.Sprintf("far-%d", i))
	}
	o := localcluster.Options{Binary: b.nearsqlBin, Dir: filepath.Join(b.dir, "far"), Nodes: b.nodes, Plain: true, Links: true, Args: []string{"--log-level", "warn"}}
	s, err := startNearsql(ctx, o, tenants...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	leader, err := s.leader(ctx)
	if err != nil {
		return err
	}
	for _, t := range tenants {
		if _, err := once(ctx, s, leader, s.post(nil, leader, t, "", []statement{{sql: createTable}, {sql: createIndex}})); err != nil {
			return fmt.Errorf("tenant %s: %w", t, err)
		}
	}
	pool, err := load.Dial(s.addr(leader), b.writers)
	if err != nil {
		return err
	}
	defer pool.Close()
	var near, far []float64
	var latency [2]load.Histogram
	var failed int64
	for range b.delayRuns {
		for i, c := range []struct {
			delay time.Duration
			rates *[]float64
		}{{0, &near}, {oneWay, &far}} {
			s.setDelay(c.delay)
			rate, h, n, err := b.farTurn(s, pool, leader, tenants)
			if err != nil {
				return fmt.Errorf("with a delay of %s each way: %w", c.delay, err)
			}
			failed += n
			*c.rates = append(*c.rates, rate)
			latency[i].Merge(h)
		}
	}
	b.Say("%d writers to %d tenants: %s writes/s without delay (p50 %.0f ms), %s with a round trip of %s (p50 %.0f ms)", b.writers, b.tenants,
		figures.Spread(near), figures.Milliseconds(latency[0].Quantile(0.5)), figures.Spread(far), 2*oneWay, figures.Milliseconds(latency[1].Quantile(0.5)))
	if failed > 0 {
		b.Say("%d of these writes were refused or their outcome was unknown: they do not count", failed)
	}
	b.Figure("delay50_vs_delay0", figures.Median(figures.Ratios(far, near)), "x")
	return nil
}

// farTurn loads the cluster, after a while that does not count. Writes that are answered with status 429 or 503 are counted apart:
// so many writers may cost a primary its leadership on a machine that does other work too.
func (b *bench) farTurn(s *nearsql, pool *load.Pool, leader int, tenants []string) (rate float64, h *load.Histogram, failed int64, err error) {
	var refused atomic.Int64
	run := load.Run{Duration: b.delayTurn / 4, Request: func(dst []byte, i int64) []byte {
		return s.post(dst, leader, tenants[i%int64(len(tenants))], "", []statement{insertOf(i)})
	}, Check: func(_ int64, status int, body []byte) error {
		if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
			refused.Add(1)
			return nil
		}
		return s.check(status, body)
	}}
	if _, err := pool.Run(b.ctx, run); err != nil {
		return 0, nil, 0, err
	}
	refused.Store(0)
	run.Duration = b.delayTurn
	r, err := pool.Run(b.ctx, run)
	if err != nil {
		return 0, nil, 0, err
	}
	failed = refused.Load()
	return float64(r.Requests-failed) / r.Elapsed.Seconds(), &r.Latency, failed, nil
}

func (s *nearsql) setDelay(d time.Duration) {
	for _, from := range s.Nodes {
		for _, to := range s.Nodes {
			if from != to {
				s.Links.SetDelay(from.ID, to.ID, d)
			}
		}
	}
}
