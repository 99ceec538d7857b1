package e2e_test

import (
	"context"
	"crypto/sha256"
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
	"time"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// Bounds of what a cluster may take, as those of a node.
const (
	settleMax = 3 * time.Minute // until members are as they are declared
	electMax  = 2 * time.Minute // until there is a primary again
	catchMax  = 3 * time.Minute // until a node that was away has everything
)

// mesh is a cluster of processes on loopback, with TLS between them.
type mesh struct {
	t     *testing.T
	ca    string // directory of the authority
	certs string // directory of the nodes' certificates
	addrs map[string]string
	nodes map[string]*node
	flags []string // of all nodes
}

// newMesh makes an authority, and no node yet.
func newMesh(t *testing.T, flags ...string) *mesh {
	t.Helper()
	dir := t.TempDir()
	m := &mesh{t: t, ca: filepath.Join(dir, "ca"), certs: filepath.Join(dir, "certs"), addrs: map[string]string{}, nodes: map[string]*node{}, flags: flags}
	m.run("cert", "ca", "--out", m.ca, "--name", "e2e")
	return m
}

// startMesh starts nodes, the first of which makes the cluster that the others join, and waits until all are
// voters of all groups.
func startMesh(t *testing.T, ids []string, flags ...string) *mesh {
	t.Helper()
	m := newMesh(t, flags...)
	for _, id := range ids {
		m.start(id, ids[:1]...)
	}
	for _, id := range ids {
		m.nodes[id].awaitReady()
	}
	m.settled("system", ids...)
	m.settled("default", ids...)
	return m
}

// run runs a command that must go well, and returns what it printed.
func (m *mesh) run(args ...string) string {
	m.t.Helper()
	r := command(m.t, m.t.TempDir(), "", args...)
	if r.code != exitDone {
		m.t.Fatalf("nearsql %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// at runs a command at a node; it must go well.
func (m *mesh) at(id string, args ...string) string {
	m.t.Helper()
	return m.run(append(args, "--data-dir", m.nodes[id].dir)...)
}

// prepare makes the certificate of a node, finds it a port, and says what it would be started with. Nodes to join are
// passed over if they are the node itself.
func (m *mesh) prepare(id string, join ...string) *node {
	m.t.Helper()
	m.run("cert", "node", "--ca", m.ca, "--out", m.certs, id)
	m.addrs[id] = freePort(m.t)
	m.nodes[id] = m.stranger(id, m.addrs[id], m.certs, id, join...)
	return m.nodes[id]
}

// stranger is a node that the mesh does not count as its own, with any certificate.
func (m *mesh) stranger(id, addr, certs, certificate string, join ...string) *node {
	m.t.Helper()
	flags := slices.Concat([]string{
		"--listen", freePort(m.t), "--node-id", id, "--pop", "pop-" + id, "--cluster-listen", addr, "--cluster-ca", filepath.Join(certs, "ca.crt"),
		"--cluster-cert", filepath.Join(certs, certificate+".crt"), "--cluster-key", filepath.Join(certs, certificate+".key"),
	}, m.flags)
	for _, j := range join {
		if j != id {
			flags = append(flags, "--join", m.addrs[j])
		}
	}
	n := newNode(m.t, flags...)
	n.patient = true
	return n
}

// start prepares a node and runs it.
func (m *mesh) start(id string, join ...string) *node {
	m.t.Helper()
	n := m.prepare(id, join...)
	n.start()
	return n
}

// all are the nodes by id.
func (m *mesh) all() []*node {
	var list []*node
	for _, id := range m.ids() {
		list = append(list, m.nodes[id])
	}
	return list
}

// ids are the ids of the nodes.
func (m *mesh) ids() []string {
	var list []string
	for id := range m.nodes {
		list = append(list, id)
	}
	slices.Sort(list)
	return list
}

// running are the ids of the nodes whose processes run.
func (m *mesh) running() []string {
	return slices.DeleteFunc(m.ids(), func(id string) bool { return !m.nodes[id].runs() })
}

// any is a node that runs.
func (m *mesh) any() *node {
	m.t.Helper()
	ids := m.running()
	if len(ids) == 0 {
		m.t.Fatal("no node runs")
	}
	return m.nodes[ids[0]]
}

// settled waits until a group has these voters, all declared, nobody else as a voter, and a primary among them.
func (m *mesh) settled(group string, voters ...string) {
	m.t.Helper()
	n := m.any()
	want := slices.Sorted(slices.Values(voters))
	eventually(m.t, settleMax, fmt.Sprintf("group %s has the voters %v", group, want), func() error {
		g, err := n.Group(m.t.Context(), group)
		if err != nil {
			return err
		}
		slices.Sort(g.Voters)
		slices.Sort(g.Declared)
		if !slices.Equal(g.Voters, want) || !slices.Equal(g.Declared, want) || !slices.Contains(want, g.Primary) {
			return fmt.Errorf("got voters %v, declared %v, primary %q", g.Voters, g.Declared, g.Primary)
		}
		return nil
	})
}

// primary waits until the nodes that run know the primary of a group, and returns its id.
func (m *mesh) primary(group string) string {
	m.t.Helper()
	var id string
	eventually(m.t, electMax, "group "+group+" has a primary", func() error {
		g, err := m.any().Group(m.t.Context(), group)
		if err != nil {
			return err
		}
		if id = g.Primary; id == "" || !slices.Contains(m.running(), id) {
			return fmt.Errorf("the primary is %q; %v run", id, m.running())
		}
		return nil
	})
	return id
}

// wantCount checks by a strong read at each node that runs how many rows a table has.
func (m *mesh) wantCount(tenant, table string, want int64) {
	m.t.Helper()
	for _, id := range m.running() {
		rows, _, err := m.nodes[id].strong(m.t.Context(), tenant, "SELECT count(*) FROM "+table)
		if err != nil || rows[0][0].Int() != want {
			m.t.Errorf("%s.%s at %s: got %v, %v, want %d rows", tenant, table, id, rows, err, want)
		}
	}
}

// wantEqual checks that the tenant is the same file, byte by byte, at all nodes that run, and sound.
func (m *mesh) wantEqual(tenant string) {
	m.t.Helper()
	var first [sha256.Size]byte
	for i, id := range m.running() {
		r, err := m.nodes[id].Export(m.t.Context(), tenant, client.SQLite)
		if err != nil {
			m.t.Fatalf("export %s at %s: %v", tenant, id, err)
		}
		h := sha256.New()
		_, err = io.Copy(h, r)
		if err = errors.Join(err, r.Close()); err != nil {
			m.t.Fatalf("export %s at %s: %v", tenant, id, err)
		}
		sum := [sha256.Size]byte(h.Sum(nil))
		if i == 0 {
			first = sum
		} else if sum != first {
			m.t.Errorf("the tenant %s at %s differs from what it is at %s", tenant, id, m.running()[0])
		}
		rows, meta, err := m.nodes[id].strong(m.t.Context(), tenant, "PRAGMA integrity_check")
		if err != nil || rows[0][0].Str() != "ok" || meta.Node != id {
			m.t.Errorf("integrity_check of %s at %s: %v from %s, %v", tenant, id, rows, meta.Node, err)
		}
	}
}

// strong is a read that sees every write that was answered before.
func (n *node) strong(ctx context.Context, tenant, sql string, args ...wire.Value) (rows [][]wire.Value, meta wire.Meta, err error) {
	err = n.insist(func(bool) (err error) {
		rows, meta, err = n.read(ctx, tenant, &wire.Request{Consistency: wire.Strong}, sql, args...)
		return err
	})
	return rows, meta, err
}

// read runs one statement with the settings of r.
func (n *node) read(ctx context.Context, tenant string, r *wire.Request, sql string, args ...wire.Value) ([][]wire.Value, wire.Meta, error) {
	r.Statements = []wire.Statement{{SQL: sql, Args: args}}
	results, meta, err := n.Exec(ctx, tenant, r)
	if err != nil {
		return nil, meta, err
	}
	return results[0].Rows, meta, nil
}

// runs says whether the process runs.
func (n *node) runs() bool {
	if n.cmd == nil {
		return false
	}
	select {
	case <-n.ended:
		return false
	default:
		return true
	}
}

// awaitReady waits until the node takes requests.
func (n *node) awaitReady() {
	n.t.Helper()
	eventually(n.t, startMax, "the node is ready", func() error { return n.Ready(n.t.Context()) })
}

// portsTaken are the addresses that freePort gave out.
var portsTaken sync.Map

// freePort finds an address on loopback for a node to keep: below the ports that systems choose for outgoing connections, so
// that it is still free when a node comes back.
func freePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000))
		if _, taken := portsTaken.LoadOrStore(addr, true); taken {
			continue
		}
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("there are no free ports")
	return ""
}

// noOptions makes a tenant as it comes.
var noOptions tenant.CreateOptions

// TestCluster makes three nodes a cluster, uses each of them, and lets nobody else in.
func TestCluster(t *testing.T) {
	t.Parallel()
	m := startMesh(t, []string{"n1", "n2", "n3"})
	m.checkTenants()
	m.checkGroups()
	m.checkStrangers()
}

// checkTenants makes a tenant at one node, and uses it at all.
func (m *mesh) checkTenants() {
	t, ctx := m.t, m.t.Context()
	m.nodes["n2"].create("acme")
	m.nodes["n3"].mustRows("acme", "CREATE TABLE t(id INTEGER PRIMARY KEY, node TEXT)")
	for i, at := range m.ids() {
		if _, err := m.nodes[at].Tenant(ctx, "acme"); err != nil {
			t.Errorf("show at %s: %v", at, err)
		}
		_, meta, err := m.nodes[at].once("acme", "INSERT INTO t VALUES(?, ?)", wire.Integer(int64(i)), wire.Text(at))
		if err != nil {
			t.Fatalf("write at %s: %v", at, err)
		}
		for _, id := range m.ids() {
			// Each reads at once what any other wrote, by its own copy: with the bookmark also without asking anybody.
			for what, r := range map[string]*wire.Request{
				"strong read": {Consistency: wire.Strong}, "read with the bookmark": {Bookmark: meta.Bookmark, MaxStaleness: wire.AnyStaleness},
			} {
				eventually(t, catchMax, what+" at "+id, func() error {
					rows, read, err := m.nodes[id].read(ctx, "acme", r, "SELECT count(*) FROM t")
					if err != nil || read.Node != id {
						return fmt.Errorf("answered by %q, %v", read.Node, err)
					}
					if rows[0][0].Int() != int64(i+1) {
						t.Fatalf("%s at %s after a write at %s: %v, want %d rows", what, id, at, rows, i+1)
					}
					return nil
				})
			}
		}
	}
	if _, err := m.nodes["n1"].CreateTenant(ctx, "acme", noOptions); codeOf(err) != wire.CodeTenantExists {
		t.Errorf("create acme again at another node: %v, want %s", err, wire.CodeTenantExists)
	}
	m.nodes["n1"].create("short")
	if err := m.nodes["n3"].DeleteTenant(ctx, "short"); err != nil {
		t.Errorf("delete at another node: %v", err)
	}
	for _, id := range m.ids() {
		if _, _, err := m.nodes[id].strong(ctx, "short", "SELECT 1"); codeOf(err) != wire.CodeTenantDeleted && codeOf(err) != wire.CodeNoSuchTenant {
			t.Errorf("read of a deleted tenant at %s: %v", id, err)
		}
	}
}

// checkGroups makes a second group with a tenant in it, and moves its primary around.
func (m *mesh) checkGroups() {
	t, ctx := m.t, m.t.Context()
	g, err := m.nodes["n1"].CreateGroup(ctx, client.GroupOptions{Name: "second", Voters: []string{"n1", "n2", "n3"}})
	if err != nil {
		t.Fatal(err)
	}
	m.settled("second", "n1", "n2", "n3")
	if _, err := m.nodes["n2"].CreateTenantIn(ctx, "second", "beta", noOptions); err != nil {
		t.Fatal(err)
	}
	m.nodes["n3"].mustRows("beta", "CREATE TABLE t(id INTEGER PRIMARY KEY)")
	if rec, err := m.nodes["n1"].Tenant(ctx, "beta"); err != nil || rec.Group != g.ID {
		t.Errorf("tenant beta is in group %d, %v, want %d", rec.Group, err, g.ID)
	}
	for i, to := range []string{"n3", "n1", "n2"} {
		eventually(t, electMax, "a write after the move to "+to, func() error {
			m.at("n1", "group", "move-leader", "second", "--to", to)
			_, meta, err := m.nodes["n1"].once("beta", "INSERT OR IGNORE INTO t VALUES(?)", wire.Integer(int64(i)))
			if err == nil && meta.Node != to {
				err = errors.New(meta.Node + " answered") // another was elected meanwhile
			}
			return err
		})
	}
	m.wantCount("beta", "t", 3)
	if err := m.nodes["n1"].MoveLeader(ctx, "second", "nobody"); err == nil {
		t.Error("the primary moved to a node that is none")
	}
}

// checkStrangers tries to join with what does not fit.
func (m *mesh) checkStrangers() {
	t := m.t
	// The id of a node that is there, with the certificate to match.
	m.stranger("n2", freePort(t), m.certs, "n2", "n1").wantNoStart(t, "n2", "another data directory")

	// A certificate of the cluster that is another node's, and one of an authority that is somebody else's.
	m.run("cert", "node", "--ca", m.ca, "--out", m.certs, "n7")
	other := newMesh(t)
	m.run("cert", "node", "--ca", other.ca, "--out", other.certs, "n9")
	for _, c := range []struct {
		n    *node
		word string
	}{
		{m.stranger("n8", freePort(t), m.certs, "n7", "n1"), "the certificate is of node \"n7\""},
		{m.stranger("n9", freePort(t), other.certs, "n9", "n1"), "certificate signed by unknown authority"},
	} {
		c.n.wantNoStart(t, c.word)
		if _, err := os.Stat(filepath.Join(c.n.dir, "node.json")); err == nil {
			t.Error("a node that was refused has an identity of the cluster")
		}
	}

	// A cluster of its own, with the right certificate, where a member should be: it gets nothing, and says nothing that counts.
	member := m.nodes["n3"]
	if code := member.stop(); code != exitDone {
		t.Fatalf("exit code %d", code)
	}
	wrong := m.stranger("n3", m.addrs["n3"], m.certs, "n3")
	wrong.start()
	wrong.awaitReady()
	wrong.create("elsewhere")
	eventually(t, startMax, "members are refused by a node of another cluster", func() error {
		if !strings.Contains(wrong.logText(), "wrong cluster") {
			return fmt.Errorf("its log does not tell of a wrong cluster")
		}
		return nil
	})
	m.nodes["n1"].mustRows("acme", "INSERT INTO t VALUES(3, 'n1')")
	if _, err := wrong.rows("acme", "SELECT 1"); codeOf(err) != wire.CodeNoSuchTenant {
		t.Errorf("a tenant of another cluster: %v, want %s", err, wire.CodeNoSuchTenant)
	}
	wrong.kill()
	member.start()
	member.awaitReady()
	m.wantCount("acme", "t", 4)
	nodes, err := m.nodes["n1"].Nodes(t.Context())
	if err != nil || len(nodes) != 3 {
		t.Errorf("nodes: %v, %v, want 3", nodes, err)
	}
}
