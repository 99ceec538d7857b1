package pagestore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

// TestLongSnapshot keeps readers of many moments open while the database is written, checkpointed,
// absorbed, compacted, vacuumed and cut: each sees its own state to the end, and nothing is left after them.
func TestLongSnapshot(t *testing.T) {
	r, w, _ := newTable(t, memDisk(disktest.NewMemFS()))
	type held struct {
		c    *Conn
		want string
	}
	var readers []held
	const look = "select count(*), sum(id), sum(length(a)), total(unicode(a)) from t"
	hold := func() {
		t.Helper()
		c := r.reader(r.tenant(1))
		mustExec(t, c, "pragma cache_size=5")
		mustExec(t, c, "begin")
		rows, err := query(c, look)
		must(t, err)
		readers = append(readers, held{c, fmt.Sprint(rows)})
	}
	check := func() {
		t.Helper()
		for i, h := range readers {
			h.c.ReleaseMemory()
			rows, err := query(h.c, look)
			if err != nil || fmt.Sprint(rows) != h.want {
				t.Fatalf("reader %d of %d: got %v, %v, want %s", i, len(readers), rows, err, h.want)
			}
		}
		checkChains(t, w.store)
	}
	grow := "insert into t(a) select char(65+i%26)||hex(zeroblob(1000+i)) from (with recursive c(i) as (select 1 union all select i+1 from c where i<200) select i from c)"
	steps := []func(){
		func() { mustExec(t, w, grow) },
		func() { mustExec(t, w, "update t set a='u'||a where id%3=0") },
		func() { must(t, r.g.Checkpoint()) },
		func() { mustExec(t, w, "delete from t where id%2=0") },
		func() { r.tidy() },
		func() { mustExec(t, w, "vacuum") },
		func() { r.tidy() },
		func() { mustExec(t, w, "update t set a='v'||a where id%5=0") },
		func() { r.tidy() },
		func() { must(t, r.g.CompactLTX(context.Background())) },
		func() { mustExec(t, w, "delete from t where id>20"); mustExec(t, w, "vacuum") },
		func() { must(t, r.g.Checkpoint()) },
		func() { mustExec(t, w, grow) },
		func() { r.tidy(); r.tidy() },
		func() { mustExec(t, w, "update t set a='w' where id%7=0") },
	}
	for range 2 {
		for _, step := range steps {
			hold()
			step()
			check()
		}
	}
	// They end in an order of their own.
	for i := 0; len(readers) > 0; i++ {
		k := i * 7 % len(readers)
		readers[k].c.Close()
		readers = append(readers[:k], readers[k+1:]...)
		check()
	}
	r.tidy()
	checkEmpty(t, w.store)
	must(t, r.g.CompactLTX(context.Background()))
	if n := r.g.files.segmentBytes(); n != 0 {
		t.Errorf("%d bytes of segments are left", n)
	}
	want(t, w, "pragma integrity_check", `[["ok"]]`)
	checkSum(t, w.store)
	checkFollower(t, r)
}

// TestVersionsBounded: without readers a page has few versions however often it is written, and with one
// it has one more.
func TestVersionsBounded(t *testing.T) {
	r, w, rd := newTable(t, testConfig(t))
	mustExec(t, w, "insert into t(a) values(0)")
	mustExec(t, rd, "begin")
	want(t, rd, "select a from t", "[[0]]")
	for range 300 {
		mustExec(t, w, "update t set a=a+1")
	}
	w.store.mu.RLock()
	for pgno, c := range w.store.mu.chains {
		if len(c) > 4 {
			t.Errorf("page %d has %d versions", pgno, len(c))
		}
	}
	w.store.mu.RUnlock()
	want(t, rd, "select a from t", "[[0]]")
	mustExec(t, rd, "commit")
	r.tidy()
	checkEmpty(t, w.store)
}

// TestExpire takes snapshots away when memory is short: the oldest readers end with an error, and what
// they held is free, also while they don't notice.
func TestExpire(t *testing.T) {
	now := time.Now()
	cfg := testConfig(t)
	cfg.Budget = NewBudget(1 << 30)
	cfg.Now = func() time.Time { return now }
	r, w, old := newTable(t, cfg)
	fill := "insert into t(a) select zeroblob(3000) from (with recursive c(i) as (select 1 union all select i+1 from c where i<300) select i from c)"
	mustExec(t, w, fill)
	fresh := r.reader(r.tenant(1))
	mustExec(t, old, "pragma cache_size=5")
	mustExec(t, old, "begin")
	want(t, old, "select count(*) from t", "[[300]]")
	s, _, err := old.Prepare("select length(a) from t", false)
	must(t, err)
	_, err = s.Step()
	must(t, err)
	mustExec(t, w, "update t set a=zeroblob(2900)")
	r.tidy()
	r.g.expireReaders(now)
	if w.store.Memory() == 0 || r.g.Stats.ReadersExpired.Load() != 0 {
		t.Fatal("a reader was expired without need, or holds nothing")
	}
	now = now.Add(time.Minute)
	cfg.Budget.Soft = 1
	mustExec(t, fresh, "begin")
	want(t, fresh, "select count(*), min(length(a)) from t", "[[300 2900]]")
	r.g.expireReaders(now)
	if n := r.g.Stats.ReadersExpired.Load(); n != 1 {
		t.Fatalf("%d readers expired", n)
	}
	checkEmptyBut(t, w.store, 1)
	old.ReleaseMemory() // what it has read already it may go on with
	for err == nil {
		var row bool
		if row, err = s.Step(); err == nil && !row {
			t.Fatal("the reader came to its end")
		}
	}
	if cause := old.TakeErr(); !errors.Is(cause, ErrSnapshotTooOld) || sqlite.ErrorCode(err)&0xff != sqlite.CodeIOErr {
		t.Fatalf("got %v (%v)", err, cause)
	}
	must(t, s.Finalize())
	if !old.Autocommit() {
		mustExec(t, old, "rollback")
	}
	want(t, fresh, "select count(*), min(length(a)) from t", "[[300 2900]]")
	mustExec(t, fresh, "commit")
	// The connection itself is good for a new snapshot.
	want(t, old, "select count(*), min(length(a)) from t", "[[300 2900]]")
	checkEmpty(t, w.store)
	mustExec(t, old, "begin")
	want(t, old, "select count(*) from t", "[[300]]")
	mustExec(t, w, "delete from t where id>1")
	want(t, old, "select min(length(a)) from t", "[[2900]]")
	mustExec(t, old, "commit")
	r.tidy()
	checkEmpty(t, w.store)
}

// checkEmptyBut is checkEmpty with readers at the newest state.
func checkEmptyBut(t testing.TB, s *Store, pins int) {
	t.Helper()
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.mu.chains) > 0 || s.mu.memory != 0 || s.budget.Used() != 0 {
		t.Fatalf("%d pages have versions, %d bytes", len(s.mu.chains), s.budget.Used())
	}
	if len(s.mu.pins.at) != 1 || s.mu.pins.at[0].n != pins || s.mu.pins.at[0].tx != s.mu.committed.TXID {
		t.Fatalf("pins %+v", s.mu.pins.at)
	}
}

// TestConcurrent has readers that look for torn states, a writer, checkpoints and absorption at once.
// Each transaction keeps a sum at 0; a reader that sees another saw two states.
func TestConcurrent(t *testing.T) {
	r, w, _ := newTable(t, testConfig(t))
	mustExec(t, w, "create table s(id integer primary key, n integer, pad)")
	mustExec(t, w, "with recursive c(i) as (select 1 union all select i+1 from c where i<200) insert into s select i, 0, zeroblob(500) from c")
	rounds := 300
	if *long {
		rounds = 10000
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		s, err := r.tenant(1).Acquire()
		must(t, err)
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				c, err := s.OpenReader(nil)
				if err != nil {
					t.Error(err)
					return
				}
				_ = c.Exec("pragma cache_size=3")
				for range 5 {
					rows, err := query(c, "select sum(n), count(*) from s")
					if err != nil || fmt.Sprint(rows[0][0]) != "0" {
						t.Errorf("a reader saw %v, %v (%v)", rows, err, c.TakeErr())
						c.Close()
						return
					}
				}
				c.Close()
			}
		})
	}
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			if err := r.g.Checkpoint(); err != nil {
				t.Error(err)
				return
			}
			if err := r.g.absorbAll(context.Background()); err != nil {
				t.Error(err)
				return
			}
			if i%4 == 0 {
				if err := r.g.CompactLTX(context.Background()); err != nil {
					t.Error(err)
					return
				}
			}
			r.g.closeIdle()
		}
	})
	for i := range rounds {
		a, b := i*31%200+1, i*17%200+1
		mustExec(t, w, "begin immediate")
		mustExec(t, w, "update s set n=n+?2 where id=?1", wire.Integer(int64(a)), wire.Integer(int64(i)))
		mustExec(t, w, "update s set n=n-?2 where id=?1", wire.Integer(int64(b)), wire.Integer(int64(i)))
		if i%10 == 0 {
			mustExec(t, w, "insert into s select max(id)+1, 0, zeroblob(3000) from s")
		}
		mustExec(t, w, "commit")
		if i%50 == 49 {
			mustExec(t, w, "delete from s where id>200 and n=0")
			mustExec(t, w, "vacuum")
		}
	}
	close(done)
	wg.Wait()
	r.tidy()
	checkEmpty(t, w.store)
	checkSum(t, w.store)
	want(t, w, "pragma integrity_check", `[["ok"]]`)
}

// TestPins looks at the set of pins itself.
func TestPins(t *testing.T) {
	var p pinSet
	for _, tx := range []wire.TXID{5, 9, 5, 7} {
		p.add(tx)
	}
	if tx, ok := p.min(); !ok || tx != 5 {
		t.Fatalf("min is %d", tx)
	}
	for _, c := range []struct {
		from, to wire.TXID
		want     bool
	}{{0, 5, false}, {0, 6, true}, {5, 6, true}, {6, 7, false}, {6, 8, true}, {8, 9, false}, {9, 10, true}, {10, 20, false}} {
		if got := p.keep(1, c.from, c.to); got != c.want {
			t.Errorf("[%d, %d): got %t", c.from, c.to, got)
		}
	}
	p.keep(3, 4, 8) // by 7, the newest
	if keeps := p.remove(5); keeps != nil {
		t.Fatal("5 has another pin")
	}
	if keeps := p.remove(7); len(keeps) != 2 {
		t.Fatalf("7 kept %v", keeps)
	}
	if p.remove(8) != nil || p.remove(7) != nil {
		t.Fatal("what is not pinned was removed")
	}
	p.remove(5)
	p.remove(9)
	if _, ok := p.min(); ok {
		t.Fatal("pins are left")
	}
}

// TestBeforeLocks: SQLite reads the header and the size of a file before it takes a lock; it gets the newest
// committed ones (the head, for the writer), pinned while they are read.
func TestBeforeLocks(t *testing.T) {
	r := newRig(t, testConfig(t))
	tn := r.create(1, 8192)
	w := r.writer(tn)
	rd := r.reader(tn)
	var b [16]byte
	read := func(c *Conn) (short bool, text string) {
		t.Helper()
		short, err := c.read(b[:], 0)
		must(t, err)
		if n := len(c.store.mu.pins.at); n != 0 {
			t.Fatalf("%d pins are left", n)
		}
		return short, string(b[:15])
	}
	if short, _ := read(rd); !short || rd.size() != 0 || w.size() != 0 {
		t.Fatal("a database of no pages has a header")
	}
	mustExec(t, w, "create table t(a)")
	r.log.hold = true
	mustExec(t, w, "insert into t values(zeroblob(50000))")
	for range 2 {
		for _, c := range []*Conn{rd, w} {
			if short, text := read(c); short || text != "SQLite format 3" {
				t.Fatalf("got %q", text)
			}
		}
		if rd.size() != 2 || w.size() != 8 {
			t.Fatalf("sizes %d and %d", rd.size(), w.size())
		}
		r.tidy()
	}
	r.log.letGo(1)
	if rd.size() != 8 {
		t.Fatalf("size %d", rd.size())
	}
	want(t, rd, "pragma page_size", "[[8192]]")
}
