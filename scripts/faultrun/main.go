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
	"github.com/nearsql/nearsql/sqlnode/client"
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
	stale    bool // --planted stale
	goOn     bool // --keep-going
	weights  weights
	dir      string
	c        *localcluster.Cluster
	h        *history
	clients  []*client.Client // of each node
	tenants  []string

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
	flags.IntVar(&o.Nodes, "nodes", 3, "number of nodes")
	flags.BoolVar(&o.Plain, "plain", false, "no TLS between nodes")
	flags.DurationVar(&r.duration, "duration", fullDuration, "how long there are faults")
	flags.Uint64Var(&r.seed, "seed", 0, "`SEED` of faults and of what clients do (default: one that is printed)")
	quick := flags.Bool("quick", false, "a run of 45 seconds in all")
	flags.BoolVar(&r.goOn, "keep-going", false, "go on when a fault has been found")
	only := flags.String("faults", "", "only the faults of this `LIST`: kill,kill all,pause,cut,cut one way,isolate,deafen,move leadership,restart")
	planted := flags.String("planted", "", "plant a `FAULT` (stale) and succeed if it is found")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	switch {
	case o.Binary == "" || flags.NArg() > 0:
		return errors.New("usage: fault-run [--duration D] [--nodes N] [--seed N] [--quick] [--plain] [--keep-going] [--faults LIST] [--planted stale]; run it by scripts/fault-run")
	case *planted != "" && *planted != "stale":
		return fmt.Errorf("--planted %s: there is only stale", *planted)
	}
	r.stale = *planted != ""
	if *quick {
		r.duration = quickDuration
	}
	if r.seed == 0 {
		r.seed = rand.Uint64N(1 << 32)
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
	r.say("fault-run of %s with seed %d, %d nodes", r.duration, r.seed, o.Nodes)
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

// begin starts the cluster and makes the tenants.
func (r *run) begin(ctx context.Context) (err error) {
	starting, cancel := context.WithTimeout(ctx, nodeStartMax)
	defer cancel()
	if err := r.c.Start(starting); err != nil {
		return err
	}
	if r.clients, err = newClients(r.c); err != nil {
		return err
	}
	for i := range tenantCount {
		t := fmt.Sprintf("fault-%d", i+1)
		if _, err := r.c.Do(starting, r.c.Nodes[0], "POST", "/v1/tenants", fmt.Sprintf(`{"name":%q}`, t)); err != nil {
			return fmt.Errorf("create tenant %s: %w", t, err)
		}
		for _, sql := range schema {
			if _, _, err := r.clients[0].Query(starting, t, sql); err != nil {
				return fmt.Errorf("tenant %s: %s: %w", t, sql, err)
			}
		}
		r.tenants = append(r.tenants, t)
	}
	return nil
}

// trouble has clients work while there are faults, and checks what they were told.
func (r *run) trouble(ctx context.Context) error {
	r.h = newHistory()
	values := new(atomic.Int64)
	newUser := func(id, home int) *user {
		return &user{id: id, rng: rand.New(rand.NewPCG(r.seed, uint64(id)+1)), h: r.h, nodes: r.c.Nodes, clients: r.clients, home: home,
			tenants: r.tenants, values: values, stale: r.stale}
	}
	count := usersPerNode * len(r.c.Nodes)
	j := newInjector(r.c, r.h, r.say, func(ctx context.Context, node int, until time.Time) { newUser(count+node, node).poke(ctx, until) })
	list := plan(rand.New(rand.NewPCG(r.seed, 0)), r.weights, len(r.c.Nodes), r.duration)
	working, stop := context.WithCancel(ctx)
	defer stop()
	var users, checks sync.WaitGroup
	for i := range count {
		users.Go(func() { newUser(i, i%len(r.c.Nodes)).run(working) })
	}
	checks.Go(func() { r.checkRounds(working, stop) })
	faulty, calm := context.WithTimeout(working, r.duration)
	j.run(faulty, list)
	<-faulty.Done()
	calm()
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
		r.h.complain("service", "the cluster does not serve %s after the last fault: %v", settleMax, err)
		return nil
	}
	all := r.h.all()
	for _, k := range slices.SortedFunc(maps.Keys(all), compareKeys) {
		end := final[k]
		r.check(k, all[k], &end)
	}
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

// verdict prints what was found.
func (r *run) verdict() error {
	r.h.mu.Lock()
	counts, classes, gap := maps.Clone(r.h.mu.counts), maps.Clone(r.h.mu.classes), r.h.mu.gap
	r.h.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		r.say("%8d %s", counts[what], what)
	}
	problems := r.h.problems()
	r.say("%d keys checked, %d too hard to decide; at most %s without an acknowledged write", r.checked.Load(), r.tooLong.Load(), gap.Round(time.Millisecond))
	for _, p := range problems {
		r.say("FAULT: %s", p)
	}
	found := 0
	for _, class := range slices.Sorted(maps.Keys(classes)) {
		r.say("%8d faults of %s", classes[class], class)
		found += classes[class]
	}
	switch {
	case r.stale && len(problems) > 0:
		r.say("the planted fault was found")
		return nil
	case r.stale:
		return errors.New("the planted fault was not found")
	case len(problems) > 0:
		return fmt.Errorf("%d faults found with seed %d", found, r.seed)
	}
	r.say("no fault found")
	return nil
}
