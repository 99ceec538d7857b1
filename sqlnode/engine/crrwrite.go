package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/wire"
)

// crrJob is one request that writes conflict-free tables.
type crrJob struct {
	ctx   context.Context
	q     Quorum
	req   *wire.Request
	alone bool

	answers recorder
	err     *wire.Error
	pos     wire.Pos
	stamp   crr.Stamp
	settled bool          // its outcome is decided: it must not run again
	over    chan struct{} // closed when the answer may leave
}

func (j *crrJob) reset() {
	j.answers.reset()
	j.err, j.stamp = nil, crr.Stamp{}
}

// crrLine is where requests that write conflict-free tables wait for their turn. Those that wait together share a transaction.
type crrLine struct {
	sync.Mutex
	jobs []*crrJob
	busy bool // somebody runs them, and will look again
}

// writeCRR runs a request that writes conflict-free tables, on this node's file.
func (db *DB) writeCRR(ctx context.Context, q Quorum, req *wire.Request, p plan, sink wire.Sink) (Executed, error) {
	if db.crr.Load() == nil { // only a statement that says crr itself comes here then
		f, err := db.e.cfg.CRR.Open(ctx, db.t)
		if errors.Is(err, crrfiles.ErrNone) {
			return Executed{}, wire.NewError(wire.CodeSQLiteError, "%w", err)
		}
		if err != nil {
			return Executed{}, crrError(err)
		}
		db.crr.Store(f)
	}
	j := &crrJob{ctx: ctx, q: q, req: req, alone: p.alone, over: make(chan struct{})}
	j.answers.rows, j.answers.bytes = db.limits.AnswerRows, db.limits.AnswerBytes
	db.line.Lock()
	db.line.jobs = append(db.line.jobs, j)
	if !db.line.busy {
		db.line.busy = true
		go db.runCRR()
	}
	db.line.Unlock()
	select {
	case <-j.over:
	case <-ctx.Done():
		if db.line.withdraw(j) {
			return Executed{}, wire.AsError(ctx.Err())
		}
		patience := time.NewTimer(outcomePatience)
		defer patience.Stop()
		select {
		case <-j.over:
		case <-patience.C:
			return Executed{}, wire.NewError(wire.CodeUnknownOutcome, "the request was under way when its time was over: it may or may not take effect")
		}
	}
	x := Executed{Pos: j.pos, Local: true, Stamp: j.stamp}
	if j.err != nil {
		return x, j.err
	}
	db.e.Stats.RowsWritten.Add(j.answers.changed)
	if err := j.answers.play(sink); err != nil {
		return Executed{}, sinkError(err)
	}
	return x, nil
}

// withdraw takes a job out of the line and says whether it was still there.
func (l *crrLine) withdraw(j *crrJob) bool {
	l.Lock()
	defer l.Unlock()
	i := slices.Index(l.jobs, j)
	if i >= 0 {
		l.jobs = slices.Delete(l.jobs, i, i+1)
	}
	return i >= 0
}

// take takes the next jobs that may share a transaction, or one that may not; nil ends the run.
func (l *crrLine) take(most int) []*crrJob {
	l.Lock()
	defer l.Unlock()
	if len(l.jobs) == 0 {
		l.jobs, l.busy = nil, false
		return nil
	}
	n := 1
	if !l.jobs[0].alone {
		for n < len(l.jobs) && n < most && !l.jobs[n].alone {
			n++
		}
	}
	group := slices.Clone(l.jobs[:n])
	l.jobs = slices.Delete(l.jobs, 0, n)
	return group
}

// runCRR runs what waits in line until nothing does.
func (db *DB) runCRR() {
	for group := db.line.take(db.e.cfg.Group); group != nil; group = db.line.take(db.e.cfg.Group) {
		db.e.Stats.CRRGroups.Add(1)
		if err := db.runCRRGroup(group); err != nil {
			e := crrError(err)
			for _, j := range group {
				if !j.settled {
					j.err = e
				}
			}
		}
		for _, j := range group {
			close(j.over)
		}
	}
}

// runCRRGroup runs jobs until each has its answer. An error is of all those that have none.
func (db *DB) runCRRGroup(group []*crrJob) error {
	for try := 0; ; try++ {
		err := db.turn(group)
		switch {
		case errors.Is(err, crr.ErrNoSite) && try < replacedTries:
			if err := db.becomeSite(group[0].q); err != nil {
				return err
			}
		case replaced(err) && try < replacedTries:
		default:
			return err
		}
	}
}

// turn runs jobs in one turn at the file.
func (db *DB) turn(group []*crrJob) error {
	return db.crr.Load().Write(context.Background(), func(w *crrfiles.Writer) error {
		g, err := db.dress(w)
		if err != nil {
			return err
		}
		if w.Site.Identity().Site == 0 {
			return crr.ErrNoSite
		}
		if err := g.limitSize(db.limits.Size); err != nil {
			return err
		}
		if err = g.run(group); err != nil {
			if cause := g.c.TakeErr(); cause != nil {
				err = fmt.Errorf("%w: %w", err, cause)
			}
			w.Stale() // what SQLite met there may not be over
			return err
		}
		if g.limitSize(0) != nil {
			w.Stale() // the answers stand
		}
		return nil
	})
}

// becomeSite has the tenant's primary give this node's file its number, and waits until it is here.
func (db *DB) becomeSite(q Quorum) error {
	ctx, cancel := context.WithTimeout(context.Background(), siteWait)
	defer cancel()
	f := db.crr.Load()
	head, err := f.Head(ctx)
	if err != nil {
		return err
	}
	if reg := db.e.cfg.RegisterSite; reg != nil {
		err = reg(ctx, db.t, head.File)
	} else {
		_, err = db.e.RegisterSite(ctx, db.t, q, db.e.cfg.Node, head.File)
	}
	if err != nil {
		return err
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		if head, err = f.Head(ctx); err != nil {
			return err
		}
		if head.Site != 0 {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return crr.ErrNoSite
		}
	}
}
