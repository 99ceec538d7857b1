package engine

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// DB is one open tenant: its store, its readers, and the writer with those in line for it.
type DB struct {
	e *Engine
	t *pagestore.Tenant

	// of the engine, under its mu
	elem  *list.Element
	users int
	used  time.Time

	inFlight chan struct{} // a place for each request
	readers  chan struct{} // a place for each reader in use
	asked    tenant.Limits // as the tenant's record has them
	limits   tenant.Limits // with the defaults

	mu struct {
		sync.Mutex
		store  *pagestore.Store
		idle   []*conn // readers without a request
		epoch  int     // rises when the store is opened anew: connections of older ones are closed
		closed bool
		w      *writer
		opened bool
	}
	openMu sync.Mutex // held while the store is opened

	crr  atomic.Pointer[crrfiles.File] // of the tenant's conflict-free tables; nil while none are known
	line crrLine                       // of requests that write those
	away atomic.Pointer[schema.State]  // the conflict-free schema as main has it, where this node keeps no such tables
	bare atomic.Uint64                 // 1 + TXID of main when it last was seen to have none; 0: not looked

	prev *DB               // the tenant's DB before this one; of the writer, or of shut when there is none
	gone chan struct{}     // closed by shut: the writer has ended
	last *pagestore.Commit // the writer's newest; set before gone is closed
}

var errDBClosed = errors.New("the tenant was closed meanwhile")

func newDB(e *Engine, t *pagestore.Tenant, prev *DB) *DB {
	asked := t.Record().Limits
	l := asked.WithDefaults()
	return &DB{e: e, t: t, asked: asked, limits: l, prev: prev, gone: make(chan struct{}),
		inFlight: make(chan struct{}, l.InFlight), readers: make(chan struct{}, l.Readers)}
}

// open opens the store if it is not.
func (db *DB) open() error {
	db.mu.Lock()
	ok, closed, store := db.mu.opened, db.mu.closed, db.mu.store
	db.mu.Unlock()
	if closed {
		return errDBClosed
	}
	if ok && store.Closed() {
		// The tenant's copy was taken out of service, or replaced: what is there now is another store.
		db.e.forget(db)
		return errDBClosed
	}
	if ok {
		return nil
	}
	db.openMu.Lock()
	defer db.openMu.Unlock()
	db.mu.Lock()
	ok, closed = db.mu.opened, db.mu.closed
	db.mu.Unlock()
	if ok || closed {
		if closed {
			return errDBClosed
		}
		return nil
	}
	s, err := db.t.Acquire()
	if err != nil {
		return err
	}
	db.lookForCRR()
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.mu.closed {
		db.t.Release()
		return errDBClosed
	}
	db.mu.store, db.mu.opened = s, true
	db.e.Stats.Opened.Add(1)
	return nil
}

// shut closes the connections and lets the store go. Requests under way keep theirs until they end.
func (db *DB) shut() {
	db.openMu.Lock() // an opening under way ends first
	defer db.openMu.Unlock()
	db.mu.Lock()
	if db.mu.closed {
		db.mu.Unlock()
		return
	}
	db.mu.closed = true
	idle, w, opened := db.mu.idle, db.mu.w, db.mu.opened
	db.mu.idle, db.mu.w = nil, nil
	db.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
	if w != nil {
		w.stop()
		db.last = w.last
	}
	if db.prev != nil {
		db.last = db.inherit()
	}
	close(db.gone)
	if db.last == nil {
		db.e.settled(db)
	} else {
		db.last.Then(func(error) { db.e.settled(db) })
	}
	if opened {
		db.t.Release()
		db.e.Stats.Closed.Add(1)
	}
}

// inherit waits until the writer of the DB before this one has ended: a store takes one at a time.
// It returns that writer's newest commit, on which this DB's answers may rest.
func (db *DB) inherit() *pagestore.Commit {
	p := db.prev
	db.prev = nil
	<-p.gone
	return p.last
}

// renew closes all connections: the store was replaced under them.
func (db *DB) renew() {
	db.mu.Lock()
	idle := db.mu.idle
	db.mu.idle = nil
	db.mu.epoch++
	db.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}

// TempSpace is the temporary space of a new connection to a tenant.
func (e *Engine) TempSpace() *pagestore.TempSpace {
	return &pagestore.TempSpace{Dir: e.cfg.TempDir, Max: e.cfg.TempMax, Total: &e.Stats.TempBytes, Disk: e.cfg.Space}
}

// reader lends a reading connection; giveBack must follow. fresh asks for one without a past: FTS5's
// part of PRAGMA integrity_check compares with what it remembers of earlier transactions
// (sqlite3Fts5IndexIntegrityCheck does not look whether others have written since).
func (db *DB) reader(ctx context.Context, fresh bool) (*conn, int, error) {
	select {
	case db.readers <- struct{}{}:
	default:
		select {
		case db.readers <- struct{}{}:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
	db.mu.Lock()
	epoch, store, closed := db.mu.epoch, db.mu.store, db.mu.closed
	if closed {
		db.mu.Unlock()
		<-db.readers
		return nil, 0, errDBClosed
	}
	if n := len(db.mu.idle); n > 0 {
		c := db.mu.idle[n-1]
		db.mu.idle = db.mu.idle[:n-1]
		db.mu.Unlock()
		if !fresh {
			return c, epoch, nil
		}
		c.close()
	} else {
		db.mu.Unlock()
	}
	c, err := db.openReader(store)
	if err != nil {
		<-db.readers
		return nil, 0, err
	}
	return c, epoch, nil
}

func (db *DB) openReader(store *pagestore.Store) (*conn, error) {
	pc, err := store.OpenReader(db.e.TempSpace())
	if err != nil {
		return nil, err
	}
	c, err := newConn(pc, &db.e.cfg, db.limits)
	if err != nil {
		pc.Close()
		return nil, err
	}
	return c, nil
}

// giveBack ends the loan. bad says that the connection must not be used again.
func (db *DB) giveBack(c *conn, epoch int, bad bool) {
	if err := c.end(); err != nil {
		bad = true
	}
	db.mu.Lock()
	keep := !bad && !db.mu.closed && epoch == db.mu.epoch
	if keep {
		db.mu.idle = append(db.mu.idle, c)
	}
	db.mu.Unlock()
	if !keep {
		c.close()
	}
	<-db.readers
}

// Executed says where a request was served.
type Executed struct {
	Pos   wire.Pos  // the answer shows this state of main or a later one
	Write bool      // through the log of the tenant's group
	Local bool      // to conflict-free tables, on this node
	Stamp crr.Stamp // of a Local write that changed something
	// Tables: a read named conflict-free tables. Seen is what the answer shows of them, at most.
	Tables   bool
	Seen     crr.Vector
	Replayed bool
}

// Execute runs a request on tenant t. Rows go to sink as they come for a request that only reads,
// and after the commit for one that writes; an error means that what sink got must not be used.
func (e *Engine) Execute(ctx context.Context, t *pagestore.Tenant, q Quorum, req *wire.Request, sink wire.Sink) (Executed, error) {
	if req.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, req.Timeout)
		defer cancel()
	}
	for {
		x, err := e.execute(ctx, t, q, req, sink)
		if err != errDBClosed {
			return x, err
		}
		if err := ctx.Err(); err != nil {
			return Executed{}, wire.AsError(err)
		}
	}
}

// execute is Execute, or errDBClosed when the tenant was closed before the request did anything.
func (e *Engine) execute(ctx context.Context, t *pagestore.Tenant, q Quorum, req *wire.Request, sink wire.Sink) (Executed, error) {
	db, err := e.acquire(t)
	if err != nil {
		return Executed{}, err
	}
	defer e.release(db)
	rec := t.Record()
	if rec.Limits != db.asked {
		e.forget(db) // other limits are in force now
		return Executed{}, errDBClosed
	}
	select {
	case db.inFlight <- struct{}{}:
		defer func() { <-db.inFlight }()
	default:
		return Executed{}, wire.NewError(wire.CodeTooManyRequests, "%d requests of this tenant are under way on this node; that is its limit", cap(db.inFlight))
	}
	was := db.crrState()
	plan, werr := db.plan(req, &rec)
	if werr != nil {
		return Executed{}, werr
	}
	if g := e.cfg.Guard; g != nil {
		if werr := g.check(t.ID(), req); werr != nil {
			return Executed{}, werr
		}
	}
	if plan.write {
		x, err := db.runWrite(ctx, q, req, plan, sink)
		if err == errDBClosed {
			return x, err
		}
		if again, werr := db.discover(ctx, was, err); werr != nil {
			return x, werr
		} else if again {
			return x, errDBClosed // it had no effect, and may run otherwise now
		}
		e.Stats.Writes.Add(1)
		return x, err
	}
	x, err := db.read(ctx, q, req, plan.fresh, sink)
	if err != errDBClosed {
		e.Stats.Reads.Add(1)
	}
	return x, err
}

// plan is how a request runs.
type plan struct {
	write bool // on the writer
	alone bool // in a transaction of its own
	fresh bool // on a connection that has no past
	first class
	kinds []class // of a batch
	to    destination
	own   func(c *conn) *wire.Error // runs instead of the statements; may be nil
}

// runWrite runs a request that writes where it belongs.
func (db *DB) runWrite(ctx context.Context, q Quorum, req *wire.Request, p plan, sink wire.Sink) (Executed, error) {
	switch p.to {
	case toCRR:
		db.e.Stats.LocalWrites.Add(1)
		return db.writeCRR(ctx, q, req, p, sink)
	case toDeclare:
		return db.declare(ctx, q, req, p, sink)
	}
	return db.write(ctx, q, req, p, sink)
}

// plan checks a request's form and decides where it runs.
func (db *DB) plan(req *wire.Request, rec *tenant.Tenant) (plan, *wire.Error) {
	var p plan
	if rec.State == tenant.StateDeleted {
		return p, wire.NewError(wire.CodeTenantDeleted, "tenant %q was deleted", string(rec.Name))
	}
	if len(req.IdempotencyKey) > MaxIdempotencyKey {
		return p, wire.NewError(wire.CodeBadRequest, "the Idempotency-Key has %d bytes; the limit is %d", len(req.IdempotencyKey), MaxIdempotencyKey)
	}
	switch n := len(req.Statements); {
	case n == 0:
		return p, wire.NewError(wire.CodeEmptyStatement, "the request has no statement")
	case int64(n) > db.limits.BatchStatements:
		return p, wire.NewError(wire.CodeTooManyStatements, "the batch has %d statements; the limit is %d", n, db.limits.BatchStatements)
	}
	if len(req.Statements) > 1 {
		p.kinds = make([]class, 0, len(req.Statements))
	}
	for i := range req.Statements {
		sql := req.Statements[i].SQL
		if int64(len(sql)) > db.limits.Statement {
			return p, wire.NewError(wire.CodeStatementTooLong, "the statement has %d bytes; the limit is %d", len(sql), db.limits.Statement).At(i + 1)
		}
		k := classify(sql)
		if i == 0 {
			p.first = k
		}
		if p.kinds != nil {
			p.kinds = append(p.kinds, k)
		}
		switch k {
		case classEmpty:
			return p, wire.NewError(wire.CodeEmptyStatement, "the text has no statement").At(i + 1)
		case classControl:
			return p, wire.NewError(wire.CodeTransactionControlNotAllowed, "%s: each request is one transaction; send the statements as one batch", verb(sql)).At(i + 1)
		case classRefused:
			return p, wire.NewError(wire.CodeSQLNotAllowed, "%s is not allowed: a request sees its tenant's database only", verb(sql)).At(i + 1)
		case classVacuum:
			if len(req.Statements) > 1 {
				return p, wire.NewError(wire.CodeSQLNotAllowed, "VACUUM cannot be part of a batch").At(i + 1)
			}
			p.write, p.alone = true, true
		case classCheck:
			p.fresh = true
		case classWrite:
			p.write = true
		case classAlone:
			p.write, p.alone = true, true
		case classSession:
			p.alone = true
		}
	}
	if p.write && db.e.cfg.CRR != nil {
		if err := db.aim(req, &p); err != nil {
			return p, err
		}
	}
	if p.write && req.ReadOnly {
		return p, wire.NewError(wire.CodeReadOnlyRequest, "the request may only read; use POST to write")
	}
	if p.write && rec.State == tenant.StateFrozen {
		return p, wire.NewError(wire.CodeTenantFrozen, "tenant %q takes no writes until it is thawed", string(rec.Name))
	}
	return p, nil
}

// read runs a request that only reads, on one state.
func (db *DB) read(ctx context.Context, q Quorum, req *wire.Request, fresh bool, sink wire.Sink) (Executed, error) {
	if req.Consistency == wire.Strong {
		if err := q.Confirm(ctx); err != nil {
			return Executed{}, convert(err, nil)
		}
	}
	count := &countingSink{Sink: sink}
	if !req.Stream {
		count.maxRows, count.maxBytes = db.limits.AnswerRows, db.limits.AnswerBytes
	}
	for try := 0; ; try++ {
		was := db.crrState()
		x, err := db.readOnce(ctx, req, fresh, count)
		if err == errReplacedStore && !count.any && try < 3 {
			continue
		}
		if err != nil && !count.any && try < 3 {
			again, werr := db.discover(ctx, was, err)
			if werr != nil {
				return Executed{}, werr
			}
			if again {
				continue
			}
		}
		db.e.Stats.RowsRead.Add(count.rows)
		if err == errReplacedStore {
			err = wire.NewError(wire.CodeSQLiteBusy, "the database was replaced while the request ran; send it again")
		}
		return x, err
	}
}

var errReplacedStore = fmt.Errorf("store was replaced: %w", pagestore.ErrReplaced)

func (db *DB) readOnce(ctx context.Context, req *wire.Request, fresh bool, sink wire.Sink) (Executed, error) {
	c, epoch, err := db.reader(ctx, fresh)
	if err != nil {
		if replaced(err) {
			db.renew()
			return Executed{}, errReplacedStore
		}
		if err == errDBClosed {
			return Executed{}, err
		}
		return Executed{}, convert(err, nil)
	}
	if err := c.attachCRR(db.crr.Load()); err != nil {
		db.giveBack(c, epoch, true)
		return Executed{}, convert(err, nil)
	}
	c.begin(ctx)
	before := c.Store().Committed()
	werr := db.guarded(req, func() *wire.Error { return c.runReads(req, db.limits.StatementTime.Std(), sink) })
	seen := c.Seen()
	bad := werr != nil && (replaced(werr) || werr.Code == wire.CodeInternal || werr.Code == wire.CodeCorrupt)
	if werr != nil && c.attached {
		if e := db.blame(c, werr); e != nil {
			werr, bad = e, true
		}
	}
	x := Executed{}
	if werr == nil && c.attached && db.readsCRR(req) {
		x.Tables = true
		x.Seen, err = c.seenCRR()
		bad = bad || err != nil
	}
	db.giveBack(c, epoch, bad)
	if werr != nil {
		if replaced(werr) {
			db.renew()
			return Executed{}, errReplacedStore
		}
		return Executed{}, werr
	}
	if err != nil {
		return Executed{}, convert(err, nil)
	}
	if seen.TXID < before.TXID {
		seen = before // no statement looked at the database: a bookmark must not go back
	}
	id := db.t.ID()
	x.Pos = wire.Pos{Tenant: id, Epoch: db.t.Epoch(), TXID: seen.TXID, Checksum: seen.Checksum}
	return x, nil
}

// runReads runs the statements, in one transaction when there are several.
func (c *conn) runReads(req *wire.Request, limit time.Duration, sink wire.Sink) *wire.Error {
	if len(req.Statements) == 1 {
		return c.run(0, &req.Statements[0], limit, sink)
	}
	begun := false
	for i := range req.Statements {
		w := &req.Statements[i]
		if !begun && classify(w.SQL) != classSession {
			if err := c.exec("BEGIN"); err != nil {
				return c.fail(err)
			}
			begun = true
		}
		if e := c.run(i, w, limit, sink); e != nil {
			return e
		}
	}
	if begun {
		if err := c.exec("COMMIT"); err != nil {
			return c.fail(err)
		}
	}
	return nil
}

// countingSink counts rows, and remembers whether anything was given. An answer that is held in
// memory has limits.
type countingSink struct {
	wire.Sink
	maxRows, maxBytes int64 // limits; 0 means none

	any         bool
	rows, bytes int64
}

func (s *countingSink) Begin(n int, cols []wire.Column) error {
	s.any = true
	return s.Sink.Begin(n, cols)
}

func (s *countingSink) Row(row []wire.Value) error {
	s.rows++
	if s.maxRows > 0 && s.rows > s.maxRows {
		return wire.NewError(wire.CodeRowsTooLarge, "the answer has more than %d rows, the tenant's limit; stream it as NDJSON, or ask for less", s.maxRows)
	}
	if s.maxBytes > 0 {
		for _, v := range row {
			s.bytes += int64(v.Size())
		}
		if s.bytes > s.maxBytes {
			return wire.NewError(wire.CodeAnswerTooLarge, "the answer takes more than %d bytes, the tenant's limit; stream it as NDJSON, or ask for less", s.maxBytes)
		}
	}
	return s.Sink.Row(row)
}
