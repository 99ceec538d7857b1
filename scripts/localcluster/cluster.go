package localcluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nearsql/nearsql/sqlnode/certs"
)

// Options of a Cluster.
type Options struct {
	Binary string   // nearsql
	Dir    string   // keeps data, certificates and logs; made if it is not there
	Nodes  int      // one is a node without a cluster listener
	Spares int      // more nodes, which Start does not start
	Plain  bool     // no TLS between nodes
	Links  bool     // nodes reach each other through Cluster.Links
	Args   []string // more flags of serve
}

// votersMax is how many voters the default group has at most.
const votersMax = 3

// Cluster is nodes on this machine.
type Cluster struct {
	Nodes []*Node // in the order of their ids; n1 is the one that makes the cluster
	Links *Links  // nil unless Options.Links

	opts   Options
	dir    string // absolute
	stop   context.CancelFunc
	relays sync.WaitGroup
	failed chan error // of relays
}

// New makes certificates and chooses ports. It starts no node; Close must be called.
func New(o Options) (_ *Cluster, err error) {
	if o.Nodes < 1 || o.Nodes+o.Spares > 20 {
		return nil, fmt.Errorf("a cluster of %d nodes and %d spare ones: want 1 to 20", o.Nodes, o.Spares)
	}
	total := o.Nodes + o.Spares
	c := &Cluster{opts: o, failed: make(chan error, total)}
	if c.dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, err
	}
	if c.opts.Binary, err = filepath.Abs(o.Binary); err != nil {
		return nil, err
	}
	certDir := filepath.Join(c.dir, "certs")
	if err := os.MkdirAll(certDir, 0o700); err != nil {
		return nil, err
	}
	if err := certs.NewAuthority(certDir, time.Now()); err != nil {
		return nil, err
	}
	ports, err := FreePorts(3 * total)
	if err != nil {
		return nil, err
	}
	for i := range total {
		id := fmt.Sprintf("n%d", i+1)
		if err := certs.NewNode(certDir, id, time.Now()); err != nil {
			return nil, err
		}
		n := &Node{ID: id, Addr: ports[3*i], cluster: ports[3*i+1], Dir: filepath.Join(c.dir, id)}
		n.advertise = n.cluster
		if o.Links {
			n.advertise = ports[3*i+2]
		}
		c.Nodes = append(c.Nodes, n)
	}
	for i, n := range c.Nodes {
		n.Process = NewProcess(filepath.Join(c.dir, n.ID+".log"), c.argv(i)...)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel
	if o.Links {
		if err := c.runLinks(ctx); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

// argv is the command of a node.
func (c *Cluster) argv(i int) []string {
	n := c.Nodes[i]
	argv := []string{c.opts.Binary, "serve", "--data-dir", n.Dir, "--listen", n.Addr, "--node-id", n.ID, "--pop", "pop" + n.ID[1:]}
	if c.opts.Nodes > 1 {
		argv = append(argv, "--cluster-listen", n.cluster, "--cluster-advertise", n.advertise)
		if c.opts.Plain {
			argv = append(argv, "--insecure-plain-cluster")
		} else {
			cert := func(name string) string { return filepath.Join(c.dir, "certs", name) }
			argv = append(argv, "--cluster-ca", cert(certs.AuthorityCert), "--cluster-cert", cert(n.ID+".crt"), "--cluster-key", cert(n.ID+".key"))
		}
		if i > 0 { // the first makes the cluster
			for _, n := range c.Nodes[:min(i, votersMax)] { // one of them may be gone
				argv = append(argv, "--join", n.advertise)
			}
		}
	}
	return append(argv, c.opts.Args...)
}

// runLinks starts a relay before each node.
func (c *Cluster) runLinks(ctx context.Context) error {
	c.Links = newLinks(c.dialledBy)
	for _, n := range c.Nodes {
		l, err := net.Listen("tcp", n.advertise)
		if err != nil {
			return err
		}
		c.relays.Go(func() {
			if err := c.Links.relay(ctx, l, n.ID, n.cluster); err != nil {
				c.failed <- fmt.Errorf("link to %s: %w", n.ID, err)
			}
		})
	}
	return nil
}

// dialledBy says which node dialled from an address to another.
func (c *Cluster) dialledBy(from, to netip.AddrPort) string {
	var pids []int
	for _, n := range c.Nodes {
		pids = append(pids, n.Pid()) // 0 is no process's
	}
	pid, err := dialler(from, to, pids)
	if err != nil {
		return ""
	}
	return c.Nodes[slices.Index(pids, pid)].ID
}

// Start starts all nodes but the spare ones, and waits until the default group has as many voters as it should.
func (c *Cluster) Start(ctx context.Context) error {
	for _, n := range c.Nodes[:c.opts.Nodes] {
		if err := n.Start(ctx); err != nil {
			return fmt.Errorf("node %s: %w", n.ID, err)
		}
	}
	if c.opts.Nodes == 1 {
		return nil
	}
	want := min(votersMax, c.opts.Nodes)
	return c.Await(ctx, func() error {
		g, err := c.DefaultGroup(ctx)
		if err != nil {
			return err
		}
		if len(g.Voters) < want || g.Primary == "" {
			return fmt.Errorf("group %s has voters %v and primary %q, want %d voters", g.Name, g.Voters, g.Primary, want)
		}
		return nil
	})
}

// Await asks again and again until ok has no objection or ctx ends; then the last objection is the error.
func (c *Cluster) Await(ctx context.Context, ok func() error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w; %w", err, context.Cause(ctx))
		case failed := <-c.failed:
			return failed
		}
	}
}

// Close kills all nodes and ends the links.
func (c *Cluster) Close() error {
	for _, n := range c.Nodes {
		n.Kill()
	}
	c.stop()
	c.relays.Wait()
	select {
	case err := <-c.failed:
		return err
	default:
		return nil
	}
}

// Stop stops all nodes in order, together, and ends the links.
func (c *Cluster) Stop() error {
	errs := make([]error, len(c.Nodes))
	var all sync.WaitGroup
	for i, n := range c.Nodes {
		all.Go(func() {
			if err := n.Stop(); err != nil {
				errs[i] = fmt.Errorf("node %s: %w", n.ID, err)
			}
		})
	}
	all.Wait()
	return errors.Join(append(errs, c.Close())...)
}
