package cluster

import (
	"context"
	"net"
	"sync"
)

// Conn is a connection between two nodes, its hello accepted.
type Conn struct {
	net.Conn
	hello   Hello
	dialled bool
	net     *Net

	closing sync.Once
	err     error // of closing
}

func newConn(n *Net, c net.Conn, h Hello, dialled bool) *Conn {
	return &Conn{Conn: c, hello: h, dialled: dialled, net: n}
}

// Hello is how the connection began.
func (c *Conn) Hello() Hello { return c.hello }

// From is the node that dialled; with TLS, proven.
func (c *Conn) From() string { return c.hello.From }

// Peer is the node at the other end.
func (c *Conn) Peer() string {
	if c.dialled {
		return c.hello.To
	}
	return c.hello.From
}

// Read reads from the other end.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.net.count.read(c.hello.Purpose, n)
	return n, err
}

// Write writes to the other end.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.net.count.wrote(c.hello.Purpose, n)
	return n, err
}

// Close closes the connection; again is harmless.
func (c *Conn) Close() error {
	c.closing.Do(func() {
		c.net.drop(c)
		c.err = c.Conn.Close()
	})
	return c.err
}

type connKey struct{}

// ConnContext lets the handlers of an http.Server on an Acceptor ask FromContext; it is for http.Server.ConnContext.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if c, ok := c.(*Conn); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// FromContext says which node a request came from.
func FromContext(ctx context.Context) (node string, ok bool) {
	c, ok := ctx.Value(connKey{}).(*Conn)
	if !ok {
		return "", false
	}
	return c.From(), true
}
