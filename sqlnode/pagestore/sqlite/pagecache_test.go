package sqlite_test

import (
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
	_ "modernc.org/sqlite"
)

func TestInstallPageCacheAgain(t *testing.T) {
	if cache == nil {
		t.Skip("SQLite's own page cache")
	}
	same, err := sqlite.InstallPageCache(sqlite.PageCacheConfig{BudgetBytes: testBudget})
	if same != cache || err != nil {
		t.Error(same, err)
	}
	other, err := sqlite.InstallPageCache(sqlite.PageCacheConfig{BudgetBytes: 1})
	if other != cache || !errors.Is(err, sqlite.ErrPageCacheInstalled) {
		t.Error(other, err)
	}
	if _, err := sqlite.InstallPageCache(sqlite.PageCacheConfig{}); err == nil {
		t.Error("no budget, no error")
	}
}

func TestPageCacheTooLate(t *testing.T) {
	if cache == nil {
		switch os.Getenv("TOO_LATE") {
		case "own":
			openMemory(t)
		case "driver":
			db, err := sql.Open("sqlite", ":memory:")
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if err := db.Ping(); err != nil {
				t.Fatal(err)
			}
		}
		if pc, err := sqlite.InstallPageCache(sqlite.PageCacheConfig{BudgetBytes: 1 << 20}); pc != nil || !errors.Is(err, sqlite.ErrPageCacheTooLate) {
			t.Error(pc, err)
		}
		return
	}
	for _, who := range []string{"own", "driver"} {
		rerun(t, "^TestPageCacheTooLate$", "TOO_LATE="+who)
	}
}

// workload runs random transactions with a cache so small that it spills, and
// returns a digest of what every query answered.
func workload(t *testing.T, seed uint64) string {
	rnd := rand.New(rand.NewPCG(seed, 7))
	c := open(t)
	pageSize := []int{512, 1024, 4096}[rnd.IntN(3)]
	run(t, c, fmt.Sprintf("PRAGMA page_size=%d; PRAGMA auto_vacuum=%d; PRAGMA cache_size=%d; PRAGMA journal_mode=%s; PRAGMA synchronous=OFF",
		pageSize, rnd.IntN(3), rnd.IntN(20)+1, []string{"MEMORY", "WAL", "DELETE"}[rnd.IntN(3)]))
	run(t, c, "CREATE TABLE t(id INTEGER PRIMARY KEY, k INT, v BLOB); CREATE INDEX tk ON t(k, v); CREATE TEMP TABLE tmp(a, b)")
	digest := fnv.New64a()
	step := func(sql string, args ...wire.Value) {
		s, _, err := c.Prepare(sql, false)
		if err != nil {
			t.Fatalf("seed %d: %s: %v", seed, sql, err)
		}
		defer s.Finalize()
		if err := s.BindAll(args); err != nil {
			t.Fatal(err)
		}
		for {
			row, err := s.Step()
			if err != nil {
				t.Fatalf("seed %d: %s: %v", seed, sql, err)
			}
			if !row {
				return
			}
			for i := range s.ColumnCount() {
				fmt.Fprintf(digest, "%v|", s.Column(i))
			}
		}
	}
	text := func() wire.Value {
		return wire.Text(strings.Repeat(string(rune('a'+rnd.IntN(26))), rnd.IntN(3*pageSize)))
	}
	n := func(max int) wire.Value { return wire.Integer(int64(rnd.IntN(max))) }
	for range 40 {
		step("BEGIN")
		depth := 0
		for range rnd.IntN(25) {
			switch rnd.IntN(9) {
			case 0, 1, 2:
				step("INSERT INTO t(k, v) VALUES(?, ?)", n(50), text())
			case 3:
				step("UPDATE t SET v = ?, k = k + 1 WHERE k = ?", text(), n(50))
			case 4:
				step("DELETE FROM t WHERE id % 7 = ? AND k > ?", n(7), n(50))
			case 5:
				step("SAVEPOINT s")
				depth++
			case 6:
				if depth > 0 {
					step([]string{"ROLLBACK TO s", "RELEASE s"}[rnd.IntN(2)])
				}
				depth = 0
				step("SAVEPOINT s")
				depth = 1
			case 7:
				step("INSERT INTO tmp SELECT k, v FROM t ORDER BY v LIMIT 20")
				step("SELECT count(*), sum(length(b)) FROM tmp")
			case 8:
				step("SELECT k, count(*), sum(length(v)), max(v) FROM t GROUP BY k ORDER BY 2, 1")
			}
		}
		step([]string{"COMMIT", "COMMIT", "ROLLBACK"}[rnd.IntN(3)])
		switch rnd.IntN(12) {
		case 0:
			step("VACUUM")
		case 1:
			c.ReleaseMemory()
		case 2:
			step(fmt.Sprintf("PRAGMA cache_size=%d", rnd.IntN(40)))
		case 3:
			step("PRAGMA incremental_vacuum(3)")
		case 4:
			step("DELETE FROM tmp")
		}
	}
	step("SELECT id, k, length(v), v FROM t ORDER BY id")
	if got := one(c, "PRAGMA integrity_check"); got != "ok" {
		t.Fatalf("seed %d: %s", seed, got)
	}
	return fmt.Sprintf("seed %d: %x", seed, digest.Sum64())
}

// The same statements have the same answers on SQLite's own page cache and on
// ours, with and without room in the budget.
func TestWorkloadAgainstBuiltin(t *testing.T) {
	const seeds = 8 / sqlite.Effort
	if testing.Short() {
		t.Skip("-short")
	}
	all := func() string {
		var b strings.Builder
		for seed := range uint64(seeds) {
			fmt.Fprintln(&b, workload(t, seed))
		}
		return b.String()
	}
	if cache == nil {
		fmt.Printf("<<%s>>", all())
		return
	}
	out := rerun(t, "^TestWorkloadAgainstBuiltin$")
	_, out, _ = strings.Cut(out, "<<")
	want, _, _ := strings.Cut(out, ">>")
	if got := all(); got != want {
		t.Errorf("with room: got\n%swant\n%s", got, want)
	}
	cache.SetBudget(1)
	defer cache.SetBudget(testBudget)
	if got := all(); got != want {
		t.Errorf("without room: got\n%swant\n%s", got, want)
	}
}

func fill(t testing.TB, c *sqlite.Conn, rows int) {
	run(t, c, "PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY; CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)")
	run(t, c, fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT %d) INSERT INTO t SELECT i, printf('%%0500d', i) FROM n", rows))
}

func misses(t *testing.T, c *sqlite.Conn) int {
	n, _, err := c.Status(sqlite.StatusCacheMiss, true)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// One tenant scans ten times its cache; another's warm query misses nothing.
func TestScanLeavesOthersTheirPages(t *testing.T) {
	if cache == nil {
		t.Skip("SQLite's own page cache")
	}
	a, b := open(t), open(t)
	fill(t, a, 20_000) // 10 MB
	fill(t, b, 1000)   // 0.5 MB
	run(t, a, "PRAGMA cache_size=250")
	const query = "SELECT sum(length(v)) FROM t"
	one(b, query)
	misses(t, b)
	evicted := cache.Stats().Evictions
	for range 2 {
		one(a, query)
	}
	if n := misses(t, a); n < 2000 {
		t.Errorf("the scan missed %d pages only", n)
	}
	if got := one(b, query); got != "500000" {
		t.Error(got)
	}
	if n := misses(t, b); n != 0 {
		t.Errorf("the warm query missed %d pages", n)
	}
	if n := cache.Stats().Evictions - evicted; n < 2000 {
		t.Errorf("%d evictions", n)
	}
	// The limit of the connection holds.
	if n, _, _ := a.Status(sqlite.StatusCacheUsed, false); n > 260*4500 {
		t.Errorf("a has %d bytes", n)
	}
}

func TestBudget(t *testing.T) {
	if cache == nil {
		t.Skip("SQLite's own page cache")
	}
	const budget = 1 << 20
	base := cache.Stats().Bytes
	cache.SetBudget(base + budget)
	defer cache.SetBudget(testBudget)
	const conns = 4
	var cs []*sqlite.Conn
	for range conns {
		c := open(t)
		run(t, c, "PRAGMA cache_size=100000")
		fill(t, c, 4000) // 2 MB each
		one(c, "SELECT sum(length(v)) FROM t")
		cs = append(cs, c)
	}
	const reserved = 10 * 4400 * conns
	if got := cache.Stats().Bytes - base; got > budget+reserved {
		t.Errorf("%d bytes, budget %d", got, budget)
	}
	// One that gives back its pages makes room for another.
	last := cs[conns-1]
	misses(t, last)
	one(last, "SELECT sum(length(v)) FROM t WHERE id < 1000")
	cold := misses(t, last)
	if cold < 100 {
		t.Errorf("%d misses without room", cold)
	}
	for _, c := range cs[:conns-1] {
		c.ReleaseMemory()
	}
	if cache.OverBudget() {
		t.Error("over budget")
	}
	for range 2 {
		misses(t, last)
		one(last, "SELECT sum(length(v)) FROM t WHERE id < 1000")
	}
	if warm := misses(t, last); warm != 0 {
		t.Errorf("%d misses with room", warm)
	}
	// A smaller budget is reached as the connection works.
	cache.SetBudget(base + 200_000)
	if !cache.OverBudget() {
		t.Error("not over budget")
	}
	one(last, "SELECT sum(length(v)) FROM t")
	if got := cache.Stats().Bytes - base; got > 200_000+reserved {
		t.Errorf("%d bytes, budget %d", got, 200_000)
	}

	// A database in memory is not part of it, and keeps its pages.
	m := openMemory(t)
	fill(t, m, 4000)
	if got := cache.Stats().FixedBytes; got < 2_000_000 {
		t.Errorf("%d bytes", got)
	}
	if got := one(m, "SELECT sum(length(v)) FROM t"); got != "2000000" {
		t.Error(got)
	}
	for _, c := range append(cs, m) {
		c.Close()
	}
	if s := cache.Stats(); s.Bytes != base || s.FixedBytes != 0 {
		t.Errorf("%+v after all are closed", s)
	}
}
