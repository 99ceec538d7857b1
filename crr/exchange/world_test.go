package exchange_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/cluster/clustertest"
	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/crr/crrtest"
	"github.com/nearsql/nearsql/crr/exchange"
	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/wire"
)

var acme = wire.TenantID{0xac, 15: 1}

const (
	likes = "CREATE TABLE crr.likes(id TEXT PRIMARY KEY NOT NULL, n COUNTER NOT NULL DEFAULT 0, title TEXT)"
	pairs = "CREATE TABLE crr.pairs(id INT PRIMARY KEY NOT NULL, v INT)"
)

// world is some nodes, and what the strong schema says of them.
type world struct {
	t       *testing.T
	dir     string
	net     *clustertest.Network
	nodes   map[string]*testNode
	configs func(*exchange.Config) // changes those of nodes that are started from then on
	pause   func()                 // is called where a node's file is waited for, and where its turn has ended; nil: no pauses

	mu      sync.Mutex
	members map[wire.TenantID][]member // by number - 1
	sent    map[crr.FileID]crr.HLC
}

// member is a row of __crr_site.
type member struct {
	node string
	crr.Member
}

// testNode is a running node.
type testNode struct {
	*exchange.Exchange
	w     *world
	name  string
	skew  time.Duration
	stop  func()
	net   *cluster.Net
	begun time.Time
	run   uint32 // crr.Config.Run

	mu     sync.Mutex
	files  map[wire.TenantID]*testFile
	behind int
	copied int
}

// testFile is an open file.
type testFile struct {
	path    string
	writer  chan struct{}
	site    *crr.Site
	readers chan *crrtest.Conn // connections for readers, made anew for each use: two are used at a time
	conn    *crrtest.Conn      // of site
}

// bubble runs a test in a bubble, with a world.
func bubble(t *testing.T, f func(w *world)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, dir: dir, net: clustertest.New(clustertest.Options{Window: 1 << 20}), nodes: make(map[string]*testNode),
			members: make(map[wire.TenantID][]member), sent: make(map[crr.FileID]crr.HLC)}
		defer func() {
			for _, n := range w.all() {
				n.stop()
			}
		}()
		f(w)
	})
}

func (w *world) all() (out []*testNode) {
	for _, n := range w.nodes {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b *testNode) int { return strings.Compare(a.name, b.name) })
	return out
}

// start starts a node, with the tenants' files that it has.
func (w *world) start(name string, skew time.Duration, tenants ...wire.TenantID) *testNode {
	w.t.Helper()
	p := w.net.Node(name)
	l, err := p.Listen()
	if err != nil {
		w.t.Fatal(err)
	}
	cn, err := cluster.New(cluster.Config{ClusterID: cluster.ID{1}, Node: name, Listener: l, Dialer: p.Dial, Resolve: w.net.Resolve})
	if err != nil {
		w.t.Fatal(err)
	}
	n := &testNode{w: w, name: name, skew: skew, net: cn, files: make(map[wire.TenantID]*testFile), begun: time.Now(), run: crr.NewRun()}
	cfg := exchange.Config{Node: name, Host: n, Now: n.now, Dial: func(ctx context.Context, node string) (net.Conn, error) {
		return cn.Dial(ctx, node, cluster.PurposeExchange, 0)
	}}
	if w.configs != nil {
		w.configs(&cfg)
	}
	if n.Exchange, err = exchange.New(cfg); err != nil {
		w.t.Fatal(err)
	}
	if err := cn.Handle(cluster.PurposeExchange, func(ctx context.Context, c *cluster.Conn) { n.Serve(ctx, c.From(), c) }); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = cn.Run(ctx) })
	running.Go(func() { _ = n.Run(ctx) })
	n.stop = sync.OnceFunc(func() {
		w.net.Kill(name)
		cancel()
		running.Wait()
		for _, f := range n.files {
			f.close(w.t)
		}
		delete(w.nodes, name)
	})
	w.nodes[name] = n
	for _, id := range tenants {
		n.open(id, filepath.Join(w.dir, fmt.Sprintf("%s-%s.db", name, id)))
		n.Add(id)
	}
	return n
}

func (n *testNode) now() time.Time { return time.Now().Add(n.skew) }

// open opens a file, makes its tables, and gives it a number if it has none.
func (n *testNode) open(id wire.TenantID, path string) *testFile {
	t := n.w.t
	t.Helper()
	f := &testFile{path: path, writer: make(chan struct{}, 1), readers: make(chan *crrtest.Conn, 2)}
	n.openSite(id, f)
	for i, sql := range []string{likes, pairs} {
		if err := f.site.ApplySchema(schema.Change{Version: uint64(i + 1), SQL: sql}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		c, err := crrtest.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		f.readers <- c
	}
	me := f.site.Identity()
	w := n.w
	w.mu.Lock()
	if err := f.site.CheckSent(me.File, w.sent[me.File]); err != nil {
		t.Log(err)
		me = f.site.Identity()
	}
	w.mu.Unlock()
	n.mu.Lock()
	n.files[id] = f
	n.mu.Unlock()
	if me.Site == 0 {
		n.number(id, f)
	} else {
		w.spread(id)
	}
	return f
}

// openSite opens the writer of a file.
func (n *testNode) openSite(id wire.TenantID, f *testFile) {
	t := n.w.t
	t.Helper()
	var err error
	if f.conn, err = crrtest.Open(f.path); err != nil {
		t.Fatal(err)
	}
	if f.site, err = crr.Open(f.conn, crr.Config{Tenant: id.String(), Now: n.now, Run: n.run}); err != nil {
		t.Fatal(err)
	}
	// Nodes are killed here; no power is lost.
	if err := f.conn.Exec("PRAGMA crr.synchronous=OFF"); err != nil {
		t.Fatal(err)
	}
}

// reopen closes the writer of a file and opens it anew, as a node does when the tenant's copy is replaced by another, or nobody wrote for long. Readers go on.
func (n *testNode) reopen(id wire.TenantID) {
	f := n.file(id)
	f.writer <- struct{}{}
	f.site.Close()
	if err := f.conn.Close(); err != nil {
		n.w.t.Error(err)
	}
	n.openSite(id, f)
	ms := n.w.list(id)
	f.site.SetMembers(ms)
	<-f.writer
}

// number gives a file a new number.
func (n *testNode) number(id wire.TenantID, f *testFile) {
	w := n.w
	f.writer <- struct{}{}
	w.mu.Lock()
	list := w.members[id]
	for i, m := range list {
		if m.node == n.name && m.State == crr.Active {
			list[i].State, list[i].Final = crr.Retired, w.newest(id, m.Site)
		}
	}
	site := crr.SiteID(len(list) + 1)
	file := f.site.Identity().File
	w.members[id] = append(list, member{n.name, crr.Member{Site: site, File: file, State: crr.Active}})
	w.mu.Unlock()
	err := f.site.Adopt(file, site)
	<-f.writer
	if err != nil {
		w.t.Error(err)
	}
	w.spread(id)
}

// newest is the newest transaction of a site that a running node has. w.mu is held.
func (w *world) newest(id wire.TenantID, site crr.SiteID) (h crr.HLC) {
	for _, n := range w.nodes {
		if f := n.file(id); f != nil {
			h = max(h, f.site.Head().Vector[site])
		}
	}
	return h
}

// list is who is a site, or was.
func (w *world) list(id wire.TenantID) (ms []crr.Member) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.members[id] {
		ms = append(ms, m.Member)
	}
	return ms
}

// spread tells all nodes who is a site.
func (w *world) spread(id wire.TenantID) {
	ms := w.list(id)
	w.mu.Lock()
	nodes := w.all()
	w.mu.Unlock()
	for _, n := range nodes {
		if f := n.file(id); f != nil {
			_ = n.Write(context.Background(), id, func(s *crr.Site) error { s.SetMembers(ms); return nil })
			n.Add(id)
		}
	}
}

// retire retires a node's site: what somebody has of it counts.
func (w *world) retire(id wire.TenantID, node string) {
	w.mu.Lock()
	for i, m := range w.members[id] {
		if m.node == node && m.State == crr.Active {
			w.members[id][i].State, w.members[id][i].Final = crr.Retired, w.newest(id, m.Site)
		}
	}
	w.mu.Unlock()
	w.spread(id)
}

func (n *testNode) file(id wire.TenantID) *testFile {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.files[id]
}

func (f *testFile) close(t *testing.T) {
	f.writer <- struct{}{}
	f.site.Close()
	for _, c := range []*crrtest.Conn{<-f.readers, <-f.readers, f.conn} {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The methods of exchange.Host.

func (n *testNode) Peers(id wire.TenantID) (out []exchange.Peer) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	for _, m := range n.w.members[id] {
		if m.node != n.name && m.State != crr.Retired {
			out = append(out, exchange.Peer{Node: m.node, Site: m.Site, File: m.File})
		}
	}
	return out
}

func (n *testNode) Head(_ context.Context, id wire.TenantID) (crr.Head, error) {
	f := n.file(id)
	if f == nil {
		return crr.Head{}, errors.New("no file")
	}
	if n.w.pause == nil {
		return f.site.Head(), nil
	}
	var h crr.Head
	err := n.Write(context.Background(), id, func(s *crr.Site) error { h = s.Head(); return nil })
	return h, err
}

func (n *testNode) Write(ctx context.Context, id wire.TenantID, do func(*crr.Site) error) error {
	f := n.file(id)
	if f == nil {
		return errors.New("no file")
	}
	n.w.rest()
	defer n.w.rest()
	select {
	case f.writer <- struct{}{}:
		defer func() { <-f.writer }()
		return do(f.site)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rest is a pause, if there are any.
func (w *world) rest() {
	if w.pause != nil {
		w.pause()
	}
}

func (n *testNode) Read(ctx context.Context, id wire.TenantID, do func(*crr.Reader) error) error {
	f := n.file(id)
	if f == nil {
		return errors.New("no file")
	}
	select {
	case c := <-f.readers:
		defer func() { f.readers <- c }()
		var r *crr.Reader
		if err := n.Write(ctx, id, func(s *crr.Site) error { r = s.NewReader(c); return nil }); err != nil {
			return err
		}
		defer r.Close()
		return do(r)
	default:
		n.w.t.Errorf("%s: a third reader", n.name)
		return errors.New("a third reader")
	}
}

func (n *testNode) Snapshot(_ context.Context, id wire.TenantID, w io.Writer) error {
	f := n.file(id)
	n.mu.Lock()
	n.copied++
	n.mu.Unlock()
	c, err := crrtest.Open(f.path)
	if err != nil {
		return err
	}
	defer c.Close()
	path := filepath.Join(n.w.dir, fmt.Sprintf("snapshot-%s-%d.db", n.name, rand.Uint64()))
	if err := crr.Snapshot(c, path); err != nil {
		return err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

func (n *testNode) Sent(_ wire.TenantID, file crr.FileID, upto crr.HLC) error {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.w.sent[file] = max(n.w.sent[file], upto)
	return nil
}

func (n *testNode) Rewound(id wire.TenantID, err *crr.RewoundError) {
	go n.number(id, n.file(id))
}

func (n *testNode) Behind(id wire.TenantID, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.behind++
}

// Writing and reading.

// try runs statements as one local transaction, and tells of it.
func (n *testNode) try(id wire.TenantID, sqls ...string) (crr.Committed, error) {
	c, before, after, err := n.commit(id, sqls...)
	if err == nil {
		n.Committed(id, before, after)
	}
	return c, err
}

// commit runs statements as one local transaction.
func (n *testNode) commit(id wire.TenantID, sqls ...string) (c crr.Committed, before, after crr.Head, err error) {
	f := n.file(id)
	err = n.Write(context.Background(), id, func(s *crr.Site) (err error) {
		before = s.Head()
		defer func() { after = s.Head() }()
		s.SetOffset(n.Ahead())
		if err := s.Begin(); err != nil {
			return err
		}
		for _, sql := range sqls {
			if err = s.Use(crr.Classify(sql)); err == nil {
				err = f.conn.Exec(sql)
			}
			if err != nil {
				return errors.Join(err, s.Rollback())
			}
		}
		c, err = s.Commit()
		return err
	})
	return c, before, after, err
}

func (n *testNode) do(sqls ...string) crr.Committed {
	n.w.t.Helper()
	c, err := n.try(acme, sqls...)
	if err != nil {
		n.w.t.Fatalf("%s: %v: %v", n.name, sqls, err)
	}
	return c
}

func like(id string) string {
	return "INSERT INTO likes(id,n) VALUES('" + id + "',1) ON CONFLICT(id) DO UPDATE SET n=n+1"
}

// rows runs a query on the writer's connection; each row is a line.
func (n *testNode) rows(id wire.TenantID, sql string) (out []string) {
	n.w.t.Helper()
	f := n.file(id)
	err := n.Write(context.Background(), id, func(*crr.Site) error {
		st, err := f.conn.Prepare(sql)
		if err != nil {
			return err
		}
		defer st.Finalize()
		for {
			more, err := st.Step()
			if err != nil || !more {
				return err
			}
			out = append(out, st.Column(0).String())
		}
	})
	if err != nil {
		n.w.t.Fatalf("%s: %s: %v", n.name, sql, err)
	}
	return out
}

// dump is all of a tenant's tables and metadata.
func (n *testNode) dump(id wire.TenantID) string {
	var out []string
	for _, q := range []string{"SELECT quote(id)||quote(n)||quote(title) FROM likes ORDER BY id", "SELECT quote(id)||quote(v) FROM pairs ORDER BY id",
		"SELECT hex(k)||hex(st) FROM __crr_m1 ORDER BY k", "SELECT hex(k)||hex(st) FROM __crr_m2 ORDER BY k"} {
		out = append(out, n.rows(id, q)...)
	}
	return strings.Join(out, "\n") + "\n" + n.file(id).site.Head().Vector.String()
}

// same waits until all nodes have the same, and fails when that takes longer than d.
func (w *world) same(d time.Duration, id wire.TenantID, nodes ...*testNode) time.Duration {
	w.t.Helper()
	began := time.Now()
	for {
		synctest.Wait()
		equal := true
		for _, n := range nodes[1:] {
			equal = equal && n.file(id).site.Head().Hash == nodes[0].file(id).site.Head().Hash
		}
		if equal {
			break
		}
		if time.Since(began) > d {
			for _, n := range nodes {
				s, _ := n.Status(id)
				w.t.Logf("%s: %s, sites %+v", n.name, n.file(id).site.Head().Vector, s.Sites)
			}
			w.t.Fatalf("the nodes are not equal after %v", d)
		}
		time.Sleep(10 * time.Millisecond)
	}
	want := nodes[0].dump(id)
	for _, n := range nodes {
		if got := n.dump(id); got != want {
			w.t.Fatalf("%s differs from %s:\n%s\nand\n%s", n.name, nodes[0].name, got, want)
		}
		w.check(n, id)
	}
	return time.Since(began)
}

// check fails when a file contradicts itself.
func (w *world) check(n *testNode, id wire.TenantID) {
	w.t.Helper()
	_ = n.Read(context.Background(), id, func(r *crr.Reader) error {
		ts, err := r.Check()
		if err != nil {
			w.t.Fatal(err)
		}
		for _, x := range ts {
			for _, f := range x.Faults {
				w.t.Errorf("%s, table %s: %s", n.name, x.Name, f)
			}
		}
		return nil
	})
}

// distances sets all delays, one way.
func (w *world) distances(d func(i, j int) time.Duration, names ...string) {
	for i, a := range names {
		for j, b := range names {
			if i < j {
				w.net.SetDelayBoth(a, b, d(i, j))
			}
		}
	}
}
