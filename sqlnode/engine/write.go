package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// job is one request on its way through the writer.
type job struct {
	ctx   context.Context
	req   *wire.Request
	alone bool
	kinds []class

	answers  recorder
	err      *wire.Error
	replayed bool
	pos      wire.Pos
	over     chan struct{} // closed when the answer may leave
	noEntry  bool          // the answer rests on no entry of its own: a quorum must confirm it
	gaveUp   bool          // under writer.mu: the client went away before it ran
}

// finish lets the answer leave. err, when not nil, is what became of the transaction.
func (j *job) finish(err *wire.Error) {
	if err != nil {
		j.err = err
		j.noEntry = false
	}
	close(j.over)
}

// groupTime is how long a request may run within a group; beyond it, it runs alone.
const groupTime = 5 * time.Millisecond

// writer runs a tenant's writing requests, one transaction at a time, from its own goroutine.
type writer struct {
	db   *DB
	conn *conn

	mu struct {
		sync.Mutex
		line   []*job
		closed bool
	}
	wake chan struct{} // has room for one
	slot chan struct{} // a place for each transaction on its way through the log
	last *pagestore.Commit
	done chan struct{}
}

// write runs a request that writes.
func (db *DB) write(ctx context.Context, req *wire.Request, p plan, sink wire.Sink) (Executed, error) {
	j := &job{ctx: ctx, req: req, alone: p.alone, kinds: p.kinds, over: make(chan struct{})}
	j.answers.rows, j.answers.bytes = db.limits.AnswerRows, db.limits.AnswerBytes
	w, err := db.writer()
	if err != nil {
		return Executed{}, err
	}
	if err := w.enqueue(j); err != nil {
		return Executed{}, err
	}
	select {
	case <-j.over:
	case <-ctx.Done():
		if w.withdraw(j) {
			return Executed{}, wire.AsError(ctx.Err())
		}
		// It runs, or has run: only its fate says what to answer.
		select {
		case <-j.over:
		case <-time.After(outcomePatience):
			return Executed{}, wire.NewError(wire.CodeUnknownOutcome, "the request was under way when its time was over: it may or may not take effect")
		}
	}
	if j.noEntry {
		if err := db.q.Confirm(ctx); err != nil {
			return Executed{}, convert(err, nil)
		}
	}
	if j.err != nil {
		return Executed{}, j.err
	}
	db.e.Stats.RowsWritten.Add(j.answers.changed)
	if err := j.answers.play(sink); err != nil {
		return Executed{}, sinkError(err)
	}
	return Executed{Pos: j.pos, Write: true, Replayed: j.replayed}, nil
}

// outcomePatience is how long an answer waits for the log after its client's time is over.
const outcomePatience = 2 * time.Second

// writer returns the tenant's writer, which it starts if there is none.
func (db *DB) writer() (*writer, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.mu.closed {
		return nil, errShutDown
	}
	if db.mu.w == nil {
		w := &writer{db: db, wake: make(chan struct{}, 1), slot: make(chan struct{}, db.e.cfg.InFlight), done: make(chan struct{})}
		db.mu.w = w
		go w.run()
	}
	return db.mu.w, nil
}

func (w *writer) enqueue(j *job) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.closed {
		return errShutDown
	}
	w.mu.line = append(w.mu.line, j)
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return nil
}

// withdraw takes a job out of the line and says whether it was still there.
func (w *writer) withdraw(j *job) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, o := range w.mu.line {
		if o == j {
			w.mu.line = append(w.mu.line[:i], w.mu.line[i+1:]...)
			return true
		}
	}
	return false
}

// stop ends the writer when those in line have run.
func (w *writer) stop() {
	w.mu.Lock()
	w.mu.closed = true
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	<-w.done
}

func (w *writer) run() {
	defer close(w.done)
	defer func() {
		if w.conn != nil {
			w.conn.close()
		}
	}()
	for {
		w.slot <- struct{}{} // wait until the log has room: meanwhile the line grows, and so does the group
		group, closed := w.take()
		for group == nil && !closed {
			<-w.wake
			group, closed = w.take()
		}
		if group == nil {
			return
		}
		w.runGroup(group)
	}
}

// take takes the next jobs that may share a transaction, or one that may not.
func (w *writer) take() (group []*job, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	line := w.mu.line
	if len(line) == 0 {
		return nil, w.mu.closed
	}
	n := 1
	if !line[0].alone {
		for n < len(line) && n < w.db.e.cfg.Group && !line[n].alone {
			n++
		}
	}
	group = make([]*job, n)
	copy(group, line)
	rest := copy(line, line[n:])
	clear(line[rest:])
	w.mu.line = line[:rest]
	return group, false
}

// open opens the connection if there is none.
func (w *writer) open() error {
	if w.conn != nil {
		return nil
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
	return nil
}

// drop closes the connection; the next transaction opens another.
func (w *writer) drop() {
	if w.conn != nil {
		w.conn.close()
		w.conn = nil
	}
	w.last = nil // what comes next rests on committed states alone
}

// runGroup runs jobs in one transaction, or one after another where that can't be, and lets
// their answers leave once it is committed. It gives the slot back that run took.
func (w *writer) runGroup(group []*job) {
	w.db.e.Stats.Groups.Add(1)
	for try := 0; ; try++ {
		err := w.open()
		if err == nil {
			var culprits []*job
			culprits, err = w.attempt(group)
			if err == nil {
				w.commitTo(without(group, culprits))
				for _, j := range culprits {
					w.db.e.Stats.Regrouped.Add(1)
					j.alone = true
					w.slot <- struct{}{}
					w.runGroup([]*job{j})
				}
				return
			}
			w.drop()
		}
		if replaced(err) && try < 5 {
			w.db.renew()
			continue // the store dropped its speculation: nothing of this group is in it
		}
		e := convert(err, err)
		for _, j := range group {
			j.finish(e)
		}
		<-w.slot
		return
	}
}

func without(group, drop []*job) []*job {
	if len(drop) == 0 {
		return group
	}
	out := group[:0:0]
	for _, j := range group {
		keep := true
		for _, d := range drop {
			keep = keep && d != j
		}
		if keep {
			out = append(out, j)
		}
	}
	return out
}

// commitTo lets the answers of jobs leave when the transaction that just ran, and
// those before it, are committed.
func (w *writer) commitTo(jobs []*job) {
	c := w.conn.TakeCommit()
	noEntry := c == nil
	if noEntry {
		c = w.last // what the answers were computed on
	}
	st := w.conn.Store().Head()
	if c != nil {
		st = c.Next
	}
	pos := wire.Pos{Tenant: w.db.t.ID(), Epoch: w.db.t.Record().Epoch, TXID: st.TXID, Checksum: st.Checksum}
	for _, j := range jobs {
		j.pos, j.noEntry = pos, noEntry
	}
	if c == nil {
		<-w.slot
		for _, j := range jobs {
			j.finish(nil)
		}
		return
	}
	w.last = c
	own := !noEntry
	c.Then(func(err error) {
		<-w.slot
		e := outcome(err, own)
		for _, j := range jobs {
			j.finish(e)
		}
	})
}

// outcome is what the client is told when its transaction did not come through the log. own says
// that the request had a part in it; else it only saw a state that is gone.
func outcome(err error, own bool) *wire.Error {
	var refused *pagestore.RefusedError
	switch {
	case err == nil:
		return nil
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

// attempt runs the group in one transaction up to its commit. culprits must run
// alone: what they did is not in the transaction. An error means that nothing is.
func (w *writer) attempt(group []*job) (culprits []*job, err error) {
	if len(group) == 1 {
		return nil, w.attemptAlone(group[0])
	}
	rest := group
	for len(rest) > 1 {
		culprit, err := w.attemptShared(rest)
		if err == nil {
			return culprits, nil
		}
		if culprit == nil {
			if !errors.Is(err, errSpoiled) {
				return nil, err
			}
			// The commit itself was refused (too large, say): each for itself.
			return append(culprits, rest...), nil
		}
		culprits = append(culprits, culprit)
		rest = without(rest, culprits[len(culprits)-1:])
	}
	// One is left: alone it needs no savepoint.
	return append(culprits, rest...), nil
}

// errSpoiled says that the transaction is gone, but the connection is fine.
var errSpoiled = errors.New("the shared transaction was rolled back")

// attemptShared runs jobs in one transaction, each in a savepoint. With a culprit, or an error,
// the transaction was rolled back.
func (w *writer) attemptShared(jobs []*job) (culprit *job, err error) {
	c := w.conn
	c.begin(context.Background())
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return nil, err
	}
	for _, j := range jobs {
		ok, err := w.inSavepoint(j)
		if err != nil {
			return nil, err
		}
		if !ok {
			if err := c.end(); err != nil {
				return nil, err
			}
			return j, errSpoiled
		}
	}
	if err := c.Exec("COMMIT"); err != nil {
		cause := c.TakeErr()
		if endErr := c.end(); endErr != nil || replaced(cause) {
			return nil, errors.Join(err, cause, endErr)
		}
		return nil, errSpoiled
	}
	return nil, c.end()
}

// inSavepoint runs one job of a group. false means that it must run alone, and that the
// transaction can't be used any more.
func (w *writer) inSavepoint(j *job) (bool, error) {
	c := w.conn
	if j.ctx.Err() != nil {
		j.err = wire.AsError(j.ctx.Err())
		return true, nil
	}
	c.begin(j.ctx)
	if err := c.exec("SAVEPOINT nearsql"); err != nil {
		return false, err
	}
	limit := min(groupTime, w.db.limits.StatementTime.Std())
	j.reset()
	e := w.db.guarded(j.req, func() *wire.Error { return w.body(j, limit) })
	if c.Autocommit() {
		return false, nil // OR ROLLBACK, RAISE(ROLLBACK), an interrupt: everybody's work is gone
	}
	if e != nil && e.Code == wire.CodeTimeout && j.ctx.Err() == nil {
		return false, nil // too slow for a group
	}
	if e == nil && c.DeferredForeignKeys() {
		return false, nil // its commit will fail; alone it fails alone
	}
	if e != nil {
		if replaced(e) {
			return false, e
		}
		if err := c.exec("ROLLBACK TO nearsql"); err != nil {
			return false, err
		}
		j.answers.reset()
		j.err = e
		if err := w.keepOutcome(j); err != nil {
			return false, err
		}
	}
	if err := c.exec("RELEASE nearsql"); err != nil {
		return false, err
	}
	return true, nil
}

// exec runs one of the engine's own statements, cached: they run for every group.
func (c *conn) exec(sql string) error {
	s := c.stmts.get(sql)
	if s == nil {
		c.pol.internal = true
		st, _, err := c.Prepare(sql, true)
		c.pol.internal = false
		if err != nil {
			return errors.Join(err, c.TakeErr())
		}
		s = c.stmts.put(sql, st)
	}
	defer s.Reset()
	for {
		row, err := s.Step()
		if err != nil {
			if cause := c.TakeErr(); cause != nil {
				return errors.Join(err, cause)
			}
			return err
		}
		if !row {
			return nil
		}
	}
}

// attemptAlone runs a job in a transaction of its own. An error means that the connection is of no more
// use; what is wrong with the request is the job's.
func (w *writer) attemptAlone(j *job) error {
	c := w.conn
	if j.ctx.Err() != nil {
		j.err = wire.AsError(j.ctx.Err())
		return nil
	}
	j.reset()
	c.begin(j.ctx)
	limit := w.db.limits.StatementTime.Std()
	var e *wire.Error
	if len(j.req.Statements) == 1 && j.req.IdempotencyKey == "" {
		c.pol.vacuum = classify(j.req.Statements[0].SQL) == classVacuum
		e = w.db.guarded(j.req, func() *wire.Error { return c.run(0, &j.req.Statements[0], limit, &j.answers) })
		c.pol.vacuum = false
	} else {
		e = w.db.guarded(j.req, func() *wire.Error { return w.transaction(j, limit) })
	}
	j.err = e
	if e != nil {
		j.answers.reset()
		if replaced(e) {
			return e
		}
	}
	if err := c.end(); err != nil {
		return err
	}
	if e != nil && j.req.IdempotencyKey != "" && keepable(e) {
		// The outcome is kept even though the transaction is gone.
		c.begin(j.ctx)
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
			w.db.e.cfg.Log.Warn("outcome of a failed request not kept", "tenant", w.db.t.ID(), "error", err)
		}
		return c.end()
	}
	return nil
}

// transaction runs a batch: switches of the connection before and after it take effect outside of the
// transaction, where SQLite heeds them.
func (w *writer) transaction(j *job, limit time.Duration) *wire.Error {
	c := w.conn
	first, last := 0, len(j.req.Statements)
	if len(j.kinds) > 0 {
		for first < last && j.kinds[first] == classSession {
			first++
		}
		for last > first && j.kinds[last-1] == classSession {
			last--
		}
	}
	for i := 0; i < first; i++ {
		c.dirty = true
		if e := c.run(i, &j.req.Statements[i], limit, &j.answers); e != nil {
			return e
		}
	}
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return convert(err, err)
	}
	if e := w.bodyRange(j, first, last, limit); e != nil {
		return e
	}
	if err := c.Exec("COMMIT"); err != nil {
		return c.fail(err)
	}
	for i := last; i < len(j.req.Statements); i++ {
		c.dirty = true
		if e := c.run(i, &j.req.Statements[i], limit, &j.answers); e != nil {
			return e
		}
	}
	return nil
}

// body runs the statements of a job within the open transaction.
func (w *writer) body(j *job, limit time.Duration) *wire.Error {
	return w.bodyRange(j, 0, len(j.req.Statements), limit)
}

func (w *writer) bodyRange(j *job, first, last int, limit time.Duration) *wire.Error {
	c := w.conn
	if j.req.IdempotencyKey != "" {
		known, e := w.recall(j)
		if e != nil || known {
			return e
		}
	}
	for i := first; i < last; i++ {
		if len(j.kinds) > 0 && j.kinds[i] == classSession {
			c.dirty = true
		}
		if e := c.run(i, &j.req.Statements[i], limit, &j.answers); e != nil {
			return e
		}
		if c.Autocommit() && last-first > 1 {
			return wire.NewError(wire.CodeSQLiteAbort, "the statement rolled the whole transaction back").At(i + 1)
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
