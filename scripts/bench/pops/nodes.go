package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/cluster/clustertest"
	"github.com/nearsql/nearsql/sqlnode"
	"github.com/nearsql/nearsql/sqlnode/client"
)

// node is one node of this process.
type node struct {
	*sqlnode.Node
	id     string
	client *client.Client
	stop   context.CancelFunc
	ended  chan error
}

// nodes are a cluster: the first three vote.
type nodes struct {
	net  *clustertest.Network
	dir  string
	log  *slog.Logger
	list []*node
}

// voters is how many nodes vote.
const voters = 3

func newCluster(dir string, verbose bool) *nodes {
	c := &nodes{net: clustertest.New(clustertest.Options{}), dir: dir, log: slog.New(slog.DiscardHandler)}
	if verbose {
		c.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	return c
}

// start adds a node, which joins those that are there.
func (c *nodes) start(ctx context.Context) (err error) {
	id := fmt.Sprintf("n%d", len(c.list)+1)
	at := c.net.Node(id)
	l, err := at.Listen()
	if err != nil {
		return err
	}
	cfg := sqlnode.DefaultConfig()
	cfg.DataDir, cfg.Listen, cfg.MinFreeSpace = filepath.Join(c.dir, id), "", -1
	cfg.NodeID, cfg.PoP, cfg.ShutdownGrace = id, "pop-"+id, time.Second
	cfg.MemoryVersions, cfg.HeartbeatTimeout = 64<<20, 2*time.Second // many nodes share two or more cores: elections are not what is measured
	cfg.OpenTenants, cfg.IdleClose = 16, 5*time.Second               // all nodes share one process's files
	cfg.ClusterListener, cfg.ClusterAdvertise = l, id+":1"
	cfg.ClusterDialer = func(ctx context.Context, addr string) (net.Conn, error) {
		return at.Dial(ctx, strings.TrimSuffix(addr, ":1"))
	}
	cfg.Log = c.log.With("on", id)
	if len(c.list) > 0 {
		if err := sqlnode.Join(ctx, cfg, []string{"n1:1"}); err != nil {
			return errors.Join(fmt.Errorf("node %s: %w", id, err), l.Close())
		}
	}
	n := &node{id: id, ended: make(chan error, 1)}
	if n.Node, err = sqlnode.New(cfg); err != nil {
		return errors.Join(fmt.Errorf("node %s: %w", id, err), l.Close())
	}
	if n.client, err = n.Client(); err != nil {
		return err
	}
	var running context.Context
	running, n.stop = context.WithCancel(context.WithoutCancel(ctx))
	c.list = append(c.list, n)
	go func() { n.ended <- n.Run(running, nil) }()
	return nil
}

// ready waits until all nodes take requests.
func (c *nodes) ready(ctx context.Context) error {
	for _, n := range c.list {
		if err := await(ctx, func() error { return n.client.Ready(ctx) }); err != nil {
			return fmt.Errorf("node %s: %w", n.id, err)
		}
	}
	return nil
}

// grow starts nodes until there are that many followers. They are near until spread is called.
func (c *nodes) grow(ctx context.Context, followers int) error {
	for len(c.list) < voters+followers {
		if err := c.start(ctx); err != nil {
			return err
		}
		if len(c.list) <= voters { // the first makes the cluster
			if err := c.ready(ctx); err != nil {
				return err
			}
		}
	}
	return c.ready(ctx)
}

// spread puts each follower as far from all other nodes as delay, one way.
func (c *nodes) spread(delay time.Duration) {
	for i, n := range c.list {
		for _, o := range c.list[max(voters, i+1):] {
			c.net.SetDelayBoth(n.id, o.id, delay)
		}
	}
}

// form starts the voters, and waits until they are.
func (c *nodes) form(ctx context.Context) error {
	if err := c.grow(ctx, 0); err != nil {
		return err
	}
	return await(ctx, func() error {
		g, err := c.list[0].client.Group(ctx, "default")
		if err == nil && len(g.Voters) < voters {
			err = fmt.Errorf("the group has %d voters", len(g.Voters))
		}
		return err
	})
}

// primary is the node that leads the tenants' group.
func (c *nodes) primary(ctx context.Context) (p *node, err error) {
	err = await(ctx, func() error {
		g, err := c.list[0].client.Group(ctx, "default")
		if err != nil {
			return err
		}
		for _, n := range c.list {
			if n.id == g.Primary {
				p = n
				return nil
			}
		}
		return errors.New("no primary")
	})
	return p, err
}

// followers are the nodes that don't vote.
func (c *nodes) followers() []*node { return c.list[min(voters, len(c.list)):] }

// streamed is how many bytes of transactions the voters have sent to followers, and how many all nodes have.
func (c *nodes) streamed() (byVoters, byAll int64) {
	for i, from := range c.list {
		for _, to := range c.followers() {
			n := c.net.Sent(from.id, to.id, cluster.PurposeStream)
			byAll += n
			if i < voters {
				byVoters += n
			}
		}
	}
	return byVoters, byAll
}

// close stops all nodes, those that follow first.
func (c *nodes) close() error {
	var all error
	for i := len(c.list) - 1; i >= 0; i-- {
		n := c.list[i]
		n.stop()
		if i >= voters {
			continue
		}
		all = errors.Join(all, n.wait())
	}
	for _, n := range c.followers() {
		all = errors.Join(all, n.wait())
	}
	return all
}

func (n *node) wait() error {
	if err := <-n.ended; err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("node %s: %w", n.id, err)
	}
	return nil
}

// await waits until f has no error.
func await(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
