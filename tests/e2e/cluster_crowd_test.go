package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/wire"
)

// crowd writes to one tenant through all nodes of a mesh, and reads from all, as nodes come and go. It remembers what
// was answered, and holds each read against that.
type crowd struct {
	t       testing.TB
	tenant  string
	clients []*client.Client // of each node; a node keeps its address
	cancel  context.CancelFunc
	done    sync.WaitGroup

	mu struct {
		sync.Mutex
		writes  map[write]fate
		acked   map[int64][]ack // by writer, in order
		seen    map[int64]int64 // by writer: the highest number that a strong read has shown
		count   [3]int          // writes, by fate
		strong  int             // reads that were held against the answers
		bounded int
		refused int // reads that got no rows
		last    time.Time
		gap     time.Duration // the longest time without an answer to a write
		faults  []error
	}
}

// write is one write: the number n of a writer.
type write struct{ writer, n int64 }

// ack is an answer to a write of that number.
type ack struct {
	n  int64
	at time.Time
}

// staleness is the bound of the crowd's bounded reads.
const staleness = time.Second

// gather makes the tenant, and starts writers and readers.
func (m *mesh) gather(tenant string, writers, readers int) *crowd {
	m.t.Helper()
	n := m.any()
	n.create(tenant)
	n.mustRows(tenant, "CREATE TABLE log(writer INTEGER, n INTEGER, text TEXT, PRIMARY KEY(writer, n)) WITHOUT ROWID")
	ctx, cancel := context.WithCancel(m.t.Context())
	c := &crowd{t: m.t, tenant: tenant, cancel: cancel}
	c.mu.writes, c.mu.acked, c.mu.seen, c.mu.last = map[write]fate{}, map[int64][]ack{}, map[int64]int64{}, time.Now()
	for _, n := range m.all() {
		cl, err := client.New(n.url, client.Options{Token: n.key, HTTP: newHTTP()})
		if err != nil {
			m.t.Fatal(err)
		}
		c.clients = append(c.clients, cl)
	}
	for i := range writers {
		c.done.Go(func() { c.write(ctx, int64(i)) })
	}
	for i := range readers {
		c.done.Go(func() { c.read(ctx, i) })
	}
	m.t.Cleanup(func() { cancel(); c.done.Wait() })
	return c
}

// write writes one number after the other, each once, and goes to the next node after an error.
func (c *crowd) write(ctx context.Context, id int64) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	at := int(id)
	for n := int64(1); ; n++ {
		_, _, err := c.clients[at%len(c.clients)].Query(ctx, c.tenant, "INSERT INTO log VALUES(?, ?, printf('%0200d', ?))", wire.Integer(id), wire.Integer(n), wire.Integer(n))
		if ctx.Err() != nil {
			c.note(write{id, n}, unknown)
			return
		}
		switch {
		case err == nil:
			c.note(write{id, n}, done)
		case lost(err):
			c.note(write{id, n}, unknown)
			at++
		default:
			var e *wire.Error
			if !errors.As(err, &e) || !e.Code.Retryable() {
				c.fault(fmt.Errorf("write %d of writer %d: %w", n, id, err))
				return
			}
			c.note(write{id, n}, undone)
			at++
		}
		<-tick.C
	}
}

func (c *crowd) note(w write, o fate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.writes[w] = o
	c.mu.count[o]++
	if o != done {
		return
	}
	now := time.Now()
	c.mu.gap, c.mu.last = max(c.mu.gap, now.Sub(c.mu.last)), now
	c.mu.acked[w.writer] = append(c.mu.acked[w.writer], ack{w.n, now})
}

// read reads through one node after the other: now by a strong read, now by one with a bound.
func (c *crowd) read(ctx context.Context, id int) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i := id; ; i++ {
		strong := rand.IntN(2) == 0
		r := &wire.Request{Consistency: wire.Weak, MaxStaleness: staleness, Statements: []wire.Statement{{SQL: "SELECT writer, max(n) FROM log GROUP BY writer"}}}
		if strong {
			r.Consistency, r.MaxStaleness = wire.Strong, 0
		}
		floor := c.floor(strong, time.Now())
		results, meta, err := c.clients[i%len(c.clients)].Exec(ctx, c.tenant, r)
		if ctx.Err() != nil {
			return
		}
		c.hold(strong, floor, results, meta, err)
		<-tick.C
	}
}

// floor is what a read that starts now must see at least: of each writer the highest number that was answered, or
// that was before the bound.
func (c *crowd) floor(strong bool, now time.Time) map[int64]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	floor := map[int64]int64{}
	for id, acks := range c.mu.acked {
		for i := len(acks) - 1; i >= 0; i-- {
			if strong || acks[i].at.Before(now.Add(-staleness)) {
				floor[id] = acks[i].n
				break
			}
		}
		if strong {
			floor[id] = max(floor[id], c.mu.seen[id])
		}
	}
	return floor
}

// hold holds a read against what it had to see.
func (c *crowd) hold(strong bool, floor map[int64]int64, results []client.Result, meta wire.Meta, err error) {
	if err != nil {
		var e *wire.Error
		if !lost(err) && (!errors.As(err, &e) || !e.Code.Retryable()) {
			c.fault(fmt.Errorf("read (strong: %v): %w", strong, err))
		}
		c.mu.Lock()
		c.mu.refused++
		c.mu.Unlock()
		return
	}
	got := map[int64]int64{}
	for _, row := range results[0].Rows {
		got[row[0].Int()] = row[1].Int()
	}
	for id, n := range floor {
		if got[id] < n {
			c.fault(fmt.Errorf("a read (strong: %v, by %s, %s, %s old) shows %d of writer %d, and %d was answered before", strong, meta.Node, meta.Role, meta.Staleness, got[id], id, n))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !strong {
		c.mu.bounded++
		return
	}
	c.mu.strong++
	for id, n := range got {
		c.mu.seen[id] = max(c.mu.seen[id], n)
	}
}

func (c *crowd) fault(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.mu.faults) < 10 {
		c.mu.faults = append(c.mu.faults, err)
	}
}

// goesOn waits until so many more writes were answered.
func (c *crowd) goesOn(more int) {
	c.t.Helper()
	acked := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.mu.count[done]
	}
	before := acked()
	eventually(c.t, electMax, "writes go on", func() error {
		if n := acked() - before; n < more {
			return fmt.Errorf("%d were answered since, want %d", n, more)
		}
		return nil
	})
}

// during does what, waits until writes go on after it, and returns the longest time without an answer to a write.
func (c *crowd) during(what func()) time.Duration {
	c.t.Helper()
	c.mu.Lock()
	c.mu.gap = 0
	c.mu.Unlock()
	what()
	c.goesOn(50)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.gap
}

// end stops the crowd, and compares what every node that runs has with what was answered.
func (c *crowd) end(m *mesh) {
	c.t.Helper()
	c.cancel()
	c.done.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t.Logf("%d writes answered, %d refused, %d unknown; %d strong and %d bounded reads checked, %d refused", c.mu.count[done], c.mu.count[undone], c.mu.count[unknown],
		c.mu.strong, c.mu.bounded, c.mu.refused)
	for _, err := range c.mu.faults {
		c.t.Error(err)
	}
	if c.mu.strong == 0 || c.mu.bounded == 0 {
		c.t.Error("nothing was read")
	}
	for _, id := range m.running() {
		rows, _, err := m.nodes[id].strong(c.t.Context(), c.tenant, "SELECT writer, n FROM log")
		if err != nil {
			c.t.Errorf("at %s: %v", id, err)
			continue
		}
		there := map[write]bool{}
		for _, row := range rows {
			w := write{row[0].Int(), row[1].Int()}
			there[w] = true
			if o, known := c.mu.writes[w]; !known || o == undone {
				c.t.Errorf("at %s: write %d of writer %d is there; its client was told that it had no effect", id, w.n, w.writer)
			}
		}
		lost := 0
		for w, o := range c.mu.writes {
			if o == done && !there[w] {
				if lost++; lost <= 5 {
					c.t.Errorf("at %s: write %d of writer %d is lost, and it was answered", id, w.n, w.writer)
				}
			}
		}
	}
}
