package pagestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// newTable is a rig with one tenant and the table t(a), its writer, and a reader.
func newTable(t testing.TB, cfg Config) (*rig, *Conn, *Conn) {
	r := newRig(t, cfg)
	tn := r.create(1, 4096)
	w := r.writer(tn)
	mustExec(t, w, "create table t(id integer primary key, a)")
	w.TakeCommit()
	return r, w, r.reader(tn)
}

// TestSpeculation holds commits back: the writer goes on from them, readers don't see them before
// they are in the log.
func TestSpeculation(t *testing.T) {
	r, w, rd := newTable(t, testConfig(t))
	base := w.store.Committed()
	r.log.hold = true
	var fates []string
	for i := range 5 {
		mustExec(t, w, fmt.Sprintf("insert into t(a) values(%d)", i))
		c := w.TakeCommit()
		if c == nil || c.Prev.TXID != base.TXID+wire.TXID(i) || c.Next.TXID != c.Prev.TXID+1 || w.Seen() != c.Prev {
			t.Fatalf("commit %d: %+v; it saw %s", i, c, w.Seen())
		}
		c.Then(func(err error) { fates = append(fates, fmt.Sprint(i, err)) })
	}
	want(t, w, "select count(*) from t", "[[5]]")
	if w.TakeCommit() != nil {
		t.Fatal("a read committed something")
	}
	want(t, rd, "select count(*) from t", "[[0]]")
	if w.store.Committed() != base || w.store.Head().TXID != base.TXID+5 {
		t.Fatalf("committed %s, head %s", w.store.Committed(), w.store.Head())
	}
	if r.tenant(1).Position().TXID != base.TXID {
		t.Fatalf("position %s", r.tenant(1).Position())
	}
	r.log.letGo(2)
	want(t, rd, "select count(*) from t", "[[2]]")
	want(t, w, "select count(*) from t", "[[5]]")
	checkSum(t, w.store)
	checkChains(t, w.store)
	r.log.letGo(3)
	want(t, rd, "select count(*) from t", "[[5]]")
	if got := fmt.Sprint(fates); got != "[0 <nil> 1 <nil> 2 <nil> 3 <nil> 4 <nil>]" {
		t.Fatal(got)
	}
	if n := r.g.Stats.Promoted.Load(); n != 6 || r.g.Stats.Built.Load() != 0 {
		t.Fatalf("%d promoted, %d built", n, r.g.Stats.Built.Load())
	}
	checkFollower(t, r)
}

// TestSpeculationLost loses leadership with commits on their way: they are gone, and a writer
// opened anew goes on from what is committed.
func TestSpeculationLost(t *testing.T) {
	r, w, rd := newTable(t, testConfig(t))
	mustExec(t, w, "insert into t(a) values('kept')")
	base := w.store.Committed()
	r.log.hold = true
	mustExec(t, w, "insert into t(a) values('lost')")
	var fate error
	w.TakeCommit().Then(func(err error) { fate = err })
	mustExec(t, w, "create table lost(x)")
	// A second writer, and one within a transaction on the speculative state.
	w2, w3 := r.writer(r.tenant(1)), r.writer(r.tenant(1))
	want(t, w2, "select count(*) from t", "[[2]]")
	mustExec(t, w3, "begin")
	want(t, w3, "select a from t order by id", `[["kept"] ["lost"]]`)
	mustExec(t, rd, "begin")
	want(t, rd, "select count(*) from t", "[[1]]")
	reason := errors.New("the term ended")
	r.log.lose(reason)
	if !errors.Is(fate, reason) {
		t.Fatalf("the commit's fate is %v", fate)
	}
	if w.store.Head() != base {
		t.Fatalf("head %s, want %s", w.store.Head(), base)
	}
	checkChains(t, w.store)
	// The snapshot of a reader that is open is whole; its next one is refused like all others.
	want(t, rd, "select count(*) from t", "[[1]]")
	mustExec(t, rd, "commit")
	w3.ReleaseMemory()
	for name, c := range map[string]*Conn{"reader": rd, "writer": w, "second writer": w2, "writer in a transaction": w3} {
		_, err := query(c, "select count(*), sum(t.id) from t, t as u")
		if cause := c.TakeErr(); err == nil || !errors.Is(cause, ErrReplaced) {
			t.Errorf("%s: got %v (%v)", name, err, cause)
		}
		c.Close()
	}
	w, rd = r.writer(r.tenant(1)), r.reader(r.tenant(1))
	want(t, w, "select a from t", `[["kept"]]`)
	mustExec(t, w, "insert into t(a) values('next')")
	want(t, rd, "select a from t", `[["kept"] ["next"]]`)
	if err := exec(w, "select * from lost"); err == nil {
		t.Error("the lost table is there")
	}
	checkSum(t, w.store)
	checkFollower(t, r)
}

// TestOtherPrimary has an entry of another primary committed over what this one speculates, and
// while a transaction is open: the entry counts, the rest is refused.
func TestOtherPrimary(t *testing.T) {
	r, w, _ := newTable(t, testConfig(t))
	other := func() []byte { // a transaction that another node makes on the same position
		t.Helper()
		f := newFollower(t, testConfig(t))
		for _, e := range r.log.history {
			f.feed(e)
		}
		fw := f.writer(f.tenant(1))
		f.visible(1)
		n := len(f.log.history)
		mustExec(t, fw, "insert into t(a) values('other')")
		return f.log.history[n]
	}
	entry := other()
	r.log.hold = true
	mustExec(t, w, "insert into t(a) values('mine')")
	var fate error
	w.TakeCommit().Then(func(err error) { fate = err })
	r.log.hold = false
	if err, ok := r.feed(entry).(error); ok {
		t.Fatal(err)
	}
	r.log.letGo(1) // this node's entry comes after it
	var refused *RefusedError
	var pos *PositionError
	if !errors.As(fate, &refused) || !errors.As(fate, &pos) {
		t.Fatalf("the fate of the late commit is %v", fate)
	}
	r.log.hold = false
	s := r.visible(1)
	rd := r.reader(r.tenant(1))
	want(t, rd, "select a from t", `[["other"]]`)
	checkSum(t, s)
	checkChains(t, s)

	// While a transaction is open, with nothing speculative.
	w = r.writer(r.tenant(1))
	mustExec(t, w, "begin immediate")
	mustExec(t, w, "insert into t(a) values('mine too')")
	entry = other()
	if err, ok := r.feed(entry).(error); ok {
		t.Fatal(err)
	}
	r.visible(1)
	err := exec(w, "commit")
	if cause := w.TakeErr(); err == nil || !errors.Is(cause, ErrNotPrimary) {
		t.Fatalf("a commit on an old state: %v (%v)", err, cause)
	}
	if !w.Autocommit() {
		t.Fatal("the transaction is still open")
	}
	want(t, w, "select a from t", `[["other"] ["other"]]`)
	want(t, rd, "select a from t", `[["other"] ["other"]]`)
	mustExec(t, w, "insert into t(a) values('again')")
	want(t, rd, "select count(*) from t", "[[3]]")
	checkSum(t, s)
	checkFollower(t, r)
}

// TestInstallBesideSpeculation covers a race: an entry of another primary waits to be built, and
// this node's writer commits in between.
func TestInstallBesideSpeculation(t *testing.T) {
	r, w, _ := newTable(t, testConfig(t))
	s := w.store
	f := newFollower(t, testConfig(t))
	for _, e := range r.log.history {
		f.feed(e)
	}
	fw := f.writer(f.tenant(1))
	f.visible(1)
	n := len(f.log.history)
	mustExec(t, fw, "insert into t(a) values('other')")
	entry := f.log.history[n]

	mustExec(t, w, "begin immediate")
	mustExec(t, w, "insert into t(a) values('mine')")
	r.end() // no builder at work
	r.wg.Wait()
	if err, ok := r.feed(entry).(error); ok {
		t.Fatal(err)
	}
	r.log.hold = true
	mustExec(t, w, "commit") // it can't know yet
	if s.Head().TXID != s.Committed().TXID+1 {
		t.Fatal("nothing is speculative")
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.end = cancel
	r.wg.Go(func() { r.g.buildLoop(ctx) })
	r.visible(1)
	checkChains(t, s)
	checkSum(t, s)
	if s.Head() != s.Committed() {
		t.Fatalf("head %s, committed %s", s.Head(), s.Committed())
	}
	if err := exec(w, "select * from t"); err == nil || !errors.Is(w.TakeErr(), ErrReplaced) {
		t.Fatalf("the writer goes on: %v", err)
	}
	want(t, r.reader(r.tenant(1)), "select a from t", `[["other"]]`)
}

// TestRefusals has commits refused at each point where they may be: SQLite must have rolled back, and
// the connection be good for the next.
func TestRefusals(t *testing.T) {
	cfg := testConfig(t)
	free := int64(1 << 30)
	now := time.UnixMilli(1e12)
	cfg.Space = disk.NewSpace(disk.SpaceConfig{Free: func() (int64, error) { return free, nil }, Reserve: 1 << 20, Believe: -1})
	cfg.Now = func() time.Time { return now }
	cfg.QueueBytes = 20 << 10
	cfg.Budget = NewBudget(4 << 20)
	r, w, rd := newTable(t, cfg)
	mustExec(t, w, "insert into t(a) values('before')")
	tn := r.tenant(1)

	big := "insert into t(a) select randomblob(3000) from (with recursive c(i) as (select 1 union all select i+1 from c where i<100) select i from c)"
	var (
		large *TooLargeError
		full  *FullError
	)
	for _, c := range []struct {
		name   string
		begin  func()
		sql    string
		is     error
		as     any
		code   int
		end    func()
		atOnce bool // refused before COMMIT
		open   bool // the transaction stays open: COMMIT may be tried again
	}{
		{name: "too large", begin: func() { w.SetLimits(TxLimits{TxBytes: 100 << 10}) }, sql: big, as: &large, code: sqlite.CodeFull,
			end: func() { w.SetLimits(TxLimits{}) }},
		{name: "too large by gaps", begin: func() { w.SetLimits(TxLimits{TxBytes: 390 << 10}) }, as: &large, code: sqlite.CodeFull,
			sql: "with recursive c(i) as (select 1 union all select i+1 from c where i<100) insert into t(a) select zeroblob(4000) from c; delete from t where id>3",
			end: func() { w.SetLimits(TxLimits{}) }},
		{name: "database full", begin: func() { w.SetLimits(TxLimits{MaxPages: 10}) }, sql: big, as: &full, code: sqlite.CodeFull,
			end: func() { w.SetLimits(TxLimits{}) }},
		{name: "disk full", begin: func() { free = 1 << 10; now = now.Add(2 * time.Second) }, sql: "insert into t(a) values(1)", is: ErrDiskFull, code: sqlite.CodeFull,
			end: func() { free = 1 << 30; now = now.Add(2 * time.Second) }},
		{name: "queue full", begin: func() { tn.waiting.Store(20 << 10) }, sql: "insert into t(a) values(1)", is: ErrOverloaded, code: sqlite.CodeBusy,
			end: func() { tn.waiting.Store(0) }, open: true},
		{name: "queue of the group full", begin: func() { r.g.queued.add(1 << 30) }, sql: "insert into t(a) values(1)", is: ErrOverloaded, code: sqlite.CodeBusy,
			end: func() { r.g.queued.add(-1 << 30) }, open: true},
		{name: "memory full", begin: func() { cfg.Budget.used.Add(8 << 20) }, sql: "insert into t(a) values(1)", is: ErrOverloaded, code: sqlite.CodeBusy,
			end: func() { cfg.Budget.used.Add(-8 << 20) }, open: true},
		{name: "not primary", begin: func() { r.log.down = errors.New("n2 leads") }, sql: "insert into t(a) values(1)", is: ErrNotPrimary, code: sqlite.CodeReadOnly,
			end: func() { r.log.down = nil }, atOnce: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := w.store.Committed()
			entries := len(r.log.history)
			rows, err := query(rd, "select count(*), max(id) from t")
			must(t, err)
			count := fmt.Sprint(rows)
			judge := func(err error) {
				t.Helper()
				cause := w.TakeErr()
				if sqlite.ErrorCode(err)&0xff != c.code || c.is != nil && !errors.Is(cause, c.is) || c.as != nil && !errors.As(cause, c.as) {
					t.Fatalf("got %v (%v)", err, cause)
				}
			}
			w.TakeCommit()
			c.begin()
			mustExec(t, w, "begin")
			for sql := range strings.SplitSeq(c.sql, "; ") {
				if err = exec(w, sql); err != nil {
					break
				}
			}
			if err == nil && !c.atOnce {
				err = exec(w, "commit")
			}
			judge(err)
			if c.open {
				if w.Autocommit() {
					t.Fatal("SQLITE_BUSY ended the transaction")
				}
				judge(exec(w, "commit")) // again: it must not say ok with the row missing
				c.end()
				mustExec(t, w, "commit")
				if w.TakeCommit() == nil || w.store.Committed().TXID != before.TXID+1 {
					t.Fatal("the last COMMIT said ok and committed nothing")
				}
				want(t, rd, "select max(id)-1 from t", fmt.Sprint(rows)[0:1]+"["+fmt.Sprint(rows[0][1])+"]]")
			} else {
				if !w.Autocommit() {
					mustExec(t, w, "rollback")
				}
				if err := exec(w, "commit"); err == nil {
					t.Fatal("COMMIT again said ok")
				}
				w.TakeErr()
				if w.TakeCommit() != nil || w.store.Head() != before || len(r.log.history) != entries {
					t.Fatalf("something was committed: %s, was %s", w.store.Head(), before)
				}
				want(t, rd, "select count(*), max(id) from t", count)
				want(t, w, "select count(*), max(id) from t", count)
				c.end()
				mustExec(t, w, "insert into t(a) values('after')")
			}
			want(t, rd, "pragma integrity_check", `[["ok"]]`)
			checkChains(t, w.store)
			checkSum(t, w.store)
		})
	}
	checkFollower(t, r)
}

// TestBusySnapshot writes in a deferred transaction that began to read on a state that is not the head
// any more, which would lose an update.
func TestBusySnapshot(t *testing.T) {
	r, w, rd := newTable(t, testConfig(t))
	mustExec(t, w, "insert into t(id, a) values(1, 0)")
	w2 := r.writer(r.tenant(1))
	mustExec(t, w, "begin")
	want(t, w, "select a from t", "[[0]]")
	mustExec(t, w2, "begin")
	want(t, w2, "select a from t", "[[0]]")
	mustExec(t, w, "update t set a=a+1")
	if err := exec(w2, "update t set a=a+1"); sqlite.ErrorCode(err) != sqlite.CodeBusy {
		t.Fatalf("two writers at a time: %v", err)
	}
	mustExec(t, w, "commit")
	err := exec(w2, "update t set a=a+1")
	if sqlite.ErrorCode(err) != sqlite.CodeBusySnapshot {
		t.Fatalf("a write on an old snapshot: %v", err)
	}
	want(t, w2, "select a from t", "[[0]]")
	mustExec(t, w2, "rollback")
	mustExec(t, w2, "update t set a=a+1")
	want(t, rd, "select a from t", "[[2]]")
	// A reader never writes.
	if err := exec(rd, "update t set a=5"); sqlite.ErrorCode(err)&0xff != sqlite.CodeReadOnly {
		t.Fatalf("a reader wrote: %v", err)
	}
	// The first writer's view of the size is not that of its own last transaction.
	mustExec(t, w2, "insert into t(a) select zeroblob(3000) from (with recursive c(i) as (select 1 union all select i+1 from c where i<100) select i from c)")
	want(t, w, "select count(*) from t", "[[101]]")
	mustExec(t, w2, "delete from t where id>1")
	mustExec(t, w2, "vacuum")
	want(t, w, "select count(*) from t", "[[1]]")
	want(t, w, "pragma integrity_check", `[["ok"]]`)
}

// TestEmptyTransactions make no entry.
func TestEmptyTransactions(t *testing.T) {
	r, w, _ := newTable(t, testConfig(t))
	n := len(r.log.history)
	w.TakeCommit()
	for _, sql := range []string{"begin immediate", "commit", "update t set a=1 where id=99", "begin", "insert into t(a) values(1)", "rollback", "delete from t where id>1"} {
		mustExec(t, w, sql)
	}
	if c := w.TakeCommit(); c != nil || len(r.log.history) != n {
		t.Fatalf("%d entries, commit %+v", len(r.log.history)-n, c)
	}
}

// TestPrimaryAfterRestart checks that entries of the own writer are built from the log when
// the process that speculated them is gone.
func TestPrimaryAfterRestart(t *testing.T) {
	r, w, _ := newTable(t, memDisk(disktest.NewMemFS()))
	for i := range 20 {
		mustExec(t, w, fmt.Sprintf("insert into t(a) values(%d)", i))
	}
	pages := pagesOf(t, w.store)
	w.Close()
	r.restart()
	if !bytes.Equal(pages, pagesOf(t, r.visible(1))) || r.g.Stats.Built.Load() != 21 {
		t.Fatalf("pages differ, or were not built (%d)", r.g.Stats.Built.Load())
	}
}

// TestTenantStates: a tenant that is frozen or deleted takes no transaction, and its life goes on as the log says.
func TestTenantStates(t *testing.T) {
	r, w, rd := newTable(t, testConfig(t))
	id := r.tenant(1).ID()
	must(t, r.control(id, tenant.Frozen{Time: time.UnixMilli(5)}))
	err := exec(w, "insert into t(a) values(1)")
	if !errors.Is(w.TakeErr(), ErrNotPrimary) {
		t.Fatalf("a frozen tenant: %v", err)
	}
	want(t, rd, "select count(*) from t", "[[0]]")
	must(t, r.control(id, tenant.Thawed{Time: time.UnixMilli(6)}))
	mustExec(t, w, "insert into t(a) values(1)")
	if err := r.control(id, tenant.Thawed{Time: time.UnixMilli(7)}); err == nil {
		t.Fatal("thawed twice")
	}
	var refused *tenant.EventRefusedError
	if err := r.control(id, tenant.Purged{Time: time.UnixMilli(7)}); !errors.As(err, &refused) {
		t.Fatalf("an active tenant is purged: %v", err)
	}
}
