package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/nearsql/nearsql/scripts/bench/figures"
	"github.com/nearsql/nearsql/scripts/localcluster"
)

func main() { figures.Main("bench-rqlite", run) }

// sizes is how much is done.
type sizes struct {
	rounds    int           // interleaved repeats, of which the median counts
	slices    int           // turns within a round
	turn      time.Duration // of each contender
	slowRead  time.Duration // how long the slow read should take
	visible   int           // writes that are looked for at another voter
	bytesRows int           // inserts of which the bytes are counted
	gapRounds int           // deaths of each kind
	gapBefore time.Duration // of writes before a death
	gapAfter  time.Duration // of writes after the first acknowledged one
	tenants   int           // of the run over distance
	writers   int
	delayTurn time.Duration
	delayRuns int
}

// full takes some minutes, short less than 50 seconds with warm builds.
var (
	full = sizes{rounds: 3, slices: 4, turn: 750 * time.Millisecond, slowRead: 5 * time.Second, visible: 500, bytesRows: 1000, gapRounds: 3,
		gapBefore: time.Second, gapAfter: 2 * time.Second, tenants: 50, writers: 2000, delayTurn: 5 * time.Second, delayRuns: 3}
	short = sizes{rounds: 3, slices: 1, turn: 150 * time.Millisecond, slowRead: 1500 * time.Millisecond, visible: 25, bytesRows: 300, gapRounds: 1,
		gapBefore: 300 * time.Millisecond, gapAfter: 300 * time.Millisecond, tenants: 50, writers: 2000, delayTurn: 1500 * time.Millisecond, delayRuns: 1}
)

// bench is one run.
type bench struct {
	ctx context.Context
	figures.Report
	nearsqlBin, rqliteBin, benchBin string
	dir                             string // removed at the end
	nodes                           int
	sizes

	ours   *nearsql
	theirs *rqlite
}

// startMax bounds how long a cluster may take until it is whole.
const startMax = time.Minute

func run(ctx context.Context, args []string, out io.Writer) error {
	b := &bench{ctx: ctx, Report: figures.Report{Out: out}, sizes: full}
	flags := flag.NewFlagSet("bench-rqlite", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "short runs, fewer deaths")
	flags.StringVar(&b.nearsqlBin, "nearsql", "", "the `PROGRAM` to measure (needed)")
	flags.StringVar(&b.rqliteBin, "rqlited", "", "the `PROGRAM` to compare it with (needed)")
	flags.StringVar(&b.benchBin, "bench-node", "", "the `PROGRAM` of scripts/bench/node, which has the echo (needed)")
	flags.IntVar(&b.nodes, "nodes", 3, "nodes of each cluster; with 1 only the parts speed and slow are run")
	only := flags.String("only", "", "run only the `PARTS` of this list: speed,slow,visible,bytes,gap,delay")
	dir := flags.String("dir", "", "put data under `DIR`, on the disk to measure (default: the system's directory for temporary files)")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if b.nearsqlBin == "" || b.rqliteBin == "" || b.benchBin == "" || flags.NArg() > 0 {
		return errors.New("usage: bench-rqlite [--quick] [--only PARTS] [--nodes N] [--dir DIR]; run it by scripts/bench-rqlite")
	}
	if *quick {
		b.sizes = short
	}
	return b.run(*dir, *only)
}

// part is one thing that is measured.
type part struct {
	name    string
	do      func() error
	cluster bool // needs several nodes
}

func (b *bench) parts(only string) ([]part, error) {
	all := []part{{"speed", b.speed, false}, {"slow", b.slow, false}, {"visible", b.visibility, true}, {"bytes", b.streamBytes, true},
		{"gap", b.gaps, true}, {"delay", b.distance, true}}
	named := func(name string) func(part) bool { return func(p part) bool { return p.name == name } }
	var wanted []part
	if only == "" {
		return slices.DeleteFunc(all, func(p part) bool { return p.cluster && b.nodes == 1 }), nil
	}
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(all, named(name))
		if i < 0 {
			return nil, fmt.Errorf("--only %s: there is no part %q", only, name)
		}
		wanted = append(wanted, all[i])
	}
	return wanted, nil
}

// run does the parts in turn.
func (b *bench) run(dir, only string) (err error) {
	parts, err := b.parts(only)
	if err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(dir, "nearsql-bench-"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			b.Say("data and logs are kept in %s", b.dir)
			return
		}
		err = os.RemoveAll(b.dir)
	}()
	began := time.Now()
	b.Say("%s, %d CPUs, %s/%s, load average %s", runtime.Version(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, figures.LoadAverage())
	b.Say("%d nodes of each, one machine and disk, plain connections between nodes; nearsql: TLS off between nodes, else its defaults; rqlite v8: its defaults", b.nodes)
	if err := b.startBoth(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.ours.stop(), b.theirs.stop()) }()
	b.Say("both clusters run, tables made, after %s", time.Since(began).Round(100*time.Millisecond))
	var failed []error
	for _, p := range parts { // one that fails does not take the figures of the others along
		if err := p.do(); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", p.name, err))
		}
		if err := b.ctx.Err(); err != nil {
			return err
		}
	}
	b.Say("took %s, load average %s", time.Since(began).Round(100*time.Millisecond), figures.LoadAverage())
	return errors.Join(failed...)
}

func (b *bench) startBoth() (err error) {
	ctx, cancel := context.WithTimeout(b.ctx, startMax)
	defer cancel()
	o := localcluster.Options{Binary: b.nearsqlBin, Dir: filepath.Join(b.dir, "nearsql"), Nodes: b.nodes, Plain: true, Args: []string{"--log-level", "warn"}}
	if b.ours, err = startNearsql(ctx, o, "bench"); err != nil {
		return err
	}
	if b.theirs, err = startRqlite(ctx, b.rqliteBin, filepath.Join(b.dir, "rqlite"), b.nodes); err != nil {
		return errors.Join(err, b.ours.stop())
	}
	for _, s := range b.systems() {
		if err := prepare(ctx, s); err != nil {
			return errors.Join(err, b.ours.stop(), b.theirs.stop())
		}
	}
	return nil
}

func (b *bench) systems() []system { return []system{b.ours, b.theirs} }
