package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"time"

	"github.com/nearsql/nearsql/scripts/bench/figures"
)

func main() { figures.Main("bench-pops", run) }

// plan is how much is measured.
type plan struct {
	tenants int
	stages  []int         // numbers of followers, rising
	rate    int           // transactions a second
	slice   time.Duration // of load, and of rest before it
	reads   time.Duration // of each slice of reads
	profile string        // file for the CPU profile of the load of the last stage; "" for none
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("bench-pops", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "fewer tenants, shorter times")
	p := plan{stages: []int{0, 5, 20, 50}}
	flags.IntVar(&p.tenants, "tenants", 200, "tenants, all with replicas on all nodes")
	flags.IntVar(&p.rate, "rate", 100, "transactions a second")
	flags.DurationVar(&p.slice, "slice", 10*time.Second, "how long each number of followers is measured at rest, and under load")
	flags.StringVar(&p.profile, "profile", "", "`FILE` for a CPU profile of the load with the most followers")
	verbose := flags.Bool("v", false, "the nodes' warnings on standard error")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	p.reads = time.Second
	if *quick {
		p.tenants, p.slice, p.reads = min(p.tenants, 20), 1500*time.Millisecond, 200*time.Millisecond
	}
	dir, err := os.MkdirTemp(memoryDir(), "nearsql-pops-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	c := newCluster(dir, *verbose)
	defer func() { err = errors.Join(err, c.close()) }()
	return measure(ctx, c, p, out)
}

// memoryDir is where files are in memory; "" if there is no such place.
func memoryDir() string {
	const dir = "/dev/shm"
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return dir
	}
	return ""
}
