package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

// crrWriter is the writing connection of a file of conflict-free tables, as the engine uses it in its turn. At rest all statements on it are
// the node's own.
type crrWriter struct {
	db   *DB // whose turn it is
	c    *conn
	site *crr.Site
	pos  wire.Pos
	kept *crrDress
}

// crrDress is what the engine keeps with the connection.
type crrDress struct {
	c      *conn
	counts map[string]crr.Classified // of statements, by text
}

// Undress implements crrfiles.Dress.
func (d *crrDress) Undress() { d.c.stmts.clear() }

// dress makes the writer of a file ready for statements of its tenant.
func (db *DB) dress(w *crrfiles.Writer) (*crrWriter, error) {
	d, ok := w.Keep.(*crrDress)
	if !ok {
		c, err := newConn(w.Conn, &db.e.cfg, db.limits)
		if err != nil {
			return nil, err
		}
		c.pol.internal, c.pol.tracks = true, true
		if err := c.registerStamp(); err != nil {
			return nil, err
		}
		d = &crrDress{c: c, counts: map[string]crr.Classified{}}
		w.Keep = d
	}
	d.c.params = int(db.limits.Params)
	d.c.Limit(sqlite.LimitSQLLength, int(db.limits.Statement))
	d.c.Limit(sqlite.LimitVariableNumber, max(d.c.params, ownParams))
	st := w.Committed()
	return &crrWriter{db: db, c: d.c, site: w.Site, kept: d,
		pos: wire.Pos{Tenant: db.t.ID(), Epoch: db.t.Epoch(), TXID: st.TXID, Checksum: st.Checksum}}, nil
}

// limitSize bounds the file for the tenant's own statements; 0 lifts the bound, which merges don't have.
func (g *crrWriter) limitSize(bytes int64) error {
	pages := int64(1<<32 - 2)
	if bytes > 0 {
		pages = max(bytes/crrPage, 1)
	}
	return g.c.exec(fmt.Sprintf("PRAGMA crr.max_page_count=%d", pages))
}

// crrPage is the page size of files of conflict-free tables, SQLite's default.
const crrPage = 4096

// run runs jobs until each has its answer, those that can in one transaction.
func (g *crrWriter) run(group []*crrJob) error {
	rest := make([]*crrJob, 0, len(group))
	for _, j := range group {
		if !j.settled { // in an earlier turn, whose connection was lost then
			rest = append(rest, j)
		}
	}
	var alone []*crrJob
	for try := 1; len(rest) > 1; try++ {
		culprit, err := g.shared(rest)
		if err != nil {
			return err
		}
		if culprit < 0 {
			rest = nil
			break
		}
		alone = append(alone, rest[culprit])
		rest = slices.Concat(rest[:culprit], rest[culprit+1:])
		if try > groupTries {
			break
		}
	}
	for _, j := range append(rest, alone...) {
		if err := g.single(j); err != nil {
			return err
		}
	}
	return nil
}

// single runs a job in a transaction of its own.
func (g *crrWriter) single(j *crrJob) error {
	j.reset()
	if j.ctx.Err() != nil {
		j.err, j.settled = wire.AsError(j.ctx.Err()), true
		return nil
	}
	if err := g.site.Begin(); err != nil {
		return err
	}
	e := g.body(j, g.db.limits.StatementTime.Std(), time.Time{})
	if e == nil {
		done, err := g.site.Commit()
		if err == nil {
			g.place(done, j)
			return nil
		}
		if err := g.unknown(err); err != nil {
			return err
		}
		e = g.c.fail(err)
	}
	j.err = e
	j.answers.reset()
	j.pos = g.pos
	if err := g.site.Rollback(); err != nil {
		return err
	}
	if err := g.fatal(e); err != nil {
		return err
	}
	j.settled = true
	return nil
}

// unknown is what is to be said of a commit that failed when its file may have it all the same; nil when it surely has not.
func (g *crrWriter) unknown(err error) error {
	if sqlite.ErrorCode(err)&0xff != sqlite.CodeIOErr {
		return nil
	}
	return wire.NewError(wire.CodeUnknownOutcome, "it is not known whether the write to conflict-free tables is on this node's disk: %w", err)
}

// place notes what the answers of jobs show.
func (g *crrWriter) place(done crr.Committed, jobs ...*crrJob) {
	for _, j := range jobs {
		j.pos, j.settled = g.pos, true
		if j.err == nil {
			j.stamp = done.Stamp
		}
	}
}

// fatal is the error that ends the use of the connection, if e is one.
func (g *crrWriter) fatal(e *wire.Error) error {
	if replaced(e) || suspect(e) || e.Code == wire.CodeSQLiteNotADB {
		return e
	}
	return nil
}

// shared runs jobs in one transaction, each in a savepoint, with one stamp. The number of a culprit, which is -1 when there is none, says
// that the transaction was rolled back because of it.
func (g *crrWriter) shared(jobs []*crrJob) (culprit int, err error) {
	if err := g.site.Begin(); err != nil {
		return 0, err
	}
	for i, j := range jobs {
		ok, err := g.inSavepoint(j)
		if err != nil {
			return 0, err
		}
		if !ok {
			return i, g.site.Rollback()
		}
	}
	done, err := g.site.Commit()
	if err != nil {
		if err := g.unknown(err); err != nil {
			return 0, err
		}
		if e := g.c.fail(err); g.fatal(e) != nil {
			return 0, e
		}
		return 0, g.site.Rollback() // each for itself, the first first
	}
	g.db.e.Stats.CRRShared.Add(int64(len(jobs)))
	g.place(done, jobs...)
	return -1, nil
}

// inSavepoint runs one job of a group. false means that it must run by itself, and that the transaction can't be used any more.
func (g *crrWriter) inSavepoint(j *crrJob) (bool, error) {
	j.reset()
	if j.ctx.Err() != nil {
		j.err = wire.AsError(j.ctx.Err())
		return true, nil
	}
	if err := g.c.exec("SAVEPOINT nearsql"); err != nil {
		return false, err
	}
	limit := min(groupTime, g.db.limits.StatementTime.Std())
	e := g.body(j, limit, g.c.now().Add(limit))
	if e != nil && replaced(e) {
		return false, e
	}
	if g.c.Autocommit() {
		return false, nil // OR ROLLBACK, an interrupt: everybody's work is gone
	}
	if e != nil && (e.Code == wire.CodeTimeout && j.ctx.Err() == nil || suspect(e)) {
		return false, nil
	}
	if e != nil {
		if err := g.c.exec("ROLLBACK TO nearsql"); err != nil {
			return false, err
		}
		j.answers.reset()
		j.err = e
	}
	return true, g.c.exec("RELEASE nearsql")
}

// body runs a job's statements within the open transaction, with the tenant's rights.
func (g *crrWriter) body(j *crrJob, limit time.Duration, until time.Time) *wire.Error {
	c := g.c
	c.begin(j.ctx)
	c.pol.internal = false
	defer func() {
		c.pol.internal, c.pol.session = true, false
		c.ctx, c.deadline = nil, time.Time{}
	}()
	return g.db.guarded(j.req, func() *wire.Error {
		for i := range j.req.Statements {
			if i > 0 && !until.IsZero() {
				if limit = until.Sub(c.now()); limit <= 0 {
					return wire.NewError(wire.CodeTimeout, "%w", errTooSlow)
				}
			}
			sql := j.req.Statements[i].SQL
			if err := g.site.Use(g.counts(sql)); err != nil {
				return crrError(err).At(i + 1)
			}
			if err := crr.CheckText(sql); err != nil {
				return crrError(err).At(i + 1)
			}
			if e := c.run(i, &j.req.Statements[i], limit, &j.answers); e != nil {
				return g.explain(e)
			}
		}
		return nil
	})
}

// explain says of a full file whose fault it is.
func (g *crrWriter) explain(e *wire.Error) *wire.Error {
	if e.Code == wire.CodeSQLiteFull && !errors.Is(e, pagestore.ErrTempFull) {
		return wire.NewError(wire.CodeTenantFull, "the tenant's conflict-free tables would have more than %d bytes on this node, its limit", g.db.limits.Size).At(e.Statement)
	}
	return e
}

// maxCounts bounds the statements whose counters are remembered.
const maxCounts = 256

// counts says which counters a statement assigns.
func (g *crrWriter) counts(sql string) crr.Classified {
	if c, ok := g.kept.counts[sql]; ok {
		return c
	}
	c := crr.Classify(sql)
	if len(sql) <= maxCachedSQL {
		if len(g.kept.counts) >= maxCounts {
			clear(g.kept.counts)
		}
		g.kept.counts[sql] = c
	}
	return c
}
