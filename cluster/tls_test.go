package cluster_test

import (
	"crypto/tls"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/cluster/clustertest"
	"github.com/nearsql/nearsql/sqlnode/certs"
)

func nobody(tls.ConnectionState) string { return "" }

// authority makes an authority and certificates of nodes, in a directory that is returned.
func authority(t *testing.T, nodes ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := certs.NewAuthority(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if err := certs.NewNode(dir, n, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// secure gives a Config the certificate of a node.
func secure(t *testing.T, cfg cluster.Config, dir, node string) cluster.Config {
	t.Helper()
	files := certs.Files{CA: filepath.Join(dir, certs.AuthorityCert), Cert: filepath.Join(dir, node+".crt"), Key: filepath.Join(dir, node+".key")}
	server, err := files.Server()
	if err != nil {
		t.Fatal(err)
	}
	cfg.ServerTLS, cfg.ClientTLS, cfg.PeerNode = server, files.Client, certs.PeerNode
	return cfg
}

func TestTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := clustertest.New(clustertest.Options{})
		network.SetDelayBoth("n1", "n2", 40*time.Millisecond)
		dir := authority(t, "n1", "n2")
		n1 := run(t, secure(t, configure(t, network, "n1"), dir, "n1"))
		n2 := run(t, secure(t, configure(t, network, "n2"), dir, "n2"))
		handle(t, n1, cluster.PurposeConfirm, echo)
		c, err := n2.Dial(t.Context(), "n1", cluster.PurposeConfirm, 0)
		if err != nil {
			t.Fatal(err)
		}
		wantEcho(t, c)
		_, err = n2.Dial(t.Context(), "n1", cluster.PurposeRaft, 3)
		wantRefused(t, err, cluster.CodeUnknownGroup)
		if err := n1.stop(); err != nil {
			t.Fatal(err)
		}
		wantClosed(t, c)
	})
}

// TestTLSEndsInTime: what TLS would like to say at the end does not hold up Run when the other end does not listen.
func TestTLSEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := clustertest.New(clustertest.Options{Window: 4096})
		dir := authority(t, "n1", "n2")
		n1 := run(t, secure(t, configure(t, network, "n1"), dir, "n1"))
		n2 := run(t, secure(t, configure(t, network, "n2"), dir, "n2"))
		group, err := n1.HandleGroup(cluster.PurposeRaft, 1)
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if _, err := n2.Dial(t.Context(), "n1", cluster.PurposeRaft, 1); err != nil {
				t.Fatal(err)
			}
			c, err := group.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(make([]byte, 1<<20)); err == nil {
				t.Fatal("the window took everything")
			}
		}
		begin := time.Now()
		if err := n1.stop(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("Run took %v to end", took)
		}
	})
}

func TestTLSIdentity(t *testing.T) {
	type ends struct {
		server, client func(t *testing.T, cfg cluster.Config, dir string) cluster.Config
	}
	as := func(node string) func(*testing.T, cluster.Config, string) cluster.Config {
		return func(t *testing.T, cfg cluster.Config, dir string) cluster.Config { return secure(t, cfg, dir, node) }
	}
	plain := func(_ *testing.T, cfg cluster.Config, _ string) cluster.Config { return cfg }
	for _, c := range []struct {
		name string
		ends
		refused cluster.Code // 0 for unreachable
		text    string
	}{
		{"another node's certificate at the dialer", ends{as("n1"), as("n3")}, cluster.CodeIdentity, `the hello is from node "n2", the certificate is of node "n3"`},
		{"another node's certificate at the acceptor", ends{as("n3"), as("n2")}, 0, "n3"},
		{"no TLS at the dialer", ends{as("n1"), plain}, 0, ""},
		{"no TLS at the acceptor", ends{plain, as("n2")}, 0, ""},
		{"another cluster's certificate", ends{as("n1"), func(t *testing.T, cfg cluster.Config, dir string) cluster.Config {
			theirs := secure(t, cfg, authority(t, "n2"), "n2")
			theirs.ClientTLS = func(node string) (*tls.Config, error) { // it trusts anybody
				c, err := theirs.ServerTLS.Clone(), error(nil)
				c.InsecureSkipVerify = true
				return c, err
			}
			return theirs
		}}, 0, "tls"},
		{"a name that is not checked by TLS", ends{as("n3"), func(t *testing.T, cfg cluster.Config, dir string) cluster.Config {
			cfg = secure(t, cfg, dir, "n2")
			inner := cfg.ClientTLS
			cfg.ClientTLS = func(node string) (*tls.Config, error) {
				c, err := inner(node)
				if err == nil {
					c.InsecureSkipVerify = true
				}
				return c, err
			}
			return cfg
		}}, 0, `has the certificate of node "n3"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := clustertest.New(clustertest.Options{})
				dir := authority(t, "n1", "n2", "n3")
				n1 := run(t, c.server(t, configure(t, network, "n1"), dir))
				n2 := run(t, c.client(t, configure(t, network, "n2"), dir))
				handle(t, n1, cluster.PurposeConfirm, echo)
				_, err := n2.Dial(t.Context(), "n1", cluster.PurposeConfirm, 0)
				if c.refused != 0 {
					wantRefused(t, err, c.refused)
				} else {
					wantUnreachable(t, err, nil)
				}
				if !strings.Contains(err.Error(), c.text) {
					t.Errorf("got %v, want %q", err, c.text)
				}
				if s := n1.Stats(); s.Accepted != 0 {
					t.Errorf("stats %+v", s)
				}
			})
		})
	}
	cfg := secure(t, configure(t, clustertest.New(clustertest.Options{}), "n1"), authority(t, "n1"), "n1")
	cfg.ServerTLS.ClientAuth = tls.RequestClientCert
	if _, err := cluster.New(cfg); err == nil || !strings.Contains(err.Error(), "does not verify") {
		t.Errorf("TLS without certificates of clients: %v", err)
	}
}
