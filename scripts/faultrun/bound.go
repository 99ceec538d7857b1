package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// Of weak reads with a bound.
const (
	tickEvery = 40 * time.Millisecond // between increments of a tenant's clockwork
	boundRest = 60 * time.Millisecond // between two reads of a reader
	// boundSlack is added to each bound: clocks are of one machine, and the product promises a thousandth.
	boundSlack = 20 * time.Millisecond
)

// bounds are those that reads ask for.
var bounds = []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second, 5 * time.Second}

// clockSchema is a row that rises.
var clockSchema = []string{
	`CREATE TABLE clockwork(id INTEGER PRIMARY KEY CHECK(id = 1), n INTEGER NOT NULL) STRICT`,
	`INSERT INTO clockwork VALUES(1, 0)`,
}

// clockwork is what is known of a tenant's row: up to where it was acknowledged, and when, on the one monotonic clock of this process.
type clockwork struct {
	mu struct {
		sync.Mutex
		acked []tick // invariant: both rise
	}
}

type tick struct {
	n    int64
	back time.Time // when the answer was here
}

// acknowledge notes an answer. Those that come late, or say less than an earlier one, tell nothing new.
func (c *clockwork) acknowledge(n int64, back time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := len(c.mu.acked); k == 0 || n > c.mu.acked[k-1].n {
		c.mu.acked = append(c.mu.acked, tick{n, back})
	}
}

// least is what a read must see that was sent at call with a bound: what had been answered, before the bound, when it was sent. The node looks at the
// time when the read is there, which is later: it must see as much at least.
func (c *clockwork) least(call time.Time, bound time.Duration) int64 {
	until := call.Add(-bound - bound/500 - boundSlack)
	c.mu.Lock()
	defer c.mu.Unlock()
	i, _ := slices.BinarySearchFunc(c.mu.acked, until, func(t tick, until time.Time) int { return t.back.Compare(until) })
	if i == 0 {
		return 0
	}
	return c.mu.acked[i-1].n
}

// tickOn increments a tenant's row until ctx ends, through one node after the other.
func (r *run) tickOn(ctx context.Context, tenant string, c *clockwork, rng *rand.Rand) {
	for sleep(ctx, tickEvery) {
		m := r.roster.at(rng.IntN(r.roster.size))
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), opMax)
		res, _, err := m.client.Query(one, tenant, `UPDATE clockwork SET n = n + 1 RETURNING n`)
		cancel()
		if err == nil && len(res.Rows) == 1 {
			c.acknowledge(res.Rows[0][0].Int(), time.Now())
			r.h.count("increments of the clockwork")
			continue
		}
		r.mind(err, "increment of the clockwork of "+tenant, m)
	}
}

// readBounds sends weak reads to a place until ctx ends, and compares what they see with their bound.
func (r *run) readBounds(ctx context.Context, place int, rng *rand.Rand) {
	for sleep(ctx, rand.N(2*boundRest)) {
		t := rng.IntN(len(r.tenants))
		bound := bounds[rng.IntN(len(bounds))]
		req := &wire.Request{Consistency: wire.Weak, MaxStaleness: bound, FailOnStale: rng.IntN(2) == 0,
			Statements: []wire.Statement{{SQL: `SELECT n FROM clockwork`}}}
		if r.planted == plantedBound {
			req.MaxStaleness = wire.AnyStaleness
		}
		r.readBound(ctx, r.roster.at(place), r.tenants[t], r.clocks[t], bound, req)
	}
}

func (r *run) readBound(ctx context.Context, m *member, tenant string, c *clockwork, bound time.Duration, req *wire.Request) {
	one, cancel := context.WithTimeout(context.WithoutCancel(ctx), opMax)
	defer cancel()
	call := time.Now()
	results, meta, err := m.client.Exec(one, tenant, req)
	if err != nil {
		r.mind(err, "weak read of "+tenant, m)
		return
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		r.h.complain("bound", "a weak read of %s at %s has no row", tenant, m.ID)
		return
	}
	where := "elsewhere"
	if meta.Node == m.ID {
		where = "by the node's own " + meta.Role
	}
	r.h.count(fmt.Sprintf("weak reads within %s, answered %s", bound, where))
	if got, want := results[0].Rows[0][0].Int(), c.least(call, bound); got < want {
		r.h.complain("bound", "a weak read within %s of %s at node %s, answered by %s as %s of age %s, sent at %s: it saw %d, but %d had been acknowledged before",
			bound, tenant, m.ID, meta.Node, meta.Role, meta.Staleness, call.Sub(r.h.began).Round(time.Millisecond), got, want)
	}
}

// mind complains of an error that says more than that it can't be done for the moment.
func (r *run) mind(err error, what string, m *member) {
	var we *wire.Error
	if errors.As(err, &we) && !mayFail(we) {
		r.h.complain("answer "+string(we.Code), "%s at node %s: %v", what, m.ID, err)
	}
}
