package engine

import (
	"context"
	"runtime"
	"slices"
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
	pc, err := w.db.t.OpenWriter(store, w.db.e.TempSpace())
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
