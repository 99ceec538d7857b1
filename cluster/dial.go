package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// dial is a Dial under way.
type dial struct {
	cancel context.CancelCauseFunc
}

// Dial opens a connection to a node; it is a *Conn. The error is a *RefusedError if the node was reached and answered so, else an
// *UnreachableError, which wraps what ended ctx if that was it.
func (n *Net) Dial(ctx context.Context, to string, purpose Purpose, group wire.GroupID) (net.Conn, error) {
	h := Hello{Cluster: n.cfg.ClusterID, From: n.cfg.Node, To: to, Purpose: purpose, Group: group, Nonce: rand.Uint64()}
	hello, err := h.Append(nil)
	if err != nil {
		return nil, &UnreachableError{Node: to, Err: err}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d := &dial{cancel: cancel}
	if !n.dialling(d) {
		return nil, &UnreachableError{Node: to, Err: errEnded}
	}
	defer n.dialled(d)
	ctx, stop := context.WithTimeoutCause(ctx, n.cfg.DialTimeout, fmt.Errorf("no connection within %v: %w", n.cfg.DialTimeout, context.DeadlineExceeded))
	defer stop()

	conn, err := n.connect(ctx, h, hello)
	if err != nil {
		if r, ok := err.(*RefusedError); ok {
			return nil, r
		}
		return nil, &UnreachableError{Node: to, Err: err}
	}
	c := newConn(n, conn, h, true)
	if n.keep(c) != CodeAccepted {
		_ = conn.Close()
		return nil, &UnreachableError{Node: to, Err: errEnded}
	}
	n.count.dial()
	return c, nil
}

func (n *Net) dialling(d *dial) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.ended {
		return false
	}
	n.mu.dials[d] = struct{}{}
	return true
}

func (n *Net) dialled(d *dial) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.mu.dials, d)
}

// connect opens a connection and has its hello answered.
func (n *Net) connect(ctx context.Context, h Hello, hello []byte) (net.Conn, error) {
	addr, err := n.cfg.Resolve(h.To)
	if err != nil {
		return nil, fmt.Errorf("resolve: %w", err)
	}
	raw, err := n.cfg.Dialer(ctx, addr)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("dial %s: %w", addr, context.Cause(ctx))
		}
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	// Reads and writes below end with ctx.
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	conn, err := n.introduce(ctx, raw, h, hello)
	if !stop() {
		err = fmt.Errorf("hello to %s: %w", addr, context.Cause(ctx))
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// introduce says hello and takes the answer.
func (n *Net) introduce(ctx context.Context, raw net.Conn, h Hello, hello []byte) (net.Conn, error) {
	conn := raw
	if n.cfg.ClientTLS != nil {
		cfg, err := n.cfg.ClientTLS(h.To)
		if err != nil {
			return nil, fmt.Errorf("certificates: %w", err)
		}
		t := tls.Client(raw, cfg)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("TLS with %s: %w", raw.RemoteAddr(), err)
		}
		if peer := n.cfg.PeerNode(t.ConnectionState()); peer != h.To {
			return nil, fmt.Errorf("%s has the certificate of node %q", raw.RemoteAddr(), peer)
		}
		conn = t
	}
	return conn, exchange(conn, h, hello)
}

// exchange writes a hello and reads its answer; the error is a *RefusedError if it is no.
func exchange(conn net.Conn, h Hello, hello []byte) error {
	_, unsent := conn.Write(hello)
	// Who closes before the hello has often said why: a certificate that is not taken, above all.
	a, err := readAnswer(conn)
	switch {
	case unsent != nil && err != nil:
		return fmt.Errorf("hello to %s: %w; %w", conn.RemoteAddr(), unsent, err)
	case err != nil:
		return err
	}
	if a.code != CodeAccepted {
		return &RefusedError{Node: h.To, Code: a.code, Text: a.text}
	}
	if a.version != Version || a.nonce != h.Nonce {
		return fmt.Errorf("%s answered version %d, nonce %016x to a hello of version %d, nonce %016x", conn.RemoteAddr(), a.version, a.nonce, Version, h.Nonce)
	}
	return nil
}
