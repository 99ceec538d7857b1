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

// serve takes a connection from its first byte to whom it is for.
func (n *Net) serve(ctx context.Context, raw net.Conn) {
	c, to, err := n.greet(ctx, raw)
	n.answered(raw)
	if err != nil {
		// What is left to send of a refusal is sent all the same: the hello was read to its end, so that closing does not reset.
		_ = raw.Close()
		n.noteRefusal(raw, err)
		return
	}
	n.count.accept()
	n.log.Debug("connection accepted", "from", c.hello.From, "purpose", c.hello.Purpose, "group", c.hello.Group, "nonce", c.hello.Nonce)
	if to.handle == nil {
		to.accept.deliver(c)
		return
	}
	defer c.Close()
	to.handle(ctx, c)
}

// refusal is why a connection is not taken, in the words that the other end gets.
type refusal struct {
	code Code
	from string // "" if it is not known
	text string
}

// Error implements error.
func (r *refusal) Error() string { return r.code.String() + ": " + r.text }

func refuse(code Code, from, format string, args ...any) error {
	return &refusal{code: code, from: from, text: fmt.Sprintf(format, args...)}
}

// greet reads the hello and answers it. Its error is a *refusal if the other end was told.
func (n *Net) greet(ctx context.Context, raw net.Conn) (*Conn, receiver, error) {
	if err := raw.SetDeadline(time.Now().Add(n.cfg.HelloTimeout)); err != nil {
		return nil, receiver{}, err
	}
	conn, proven := raw, ""
	if n.cfg.ServerTLS != nil {
		t := tls.Server(raw, n.cfg.ServerTLS)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, receiver{}, err
		}
		conn, proven = t, n.cfg.PeerNode(t.ConnectionState())
	}
	h, err := ReadHello(conn)
	if err != nil {
		var bad *HelloError
		if !errors.As(err, &bad) {
			return nil, receiver{}, err
		}
		err = refuse(bad.Code, "", "%s", bad.Text)
		return nil, receiver{}, n.answer(conn, h, err)
	}
	if err := n.check(h, proven); err != nil {
		return nil, receiver{}, n.answer(conn, h, err)
	}
	c := newConn(n, conn, h, false)
	to, err := n.reserve(c)
	if err != nil {
		return nil, receiver{}, n.answer(conn, h, err)
	}
	err = n.answer(conn, h, nil)
	if err == nil {
		err = raw.SetDeadline(time.Time{})
	}
	if err != nil {
		if to.accept != nil {
			to.accept.release()
		}
		_ = c.Close()
		return nil, receiver{}, err
	}
	return c, to, nil
}

// check says whether a hello is from whom and to whom it may be.
func (n *Net) check(h Hello, proven string) error {
	switch {
	case n.cfg.ServerTLS != nil && proven != h.From:
		return refuse(CodeIdentity, h.From, "the hello is from node %q, the certificate is of node %q", h.From, proven)
	case h.Purpose == PurposeJoin:
		// It does not know yet what the others must name, and nobody knows it: who handles it decides.
		return n.checkJoin(h)
	case h.Cluster != n.cfg.ClusterID:
		return refuse(CodeWrongCluster, h.From, "this is node %s of cluster %s, wanted was cluster %s", n.cfg.Node, n.cfg.ClusterID, h.Cluster)
	case h.To != n.cfg.Node:
		return refuse(CodeWrongNode, h.From, "this is node %s, wanted was node %s", n.cfg.Node, h.To)
	}
	if err := n.cfg.Admit(h.From); err != nil {
		return refuse(CodeNotAdmitted, h.From, "%v", err)
	}
	return nil
}

// checkJoin refuses a hello for joining that names a cluster or a node.
func (n *Net) checkJoin(h Hello) error {
	switch {
	case h.Cluster != ID{}:
		return refuse(CodeWrongCluster, h.From, "a node that joins names no cluster, not %s", h.Cluster)
	case h.To != anyNode:
		return refuse(CodeWrongNode, h.From, "a node that joins means %q, not node %s", anyNode, h.To)
	case h.Group != 0:
		return refuse(CodeUnknownGroup, h.From, "a node that joins means no group, not %d", h.Group)
	}
	return nil
}

// reserve finds out who gets the connection and makes sure that they can take it.
func (n *Net) reserve(c *Conn) (receiver, error) {
	h := c.hello
	to, code := n.find(groupKey{h.Purpose, h.Group})
	if code == CodeAccepted && to.accept != nil {
		code = to.accept.reserve()
	}
	if code != CodeAccepted {
		return receiver{}, refuse(code, h.From, "node %s, %s, group %d", n.cfg.Node, h.Purpose, h.Group)
	}
	if code = n.keep(c); code != CodeAccepted {
		if to.accept != nil {
			to.accept.release()
		}
		return receiver{}, refuse(code, h.From, "node %s", n.cfg.Node)
	}
	return to, nil
}

// answer sends the answer to a hello; why is nil or a *refusal, and returned.
func (n *Net) answer(conn net.Conn, h Hello, why error) error {
	a := answer{version: Version, nonce: h.Nonce}
	var r *refusal
	if errors.As(why, &r) {
		a.code, a.text = r.code, r.text
	}
	if _, err := conn.Write(a.append(nil)); err != nil && why == nil {
		return fmt.Errorf("answer the hello: %w", err)
	}
	if why != nil {
		if t, ok := conn.(*tls.Conn); ok {
			_ = t.CloseWrite() // so that the other end sees an end and not a cut
		}
	}
	return why
}

// noteRefusal counts a connection that came to nothing. That a node refuses another is for people to see, but
// not every second; who closes a connection without a word was probing the port.
func (n *Net) noteRefusal(raw net.Conn, err error) {
	var r *refusal
	if !errors.As(err, &r) {
		n.count.drop()
		n.log.Debug("connection without a hello", "remote", raw.RemoteAddr(), "error", err)
		return
	}
	warn, more := n.count.refuse(r.code, time.Now())
	if warn {
		level := slog.LevelWarn
		if r.code == CodeUnknownGroup {
			level = slog.LevelInfo // a group that this node is about to open, or has left: it passes
		}
		n.log.Log(context.Background(), level, "connection refused", "from", r.from, "remote", raw.RemoteAddr(), "reason", r.code.String(), "detail", printable(r.text, textMax), "not_logged", more)
	}
}
