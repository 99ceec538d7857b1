package engine

import (
	"context"
	"strings"
	"time"

	"github.com/nearsql/nearsql/wire"
)

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
