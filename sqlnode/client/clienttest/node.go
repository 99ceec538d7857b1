package clienttest

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/sqlnode/importer"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/tenant/tenanttest"
	"github.com/nearsql/nearsql/wire"
)

// Token is what the node asks for.
const Token = "clienttest-token"

// Node is a running node.
type Node struct {
	URL     string
	Cluster Cluster

	dir       string // of the tenants' files
	catalogue *tenanttest.Memory

	// mu is held while a request runs, seen but for a moment.
	mu struct {
		sync.Mutex
		conns map[tenant.ID]*sqlite.Conn
	}
	seen struct {
		sync.Mutex
		requests []wire.Request
		copies   []httpapi.CopyInfo // of every tenant; nil for one here
	}
}

// Start runs a node until the test ends.
func Start(t testing.TB) *Node {
	t.Helper()
	n := &Node{dir: t.TempDir(), catalogue: tenanttest.NewMemory()}
	n.mu.conns = make(map[tenant.ID]*sqlite.Conn)
	h, err := httpapi.New(httpapi.DefaultConfig(), httpapi.Deps{
		SQL: n, Tenants: n, Auth: n, Status: n, Counts: httpapi.NewCounts(), Log: slog.New(slog.DiscardHandler),
		Cluster: &n.Cluster,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	n.URL = s.URL
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, c := range n.mu.conns {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return n
}

// Requests are those that came so far.
func (n *Node) Requests() []wire.Request {
	n.seen.Lock()
	defer n.seen.Unlock()
	return append([]wire.Request(nil), n.seen.requests...)
}

// Check implements httpapi.Auth.
func (n *Node) Check(_ context.Context, bearer string) (httpapi.Identity, error) {
	if bearer != Token {
		return httpapi.Identity{}, wire.NewError(wire.CodeUnauthenticated, "the request has no valid token")
	}
	return httpapi.Identity{Subject: "root", Admin: true}, nil
}

// Ready implements httpapi.Status.
func (n *Node) Ready(context.Context) error { return nil }

// Status implements httpapi.Status.
func (n *Node) Status(context.Context) any { return map[string]string{"node": "test-1"} }

func (n *Node) file(id tenant.ID) string { return filepath.Join(n.dir, id.String()+".db") }

// conn opens a tenant's database.
func (n *Node) connLocked(ctx context.Context, name string) (*sqlite.Conn, error) {
	t, err := n.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	if c := n.mu.conns[t.ID]; c != nil {
		return c, nil
	}
	c, err := sqlite.Open(n.file(t.ID), "", sqlite.ReadWrite|sqlite.Create)
	if err != nil {
		return nil, err
	}
	n.mu.conns[t.ID] = c
	return c, c.Exec("PRAGMA foreign_keys=ON")
}

// Execute implements httpapi.SQL. Requests run one after another.
func (n *Node) Execute(ctx context.Context, name string, r *wire.Request, sink wire.Sink) (wire.Meta, error) {
	kept := *r
	kept.Statements = append([]wire.Statement(nil), r.Statements...)
	n.seen.Lock()
	n.seen.requests = append(n.seen.requests, kept)
	n.seen.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	begin := time.Now()
	c, err := n.connLocked(ctx, name)
	if err != nil {
		return wire.Meta{}, err
	}
	c.SetProgress(1000, func() bool { return ctx.Err() != nil })
	defer c.SetProgress(0, nil)
	if err := c.Exec("BEGIN"); err != nil {
		return wire.Meta{}, err
	}
	for i, st := range r.Statements {
		if err := run(c, i, st, sink); err != nil {
			err = errors.Join(clientError(err, i+1), c.Exec("ROLLBACK"))
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return wire.Meta{}, err
		}
	}
	if err := c.Exec("COMMIT"); err != nil {
		return wire.Meta{}, errors.Join(clientError(err, 0), c.Exec("ROLLBACK"))
	}
	return wire.Meta{Consistency: wire.Strong, Node: "test-1", PoP: "lab", Role: "primary", Duration: time.Since(begin), Bookmark: "bookmark-1"}, nil
}

func clientError(err error, statement int) error {
	var se *sqlite.Error
	if errors.As(err, &se) {
		return wire.NewError(wire.CodeForSQLite(se.Code), "%s", se.Message).At(statement)
	}
	return err
}

func run(c *sqlite.Conn, number int, st wire.Statement, sink wire.Sink) error {
	s, tail, err := c.Prepare(st.SQL, false)
	if err != nil {
		return err
	}
	if s == nil {
		return wire.NewError(wire.CodeEmptyStatement, "the text has no statement").At(number + 1)
	}
	defer s.Finalize()
	if rest, _, err := c.Prepare(st.SQL[tail:], false); err != nil || rest != nil {
		return errors.Join(wire.NewError(wire.CodeMultipleStatements, "the text has more than one statement").At(number+1), finalize(rest))
	}
	if err := s.BindAll(st.Args); err != nil {
		return err
	}
	columns := make([]wire.Column, s.ColumnCount())
	row := make([]wire.Value, len(columns))
	for i := range columns {
		columns[i] = wire.Column{Name: s.ColumnName(i), DeclType: s.ColumnDeclType(i)}
	}
	if err := sink.Begin(number, columns); err != nil {
		return err
	}
	before, rowid := c.TotalChanges(), c.LastInsertRowID()
	for {
		more, err := s.Step()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		for i := range row {
			row[i] = s.Column(i)
		}
		if err := sink.Row(row); err != nil {
			return err
		}
	}
	var sum wire.Summary
	if c.TotalChanges() != before {
		sum.RowsAffected = c.Changes()
		sum.LastInsertRowID, sum.Inserted = c.LastInsertRowID(), c.LastInsertRowID() != rowid
	}
	return sink.End(sum)
}

func finalize(s *sqlite.Stmt) error {
	if s == nil {
		return nil
	}
	return s.Finalize()
}

// Create implements httpapi.Tenants.
func (n *Node) Create(ctx context.Context, name string, o tenant.CreateOptions) (tenant.Tenant, error) {
	id, err := tenant.NewID(rand.Reader)
	if err != nil {
		return tenant.Tenant{}, err
	}
	t, err := tenant.New(id, tenant.Name(name), o, 1, time.Now())
	if err != nil {
		return tenant.Tenant{}, err
	}
	return t, n.catalogue.Create(ctx, t)
}

// List implements httpapi.Tenants.
func (n *Node) List(ctx context.Context, after string, limit int) ([]tenant.Tenant, error) {
	return n.catalogue.List(ctx, tenant.Name(after), limit)
}

// Get implements httpapi.Tenants.
func (n *Node) Get(ctx context.Context, name string) (tenant.Tenant, error) {
	t, err := n.catalogue.ByName(ctx, tenant.Name(name))
	if err == nil && t.State == tenant.StateDeleted {
		err = &tenant.DeletedError{Tenant: t}
	}
	return t, err
}

// Delete implements httpapi.Tenants.
func (n *Node) Delete(ctx context.Context, name string) error {
	t, err := n.Get(ctx, name)
	if err != nil {
		return err
	}
	d, err := t.Apply(tenant.Deleted{Time: tenant.Millis(time.Now())})
	if err != nil {
		return err
	}
	return n.catalogue.Update(ctx, t, d)
}

// Import implements httpapi.Tenants.
func (n *Node) Import(ctx context.Context, name string, f httpapi.Format, r io.Reader, o tenant.CreateOptions) (tenant.Tenant, error) {
	t, err := n.Create(ctx, name, o)
	if err != nil {
		return t, err
	}
	if f == httpapi.FormatSQL {
		err = importer.FromSQL(ctx, r, n.file(t.ID))
	} else {
		err = copyFile(n.file(t.ID), r)
	}
	if err == nil {
		_, err = importer.CheckFile(ctx, n.file(t.ID))
	}
	if err != nil {
		return t, errors.Join(wire.NewError(wire.CodeBadDatabase, "%w", err), n.Delete(ctx, name))
	}
	return t, nil
}

func copyFile(name string, r io.Reader) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// Export implements httpapi.Tenants. A dump is but its schema.
func (n *Node) Export(ctx context.Context, name string, w io.Writer, f httpapi.Format) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, err := n.connLocked(ctx, name)
	if err != nil {
		return err
	}
	if f == httpapi.FormatSQLite {
		t, err := n.Get(ctx, name)
		if err != nil {
			return err
		}
		file, err := os.Open(n.file(t.ID))
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(w, file)
		return err
	}
	s, _, err := c.Prepare("SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid", false)
	if err != nil {
		return err
	}
	defer s.Finalize()
	for {
		more, err := s.Step()
		if err != nil || !more {
			return err
		}
		if _, err := io.WriteString(w, string(s.ColumnBytes(0))+"\n"); err != nil {
			return err
		}
	}
}
