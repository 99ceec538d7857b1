package sqlnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/sqlnode/catalogue"
	"github.com/nearsql/nearsql/sqlnode/peers"
)

// OutgoingOnly is a Config.ClusterListener for a node that listens nowhere: it opens all its connections itself, and other nodes
// use those to reach it. It is for a node inside another program, with Config.Listen "" too. Such a node keeps copies and
// answers from them like others; it does not vote and feeds nobody. Each node needs one of its own.
func OutgoingOnly() net.Listener {
	o := &outward{conns: make(chan net.Conn)}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	return o
}

// outward gives out, as a listener does, the lines that other nodes have begun.
type outward struct {
	conns  chan net.Conn
	ctx    context.Context
	cancel context.CancelFunc
	net    *cluster.Net // constant after begin, as peers and log
	peers  *peers.Peers
	log    *slog.Logger

	lines sync.WaitGroup // of Accept
	once  sync.Once
}

// Times of lines, from the end that opens them.
const (
	outwardEvery = time.Second
	outwardRetry = 15 * time.Second // at most, after one that failed
	// outwardLines is how many wait at each node, so that the next is there when one is used.
	outwardLines = 2
	// outwardNodes is to how many nodes there are lines.
	outwardNodes = 256
)

// begin says by which network lines are opened. It is called before the first Accept.
func (o *outward) begin(n *cluster.Net, p *peers.Peers, log *slog.Logger) {
	o.net, o.peers, o.log = n, p, log
}

// Accept implements net.Listener.
func (o *outward) Accept() (net.Conn, error) {
	o.once.Do(func() { o.lines.Go(o.keepLines) })
	select {
	case c := <-o.conns:
		return c, nil
	case <-o.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. It returns when nothing is dialled any more.
func (o *outward) Close() error {
	o.cancel()
	o.once.Do(func() {}) // nothing begins any more
	o.lines.Wait()
	return nil
}

// Addr implements net.Listener.
func (o *outward) Addr() net.Addr { return outwardAddress{} }

type outwardAddress struct{}

func (outwardAddress) Network() string { return "outward" }
func (outwardAddress) String() string  { return catalogue.OutgoingOnly }

// keepLines keeps lines to all nodes that listen.
func (o *outward) keepLines() {
	tick := time.NewTicker(outwardEvery)
	defer tick.Stop()
	to := map[string]context.CancelFunc{}
	defer func() {
		for _, stop := range to {
			stop()
		}
	}()
	for {
		all := o.peers.All()
		for node, stop := range to {
			if _, ok := all[node]; !ok {
				stop()
				delete(to, node)
			}
		}
		for node, addr := range all {
			if to[node] != nil || addr == catalogue.OutgoingOnly || node == o.net.Node() || len(to) >= outwardNodes {
				continue
			}
			ctx, stop := context.WithCancel(o.ctx)
			to[node] = stop
			for range outwardLines {
				o.lines.Go(func() { o.keepLine(ctx, node) })
			}
		}
		select {
		case <-o.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// keepLine keeps one line to a node, and another when that is in use.
func (o *outward) keepLine(ctx context.Context, node string) {
	wait := outwardEvery / 4
	for ctx.Err() == nil {
		err := o.line(ctx, node)
		if err == nil {
			wait = outwardEvery / 4
			continue
		}
		if ctx.Err() == nil {
			o.log.Debug("line to another node", "node", node, "error", err)
		}
		pause(ctx, wait/2+rand.N(wait))
		wait = min(2*wait, outwardRetry)
	}
}

// line opens a line, and returns nil when it was used.
func (o *outward) line(ctx context.Context, node string) error {
	c, err := o.net.Dial(ctx, node, cluster.PurposeLine, 0)
	if err != nil {
		return err
	}
	if err := o.wait(ctx, c); err != nil {
		return errors.Join(err, c.Close())
	}
	select {
	case o.conns <- c:
		return nil
	case <-ctx.Done():
		return errors.Join(ctx.Err(), c.Close())
	}
}

// wait answers until the line begins.
func (o *outward) wait(ctx context.Context, c net.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var b [1]byte
	for {
		if err := c.SetDeadline(time.Now().Add(lineDead)); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := c.Read(b[:]); err != nil {
			return err
		}
		if b[0] != lineAlive && b[0] != lineBegin {
			return fmt.Errorf("byte %d on a line that waits", b[0])
		}
		if _, err := c.Write(b[:]); err != nil {
			return err
		}
		if b[0] == lineBegin {
			if !stop() {
				return ctx.Err()
			}
			return c.SetDeadline(time.Time{})
		}
	}
}
