package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// leftovers checks that stopping r gives everything back.
func leftovers(t *testing.T, r *rig, goroutines int) {
	t.Helper()
	r.stop()
	until(t, fmt.Sprintf("goroutines to go back to %d", goroutines), func() bool { return runtime.NumGoroutine() <= goroutines })
	if n := r.budget.Used(); n != 0 {
		t.Errorf("%d bytes of page versions are left", n)
	}
	if n := r.e.Stats.TempBytes.Load(); n != 0 {
		t.Errorf("%d bytes of temporary files are left", n)
	}
	if o, c := r.e.Stats.Opened.Load(), r.e.Stats.Closed.Load(); o != c {
		t.Errorf("%d tenants were opened, %d closed", o, c)
	}
}

func TestIdleTenantsAreClosed(t *testing.T) {
	before := runtime.NumGoroutine()
	var now atomic.Int64
	clock := func() time.Time { return time.UnixMilli(now.Load()) }
	r := newRig(t, Config{Now: clock, IdleClose: time.Second})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.e.Run(ctx) }()
	a, b := r.create(1, tenant.Limits{}), r.create(2, tenant.Limits{})
	r.exec(a, "CREATE TABLE t(a)")
	r.exec(b, "CREATE TABLE t(a)")
	now.Add(900)
	r.want(b, "SELECT count(*) FROM t", "[[0]]")
	now.Add(500)
	until(t, "the idle one to be closed", func() bool { return r.e.Open() == 1 })
	r.exec(a, "INSERT INTO t VALUES(1)")
	r.want(a, "SELECT count(*) FROM t", "[[1]]")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	r.refused(a, one("SELECT 1"), wire.CodeShuttingDown)
	r.refused(a, one("INSERT INTO t VALUES(1)"), wire.CodeShuttingDown)
	leftovers(t, r, before)
}

// TestFewOpenTenants: many tenants under load, of which few may be open; some are forgotten meanwhile.
func TestFewOpenTenants(t *testing.T) {
	before := runtime.NumGoroutine()
	r := newRig(t, Config{MaxOpen: 4})
	const tenants, workers, requests = 30, 8, 60
	var ts []*pagestore.Tenant
	for i := range tenants {
		tn := r.create(i, tenant.Limits{})
		r.exec(tn, "CREATE TABLE t(w, i)")
		ts = append(ts, tn)
	}
	if n := r.e.Open(); n > 4 {
		t.Errorf("%d tenants are open", n)
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range requests {
				tn := ts[(w*7+i*13)%tenants]
				if _, err := r.do(tn, one("INSERT INTO t VALUES(?, ?)", w, i)); err != nil {
					t.Errorf("write: %v", err)
				}
				res, err := r.do(tn, one("SELECT count(*) FROM t WHERE w=? AND i=?", w, i))
				if err != nil || res[0].Rows[0][0] != wire.Integer(1) {
					t.Errorf("read: %v, %v", res, err)
				}
				if i%10 == w {
					r.e.Forget(ts[(w+i)%tenants])
				}
			}
		})
	}
	wg.Wait()
	sum := int64(0)
	for _, tn := range ts {
		sum += r.ok(tn, one("SELECT count(*) FROM t"))[0].Rows[0][0].Int()
	}
	if sum != workers*requests {
		t.Errorf("%d rows", sum)
	}
	if n := r.e.Open(); n > 4 {
		t.Errorf("%d tenants are open", n)
	}
	leftovers(t, r, before)
}

// TestCloseUnderLoad: every request is answered, and what was answered with success is there.
func TestCloseUnderLoad(t *testing.T) {
	before := runtime.NumGoroutine()
	r := newRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE t(a)")
	var good atomic.Int64
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for {
				req := one("INSERT INTO t VALUES(1)")
				if w%2 == 0 {
					req = one("SELECT count(*) FROM t")
				}
				_, err := r.do(tn, req)
				if codeOf(err) == wire.CodeShuttingDown {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				if w%2 == 1 {
					good.Add(1)
				}
			}
		})
	}
	until(t, "some writes", func() bool { return good.Load() > 100 })
	r.e.Close()
	wg.Wait()
	r.e = New(Config{})
	r.want(tn, "SELECT count(*) FROM t", fmt.Sprintf("[[%d]]", good.Load()))
	leftovers(t, r, before)
}

// TestCloseWithAStuckLog: the log may never answer; closing does not wait for it.
func TestCloseWithAStuckLog(t *testing.T) {
	r := newRig(t, Config{InFlight: 1})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE t(a)")
	r.log.setHold(true)
	under := r.start(context.Background(), tn, one("INSERT INTO t VALUES(1)"))
	r.waitEntry()
	var line []*reply
	for i := range 3 {
		line = append(line, r.start(context.Background(), tn, one("INSERT INTO t VALUES(2)")))
		r.inLine(tn, i+1)
	}
	r.e.Close()
	for _, p := range line {
		p.wait(t)
		if codeOf(p.err) != wire.CodeShuttingDown {
			t.Errorf("in line: %v", p.err)
		}
	}
	under.pending(t, "under way")
	r.log.setHold(false)
	r.log.letGo(-1)
	under.wait(t)
	if under.err != nil {
		t.Error(under.err)
	}
	if got := tn.Position().TXID; got != 2 {
		t.Errorf("TXID %d", got)
	}
}

// TestForgetSendsTheLineOn: who waits when a tenant is closed goes on with it opened anew.
func TestForgetSendsTheLineOn(t *testing.T) {
	r := newRig(t, Config{InFlight: 1})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE t(a)")
	resume := r.holdWriter(tn)
	p := r.start(context.Background(), tn, one("INSERT INTO t VALUES(1)"))
	r.inLine(tn, 1)
	r.e.Forget(tn)
	r.waitEntry() // of the new writer, which goes on from the uncommitted head
	p.pending(t, "in line")
	resume()
	p.wait(t)
	if p.err != nil {
		t.Fatal(p.err)
	}
	r.want(tn, "SELECT count(*) FROM t", "[[1]]")
}

// TestAnswersAcrossForget: a new writer's answers without an entry wait for what the old one speculated on.
func TestAnswersAcrossForget(t *testing.T) {
	for _, lose := range []bool{false, true} {
		r := newRig(t, Config{})
		tn := r.create(1, tenant.Limits{})
		r.exec(tn, "CREATE TABLE t(a PRIMARY KEY)")
		r.log.setHold(true)
		first := r.start(context.Background(), tn, one("INSERT INTO t VALUES(1)"))
		r.waitEntry()
		r.e.Forget(tn)
		second := r.start(context.Background(), tn, one("INSERT INTO t VALUES(1)"))
		second.pending(t, "a constraint error that rests on an uncommitted row")
		r.log.setHold(false)
		if lose {
			r.log.lose(errors.New("lost"))
		} else {
			r.log.letGo(-1)
		}
		first.wait(t)
		second.wait(t)
		want := wire.CodeSQLiteConstraintPrimaryKey
		if lose {
			want = wire.CodeNotPrimary
		}
		if codeOf(second.err) != want {
			t.Errorf("lose %t: got %v", lose, second.err)
		}
		r.stop()
	}
}

// TestLoadWithLosses: writers, readers and a log that loses what it holds now and then. What was
// answered with success is there, what was refused is not, readers see whole batches only.
func TestLoadWithLosses(t *testing.T) {
	before := runtime.NumGoroutine()
	r := newRig(t, Config{MaxOpen: 1, InFlight: 4})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE t(id INTEGER PRIMARY KEY, who, n)")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	type fate struct {
		n    int
		code wire.Code
	}
	fates := make([][]fate, 6)
	for w := range fates {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				req := &wire.Request{Statements: []wire.Statement{st("INSERT INTO t(who, n) VALUES(?, ?)", w, n), st("INSERT INTO t(who, n) VALUES(?, ?)", w, n)}}
				if n%5 == 4 {
					req = one("INSERT OR ROLLBACK INTO t(id, who, n) VALUES(1, ?, ?), (1, 0, 0)", w, n)
				}
				_, err := r.do(tn, req)
				fates[w] = append(fates[w], fate{n, codeOf(err)})
			}
		})
	}
	var reads atomic.Int64
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				res, err := r.do(tn, one("SELECT count(*)%2, count(*) FROM t"))
				if err != nil && !err.Retryable {
					t.Errorf("read: %v", err)
				}
				if err == nil && res[0].Rows[0][0].Int() != 0 {
					t.Errorf("half a batch is visible: %v", res[0].Rows)
				}
				reads.Add(1)
			}
		})
	}
	for i := range 40 {
		r.log.setHold(true)
		for range 5 {
			pause()
		}
		r.log.setHold(false)
		switch i % 3 {
		case 0:
			r.log.letGo(-1)
		case 1:
			r.g.LostPrimary()
			r.log.lose(errors.New("lost"))
		default:
			r.log.lose(errors.New("lost"))
		}
		if i%10 == 9 {
			r.e.Forget(tn)
		}
	}
	close(stop)
	wg.Wait()
	rows := map[[2]int64]int{}
	for _, row := range r.ok(tn, one("SELECT who, n FROM t"))[0].Rows {
		rows[[2]int64{row[0].Int(), row[1].Int()}]++
	}
	answered := 0
	for w, fs := range fates {
		for _, f := range fs {
			n := rows[[2]int64{int64(w), int64(f.n)}]
			switch {
			case f.code == "" && n != 2:
				t.Errorf("worker %d, request %d was answered with success: %d rows", w, f.n, n)
			case f.code != "" && f.code != wire.CodeUnknownOutcome && n != 0:
				t.Errorf("worker %d, request %d was answered with %s: %d rows", w, f.n, f.code, n)
			case f.code == wire.CodeInternal || f.code == wire.CodeCorrupt || f.code == wire.CodeSQLiteCorrupt:
				t.Errorf("worker %d, request %d: %s", w, f.n, f.code)
			}
			if f.code == "" {
				answered++
			}
		}
	}
	if answered == 0 || reads.Load() == 0 {
		t.Errorf("%d writes and %d reads went well", answered, reads.Load())
	}
	leftovers(t, r, before)
}
