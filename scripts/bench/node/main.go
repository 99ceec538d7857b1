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
	"strings"
	"time"

	"github.com/nearsql/nearsql/scripts/bench/figures"
)

func main() {
	figures.Main("bench-node", func(ctx context.Context, args []string, out io.Writer) error { return run(ctx, args, os.Stdin, out) })
}

// run is the whole program, or, as "worker NAME DIR", "echo" and "populate DIR", a child of it.
func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "worker":
			return serveWorker(args[1:], in, out)
		case "echo":
			return serveEcho(ctx, out)
		case "populate":
			return servePopulated(ctx, args[1:], out)
		}
	}
	b := bench{ctx: ctx, Report: figures.Report{Out: out}, sizes: full}
	flags := flag.NewFlagSet("bench-node", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "short runs, one round of each, fewer tenants")
	flags.StringVar(&b.nearsql, "nearsql", "", "the `PROGRAM` to measure (needed)")
	only := flags.String("only", "", "run only the `PARTS` of this list: engine,log,http,tenants")
	dir := flags.String("dir", "", "put data under `DIR`, on the disk to measure (default: the system's directory for temporary files)")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if b.nearsql == "" || flags.NArg() > 0 {
		return errors.New("usage: bench-node [--quick] [--only PARTS] [--dir DIR]; run it by scripts/bench-node")
	}
	if *quick {
		b.sizes = short
	}
	return b.run(*dir, *only)
}

// sizes is how much is done.
type sizes struct {
	rounds        int // interleaved repeats, of which the median counts
	slices        int // turns within a round
	insertSlice   int // rows in one turn
	syncedSlice   int // rows in one turn of a contender that syncs each
	readSlice     int // reads in one turn
	httpTurn      time.Duration
	insertTurn    time.Duration
	diskTurn      time.Duration
	logEntries    int
	tenants, used int
}

// full takes some minutes, short less than 50 seconds with its builds.
var (
	full = sizes{rounds: 3, slices: 10, insertSlice: 4000, syncedSlice: 200, readSlice: 40000, httpTurn: 3 * time.Second,
		insertTurn: 5 * time.Second, diskTurn: 2 * time.Second, logEntries: 1000, tenants: 10000, used: 1000}
	short = sizes{rounds: 3, slices: 5, insertSlice: 1500, syncedSlice: 30, readSlice: 6000, httpTurn: 700 * time.Millisecond,
		insertTurn: time.Second, diskTurn: 400 * time.Millisecond, logEntries: 1000, tenants: 2000, used: 1000}
)

// bench is one run.
type bench struct {
	ctx context.Context
	figures.Report
	nearsql string
	dir     string // removed at the end
	sizes
}

// run does the parts in turn.
func (b *bench) run(dir, only string) (err error) {
	if b.dir, err = os.MkdirTemp(dir, "nearsql-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	began := time.Now()
	b.Say("%s, %d CPUs, %s/%s, load average %s", runtime.Version(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, figures.LoadAverage())
	parts := []struct {
		name string
		do   func() error
	}{{"engine", b.engine}, {"log", b.logBytes}, {"http", b.http}, {"tenants", b.manyTenants}}
	wanted := strings.Split(only, ",")
	for _, w := range wanted {
		known := only == ""
		for _, p := range parts {
			known = known || p.name == w
		}
		if !known {
			return fmt.Errorf("--only %s: there is no part %q", only, w)
		}
	}
	for _, p := range parts {
		if only != "" && !contains(wanted, p.name) {
			continue
		}
		if err := p.do(); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if err := b.ctx.Err(); err != nil {
			return err
		}
	}
	b.Say("took %s, load average %s", time.Since(began).Round(100*time.Millisecond), figures.LoadAverage())
	return nil
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// subdir makes a directory for one part.
func (b *bench) subdir(name string) (string, error) {
	d := filepath.Join(b.dir, name)
	return d, os.Mkdir(d, 0o700)
}
