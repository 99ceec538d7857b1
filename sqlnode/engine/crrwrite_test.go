package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// Requests that share a transaction don't hurt each other: each that succeeded is there, none that failed is.
func TestLocalWritesShare(t *testing.T) {
	r, m := newCRRRig(t, Config{})
	tn := r.create(1, tenant.Limits{InFlight: 1000})
	r.exec(tn, createLikes)
	r.exec(tn, "CREATE TABLE crr.once(id INTEGER PRIMARY KEY, v CHECK(v<>'bad'))")
	r.exec(tn, "INSERT INTO likes(post) VALUES('a')")
	before := r.e.Stats.CRRGroups.Load()
	const clients, each = 16, 25
	var ok, failed, canceled atomic.Int64
	var wg sync.WaitGroup
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for c := range clients {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(c)))
			for i := range each {
				id := c*1000 + i
				switch rnd.IntN(7) {
				case 0: // fails in its second statement
					if _, err := r.do(tn, batch("UPDATE likes SET n=n+1000", fmt.Sprintf("INSERT INTO once VALUES(%d,'bad')", id))); err == nil {
						t.Error("CHECK passed")
					}
					failed.Add(1)
				case 1: // ends everybody's transaction
					if _, err := r.do(tn, batch("UPDATE likes SET n=n+1000", fmt.Sprintf("INSERT OR ROLLBACK INTO once VALUES(%d,'bad')", id))); err == nil {
						t.Error("CHECK passed")
					}
					failed.Add(1)
				case 2:
					if _, err := r.do(tn, batch("UPDATE likes SET n=n+1000", "SELECT * FROM nowhere")); err == nil {
						t.Error("no such table")
					}
					failed.Add(1)
				case 3:
					ctx, cancel := context.WithCancel(t.Context())
					cancel()
					if _, _, err := r.doCtx(ctx, tn, one("UPDATE likes SET n=n+1000")); err == nil {
						t.Error("a request ran whose client had gone")
					}
					canceled.Add(1)
				default:
					res, err := r.do(tn, batch("UPDATE likes SET n=n+1 RETURNING n", fmt.Sprintf("INSERT INTO once VALUES(%d,'v')", id)))
					if err != nil || len(res[0].Rows) != 1 || res[1].RowsAffected != 1 || res[1].LastInsertRowID != int64(id) {
						t.Errorf("%v %v", res, err)
					}
					ok.Add(1)
				}
			}
		})
	}
	wg.Wait()
	r.want(tn, "SELECT n FROM likes", fmt.Sprintf("[[%d]]", ok.Load()))
	r.want(tn, "SELECT count(*) FROM once", fmt.Sprintf("[[%d]]", ok.Load()))
	t.Logf("%d written, %d failed, %d canceled; %d transactions, %d requests shared one", ok.Load(), failed.Load(), canceled.Load(), r.e.Stats.CRRGroups.Load()-before, r.e.Stats.CRRShared.Load())
	if r.e.Stats.CRRShared.Load() == 0 {
		t.Error("nothing was shared")
	}
	sound(t, m.Lookup(tn))
}

// sound fails when a file contradicts itself.
func sound(t *testing.T, f *crrfiles.File) {
	t.Helper()
	rd, err := f.NewReader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	ts, err := rd.Check()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range ts {
		if len(s.Faults) > 0 {
			t.Errorf("%s: %v", s.Name, s.Faults)
		}
	}
}

// node is a second node with a copy of the same tenants: an engine of its own over the same store, whose primary is another.
func (r *rig) node(t *testing.T, name string) (*Engine, *crrfiles.Manager) {
	t.Helper()
	m := crrfiles.New(crrfiles.Config{Dir: filepath.Join(t.TempDir(), "crr")})
	e := New(Config{CRR: m, RegisterSite: func(ctx context.Context, tn *pagestore.Tenant, file crr.FileID) error {
		_, err := r.e.RegisterSite(ctx, tn, r.q, name, file)
		return err
	}})
	t.Cleanup(func() { e.Close(); m.Close() })
	return e, m
}

func pull(t *testing.T, to, from *crrfiles.File) {
	t.Helper()
	ctx := t.Context()
	rd, err := from.NewReader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	head, err := from.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := to.Write(ctx, func(w *crrfiles.Writer) error {
		return rd.Answer(w.Site.Request(head.Site, head.File), func(b []byte) error {
			_, err := w.Site.Receive(b)
			return err
		})
	}); err != nil {
		t.Fatal(err)
	}
}

// Two nodes: the second finds what the first declared, gets a number of its own through the log, and what both wrote merges.
func TestTwoNodes(t *testing.T) {
	r, m1 := newCRRRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	other := r.create(2, tenant.Limits{})
	e1 := r.e
	e2, m2 := r.node(t, "n2")
	on := func(e *Engine) *rig { r.e = e; return r }
	on(e1).exec(tn, "CREATE TABLE posts(id)")
	on(e2).want(tn, "SELECT count(*) FROM posts", "[[0]]") // has a reader without conflict-free tables
	on(e2).refused(tn, one("SELECT * FROM likes"), wire.CodeSQLiteError)
	on(e1).exec(tn, createLikes)
	on(e1).exec(tn, "INSERT INTO likes(post,n) VALUES('a',1)")
	if m2.Lookup(tn) != nil {
		t.Fatal("the second node has a file that nobody asked for")
	}
	on(e2).want(tn, "SELECT count(*) FROM likes, (SELECT count(*) FROM posts)", "[[0]]")
	res, x, err := on(e2).doCtx(t.Context(), tn, one("INSERT INTO likes(post,n) VALUES('a',5)"))
	if err != nil || !x.Local || x.Stamp.Site != 2 {
		t.Fatalf("%v %+v %v", res, x, err)
	}
	changed := m1.Lookup(tn).Changed()
	select {
	case <-changed:
		t.Error("nothing was written at the first node")
	default:
	}
	pull(t, m2.Lookup(tn), m1.Lookup(tn))
	if err := m1.Lookup(tn).Sync(t.Context()); err != nil { // it hears of the second's number
		t.Fatal(err)
	}
	pull(t, m1.Lookup(tn), m2.Lookup(tn))
	select {
	case <-changed:
	default:
		t.Error("nobody was told of the merge")
	}
	for _, e := range []*Engine{e1, e2} {
		on(e).want(tn, "SELECT post, n FROM likes", `[["a" 6]]`)
		on(e).refused(other, one("SELECT * FROM likes"), wire.CodeSQLiteError)
	}
	// The second node follows a change of the schema when a statement needs it, on readers and in writes.
	on(e1).exec(tn, "ALTER TABLE likes ADD COLUMN color TEXT")
	on(e2).want(tn, "SELECT color FROM likes", "[[NULL]]")
	on(e1).exec(tn, "ALTER TABLE likes ADD COLUMN size TEXT")
	on(e2).exec(tn, "UPDATE likes SET size='xl'")
	on(e1).exec(tn, "CREATE TABLE crr.more(k TEXT PRIMARY KEY NOT NULL)")
	on(e2).exec(tn, "INSERT INTO more VALUES('x')")
	pull(t, m1.Lookup(tn), m2.Lookup(tn))
	on(e1).want(tn, "SELECT k, size FROM more, likes", `[["x" "xl"]]`)
	if got := r.ok(tn, one("SELECT crr_stamp('likes','a','size')"))[0].Rows[0][0].Str(); !strings.Contains(got, `"site":2`) {
		t.Errorf("crr_stamp: %s", got)
	}
	// Two resets are one, an addition elsewhere stays.
	on(e1).exec(tn, "UPDATE likes SET n=0")
	on(e2).exec(tn, "UPDATE likes SET n=0")
	on(e2).exec(tn, "UPDATE likes SET n=n+6")
	pull(t, m1.Lookup(tn), m2.Lookup(tn))
	pull(t, m2.Lookup(tn), m1.Lookup(tn))
	for _, e := range []*Engine{e1, e2} {
		on(e).want(tn, "SELECT n FROM likes", "[[6]]")
	}
	sound(t, m1.Lookup(tn))
	sound(t, m2.Lookup(tn))
	// Restarted, the second node is the same site.
	m2.Close()
	m3 := crrfiles.New(crrfiles.Config{Dir: filepath.Dir(m2.Path(tn.ID()))})
	defer m3.Close()
	e3 := New(Config{CRR: m3})
	defer e3.Close()
	if _, x, err := on(e3).doCtx(t.Context(), tn, one("UPDATE likes SET n=n+1")); err != nil || x.Stamp.Site != 2 {
		t.Errorf("%+v %v", x, err)
	}
	on(e3).want(tn, "SELECT n FROM likes", "[[7]]")
	r.e = e1
}

// A file that is damaged is out of service, and says so; its tenant's strong tables and other tenants are not.
func TestDamagedFile(t *testing.T) {
	r, m := newCRRRig(t, Config{})
	a, b := r.create(1, tenant.Limits{}), r.create(2, tenant.Limits{})
	for _, tn := range []*pagestore.Tenant{a, b} {
		r.exec(tn, "CREATE TABLE posts(id)")
		r.exec(tn, createLikes)
		for i := range 200 {
			r.exec(tn, "INSERT INTO likes(post,title) VALUES(?,?)", fmt.Sprint(i), strings.Repeat("x", 200))
		}
	}
	r.e.Close() // first, so that the last to close the file may write its log back
	m.Close()
	spoil := func(from, to int64) {
		f, err := os.OpenFile(m.Path(a.ID()), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		junk := make([]byte, to-from)
		for i := range junk {
			junk[i] = byte(i*7 + 13)
		}
		if _, err := f.WriteAt(junk, from); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name     string
		from, to int64
	}{{"rows", 4096 * 12, 4096 * 40}, {"header", 0, 4096}} {
		func() {
			spoil(c.from, c.to)
			m := crrfiles.New(crrfiles.Config{Dir: filepath.Dir(m.Path(a.ID()))})
			defer m.Close()
			r.e = New(Config{CRR: m})
			defer func() { r.e.Close() }()
			e := r.refused(a, one("SELECT count(title), sum(length(title)) FROM likes"), wire.CodeCorrupt)
			if !strings.Contains(e.Message, "damaged and out of service") {
				t.Errorf("%v", e)
			}
			r.refused(a, one("SELECT count(*) FROM crr.likes"), wire.CodeCorrupt)
			r.refused(a, one("INSERT INTO crr.likes(post) VALUES('new')"), wire.CodeCorrupt)
			r.exec(a, "INSERT INTO posts VALUES(1)")
			r.exec(b, "INSERT INTO likes(post) VALUES(?)", c.name)
			r.want(b, "SELECT count(*)>200 FROM likes", "[[1]]")
			if m.Stats.Damaged.Load() != 1 {
				t.Errorf("%s: %d files are damaged", c.name, m.Stats.Damaged.Load())
			}
		}()
	}
}

// A thousand tenants without conflict-free tables have no file, and nothing here knows of them.
func TestTenantsWithoutConflictFree(t *testing.T) {
	r, m := newCRRRig(t, Config{MaxOpen: 50})
	for i := range 1000 {
		tn := r.create(i+1, tenant.Limits{})
		if i%10 == 0 {
			r.exec(tn, "CREATE TABLE t(a)")
			r.want(tn, "SELECT count(*) FROM t", "[[0]]")
			r.refused(tn, one("SELECT * FROM crr.likes"), wire.CodeSQLiteError)
			r.refused(tn, one("INSERT INTO crr.likes VALUES(1)"), wire.CodeSQLiteError)
		}
	}
	if _, err := os.Stat(filepath.Dir(m.Path(wire.TenantID{}))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is there: %v", err)
	}
	if n := m.Stats.Open.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// With its tenant the file goes; the bound on open connections holds, and an idle one is opened again.
func TestFilesComeAndGo(t *testing.T) {
	dir := t.TempDir()
	m := crrfiles.New(crrfiles.Config{Dir: filepath.Join(dir, "crr"), MaxOpen: 2})
	r := newRigAt(t, dir, Config{CRR: m, Node: "n1"})
	var all []*pagestore.Tenant
	for i := range 5 {
		tn := r.create(i+1, tenant.Limits{})
		all = append(all, tn)
		r.exec(tn, createLikes)
		r.exec(tn, "INSERT INTO likes(post) VALUES(?)", i)
		if n := m.Stats.Open.Load(); n > 2 {
			t.Fatalf("%d open", n)
		}
	}
	for i, tn := range all {
		r.exec(tn, "UPDATE likes SET n=n+1")
		r.want(tn, "SELECT post, n FROM likes", fmt.Sprintf(`[["%d" 1]]`, i))
	}
	r.e.Forget(all[0])
	if err := m.Remove(all[0].ID()); err != nil {
		t.Fatal(err)
	}
	if err := m.Sweep(func(id wire.TenantID) bool { return id == all[1].ID() }); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(filepath.Join(dir, "crr"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		for _, tn := range all[:2] {
			if strings.HasPrefix(n.Name(), tn.ID().String()) {
				t.Errorf("%s is left", n.Name())
			}
		}
	}
	if m.Stats.Removed.Load() != 2 || len(names) < 3 {
		t.Errorf("%d removed, %d names", m.Stats.Removed.Load(), len(names))
	}
	r.want(all[2], "SELECT n FROM likes", "[[1]]")
	m.Close()
	r.refused(all[2], one("UPDATE likes SET n=1"), wire.CodeShuttingDown)
	r.refused(all[3], one("SELECT * FROM nowhere"), wire.CodeShuttingDown)
}

// Speculation that is dropped under the connection that writes is met by opening it again.
func TestLocalWriteAfterLostSpeculation(t *testing.T) {
	r, m := newCRRRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, createLikes)
	r.exec(tn, "CREATE TABLE posts(id)")
	r.exec(tn, "INSERT INTO likes(post) VALUES('a')")
	r.log.setHold(true)
	p := r.start(t.Context(), tn, one("INSERT INTO posts VALUES(1)"))
	r.waitEntry()
	r.exec(tn, "UPDATE likes SET n=n+1") // strong writes that wait for the log hold up nothing
	r.log.setHold(false)
	r.log.lose(errors.New("lost"))
	p.wait(t)
	r.g.LostPrimary()
	r.exec(tn, "UPDATE likes SET n=n+1")
	r.want(tn, "SELECT n FROM likes, (SELECT count(*) c FROM posts) WHERE c=0", "[[2]]")
	r.exec(tn, "INSERT INTO posts VALUES(1)")
	r.exec(tn, "UPDATE likes SET n=n+(SELECT count(*) FROM posts)")
	r.want(tn, "SELECT n FROM likes", "[[3]]")
	sound(t, m.Lookup(tn))
}

// A tenant's size bounds its file, and a frozen one takes no local writes.
func TestLocalWriteLimits(t *testing.T) {
	r, _ := newCRRRig(t, Config{})
	tn := r.create(1, tenant.Limits{Size: 1 << 20, StatementTime: tenant.Duration(200 * time.Millisecond), AnswerRows: 10})
	r.exec(tn, createLikes)
	var err *wire.Error
	n := 0
	for ; err == nil && n < 1000; n++ {
		_, err = r.do(tn, one("INSERT INTO likes(post,title) VALUES(?,?)", n, strings.Repeat("x", 10000)))
	}
	if err == nil || err.Code != wire.CodeTenantFull || n < 50 || n > 110 {
		t.Errorf("after %d rows: %v", n, err)
	}
	r.exec(tn, "DELETE FROM likes WHERE rowid%2")
	r.exec(tn, "INSERT INTO likes(post) VALUES('after')")
	r.refused(tn, one("INSERT INTO likes(post) WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c) SELECT i FROM c WHERE i<0"), wire.CodeTimeout)
	r.refused(tn, one("UPDATE likes SET n=n+1 RETURNING post"), wire.CodeRowsTooLarge)
	r.want(tn, "SELECT sum(n) FROM likes", "[[0]]")
	r.control(tn.ID(), tenant.Frozen{Time: time.UnixMilli(5)})
	r.refused(tn, one("UPDATE likes SET n=1"), wire.CodeTenantFrozen)
}

// A job whose outcome is decided does not run again, whatever becomes of those behind it in the same turn.
func TestLocalWriteRunsOnce(t *testing.T) {
	r, _ := newCRRRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, createLikes)
	r.exec(tn, "INSERT INTO likes(post) VALUES('a')")
	db, err := r.e.acquire(tn)
	if err != nil {
		t.Fatal(err)
	}
	defer r.e.release(db)
	var group []*crrJob
	for _, sql := range []string{"UPDATE likes SET n=n+1", "UPDATE likes SET n=n+10", "UPDATE likes SET n=1/0 OR nothing", "UPDATE likes SET n=n+100"} {
		group = append(group, &crrJob{ctx: t.Context(), q: r.q, req: one(sql), over: make(chan struct{})})
	}
	for range 2 {
		if err := db.runCRRGroup(group); err != nil {
			t.Fatal(err)
		}
	}
	for i, j := range group {
		if !j.settled || (j.err != nil) != (i == 2) {
			t.Errorf("job %d: settled %v, %v", i, j.settled, j.err)
		}
	}
	r.want(tn, "SELECT n FROM likes", "[[111]]")
}

// While nobody gives this node a number its local writes fail, and say why; reads go on, and so do writes later.
func TestNoSiteNumber(t *testing.T) {
	r, _ := newCRRRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	var down atomic.Bool
	down.Store(true)
	m := crrfiles.New(crrfiles.Config{Dir: filepath.Join(t.TempDir(), "crr")})
	defer m.Close()
	first := r.e
	e2 := New(Config{CRR: m, RegisterSite: func(ctx context.Context, tn *pagestore.Tenant, file crr.FileID) error {
		if down.Load() {
			return wire.NewError(wire.CodeUnreachable, "the primary of the tenant can't be reached")
		}
		_, err := first.RegisterSite(ctx, tn, r.q, "n2", file)
		return err
	}})
	defer e2.Close()
	r.exec(tn, createLikes)
	r.e = e2
	r.refused(tn, one("INSERT INTO likes(post) VALUES('a')"), wire.CodeUnreachable)
	r.want(tn, "SELECT count(*) FROM likes", "[[0]]")
	r.refused(tn, one("INSERT INTO likes(post) VALUES('a')"), wire.CodeUnreachable)
	down.Store(false)
	r.exec(tn, "INSERT INTO likes(post) VALUES('a')")
	r.want(tn, "SELECT count(*) FROM likes", "[[1]]")
	r.e = first
}

// A statement that fails leaves nothing of what it did before, whether its journal stays in memory, goes to a file, or has no room: then the error says that.
func TestLocalStatementsAreUndone(t *testing.T) {
	r, m := newCRRRig(t, Config{TempMax: 4 << 20, TempDir: t.TempDir()})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE crr.rows(id INTEGER PRIMARY KEY, v TEXT, w INT CHECK(w<>13))")
	for from := 1; from < 20000; from += 5000 {
		r.exec(tn, fmt.Sprintf("WITH RECURSIVE c(i) AS (SELECT %d UNION ALL SELECT i+1 FROM c WHERE i<%[1]d+4999) INSERT INTO rows SELECT i, hex(randomblob(200)), 0 FROM c", from))
	}
	all := func() string {
		return fmt.Sprint(r.ok(tn, one("SELECT count(*), sum(length(v)), group_concat(DISTINCT w) FROM rows"))[0].Rows)
	}
	was := all()
	f := m.Lookup(tn)
	meta := func() (sum string) {
		t.Helper()
		err := f.Write(t.Context(), func(w *crrfiles.Writer) error {
			return eachOwn(w.Conn.Conn, "SELECT count(*), max(lseq), hex(min(st)), hex(max(st)) FROM crr.__crr_m1", func(s *sqlite.Stmt) error {
				sum = fmt.Sprint(s.Column(0), s.Column(1), s.Column(2), s.Column(3))
				return nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	metaWas := meta()
	for _, rows := range []int{2, 40, 1000, 20000} {
		_, err := r.do(tn, one(fmt.Sprintf("UPDATE rows SET v='gone', w=CASE id WHEN %d THEN 13 ELSE 1 END WHERE id<=%[1]d", rows)))
		if code, text := wire.AsError(err).Code, err.Error(); rows < 20000 && !strings.Contains(text, "CHECK constraint failed") ||
			rows == 20000 && (code != wire.CodeSQLiteFull || !strings.Contains(text, "temporary space")) {
			t.Errorf("%d rows: %s %v", rows, code, err)
		}
		if got := all(); got != was {
			t.Fatalf("after a statement on %d rows failed: %s, was %s", rows, got, was)
		}
		if got := meta(); got != metaWas {
			t.Fatalf("after a statement on %d rows failed: %s, was %s", rows, got, metaWas)
		}
	}
	if n := r.e.Stats.TempBytes.Load(); n != 0 {
		t.Errorf("%d bytes are in use at rest", n)
	}
	r.exec(tn, "UPDATE rows SET w=2 WHERE id<=100")
	r.want(tn, "SELECT sum(w) FROM rows", "[[200]]")
}
