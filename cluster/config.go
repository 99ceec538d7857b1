package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// Config is what a Net needs. Zero numbers and durations mean the defaults.
type Config struct {
	ClusterID ID
	Node      string // of this node; see CheckNode

	// Listener takes the connections of other nodes. Run closes it.
	Listener net.Listener
	// Dialer connects to an address that Resolve gave, before ctx ends.
	Dialer func(ctx context.Context, addr string) (net.Conn, error)
	// Resolve says at which address a node is dialled, now. It must not take long: it is not interrupted.
	Resolve func(node string) (addr string, err error)

	// ServerTLS, ClientTLS and PeerNode are all set, or none: then connections are not encrypted, and a node is
	// believed who it says it is. ClientTLS is asked at each dial, so that certificates can be replaced;
	// ServerTLS has tls.Config.GetConfigForClient for that. ServerTLS must want the client's certificate.
	ServerTLS *tls.Config
	ClientTLS func(node string) (*tls.Config, error)
	// PeerNode says which node the certificate of the other end is for; "" for none.
	PeerNode func(tls.ConnectionState) string

	// Admit says whether a node may connect; the error's text is sent to it. It is called for each connection, and
	// must not wait. nil admits all.
	Admit func(from string) error

	Log *slog.Logger // nil for none

	// HelloTimeout is how long a new connection may take until its hello is answered, TLS included. 5 s.
	HelloTimeout time.Duration
	// DialTimeout is how long Dial tries at most, answer to the hello included. 10 s.
	DialTimeout time.Duration
	// HalfOpenMax is how many accepted connections may be without a hello; further ones are closed at once. 256.
	HalfOpenMax int
	// ConnsMax is how many connections may be open in all; further hellos are refused with CodeBusy. 8192.
	ConnsMax int
	// Backlog is how many connections an Acceptor keeps until they are accepted; further hellos are refused
	// with CodeBusy. 64.
	Backlog int

	// HTTPConnsPerNode is how many connections HTTPTransport opens to one node; further requests wait. A download holds one
	// as long as it lasts. 128.
	HTTPConnsPerNode int
	// HTTPIdlePerNode is how many of them are kept when they are idle. 16.
	HTTPIdlePerNode int
	// HTTPIdleTimeout is for how long. 90 s.
	HTTPIdleTimeout time.Duration
}

func (c *Config) setDefaults() {
	setDefault(&c.HelloTimeout, 5*time.Second)
	setDefault(&c.DialTimeout, 10*time.Second)
	setDefault(&c.HalfOpenMax, 256)
	setDefault(&c.ConnsMax, 8192)
	setDefault(&c.Backlog, 64)
	setDefault(&c.HTTPConnsPerNode, 128)
	setDefault(&c.HTTPIdlePerNode, 16)
	setDefault(&c.HTTPIdleTimeout, 90*time.Second)
	if c.Admit == nil {
		c.Admit = func(string) error { return nil }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Validate names the first field that can't be used.
func (c *Config) Validate() error {
	if err := CheckNode(c.Node); err != nil {
		return fmt.Errorf("cluster: Node: %w", err)
	}
	switch {
	case c.ClusterID == ID{}:
		return errors.New("cluster: ClusterID is all zeros")
	case c.Listener == nil:
		return errors.New("cluster: Listener is missing")
	case c.Dialer == nil:
		return errors.New("cluster: Dialer is missing")
	case c.Resolve == nil:
		return errors.New("cluster: Resolve is missing")
	case (c.ServerTLS == nil) != (c.ClientTLS == nil) || (c.ServerTLS == nil) != (c.PeerNode == nil):
		return errors.New("cluster: ServerTLS, ClientTLS and PeerNode are set together, or not at all")
	case c.ServerTLS != nil && c.ServerTLS.GetConfigForClient == nil && c.ServerTLS.ClientAuth != tls.RequireAndVerifyClientCert:
		return errors.New("cluster: ServerTLS does not verify the certificates of clients")
	case c.HelloTimeout < 0 || c.DialTimeout < 0 || c.HTTPIdleTimeout < 0:
		return errors.New("cluster: HelloTimeout, DialTimeout or HTTPIdleTimeout is negative")
	case c.HalfOpenMax < 0 || c.ConnsMax < 0 || c.Backlog < 0:
		return errors.New("cluster: HalfOpenMax, ConnsMax or Backlog is negative")
	case c.HTTPConnsPerNode < 0 || c.HTTPIdlePerNode < 0:
		return errors.New("cluster: HTTPConnsPerNode or HTTPIdlePerNode is negative")
	}
	return nil
}
