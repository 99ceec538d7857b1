package pagestore

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

// TestModel runs random SQL side by side on a plain SQLite file and on the page store, with readers that
// hold snapshots, checkpoints, absorption, compaction and restarts between: all answers must be
// the same, and what a reader sees must not change before it ends.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newModel(t, rt)
		defer m.close()
		rt.Repeat(map[string]func(*rapid.T){
			"insert":      m.insert,
			"update":      m.update,
			"delete":      m.delete,
			"transaction": m.transaction,
			"savepoint":   m.savepoint,
			"growAndFree": m.growAndFree,
			"vacuum":      m.vacuum,
			"ddl":         m.ddl,
			"virtual":     m.virtual,
			"reader":      m.reader,
			"checkpoint":  m.checkpoint,
			"restart":     m.restart,
			"":            m.check,
		})
		m.finish(rt)
	})
}

type model struct {
	t       testing.TB
	rt      *rapid.T
	r       *rig
	w       *Conn
	plain   *sqlite.Conn
	dir     string
	readers []*modelReader
	size    int
	open    bool // a transaction is open
	saves   int
	steps   int
}

type modelReader struct {
	c      *Conn
	store  *Store
	digest string
}

func newModel(t testing.TB, rt *rapid.T) *model {
	dir, err := os.MkdirTemp("", "model")
	if err != nil {
		t.Fatal(err)
	}
	size := 512 << rapid.IntRange(0, 7).Draw(rt, "page size")
	cfg := memDisk(disktest.NewMemFS())
	cfg.BigTransaction = int64(rapid.SampledFrom([]int{1, 64 << 10, 8 << 20}).Draw(rt, "big transaction"))
	m := &model{t: t, rt: rt, dir: dir, size: size, r: &rig{t: t, log: newTestLog(), cfg: cfg}}
	m.r.start()
	tn := m.r.create(1, size)
	m.plain, err = sqlite.Open(filepath.Join(dir, "plain.db"), "", sqlite.ReadWrite|sqlite.Create)
	if err != nil {
		t.Fatal(err)
	}
	must(t, m.plain.Exec(fmt.Sprintf("pragma page_size=%d; pragma journal_mode=memory; pragma synchronous=off", size)))
	m.openWriter(tn)
	vacuum := rapid.IntRange(0, 2).Draw(rt, "auto_vacuum")
	m.both(fmt.Sprintf("pragma auto_vacuum=%d", vacuum))
	for i := range 2 {
		m.both(fmt.Sprintf("create table t%d(id integer primary key, a, b)", i))
	}
	m.both("create index t0a on t0(a)")
	return m
}

func (m *model) openWriter(tn *Tenant) {
	s, err := tn.Acquire()
	if err != nil {
		m.rt.Fatal(err)
	}
	m.w, err = tn.OpenWriter(s, nil)
	if err != nil {
		m.rt.Fatal(err)
	}
	cache := rapid.SampledFrom([]int{5, 20, 500}).Draw(m.rt, "cache pages")
	for _, c := range []*sqlite.Conn{m.w.Conn, m.plain} {
		must(m.t, c.Exec(fmt.Sprintf("pragma cache_size=%d", cache)))
	}
}

func (m *model) close() {
	for _, x := range m.readers {
		x.c.Close()
	}
	m.w.Close()
	m.plain.Close()
	m.r.stop()
	os.RemoveAll(m.dir)
	if used := m.r.g.cfg.Budget.Used(); used != 0 {
		m.t.Fatalf("%d bytes of versions are accounted for after the end", used)
	}
}

// both runs a statement on both sides and compares what they say.
func (m *model) both(sql string, args ...wire.Value) {
	got, gotErr := query(m.w, sql, args...)
	want, wantErr := queryOn(m.plain, sql, args...)
	if (gotErr == nil) != (wantErr == nil) || gotErr != nil && sqlite.ErrorCode(gotErr) != sqlite.ErrorCode(wantErr) {
		m.rt.Fatalf("%.200s: got %v (%v), want %v", sql, gotErr, m.w.TakeErr(), wantErr)
	}
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		m.rt.Fatalf("%.200s: got %.500s, want %.500s", sql, g, w)
	}
	if m.w.Autocommit() != m.plain.Autocommit() {
		m.rt.Fatalf("%.200s: one side is in a transaction", sql)
	}
	m.open = !m.w.Autocommit()
	if !m.open {
		m.saves = 0
	}
}

func (m *model) table(rt *rapid.T) string {
	return fmt.Sprintf("t%d", rapid.IntRange(0, 1).Draw(rt, "table"))
}

// rows inserts n rows; all values follow from seed.
func (m *model) rows(table string, n, size, seed int) {
	m.both(fmt.Sprintf(`with recursive c(i) as (select 1 union all select i+1 from c where i<%d)
		insert into %s(a, b) select (i*%d)%%1009, case i%%3 when 0 then zeroblob((i*%d)%%%d+1) else substr(replace(hex(zeroblob(%d)),'00',i||'~%d.'),1,(i*%d)%%%d+1) end from c`,
		n, table, seed|1, seed|1, size, size/4+1, seed, seed|1, size))
}

func (m *model) insert(rt *rapid.T) {
	size := rapid.SampledFrom([]int{20, m.size, 3 * m.size}).Draw(rt, "size")
	m.rows(m.table(rt), rapid.IntRange(1, 20).Draw(rt, "rows"), min(size, 40000), rapid.IntRange(0, 1000).Draw(rt, "seed"))
}

func (m *model) update(rt *rapid.T) {
	k := rapid.IntRange(1, 20).Draw(rt, "modulus")
	m.both(fmt.Sprintf("update %s set a=a+1, b=substr(b||'%d',1+length(b)/%d) where id%%%d=0", m.table(rt), k, k, k))
}

func (m *model) delete(rt *rapid.T) {
	k := rapid.IntRange(1, 10).Draw(rt, "modulus")
	m.both(fmt.Sprintf("delete from %s where id%%%d=0", m.table(rt), k))
}

func (m *model) transaction(rt *rapid.T) {
	switch {
	case !m.open:
		m.both(rapid.SampledFrom([]string{"begin", "begin immediate", "begin exclusive"}).Draw(rt, "begin"))
	case rapid.Bool().Draw(rt, "commit"):
		m.both("commit")
	default:
		m.both("rollback")
	}
}

func (m *model) savepoint(rt *rapid.T) {
	if !m.open {
		m.both("begin")
	}
	switch k := rapid.IntRange(0, 2).Draw(rt, "what"); {
	case k == 0 || m.saves == 0:
		m.saves++
		m.both("savepoint s")
	case k == 1:
		m.saves--
		m.both("release s")
	default:
		m.both("rollback to s")
	}
}

// growAndFree makes pages that SQLite never writes, or cuts the file within a transaction.
func (m *model) growAndFree(rt *rapid.T) {
	own := !m.open
	if own {
		m.both("begin")
	}
	m.rows("t1", rapid.IntRange(5, 60).Draw(rt, "rows"), min(2*m.size, 20000), 7)
	m.both("delete from t1 where id > (select max(id)/3 from t1)")
	if rapid.Bool().Draw(rt, "more") {
		m.rows("t0", 10, min(2*m.size, 20000), 9)
	}
	if own {
		m.both("commit")
	}
}

func (m *model) vacuum(rt *rapid.T) {
	if rapid.Bool().Draw(rt, "incremental") {
		m.both(fmt.Sprintf("pragma incremental_vacuum(%d)", rapid.IntRange(0, 20).Draw(rt, "pages")))
		return
	}
	m.both("vacuum") // within a transaction both refuse
}

func (m *model) ddl(rt *rapid.T) {
	switch rapid.IntRange(0, 4).Draw(rt, "ddl") {
	case 0:
		m.both("drop table t1")
		m.both("create table t1(id integer primary key, a, b)")
	case 1:
		m.both("create index if not exists t1a on t1(a, b)")
	case 2:
		m.both("drop index if exists t1a")
	case 3:
		m.both(fmt.Sprintf("alter table t0 add column c%d default 'x'", m.steps))
	case 4:
		m.both(fmt.Sprintf("pragma user_version=%d", m.steps))
	}
}

func (m *model) virtual(rt *rapid.T) {
	m.both("create virtual table if not exists f using fts5(x)")
	m.both("create virtual table if not exists r using rtree(id, x0, x1)")
	n := rapid.IntRange(0, 100).Draw(rt, "n")
	m.both(fmt.Sprintf("insert into f select 'word'||%d||' common '||a from t0 limit 10", n))
	m.both(fmt.Sprintf("insert or replace into r select id, id, id+%d from t0 limit 30", n))
	m.both(fmt.Sprintf("delete from f where rowid%%7=%d", n%7))
	m.both("select count(*) from f where f match 'common'")
	m.both("select count(*), sum(x1) from r where x0 > 3")
}

// digest is a hash of all that a connection sees.
func (m *model) digest(c *sqlite.Conn) string {
	h := sha256.New()
	tables, err := queryOn(c, "select name from sqlite_schema where type='table' and name not like 'sqlite_%' and name not like 'r_%' and name not like 'f_%' order by name")
	if err != nil {
		m.rt.Fatal(err)
	}
	for _, row := range tables {
		rows, err := queryOn(c, fmt.Sprintf("select rowid, * from %s order by rowid", row[0].Str()))
		if err != nil {
			m.rt.Fatalf("read %v: %v", row, err)
		}
		fmt.Fprintln(h, row, rows)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

// reader begins a snapshot, or looks at one again and perhaps ends it.
func (m *model) reader(rt *rapid.T) {
	if len(m.readers) < 3 && rapid.Bool().Draw(rt, "begin") {
		s, err := m.r.tenant(1).Acquire()
		if err != nil {
			rt.Fatal(err)
		}
		c, err := s.OpenReader(nil)
		if err != nil {
			rt.Fatal(err)
		}
		must(m.t, c.Exec("pragma cache_size=5"))
		if err := c.Exec("begin"); err != nil {
			rt.Fatal(err)
		}
		x := &modelReader{c: c, store: s}
		x.digest = m.digest(c.Conn)
		if !m.open {
			if want := m.digest(m.plain); x.digest != want {
				rt.Fatalf("a reader sees %s, want %s", x.digest, want)
			}
		}
		m.readers = append(m.readers, x)
		return
	}
	if len(m.readers) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.readers)-1).Draw(rt, "reader")
	m.look(m.readers[i])
	if rapid.Bool().Draw(rt, "end") {
		m.endReader(i)
	}
}

func (m *model) look(x *modelReader) {
	if got := m.digest(x.c.Conn); got != x.digest {
		m.rt.Fatalf("the snapshot of a reader changed from %s to %s", x.digest, got)
	}
}

func (m *model) endReader(i int) {
	m.look(m.readers[i])
	m.readers[i].c.Close()
	m.readers = slices.Delete(m.readers, i, i+1)
	m.r.tenant(1).Release()
}

func (m *model) checkpoint(rt *rapid.T) {
	if err := m.r.g.Checkpoint(); err != nil {
		rt.Fatal(err)
	}
	n := rapid.IntRange(0, 2).Draw(rt, "also")
	if n > 0 {
		if err := m.r.g.absorbAll(context.Background()); err != nil {
			rt.Fatal(err)
		}
	}
	if n > 1 {
		if err := m.r.g.CompactLTX(context.Background()); err != nil {
			rt.Fatal(err)
		}
	}
}

func (m *model) restart(rt *rapid.T) {
	if m.open {
		m.both("rollback")
	}
	for len(m.readers) > 0 {
		m.endReader(0)
	}
	m.w.Close()
	m.r.restart()
	tn := m.r.tenant(1)
	s, err := tn.Acquire()
	if err != nil {
		rt.Fatal(err)
	}
	if err := s.wait(nil, tn.Logged().TXID); err != nil {
		rt.Fatal(err)
	}
	m.openWriter(tn)
}

// check runs after every step.
func (m *model) check(rt *rapid.T) {
	m.steps++
	m.both("select count(*), sum(length(b)), sum(a) from t0")
	if m.steps%5 == 0 {
		checkSum(m.t, m.w.store)
		checkChains(m.t, m.w.store)
	}
}

func (m *model) finish(rt *rapid.T) {
	if m.open {
		m.both("commit")
	}
	if got, want := m.digest(m.w.Conn), m.digest(m.plain); got != want {
		rt.Fatalf("at the end: got %s, want %s", got, want)
	}
	m.both("pragma integrity_check")
	m.both("pragma page_count")
	for len(m.readers) > 0 {
		m.endReader(0)
	}
	m.r.tidy()
	checkSum(m.t, m.w.store)
	checkEmpty(m.t, m.w.store)
	m.restart(rt)
	if got, want := m.digest(m.w.Conn), m.digest(m.plain); got != want {
		rt.Fatalf("after a restart: got %s, want %s", got, want)
	}
	if rows, err := query(m.w, "pragma integrity_check"); err != nil || fmt.Sprint(rows) != `[["ok"]]` {
		rt.Fatalf("integrity: %v, %v", rows, err)
	}
	checkSum(m.t, m.w.store)
	checkFollower(m.t, m.r)
}

// checkChains looks at the invariants of the version chains.
func checkChains(t testing.TB, s *Store) {
	t.Helper()
	s.mu.RLock()
	defer s.mu.RUnlock()
	var memory int64
	var wrong []string
	for pgno, c := range s.mu.chains {
		if len(c) == 0 {
			wrong = append(wrong, fmt.Sprintf("page %d has an empty chain", pgno))
		}
		for i, v := range c {
			if i > 0 && v.tx <= c[i-1].tx {
				wrong = append(wrong, fmt.Sprintf("page %d: version %d after %d", pgno, v.tx, c[i-1].tx))
			}
			if v.tx > s.headLocked().TXID {
				wrong = append(wrong, fmt.Sprintf("page %d: version %d above the head %s", pgno, v.tx, s.headLocked()))
			}
			if v.data != nil {
				memory += int64(s.pageSize + versionOverhead)
			} else if v.file == nil {
				wrong = append(wrong, fmt.Sprintf("page %d: version %d lies nowhere", pgno, v.tx))
			}
		}
	}
	if memory != s.mu.memory {
		wrong = append(wrong, fmt.Sprintf("%d bytes in memory, %d accounted for", memory, s.mu.memory))
	}
	if len(wrong) > 0 {
		t.Fatal(strings.Join(wrong, "; "))
	}
}

// checkEmpty wants nothing but the base to hold pages: no reader is left, and all units are absorbed.
func checkEmpty(t testing.TB, s *Store) {
	t.Helper()
	s.mu.RLock()
	defer s.mu.RUnlock()
	for pgno, c := range s.mu.chains {
		for _, v := range c {
			t.Errorf("page %d of %s: version %d is left (memory: %t)", pgno, s.mu.committed, v.tx, v.data != nil)
		}
	}
	for _, p := range s.mu.pins.at {
		t.Errorf("%d pins at %d are left", p.n, p.tx)
	}
	if s.mu.memory != 0 || s.budget.Used() != 0 {
		t.Errorf("%d bytes in memory, %d in the budget", s.mu.memory, s.budget.Used())
	}
	if t.Failed() {
		t.FailNow()
	}
}
