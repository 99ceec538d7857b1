package main

import (
	"github.com/nearsql/nearsql/sqlnode"
)

// nodeConfig is what serve's flags say of a node.
func nodeConfig(set settings) sqlnode.Config {
	cfg := sqlnode.DefaultConfig()
	cfg.DataDir, cfg.Listen = set.DataDir, set.Listen
	cfg.NodeID, cfg.Region, cfg.Labels = set.NodeID, set.Region, set.Labels
	if set.PoP != "" {
		cfg.PoP = set.PoP
	}
	cfg.TLSCert, cfg.TLSKey = set.TLSCert, set.TLSKey
	cfg.InsecureNoAuth, cfg.InsecurePlainHTTP = set.NoAuth, set.PlainHTTP
	cfg.HTTP.Origins = set.CORSOrigins
	cfg.Limits = set.Limits
	cfg.CheckProgram = set.checkFiles
	set.Tuning.apply(&cfg)
	set.Cluster.apply(&cfg)
	cfg.Log = set.Log
	return cfg
}

// newNode makes the node that serve runs.
func newNode(set settings) (node, error) {
	n, err := sqlnode.New(nodeConfig(set))
	if err != nil {
		return nil, err // not a nil *Node, which would be a node
	}
	return n, nil
}
