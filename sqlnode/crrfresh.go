package sqlnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/crr/exchange"
	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// asked is what is known of how old the conflict-free tables of a tenant are here: for each other site the newest moment, on
// this node's clocks, at which all were asked and of which this node has all that the site had. Guarded by sites.mu.
type asked struct {
	asOf  map[crr.SiteID]readpath.Instant
	era   uint64        // of ticks then; see freshness
	under chan struct{} // closed when the question under way has its answers; nil when there is none
	lacks []exchange.Unreached
	err   error
}

// tablesAskMost bounds how often a read asks all sites before it is refused.
const tablesAskMost = 3

// lookNow brings what is known here of the tenant's sites up to main as it is here. It fails when there are some that can't be asked yet, since
// the catalogue here does not know their nodes.
func (s *sites) lookNow(ctx context.Context, r *resident) error {
	for try := 0; ; try++ {
		if err := s.bring(ctx, r, r.Record()); err != nil {
			return tablesError(err)
		}
		s.mu.Lock()
		var strange []string
		if k := s.mu.known[r.ID()]; k != nil && s.x != nil {
			strange = slices.Clone(k.strange)
		}
		s.mu.Unlock()
		if len(strange) == 0 {
			return nil
		}
		if try > 0 {
			return wire.NewError(wire.CodeUnreachable, "the sites of the conflict-free tables on nodes %v can't be asked: the catalogue here does not know them yet", strange)
		}
		if err := s.n.refreshCatalogue(ctx); err != nil {
			return err
		}
	}
}

// askedAgo is how old what is here of all sites is at most, if that is known.
func (s *sites) askedAgo(id tenant.ID) (time.Duration, bool) {
	if s.x == nil {
		return 0, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.askedAgoLocked(s.mu.known[id])
}

func (s *sites) askedAgoLocked(k *siteOf) (oldest time.Duration, known bool) {
	if k == nil {
		return 0, false
	}
	at, era := s.n.ticks.Now()
	if len(k.asked.asOf) > 0 && era != k.asked.era {
		return 0, false // the machine stood still meanwhile
	}
	for _, p := range k.peers {
		if p.Site == 0 {
			continue // it has written nothing
		}
		since, ok := k.asked.asOf[p.Site]
		if !ok {
			return 0, false
		}
		oldest = max(oldest, readpath.Elapsed(since, at))
	}
	return oldest, true
}

// within returns how old the conflict-free tables here are at most, when that is known to be no more than bound; otherwise it asks all sites, and waits for
// their answers. Its error is UNREACHABLE, and names those without.
func (s *sites) within(ctx context.Context, id tenant.ID, bound time.Duration) (time.Duration, error) {
	if s.x == nil {
		return 0, nil
	}
	for try := 0; ; try++ {
		s.mu.Lock()
		k := s.mu.known[id]
		if k == nil {
			s.mu.Unlock()
			return 0, wire.NewError(wire.CodeUnreachable, "this node is no site of the tenant's conflict-free tables")
		}
		d, known := s.askedAgoLocked(k)
		lacks, err := k.asked.lacks, k.asked.err
		s.mu.Unlock()
		switch {
		case known && d <= bound:
			return d, nil
		case try > 0 && err != nil:
			return 0, wire.NewError(wire.CodeUnreachable, "%w", err)
		case try > 0 && len(lacks) > 0:
			return 0, unreached(lacks)
		case try == tablesAskMost:
			return 0, wire.NewError(wire.CodeStale, "the bound is shorter than a question to all sites takes: ask with consistency=strong")
		}
		if err := s.askAll(ctx, id); err != nil {
			return 0, wire.NewError(wire.CodeUnreachable, "not all sites of the conflict-free tables answered in time: %w", err)
		}
	}
}

// askAll asks all other sites what they have, brings it here, and notes since when that is so. Who comes while a question is under way waits for
// its answers. Its error is that of ctx.
func (s *sites) askAll(ctx context.Context, id tenant.ID) error {
	if s.x == nil {
		return nil
	}
	s.mu.Lock()
	k := s.mu.known[id]
	if k == nil {
		s.mu.Unlock()
		return nil
	}
	under := k.asked.under
	if under == nil {
		under = make(chan struct{})
		k.asked.under = under
		go s.askOnce(context.WithoutCancel(ctx), id, k, slices.Clone(k.peers), under)
	}
	s.mu.Unlock()
	select {
	case <-under:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// askOnce asks once; it ends by itself.
func (s *sites) askOnce(ctx context.Context, id tenant.ID, k *siteOf, peers []exchange.Peer, under chan struct{}) {
	at, era := s.n.ticks.Now()
	lacks, err := s.x.PullAll(ctx, id)
	s.mu.Lock()
	defer s.mu.Unlock()
	k.asked.under, k.asked.lacks, k.asked.err = nil, lacks, err
	close(under)
	if err != nil {
		return
	}
	if k.asked.asOf == nil || k.asked.era != era {
		k.asked.asOf, k.asked.era = map[crr.SiteID]readpath.Instant{}, era
	}
	for _, p := range peers {
		if p.Site != 0 && !slices.ContainsFunc(lacks, func(u exchange.Unreached) bool { return u.Site == p.Site }) {
			k.asked.asOf[p.Site] = at
		}
	}
	for site := range k.asked.asOf {
		if !slices.ContainsFunc(peers, func(p exchange.Peer) bool { return p.Site == site }) {
			delete(k.asked.asOf, site)
		}
	}
}

// reached is the nearest site that answered the newest question to all; "" for none.
func (s *sites) reached(id tenant.ID) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.mu.known[id]
	if k == nil {
		return ""
	}
	for _, p := range k.peers {
		if p.Site != 0 && !slices.ContainsFunc(k.asked.lacks, func(u exchange.Unreached) bool { return u.Node == p.Node }) {
			return p.Node
		}
	}
	return ""
}

// unreached is the error that names the sites that did not answer.
func unreached(lacks []exchange.Unreached) error {
	names := make([]string, 0, len(lacks))
	for _, u := range lacks {
		names = append(names, fmt.Sprintf("%s (%s)", u.Node, u.Why))
	}
	return wire.NewError(wire.CodeUnreachable, "not all sites of the conflict-free tables could be asked: %v", names)
}

// errNoSiteKnown says that a request can be sent nowhere.
var errNoSiteKnown = errors.New("no site of the tenant's conflict-free tables is known")
