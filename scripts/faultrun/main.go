package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nearsql/nearsql/scripts/localcluster"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fault-run:", err)
		os.Exit(1)
	}
}

// Defaults and parts of a run.
const (
	fullDuration  = 10 * time.Minute
	quickDuration = 25 * time.Second
	usersPerNode  = 3
	tenantCount   = 3
)

// hasty are flags with which checkpoints, snapshots and compaction happen all the time.
var hasty = []string{"--checkpoint-bytes", "1MiB", "--checkpoint-age", "500ms", "--ltx-bytes", "256KiB", "--ltx-age", "2s"}

// run is one run.
type run struct {
	out      io.Writer
	duration time.Duration
	seed     uint64
	planted  string // --planted
	goOn     bool   // --keep-going
	patience int    // --patience
	replace  bool   // voters for good
	binary   string
	weights  weights
	dir      string
	spares   int
	c        *localcluster.Cluster
	h        *history
	roster   *roster
	tenants  []string
	clocks   []*clockwork // of each tenant
	counters *counters

	printing sync.Mutex
	checked  atomic.Int64 // keys
	tooLong  atomic.Int64 // keys that were too hard to check
}

func (r *run) say(format string, args ...any) {
	r.printing.Lock()
	defer r.printing.Unlock()
	fmt.Fprintf(r.out, format+"\n", args...)
}

func command(ctx context.Context, args []string, out io.Writer) error {
	o := localcluster.Options{Args: hasty}
	r := &run{out: out}
	flags := flag.NewFlagSet("fault-run", flag.ContinueOnError)
	flags.StringVar(&o.Binary, "nearsql", "", "the `PROGRAM` to run (needed)")
	voters := flags.Int("nodes", 3, "number of nodes, of which at most three vote")
	replicas := flags.Int("replicas", 1, "number of nodes more, where all tenants have replicas")
	flags.BoolVar(&r.replace, "replace", true, "kill voters for good now and then, and put others in their place")
	flags.BoolVar(&o.Plain, "plain", false, "no TLS between nodes")
	flags.DurationVar(&r.duration, "duration", fullDuration, "how long there are faults")
	flags.Uint64Var(&r.seed, "seed", 0, "`SEED` of faults and of what clients do (default: one that is printed)")
	quick := flags.Bool("quick", false, "a run of 45 seconds in all")
	flags.BoolVar(&r.goOn, "keep-going", false, "go on when a fault has been found")
	flags.IntVar(&r.patience, "patience", 1, "multiply by `N` how long what has to come may take: for machines that are slow, or busy")
	only := flags.String("faults", "", "only the faults of this `LIST`: kill,kill all,pause,cut,cut one way,isolate,deafen,move leadership,restart,kill apart")
	planted := flags.String("planted", "", "plant a `FAULT` ("+strings.Join(plants, ", ")+") and succeed if it is found")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	switch {
	case o.Binary == "" || flags.NArg() > 0:
		return errors.New("usage: fault-run [--duration D] [--nodes N] [--replicas N] [--replace=false] [--seed N] [--quick] [--plain] [--keep-going] [--patience N] [--faults LIST] [--planted FAULT]; run it by scripts/fault-run")
	case *planted != "" && !slices.Contains(plants, *planted):
		return fmt.Errorf("--planted %s: there are %s", *planted, strings.Join(plants, ", "))
	case r.patience < 1:
		return errors.New("--patience must be 1 at least")
	case *voters < 1 || *replicas < 0:
		return errors.New("--nodes must be 1 at least, and --replicas 0")
	}
	r.planted, r.binary = *planted, o.Binary
	if *quick {
		r.duration = quickDuration
	}
	if r.seed == 0 {
		r.seed = rand.Uint64N(1 << 32)
	}
	if o.Nodes = *voters; o.Nodes > 1 {
		o.Nodes += *replicas
	}
	if r.replace = r.replace && *voters == 3; r.replace {
		o.Spares = spares(r.duration)
		r.spares = o.Spares
	}
	r.weights = usual(o.Nodes)
	if *only != "" {
		var err error
		if r.weights, err = r.weights.only(*only); err != nil {
			return fmt.Errorf("--faults: %w", err)
		}
	}
	o.Links = o.Nodes > 1
	return r.all(ctx, o)
}

// all runs the cluster, and says how it went.
func (r *run) all(ctx context.Context, o localcluster.Options) (err error) {
	r.say("fault-run of %s with seed %d, %d nodes and %d to replace them", r.duration, r.seed, o.Nodes, o.Spares)
	if r.dir, err = os.MkdirTemp("", "nearsql-faultrun-"); err != nil {
		return err
	}
	o.Dir = r.dir
	defer func() {
		if err == nil {
			err = os.RemoveAll(r.dir)
		} else {
			r.say("data and logs are kept in %s", r.dir)
		}
	}()
	if r.c, err = localcluster.New(o); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.c.Close()) }()
	if err := r.begin(ctx); err != nil {
		return err
	}
	if err := r.trouble(ctx); err != nil {
		return err
	}
	return r.verdict()
}

// Faults that may be planted in the clients, to see that the checks find them.
const (
	plantedStale     = "stale"     // strong reads are sent as weak ones of any age
	plantedBound     = "bound"     // weak reads with a bound are sent without
	plantedIncrement = "increment" // some increments are counted twice
)

var plants = []string{plantedStale, plantedBound, plantedIncrement}

// begin starts the cluster and makes the tenants.
func (r *run) begin(ctx context.Context) (err error) {
	starting, cancel := context.WithTimeout(ctx, r.bound(nodeStartMax))
	defer cancel()
	if err := r.c.Start(starting); err != nil {
		return err
	}
	if r.roster, err = newRoster(r.c, len(r.c.Nodes)-r.spares); err != nil {
		return err
	}
	r.counters = newCounters()
	at := r.roster.at(0)
	for i := range tenantCount {
		t := fmt.Sprintf("fault-%d", i+1)
		if err := r.c.Await(starting, func() error {
			_, err := at.client.CreateTenant(starting, t, tenant.CreateOptions{})
			if we := (*wire.Error)(nil); errors.As(err, &we) && we.Code == wire.CodeTenantExists {
				return nil // by an answer that was lost
			}
			return err
		}); err != nil {
			return fmt.Errorf("create tenant %s: %w", t, err)
		}
		if err := r.c.Await(starting, func() error {
			_, err := at.client.Place(starting, t, tenant.Placement{Replicas: tenant.ReplicasAll})
			return err
		}); err != nil {
			return fmt.Errorf("place tenant %s: %w", t, err)
		}
		for n, sql := range slices.Concat(schema, clockSchema, counterSchema) {
			// Another primary may be elected meanwhile, on a busy machine.
			once := &wire.Request{Statements: []wire.Statement{{SQL: sql}}, IdempotencyKey: fmt.Sprintf("begin-%d-%d", i, n)}
			if err := r.c.Await(starting, func() error {
				_, _, err := at.client.Exec(starting, t, once)
				return err
			}); err != nil {
				return fmt.Errorf("tenant %s: %s: %w", t, sql, err)
			}
		}
		r.tenants = append(r.tenants, t)
		r.clocks = append(r.clocks, &clockwork{})
	}
	return r.whole(starting)
}

// trouble has clients work while there are faults, and checks what they were told.
func (r *run) trouble(ctx context.Context) error {
	r.h = newHistory()
	values := new(atomic.Int64)
	newUser := func(id, home int) *user {
		return &user{id: id, rng: rand.New(rand.NewPCG(r.seed, uint64(id)+1)), h: r.h, roster: r.roster, home: home,
			tenants: r.tenants, values: values, stale: r.planted == plantedStale}
	}
	places := r.roster.size
	count := usersPerNode * places
	j := newInjector(r.c, r.roster, r.h, r.say, func(ctx context.Context, node int, until time.Time) { newUser(count+node, node).poke(ctx, until) }, r.bound(nodeStartMax))
	list := plan(rand.New(rand.NewPCG(r.seed, 0)), r.weights, places, r.duration)
	working, stop := context.WithCancel(ctx)
	defer stop()
	var users, checks sync.WaitGroup
	for i := range count {
		users.Go(func() { newUser(i, i%places).run(working) })
	}
	rng := func(i int) *rand.Rand { return rand.New(rand.NewPCG(r.seed, uint64(1000+i))) }
	for i, t := range r.tenants {
		users.Go(func() { r.tickOn(working, t, r.clocks[i], rng(i)) })
	}
	for i := range places {
		users.Go(func() { r.readBounds(working, i, rng(100+i)) })
		users.Go(func() { r.increment(working, i, rng(200+i)) })
	}
	checks.Go(func() { r.checkRounds(working, stop) })
	faulty, calm := context.WithTimeout(working, r.duration)
	var replacing sync.WaitGroup
	if r.replace {
		replacing.Go(func() { r.replaceNodes(faulty, j) })
	}
	j.run(faulty, list)
	<-faulty.Done()
	calm()
	replacing.Wait()
	// Some time without faults: what is right must become possible again.
	sleep(working, 2*roundTime)
	stop()
	users.Wait()
	checks.Wait()
	r.say("faults: %s", j.tally())
	if len(r.h.problems()) > 0 && !r.goOn || ctx.Err() != nil {
		return ctx.Err()
	}
	j.allAlive()
	final, err := r.settle(ctx)
	if err != nil {
		r.h.complain("service", "the cluster does not serve %s after the last fault: %v", r.bound(settleMax), err)
		return nil
	}
	all := r.h.all()
	for _, k := range slices.SortedFunc(maps.Keys(all), compareKeys) {
		end := final[k]
		r.check(k, all[k], &end)
	}
	r.settleCounters(ctx)
	return r.copies(ctx)
}

func compareKeys(a, b key) int {
	if a.round != b.round {
		return a.round - b.round
	}
	return strings.Compare(a.String(), b.String())
}

// checkRounds checks each round when it has ended, so that a run ends at the first fault that is found.
func (r *run) checkRounds(ctx context.Context, stop func()) {
	for round := 0; sleep(ctx, roundTime/4); {
		keys, ended := r.h.ended(round)
		if !ended {
			continue
		}
		for k, ops := range keys {
			r.check(k, ops, nil)
		}
		round++
		if len(r.h.problems()) > 0 && !r.goOn {
			stop()
			return
		}
	}
}

func (r *run) check(k key, ops []*op, final *state) {
	fault, undecided := checkKey(k, ops, final)
	if final != nil || fault != "" {
		r.checked.Add(1)
	}
	if undecided {
		r.tooLong.Add(1)
	}
	if fault != "" {
		r.h.complain("history", "%s", fault)
	}
}
