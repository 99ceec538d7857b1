package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/scripts/bench/figures"
	"github.com/nearsql/nearsql/sqlnode/sqldriver"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// bench is one run.
type bench struct {
	*nodes
	plan
	figures.Report
	primary *node
	began   time.Time
}

// oneWay is half of the round trip of 80 ms between any node that follows and all others.
const oneWay = 40 * time.Millisecond

// settle is how long followers take to go to the feeders that are theirs once all are there.
const settle = 4500 * time.Millisecond

// stage is what was seen with so many followers.
type stage struct {
	followers        int
	transactions     int
	cpu              float64 // microseconds a transaction, above that at rest
	voters, all      float64 // bytes a transaction
	restCPU          float64 // microseconds a second
	restVoters, rest float64 // bytes a second, with nothing written
}

func name(i int) string { return fmt.Sprintf("t%03d", i) }

func measure(ctx context.Context, c *nodes, p plan, out io.Writer) error {
	b := &bench{nodes: c, plan: p, Report: figures.Report{Out: out}, began: time.Now()}
	if err := b.form(ctx); err != nil {
		return err
	}
	if err := b.makeTenants(ctx); err != nil {
		return err
	}
	var err error
	if b.primary, err = b.nodes.primary(ctx); err != nil {
		return err
	}
	b.Say("%d tenants with replicas: all, three voters that are near each other, followers at 80 ms of each and of each other; %d one-row inserts a second", b.tenants, b.rate)
	var stages []stage
	for _, n := range b.stages {
		s, err := b.stage(ctx, n)
		if err != nil {
			return fmt.Errorf("%d followers: %w", n, err)
		}
		stages = append(stages, s)
		if n == 5 {
			if err := b.weakReads(ctx); err != nil {
				return fmt.Errorf("weak reads: %w", err)
			}
			if err := b.embedded(ctx); err != nil {
				return fmt.Errorf("embedded reads: %w", err)
			}
		}
		if n == 20 {
			if err := b.staleness(ctx); err != nil {
				return fmt.Errorf("staleness: %w", err)
			}
		}
	}
	b.report(stages)
	return nil
}

func (b *bench) makeTenants(ctx context.Context) error {
	for i := range b.tenants {
		if _, err := b.list[0].client.CreateTenant(ctx, name(i), tenant.CreateOptions{Replicas: tenant.ReplicasAll}); err != nil {
			return err
		}
		db := sqldriver.Open(b.list[0].Node, name(i))
		_, err := sqldriver.Batch(ctx, db,
			sqldriver.Statement{SQL: "create table t(id integer primary key, who text, what text)"},
			sqldriver.Statement{SQL: "create index t_who on t(who)"},
			sqldriver.Statement{SQL: "insert into t with recursive n(i) as (select 1 union all select i + 1 from n where i < 200) select i, 'user ' || (i * 7919 % 1000), 'what is said in some words' from n"})
		if db.Close(); err != nil {
			return err
		}
	}
	return nil
}

// follow starts followers, and waits until each of them answers for all tenants by itself.
func (b *bench) follow(ctx context.Context, followers int) error {
	if err := b.grow(ctx, followers); err != nil {
		return err
	}
	b.spread(oneWay)
	var wg sync.WaitGroup
	errs := make([]error, followers)
	for i, n := range b.followers() {
		wg.Go(func() {
			for t := range b.tenants {
				if errs[i] == nil {
					errs[i] = await(ctx, func() error { return b.answers(ctx, n, t) })
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// answers is nil if the node answers for the tenant from its own copy.
func (b *bench) answers(ctx context.Context, n *node, t int) error {
	m, err := n.Execute(ctx, name(t), &wire.Request{Statements: []wire.Statement{{SQL: "select 1"}}, FailOnStale: true}, nothing{})
	if err == nil && m.Node != n.id {
		time.Sleep(100 * time.Millisecond) // not to load the voters with questions
		err = fmt.Errorf("node %s answers for %s", m.Node, n.id)
	}
	return err
}

// nothing is a wire.Sink.
type nothing struct{}

func (nothing) Begin(int, []wire.Column) error { return nil }
func (nothing) Row([]wire.Value) error         { return nil }
func (nothing) End(wire.Summary) error         { return nil }

// stage measures with so many followers.
func (b *bench) stage(ctx context.Context, followers int) (s stage, err error) {
	from := time.Now()
	if err := b.follow(ctx, followers); err != nil {
		return s, err
	}
	took := time.Since(from)
	if followers > readpath.TreeRoots {
		if err := pause(ctx, settle); err != nil {
			return s, err
		}
	}
	s.followers = followers
	time.Sleep(b.slice / 2) // what was made by the start is over
	cpu := cpuTime()
	v, all := b.streamed()
	from = time.Now()
	if err := pause(ctx, b.slice); err != nil {
		return s, err
	}
	rest := time.Since(from).Seconds()
	v2, all2 := b.streamed()
	s.restCPU = float64((cpuTime() - cpu).Microseconds()) / rest
	s.restVoters, s.rest = float64(v2-v)/rest, float64(all2-all)/rest

	cpu, from = cpuTime(), time.Now()
	v, all = b.streamed()
	if s.transactions, err = b.profiled(ctx, followers == b.stages[len(b.stages)-1]); err != nil {
		return s, err
	}
	time.Sleep(time.Second) // what is on its way
	took2 := time.Since(from).Seconds()
	v2, all2 = b.streamed()
	n := float64(s.transactions)
	s.cpu = (float64((cpuTime() - cpu).Microseconds()) - s.restCPU*took2) / n
	s.voters, s.all = (float64(v2-v)-s.restVoters*took2)/n, (float64(all2-all)-s.rest*took2)/n
	b.Say("%d followers: they had all copies after %.1f s; at rest %.2f of a core, %.1f kB/s of streams, %.1f of them from voters; %d transactions, each %.0f us of CPU, %.0f B of streams, %.0f of them from voters (%.0f s so far)",
		followers, took.Seconds(), s.restCPU/1e6, s.rest/1e3, s.restVoters/1e3, s.transactions, s.cpu, s.all, s.voters, time.Since(b.began).Seconds())
	return s, nil
}

// profiled is load, with a profile if one is wanted.
func (b *bench) profiled(ctx context.Context, last bool) (n int, err error) {
	if !last || b.profile == "" {
		return b.load(ctx)
	}
	f, err := os.Create(b.profile)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := pprof.StartCPUProfile(f); err != nil {
		return 0, err
	}
	defer pprof.StopCPUProfile()
	return b.load(ctx)
}

// load writes at the rate for a slice, to one tenant after another, and says how many transactions there were.
func (b *bench) load(ctx context.Context) (int, error) {
	const writers = 8
	var count atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, writers)
	until := time.Now().Add(b.slice)
	for w := range writers {
		wg.Go(func() {
			tick := time.NewTicker(writers * time.Second / time.Duration(b.rate))
			defer tick.Stop()
			for i := w; time.Now().Before(until) && ctx.Err() == nil; i += writers {
				_, err := b.primary.Execute(ctx, name(i%b.tenants), &wire.Request{Statements: []wire.Statement{{
					SQL: "insert into t(who, what) values(?, ?)", Args: []wire.Value{wire.Text(fmt.Sprint("user ", i*7919%1000)), wire.Text("what is said in some words")},
				}}}, nothing{})
				if err != nil {
					errs <- err
					return
				}
				count.Add(1)
				<-tick.C
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return 0, err
	default:
		return int(count.Load()), ctx.Err()
	}
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
