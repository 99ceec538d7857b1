package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench-crr:", err)
		os.Exit(1)
	}
}

// plan is how much is measured.
type plan struct {
	dir      string // on the disk to measure, for what syncs
	memory   string // for the rest, in memory where the system has such
	crsqlite string // where the npm package is installed; "" for none
	profile  string // file for a CPU profile; "" for none

	fsyncs  int           // transactions of each side and verb in a round
	rows    int           // of a slice of a bulk write
	slices  int           // of a bulk write, of each side and verb, in a round
	merged  int           // rows of a batch that is merged
	writes  int           // that are looked for at another site
	counted time.Duration // how long a hot counter is counted up
}

// rounds are what medians are taken of.
const rounds = 3

func (p *plan) parse(args []string) (parts map[string]bool, err error) {
	flags := flag.NewFlagSet("bench-crr", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "under 50 seconds")
	flags.StringVar(&p.dir, "dir", "", "data under `DIR`, on the disk to measure; default: that of temporary files")
	flags.StringVar(&p.crsqlite, "crsqlite", "", "`DIR` in which @vlcn.io/crsqlite-wasm is installed")
	flags.StringVar(&p.profile, "profile", "", "`FILE` for a CPU profile")
	only := flags.String("only", "local,merge,nodes", "parts to run")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	p.fsyncs, p.rows, p.slices, p.merged, p.writes, p.counted = 1000, 10_000, 20, 33_000, 1000, 10*time.Second
	if *quick {
		p.fsyncs, p.slices, p.merged, p.writes, p.counted = 200, 16, 12_000, 300, 2*time.Second
	}
	parts = make(map[string]bool)
	for _, s := range strings.Split(*only, ",") {
		parts[s] = true
	}
	return parts, nil
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	var p plan
	parts, err := p.parse(args)
	if err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	for dir, parent := range map[*string]string{&p.dir: p.dir, &p.memory: memoryDir()} {
		if *dir, err = os.MkdirTemp(parent, "nearsql-bench-crr-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(*dir)) }()
	}
	stop, err := profile(p.profile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	b := &bench{plan: p, out: out}
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{{"local", b.local}, {"merge", b.merge}, {"nodes", b.nodes}} {
		if !parts[part.name] {
			continue
		}
		if err := part.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// bench is one run.
type bench struct {
	plan
	out   io.Writer
	files int // made
}

// path names a new file below dir.
func (b *bench) path(dir string) string {
	b.files++
	return filepath.Join(dir, fmt.Sprintf("f%d", b.files))
}

// memoryDir is where files are in memory; "" if there is no such place.
func memoryDir() string {
	const dir = "/dev/shm"
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return dir
	}
	return ""
}
