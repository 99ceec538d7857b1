package replicas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/cluster/clustertest"
	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/readpath/readpathtest"
	"github.com/nearsql/nearsql/readpath/replica"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

const testGroup wire.GroupID = 7

// logger writes to stderr when LOG is set.
func logger() *slog.Logger {
	if os.Getenv("LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// raftLog is a group's log in memory, which all its voters follow at once.
type raftLog struct {
	mu      sync.Mutex
	entries [][]byte
	voters  []*pagestore.Group
	down    error
}

// voterLog is the log as one voter sees it.
type voterLog struct {
	l *raftLog
	g *pagestore.Group
}

func (v voterLog) Primary() error { v.l.mu.Lock(); defer v.l.mu.Unlock(); return v.l.down }

func (v voterLog) Propose(entry []byte, done func(any, error)) {
	l := v.l
	l.mu.Lock()
	if l.down != nil {
		err := l.down
		l.mu.Unlock()
		done(nil, err)
		return
	}
	e := bytes.Clone(entry)
	l.entries = append(l.entries, e)
	var resp any
	for i := len(l.voters) - 1; i >= 0; i-- {
		resp = l.voters[i].Apply(uint64(len(l.entries)), 1, e)
	}
	l.mu.Unlock()
	done(resp, nil)
	clear(entry) // the writer's buffer is its own again
}

func (v voterLog) Snapshot() error {
	v.l.mu.Lock()
	c, err := v.g.Capture()
	v.l.mu.Unlock()
	if err != nil {
		return err
	}
	defer c.Release()
	return c.Persist(io.Discard)
}

func (l *raftLog) index(context.Context) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.entries)), nil
}

// world is nodes on a network, some of which have the group's log.
type world struct {
	t     testing.TB
	net   *clustertest.Network
	logs  map[wire.GroupID]*raftLog
	nodes map[string]*node
	tail  int64         // bytes of a lane
	keep  time.Duration // of LTX files at voters
}

// node is one node.
type node struct {
	w        *world
	name     string
	fs       disk.FS
	feeders  []string // from which it follows all tenants
	cfg      func(*Config)
	admit    func(tenant.Tenant, string) error   // nil to admit all
	source   func(replica.Source) replica.Source // what a hostile one feeds from
	set      *Set
	follower *replica.Follower
	feeder   *replica.Feeder
	hosts    map[wire.GroupID]Host
	ctx      context.Context // of the run
	cancel   context.CancelFunc
	run      *sync.WaitGroup
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, net: clustertest.New(clustertest.Options{}), logs: map[wire.GroupID]*raftLog{}, nodes: map[string]*node{}, tail: 64 << 10, keep: 24 * time.Hour}
	t.Cleanup(func() {
		for _, n := range w.nodes {
			n.stop()
		}
	})
	return w
}

// Host implements Hosts.
func (n *node) Host(group wire.GroupID) (Host, bool) {
	h, ok := n.hosts[group]
	return h, ok
}

// HostOf implements Hosts.
func (n *node) HostOf(id wire.TenantID) (Host, bool) {
	for _, h := range n.hosts {
		if _, err := h.Pages.Tenant(id); err == nil {
			return h, true
		}
	}
	return Host{}, false
}

// voter starts a node that has the log of a group.
func (w *world) voter(name string, group wire.GroupID) *node {
	w.t.Helper()
	l := w.logs[group]
	if l == nil {
		l = &raftLog{}
		w.logs[group] = l
	}
	lane := NewLane(group, w.tail, nil)
	g, err := pagestore.NewGroup(pagestore.Config{ID: group, Dir: "/g", FS: disktest.NewMemFS(), Log: logger(), Now: time.Now, Observer: lane, CheckpointAge: 5 * time.Second,
		LTXAge: 20 * time.Second, LTXRetention: w.keep})
	must(w.t, err)
	g.SetLog(voterLog{l, g})
	l.mu.Lock()
	for i, e := range l.entries {
		g.Apply(uint64(i+1), 1, e)
	}
	l.voters = append(l.voters, g)
	l.mu.Unlock()
	n := w.node(name)
	n.hosts[group] = Host{Pages: g, Lane: lane, ReadIndex: l.index}
	n.start()
	n.run.Go(func() { _ = g.Run(n.ctx) })
	return n
}

// node makes a node that is not started.
func (w *world) node(name string, feeders ...string) *node {
	n := &node{w: w, name: name, fs: disktest.NewMemFS(), feeders: feeders, hosts: map[wire.GroupID]Host{}}
	w.nodes[name] = n
	return n
}

// replica starts a node that follows.
func (w *world) replica(name string, feeders ...string) *node {
	n := w.node(name, feeders...)
	n.start()
	return n
}

func (n *node) start() {
	n.w.t.Helper()
	must(n.w.t, n.tryStart())
}

func (n *node) tryStart() error {
	w := n.w
	cfg := Config{Dir: "/data/replicas", FS: n.fs, Log: logger().With("node", n.name), CheckpointAge: 5 * time.Second, LTXAge: 20 * time.Second, ScrubEvery: 10 * time.Minute}
	if n.cfg != nil {
		n.cfg(&cfg)
	}
	var err error
	if n.set, err = New(cfg); err != nil {
		return err
	}
	p := w.net.Node(n.name)
	l, err := p.Listen()
	if err != nil {
		return err
	}
	cn, err := cluster.New(cluster.Config{ClusterID: cluster.ID{1}, Node: n.name, Listener: l, Dialer: p.Dial, Resolve: w.net.Resolve})
	if err != nil {
		return err
	}
	ticks := readpath.NewTicks(readpathtest.NewClock(0))
	n.follower, err = replica.NewFollower(replica.FollowerConfig{
		Sink: n.set, Ticks: ticks, Log: cfg.Log, TailBytes: w.tail,
		Dial: func(ctx context.Context, node string) (net.Conn, error) {
			return cn.Dial(ctx, node, cluster.PurposeStream, 0)
		},
		Feeders: func(wire.TenantID) []string { return slices.Clone(n.feeders) },
	})
	if err != nil {
		return err
	}
	n.set.SetFollower(n.follower)
	var src replica.Source = NewSource(n, n.set, n.follower).Admitting(n.admit)
	if n.source != nil {
		src = n.source(src)
	}
	if n.feeder, err = replica.NewFeeder(replica.FeederConfig{Source: src, Log: cfg.Log}); err != nil {
		return err
	}
	if err := cn.Handle(cluster.PurposeStream, func(ctx context.Context, c *cluster.Conn) { n.feeder.Serve(ctx, c.From(), c) }); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.ctx, n.cancel, n.run = ctx, cancel, &sync.WaitGroup{}
	for _, part := range []func(context.Context) error{cn.Run, ticks.Run, n.feeder.Run, n.follower.Run, n.set.Run} {
		n.run.Go(func() {
			if err := part(ctx); err != nil {
				w.t.Errorf("node %s: %v", n.name, err)
			}
		})
	}
	return nil
}

func (n *node) stop() {
	if n.cancel == nil {
		return
	}
	n.cancel()
	n.run.Wait()
	n.cancel = nil
	for _, h := range n.hosts {
		h.Pages.Close()
	}
}

// follow lets the node follow a tenant.
func (n *node) follow(id wire.TenantID) { n.follower.Follow(id, testGroup, 0) }

// tenant is the node's copy of a tenant, or nil.
func (n *node) tenant(id wire.TenantID) *pagestore.Tenant {
	if h, ok := n.HostOf(id); ok {
		t, _ := h.Pages.Tenant(id)
		return t
	}
	t, _ := n.set.Tenant(id)
	return t
}

// control puts an event in the log, at a voter.
func (n *node) control(id wire.TenantID, e tenant.Event) error {
	h := n.hosts[testGroup]
	payload, err := tenant.EncodeEvent(e)
	if err != nil {
		return err
	}
	hd := txn.Header{Kind: txn.Control, Tenant: id, Epoch: 1, Group: testGroup, Code: uint16(e.Code())}
	if t, err := h.Pages.Tenant(id); err == nil {
		st := t.Logged()
		hd.Epoch = t.Record().Epoch
		hd.PrevTXID, hd.PrevSum, hd.NextTXID, hd.NextSum, hd.Commit = st.TXID, st.Checksum, st.TXID, st.Checksum, st.Pages
	}
	entry, err := txn.AppendEntry(nil, &hd, payload)
	if err != nil {
		return err
	}
	out := make(chan error, 1)
	voterLog{n.w.logs[testGroup], h.Pages}.Propose(entry, func(resp any, err error) {
		if e, ok := resp.(error); ok {
			err = e
		}
		out <- err
	})
	return <-out
}

func tenantID(n byte) wire.TenantID { return wire.TenantID{0: 9, 15: n} }

// create makes a tenant at a voter.
func (n *node) create(k byte) wire.TenantID {
	n.w.t.Helper()
	id := tenantID(k)
	rec, err := tenant.New(id, tenant.Name(fmt.Sprintf("t%d", k)), tenant.CreateOptions{PageSize: 1024}, testGroup, time.UnixMilli(1))
	must(n.w.t, err)
	must(n.w.t, n.control(id, tenant.Created{Tenant: rec}))
	return id
}

// write runs statements at a voter, each a transaction.
func (n *node) write(id wire.TenantID, sql ...string) {
	n.w.t.Helper()
	t := n.tenant(id)
	s, err := t.Acquire()
	must(n.w.t, err)
	defer t.Release()
	c, err := t.OpenWriter(s, nil)
	must(n.w.t, err)
	defer c.Close()
	for _, q := range sql {
		if err := c.Exec(q); err != nil {
			n.w.t.Fatalf("%s: %v (%v)", q, err, c.TakeErr())
		}
	}
}

// dump is all pages of a copy, and what state they are.
func dump(t *pagestore.Tenant) ([]byte, pagestore.State, error) {
	s, err := t.Acquire()
	if err != nil {
		return nil, pagestore.State{}, err
	}
	defer t.Release()
	if err := pagestore.WaitVisible(nil, s, t.Logged().TXID); err != nil {
		return nil, pagestore.State{}, err
	}
	snap, err := s.Snapshot()
	if err != nil {
		return nil, pagestore.State{}, err
	}
	defer snap.Close()
	var b bytes.Buffer
	_, err = snap.WriteTo(&b)
	return b.Bytes(), snap.State(), err
}

// query reads one value of a copy.
func query(t *pagestore.Tenant, sql string) (string, error) {
	s, err := t.Acquire()
	if err != nil {
		return "", err
	}
	defer t.Release()
	c, err := s.OpenReader(nil)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return queryOn(c, sql)
}

func queryOn(c *pagestore.Conn, sql string) (string, error) {
	st, _, err := c.Prepare(sql, false)
	if err != nil {
		return "", errors.Join(err, c.TakeErr())
	}
	defer st.Finalize()
	if ok, err := st.Step(); err != nil || !ok {
		return "", errors.Join(err, c.TakeErr())
	}
	return strings.Trim(fmt.Sprint(st.Column(0)), `"`), nil
}

// eventually waits for cond, in virtual time.
func (w *world) eventually(what string, cond func() bool) {
	w.t.Helper()
	for range 1200 {
		if cond() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.t.Fatalf("never: %s", what)
}

// joined waits until a tenant is joined at a node.
func (n *node) joined(id wire.TenantID) {
	n.w.t.Helper()
	n.w.eventually(fmt.Sprintf("%s joined at %s", id, n.name), func() bool { s, _ := n.follower.Status(id); return s.Joined })
}

// same waits until a copy is byte for byte another one.
func (w *world) same(id wire.TenantID, at, as *node) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("tenant %s at %s as at %s", id, at.name, as.name), func() bool {
		a, b := at.tenant(id), as.tenant(id)
		return a != nil && a.Failed() == nil && a.Logged() == b.Logged() && a.Record() == b.Record()
	})
	a, sa, err := dump(at.tenant(id))
	must(w.t, err)
	b, sb, err := dump(as.tenant(id))
	must(w.t, err)
	if sa != sb || !bytes.Equal(a, b) {
		w.t.Fatalf("tenant %s: %s is at %s, %s at %s, and %d of %d bytes", id, at.name, sa, as.name, sb, len(a), len(b))
	}
}
