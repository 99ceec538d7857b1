package sqlnode

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/sqlnode/catalogue"
	"github.com/nearsql/nearsql/sqlnode/peers"
	"github.com/nearsql/nearsql/wire"
)

// Join makes the data directory that of a new node of the cluster that one of addrs, the addresses of cluster
// listeners, belongs to. From then on the directory is that cluster's and no other's. New and Run follow.
func Join(ctx context.Context, cfg Config, addrs []string) error {
	cfg.setDefaults()
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if !cfg.clustered() {
		return errors.New("join: this node has no cluster listener")
	}
	if cfg.NodeID == "" {
		var r [4]byte
		if _, err := rand.Read(r[:]); err != nil {
			return err
		}
		cfg.NodeID = "node-" + hex.EncodeToString(r[:])
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	lock, err := lockDir(cfg.DataDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	var r [16]byte
	if _, err := rand.Read(r[:]); err != nil {
		return err
	}
	req := cluster.JoinRequest{
		Node: cfg.NodeID, Incarnation: hex.EncodeToString(r[:]), PoP: cfg.PoP, Region: cfg.Region, Labels: cfg.Labels,
		ClusterAddr: cfg.advertised(), PublicURL: cfg.PublicURL,
	}
	answer, err := askToJoin(ctx, &cfg, addrs, req)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	p, err := peers.Open(cfg.FS, cfg.DataDir)
	if err != nil {
		return err
	}
	if err := p.Set(answer.Peers, nil); err != nil {
		return err
	}
	if err := disk.WriteFileAtomic(cfg.FS, "rootkey.write", filepath.Join(cfg.DataDir, RootKeyFile), []byte(answer.RootKey+"\n"), 0o600); err != nil {
		return err
	}
	// The identity comes last: with it, all is there.
	id := identity{Format: dataFormat, Cluster: hex.EncodeToString(answer.Cluster[:]), Node: cfg.NodeID, Incarnation: req.Incarnation, Joined: true}
	if err := writeIdentity(cfg.FS, filepath.Join(cfg.DataDir, IdentityFile), id); err != nil {
		return err
	}
	cfg.Log.Info("joined", "node", cfg.NodeID, "cluster", id.Cluster)
	return nil
}

// joinPatience is how long Join goes on asking while nobody can be reached or decide.
const joinPatience = time.Minute

// askToJoin asks one after the other, until one lets this node in or says why not.
func askToJoin(ctx context.Context, cfg *Config, addrs []string, req cluster.JoinRequest) (cluster.JoinAnswer, error) {
	j := cluster.JoinConfig{From: cfg.NodeID, Dialer: cfg.ClusterDialer}
	if j.Dialer == nil {
		j.Dialer = dialTCP
	}
	if files := clusterFiles(cfg); files.CA != "" {
		c, err := files.ClientAny()
		if err != nil {
			return cluster.JoinAnswer{}, fmt.Errorf("TLS between nodes: %w", err)
		}
		j.ClientTLS = c
	}
	late, cancel := context.WithTimeout(ctx, joinPatience)
	defer cancel()
	for try := 0; ; try++ {
		j.Addr = addrs[try%len(addrs)]
		answer, err := cluster.AskJoin(late, j, req)
		if err == nil {
			return answer, nil
		}
		if hopeless(err) {
			return answer, err
		}
		cfg.Log.Info("not joined yet", "asked", j.Addr, "error", err)
		select {
		case <-late.Done():
			return answer, err
		case <-time.After(min(time.Duration(try+1)*100*time.Millisecond, 2*time.Second)):
		}
	}
}

// hopeless says that no later try can end otherwise.
func hopeless(err error) bool {
	var (
		no      *cluster.JoinError
		refused *cluster.RefusedError
		verify  *tls.CertificateVerificationError
		alert   tls.AlertError
	)
	switch {
	case errors.As(err, &no):
		return no.Code != cluster.JoinBusy && no.Code != cluster.JoinFailed
	case errors.As(err, &refused):
		return refused.Code != cluster.CodeBusy && refused.Code != cluster.CodeStopping
	}
	return errors.As(err, &verify) || errors.As(err, &alert)
}

// advertised is where other nodes reach this one; "" if only the listener knows.
func (c *Config) advertised() string {
	switch {
	case c.ClusterAdvertise != "":
		return c.ClusterAdvertise
	case c.ClusterListener != nil:
		return c.ClusterListener.Addr().String()
	}
	return c.ClusterListen
}

// admit lets a node in that asks to join: it gets an entry in the catalogue, and what it must know.
func (n *Node) admit(ctx context.Context, req cluster.JoinRequest) (cluster.JoinAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err := n.announce(ctx, catalogue.Node{
		ID: req.Node, Incarnation: req.Incarnation, PoP: req.PoP, Region: req.Region, Labels: req.Labels,
		ClusterAddr: req.ClusterAddr, PublicURL: req.PublicURL, Joined: n.cfg.Now(),
	})
	if err != nil {
		code := cluster.JoinFailed
		switch {
		case isCode(err, wire.CodeForbidden):
			code = cluster.JoinConflict
		case isCode(err, wire.CodeBadRequest):
			code = cluster.JoinBadRequest
		}
		return cluster.JoinAnswer{}, &cluster.JoinError{Code: code, Message: err.Error()}
	}
	cid, err := n.id.clusterID()
	if err != nil {
		return cluster.JoinAnswer{}, err
	}
	n.log.Info("node joins", "node", req.Node, "addr", req.ClusterAddr, "pop", req.PoP)
	return cluster.JoinAnswer{Cluster: cid, RootKey: n.auth.text, Peers: n.knownPeers()}, nil
}
