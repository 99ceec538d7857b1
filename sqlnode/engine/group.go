package engine

import (
	"context"
	"errors"
	"slices"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

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
