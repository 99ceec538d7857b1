package main

import (
	"github.com/nearsql/nearsql/sqlnode"
)

// newNode makes the node that serve runs.
func newNode(set settings) (node, error) {
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
	cfg.Log = set.Log
	n, err := sqlnode.New(cfg)
	if err != nil {
		return nil, err // not a nil *Node, which would be a node
	}
	return n, nil
}
