package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/nearsql/nearsql/sqlnode"
	"github.com/nearsql/nearsql/tenant"
)

// devDir is where nearsql dev keeps the data of its nodes.
const devDir = "nearsql-dev"

func devCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:  "dev",
		Usage: "Run a whole cluster in this process, its nodes as far apart as real ones",
		Description: "Each PoP is a node with an API of its own. What they send each other takes as long as it would over the distance\n" +
			"between them: PoPs with the code of an airport (fra, iad, nrt, …) are where that is, others near one another.\n" +
			"The first three hold the votes. Data stays in DIR; --fresh removes it first. For development, not for service.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data-dir", Usage: "keep the data of all nodes in `DIR`", Value: devDir, EnvVars: []string{"NEARSQL_DEV_DATA_DIR"}},
			&cli.StringFlag{Name: "pops", Usage: "`LIST` of PoPs, with commas between", Value: "fra,ams,cdg"},
			&cli.IntFlag{Name: "port", Usage: "first `PORT` of the APIs; the others follow it", Value: 7600},
			&cli.DurationFlag{Name: "rtt", Usage: "`TIME` from any node to any other and back, instead of distances", Value: -1},
			&cli.BoolFlag{Name: "fresh", Usage: "remove data of an earlier run first"},
			&cli.BoolFlag{Name: "insecure-no-auth", Usage: "ask for no token"},
			&cli.StringFlag{Name: "log-level", Usage: "least `LEVEL` that is logged: debug, info, warn or error", Value: "error"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 0); err != nil {
				return err
			}
			d, err := newDev(c, s)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM)
			defer stop()
			return d.run(ctx)
		},
	}
}

// dev is a cluster in this process.
type dev struct {
	s     stdio
	dir   string
	nodes []*devNode
	port  int           // of the first API
	rtt   time.Duration // negative for distances
}

// devClusterPorts is how far the ports between nodes are above those of the APIs.
const devClusterPorts = 100

type devNode struct {
	pop     string
	cluster net.Listener
	cfg     sqlnode.Config
}

func newDev(c *cli.Context, s stdio) (*dev, error) {
	d := &dev{s: s, dir: c.String("data-dir"), rtt: c.Duration("rtt"), port: c.Int("port")}
	pops := strings.Split(c.String("pops"), ",")
	if len(pops) > 32 {
		return nil, usagef("--pops: %d are too many for one process; at most 32", len(pops))
	}
	if c.Bool("fresh") {
		if err := removeDev(d.dir); err != nil {
			return nil, err
		}
	}
	log, err := newLog(s.err, "text", c.String("log-level"))
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for i, pop := range pops {
		if err := tenant.CheckLabel(pop); err != nil {
			return nil, usagef("--pops: %v", err)
		}
		if seen[pop] {
			return nil, usagef("--pops: %s is named twice", pop)
		}
		seen[pop] = true
		cfg := sqlnode.DefaultConfig()
		cfg.DataDir, cfg.NodeID, cfg.PoP = filepath.Join(d.dir, pop), pop, pop
		cfg.Listen = fmt.Sprintf("127.0.0.1:%d", c.Int("port")+i)
		cfg.PublicURL = "http://" + cfg.Listen
		cfg.InsecureNoAuth = c.Bool("insecure-no-auth")
		cfg.MemoryPages, cfg.MemoryVersions = 256<<20, 128<<20
		cfg.Log = log.With("pop", pop)
		d.nodes = append(d.nodes, &devNode{pop: pop, cfg: cfg})
	}
	return d, d.connect()
}

// removeDev removes the data of an earlier run, and nothing that is not that.
func removeDev(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		sub := filepath.Join(dir, e.Name())
		if _, err := os.Stat(filepath.Join(sub, sqlnode.IdentityFile)); err != nil {
			return fmt.Errorf("--fresh: %s is not the data of a node; remove it by hand", sub)
		}
	}
	return os.RemoveAll(dir)
}

// connect opens the listeners between nodes, and puts the distances between them.
func (d *dev) connect() error {
	at := map[string]string{} // PoPs by address
	for i, n := range d.nodes {
		// Nodes remember where the others are, so the ports are the same in each run.
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", d.port+devClusterPorts+i))
		if err != nil {
			return err
		}
		n.cluster, n.cfg.ClusterListener = l, l
		at[l.Addr().String()] = n.pop
	}
	longest := time.Duration(0)
	for _, n := range d.nodes {
		n.cfg.ClusterDialer = farDialer(func(addr string) time.Duration { return d.distance(n.pop, at[addr]) / 2 })
		for _, o := range d.nodes[:min(3, len(d.nodes))] {
			longest = max(longest, d.distance(n.pop, o.pop))
		}
	}
	for _, n := range d.nodes {
		n.cfg.HeartbeatTimeout = max(n.cfg.HeartbeatTimeout, 5*longest)
	}
	return nil
}

// distance is the round trip between two PoPs.
func (d *dev) distance(a, b string) time.Duration {
	if a == b {
		return 0
	}
	if d.rtt >= 0 {
		return d.rtt
	}
	pa, aok := places[a]
	pb, bok := places[b]
	if !aok || !bok {
		return time.Millisecond
	}
	return roundTrip(pa, pb)
}

// run runs the nodes until ctx ends.
func (d *dev) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	for i, n := range d.nodes {
		_, err := os.Stat(filepath.Join(n.cfg.DataDir, sqlnode.IdentityFile))
		if i > 0 && err != nil {
			if err := sqlnode.Join(ctx, n.cfg, []string{d.nodes[0].cluster.Addr().String()}); err != nil {
				return fmt.Errorf("PoP %s: %w", n.pop, err)
			}
		}
		node, err := sqlnode.New(n.cfg)
		if err != nil {
			return fmt.Errorf("PoP %s: %w", n.pop, err)
		}
		up := make(chan struct{})
		wg.Go(func() {
			if err := node.Run(ctx, func(net.Addr) { close(up) }); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("PoP %s: %w", n.pop, err))
			}
		})
		select {
		case <-up:
		case <-ctx.Done():
			return endOf(ctx)
		}
	}
	if err := d.introduce(); err != nil {
		return err
	}
	<-ctx.Done()
	return endOf(ctx)
}

// endOf is why ctx ended; nil for a signal.
func endOf(ctx context.Context) error {
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// introduce says where the nodes are, and how far apart.
func (d *dev) introduce() error {
	w := tabwriter.NewWriter(d.s.out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "POP\tURL")
	for _, n := range d.nodes {
		fmt.Fprintf(w, "\t%s", n.pop)
	}
	fmt.Fprintln(w)
	for _, n := range d.nodes {
		fmt.Fprintf(w, "%s\t%s", n.pop, n.cfg.PublicURL)
		for _, o := range d.nodes {
			fmt.Fprintf(w, "\t%d ms", d.distance(n.pop, o.pop).Milliseconds())
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	first := d.nodes[0]
	_, err := fmt.Fprintf(d.s.out, "\nThe root key is in %s. Try, in another terminal:\n  nearsql tenant create acme --data-dir %s --url %s\n  nearsql sql acme --data-dir %s --url %s\n",
		filepath.Join(first.cfg.DataDir, sqlnode.RootKeyFile), first.cfg.DataDir, first.cfg.PublicURL, first.cfg.DataDir, d.nodes[len(d.nodes)-1].cfg.PublicURL)
	return err
}
