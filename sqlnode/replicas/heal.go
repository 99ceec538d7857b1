package replicas

import (
	"context"
	"fmt"
	"time"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
)

// heal has copies fetched anew that are out of service, or have a corrupt page, until ctx ends.
func (s *Set) heal(ctx context.Context, g *pagestore.Group) {
	tick := time.NewTicker(s.cfg.AilingEvery)
	defer tick.Stop()
	asked := map[*pagestore.Tenant]time.Time{}
	for {
		s.askAnew(g, asked)
		select {
		case <-ctx.Done():
			return
		case <-g.Ails():
		case <-tick.C:
		}
	}
}

// askPatience is how long a copy that was asked for may take before it is asked for again.
const askPatience = time.Minute

// askAnew lets each copy that ails be followed from nothing. asked says when that was asked for.
func (s *Set) askAnew(g *pagestore.Group, asked map[*pagestore.Tenant]time.Time) {
	s.mu.Lock()
	f := s.mu.following
	s.mu.Unlock()
	ailing := map[*pagestore.Tenant]struct{}{}
	for _, a := range g.Ailing() {
		ailing[a.Tenant] = struct{}{}
		id := a.Tenant.ID()
		if f == nil || time.Since(asked[a.Tenant]) < askPatience || !f.Follows(id) || s.isComing(id) {
			continue
		}
		asked[a.Tenant] = time.Now()
		s.Stats.Rebuilt.Add(1)
		s.cfg.Log.Warn("a copy is fetched anew", "id", id, "group", g.ID(), "in_service", a.InService, "error", a.Err)
		f.Unfollow(id)
		f.Follow(id, g.ID(), a.Tenant.Record().Policy)
	}
	for t := range asked {
		if _, ok := ailing[t]; !ok {
			delete(asked, t)
		}
	}
}

// scrub reads all bases from time to time.
func (s *Set) scrub(ctx context.Context, g *pagestore.Group) {
	tick := time.NewTicker(s.cfg.ScrubEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		report, err := g.Scrub(ctx)
		if err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("scrub of replicas", "group", g.ID(), "error", err)
			continue
		}
		s.cfg.Log.Info("scrub of replicas", "group", g.ID(), "report", fmt.Sprintf("%+v", report))
	}
}
