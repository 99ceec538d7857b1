package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

func TestMain(m *testing.M) {
	if name := os.Getenv(crashEnv); name != "" {
		crashChild(name)
		os.Exit(0)
	}
	if !raceEnabled {
		if _, err := sqlite.InstallPageCache(sqlite.PageCacheConfig{BudgetBytes: 256 << 20}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// testLog is a log in memory: it applies at once, or holds what is proposed until it is let go or lost.
type testLog struct {
	mu      sync.Mutex
	g       *pagestore.Group
	index   uint64
	hold    bool
	held    []heldEntry
	down    error
	queue   chan heldEntry // see async; nil: entries are committed by who proposes them
	arrived chan struct{}  // told of each entry that is held
}

type heldEntry struct {
	entry []byte
	done  func(any, error)
}

func (l *testLog) Primary() error  { l.mu.Lock(); defer l.mu.Unlock(); return l.down }
func (l *testLog) Snapshot() error { return errors.New("this log takes no snapshots") }

func (l *testLog) Propose(entry []byte, done func(any, error)) {
	l.mu.Lock()
	if l.hold {
		l.held = append(l.held, heldEntry{entry, done})
		l.mu.Unlock()
		l.arrived <- struct{}{}
		return
	}
	if err := l.down; err != nil {
		l.mu.Unlock()
		done(nil, err)
		return
	}
	if l.queue != nil {
		l.queue <- heldEntry{entry, done}
		l.mu.Unlock()
		return
	}
	l.index++
	resp := l.g.Apply(l.index, 1, entry)
	l.mu.Unlock()
	done(resp, nil)
}

// async has a goroutine of its own commit all entries from now on, as a real log does.
func (l *testLog) async(t testing.TB) {
	queue, over := make(chan heldEntry, 1024), make(chan struct{})
	l.mu.Lock()
	l.queue = queue
	l.mu.Unlock()
	go func() {
		defer close(over)
		for h := range queue {
			l.mu.Lock()
			l.index++
			resp := l.g.Apply(l.index, 1, h.entry)
			l.mu.Unlock()
			h.done(resp, nil)
		}
	}()
	t.Cleanup(func() {
		l.mu.Lock()
		l.queue = nil
		l.mu.Unlock()
		close(queue)
		<-over
	})
}

func (l *testLog) setHold(on bool) { l.mu.Lock(); l.hold = on; l.mu.Unlock() }

func (l *testLog) setDown(err error) { l.mu.Lock(); l.down = err; l.mu.Unlock() }

func (l *testLog) takeHeld(n int) []heldEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n < 0 {
		n = len(l.held)
	}
	held := l.held[:n:n]
	l.held = l.held[n:]
	return held
}

// letGo commits the first n of what is held; all for -1.
func (l *testLog) letGo(n int) {
	for _, h := range l.takeHeld(n) {
		l.mu.Lock()
		l.index++
		resp := l.g.Apply(l.index, 1, h.entry)
		l.mu.Unlock()
		h.done(resp, nil)
	}
}

// lose fails all that is held.
func (l *testLog) lose(err error) {
	for _, h := range l.takeHeld(-1) {
		h.done(nil, err)
	}
}

// quorum is a Quorum that counts, and says err when told to.
type quorum struct {
	n   atomic.Int64
	err atomic.Pointer[error]
}

func (q *quorum) fail(err error) { q.err.Store(&err) }

func (q *quorum) Confirm(ctx context.Context) error {
	q.n.Add(1)
	if p := q.err.Load(); p != nil && *p != nil {
		return *p
	}
	return ctx.Err()
}

// rig is an engine on a group.
type rig struct {
	t      testing.TB
	log    *testLog
	g      *pagestore.Group
	budget *pagestore.Budget
	e      *Engine
	q      *quorum
	end    context.CancelFunc
	wg     sync.WaitGroup
	opener int // see holdWriter
	once   sync.Once
}

func newRig(t testing.TB, cfg Config) *rig {
	t.Helper()
	return newRigAt(t, t.TempDir(), cfg)
}

func newRigAt(t testing.TB, dir string, cfg Config) *rig {
	t.Helper()
	r := &rig{t: t, budget: pagestore.NewBudget(1 << 30), q: &quorum{}, log: &testLog{arrived: make(chan struct{}, 1<<16)}}
	g, err := pagestore.NewGroup(pagestore.Config{ID: 2, Dir: dir, FS: disk.OS(), CheckpointAge: time.Hour, LTXAge: time.Hour, Budget: r.budget})
	if err != nil {
		t.Fatal(err)
	}
	r.g, r.log.g = g, g
	g.SetLog(r.log)
	ctx, cancel := context.WithCancel(context.Background())
	r.end = cancel
	r.wg.Go(func() { g.Run(ctx) })
	r.e = New(cfg)
	t.Cleanup(r.stop)
	return r
}

func (r *rig) stop() { r.once.Do(r.doStop) }

func (r *rig) doStop() {
	r.log.setHold(false)
	r.log.lose(errors.New("the test is over"))
	r.e.Close()
	r.end()
	r.wg.Wait()
	r.g.Close()
}

func (r *rig) control(id wire.TenantID, e tenant.Event) {
	r.t.Helper()
	payload, err := tenant.EncodeEvent(e)
	if err != nil {
		r.t.Fatal(err)
	}
	h := txn.Header{Kind: txn.Control, Tenant: id, Epoch: 1, Group: 2, Code: uint16(e.Code())}
	if t, err := r.g.Tenant(id); err == nil {
		st := t.Logged()
		h.PrevTXID, h.PrevSum, h.NextTXID, h.NextSum, h.Commit = st.TXID, st.Checksum, st.TXID, st.Checksum, st.Pages
	}
	entry, err := txn.AppendEntry(nil, &h, payload)
	if err != nil {
		r.t.Fatal(err)
	}
	r.log.Propose(entry, func(resp any, err error) {
		if e, ok := resp.(error); ok {
			err = e
		}
		if err != nil {
			r.t.Error(err)
		}
	})
}

func (r *rig) create(n int, limits tenant.Limits) *pagestore.Tenant {
	r.t.Helper()
	id := wire.TenantID{0: 7, 14: byte(n >> 8), 15: byte(n)}
	rec, err := tenant.New(id, tenant.Name(fmt.Sprintf("t%d", n)), tenant.CreateOptions{PageSize: 4096}, 2, time.UnixMilli(1))
	if err != nil {
		r.t.Fatal(err)
	}
	rec.Limits = limits
	r.control(id, tenant.Created{Tenant: rec})
	t, err := r.g.Tenant(id)
	if err != nil {
		r.t.Fatal(err)
	}
	return t
}

// sink keeps all that it is given.
type sink struct {
	results []wire.Result
	ended   int
	onRow   func() error
}

func (s *sink) Begin(n int, cols []wire.Column) error {
	if n != len(s.results) {
		return fmt.Errorf("Begin(%d) after %d results", n, len(s.results))
	}
	s.results = append(s.results, wire.Result{Columns: append([]wire.Column(nil), cols...)})
	return nil
}

func (s *sink) Row(row []wire.Value) error {
	res := &s.results[len(s.results)-1]
	res.Rows = append(res.Rows, append([]wire.Value(nil), row...))
	if s.onRow != nil {
		return s.onRow()
	}
	return nil
}

func (s *sink) End(sum wire.Summary) error {
	s.results[len(s.results)-1].Summary = sum
	s.ended++
	return nil
}

func st(sql string, args ...any) wire.Statement { return wire.Statement{SQL: sql, Args: values(args)} }

func values(args []any) []wire.Value {
	var vs []wire.Value
	for _, a := range args {
		switch a := a.(type) {
		case nil:
			vs = append(vs, wire.Null)
		case int:
			vs = append(vs, wire.Integer(int64(a)))
		case int64:
			vs = append(vs, wire.Integer(a))
		case float64:
			vs = append(vs, wire.Float(a))
		case string:
			vs = append(vs, wire.Text(a))
		case []byte:
			vs = append(vs, wire.Blob(a))
		case wire.Value:
			vs = append(vs, a)
		default:
			panic(fmt.Sprintf("no value for %T", a))
		}
	}
	return vs
}

func batch(sql ...string) *wire.Request {
	req := &wire.Request{Batch: true}
	for _, s := range sql {
		req.Statements = append(req.Statements, st(s))
	}
	return req
}

func one(sql string, args ...any) *wire.Request {
	return &wire.Request{Statements: []wire.Statement{st(sql, args...)}}
}

// do runs a request.
func (r *rig) do(t *pagestore.Tenant, req *wire.Request) ([]wire.Result, *wire.Error) {
	res, _, err := r.doCtx(context.Background(), t, req)
	return res, err
}

func (r *rig) doCtx(ctx context.Context, t *pagestore.Tenant, req *wire.Request) ([]wire.Result, Executed, *wire.Error) {
	s := &sink{}
	x, err := r.e.Execute(ctx, t, r.q, req, s)
	if err != nil {
		var we *wire.Error
		if !errors.As(err, &we) {
			r.t.Errorf("%s: error without a code: %v", req.Statements[0].SQL, err)
			we = wire.NewError(wire.CodeInternal, "%w", err)
		}
		return nil, x, we
	}
	if s.ended != len(s.results) {
		r.t.Errorf("%s: %d of %d results ended", req.Statements[0].SQL, s.ended, len(s.results))
	}
	return s.results, x, nil
}

// ok runs a request that must succeed and returns the rows of its last statement.
func (r *rig) ok(t *pagestore.Tenant, req *wire.Request) []wire.Result {
	r.t.Helper()
	res, err := r.do(t, req)
	if err != nil {
		r.t.Fatalf("%s: %v", describe(req), err)
	}
	return res
}

func (r *rig) exec(t *pagestore.Tenant, sql string, args ...any) {
	r.t.Helper()
	r.ok(t, one(sql, args...))
}

// want checks the rows of one statement, as fmt prints them.
func (r *rig) want(t *pagestore.Tenant, sql, rows string) {
	r.t.Helper()
	if got := fmt.Sprint(r.ok(t, one(sql))[0].Rows); got != rows {
		r.t.Fatalf("%s: got %s, want %s", sql, got, rows)
	}
}

// refused checks that a request fails with a code.
func (r *rig) refused(t *pagestore.Tenant, req *wire.Request, code wire.Code) *wire.Error {
	r.t.Helper()
	_, err := r.do(t, req)
	if err == nil || err.Code != code {
		r.t.Fatalf("%s: got %v, want %s", describe(req), err, code)
	}
	return err
}

func describe(req *wire.Request) string {
	var b strings.Builder
	for i := range req.Statements {
		fmt.Fprintf(&b, "%.300s; ", req.Statements[i].SQL)
	}
	return strings.TrimSuffix(b.String(), "; ")
}

// reply is a request under way.
type reply struct {
	res  []wire.Result
	x    Executed
	err  *wire.Error
	done chan struct{}
}

func (r *rig) start(ctx context.Context, t *pagestore.Tenant, req *wire.Request) *reply {
	p := &reply{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.res, p.x, p.err = r.doCtx(ctx, t, req)
	}()
	return p
}

// pending checks that p has no answer yet. It is no proof, but a missing wait shows often enough.
func (p *reply) pending(t testing.TB, what string) {
	t.Helper()
	for range 20 {
		select {
		case <-p.done:
			t.Fatalf("%s: answered too early: %v, %v", what, p.res, p.err)
		default:
		}
		pause()
	}
}

func (p *reply) wait(t testing.TB) {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		t.Fatal("no answer")
	}
}

// pause gives other goroutines some time.
func pause() {
	timer := time.NewTimer(200 * time.Microsecond)
	<-timer.C
}

// until waits for a condition.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); pause() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: it never came", what)
		}
	}
}

// waitEntry waits until an entry is held by the log.
func (r *rig) waitEntry() {
	r.t.Helper()
	select {
	case <-r.log.arrived:
	case <-time.After(20 * time.Second):
		r.t.Fatal("no entry reached the log")
	}
}

// inLine waits until n jobs stand in the writer's line.
func (r *rig) inLine(t *pagestore.Tenant, n int) {
	r.t.Helper()
	until(r.t, fmt.Sprintf("%d jobs in line", n), func() bool {
		r.e.mu.Lock()
		db := r.e.mu.open[t]
		r.e.mu.Unlock()
		if db == nil {
			return false
		}
		db.mu.Lock()
		w := db.mu.w
		db.mu.Unlock()
		if w == nil {
			return false
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.mu.line) == n
	})
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s:\n got %v\nwant %v", what, got, want)
	}
}
