package sqlnode

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/sqlnode/certs"
	"github.com/nearsql/nearsql/sqlnode/peers"
	"github.com/nearsql/nearsql/wire"
)

// errRemoved is what a node that was removed from the cluster hears.
var errRemoved = errors.New("this node was removed from the cluster: its data directory can't come back; join as a new node")

// openNetwork listens for other nodes, or lets them come by the lines that this node opens to them.
func openNetwork(cfg *Config, id identity, peers *peers.Peers) (*cluster.Net, error) {
	cid, err := id.clusterID()
	if err != nil {
		return nil, err
	}
	c := cluster.Config{
		ClusterID: cid, Node: id.Node, Listener: cfg.ClusterListener, Dialer: cfg.ClusterDialer, Resolve: peers.Resolve, Log: cfg.Log,
		Admit: func(from string) error {
			if peers.Removed(from) {
				return errRemoved
			}
			return nil
		},
	}
	if c.Dialer == nil {
		c.Dialer = dialTCP
	}
	if files := clusterFiles(cfg); files.CA != "" {
		if c.ServerTLS, err = files.Server(); err != nil {
			return nil, fmt.Errorf("TLS between nodes: %w", err)
		}
		c.ClientTLS, c.PeerNode = files.Client, certs.PeerNode
	}
	if c.Listener == nil {
		if c.Listener, err = net.Listen("tcp", cfg.ClusterListen); err != nil {
			return nil, fmt.Errorf("listen for other nodes: %w", err)
		}
	}
	back := newBackLines()
	c.Resolve, c.Dialer = back.resolve(c.Resolve), back.dialer(c.Dialer)
	n, err := cluster.New(c)
	if err == nil {
		err = n.Handle(cluster.PurposeLine, back.serve)
	}
	if err != nil {
		c.Listener.Close()
		return nil, err
	}
	if out, ok := c.Listener.(*outward); ok {
		out.begin(n, peers, cfg.Log)
	}
	return n, nil
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAlive: 15 * time.Second}
	return d.DialContext(ctx, "tcp", addr)
}

func clusterFiles(cfg *Config) certs.Files {
	return certs.Files{CA: cfg.ClusterCA, Cert: cfg.ClusterCert, Key: cfg.ClusterKey}
}

// overCluster is a leader.Network over the cluster's connections. The purposes have the same numbers in both.
type overCluster struct {
	net     *cluster.Net
	refused func(*cluster.RefusedError) // is told when a node did not take a connection
}

// Dial implements leader.Network.
func (o overCluster) Dial(ctx context.Context, to leader.NodeID, group wire.GroupID, p leader.Purpose) (net.Conn, error) {
	c, err := o.net.Dial(ctx, string(to), cluster.Purpose(p), group)
	var refused *cluster.RefusedError
	if errors.As(err, &refused) {
		o.refused(refused)
	}
	return c, err
}

// Listen implements leader.Network.
func (o overCluster) Listen(group wire.GroupID, p leader.Purpose) (net.Listener, error) {
	return o.net.HandleGroup(cluster.Purpose(p), group)
}

// exile knows which members said that this node was removed.
type exile struct {
	sync.Mutex
	by   map[string]struct{}
	stop func(error) // ends the node; nil before Run
}

// refusedBy is told of each connection that another node did not take. What all can't be wrong about ends this
// node: that it was removed.
func (n *Node) refusedBy(e *cluster.RefusedError) {
	if e.Code != cluster.CodeNotAdmitted || e.Text != errRemoved.Error() {
		return
	}
	n.exile.Lock()
	defer n.exile.Unlock()
	if _, said := n.exile.by[e.Node]; said {
		return
	}
	if n.exile.by == nil {
		n.exile.by = map[string]struct{}{}
	}
	n.exile.by[e.Node] = struct{}{}
	n.log.Error("a member does not take this node any more", "member", e.Node, "error", errRemoved)
	n.setReady(false, errRemoved)
	if n.exile.stop != nil && len(n.exile.by) > len(n.peers.All())/2 {
		n.exile.stop(errRemoved)
	}
}

// serveNodes answers other nodes' requests until ctx ends.
func (n *Node) serveNodes(ctx context.Context) error {
	l, err := n.net.HTTPListener()
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: n.handler.Internal(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 5 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: log.New(logWriter{n.log}, "", 0)}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve other nodes: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.cfg.ShutdownGrace)
	defer cancel()
	if srv.Shutdown(end) != nil {
		srv.Close()
	}
	<-served
	return nil
}

// listenPublic opens the listener for clients.
func listenPublic(cfg *Config) (net.Listener, error) {
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	l = boundListener(l, cfg.publicConns, cfg.Log)
	if cfg.TLSCert == "" {
		return l, nil
	}
	cert, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}), nil
}
