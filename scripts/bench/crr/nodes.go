package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nearsql/nearsql/cluster/clustertest"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// sites is how many there are; all vote, and each is a site.
const sites = 3

// near and far are delays, one way: a round trip of 80 ms, and 80 ms each way.
const (
	near = 40 * time.Millisecond
	far  = 80 * time.Millisecond
)

// nodes measures what only whole nodes show.
func (b *bench) nodes(ctx context.Context) (err error) {
	c := &nodes{net: clustertest.New(clustertest.Options{}), dir: b.path(b.memory)}
	defer func() { err = errors.Join(err, c.close()) }()
	for range sites {
		if err := c.start(ctx); err != nil {
			return err
		}
	}
	if err := b.prepare(ctx, c); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	for _, d := range []struct {
		delay  time.Duration
		figure string
	}{{far, "crr_visible_p99_at_80ms"}, {near, "crr_visible_p99_at_rtt_80ms"}} {
		c.spread(d.delay)
		if err := b.visible(ctx, c, d.delay, d.figure); err != nil {
			return fmt.Errorf("visible: %w", err)
		}
	}
	if err := b.counter(ctx, c); err != nil {
		return fmt.Errorf("counter: %w", err)
	}
	return nil
}

// prepare makes the tenant, and waits until each node is a site that has the writes of all.
func (b *bench) prepare(ctx context.Context, c *nodes) error {
	err := await(ctx, func() error {
		g, err := c.list[0].client.Group(ctx, "default")
		if err == nil && len(g.Voters) < sites {
			err = fmt.Errorf("the group has %d voters", len(g.Voters))
		}
		return err
	})
	if err != nil {
		return err
	}
	if _, err := c.list[0].client.CreateTenant(ctx, "t", tenant.CreateOptions{Replicas: tenant.ReplicasAll}); err != nil {
		return err
	}
	for _, sql := range []string{"create table crr.seen(k text primary key not null, v integer)", "create table crr.hot(k integer primary key not null, n counter not null default 0)"} {
		if err := c.list[0].exec(ctx, "t", new(integer), wire.Statement{SQL: sql}); err != nil {
			return err
		}
	}
	for i, n := range c.list {
		if err := await(ctx, func() error {
			return n.exec(ctx, "t", new(integer), wire.Statement{SQL: "insert into crr.seen(k, v) values(?, 0)", Args: []wire.Value{wire.Text(key(i, 0))}})
		}); err != nil {
			return fmt.Errorf("first write at %s: %w", n.id, err)
		}
	}
	return await(ctx, func() error {
		for _, n := range c.list {
			if v, err := n.one(ctx, "t", "select count(*) from crr.seen"); err != nil || v != sites {
				return errors.Join(err, fmt.Errorf("%s has %d rows", n.id, v))
			}
		}
		return nil
	})
}

func key(site, worker int) string { return fmt.Sprintf("k-%d-%d", site, worker) }

// visible measures how long it takes from the begin of a write at one site until a read at another one sees it.
func (b *bench) visible(ctx context.Context, c *nodes, delay time.Duration, figure string) error {
	const workers = 2 // of each site
	var mu sync.Mutex
	var seen, answered []float64
	errs := make([]error, sites*workers)
	var wg sync.WaitGroup
	for i := range sites * workers {
		wg.Go(func() {
			for w := range b.writes / (sites * workers) {
				time.Sleep(time.Duration((i*7+w*13)%40) * time.Millisecond) // not in step
				wrote, saw, err := c.seen(ctx, i%sites, key(i%sites, 1+i/sites), int64(delay)+int64(w))
				if err != nil {
					errs[i] = err
					return
				}
				mu.Lock()
				seen, answered = append(seen, saw.Seconds()*1e3), append(answered, wrote.Seconds()*1e3)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	b.say("%d writes, sites %v from each other one way: answered after %.2f ms (p50), %.2f ms (p99); seen at another site after %.1f ms (p50), %.1f ms (p99), %.1f ms at most",
		len(seen), delay, median(answered), quantile(answered, 0.99), median(seen), quantile(seen, 0.99), quantile(seen, 1))
	b.figure(figure, quantile(seen, 0.99), "ms")
	return nil
}

// seen writes at a site, and reads at the next one until it sees that.
func (c *nodes) seen(ctx context.Context, site int, key string, v int64) (wrote, saw time.Duration, err error) {
	k, value := wire.Text(key), wire.Integer(v)
	start := time.Now()
	err = c.list[site].exec(ctx, "t", new(integer), wire.Statement{
		SQL: "insert into crr.seen(k, v) values(?1, ?2) on conflict(k) do update set v = excluded.v", Args: []wire.Value{k, value},
	})
	wrote = time.Since(start)
	if err != nil {
		return 0, 0, err
	}
	for other := c.list[(site+1)%sites]; ; time.Sleep(time.Millisecond) {
		got, err := other.one(ctx, "t", "select v from crr.seen where k = ?1", k)
		if err != nil || got == v {
			return wrote, time.Since(start), err
		}
		if time.Since(start) > 30*time.Second {
			return 0, 0, fmt.Errorf("%s does not see what %s wrote", other.id, c.list[site].id)
		}
	}
}
