package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/wire"
)

// likes is what became of increments in a tenant's conflict-free tables. Each is a transaction of two rows: one that no other writes, and one that
// all do. So it shows of each increment by itself whether it is there, and whether it is there once, also when its answer was lost.
type likes struct {
	t      testing.TB
	tenant string

	mu struct {
		sync.Mutex
		fates map[string]fate // by the row of its own
		here  map[string]int  // answered, by the node that did it
	}
}

var likesSchema = []string{
	"CREATE TABLE crr.likes(post TEXT PRIMARY KEY NOT NULL, n COUNTER NOT NULL DEFAULT 0, title TEXT)",
	"CREATE TABLE crr.mark(node TEXT PRIMARY KEY NOT NULL)",
}

// total is the row that all increments count in.
const total = "total"

// like makes the tenant, and waits until each node takes writes by itself.
func (m *mesh) like(name string) *likes {
	m.t.Helper()
	l := &likes{t: m.t, tenant: name}
	l.mu.fates, l.mu.here = map[string]fate{}, map[string]int{}
	n := m.any()
	n.create(name)
	for _, sql := range likesSchema {
		n.mustRows(name, sql)
	}
	for _, id := range m.ids() {
		eventually(m.t, settleMax, id+" takes writes by itself", func() error {
			_, meta, err := m.nodes[id].Query(m.t.Context(), name, "INSERT INTO mark VALUES(?) ON CONFLICT DO NOTHING", wire.Text(id))
			if err == nil && meta.Node != id {
				err = errors.New(meta.Node + " answered for it")
			}
			return err
		})
	}
	return l
}

// add asks a node for one increment, once, and says who did it.
func (l *likes) add(n *node, title string) (by string, err error) {
	l.mu.Lock()
	row := fmt.Sprintf("row-%d", len(l.mu.fates))
	l.mu.fates[row] = unknown
	l.mu.Unlock()
	const sql = "INSERT INTO likes(post, n, title) VALUES(?1, 1, ?2) ON CONFLICT(post) DO UPDATE SET n = n + 1, title = excluded.title"
	_, meta, err := n.Batch(l.t.Context(), l.tenant,
		wire.Statement{SQL: sql, Args: []wire.Value{wire.Text(row), wire.Text(title)}}, wire.Statement{SQL: sql, Args: []wire.Value{wire.Text(total), wire.Text(title)}})
	l.mu.Lock()
	defer l.mu.Unlock()
	var e *wire.Error
	switch {
	case err == nil:
		l.mu.fates[row] = done
		l.mu.here[meta.Node]++
	case !lost(err) && errors.As(err, &e) && e.Retryable:
		l.mu.fates[row] = undone
	}
	return meta.Node, err
}

// must asks a node until it has done so many by itself.
func (l *likes) must(id string, n *node, times int, title string) {
	l.t.Helper()
	for range times {
		eventually(l.t, settleMax, "an increment at "+id, func() error {
			by, err := l.add(n, title)
			if err == nil && by != id {
				err = errors.New(by + " did it")
			}
			return err
		})
	}
}

// wrong says what of the rows of a node is not what clients were told; "" when all is. rows are of post and n.
func (l *likes) wrong(rows [][]wire.Value) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	there, sum := map[string]int64{}, int64(0)
	for _, r := range rows {
		there[r[0].Str()] = r[1].Int()
		if r[0].Str() != total {
			sum += r[1].Int()
		}
	}
	var list []string
	for row, fate := range l.mu.fates {
		switch n := there[row]; {
		case n > 1:
			list = append(list, fmt.Sprintf("increment %s counts %d times", row, n))
		case n == 0 && fate == done:
			list = append(list, fmt.Sprintf("increment %s was answered and is lost", row))
		case n == 1 && fate == undone:
			list = append(list, fmt.Sprintf("increment %s was refused and is there", row))
		}
	}
	if there[total] != sum {
		list = append(list, fmt.Sprintf("the counter of all is %d; there are %d increments", there[total], sum))
	}
	slices.Sort(list)
	return strings.Join(list[:min(len(list), 8)], "; ")
}

const likesRows = "SELECT post, n FROM likes"

// check reads strongly at each node: whatever is answered has all that was answered before.
func (l *likes) check(m *mesh) {
	l.t.Helper()
	for _, id := range m.running() {
		eventually(l.t, catchMax, "a strong read of conflict-free tables at "+id, func() error {
			rows, _, err := m.nodes[id].strong(l.t.Context(), l.tenant, likesRows)
			if err != nil {
				return err
			}
			if why := l.wrong(rows); why != "" {
				l.t.Fatalf("a strong read at %s: %s", id, why)
			}
			return nil
		})
	}
}

// has waits until a node's own copy has all that was answered anywhere.
func (l *likes) has(id string, n *node) {
	l.t.Helper()
	eventually(l.t, catchMax, id+" has what was answered elsewhere", func() error {
		rows, meta, err := n.read(l.t.Context(), l.tenant, &wire.Request{MaxStaleness: wire.AnyStaleness}, likesRows)
		if err != nil || meta.Node != id {
			return fmt.Errorf("read of %s by %q, %v", id, meta.Node, err)
		}
		if why := l.wrong(rows); why != "" {
			return errors.New(why)
		}
		return nil
	})
}

// agree waits until all nodes have the same by their own copies, and say of each other that nothing is missing.
func (l *likes) agree(m *mesh) {
	l.t.Helper()
	l.check(m)
	eventually(l.t, catchMax, "nearsql crr status says the same everywhere", func() error {
		var first []client.SiteMember
		var rows [][]wire.Value
		for i, id := range m.ids() {
			st := l.status(m, id)
			if why := statusDiffers(m, id, st); why != "" {
				return fmt.Errorf("at %s %s: %+v", id, why, st)
			}
			got, meta, err := m.nodes[id].read(l.t.Context(), l.tenant, &wire.Request{MaxStaleness: wire.AnyStaleness},
				"SELECT post, n, title, crr_stamp('likes', post, 'title'), crr_stamp('likes', post, NULL) FROM likes ORDER BY post")
			if err != nil || meta.Node != id {
				return fmt.Errorf("read of %s by %s, %v", id, meta.Node, err)
			}
			members := slices.DeleteFunc(st.Members, func(s client.SiteMember) bool { return s.State == "retired" })
			if i == 0 {
				first, rows = members, got
				continue
			}
			if !slices.Equal(members, first) {
				return fmt.Errorf("at %s the sites are %+v, at %s %+v", id, members, m.ids()[0], first)
			}
			if fmt.Sprint(got) != fmt.Sprint(rows) {
				return fmt.Errorf("%s has %v, %s has %v", id, got, m.ids()[0], rows)
			}
		}
		return nil
	})
}

// status is what the command prints at a node.
func (l *likes) status(m *mesh, id string) client.Tables {
	l.t.Helper()
	n := m.nodes[id]
	r := command(m.t, n.cwd, "", "crr", "status", l.tenant, "--json", "--data-dir", n.dataDir())
	var st client.Tables
	if err := json.Unmarshal([]byte(r.out), &st); r.code != exitDone || err != nil {
		l.t.Fatalf("crr status at %s: exit code %d, %v\n%s%s", id, r.code, err, r.out, r.err)
	}
	return st
}

// statusDiffers says why a node's status is not that of one that has all and reaches all.
func statusDiffers(m *mesh, id string, st client.Tables) string {
	switch {
	case st.Node != id || st.Site == 0 || st.Problem != "" || st.Care != "":
		return "the site is not in order"
	case len(st.Sites) != len(m.ids())-1:
		return fmt.Sprintf("there are %d other sites", len(st.Sites))
	}
	active := 0
	for _, s := range st.Members {
		if s.State == "active" {
			active++
		}
	}
	if active != len(m.ids()) {
		return fmt.Sprintf("%d sites are active", active)
	}
	for _, s := range st.Sites {
		if !s.Connected || s.More || s.Held != "" {
			return "there is more to come of " + s.Node
		}
	}
	return ""
}

// prepareHere is prepare for a node that is started as README.md has it: in the directory where its own is, with relative paths.
func (m *mesh) prepareHere(id string, join ...string) *node {
	m.t.Helper()
	n := m.prepare(id, join...)
	n.cwd = filepath.Dir(m.certs)
	n.dir = filepath.Join(n.cwd, id)
	for i, f := range n.flags {
		n.flags[i] = strings.TrimPrefix(f, n.cwd+string(filepath.Separator))
	}
	return n
}

// TestClusterTables has three nodes with relative data directories, a tenant with strong and with conflict-free tables, and writes at all. Two are killed; what the third
// alone answers is there after that is killed too, at once, and all have come back.
func TestClusterTables(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	ids := []string{"n1", "n2", "n3"}
	for _, id := range ids {
		m.prepareHere(id, ids[0]).start()
	}
	for _, id := range ids {
		m.nodes[id].awaitReady()
	}
	m.settled("system", ids...)
	m.settled("default", ids...)
	l := m.like("shop")
	m.nodes["n2"].mustRows("shop", "CREATE TABLE item(id INTEGER PRIMARY KEY, at TEXT)")
	items := int64(0)
	for range 3 {
		for _, id := range ids {
			l.must(id, m.nodes[id], 3, "by "+id)
			eventually(t, electMax, "a strong write at "+id, func() error {
				_, err := m.nodes[id].rows("shop", "INSERT OR IGNORE INTO item VALUES(?, ?)", wire.Integer(items), wire.Text(id))
				return err
			})
			items++
		}
	}
	l.check(m)
	m.nodes["n1"].kill()
	m.nodes["n2"].kill()
	alone := m.nodes["n3"]
	if rows, _, err := alone.read(t.Context(), "shop", &wire.Request{Timeout: 200 * time.Millisecond}, "INSERT INTO item VALUES(1000, 'n3')"); err == nil {
		t.Errorf("a strong write at the only node of three: %v", rows)
	}
	by, err := l.add(alone, "alone")
	alone.kill() // at once
	if err != nil || by != "n3" {
		t.Fatalf("a write of conflict-free tables at the only node of three: by %q, %v", by, err)
	}
	for _, id := range ids {
		m.nodes[id].start()
	}
	for _, id := range ids {
		m.nodes[id].awaitReady()
	}
	l.check(m)
	for _, id := range ids {
		m.caughtUp(id, "shop")
		rows, _, err := m.nodes[id].strong(t.Context(), "shop", "SELECT (SELECT count(*) FROM item WHERE id < 1000), (SELECT title FROM likes WHERE post = 'total')")
		if err != nil || rows[0][0].Int() != items || rows[0][1].Str() != "alone" {
			t.Errorf("a strong read at %s: %v, %v; want %d items, and the title that was written last", id, rows, err, items)
		}
	}
	l.agree(m)
	t.Logf("increments by node: %v", l.mu.here)
}
