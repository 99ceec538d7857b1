package httpapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// mesh is nodes in one process, over pipes. A node has a public listener, pub.NAME, and one for nodes, NAME.
type mesh struct {
	t         testing.TB
	nodes     map[string]*meshNode
	listeners map[string]*pipeListener

	mu struct {
		sync.Mutex
		dials map[string]int
		// fault says what is wrong with the n-th connection, from 1, to a host: an error, or after how many bytes
		// of an answer it breaks; below 0 for never.
		fault func(host string, n int) (cut int, err error)
	}
}

type meshNode struct {
	name    string
	sql     *fakeSQL
	tenants *fakeTenants
	cluster *fakeCluster
	handler *Handler
	heads   chan http.Header // of requests from other nodes
}

// newMesh starts nodes of these names, until the test ends.
func newMesh(t testing.TB, change func(*Config), names ...string) *mesh {
	m := &mesh{t: t, nodes: map[string]*meshNode{}, listeners: map[string]*pipeListener{}}
	m.mu.dials = map[string]int{}
	for _, name := range names {
		n := &meshNode{name: name, sql: &fakeSQL{do: rows(1)}, tenants: &fakeTenants{}, cluster: &fakeCluster{}, heads: make(chan http.Header, 1000)}
		cfg := DefaultConfig()
		if change != nil {
			change(&cfg)
		}
		peers := m.transport()
		var err error
		n.handler, err = New(cfg, Deps{
			SQL: n.sql, Tenants: n.tenants, Auth: fakeAuth{}, Status: &fakeStatus{}, Counts: NewCounts(),
			Log: slog.New(slog.DiscardHandler), Cluster: n.cluster, Peers: peers,
			InternalRoutes: map[string]http.Handler{
				"GET /internal/v1/hello": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) }),
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		m.nodes[name] = n
		m.serve("pub."+name, n.handler)
		m.serve(name, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n.heads <- r.Header.Clone()
			n.handler.Internal().ServeHTTP(w, r)
		}))
		t.Cleanup(peers.CloseIdleConnections)
	}
	return m
}

func (m *mesh) serve(host string, h http.Handler) {
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	m.listeners[host] = l
	s := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	m.t.Cleanup(func() {
		_ = s.Close()
		<-done
		time.Sleep(time.Second) // virtual: net/http waits before it closes where a body was not read to its end
	})
}

// transport dials a host at every request, so that faults are those of one try. It does not say so to servers: they would
// close at once where they have answered before the end of a body, and the answer could get lost.
func (m *mesh) transport() *http.Transport {
	return &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: -1, ExpectContinueTimeout: time.Second, DialContext: m.dial}
}

func (m *mesh) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.mu.dials[host]++
	cut := -1
	if m.mu.fault != nil {
		cut, err = m.mu.fault(host, m.mu.dials[host])
	}
	l := m.listeners[host]
	m.mu.Unlock()
	if err == nil && l == nil {
		err = errors.New("no such host")
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: err}
	}
	here, there := net.Pipe()
	select {
	case l.conns <- there:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if cut >= 0 {
		return &cutConn{Conn: here, left: cut}, nil
	}
	return here, nil
}

func (m *mesh) setFault(f func(host string, n int) (int, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.fault = f
}

func (m *mesh) dials(host string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.dials[host]
}

// do asks a node by its public listener, as root.
func (m *mesh) do(node, method, path, body string, headers ...string) answer {
	m.t.Helper()
	a, err := m.ask(m.t.Context(), "pub."+node, method, path, strings.NewReader(body), append([]string{"Authorization: Bearer root"}, headers...)...)
	if err != nil {
		m.t.Fatal(err)
	}
	return a
}

// ask sends a request to a listener.
func (m *mesh) ask(ctx context.Context, host, method, path string, body io.Reader, headers ...string) (answer, error) {
	resp, err := m.open(ctx, host, method, path, body, headers...)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(b)}, err
}

func (m *mesh) open(ctx context.Context, host, method, path string, body io.Reader, headers ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+host+path, body)
	if err != nil {
		return nil, err
	}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Set(k, v)
	}
	return m.transport().RoundTrip(req)
}

// sendsTo makes a node have another answer all its SQL.
func (n *meshNode) sendsTo(to string) {
	n.sql.do = func(context.Context, *wire.Request, wire.Sink) (wire.Meta, error) {
		return wire.Meta{}, &ElsewhereError{Node: to}
	}
	n.tenants.away = &ElsewhereError{Node: to}
	n.cluster.away = &ElsewhereError{Node: to}
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// cutConn breaks when so many bytes have been read.
type cutConn struct {
	net.Conn
	left int
}

func (c *cutConn) Read(p []byte) (int, error) {
	if len(p) > c.left {
		p = p[:c.left]
	}
	n, err := c.Conn.Read(p)
	if c.left -= n; c.left == 0 && err == nil {
		_ = c.Conn.Close()
		if n == 0 {
			return 0, errors.New("the connection broke")
		}
	}
	return n, err
}

// bytesOf is n bytes that are not all the same.
func bytesOf(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 / 3)
	}
	return b
}

// fakeCluster has the nodes n1 to n3, and the groups system and eu.
type fakeCluster struct {
	away error
	mu   struct {
		sync.Mutex
		states  map[string]string
		created []GroupOptions
		moved   []string
	}
}

func (f *fakeCluster) Nodes(context.Context) ([]NodeInfo, error) {
	if f.away != nil {
		return nil, f.away
	}
	var list []NodeInfo
	for _, id := range []string{"n1", "n2", "n3"} {
		n, _ := f.node(id)
		list = append(list, n)
	}
	return list, nil
}

func (f *fakeCluster) node(id string) (NodeInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !strings.HasPrefix(id, "n") || len(id) != 2 {
		return NodeInfo{}, wire.NewError(wire.CodeNoSuchNode, "no node has the id %q", id)
	}
	n := NodeInfo{ID: id, PoP: "ams", Region: "eu", State: NodeActive, ClusterAddr: id + ":7601", Joined: time.Unix(1e9, 0).UTC(), Self: id == "n1"}
	if s := f.mu.states[id]; s != "" {
		n.State = s
	}
	return n, nil
}

func (f *fakeCluster) Node(_ context.Context, id string) (NodeInfo, error) {
	if f.away != nil {
		return NodeInfo{}, f.away
	}
	return f.node(id)
}

func (f *fakeCluster) SetNodeState(ctx context.Context, id, state string) error {
	if _, err := f.Node(ctx, id); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.states == nil {
		f.mu.states = map[string]string{}
	}
	f.mu.states[id] = state
	return nil
}

func (f *fakeCluster) Groups(ctx context.Context) ([]GroupInfo, error) {
	a, err := f.Group(ctx, "1")
	b, _ := f.Group(ctx, "eu")
	return []GroupInfo{a, b}, err
}

func (f *fakeCluster) Group(_ context.Context, name string) (GroupInfo, error) {
	switch {
	case f.away != nil:
		return GroupInfo{}, f.away
	case name == "1" || name == "system":
		return GroupInfo{ID: 1, Name: "system", Voters: []string{"n1"}, Primary: "n1", Target: 3}, nil
	case name == "7" || name == "eu":
		return GroupInfo{ID: 7, Name: "eu", Region: "eu"}, nil
	}
	return GroupInfo{}, wire.NewError(wire.CodeNoSuchGroup, "no group is %q", name)
}

func (f *fakeCluster) CreateGroup(_ context.Context, o GroupOptions) (GroupInfo, error) {
	if f.away != nil {
		return GroupInfo{}, f.away
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if o.Name == "eu" {
		return GroupInfo{}, wire.NewError(wire.CodeConflict, "there is a group %q already", o.Name)
	}
	f.mu.created = append(f.mu.created, o)
	return GroupInfo{ID: 8, Name: o.Name, Declared: o.Voters, Target: o.Target, Region: o.Region}, nil
}

func (f *fakeCluster) MoveLeader(ctx context.Context, name, to string) error {
	if _, err := f.Group(ctx, name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.moved = append(f.mu.moved, name+" "+to)
	return nil
}
