package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/cluster/clustertest"
	"github.com/nearsql/nearsql/sqlnode"
	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/wire"
)

// node is one node of this process.
type node struct {
	*sqlnode.Node
	id     string
	client *client.Client
	stop   context.CancelFunc
	ended  chan error
}

// nodes are a cluster whose nodes are all sites.
type nodes struct {
	net  *clustertest.Network
	dir  string
	list []*node
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
	cfg.HeartbeatTimeout = 2 * time.Second // elections are not what is measured
	cfg.ClusterListener, cfg.ClusterAdvertise = l, id+":1"
	cfg.ClusterDialer = func(ctx context.Context, addr string) (net.Conn, error) {
		return at.Dial(ctx, strings.TrimSuffix(addr, ":1"))
	}
	cfg.Log = slog.New(slog.DiscardHandler)
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
	return await(ctx, func() error { return n.client.Ready(ctx) })
}

// spread puts all nodes as far from each other as delay, one way.
func (c *nodes) spread(delay time.Duration) {
	for i, n := range c.list {
		for _, o := range c.list[i+1:] {
			c.net.SetDelayBoth(n.id, o.id, delay)
		}
	}
}

// exchanged is how many bytes all nodes have sent of conflict-free tables.
func (c *nodes) exchanged() (n int64) {
	for _, from := range c.list {
		for _, to := range c.list {
			if from != to {
				n += c.net.Sent(from.id, to.id, cluster.PurposeExchange)
			}
		}
	}
	return n
}

// close stops all nodes.
func (c *nodes) close() (all error) {
	for _, n := range c.list {
		n.stop()
	}
	for _, n := range c.list {
		if err := <-n.ended; err != nil && !errors.Is(err, context.Canceled) {
			all = errors.Join(all, fmt.Errorf("node %s: %w", n.id, err))
		}
	}
	return all
}

// exec runs statements as one transaction of the node's own site, or a read of its own copy.
func (n *node) exec(ctx context.Context, tenant string, sink wire.Sink, statements ...wire.Statement) error {
	_, err := n.Execute(ctx, tenant, &wire.Request{Statements: statements, MaxStaleness: wire.AnyStaleness}, sink)
	return err
}

// one reads one integer of the node's own copy; 0 when there is no row.
func (n *node) one(ctx context.Context, tenant, sql string, args ...wire.Value) (int64, error) {
	var v integer
	err := n.exec(ctx, tenant, &v, wire.Statement{SQL: sql, Args: args})
	return int64(v), err
}

// integer is a wire.Sink that keeps the first column of the last row.
type integer int64

// Begin implements wire.Sink.
func (*integer) Begin(int, []wire.Column) error { return nil }

// Row implements wire.Sink.
func (v *integer) Row(row []wire.Value) error {
	if len(row) > 0 && row[0].Kind() == wire.KindInteger {
		*v = integer(row[0].Int())
	}
	return nil
}

// End implements wire.Sink.
func (*integer) End(wire.Summary) error { return nil }

// await waits until f has no error.
func await(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
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
