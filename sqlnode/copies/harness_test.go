package copies

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

const groupID wire.GroupID = 2

// fleet is some nodes with one group, whose log is a slice that all who are not away read at once.
type fleet struct {
	t     *testing.T
	ctx   context.Context
	end   context.CancelFunc
	wg    sync.WaitGroup
	nodes []*node

	keepBytes int64              // of pagestore.Config
	onEntry   func(entry []byte) // called after an entry was applied

	mu      sync.Mutex
	entries [][]byte // from index 1 on
}

// node is one member.
type node struct {
	f       *fleet
	name    string
	fs      *disktest.MemFS
	disk    disk.FS
	g       *pagestore.Group
	server  *Server
	fetcher *Fetcher
	end     context.CancelFunc
	done    chan struct{}
	conns   *pipeListener
	primary bool
	down    bool // answers no requests

	fault func(from string, r *http.Response, err error) (*http.Response, error) // of what it asks others; nil for none
	log   *logBuffer

	// Guarded by fleet.mu:
	applied int // entries
	away    bool
	snap    []byte
	snapAt  int
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// bubble runs a test with a fleet on virtual time.
func bubble(t *testing.T, nodes int, test func(t *testing.T, f *fleet)) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{t: t}
		f.ctx, f.end = context.WithCancel(context.Background())
		for i := range nodes {
			n := &node{f: f, name: fmt.Sprintf("n%d", i+1), fs: disktest.NewMemFS(), log: &logBuffer{}, conns: newPipeListener(), primary: i == 0}
			f.nodes = append(f.nodes, n)
			n.disk = n.fs
			must(t, n.start())
			srv := &http.Server{Handler: n}
			f.wg.Go(func() { _ = srv.Serve(n.conns) })
			f.wg.Go(func() { <-f.ctx.Done(); srv.Close() })
		}
		defer func() {
			for _, n := range f.nodes {
				n.stop()
			}
			f.end()
			f.wg.Wait()
			if t.Failed() {
				for _, n := range f.nodes {
					t.Logf("%s:\n%s", n.name, n.log)
				}
			}
		}()
		test(t, f)
	})
}

// ServeHTTP answers others, if the node is not down.
func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.f.mu.Lock()
	s := n.server
	if n.down {
		s = nil
	}
	n.f.mu.Unlock()
	if s == nil {
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			c.Close()
		}
		return
	}
	s.ServeHTTP(w, r)
}

// Group implements Groups.
func (n *node) Group(id wire.GroupID) (*pagestore.Group, bool) { return n.g, id == groupID }

// Members implements Members.
func (n *node) Members(context.Context) Membership {
	m := Membership{Voter: true}
	for _, o := range n.f.nodes {
		if o != n {
			m.Others = append(m.Others, Member{o.name, true})
		}
	}
	return m
}

// RoundTrip implements http.RoundTripper.
func (n *node) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := n.f.transport().RoundTrip(r)
	if n.fault != nil {
		return n.fault(r.URL.Host, resp, err)
	}
	return resp, err
}

// transport dials for each request: what is left of one does not reach the next.
func (f *fleet) transport() *http.Transport {
	return &http.Transport{DisableKeepAlives: true, DisableCompression: true, DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(addr)
		i := slices.IndexFunc(f.nodes, func(n *node) bool { return n.name == host })
		if i < 0 {
			return nil, fmt.Errorf("no node %s", host)
		}
		return f.nodes[i].conns.dial(ctx)
	}}
}

// start opens the group on the node's disk, and reads what its log has.
func (n *node) start() error {
	log := slog.New(slog.NewTextHandler(n.log, nil))
	g, err := pagestore.NewGroup(pagestore.Config{ID: groupID, Dir: "/g", FS: n.disk, CheckpointAge: time.Hour, LTXAge: time.Hour, ScrubRate: 1 << 40, KeepBytes: n.f.keepBytes, Log: log})
	if err != nil {
		return err
	}
	n.f.mu.Lock()
	n.g = g
	g.SetLog(n)
	n.applied = 0
	if n.snap != nil {
		n.applied = n.snapAt
		if err := g.Restore(bytes.NewReader(n.snap)); err != nil {
			n.f.mu.Unlock()
			return err
		}
	}
	n.catchUpLocked()
	n.server = NewServer(ServerConfig{Groups: n, Log: log})
	n.f.mu.Unlock()
	n.fetcher = NewFetcher(FetcherConfig{Group: g, Members: n, Transport: n, Primary: n.isPrimary, Log: log})
	ctx, end := context.WithCancel(n.f.ctx)
	n.end, n.done = end, make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.Run(ctx) })
	wg.Go(func() { _ = n.server.Run(ctx) })
	done := n.done
	go func() {
		wg.Wait()
		close(done)
	}()
	return nil
}

func (n *node) isPrimary() bool { n.f.mu.Lock(); defer n.f.mu.Unlock(); return n.primary }

func (n *node) set(do func()) { n.f.mu.Lock(); defer n.f.mu.Unlock(); do() }

// fetch runs the fetcher until the test or the function returned ends it.
func (n *node) fetch() (stop func()) {
	ctx, end := context.WithCancel(n.f.ctx)
	done := make(chan struct{})
	f := n.fetcher
	go func() {
		defer close(done)
		_ = f.Run(ctx)
	}()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			end()
			<-done
		}
	}
	n.f.wg.Go(func() { <-done })
	return stop
}

func (n *node) stop() {
	if n.end == nil {
		return
	}
	n.end()
	<-n.done
	n.g.Close()
	n.end = nil
}

// restart opens the group again on what a crash left of the disk.
func (n *node) restart(fs *disktest.MemFS) {
	n.f.t.Helper()
	n.stop()
	n.fs, n.disk = fs, fs
	must(n.f.t, n.start())
}

func (n *node) catchUpLocked() {
	for ; n.applied < len(n.f.entries) && !n.away; n.applied++ {
		n.g.Apply(uint64(n.applied+1), 1, n.f.entries[n.applied])
	}
}

// Primary implements pagestore.Log.
func (n *node) Primary() error {
	if !n.isPrimary() {
		return errors.New("another node leads")
	}
	return nil
}

// Propose implements pagestore.Log.
func (n *node) Propose(entry []byte, done func(any, error)) {
	n.f.mu.Lock()
	n.f.entries = append(n.f.entries, bytes.Clone(entry))
	var resp any
	for _, o := range n.f.nodes {
		if o == n {
			resp = o.g.Apply(uint64(o.applied+1), 1, n.f.entries[o.applied])
			o.applied++
		} else {
			o.catchUpLocked()
		}
	}
	n.f.mu.Unlock()
	if n.f.onEntry != nil {
		n.f.onEntry(entry)
	}
	done(resp, nil)
}

// Snapshot implements pagestore.Log.
func (n *node) Snapshot() error {
	n.f.mu.Lock()
	c, err := n.g.Capture()
	at := n.applied
	n.f.mu.Unlock()
	if err != nil {
		return err
	}
	defer c.Release()
	var b bytes.Buffer
	if err := c.Persist(&b); err != nil {
		return err
	}
	n.set(func() { n.snap, n.snapAt = b.Bytes(), at })
	return nil
}

// pass gives n the snapshot of another, as the log does that went on without it.
func (n *node) pass(other *node) {
	n.f.t.Helper()
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	n.away = false
	n.snap, n.snapAt, n.applied = other.snap, other.snapAt, other.snapAt
	must(n.f.t, n.g.Restore(bytes.NewReader(n.snap)))
	n.catchUpLocked()
}

// tidy makes a checkpoint and lets the group absorb it.
func (n *node) tidy() {
	n.f.t.Helper()
	must(n.f.t, n.g.Checkpoint())
	time.Sleep(3 * time.Second)
	synctest.Wait()
}

func id(i int) wire.TenantID { return wire.TenantID{0: 9, 14: byte(i >> 8), 15: byte(i)} }

// create makes a tenant at the first node.
func (f *fleet) create(i int) *pagestore.Tenant {
	f.t.Helper()
	rec, err := tenant.New(id(i), tenant.Name(fmt.Sprintf("t%d", i)), tenant.CreateOptions{PageSize: 4096}, groupID, time.UnixMilli(1))
	must(f.t, err)
	payload, err := tenant.EncodeEvent(tenant.Created{Tenant: rec})
	must(f.t, err)
	h := txn.Header{Kind: txn.Control, Tenant: id(i), Epoch: 1, Group: groupID, Code: uint16(tenant.CodeCreated)}
	entry, err := txn.AppendEntry(nil, &h, payload)
	must(f.t, err)
	f.nodes[0].Propose(entry, func(resp any, _ error) {
		if err, ok := resp.(error); ok {
			f.t.Fatal(err)
		}
	})
	return f.nodes[0].tenant(i)
}

func (n *node) tenant(i int) *pagestore.Tenant {
	n.f.t.Helper()
	t, err := n.g.Tenant(id(i))
	must(n.f.t, err)
	return t
}

// exec runs statements at the first node, each in its transaction.
func (f *fleet) exec(i int, statements ...string) {
	f.t.Helper()
	t := f.nodes[0].tenant(i)
	s, err := t.Acquire()
	must(f.t, err)
	defer t.Release()
	c, err := t.OpenWriter(s, nil)
	must(f.t, err)
	defer c.Close()
	for _, sql := range statements {
		if _, err := run(c, sql); err != nil {
			f.t.Fatalf("%s: %v (%v)", sql, err, c.TakeErr())
		}
	}
}

// read runs one statement on the node's copy.
func (n *node) read(i int, sql string) (string, error) {
	t := n.tenant(i)
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
	out, err := run(c, sql)
	if cause := c.TakeErr(); err != nil && cause != nil {
		err = cause
	}
	return out, err
}

func run(c *pagestore.Conn, sql string) (string, error) {
	s, _, err := c.Prepare(sql, false)
	if err != nil {
		return "", err
	}
	defer s.Finalize()
	var out []string
	for {
		ok, err := s.Step()
		if err != nil || !ok {
			return strings.Join(out, ","), err
		}
		out = append(out, fmt.Sprint(s.Column(0)))
	}
}

// image is the whole database of a copy, whose pages are compared with their sums meanwhile.
func (n *node) image(i int) (pagestore.State, []byte, error) {
	t := n.tenant(i)
	s, err := t.Acquire()
	if err != nil {
		return pagestore.State{}, nil, err
	}
	defer t.Release()
	synctest.Wait()
	p, err := s.Snapshot()
	if err != nil {
		return pagestore.State{}, nil, err
	}
	defer p.Close()
	var b bytes.Buffer
	_, err = p.WriteTo(&b)
	return p.State(), b.Bytes(), err
}

// same wants the copies of two nodes to be the same, byte for byte, and to be what their checksum says.
func (f *fleet) same(a, b *node, i int) {
	f.t.Helper()
	sa, pa, err := a.image(i)
	if err != nil {
		f.t.Fatalf("tenant %d at %s: %v", i, a.name, err)
	}
	sb, pb, err := b.image(i)
	if err != nil {
		f.t.Fatalf("tenant %d at %s: %v", i, b.name, err)
	}
	if sa != sb || !bytes.Equal(pa, pb) {
		f.t.Fatalf("tenant %d: at %s %s, at %s %s, or other pages", i, a.name, sa, b.name, sb)
	}
	sum := wire.ChecksumFlag
	for pgno := uint32(1); pgno <= sb.Pages; pgno++ {
		sum ^= txn.PageSum(pgno, pb[(pgno-1)*4096:pgno*4096]) &^ wire.ChecksumFlag
	}
	if sb.TXID > 0 && sum != sb.Checksum {
		f.t.Fatalf("tenant %d at %s: the checksum of its pages is %s, its state %s", i, b.name, sum, sb)
	}
}

// healed waits until no copy of the node ails.
func (n *node) healed(within time.Duration) {
	n.f.t.Helper()
	for end := time.Now().Add(within); len(n.g.Ailing()) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			n.f.t.Fatalf("%s: %d copies ail after %s: %+v\n%s", n.name, len(n.g.Ailing()), within, n.g.Ailing()[0], n.log)
		}
	}
}

// flip damages a byte of a file.
func flip(t *testing.T, fs *disktest.MemFS, path string, off int64) {
	t.Helper()
	file, err := fs.OpenFile("test.open", path, os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	var b [1]byte
	_, err = file.ReadAt(b[:], off)
	must(t, err)
	b[0] ^= 4
	_, err = file.WriteAt(b[:], off)
	must(t, err)
}

// basePath is the newest base of a tenant on the node's disk.
func (n *node) basePath(i int) string {
	n.f.t.Helper()
	names, err := n.fs.ReadDir("test.list", "/g/bases")
	must(n.f.t, err)
	var found string
	for _, e := range names {
		if strings.HasPrefix(e.Name(), id(i).String()) && strings.HasSuffix(e.Name(), ".db") {
			found = "/g/bases/" + e.Name()
		}
	}
	return found
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
