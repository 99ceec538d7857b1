package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/wire"
)

// Of conflict-free tables.
const (
	counterKeys = 4
	counterRest = 15 * time.Millisecond // between two increments at a place
)

// counterSchema is the conflict-free tables of each tenant: counters, and a column that takes the newest write.
var counterSchema = []string{
	`CREATE TABLE crr.counter(k TEXT PRIMARY KEY NOT NULL, n COUNTER NOT NULL DEFAULT 0)`,
	`CREATE TABLE crr.newest(k TEXT PRIMARY KEY NOT NULL, v TEXT, at TEXT)`,
}

// countKey is one counter.
type countKey struct{ tenant, name string }

// counted is what became of increments, by the node that was asked.
type counted struct {
	acked, unknown map[string]int64
}

// counters is all increments.
type counters struct {
	mu struct {
		sync.Mutex
		of map[countKey]*counted
	}
}

func newCounters() *counters {
	c := &counters{}
	c.mu.of = make(map[countKey]*counted)
	return c
}

// note says what became of an increment at a node.
func (c *counters) note(k countKey, node string, acked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.mu.of[k]
	if o == nil {
		o = &counted{acked: map[string]int64{}, unknown: map[string]int64{}}
		c.mu.of[k] = o
	}
	if acked {
		o.acked[node]++
	} else {
		o.unknown[node]++
	}
}

// judge compares a counter with its increments. What a node had acknowledged that is gone for good, with its disk, may be lost as far as
// it had not been sent: of that it is only known that it counts once at most.
func (o *counted) judge(got int64, gone func(node string) bool) error {
	least, most := int64(0), int64(0)
	for node, n := range o.acked {
		most += n
		if !gone(node) {
			least += n
		}
	}
	for _, n := range o.unknown {
		most += n
	}
	switch {
	case got < least:
		return fmt.Errorf("it is %d; %d increments were acknowledged (%v)", got, least, o.acked)
	case got > most:
		return fmt.Errorf("it is %d; there were %d increments (acknowledged %v, unknown %v)", got, most, o.acked, o.unknown)
	}
	return nil
}

// increment writes conflict-free tables at a place until ctx ends.
func (r *run) increment(ctx context.Context, place int, rng *rand.Rand) {
	for i := 0; sleep(ctx, rand.N(2*counterRest)); i++ {
		m := r.roster.at(place)
		k := countKey{r.tenants[rng.IntN(len(r.tenants))], fmt.Sprintf("k%d", rng.IntN(counterKeys))}
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), opMax)
		_, meta, err := m.client.Batch(one, k.tenant,
			wire.Statement{SQL: `INSERT INTO counter VALUES(?, 1) ON CONFLICT(k) DO UPDATE SET n = n + 1`, Args: []wire.Value{wire.Text(k.name)}},
			wire.Statement{SQL: `INSERT INTO newest VALUES(?1, ?2, ?3) ON CONFLICT(k) DO UPDATE SET v = ?2, at = ?3`,
				Args: []wire.Value{wire.Text(k.name), wire.Text(fmt.Sprintf("%s-%d", m.ID, i)), wire.Text(m.ID)}})
		cancel()
		var we *wire.Error
		var unreachable *client.UnreachableError
		var dial *net.OpError
		switch {
		case err == nil:
			r.counters.note(k, meta.Node, true)
			where := "elsewhere"
			if meta.Node == m.ID {
				where = "by the node itself"
			}
			r.h.count("increments of counters, answered " + where)
			if r.planted == plantedIncrement && rng.IntN(50) == 0 {
				r.counters.note(k, meta.Node, true) // as if there had been another
			}
		case errors.As(err, &we) && we.Retryable:
			r.h.count("increments of counters refused " + string(we.Code))
		case errors.As(err, &unreachable) && errors.As(err, &dial) && dial.Op == "dial":
			r.h.count("increments of counters refused no connection")
		default:
			r.counters.note(k, m.ID, false)
			r.h.count("increments of counters unknown")
			r.mind(err, "increment of a counter of "+k.tenant, m)
		}
		if err != nil {
			sleep(ctx, downRest)
		}
	}
}

// tablesOf is what a node's own copy has of the conflict-free tables.
func tablesOf(ctx context.Context, m *member, tenant string) (map[string]string, map[string]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, copyMax)
	defer cancel()
	results, meta, err := m.client.Exec(ctx, tenant, &wire.Request{Consistency: wire.Weak, MaxStaleness: wire.AnyStaleness, Batch: true,
		Statements: []wire.Statement{{SQL: `SELECT k, n FROM counter ORDER BY k`}, {SQL: `SELECT k, v, at FROM newest ORDER BY k`}}})
	if err != nil {
		return nil, nil, err
	}
	if meta.Node != m.ID {
		return nil, nil, fmt.Errorf("node %s answers for it", meta.Node)
	}
	text, n := map[string]string{}, map[string]int64{}
	for _, row := range results[0].Rows {
		text["counter "+row[0].Str()] = row[1].String()
		n[row[0].Str()] = row[1].Int()
	}
	for _, row := range results[1].Rows {
		text["newest "+row[0].Str()] = row[1].Str() + " at " + row[2].Str()
	}
	return text, n, nil
}

// settleCounters waits until the conflict-free tables are the same everywhere, and judges the counters.
func (r *run) settleCounters(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.bound(settleMax))
	defer cancel()
	for _, t := range r.tenants {
		var values map[string]int64
		err := r.c.Await(ctx, func() error {
			var first map[string]string
			var at string
			for _, m := range r.roster.all() {
				text, n, err := tablesOf(ctx, m, t)
				if err != nil {
					return fmt.Errorf("node %s: %w", m.ID, err)
				}
				if first == nil {
					first, at, values = text, m.ID, n
				}
				if !maps.Equal(text, first) {
					return fmt.Errorf("node %s has %v, node %s %v", at, first, m.ID, text)
				}
			}
			return nil
		})
		if err != nil {
			r.h.complain("conflict-free tables", "tenant %s: they are not equal on all nodes %s after the last fault: %v", t, r.bound(settleMax), err)
			continue
		}
		r.counters.mu.Lock()
		for _, k := range slices.SortedFunc(maps.Keys(r.counters.mu.of), func(a, b countKey) int { return strings.Compare(a.name, b.name) }) {
			if k.tenant != t {
				continue
			}
			if err := r.counters.mu.of[k].judge(values[k.name], r.roster.removed); err != nil {
				r.h.complain("counter", "%s of tenant %s: %v", k.name, t, err)
			}
		}
		r.counters.mu.Unlock()
	}
}
