package httpapi

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// fakeSQL answers every request as its function does, and keeps the last one.
type fakeSQL struct {
	do func(ctx context.Context, req *wire.Request, sink wire.Sink) (wire.Meta, error)
	mu struct {
		sync.Mutex
		last *wire.Request
	}
}

func (f *fakeSQL) Execute(ctx context.Context, name string, req *wire.Request, sink wire.Sink) (wire.Meta, error) {
	f.mu.Lock()
	f.mu.last = req
	f.mu.Unlock()
	if name == "nobody" {
		return wire.Meta{}, wire.NewError(wire.CodeNoSuchTenant, "no tenant is named %q", name)
	}
	return f.do(ctx, req, sink)
}

func (f *fakeSQL) last() *wire.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.last
}

var (
	testColumns = []wire.Column{{Name: "id", DeclType: "INTEGER"}, {Name: "name", DeclType: "TEXT"}}
	testRow     = []wire.Value{wire.Integer(1), wire.Text("Ada")}
	testMeta    = wire.Meta{Consistency: wire.Weak, Node: "n1", PoP: "ams", Role: "primary", Bookmark: "b7"}
)

// rows answers one statement with n rows.
func rows(n int) func(context.Context, *wire.Request, wire.Sink) (wire.Meta, error) {
	return func(_ context.Context, _ *wire.Request, sink wire.Sink) (wire.Meta, error) {
		if err := sink.Begin(0, testColumns); err != nil {
			return wire.Meta{}, err
		}
		for range n {
			if err := sink.Row(testRow); err != nil {
				return wire.Meta{}, err
			}
		}
		return testMeta, sink.End(wire.Summary{})
	}
}

// rowsThen answers with n rows, and then an error.
func rowsThen(n int, e error) func(context.Context, *wire.Request, wire.Sink) (wire.Meta, error) {
	return func(ctx context.Context, req *wire.Request, sink wire.Sink) (wire.Meta, error) {
		if _, err := rows(n)(ctx, req, sink); err != nil {
			return wire.Meta{}, err
		}
		return wire.Meta{}, e
	}
}

type fakeTenants struct {
	mu struct {
		sync.Mutex
		all map[string]tenant.Tenant
	}
	imported bytes.Buffer
	format   Format
	options  tenant.CreateOptions
	placed   []tenant.Placement
	copies   []CopyInfo
	export   func(w io.Writer) error
	away     error // what all methods return
	imports  func(r io.Reader) error
}

func (f *fakeTenants) setAway(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = err
}

func (f *fakeTenants) isAway() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.away
}

func (f *fakeTenants) Create(_ context.Context, name string, o tenant.CreateOptions) (tenant.Tenant, error) {
	if err := f.isAway(); err != nil {
		return tenant.Tenant{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if t, ok := f.mu.all[name]; ok {
		return tenant.Tenant{}, &tenant.ExistsError{Name: t.Name}
	}
	if f.mu.all == nil {
		f.mu.all = map[string]tenant.Tenant{}
	}
	f.options = o
	t := tenant.Tenant{Name: tenant.Name(name), State: tenant.StateActive, Group: 1, Epoch: 1, PageSize: 4096}
	f.mu.all[name] = t
	return t, nil
}

func (f *fakeTenants) List(_ context.Context, after string, limit int) ([]tenant.Tenant, error) {
	if err := f.isAway(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []tenant.Tenant
	for _, name := range []string{"a", "b", "c"} {
		if t, ok := f.mu.all[name]; ok && name > after && len(list) < limit {
			list = append(list, t)
		}
	}
	return list, nil
}

func (f *fakeTenants) Get(_ context.Context, name string) (tenant.Tenant, error) {
	if err := f.isAway(); err != nil {
		return tenant.Tenant{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if t, ok := f.mu.all[name]; ok {
		return t, nil
	}
	return tenant.Tenant{}, &tenant.NoSuchTenantError{Name: tenant.Name(name)}
}

func (f *fakeTenants) Delete(ctx context.Context, name string) error {
	if _, err := f.Get(ctx, name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.mu.all, name)
	return nil
}

func (f *fakeTenants) Place(ctx context.Context, name string, p tenant.Placement) (tenant.Tenant, error) {
	t, err := f.Get(ctx, name)
	if err != nil {
		return t, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.Jurisdiction != "" && p.Jurisdiction != t.Placement.Jurisdiction {
		return t, wire.NewError(wire.CodeConflict, "it has another jurisdiction")
	}
	f.placed = append(f.placed, p)
	t.Policy, t.Placement.Replicas = t.Policy+1, p.Replicas
	f.mu.all[name] = t
	return t, nil
}

func (f *fakeTenants) Copies(ctx context.Context, name string) ([]CopyInfo, error) {
	_, err := f.Get(ctx, name)
	return f.copies, err
}

func (f *fakeTenants) Import(ctx context.Context, name string, format Format, r io.Reader, o tenant.CreateOptions) (tenant.Tenant, error) {
	if err := f.isAway(); err != nil {
		return tenant.Tenant{}, err
	}
	if f.imports != nil {
		if err := f.imports(r); err != nil {
			return tenant.Tenant{}, err
		}
	}
	f.imported.Reset()
	f.format = format
	if _, err := f.imported.ReadFrom(r); err != nil {
		return tenant.Tenant{}, err
	}
	return f.Create(ctx, name, o)
}

func (f *fakeTenants) Export(_ context.Context, _ string, w io.Writer, format Format) error {
	if err := f.isAway(); err != nil {
		return err
	}
	f.format = format
	return f.export(w)
}

// fakeAuth knows the tokens root (an administrator), acme (of the tenant acme), both (of acme and beta), and none.
type fakeAuth struct{}

func (fakeAuth) Check(_ context.Context, bearer string) (Identity, error) {
	switch bearer {
	case "root":
		return Identity{Subject: "root", Admin: true}, nil
	case "acme":
		return Identity{Subject: "acme-key", Tenants: []string{"acme"}}, nil
	case "both":
		return Identity{Subject: "both-key", Tenants: []string{"acme", "beta"}}, nil
	case "":
		return Identity{}, wire.NewError(wire.CodeUnauthenticated, "no token")
	}
	return Identity{}, wire.NewError(wire.CodeUnauthenticated, "unknown token")
}

type fakeStatus struct{ err error }

func (f *fakeStatus) Ready(context.Context) error { return f.err }
func (f *fakeStatus) Status(context.Context) any  { return map[string]any{"node": "n1"} }

// fixture is a served Handler over fakes.
type fixture struct {
	t       testing.TB
	sql     *fakeSQL
	tenants *fakeTenants
	status  *fakeStatus
	handler *Handler
	server  *httptest.Server
	log     *lockedBuffer
}

type lockedBuffer struct {
	mu struct {
		sync.Mutex
		b bytes.Buffer
	}
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.b.String()
}

func newFixture(t testing.TB, change func(*Config)) *fixture {
	f := &fixture{t: t, sql: &fakeSQL{do: rows(1)}, tenants: &fakeTenants{}, status: &fakeStatus{}, log: &lockedBuffer{}}
	cfg := DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	counts := NewCounts()
	registry := prometheus.NewRegistry()
	registry.MustRegister(counts)
	var err error
	f.handler, err = New(cfg, Deps{
		SQL: f.sql, Tenants: f.tenants, Auth: fakeAuth{}, Status: f.status, Counts: counts,
		Metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
		Log:     slog.New(slog.NewTextHandler(f.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	f.server = httptest.NewServer(f.handler)
	t.Cleanup(f.server.Close)
	return f
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request as root. headers are "Name: value".
func (f *fixture) do(method, path, body string, headers ...string) answer {
	f.t.Helper()
	req, err := http.NewRequest(method, f.server.URL+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer root")
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Set(k, v)
	}
	return f.send(req)
}

func (f *fixture) send(req *http.Request) answer {
	f.t.Helper()
	client := &http.Client{
		Transport:     &http.Transport{DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}
