package sqlite_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

// The page cache is one per process, so the tests run on ours; some start the
// test program again with builtinCache set, to run a part on SQLite's own.
const builtinCache = "NEARSQL_TEST_BUILTIN_PAGE_CACHE"

const testBudget = 256 << 20

var cache *sqlite.PageCache

func TestMain(m *testing.M) {
	if os.Getenv(builtinCache) == "" {
		var err error
		if cache, err = sqlite.InstallPageCache(sqlite.PageCacheConfig{BudgetBytes: testBudget}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// open opens a new file in a directory of the test.
func open(t testing.TB) *sqlite.Conn {
	t.Helper()
	return openAt(t, t.TempDir()+"/test.db")
}

func openMemory(t testing.TB) *sqlite.Conn {
	t.Helper()
	return openAt(t, ":memory:")
}

func openAt(t testing.TB, name string) *sqlite.Conn {
	t.Helper()
	c, err := sqlite.Open(name, "", sqlite.ReadWrite|sqlite.Create)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

func run(t testing.TB, c *sqlite.Conn, sql string) {
	t.Helper()
	if err := c.Exec(sql); err != nil {
		t.Fatalf("%.200s: %v", sql, err)
	}
}

// prepare prepares the one statement in sql, to be finalized with the test.
func prepare(t testing.TB, c *sqlite.Conn, sql string) *sqlite.Stmt {
	t.Helper()
	s, _, err := c.Prepare(sql, true)
	if err != nil {
		t.Fatalf("%.200s: %v", sql, err)
	}
	t.Cleanup(func() { s.Finalize() })
	return s
}
