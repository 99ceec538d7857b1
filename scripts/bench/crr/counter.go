package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// Increments of the hot counter: at each site so many a second, some to a transaction.
const (
	hotRate = 10_000
	hotEach = 20
)

// counter measures what goes over the wire while one row's counter is counted up at all sites.
func (b *bench) counter(ctx context.Context, c *nodes) error {
	const read, write = "select n from crr.hot where k = 1", "insert into crr.hot(k, n) values(1, 1) on conflict(k) do update set n = n + 1"
	if err := c.list[0].exec(ctx, "t", new(integer), wire.Statement{SQL: write}); err != nil {
		return err
	}
	everywhere := func(want int64) error {
		return await(ctx, func() error {
			for _, n := range c.list {
				if v, err := n.one(ctx, "t", read); err != nil || v != want {
					return errors.Join(err, fmt.Errorf("%s counts %d, want %d", n.id, v, want))
				}
			}
			return nil
		})
	}
	if err := everywhere(1); err != nil {
		return err
	}
	statements := make([]wire.Statement, hotEach)
	for i := range statements {
		statements[i].SQL = write
	}
	var count atomic.Int64
	errs := make([]error, sites)
	before, start := c.exchanged(), time.Now()
	var wg sync.WaitGroup
	for i, n := range c.list {
		wg.Go(func() {
			for k := 0; ; k++ {
				due := time.Duration(k) * hotEach * time.Second / hotRate
				if due >= b.counted || time.Since(start) >= b.counted {
					return
				}
				time.Sleep(time.Until(start.Add(due)))
				if errs[i] = n.exec(ctx, "t", new(integer), statements...); errs[i] != nil {
					return
				}
				count.Add(hotEach)
			}
		})
	}
	wg.Wait()
	took, bytes := time.Since(start), c.exchanged()-before
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := everywhere(1 + count.Load()); err != nil {
		return err
	}
	b.say("hot counter: %.0f increments a second at each of %d sites (%d a transaction, %d wanted), %.2f bytes each on the wire to all others; none was lost",
		float64(count.Load())/took.Seconds()/sites, sites, hotEach, hotRate, float64(bytes)/float64(count.Load()))
	b.figure("crr_hot_counter_wire", float64(bytes)/took.Seconds(), "B_per_s")
	return nil
}
