package pagestore

import (
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"testing"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire/txn"
)

// lockPageChild is set in the process in which SQLite's lock bytes are moved to lockPageTest.
const lockPageChild = "NEARSQL_TEST_PENDING_BYTE"

// lockPageTest is where the lock bytes are then: page 17 of a database with pages of 4096 bytes.
const lockPageTest = 64 << 10

func TestLockPgno(t *testing.T) {
	for size := 512; size <= 65536; size *= 2 {
		if got, want := lockPgno(pendingByte, size), txn.LockPage(uint32(size)); got != want {
			t.Errorf("page size %d: %d, the transaction format says %d", size, got, want)
		}
	}
}

// TestLockPage runs TestLockPageChild in a process of its own, as where SQLite has its lock bytes
// is set for a process.
func TestLockPage(t *testing.T) {
	c := osexec.Command(os.Args[0], "-test.run=^TestLockPageChild$", "-test.v")
	c.Env = append(os.Environ(), lockPageChild+"=1")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestLockPageChild(t *testing.T) {
	if os.Getenv(lockPageChild) == "" {
		t.Skip("part of TestLockPage")
	}
	tls := libc.NewTLS()
	defer tls.Close()
	va := libc.NewVaList(int32(lockPageTest))
	sqlite3.Xsqlite3_test_control(tls, sqlite3.SQLITE_TESTCTRL_PENDING_BYTE, va)
	libc.Xfree(tls, va)
	for _, size := range []int{512, 4096, 32768} {
		fs := disktest.NewMemFS()
		cfg := memDisk(fs)
		cfg.pendingByte = lockPageTest
		cfg.BigTransaction = 64 << 10
		r := newRig(t, cfg)
		w := r.writer(r.create(1, size))
		lock := w.store.lock
		follow := func() {
			t.Helper()
			f := &rig{t: t, log: newTestLog(), cfg: memDisk(disktest.NewMemFS())}
			f.cfg.pendingByte, f.cfg.BigTransaction = lockPageTest, 1
			f.start()
			defer f.stop()
			for _, e := range r.log.history {
				f.feed(e)
			}
			if string(pagesOf(t, f.visible(1))) != string(pagesOf(t, w.store)) {
				t.Fatalf("page size %d: the pages of a follower differ", size)
			}
		}
		check := func() {
			t.Helper()
			want(t, w, "pragma integrity_check", `[["ok"]]`)
			checkSum(t, w.store)
			checkChains(t, w.store)
			for _, c := range w.store.mu.chains[lock] {
				t.Fatalf("page size %d: the lock page has a version %d", size, c.tx)
			}
		}
		restart := func() {
			w.Close()
			r.restart()
			r.visible(1)
			w = r.writer(r.tenant(1))
		}
		fill := fmt.Sprintf("with recursive c(i) as (select 1 union all select i+1 from c where i<%d) insert into t(a) select zeroblob(%d) from c", 2*lock+20, size-size/8)
		mustExec(t, w, "create table t(id integer primary key, a)")
		mustExec(t, w, fill)
		if w.store.Committed().Pages <= lock {
			t.Fatalf("page size %d: %d pages are too few", size, w.store.Committed().Pages)
		}
		check()
		r.tidy()
		check()
		restart()
		check()
		mustExec(t, w, "update t set a=substr(a||'y',2) where id%3=0")
		check()
		mustExec(t, w, "begin")
		mustExec(t, w, fill)
		mustExec(t, w, "delete from t where id>5")
		mustExec(t, w, "commit")
		check()
		r.tidy()
		mustExec(t, w, "vacuum") // below the lock page
		check()
		r.tidy()
		mustExec(t, w, fill)
		check()
		follow()
		r.tidy()
		if report, err := r.g.Scrub(t.Context()); err != nil || report.Errors > 0 {
			t.Fatalf("page size %d: scrub: %+v, %v", size, report, err)
		}
		checkEmpty(t, w.store)
		restart()
		check()
		w.Close()
	}
}

// TestGiB makes a database of more than 1 GiB, with the lock page where it is.
func TestGiB(t *testing.T) {
	if !*long {
		t.Skip("makes 1 GiB; run with -long")
	}
	cfg := testConfig(t)
	cfg.Budget = NewBudget(256 << 20)
	r := newRig(t, cfg)
	w := r.writer(r.create(1, 65536))
	mustExec(t, w, "pragma cache_size=100")
	mustExec(t, w, "create table t(id integer primary key, a)")
	for w.store.Committed().Pages < w.store.lock+50 {
		mustExec(t, w, "with recursive c(i) as (select 1 union all select i+1 from c where i<500) insert into t(a) select zeroblob(65000) from c")
		r.tidy()
		must(t, r.g.CompactLTX(t.Context()))
	}
	checkSum(t, w.store)
	want(t, w, "pragma integrity_check", `[["ok"]]`)
	w.Close()
	r.restart()
	checkSum(t, r.visible(1))
	r.stop()
	c, err := sqlite.Open(filepath.Join(cfg.Dir, "bases", r.tenant(1).ID().String()+".db"), "", sqlite.ReadOnly)
	must(t, err)
	defer c.Close()
	rows, err := queryOn(c, "pragma integrity_check")
	if err != nil || fmt.Sprint(rows) != `[["ok"]]` {
		t.Fatal(rows, err)
	}
}
