package sqlnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// A file of conflict-free tables that changes can't bring up any more is replaced by a copy of another site's, and what it
// alone had is written anew under the number that it gets then: crrfiles/DESIGN.md says in which order, and why nothing is lost
// or counted twice. Where it stands is on disk, so that a process which ends on the way is followed by one that goes on.

// Times of the care for files.
const (
	caresMost     = 2                // files of a node that are replaced or salvaged at a time
	behindFor     = 3 * time.Second  // how long others must say that a file is behind
	behindFresh   = 90 * time.Second // how long they may be silent about it then
	taintedFor    = time.Minute      // the tenant's primary may find that more counts
	fetchMost     = time.Hour        // for one copy
	lackingAfter  = 3                // copies that lack something are refused at first: another may have all
	settleFor     = 3 * time.Second  // pushes that were under way when a file was replaced are merged, or lost, by then
	careAgain     = time.Second      // after a failure, at first
	careAgainMost = 5 * time.Minute
	replaceAgain  = time.Minute // after a file was replaced, at first; doubled each time
	replaceRarely = time.Hour
)

// care is what is done about one tenant's file. Guarded by sites.mu.
type care struct {
	busy     bool
	failures int // in a row
	notYet   time.Time

	behind   time.Time // since when others say that the file is behind; zero: they don't
	said     time.Time // when they did last
	why      error
	tainted  time.Time // since when it has what does not count
	kept     time.Time // since when kept files are known of
	replaced time.Time // by this process; zero: it was not
	times    int       // that it was, with less than replaceRarely between
}

// isBehind notes that another site says so.
func (c *care) isBehind(now time.Time, why error) {
	if c.behind.IsZero() || now.Sub(c.said) > behindFresh {
		c.behind = now
	}
	c.said, c.why = now, why
}

// task is what a file needs.
type task uint8

const (
	taskNone task = iota
	taskReplace
	taskSalvage
)

// fileState is what of a file decides about the care for it.
type fileState struct {
	ended   bool // its number is retired
	tainted bool
	kept    bool // there are files to be salvaged
	number  crr.SiteID
}

// next decides what is to be done now, and says why the file is replaced.
func (c *care) next(f fileState, now time.Time) (task, string) {
	if !f.tainted {
		c.tainted = time.Time{}
	} else if c.tainted.IsZero() {
		c.tainted = now
	}
	if !f.kept {
		c.kept = time.Time{}
	} else if c.kept.IsZero() {
		c.kept = now
	}
	if c.busy || now.Before(c.notYet) {
		return taskNone, ""
	}
	why := ""
	switch {
	case f.ended:
		why = "its site was retired while it was away"
	case f.tainted && now.Sub(c.tainted) >= taintedFor:
		why = "it has transactions of a retired site that do not count"
	case !c.behind.IsZero() && now.Sub(c.said) <= behindFresh && c.said.Sub(c.behind) >= behindFor:
		why = c.why.Error()
	}
	if why != "" && (c.replaced.IsZero() || now.Sub(c.replaced) >= c.rest()) {
		return taskReplace, why
	}
	if f.kept && f.number != 0 && !f.ended && now.Sub(later(c.kept, c.replaced)) >= settleFor {
		return taskSalvage, ""
	}
	return taskNone, ""
}

// rest is for how long a file that was replaced is left as it is.
func (c *care) rest() time.Duration { return min(replaceAgain<<min(c.times, 10), replaceRarely) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// done notes what came of a task.
func (c *care) done(t task, err error, now time.Time) {
	c.busy = false
	if err != nil {
		c.notYet = now.Add(min(careAgain<<min(c.failures, 16), careAgainMost))
		c.failures++
		return
	}
	c.failures, c.notYet = 0, time.Time{}
	if t == taskReplace {
		if c.replaced.IsZero() || now.Sub(c.replaced) > 2*replaceRarely {
			c.times = 0
		}
		c.times++
		c.replaced, c.behind, c.tainted = now, time.Time{}, time.Time{}
	}
}

// careFor begins what a tenant's file needs, if anything.
func (s *sites) careFor(ctx context.Context, r *resident, work *sync.WaitGroup) {
	f := s.files.Known(r.ID())
	if f == nil || s.x == nil {
		return
	}
	if why := f.Failed(); why != nil {
		s.careForDamaged(ctx, r, f, why, work)
		return
	}
	kept, err := f.Kept()
	if err != nil {
		s.n.log.Warn("kept files of conflict-free tables can't be listed", "error", err)
		return
	}
	st := fileState{ended: f.Ended(), tainted: f.Tainted() != 0, kept: len(kept) > 0, number: f.Number()}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.mu.known[r.ID()]
	if k == nil {
		return
	}
	t, why := k.care.next(st, time.Now())
	if t == taskNone {
		return
	}
	select {
	case s.caring <- struct{}{}:
	default:
		return // as many as may be are under way
	}
	k.care.busy = true
	tries := k.care.failures
	work.Go(func() {
		var err error
		if t == taskReplace {
			err = s.replaceFile(ctx, r, f, why, tries)
		} else {
			err = s.salvageFiles(ctx, r, f, kept)
		}
		<-s.caring
		s.mu.Lock()
		k.care.done(t, err, time.Now())
		s.mu.Unlock()
		switch {
		case err == nil || ctx.Err() != nil:
		case t == taskSalvage:
			s.n.log.Info("what only a replaced file of conflict-free tables has is not written anew yet", "id", r.ID(), "error", err)
		default:
			s.n.log.Warn("a file of conflict-free tables that is too old is not replaced yet", "id", r.ID(), "why", why, "error", err)
		}
	})
}

// own are the numbers that files of this node had, or have.
func (s *sites) own(ctx context.Context, f *crrfiles.File, id tenant.ID) (own []crr.SiteID, err error) {
	err = f.Write(ctx, func(w *crrfiles.Writer) error {
		all, err := w.Sites(id)
		for _, m := range all {
			if m.Node == s.n.id.Node {
				own = append(own, m.Site)
			}
		}
		return err
	})
	return own, err
}

// replaceFile fetches a copy of another site's file and puts it in the place of the tenant's own.
func (s *sites) replaceFile(ctx context.Context, r *resident, f *crrfiles.File, why string, tries int) error {
	own, err := s.own(ctx, f, r.ID())
	if err != nil {
		return err
	}
	if f.Ended() {
		if len(s.Peers(r.ID())) == 0 && f.Tainted() == 0 {
			// There is nobody to ask, nor anybody who has what is not here.
			err := f.Renounce(ctx)
			s.renumber(r.ID())
			return err
		}
		// The others answer sites that are not retired: the file to be is one.
		next, err := f.Next()
		if err != nil {
			return err
		}
		if err := s.register(ctx, r.Tenant, next); err != nil {
			return fmt.Errorf("register the file to be: %w", err)
		}
	}
	began := time.Now()
	limit, cancel := context.WithTimeout(ctx, fetchMost)
	defer cancel()
	path, err := f.Fetch(limit, func(ctx context.Context, w io.Writer) error {
		return s.x.Fetch(ctx, r.ID(), w)
	})
	if err != nil {
		return err
	}
	kept, err := f.Replace(ctx, path, own, tries >= lackingAfter)
	if err != nil {
		return err
	}
	s.renumber(r.ID())
	s.x.Add(r.ID())
	s.n.log.Warn("a file of conflict-free tables that was too old is replaced by a copy of another site's", "id", r.ID(), "why", why, "took", time.Since(began).String(), "kept", kept)
	return nil
}

// salvageFiles writes anew what only replaced files have.
func (s *sites) salvageFiles(ctx context.Context, r *resident, f *crrfiles.File, kept []crr.FileID) error {
	own, err := s.own(ctx, f, r.ID())
	if err != nil {
		return err
	}
	// All that others have of the former numbers has to be here: what is not is written anew, and would count twice if somebody had it.
	missing, err := s.x.PullAll(ctx, r.ID())
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return unreached(missing)
	}
	for _, file := range kept {
		got, err := f.Salvage(ctx, file, own, true)
		if errors.As(err, new(*crr.CopyError)) && f.FromDamaged(file) {
			aside, gerr := f.GiveUp(file)
			s.n.log.Error("a damaged file of conflict-free tables can't be read to its end: what only it had is lost", "id", r.ID(), "file", aside, "error", err)
			if gerr != nil {
				return gerr
			}
			continue
		}
		if err != nil {
			return err
		}
		s.n.log.Info("what only a replaced file of conflict-free tables had is written anew", "id", r.ID(), "file", file, "rows", got.Rows, "lost", got.Lost)
	}
	return nil
}

// unsalvaged says whether a tenant has files here that are to be salvaged.
func (s *sites) unsalvaged(id wire.TenantID) bool {
	f := s.files.Known(id)
	if f == nil {
		return false
	}
	kept, err := f.Kept()
	return err != nil || len(kept) > 0
}

// Caring says what is done about a tenant's file here now, for people; "" when nothing is.
func (s *sites) Caring(id wire.TenantID) string {
	f := s.files.Known(id)
	if f == nil {
		return ""
	}
	kept, _ := f.Kept()
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.mu.known[id]
	switch {
	case k == nil:
		return ""
	case f.Ended():
		return "this node's site was retired while it was away: its file is replaced by a copy of another site's"
	case len(kept) > 0:
		return "what was written here only before the file was replaced is not all written anew yet"
	case !k.care.behind.IsZero() && time.Since(k.care.said) <= behindFresh:
		return "changes can't bring this node's file up any more: it is replaced by a copy of another site's"
	}
	return ""
}
