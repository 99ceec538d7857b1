package pagestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// testLog is a log in memory that survives crashes of the group: what a majority keeps.
type testLog struct {
	mu      sync.Mutex
	entries [][]byte // from index first on
	first   uint64
	snap    []byte
	g       *Group
	hold    bool // keep what is proposed, for tests of speculation
	held    []heldEntry
	down    error
	term    uint64
	refuse  bool     // fail Snapshot after Persist, as a disk does that can't keep the manifest
	history [][]byte // of all entries ever, from index 1 on
	results []any    // what Apply said of them
	terms   []uint64 // of them
}

type heldEntry struct {
	entry []byte
	done  func(any, error)
}

func newTestLog() *testLog { return &testLog{first: 1, term: 1} }

func (l *testLog) Primary() error { l.mu.Lock(); defer l.mu.Unlock(); return l.down }

func (l *testLog) Propose(entry []byte, done func(any, error)) {
	l.mu.Lock()
	if l.hold {
		l.held = append(l.held, heldEntry{entry, done})
		l.mu.Unlock()
		return
	}
	if l.down != nil {
		err := l.down
		l.mu.Unlock()
		done(nil, err)
		return
	}
	entry = bytes.Clone(entry)
	l.entries = append(l.entries, entry)
	resp := l.g.Apply(l.first+uint64(len(l.entries))-1, l.term, entry)
	l.history = append(l.history, entry)
	l.results = append(l.results, resp)
	l.terms = append(l.terms, l.term)
	l.mu.Unlock()
	done(resp, nil)
}

// letGo proposes the first n of what was held.
func (l *testLog) letGo(n int) {
	l.mu.Lock()
	held := l.held[:n]
	l.held = l.held[n:]
	l.hold = false
	l.mu.Unlock()
	for _, h := range held {
		l.Propose(h.entry, h.done)
	}
	l.mu.Lock()
	l.hold = true
	l.mu.Unlock()
}

// lose fails everything that is held, as a lost leadership does.
func (l *testLog) lose(err error) {
	l.mu.Lock()
	held := l.held
	l.held, l.hold, l.down = nil, false, err
	l.mu.Unlock()
	for _, h := range held {
		h.done(nil, err)
	}
	l.mu.Lock()
	l.down = nil
	l.mu.Unlock()
}

func (l *testLog) Snapshot() error {
	l.mu.Lock()
	c, err := l.g.Capture()
	l.mu.Unlock()
	if err != nil {
		return err
	}
	defer c.Release()
	var b bytes.Buffer
	if err := c.Persist(&b); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse {
		return errors.New("the manifest can't be kept")
	}
	l.snap = b.Bytes()
	drop := c.index - l.first + 1
	l.entries, l.first = l.entries[drop:], c.index+1
	return nil
}

// start opens a group on the log's state.
func (l *testLog) start(cfg Config) (*Group, error) {
	g, err := NewGroup(cfg)
	if err != nil {
		return nil, err
	}
	l.g = g
	g.SetLog(l)
	if l.snap != nil {
		if err := g.Restore(bytes.NewReader(l.snap)); err != nil {
			return nil, err
		}
	}
	for i, e := range l.entries {
		at := l.first + uint64(i)
		was, term := any(nil), l.term
		if at <= uint64(len(l.results)) {
			was, term = l.results[at-1], l.terms[at-1]
		}
		_, refused := was.(error)
		if err, ok := g.Apply(at, term, e).(error); ok != refused {
			return nil, fmt.Errorf("replay of entry %d: %w; it was %v", at, err, was)
		}
	}
	return g, nil
}

// rig is a group with a log, and its builders running.
type rig struct {
	t     testing.TB
	log   *testLog
	ended bool
	g     *Group
	cfg   Config
	end   context.CancelFunc
	wg    sync.WaitGroup
}

func testConfig(t testing.TB) Config {
	return Config{ID: 2, Dir: t.TempDir(), FS: disk.OS(), CheckpointAge: time.Hour, LTXAge: time.Hour, ScrubRate: 1 << 40, BuildDelay: 2 * time.Millisecond}
}

func newRig(t testing.TB, cfg Config) *rig {
	r := &rig{t: t, log: newTestLog(), cfg: cfg}
	r.start()
	t.Cleanup(r.stop)
	return r
}

func (r *rig) start() {
	r.t.Helper()
	if err := r.tryStart(); err != nil {
		r.t.Fatal(err)
	}
}

// tryStart is start, on a disk that may fail.
func (r *rig) tryStart() error {
	r.cfg.retry = time.Millisecond
	g, err := r.log.start(r.cfg)
	if err != nil {
		return err
	}
	r.g, r.ended = g, false
	ctx, cancel := context.WithCancel(context.Background())
	r.end = cancel
	for range 2 {
		r.wg.Go(func() { g.buildLoop(ctx) })
	}
	r.wg.Go(func() { g.builds.keepTime(ctx) })
	return nil
}

func (r *rig) stop() {
	if r.ended {
		return
	}
	r.ended = true
	r.end()
	r.wg.Wait()
	r.g.Close()
}

// restart is a clean stop and start.
func (r *rig) restart() {
	r.stop()
	r.start()
}

func (r *rig) control(id wire.TenantID, e tenant.Event) error {
	payload, err := tenant.EncodeEvent(e)
	if err != nil {
		return err
	}
	h := txn.Header{Kind: txn.Control, Tenant: id, Epoch: 1, Group: r.cfg.ID, Code: uint16(e.Code())}
	if t, err := r.g.Tenant(id); err == nil {
		st := t.Logged()
		h.PrevTXID, h.PrevSum, h.NextTXID, h.NextSum, h.Commit = st.TXID, st.Checksum, st.TXID, st.Checksum, st.Pages
	}
	entry, err := txn.AppendEntry(nil, &h, payload)
	if err != nil {
		return err
	}
	var out error
	r.log.Propose(entry, func(resp any, err error) {
		out = err
		if e, ok := resp.(error); ok {
			out = e
		}
	})
	return out
}

func (r *rig) create(n byte, pageSize int) *Tenant {
	r.t.Helper()
	id := wire.TenantID{0: 7, 15: n}
	rec, err := tenant.New(id, tenant.Name(fmt.Sprintf("t%d", n)), tenant.CreateOptions{PageSize: uint32(pageSize)}, r.cfg.ID, time.UnixMilli(1))
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.control(id, tenant.Created{Tenant: rec}); err != nil {
		r.t.Fatal(err)
	}
	return r.tenant(n)
}

func (r *rig) tenant(n byte) *Tenant {
	r.t.Helper()
	t, err := r.g.Tenant(wire.TenantID{0: 7, 15: n})
	if err != nil {
		r.t.Fatal(err)
	}
	return t
}

// writer opens a writer and lets the test close it.
func (r *rig) writer(t *Tenant) *Conn {
	r.t.Helper()
	s, err := t.Acquire()
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := t.OpenWriter(s, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

func (r *rig) reader(t *Tenant) *Conn {
	r.t.Helper()
	s, err := t.Acquire()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := s.wait(nil, t.Logged().TXID); err != nil {
		r.t.Fatal(err)
	}
	c, err := s.OpenReader(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

func mustExec(t testing.TB, c *Conn, sql string, args ...wire.Value) {
	t.Helper()
	if err := exec(c, sql, args...); err != nil {
		t.Fatalf("%s: %v (%v)", sql, err, c.TakeErr())
	}
}

func exec(c *Conn, sql string, args ...wire.Value) error {
	_, err := query(c, sql, args...)
	return err
}

// query runs one statement and returns its rows.
func query(c *Conn, sql string, args ...wire.Value) ([][]wire.Value, error) {
	return queryOn(c.Conn, sql, args...)
}

func queryOn(c *sqlite.Conn, sql string, args ...wire.Value) ([][]wire.Value, error) {
	s, _, err := c.Prepare(sql, false)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return nil, errors.New("no statement")
	}
	defer s.Finalize()
	for i, a := range args {
		if err := s.Bind(i+1, a); err != nil {
			return nil, err
		}
	}
	var rows [][]wire.Value
	for {
		ok, err := s.Step()
		if err != nil {
			return rows, err
		}
		if !ok {
			return rows, nil
		}
		row := make([]wire.Value, s.ColumnCount())
		for i := range row {
			row[i] = s.Column(i)
		}
		rows = append(rows, row)
	}
}

func want(t testing.TB, c *Conn, sql, text string) {
	t.Helper()
	rows, err := query(c, sql)
	if err != nil {
		t.Fatalf("%s: %v (%v)", sql, err, c.TakeErr())
	}
	if got := fmt.Sprint(rows); got != text {
		t.Fatalf("%s: got %s, want %s", sql, got, text)
	}
}

// checkSum compares the rolling checksum with one made from all pages.
func checkSum(t testing.TB, s *Store) {
	t.Helper()
	st := s.Committed()
	sum := wire.ChecksumFlag
	if st.TXID == 0 {
		return
	}
	buf := make([]byte, s.pageSize)
	for pgno := uint32(1); pgno <= st.Pages; pgno++ {
		if pgno == s.lock {
			continue
		}
		if err := s.readAt(buf, pgno, 0, st.TXID); err != nil {
			t.Fatal(err)
		}
		sum ^= txn.PageSum(pgno, buf) &^ wire.ChecksumFlag
	}
	if sum != st.Checksum {
		t.Fatalf("checksum of all pages is %s, the state says %s", sum, st)
	}
}

// pagesOf returns all pages of the committed state, one after another.
func pagesOf(t testing.TB, s *Store) []byte {
	t.Helper()
	st := s.pinNewest(false)
	defer s.unpin(st.TXID)
	all := make([]byte, int(st.Pages)*s.pageSize)
	for pgno := uint32(1); pgno <= st.Pages; pgno++ {
		if err := s.readAt(all[int(pgno-1)*s.pageSize:int(pgno)*s.pageSize], pgno, 0, st.TXID); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// memDisk is the configuration of a group on a disk that can crash.
func memDisk(fs disk.FS) Config {
	return Config{ID: 2, Dir: "/data/g2", FS: fs, CheckpointAge: time.Hour, LTXAge: time.Hour, ScrubRate: 1 << 40, BuildDelay: 2 * time.Millisecond}
}

// tidy makes a checkpoint and absorbs it.
func (r *rig) tidy() {
	r.t.Helper()
	must(r.t, r.g.Checkpoint())
	must(r.t, r.g.absorbAll(context.Background()))
}

// openPlain opens a file with SQLite's own VFS.
func openPlain(t testing.TB, path string, f func(query func(sql string) string)) {
	t.Helper()
	c, err := sqlite.Open(path, "", sqlite.ReadOnly)
	must(t, err)
	defer c.Close()
	f(func(sql string) string {
		rows, err := queryOn(c, sql)
		must(t, err)
		return fmt.Sprint(rows)
	})
}
