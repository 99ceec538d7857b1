package pagestore

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

var (
	long   = flag.Bool("long", false, "run what takes minutes, or a GiB")
	update = flag.Bool("update", false, "write golden files that are missing")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if ownPageCache && os.Getenv(lockPageChild) == "" { // it moves the lock page before SQLite starts
		// As in a node.
		if _, err := sqlite.InstallPageCache(sqlite.PageCacheConfig{BudgetBytes: 128 << 20}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if f := flag.Lookup("rapid.checks"); !*long && f.Value.String() == f.DefValue {
		must := flag.Set("rapid.checks", "40")
		if must != nil {
			panic(must)
		}
	}
	os.Exit(m.Run())
}
