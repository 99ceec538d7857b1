package recovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/leader/leadertest"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// node is one node of a group: its data directory, and its life while it runs.
type node struct {
	t     testing.TB
	id    leader.NodeID
	dir   string
	group wire.GroupID
	net   leader.Network

	pages *pagestore.Group
	log   *leader.Group
	stop  func()
}

const clusterBefore = "00112233445566778899aabbccddeeff"

func newNode(t testing.TB, network *leadertest.Network, id leader.NodeID, group wire.GroupID) *node {
	n := &node{t: t, id: id, dir: t.TempDir(), group: group, net: network.Node(id)}
	must(t, os.MkdirAll(filepath.Join(n.dir, "groups"), 0o700))
	must(t, os.WriteFile(filepath.Join(n.dir, "lock"), nil, 0o600))
	n.identity(fmt.Sprintf(`{"format":1,"cluster":%q,"node":%q,"incarnation":"x","later":[1]}`, clusterBefore, id))
	t.Cleanup(func() { n.halt() })
	return n
}

func (n *node) identity(text string) {
	must(n.t, os.WriteFile(filepath.Join(n.dir, identityFile), []byte(text), 0o600))
}

// machine is leader.Machine over pages.
type machine struct{ *pagestore.Group }

func (m machine) Snapshot() (leader.SnapshotWriter, error) {
	c, err := m.Capture()
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (m machine) Restore(r io.Reader) error { return m.Group.Restore(r) }

func (n *node) start(voters ...leader.NodeID) {
	n.t.Helper()
	dir := filepath.Join(n.dir, "groups", fmt.Sprint(n.group))
	var err error
	n.pages, err = pagestore.NewGroup(pagestore.Config{ID: n.group, Dir: dir})
	must(n.t, err)
	n.log, err = leader.New(leader.Config{
		Group: n.group, Node: n.id, FS: disk.OS(), Dir: filepath.Join(dir, "raft"), Machine: machine{n.pages}, Network: n.net, InitialVoters: voters, SegmentSize: 64 << 10,
	})
	must(n.t, err)
	n.pages.SetLog(n.log)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{}, 2)
	go func() { _ = n.log.Run(ctx); ended <- struct{}{} }()
	go func() { _ = n.pages.Run(ctx); ended <- struct{}{} }()
	n.stop = func() {
		cancel()
		<-ended
		<-ended
		n.pages.Close()
	}
}

func (n *node) halt() {
	if n.stop != nil {
		n.stop()
		n.stop = nil
	}
}

func (n *node) leads() bool { l, _ := n.log.Leadership(); return l.Primary }

func primary(t testing.TB, nodes ...*node) *node {
	t.Helper()
	var p *node
	if !leadertest.Wait(time.Minute, func() bool {
		i := slices.IndexFunc(nodes, (*node).leads)
		if i >= 0 {
			p = nodes[i]
		}
		return p != nil
	}) {
		t.Fatal("no primary")
	}
	return p
}

func (n *node) propose(entry []byte) error {
	out := make(chan error, 1)
	n.log.Propose(entry, func(resp any, err error) {
		if e, ok := resp.(error); ok {
			err = e
		}
		out <- err
	})
	return <-out
}

func (n *node) create(id wire.TenantID, name tenant.Name) {
	n.t.Helper()
	rec, err := tenant.New(id, name, tenant.CreateOptions{}, n.group, time.Now())
	must(n.t, err)
	payload, err := tenant.EncodeEvent(tenant.Created{Tenant: rec})
	must(n.t, err)
	entry, err := txn.AppendEntry(nil, &txn.Header{Kind: txn.Control, Code: uint16(tenant.CodeCreated), Tenant: id, Epoch: 1, Group: n.group}, payload)
	must(n.t, err)
	must(n.t, n.propose(entry))
}

// exec runs SQL in the tenant's writer and waits until it is committed.
func (n *node) exec(id wire.TenantID, sql string) {
	n.t.Helper()
	tn, err := n.pages.Tenant(id)
	must(n.t, err)
	s, err := tn.Acquire()
	must(n.t, err)
	defer tn.Release()
	c, err := tn.OpenWriter(s, nil)
	must(n.t, err)
	defer c.Close()
	st, _, err := c.Prepare(sql, false)
	must(n.t, err)
	defer st.Finalize()
	if _, err := st.Step(); err != nil {
		n.t.Fatalf("%s: %v (%v)", sql, err, c.TakeErr())
	}
	want := tn.Logged().TXID + 1
	if !leadertest.Wait(10*time.Second, func() bool { return tn.Position().TXID >= want }) && tn.Logged().TXID == 0 {
		n.t.Fatalf("%s: not committed", sql)
	}
}

// count is the number of rows of t, as this node has them.
func (n *node) count(id wire.TenantID) int64 {
	n.t.Helper()
	tn, err := n.pages.Tenant(id)
	must(n.t, err)
	s, err := tn.Acquire()
	must(n.t, err)
	defer tn.Release()
	must(n.t, pagestore.WaitVisible(n.t.Context().Done(), s, tn.Logged().TXID))
	c, err := s.OpenReader(nil)
	must(n.t, err)
	defer c.Close()
	st, _, err := c.Prepare("select count(*) from t", false)
	must(n.t, err)
	defer st.Finalize()
	if _, err := st.Step(); err != nil {
		n.t.Fatal(err)
	}
	return st.Column(0).Int()
}

func (n *node) pos(id wire.TenantID) wire.Pos {
	n.t.Helper()
	tn, err := n.pages.Tenant(id)
	must(n.t, err)
	return tn.Position()
}

var (
	one = wire.TenantID{0: 1}
	two = wire.TenantID{0: 2}
)

// lost makes a group of three, of which n1 and n2 went on without n3, and stops them all.
func lost(t testing.TB, group wire.GroupID, snapshot bool) (net *leadertest.Network, nodes []*node) {
	t.Helper()
	net = leadertest.NewNetwork()
	ids := []leader.NodeID{"n1", "n2", "n3"}
	for _, id := range ids {
		n := newNode(t, net, id, group)
		n.start(ids...)
		nodes = append(nodes, n)
	}
	p := primary(t, nodes...)
	p.create(one, "one")
	p.create(two, "two")
	p.exec(one, "create table t(x)")
	p.exec(two, "create table t(x)")
	for range 5 {
		p.exec(one, "insert into t values (1)")
	}
	n3 := nodes[2]
	if !leadertest.Wait(time.Minute, func() bool {
		tn, err := n3.pages.Tenant(one)
		return err == nil && tn.Position() == p.pos(one) && n3.pos(two) == p.pos(two)
	}) {
		t.Fatal("n3 does not follow")
	}
	if snapshot {
		must(t, n3.pages.Checkpoint())
	}
	if snapshot {
		p.exec(one, "insert into t values (2)")
		if !leadertest.Wait(time.Minute, func() bool { return n3.pos(one) == p.pos(one) }) {
			t.Fatal("n3 does not follow")
		}
	}
	n3.halt()
	p = primary(t, nodes[:2]...)
	for range 3 {
		p.exec(one, "insert into t values (3)")
	}
	nodes[0].halt()
	nodes[1].halt()
	return net, nodes
}

func open(t testing.TB, dir string) *Directory {
	t.Helper()
	d, err := Open(Config{DataDir: dir})
	must(t, err)
	return d
}

func TestRecover(t *testing.T) {
	for _, group := range []wire.GroupID{SystemGroup, 2} {
		for _, snapshot := range []bool{false, true} {
			t.Run(fmt.Sprintf("group %d, snapshot %v", group, snapshot), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testRecover(t, group, snapshot) })
			})
		}
	}
}

func testRecover(t *testing.T, group wire.GroupID, snapshot bool) {
	net, nodes := lost(t, group, snapshot)
	n3 := nodes[2]
	d := open(t, n3.dir)
	if _, err := Open(Config{DataDir: n3.dir}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second one: %v", err)
	}
	ids, err := d.Groups()
	if err != nil || !slices.Equal(ids, []wire.GroupID{group}) || d.Node() != "n3" || d.Cluster().String() != clusterBefore {
		t.Fatalf("groups %v, %v, node %s, cluster %s", ids, err, d.Node(), d.Cluster())
	}
	c, err := d.Examine(group)
	must(t, err)
	if !slices.Equal(c.Lost("n3"), []leader.NodeID{"n1", "n2"}) || c.Learner("n3") || len(c.Tenants) != 2 {
		t.Fatalf("examined %+v", c)
	}
	for _, tn := range c.Tenants {
		if tn.Trouble != "" || tn.Pos.Epoch != 1 || tn.Pos.TXID == 0 {
			t.Errorf("tenant %+v", tn)
		}
	}
	done, err := d.Recover([]Copy{c})
	must(t, err)
	if done.NewCluster != (group == SystemGroup) || done.Cluster != d.Cluster() || (d.Cluster().String() == clusterBefore) != (group != SystemGroup) {
		t.Errorf("recovered %+v", done)
	}
	// Whatever else the identity says, stays.
	text, err := os.ReadFile(filepath.Join(n3.dir, identityFile))
	must(t, err)
	for _, want := range []string{done.Cluster.String(), `"later"`, `"incarnation":"x"`, `"node":"n3"`} {
		if !strings.Contains(strings.ReplaceAll(string(text), " ", ""), want) {
			t.Errorf("identity %s lacks %s", text, want)
		}
	}
	kept := done.Kept[group]
	text, err = os.ReadFile(filepath.Join(kept, NoteFile))
	if err != nil || !strings.Contains(string(text), `"name": "two"`) || !strings.Contains(string(text), clusterBefore) {
		t.Errorf("note %s, %v", text, err)
	}
	// Again: it needs none.
	if c, err = d.Examine(group); err != nil || !c.Raft.Alone("n3") {
		t.Fatalf("%+v, %v", c.Raft, err)
	}
	var not *NotRecoverableError
	if _, err := d.Recover([]Copy{c}); !errors.As(err, &not) {
		t.Errorf("recovered twice: %v", err)
	}
	must(t, d.Close())

	n3.start()
	primary(t, n3)
	rows := int64(5)
	if snapshot {
		rows = 6
	}
	if p := n3.pos(one); p.Epoch != 2 || n3.pos(two).Epoch != 2 || p.TXID != wire.TXID(rows+1) || n3.count(one) != rows {
		t.Fatalf("tenant one is at %+v with %d rows, want %d", p, n3.count(one), rows)
	}
	n3.exec(one, "insert into t values (4)")
	if p := n3.pos(one); p.Epoch != 2 || p.TXID != wire.TXID(rows+2) || n3.count(one) != rows+1 {
		t.Errorf("after a write: %+v", p)
	}
	must(t, n3.pages.Checkpoint())
	// Others join, and get the epoch with the log.
	n4 := newNode(t, net, "n4", group)
	n4.start()
	conf, err := n3.log.Configuration()
	must(t, err)
	must(t, n3.log.AddLearner(t.Context(), "n4", conf.Index))
	if !leadertest.Wait(time.Minute, func() bool { _, err := n4.pages.Tenant(two); return err == nil && n4.pages.Index() > 0 }) {
		t.Fatal("n4 does not follow")
	}
	// All of it is durable.
	n4.halt()
	n3.halt()
	n3.start()
	primary(t, n3)
	if p := n3.pos(one); p.Epoch != 2 || n3.count(one) != rows+1 {
		t.Errorf("after a restart: %+v", p)
	}
	n3.halt()
	// What was kept is the group as it was: it starts, as one of three.
	must(t, os.RemoveAll(filepath.Join(n3.dir, "groups", fmt.Sprint(group), "raft")))
	must(t, os.Rename(filepath.Join(kept, "raft"), filepath.Join(n3.dir, "groups", fmt.Sprint(group), "raft")))
	was, err := leader.Examine(leader.RecoverConfig{Group: group, Node: "n3", FS: disk.OS(), Dir: filepath.Join(n3.dir, "groups", fmt.Sprint(group), "raft")}, discardMachine{})
	if err != nil || len(was.Members) != 3 || len(was.Expelled) != 0 {
		t.Errorf("what was kept: %+v, %v", was, err)
	}
}

// discardMachine takes anything.
type discardMachine struct{}

func (discardMachine) Apply(uint64, uint64, []byte) any         { return nil }
func (discardMachine) Snapshot() (leader.SnapshotWriter, error) { return nil, errors.New("none") }
func (discardMachine) Restore(r io.Reader) error                { _, err := io.Copy(io.Discard, r); return err }

// TestRecoverFails makes each change to the disk fail in turn: the node is as it was or, with the same call again, recovered; and
// never alone in its old cluster, nor without a copy of what it had, nor in its old epoch.
func TestRecoverFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, nodes := lost(t, SystemGroup, true)
		base := nodes[2].dir
		failed := 0
		for n := 1; ; n++ {
			dir := t.TempDir()
			must(t, os.CopyFS(dir, os.DirFS(base)))
			f := disktest.NewFaults(disk.OS())
			at := time.Now()
			d, err := Open(Config{DataDir: dir, FS: f, Now: func() time.Time { return at }})
			must(t, err)
			c, err := d.Examine(SystemGroup)
			must(t, err)
			f.CrashNth(f.Count() + n)
			_, err = d.Recover([]Copy{c})
			must(t, d.Close())
			done := err == nil

			d, err = Open(Config{DataDir: dir, Now: func() time.Time { return at.Add(time.Hour) }})
			must(t, err)
			if c, err = d.Examine(SystemGroup); err != nil {
				t.Fatalf("crash at %d: %v", n, err)
			}
			switch alone := c.Raft.Alone("n3"); {
			case alone && d.Cluster().String() == clusterBefore:
				t.Fatalf("crash at %d: alone in the old cluster", n)
			case alone && c.Tenants[0].Pos.Epoch != 2:
				t.Fatalf("crash at %d: alone in epoch %d", n, c.Tenants[0].Pos.Epoch)
			case done && !alone:
				t.Fatalf("done, and not alone")
			case !alone:
				failed++
				if _, err := d.Recover([]Copy{c}); err != nil {
					t.Fatalf("crash at %d, again: %v", n, err)
				}
			}
			kept, err := filepath.Glob(filepath.Join(dir, "groups", "1.before-recovery-*", NoteFile))
			if err != nil || len(kept) == 0 {
				t.Fatalf("crash at %d: nothing was kept: %v", n, err)
			}
			must(t, d.Close())
			if done {
				break
			}
		}
		t.Logf("%d operations failed", failed)
		if failed < 10 {
			t.Errorf("only %d operations could fail", failed)
		}
	})
}

func TestDiscard(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "groups", "1"), 0o700))
	must(t, os.MkdirAll(filepath.Join(dir, "groups", "2"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, identityFile), []byte(`{"format":1,"cluster":"`+clusterBefore+`","node":"n5"}`), 0o600))
	d := open(t, dir)
	defer d.Close()
	next := strings.Repeat("ab", 16)
	for _, c := range []struct {
		group   wire.GroupID
		cluster string
	}{{SystemGroup, ""}, {SystemGroup, "ab"}, {2, next}, {3, ""}} {
		if _, err := d.Discard(c.group, c.cluster); err == nil {
			t.Errorf("group %d, cluster %q: discarded", c.group, c.cluster)
		}
	}
	kept, err := d.Discard(2, "")
	if err != nil || d.Cluster().String() != clusterBefore {
		t.Fatalf("%s, %v", d.Cluster(), err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
	if _, err := d.Discard(SystemGroup, next); err != nil || d.Cluster().String() != next {
		t.Fatalf("%s, %v", d.Cluster(), err)
	}
	if ids, err := d.Groups(); err != nil || len(ids) != 0 {
		t.Errorf("groups %v, %v", ids, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, identityFile))
	if err != nil || !strings.Contains(string(text), `"joined": true`) || !strings.Contains(string(text), next) {
		t.Errorf("identity %s, %v", text, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(Config{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "no data directory") {
		t.Errorf("an empty directory: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600))
	for text, want := range map[string]string{
		`{"format":2,"cluster":"` + clusterBefore + `","node":"n1"}`: "format 2",
		`{"format":1,"cluster":"x","node":"n1"}`:                     "cluster",
		`{"format":1,"cluster":"` + clusterBefore + `","node":"N"}`:  "node id",
		`{`: "unexpected end", `{}`: "format",
	} {
		must(t, os.WriteFile(filepath.Join(dir, identityFile), []byte(text), 0o600))
		if _, err := Open(Config{DataDir: dir}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
