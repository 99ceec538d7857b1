package engine

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// job is one request on its way through the writer.
type job struct {
	ctx   context.Context
	req   *wire.Request
	alone bool
	first class
	kinds []class                   // of a batch
	own   func(c *conn) *wire.Error // runs instead of the statements; may be nil

	answers  recorder
	err      *wire.Error
	replayed bool
	pos      wire.Pos
	over     chan struct{} // closed when the answer may leave
	noEntry  bool          // the answer rests on no entry of its own: a quorum must confirm it
	again    bool          // the writer ended before it did anything for the job

	group [1]*job // room for a group of this one
}

// finish lets the answer leave. err, when not nil, is what became of the transaction.
func (j *job) finish(err *wire.Error) {
	if err != nil {
		j.err = err
		j.noEntry = false
	}
	close(j.over)
}

// refuse sends the job back: it had no effect.
func (j *job) refuse() {
	j.again = true
	j.finish(nil)
}

const (
	// groupTime is how long a request may run within a group; beyond it, it runs alone.
	groupTime = 5 * time.Millisecond
	// groupTries is how often a group is run again without the request that spoiled it; then
	// those behind the next such request run alone, too.
	groupTries = 3
	// replacedTries is how often a transaction is run again because speculation was dropped under it.
	replacedTries = 5
	// outcomePatience is how long an answer waits for the log after its client's time is over.
	outcomePatience = 2 * time.Second
)

// writer runs a tenant's writing requests, one transaction at a time: from its own goroutine, or from
// that of a request which finds it at rest and nobody in line, and is spared the way there.
type writer struct {
	db   *DB
	work sync.Mutex // held while a transaction runs: by whom conn and last may be used
	conn *conn

	mu struct {
		sync.Mutex
		line    []*job
		crowded bool // the newest from the line were several: to wait in line together is cheaper
		pace    pace
		closed  bool
	}
	wake chan struct{} // has room for one
	quit chan struct{} // closed by stop
	slot chan struct{} // a place for each transaction on its way through the log
	done chan struct{} // closed when run has returned

	last *pagestore.Commit // the newest of this writer that the connection may rest on
	lost atomic.Bool       // a commit did not come through: the connection rests on what is gone

	keepsPart keeps // whether the schema says FAIL
}

// write runs a request that writes; errDBClosed means that it did not.
func (db *DB) write(ctx context.Context, q Quorum, req *wire.Request, p plan, sink wire.Sink) (Executed, error) {
	j := &job{ctx: ctx, req: req, alone: p.alone, first: p.first, kinds: p.kinds, own: p.own, over: make(chan struct{})}
	j.answers.rows, j.answers.bytes = db.limits.AnswerRows, db.limits.AnswerBytes
	w, err := db.writer()
	if err != nil {
		return Executed{}, err
	}
	if !w.runNow(j) {
		if err := w.enqueue(j); err != nil {
			return Executed{}, err
		}
	}
	select {
	case <-j.over:
	case <-ctx.Done():
		if w.withdraw(j) {
			return Executed{}, wire.AsError(ctx.Err())
		}
		// It runs, or has run: only its fate says what to answer.
		patience := time.NewTimer(outcomePatience)
		defer patience.Stop()
		select {
		case <-j.over:
		case <-patience.C:
			return Executed{}, wire.NewError(wire.CodeUnknownOutcome, "the request was under way when its time was over: it may or may not take effect")
		}
	}
	if j.again {
		return Executed{}, errDBClosed
	}
	if j.noEntry && (j.err == nil || !j.err.Retryable) { // "try again" says nothing of the data
		if err := q.Confirm(ctx); err != nil {
			return Executed{}, convert(err, nil)
		}
	}
	x := Executed{Pos: j.pos, Write: true, Replayed: j.replayed}
	if j.err != nil {
		return x, j.err
	}
	db.e.Stats.RowsWritten.Add(j.answers.changed)
	if err := j.answers.play(sink); err != nil {
		return Executed{}, sinkError(err)
	}
	return x, nil
}

// writer returns the tenant's writer, which it starts if there is none.
func (db *DB) writer() (*writer, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.mu.closed {
		return nil, errDBClosed
	}
	if db.mu.w == nil {
		w := &writer{db: db, wake: make(chan struct{}, 1), quit: make(chan struct{}),
			slot: make(chan struct{}, db.e.cfg.InFlight), done: make(chan struct{})}
		db.mu.w = w
		go w.run()
	}
	return db.mu.w, nil
}

// runNow runs a job at once if nothing else runs or waits, and says whether it did.
func (w *writer) runNow(j *job) bool {
	w.mu.Lock()
	w.mu.pace.arrive()
	ok := !w.mu.closed && !w.mu.crowded && len(w.mu.line) == 0 && w.mu.pace.wait(1, time.Now()) == 0 && w.work.TryLock()
	w.mu.Unlock()
	if !ok {
		return false
	}
	defer w.work.Unlock()
	select {
	case w.slot <- struct{}{}:
	default:
		return false
	}
	j.group[0] = j
	w.runGroup(j.group[:])
	return true
}

func (w *writer) enqueue(j *job) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.closed {
		return errDBClosed
	}
	w.mu.line = append(w.mu.line, j)
	// The first makes the writer look at the time; the next only when they are enough.
	if n := len(w.mu.line); n == 1 || w.mu.pace.wait(n, time.Now()) == 0 {
		w.wakeUp()
	}
	return nil
}

func (w *writer) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// withdraw takes a job out of the line and says whether it was still there.
func (w *writer) withdraw(j *job) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, o := range w.mu.line {
		if o == j {
			w.mu.line = slices.Delete(w.mu.line, i, i+1)
			return true
		}
	}
	return false
}

// stop ends the writer after the transaction in hand. Those in line are sent back: the log may be
// stuck, and whoever closes must not wait for it.
func (w *writer) stop() {
	w.mu.Lock()
	w.mu.closed = true
	w.mu.Unlock()
	close(w.quit)
	<-w.done
}

func (w *writer) run() {
	defer close(w.done)
	defer func() {
		w.work.Lock() // what runNow runs ends first
		defer w.work.Unlock()
		w.drop()
	}()
	defer w.refuseLine()
	hold := time.NewTimer(0)
	defer hold.Stop()
	for w.takeSlot() { // wait until the log has room: meanwhile the line grows, and so does the group
		for {
			wait, ran := w.runLine()
			if ran {
				break
			}
			hold.Stop()
			if wait > 0 {
				hold.Reset(wait)
			}
			select {
			case <-w.wake:
			case <-hold.C:
			case <-w.quit:
				return
			}
		}
	}
}

func (w *writer) isCrowded() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.crowded
}

// runLine runs those at the head of the line, and says whether it did; if not, how long they are to wait, which is 0 when there are none.
func (w *writer) runLine() (wait time.Duration, ran bool) {
	if w.isCrowded() {
		runtime.Gosched() // those whose answers have just left may come again
	}
	w.work.Lock()
	defer w.work.Unlock()
	group, wait := w.take()
	if group == nil {
		return wait, false
	}
	w.runGroup(group)
	return 0, true
}

// takeSlot waits for a place in the log; false means that the writer is to end.
func (w *writer) takeSlot() bool {
	select {
	case w.slot <- struct{}{}:
		return true
	case <-w.quit:
		return false
	}
}

func (w *writer) refuseLine() {
	w.mu.Lock()
	line := w.mu.line
	w.mu.line = nil
	w.mu.Unlock()
	for _, j := range line {
		j.refuse()
	}
}

// take takes the next jobs that may share a transaction, or one that may not. If there are none, or they are to wait,
// it takes none, and says how long.
func (w *writer) take() (group []*job, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	line := w.mu.line
	if len(line) == 0 {
		return nil, 0
	}
	if wait := w.mu.pace.wait(len(line), time.Now()); wait > 0 {
		return nil, wait
	}
	n := 1
	if !line[0].alone {
		for n < len(line) && n < w.db.e.cfg.Group && !line[n].alone {
			n++
		}
	}
	w.mu.crowded = n > 1
	group = make([]*job, n)
	copy(group, line)
	rest := copy(line, line[n:])
	clear(line[rest:])
	w.mu.line = line[:rest]
	return group, 0
}

// begin counts a group that takes a place in the log; end is called, once, when its outcome is known.
func (w *writer) begin(n int) (end func()) {
	now := time.Now()
	w.mu.Lock()
	w.mu.pace.begin(n, now)
	w.mu.Unlock()
	return func() {
		<-w.slot
		then := time.Now()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.mu.pace.end(n, now, then)
		if len(w.mu.line) > 0 {
			w.wakeUp() // it waits less now, or for others
		}
	}
}

// open opens the connection if there is none.
func (w *writer) open() error {
	if w.lost.Swap(false) {
		w.drop()
	}
	if w.conn != nil {
		return nil
	}
	if w.db.prev != nil {
		w.last = w.db.inherit()
	}
	w.db.mu.Lock()
	store := w.db.mu.store
	w.db.mu.Unlock()
	pc, err := w.db.t.OpenWriter(store, w.db.temp())
	if err != nil {
		return err
	}
	c, err := newConn(pc, &w.db.e.cfg, w.db.limits)
	if err != nil {
		pc.Close()
		return err
	}
	w.conn = c
	if w.last != nil && w.last.Next != store.Head() {
		w.last = nil // dropped, or far behind: the new connection does not rest on it
	}
	return nil
}

// drop closes the connection; the next transaction opens another.
func (w *writer) drop() {
	if w.conn != nil {
		w.conn.close()
		w.conn = nil
	}
	w.keepsPart = unknown
}

// runGroup runs jobs in one transaction, or one after another where that can't be, and lets
// their answers leave once it is committed. It gives the slot back that its caller took.
func (w *writer) runGroup(group []*job) {
	w.db.e.Stats.Groups.Add(1)
	end := w.begin(len(group))
	for try := 0; ; try++ {
		var alone []*job
		err := w.open()
		if err == nil {
			err = w.fit(group)
		}
		if err == nil {
			alone, err = w.attempt(group)
		}
		if err == nil {
			w.commitTo(without(group, alone), end)
			for _, j := range alone {
				w.db.e.Stats.Regrouped.Add(1)
				j.alone = true
				if !w.takeSlot() {
					j.refuse()
					continue
				}
				w.runGroup([]*job{j})
			}
			return
		}
		w.drop()
		if replaced(err) && try < replacedTries {
			w.db.renew()
			continue // the store dropped its speculation: nothing of this group is in it
		}
		e := convert(err, nil)
		for _, j := range group {
			j.finish(e)
		}
		end()
		return
	}
}

func without(group, drop []*job) []*job {
	if len(drop) == 0 {
		return group
	}
	out := make([]*job, 0, len(group))
	for _, j := range group {
		if !slices.Contains(drop, j) {
			out = append(out, j)
		}
	}
	return out
}

// commitTo lets the answers of jobs leave when the transaction that just ran, and
// those before it, are committed; then it calls end.
func (w *writer) commitTo(jobs []*job, end func()) {
	c := w.conn.TakeCommit()
	own := c != nil
	if own {
		w.last = c
	} else {
		c = w.last // what the answers were computed on
	}
	if len(jobs) == 0 || c == nil {
		w.place(jobs, w.conn.Store().Head(), true)
		end()
		for _, j := range jobs {
			j.finish(nil)
		}
		return
	}
	w.place(jobs, c.Next, !own)
	c.Then(func(err error) {
		if err != nil {
			w.lost.Store(true)
		}
		end()
		e := outcome(err, own)
		for _, j := range jobs {
			j.finish(e)
		}
	})
}

// place notes what state the answers of jobs show.
func (w *writer) place(jobs []*job, st pagestore.State, noEntry bool) {
	pos := wire.Pos{Tenant: w.db.t.ID(), Epoch: w.db.t.Epoch(), TXID: st.TXID, Checksum: st.Checksum}
	for _, j := range jobs {
		j.pos, j.noEntry = pos, noEntry
	}
}

// outcome is what the client is told when its transaction did not come through the log. own says
// that the request had a part in it; else it only saw a state that is gone.
func outcome(err error, own bool) *wire.Error {
	if err == nil {
		return nil
	}
	var refused *pagestore.RefusedError
	switch {
	case !own:
		return wire.NewError(wire.CodeNotPrimary, "the state that the answer rests on was not committed: %w", err)
	case errors.As(err, &refused):
		return wire.NewError(wire.CodeNotPrimary, "the log went another way: %w", err)
	}
	var we *wire.Error
	if errors.As(err, &we) {
		return we
	}
	return wire.NewError(wire.CodeUnknownOutcome, "it is not known whether the transaction was committed: %w", err)
}

// attempt runs the group in one transaction up to its commit. Those in alone must run by
// themselves: what they did is not in the transaction. An error means that nothing is.
func (w *writer) attempt(group []*job) (alone []*job, err error) {
	if len(group) == 1 {
		return nil, w.attemptAlone(group[0])
	}
	rest := group
	for try := 1; len(rest) > 1; try++ {
		culprit, err := w.attemptShared(rest)
		switch {
		case errors.Is(err, errSpoiled): // the commit itself was refused (too large, say): each for itself
			return append(alone, rest...), nil
		case err != nil:
			return nil, err
		case culprit < 0:
			return alone, nil
		}
		alone = append(alone, rest[culprit])
		before, behind := rest[:culprit], rest[culprit+1:]
		if try > groupTries {
			alone, behind = append(alone, behind...), nil
		}
		rest = slices.Concat(before, behind)
	}
	// One is left: alone it needs no savepoint.
	return append(alone, rest...), nil
}

// errSpoiled says that the transaction is gone, but the connection is fine.
var errSpoiled = errors.New("the shared transaction was rolled back")

// attemptShared runs jobs in one transaction, each in a savepoint. With an error, or the number of a
// culprit, which is -1 when there is none, the transaction was rolled back.
func (w *writer) attemptShared(jobs []*job) (culprit int, err error) {
	c := w.conn
	c.begin(context.Background())
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return 0, err
	}
	for i, j := range jobs {
		ok, err := w.inSavepoint(j)
		if err != nil {
			return 0, err
		}
		if !ok {
			return i, c.end()
		}
	}
	c.begin(context.Background())
	if err := c.exec("COMMIT"); err != nil {
		endErr := c.end()
		if endErr != nil || replaced(err) || suspect(convert(err, nil)) {
			return 0, errors.Join(err, endErr)
		}
		return 0, errSpoiled
	}
	return -1, c.end()
}

// suspect says that after e the connection must not be used again: SQLite asks for that after an
// error of its file.
func suspect(e *wire.Error) bool {
	switch e.Code {
	case wire.CodeInternal, wire.CodeCorrupt, wire.CodeShuttingDown, wire.CodeSnapshotTooOld, wire.CodeSQLiteCorrupt, wire.CodeSQLiteInternal, wire.CodeSQLiteMisuse:
		return true
	}
	return hasPrefixFold(string(e.Code), "SQLITE_IOERR")
}

// inSavepoint runs one job of a group. false means that it must run alone, and that the
// transaction can't be used any more.
func (w *writer) inSavepoint(j *job) (bool, error) {
	c := w.conn
	j.reset()
	if j.ctx.Err() != nil {
		j.err = wire.AsError(j.ctx.Err())
		return true, nil
	}
	c.begin(j.ctx)
	if err := c.exec("SAVEPOINT nearsql"); err != nil {
		return false, err
	}
	limit := min(groupTime, w.db.limits.StatementTime.Std())
	e := w.db.guarded(j.req, func() *wire.Error { return w.body(j, 0, limit, c.now().Add(limit)) })
	if e != nil && replaced(e) {
		return false, e
	}
	if c.Autocommit() {
		return false, nil // OR ROLLBACK, RAISE(ROLLBACK), an interrupt: everybody's work is gone
	}
	if e != nil && (e.Code == wire.CodeTimeout && j.ctx.Err() == nil || suspect(e)) {
		return false, nil // too slow for a group, or nobody knows
	}
	if e == nil && c.DeferredForeignKeys() {
		return false, nil // its commit will fail; alone it fails alone
	}
	if e != nil {
		if err := c.exec("ROLLBACK TO nearsql"); err != nil {
			return false, err
		}
		j.answers.reset()
		j.err = e
		if err := w.keepOutcome(j); err != nil {
			if replaced(err) {
				return false, err
			}
			return false, nil // alone it hurts nobody
		}
	}
	if err := c.exec("RELEASE nearsql"); err != nil {
		return false, err
	}
	return true, nil
}

// exec runs one of the engine's own statements, cached: they run for every group.
func (c *conn) exec(sql string) error {
	c.pol.refused = ""
	return c.internally(func() error {
		s := c.stmts.get(sql)
		if s == nil {
			st, _, err := c.Prepare(sql, true)
			if err != nil {
				return errors.Join(err, c.TakeErr())
			}
			s = c.stmts.put(sql, st)
		}
		_, err := s.Step() // none of them returns a row
		if err != nil {
			return errors.Join(err, c.TakeErr())
		}
		return s.Reset()
	})
}

// attemptAlone runs a job in a transaction of its own. An error means that the connection is of no more
// use; what is wrong with the request is the job's.
func (w *writer) attemptAlone(j *job) error {
	c := w.conn
	j.reset()
	if j.ctx.Err() != nil {
		j.err = wire.AsError(j.ctx.Err())
		return nil
	}
	if j.first != classWrite {
		taken, err := w.taken()
		if err != nil {
			return err
		}
		c.pol.taken = taken
		defer func() { c.pol.taken = nil }()
	}
	c.begin(j.ctx)
	limit := w.db.limits.StatementTime.Std()
	e := w.db.guarded(j.req, func() *wire.Error {
		if j.first == classVacuum { // it takes no transaction around it, and a repeat does no harm
			c.pol.vacuum = true
			defer func() { c.pol.vacuum = false }()
			return c.run(0, &j.req.Statements[0], limit, &j.answers)
		}
		if w.allOrNothing(j) {
			return c.run(0, &j.req.Statements[0], limit, &j.answers)
		}
		return w.transaction(j, limit)
	})
	if j.first != classWrite || len(j.kinds) > 0 {
		w.keepsPart = unknown // it may have changed the schema
	}
	j.err = e
	if e != nil {
		j.answers.reset()
		if replaced(e) || suspect(e) {
			return e
		}
	}
	if err := c.end(); err != nil {
		return err
	}
	if e == nil || !keepable(j) {
		return nil
	}
	// The outcome is kept even though the transaction is gone.
	c.begin(context.Background())
	err := c.exec("BEGIN IMMEDIATE")
	if err == nil {
		err = w.keepOutcome(j)
	}
	if err == nil {
		err = c.exec("COMMIT")
	}
	if err != nil {
		if replaced(err) {
			return err
		}
		// A repeat will run: it is told what is wrong then.
		w.db.e.cfg.Log.Warn("outcome of a failed request not kept", "tenant", w.db.t.ID(), "error", err)
	}
	return c.end()
}

// keeps says whether a statement that fails may keep a part of what it did.
type keeps uint8

const (
	unknown keeps = iota
	never
	maybe
)

// allOrNothing says whether the job is one statement that by itself happens all or not at all, and so
// needs no BEGIN and COMMIT, which cost as much as a tenth of an insert: it returns no rows, which might be too many, and
// FAIL stands neither in it nor in the schema, where ON CONFLICT FAIL and RAISE(FAIL) are.
func (w *writer) allOrNothing(j *job) bool {
	if j.first != classWrite || len(j.req.Statements) != 1 || j.req.IdempotencyKey != "" {
		return false
	}
	if sql := j.req.Statements[0].SQL; containsFold(sql, "fail") || containsFold(sql, "returning") {
		return false
	}
	if w.keepsPart == unknown {
		w.keepsPart = never
		err := w.conn.own("SELECT 1 FROM sqlite_schema WHERE sql LIKE '%fail%' LIMIT 1", func([]wire.Value) { w.keepsPart = maybe })
		if err != nil {
			w.keepsPart = unknown
			w.conn.TakeErr()
			return false
		}
	}
	return w.keepsPart == never
}

// containsFold says whether s contains word, which is in lower-case ASCII, in any case.
func containsFold(s, word string) bool {
	for i := 0; i+len(word) <= len(s); i++ {
		if s[i]|0x20 == word[0] && strings.EqualFold(s[i:i+len(word)], word) {
			return true
		}
	}
	return false
}

// transaction runs a request between BEGIN and COMMIT: also a single statement, which by itself would
// leave changes behind when it fails by OR FAIL, or returns more rows than it may. Switches of the
// connection that a batch begins with take effect outside, where SQLite heeds them.
func (w *writer) transaction(j *job, limit time.Duration) *wire.Error {
	c := w.conn
	first := 0
	for first < len(j.kinds) && j.kinds[first] == classSession {
		if e := c.run(first, &j.req.Statements[first], limit, &j.answers); e != nil {
			return e
		}
		first++
	}
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return convert(err, nil)
	}
	if e := w.body(j, first, limit, time.Time{}); e != nil {
		return e
	}
	if err := c.exec("COMMIT"); err != nil {
		return c.fail(err)
	}
	return nil
}

// body runs the statements of a job, from number first on, within the open transaction. Each
// may take limit, and all together may last until a time, if it is not zero.
func (w *writer) body(j *job, first int, limit time.Duration, until time.Time) *wire.Error {
	c := w.conn
	if j.req.IdempotencyKey != "" {
		known, e := w.recall(j)
		if e != nil || known {
			return e
		}
	}
	if j.own != nil {
		if e := j.own(c); e != nil {
			return e
		}
		first = len(j.req.Statements)
		for i := range first {
			_ = j.answers.Begin(i, nil)
			_ = j.answers.End(wire.Summary{})
		}
	}
	for i := first; i < len(j.req.Statements); i++ {
		if i > first && !until.IsZero() {
			if limit = until.Sub(c.now()); limit <= 0 {
				return wire.NewError(wire.CodeTimeout, "%w", errTooSlow)
			}
		}
		if e := c.run(i, &j.req.Statements[i], limit, &j.answers); e != nil {
			return e
		}
	}
	if j.req.IdempotencyKey != "" {
		return w.remember(j)
	}
	return nil
}

// reset forgets what an earlier attempt made of the job.
func (j *job) reset() {
	j.answers.reset()
	j.err, j.replayed = nil, false
}
