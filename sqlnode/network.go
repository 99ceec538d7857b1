package sqlnode

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/sqlnode/certs"
	"github.com/nearsql/nearsql/sqlnode/peers"
	"github.com/nearsql/nearsql/wire"
)

// errRemoved is what a node that was removed from the cluster hears.
var errRemoved = errors.New("this node was removed from the cluster: its data directory can't come back; join as a new node")

// openNetwork listens for other nodes.
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
	n, err := cluster.New(c)
	if err != nil {
		c.Listener.Close()
	}
	return n, err
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAlive: 15 * time.Second}
	return d.DialContext(ctx, "tcp", addr)
}

func clusterFiles(cfg *Config) certs.Files {
	return certs.Files{CA: cfg.ClusterCA, Cert: cfg.ClusterCert, Key: cfg.ClusterKey}
}

// overCluster is a leader.Network over the cluster's connections. The purposes have the same numbers in both.
type overCluster struct{ net *cluster.Net }

// Dial implements leader.Network.
func (o overCluster) Dial(ctx context.Context, to leader.NodeID, group wire.GroupID, p leader.Purpose) (net.Conn, error) {
	return o.net.Dial(ctx, string(to), cluster.Purpose(p), group)
}

// Listen implements leader.Network.
func (o overCluster) Listen(group wire.GroupID, p leader.Purpose) (net.Listener, error) {
	return o.net.HandleGroup(cluster.Purpose(p), group)
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
