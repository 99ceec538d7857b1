package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/nearsql/nearsql/sqlnode"
)

// clusterSettings is what the flags of serve say of other nodes.
type clusterSettings struct {
	Listen, Advertise, PublicURL string
	CA, Cert, Key                string // PEM files
	Plain                        bool
	Join                         []string // cluster addresses of members
	Heartbeat                    time.Duration
}

func clusterFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "cluster-listen", Usage: "take connections of other nodes at `HOST:PORT`; without it the node stays alone", EnvVars: []string{"NEARSQL_CLUSTER_LISTEN"}},
		&cli.StringFlag{Name: "cluster-advertise", Usage: "`HOST:PORT` that other nodes dial, if it is not --cluster-listen", EnvVars: []string{"NEARSQL_CLUSTER_ADVERTISE"}},
		&cli.StringFlag{Name: "cluster-ca", Usage: "PEM `FILE` with the authority of all nodes' certificates (nearsql cert makes one)", EnvVars: []string{"NEARSQL_CLUSTER_CA"}},
		&cli.StringFlag{Name: "cluster-cert", Usage: "PEM `FILE` with this node's certificate", EnvVars: []string{"NEARSQL_CLUSTER_CERT"}},
		&cli.StringFlag{Name: "cluster-key", Usage: "PEM `FILE` with its private key", EnvVars: []string{"NEARSQL_CLUSTER_KEY"}},
		&cli.BoolFlag{Name: "insecure-plain-cluster", Usage: "talk to other nodes without TLS: whoever reaches the port can be one and has all data", EnvVars: []string{"NEARSQL_INSECURE_PLAIN_CLUSTER"}},
		&cli.StringSliceFlag{Name: "join", Usage: "join the cluster of the node whose cluster listener is at `HOST:PORT`; of no effect once this node has joined; repeatable", EnvVars: []string{"NEARSQL_JOIN"}},
		&cli.DurationFlag{Name: "heartbeat-timeout", Usage: "`TIME` without a sign of the primary after which voters elect another; several round trips between them (default 600ms)", EnvVars: []string{"NEARSQL_HEARTBEAT_TIMEOUT"}},
		&cli.StringFlag{Name: "public-url", Usage: "`URL` at which clients reach this node, for lists of nodes", EnvVars: []string{"NEARSQL_PUBLIC_URL"}},
	}
}

func readCluster(c *cli.Context) (clusterSettings, error) {
	s := clusterSettings{
		Listen: c.String("cluster-listen"), Advertise: c.String("cluster-advertise"), PublicURL: c.String("public-url"),
		CA: c.String("cluster-ca"), Cert: c.String("cluster-cert"), Key: c.String("cluster-key"),
		Plain: c.Bool("insecure-plain-cluster"), Join: c.StringSlice("join"), Heartbeat: c.Duration("heartbeat-timeout"),
	}
	tls := s.CA != ""
	if tls != (s.Cert != "") || tls != (s.Key != "") {
		return s, usagef("--cluster-ca, --cluster-cert and --cluster-key are to be given together")
	}
	if s.Listen == "" {
		if tls || s.Advertise != "" || len(s.Join) > 0 {
			return s, usagef("--cluster-listen is missing: without it this node has no connections to others")
		}
		return s, nil
	}
	host, _, err := net.SplitHostPort(s.Listen)
	if err != nil {
		return s, usagef("--cluster-listen %q: want HOST:PORT", s.Listen)
	}
	ip := net.ParseIP(host)
	loopback := host == "localhost" || ip != nil && ip.IsLoopback()
	switch {
	case !loopback && !tls && !s.Plain:
		return s, usagef("--cluster-listen %s is reachable from elsewhere: give --cluster-ca, --cluster-cert and --cluster-key, or say --insecure-plain-cluster", s.Listen)
	case (host == "" || ip != nil && ip.IsUnspecified()) && s.Advertise == "":
		return s, usagef("--cluster-advertise is missing: other nodes can't dial %s", s.Listen)
	}
	for _, addr := range s.Join {
		if host, _, err := net.SplitHostPort(addr); err != nil || host == "" {
			return s, usagef("--join %q: want HOST:PORT of a node's cluster listener", addr)
		}
	}
	if s.Advertise != "" {
		if host, _, err := net.SplitHostPort(s.Advertise); err != nil || host == "" {
			return s, usagef("--cluster-advertise %q: want HOST:PORT", s.Advertise)
		}
	}
	return s, nil
}

func (s clusterSettings) apply(cfg *sqlnode.Config) {
	cfg.ClusterListen, cfg.ClusterAdvertise, cfg.PublicURL = s.Listen, s.Advertise, s.PublicURL
	cfg.ClusterCA, cfg.ClusterCert, cfg.ClusterKey = s.CA, s.Cert, s.Key
	cfg.InsecurePlainCluster = s.Plain
	if s.Heartbeat != 0 {
		cfg.HeartbeatTimeout = s.Heartbeat
	}
}

// join makes the data directory that of a new member, if it is nobody's yet.
func join(ctx context.Context, set settings) error {
	if len(set.Cluster.Join) == 0 {
		return nil
	}
	_, err := os.Stat(filepath.Join(set.DataDir, sqlnode.IdentityFile))
	if err == nil {
		return nil // it joined before
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data directory: %w", err)
	}
	return sqlnode.Join(ctx, nodeConfig(set), set.Cluster.Join)
}
