package pagestore

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ScrubReport is what Scrub found.
type ScrubReport struct {
	Tenants int // whose base was read
	Pages   int64
	Bytes   int64
	Skipped int             // tenants whose copy is out of service, or was closed or purged meanwhile
	Corrupt []*CorruptError // at most maxScrubErrors
	Errors  int64           // all corrupt pages
}

// maxScrubErrors bounds the errors that a report lists.
const maxScrubErrors = 1000

// Scrub reads all pages of all bases and compares them with their sums, at Config.ScrubRate.
// Corrupt pages are in the report, counted in Stats and logged, and the copy is among Ailing; what becomes of it is
// the caller's business (Tenant.Failure). It returns early when ctx ends or a file can't be read.
func (g *Group) Scrub(ctx context.Context) (ScrubReport, error) {
	var r ScrubReport
	pace := pacer{rate: g.cfg.ScrubRate}
	defer pace.stop()
	for _, t := range g.Tenants() {
		if err := g.scrubTenant(ctx, t, &r, &pace); err != nil {
			return r, fmt.Errorf("scrub of group %d: tenant %s: %w", g.cfg.ID, t.id, err)
		}
	}
	return r, nil
}

func (g *Group) scrubTenant(ctx context.Context, t *Tenant, r *ScrubReport, pace *pacer) error {
	s, err := t.Acquire()
	if err != nil {
		if t.gone() || t.Failed() != nil {
			r.Skipped++
			return nil
		}
		return err
	}
	defer t.closeIfIdle()
	defer t.Release()
	r.Tenants++
	buf := make([]byte, s.pageSize)
	for pgno := uint32(1); pgno <= s.base.pages(); pgno++ {
		if err := pace.wait(ctx, s.pageSize); err != nil {
			return err
		}
		err := s.scrubPage(buf, pgno)
		var corrupt *CorruptError
		switch {
		case errors.As(err, &corrupt):
			t.rotten(err)
			r.Errors++
			if len(r.Corrupt) < maxScrubErrors {
				r.Corrupt = append(r.Corrupt, corrupt)
			}
		case errors.Is(err, ErrClosed):
			r.Skipped++
			return nil
		case err != nil:
			return err
		}
		r.Pages++
		r.Bytes += int64(s.pageSize)
	}
	return nil
}

// scrubPage checks one page of the base. One that a unit will write again may be torn by a
// crash, and is not looked at.
func (s *Store) scrubPage(buf []byte, pgno uint32) error {
	s.base.mu.RLock()
	defer s.base.mu.RUnlock()
	s.mu.RLock()
	c := s.mu.chains[pgno]
	covered := len(c) > 0 && c[len(c)-1].tx > s.mu.baseTX
	s.mu.RUnlock()
	if covered || pgno == s.lock || int(pgno) > len(s.base.mu.sums) {
		return nil
	}
	return s.base.readPageLocked(buf, pgno)
}

// pacer spreads work over time.
type pacer struct {
	rate  int64 // bytes per second
	debt  int64 // bytes not waited for
	timer *time.Timer
}

// wait accounts for n bytes, and waits when they are worth it.
func (p *pacer) wait(ctx context.Context, n int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.debt += int64(n)
	const slice = 50 * time.Millisecond // waits are no shorter
	d := time.Duration(float64(p.debt) / float64(p.rate) * float64(time.Second))
	if d < slice {
		return nil
	}
	p.debt = 0
	if p.timer == nil {
		p.timer = time.NewTimer(d)
	} else {
		p.timer.Reset(d)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.timer.C:
		return nil
	}
}

func (p *pacer) stop() {
	if p.timer != nil {
		p.timer.Stop()
	}
}
