package sqldriver

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"

	"github.com/nearsql/nearsql/wire"
)

// Executor runs requests; a *sqlnode.Node is one.
type Executor interface {
	// Execute runs req on the tenant of that name and gives its answers to sink, which it does not touch after it has returned.
	Execute(ctx context.Context, tenant string, req *wire.Request, sink wire.Sink) (wire.Meta, error)
}

// Open gives a database/sql database of the tenant, and with it a session of its own. Nothing is asked of the node until the first request.
func Open(node Executor, tenant string, opts ...Option) *sql.DB {
	return sql.OpenDB(NewConnector(node, tenant, opts...))
}

// Connector makes connections to one tenant. It is a driver.Connector, for sql.OpenDB.
type Connector struct {
	node    Executor
	tenant  string
	options options
	session session
}

// NewConnector gives a connector to the tenant, which is a session of its own.
func NewConnector(node Executor, tenant string, opts ...Option) *Connector {
	c := &Connector{node: node, tenant: tenant}
	for _, o := range opts {
		o(&c.options)
	}
	return c
}

// Connect implements driver.Connector.
func (c *Connector) Connect(ctx context.Context) (driver.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &conn{c: c}, nil
}

// Driver implements driver.Connector. The driver is the connector's own; no name is registered with package sql.
func (c *Connector) Driver() driver.Driver { return ofConnector{c} }

// Bookmark is what the session has seen, for another session to see too, in this process or by HTTP; "" before its first answer.
func (c *Connector) Bookmark() string { return c.session.bookmark() }

// Bookmark is what the session of db has seen; see Connector.Bookmark. ok says whether db is one of this package.
func Bookmark(db *sql.DB) (bookmark string, ok bool) {
	d, ok := db.Driver().(ofConnector)
	if !ok {
		return "", false
	}
	return d.c.Bookmark(), true
}

// ofConnector is the driver of one connector.
type ofConnector struct{ c *Connector }

// Open implements driver.Driver. A node has no name by which it could be opened.
func (d ofConnector) Open(string) (driver.Conn, error) {
	return nil, fmt.Errorf("nearsql: a connection to tenant %q is made by sqldriver.Open on a node, not by a name", d.c.tenant)
}

// request is a request of the session, as the options of the connector and of ctx have it.
func (c *Connector) request(ctx context.Context, statements []wire.Statement) (*wire.Request, mark, *settings) {
	s := settings{options: c.options}
	if of, ok := ctx.Value(settingsKey{}).(*settings); ok {
		s = *of
		s.options = s.options.over(c.options)
	}
	req := &wire.Request{
		Statements: statements, Consistency: s.consistency, MaxStaleness: s.maxStaleness, FailOnStale: s.failOnStale, Timeout: s.timeout,
		IdempotencyKey: s.key, Bookmark: s.bookmark,
	}
	m := c.session.begin(req)
	return req, m, &s
}

// execute runs a request, and keeps what the session has seen by it.
func (c *Connector) execute(ctx context.Context, req *wire.Request, m mark, s *settings, sink wire.Sink) error {
	meta, err := c.node.Execute(ctx, c.tenant, req, sink)
	c.session.end(m, req, &meta, err)
	if err == nil && s.meta != nil {
		s.meta(meta)
	}
	return err
}
