package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"
)

// anyNode is whom the hello of a node means that joins: whoever listens at the address.
const anyNode = "any"

// Times that joining may take; those that wait have contexts besides.
const (
	joinDialTimeout   = 10 * time.Second // connection, TLS, hello and its answer
	joinSendTimeout   = 10 * time.Second // a request or an answer on its way
	joinHandleTimeout = 60 * time.Second // from the request to its answer
	joinDrainTimeout  = time.Second      // for what was sent beyond what is read, when that is refused
)

// joinsMax is how many requests to join a node handles at a time.
const joinsMax = 16

// JoinConfig is what a node needs that joins a cluster.
type JoinConfig struct {
	From string // id of this node
	Addr string // cluster address of any node of the cluster

	// Dialer connects to Addr, before ctx ends.
	Dialer func(ctx context.Context, addr string) (net.Conn, error)

	// ClientTLS must show the certificate of From, and take that of any node of the cluster, and of
	// nobody else: what it is told is believed, and who asks is told the cluster's key. nil for no TLS.
	ClientTLS *tls.Config
}

// Join opens a connection to a node of a cluster whose id is not known yet. AskJoin does that and what comes after it. The error is
// a *RefusedError if a node was reached and said no, else an *UnreachableError; both name the address for a node.
func Join(ctx context.Context, cfg JoinConfig) (net.Conn, error) {
	conn, err := join(ctx, cfg)
	if err == nil {
		return conn, nil
	}
	if r, ok := errors.AsType[*RefusedError](err); ok {
		return nil, &RefusedError{Node: cfg.Addr, Code: r.Code, Text: r.Text}
	}
	return nil, &UnreachableError{Node: cfg.Addr, Err: err}
}

func join(ctx context.Context, cfg JoinConfig) (net.Conn, error) {
	h := Hello{From: cfg.From, To: anyNode, Purpose: PurposeJoin, Nonce: rand.Uint64()}
	hello, err := h.Append(nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, joinDialTimeout, fmt.Errorf("no connection within %v: %w", joinDialTimeout, context.DeadlineExceeded))
	defer cancel()
	raw, err := cfg.Dialer(ctx, cfg.Addr)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("dial: %w", context.Cause(ctx))
		}
		return nil, fmt.Errorf("dial: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	conn, err := greetAny(ctx, cfg, raw, h, hello)
	if !stop() {
		err = fmt.Errorf("hello: %w", context.Cause(ctx))
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

func greetAny(ctx context.Context, cfg JoinConfig, raw net.Conn, h Hello, hello []byte) (net.Conn, error) {
	conn := raw
	if cfg.ClientTLS != nil {
		t := tls.Client(raw, cfg.ClientTLS)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
		conn = t
	}
	return conn, exchange(conn, h, hello)
}

// AskJoin asks the node at cfg.Addr to let this node into its cluster, and returns what the node needs to know. req.Node is
// cfg.From if it is empty. Errors are Join's; a *JoinError if the answer is no; others if there is none, or it
// can't be read: then this node may have been let in, and asks again.
func AskJoin(ctx context.Context, cfg JoinConfig, req JoinRequest) (JoinAnswer, error) {
	req.Version = JoinVersion
	if req.Node == "" {
		req.Node = cfg.From
	}
	b, err := req.encode()
	if err != nil {
		return JoinAnswer{}, err
	}
	conn, err := Join(ctx, cfg)
	if err != nil {
		return JoinAnswer{}, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, joinHandleTimeout+joinSendTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	a, err := askJoin(conn, b)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return JoinAnswer{}, fmt.Errorf("join the cluster at %s: %w", cfg.Addr, err)
	}
	return a, nil
}

func askJoin(conn net.Conn, request []byte) (JoinAnswer, error) {
	if _, err := conn.Write(request); err != nil {
		return JoinAnswer{}, err
	}
	b, err := readJoinFrame(conn)
	if err != nil {
		return JoinAnswer{}, fmt.Errorf("answer: %w", err)
	}
	a, err := decodeJoinAnswer(b)
	if err != nil {
		return JoinAnswer{}, err
	}
	if a.Error != nil {
		return JoinAnswer{}, a.Error
	}
	return a, nil
}

// HandleJoin lets handle answer the nodes that want to join, a few at a time; others are told to come again. See ServeJoin.
func (n *Net) HandleJoin(handle func(context.Context, JoinRequest) (JoinAnswer, error)) error {
	places := make(chan struct{}, joinsMax)
	return n.Handle(PurposeJoin, func(ctx context.Context, c *Conn) {
		err := ServeJoin(ctx, c, func(ctx context.Context, req JoinRequest) (JoinAnswer, error) {
			select {
			case places <- struct{}{}:
			default:
				return JoinAnswer{}, &JoinError{Code: JoinBusy, Message: fmt.Sprintf("%d nodes are joining already", joinsMax)}
			}
			defer func() { <-places }()
			return handle(ctx, req)
		})
		if err != nil {
			n.log.Warn("request to join", "from", c.From(), "remote", c.RemoteAddr(), "error", err)
		}
	})
}

// ServeJoin reads one request to join from conn and answers it with what handle returns, within a bounded time. An error of handle is
// what the other node is told: a *JoinError as it is, any other as JoinFailed. What can't be read is answered without asking handle. ServeJoin
// returns why no answer could be sent, or why the request was refused; it leaves the connection open.
func ServeJoin(ctx context.Context, conn *Conn, handle func(context.Context, JoinRequest) (JoinAnswer, error)) error {
	if err := conn.SetReadDeadline(time.Now().Add(joinSendTimeout)); err != nil {
		return err
	}
	b, err := readJoinFrame(conn)
	var tooLong *JoinError
	if err != nil && !errors.As(err, &tooLong) {
		return fmt.Errorf("request to join: %w", err) // there is nobody to answer
	}
	a, refused := serveJoin(ctx, conn.From(), b, err, handle)
	out, err := a.encode()
	if err != nil {
		refused = fmt.Errorf("answer to a request to join: %w", err)
		if out, err = (JoinAnswer{Version: JoinVersion, Error: &JoinError{Code: JoinFailed, Message: "the answer can't be sent"}}).encode(); err != nil {
			return err
		}
	}
	if err := conn.SetWriteDeadline(time.Now().Add(joinSendTimeout)); err != nil {
		return err
	}
	if _, err := conn.Write(out); err != nil {
		return fmt.Errorf("answer to a request to join: %w", err)
	}
	if tooLong != nil {
		// Closing with bytes unread would take the answer back.
		if err := conn.SetReadDeadline(time.Now().Add(joinDrainTimeout)); err == nil {
			_, _ = io.CopyN(io.Discard, conn, joinFrameMax)
		}
	}
	return refused
}

// serveJoin decides the answer to the bytes of a request, or to unread, why they could not be read.
func serveJoin(ctx context.Context, from string, b []byte, unread error, handle func(context.Context, JoinRequest) (JoinAnswer, error)) (JoinAnswer, error) {
	answer := func(a JoinAnswer, err error) (JoinAnswer, error) {
		if err == nil {
			a.Version, a.Error = JoinVersion, nil
			return a, nil
		}
		var e *JoinError
		if !errors.As(err, &e) {
			e = &JoinError{Code: JoinFailed, Message: err.Error()}
		}
		return JoinAnswer{Version: JoinVersion, Error: e}, err
	}
	if unread != nil {
		return answer(JoinAnswer{}, unread)
	}
	req, err := decodeJoinRequest(b)
	if err != nil {
		return answer(JoinAnswer{}, err)
	}
	if req.Node != from {
		return answer(JoinAnswer{}, &JoinError{Code: JoinBadRequest, Message: fmt.Sprintf("node %s asks for node %s", from, req.Node)})
	}
	ctx, cancel := context.WithTimeout(ctx, joinHandleTimeout)
	defer cancel()
	return answer(handle(ctx, req))
}
