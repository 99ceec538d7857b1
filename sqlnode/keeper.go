package sqlnode

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/sqlnode/catalogue"
	"github.com/nearsql/nearsql/sqlnode/membership"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// keeper brings the groups that this node leads to the members that the catalogue wants, and the
// catalogue to what the groups are; and, on the primary of the system group, decides what is wanted.
type keeper struct {
	n     *Node
	wake  chan struct{}
	known map[wire.GroupID]*keptGroup
	said  bool // the catalogue has what this node says of itself
}

// keptGroup is what the keeper remembers of a group that this node leads.
type keptGroup struct {
	life     *life
	term     uint64
	since    time.Time // primary since
	reported leader.Configuration
	again    time.Time // when to report in any case
	healed   time.Time
	handed   time.Time // leadership, last tried
	refused  map[leader.NodeID]time.Time
	waits    string // what was logged last
}

// Times of the keeper.
const (
	keepEvery     = 500 * time.Millisecond
	healEvery     = time.Minute
	contactTime   = 10 * time.Second // how long a member may be silent before it counts as dead
	refusedTime   = 2 * time.Second  // how long a member that a step failed with comes after others
	claimLifetime = time.Minute      // how long a name may be claimed before its tenant is there
)

func newKeeper(n *Node) *keeper {
	return &keeper{n: n, wake: make(chan struct{}, 1), known: map[wire.GroupID]*keptGroup{}}
}

// changed says that the catalogue has changed.
func (k *keeper) changed() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// run keeps until ctx ends.
func (k *keeper) run(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		for _, h := range k.n.groups.all() {
			if l := h.log(); l.Primary() == nil {
				if err := k.keep(ctx, h); err != nil && ctx.Err() == nil {
					k.n.log.Debug("membership", "group", h.id, "error", err)
				}
			}
		}
		if err := k.announce(ctx); err != nil && ctx.Err() == nil {
			k.n.log.Debug("announce", "error", err)
		}
		k.leaveGroups(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-k.wake:
		}
	}
}

// keep does what is due for one group that this node leads.
func (k *keeper) keep(ctx context.Context, h *hosted) error {
	ctx, cancel := context.WithTimeout(ctx, bookmarkPatience)
	defer cancel()
	g := k.of(h)
	if g == nil {
		return nil
	}
	if h.id == systemGroup {
		if err := k.keepCatalogue(ctx, g); err != nil {
			return err
		}
	}
	if _, ok := k.n.cat.View().Group(h.id); !ok {
		return nil // the catalogue does not have it yet
	}
	if err := k.report(ctx, h, g); err != nil {
		return err
	}
	if now := k.n.cfg.Now(); h.id != systemGroup && now.Sub(g.healed) > healEvery {
		if err := k.heal(ctx, h); err != nil {
			return err
		}
		g.healed = now
	}
	if k.n.net == nil {
		return nil
	}
	if k.handOn(ctx, h, g) {
		return nil
	}
	return k.step(ctx, h, g)
}

// of is what is remembered of the group in the current term of this node; nil if there is none.
func (k *keeper) of(h *hosted) *keptGroup {
	l, _, _ := h.leadership()
	if !l.Primary {
		return nil
	}
	g := k.known[h.id]
	if g == nil || g.term != l.Term || g.life != h.current.Load() {
		g = &keptGroup{life: h.current.Load(), term: l.Term, since: k.n.cfg.Now(), refused: map[leader.NodeID]time.Time{}}
		k.known[h.id] = g
	}
	return g
}

// keepCatalogue is what the primary of the system group does: it makes the catalogue of a new
// cluster, and decides who should vote where.
func (k *keeper) keepCatalogue(ctx context.Context, g *keptGroup) error {
	n := k.n
	if g.reported.Index == 0 || n.cat.View().Version == 0 {
		if err := n.bootstrap(ctx); err != nil {
			return err
		}
		if err := n.refreshCatalogue(ctx); err != nil {
			return err
		}
	}
	due := func() []catalogue.Change {
		v := n.cat.View()
		return catalogue.Declare(v.Nodes(), v.Groups())
	}
	if len(due()) == 0 {
		return nil
	}
	if err := n.refreshCatalogue(ctx); err != nil {
		return err
	}
	for _, c := range due() {
		if err := n.writer().Apply(ctx, c); err != nil {
			return err
		}
		if c.Node != "" {
			n.log.Info("node removed", "node", c.Node, "why", c.Why)
		} else {
			n.log.Info("voters declared", "group", c.Group, "voters", c.New, "before", c.Old, "why", c.Why)
		}
	}
	return n.refreshCatalogue(ctx)
}

// report tells the catalogue who the members are.
func (k *keeper) report(ctx context.Context, h *hosted, g *keptGroup) error {
	conf, err := h.log().Configuration()
	if err != nil {
		return err
	}
	row, _ := k.n.cat.View().Group(h.id)
	if conf.Index == g.reported.Index && row.Founded && row.Members.Term >= g.term && k.n.cfg.Now().Before(g.again) {
		return nil
	}
	if !row.Founded {
		if _, err := k.n.callSystem(ctx, &systemCall{Op: opFounded, Group: h.id}); err != nil {
			return err
		}
	}
	m := catalogue.Members{Voters: []string{}, Learners: []string{}, Primary: k.n.id.Node, Term: g.term, Index: conf.Index}
	for _, c := range conf.Members {
		if c.Voter {
			m.Voters = append(m.Voters, string(c.ID))
		} else {
			m.Learners = append(m.Learners, string(c.ID))
		}
	}
	slices.Sort(m.Voters)
	slices.Sort(m.Learners)
	if _, err := k.n.callSystem(ctx, &systemCall{Op: opReport, Group: h.id, Members: &m}); err != nil {
		return err
	}
	g.reported, g.again = conf, k.n.cfg.Now().Add(healEvery)
	return nil
}

// handOn gives leadership away while copies are missing here that other members have.
func (k *keeper) handOn(ctx context.Context, h *hosted, g *keptGroup) bool {
	if h.whole() == nil && (h.fetcher == nil || !h.fetcher.NeedsHandOn()) {
		return false
	}
	if now := k.n.cfg.Now(); now.Sub(g.handed) > refusedTime {
		g.handed = now
		if err := h.log().TransferLeadership(ctx, ""); err != nil {
			k.n.log.Info("leadership stays, though copies are missing here", "group", h.id, "error", err)
		}
	}
	return true
}

// step takes the next step towards the members that are wanted, if there is one.
func (k *keeper) step(ctx context.Context, h *hosted, g *keptGroup) error {
	s, conf, err := k.next(h, g)
	if err != nil {
		return err
	}
	if s.Kind != membership.None {
		// Steps are decided on what is wanted now, not on what this copy of the catalogue said a while ago.
		if err := k.n.refreshCatalogue(ctx); err != nil {
			return err
		}
		if s, conf, err = k.next(h, g); err != nil {
			return err
		}
	}
	if s.Kind == membership.None {
		if s.Why != g.waits {
			if g.waits = s.Why; s.Why != "" {
				k.n.log.Info("members stay as they are for now", "group", h.id, "why", s.Why)
			}
		}
		return nil
	}
	log := h.log()
	switch s.Kind {
	case membership.AddLearner:
		err = log.AddLearner(ctx, s.ID, conf.Index)
	case membership.Promote:
		err = log.Promote(ctx, s.ID, conf.Index)
	case membership.Remove:
		err = log.Remove(ctx, s.ID, conf.Index)
	case membership.Transfer:
		err = log.TransferLeadership(ctx, s.ID)
	}
	if err != nil {
		g.refused[s.ID] = k.n.cfg.Now()
		if why := s.Kind.String() + ": " + err.Error(); why != g.waits {
			g.waits = why
			k.n.log.Info("members stay as they are for now", "group", h.id, "step", s.Kind.String(), "node", string(s.ID), "error", err)
		}
		return err
	}
	g.waits = ""
	k.n.log.Info("members changed", "group", h.id, "step", s.Kind.String(), "node", string(s.ID), "why", s.Why)
	if s.Kind == membership.Transfer {
		return nil
	}
	k.changed() // for the next one
	return k.report(ctx, h, g)
}

// next is the next step by what is known here.
func (k *keeper) next(h *hosted, g *keptGroup) (membership.Step, leader.Configuration, error) {
	conf, err := h.log().Configuration()
	if err != nil {
		return membership.Step{}, conf, err
	}
	v := k.n.cat.View()
	row, ok := v.Group(h.id)
	if !ok {
		return membership.Step{}, conf, nil
	}
	f := membership.Facts{Conf: conf, Self: leader.NodeID(k.n.id.Node), Voters: nodeIDs(row.Voters)}
	if h.id == systemGroup {
		f.Learners = nodeIDs(catalogue.SystemLearners(v.Nodes(), v.Groups()))
	}
	now := k.n.cfg.Now()
	f.Alive = membership.Contact(h.log().Stats().Peers, g.since, now, contactTime)
	f.Refused = func(id leader.NodeID) bool { return now.Sub(g.refused[id]) < refusedTime }
	return membership.Next(f), conf, nil
}

func nodeIDs(ids []string) []leader.NodeID {
	out := make([]leader.NodeID, len(ids))
	for i, id := range ids {
		out[i] = leader.NodeID(id)
	}
	return out
}

// announce brings the catalogue to what this node says of itself.
func (k *keeper) announce(ctx context.Context) error {
	v := k.n.cat.View()
	if k.said || v.Version == 0 {
		return nil
	}
	self := k.n.self()
	row, ok := v.Node(self.ID)
	if ok && row.PoP == self.PoP && row.Region == self.Region && row.ClusterAddr == self.ClusterAddr && row.PublicURL == self.PublicURL &&
		row.Incarnation == self.Incarnation && mapsEqual(row.Labels, self.Labels) {
		k.said = true
		return nil
	}
	err := k.n.announce(ctx, self)
	k.said = err == nil
	if isCode(err, wire.CodeForbidden) {
		k.n.setReady(false, err)
	}
	return err
}

func mapsEqual(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for key, v := range a {
		if w, ok := b[key]; !ok || v != w {
			return false
		}
	}
	return true
}

// leaveGroups ends the groups here that this node is no member of any more.
func (k *keeper) leaveGroups(ctx context.Context) {
	n := k.n
	for _, h := range n.groups.all() {
		if h.id == systemGroup || !k.left(h) {
			continue
		}
		if err := n.refreshCatalogue(ctx); err != nil || !k.left(h) {
			continue
		}
		n.dir.forgetGroup(h)
		for _, t := range h.pages.Tenants() {
			n.engine.Forget(t)
		}
		if err := n.groups.leave(h); err != nil {
			n.log.Error("group that this node has left", "group", h.id, "error", err)
			continue
		}
		delete(k.known, h.id)
		n.log.Info("group left: its files go after the grace period", "group", h.id, "grace", n.cfg.DeleteGrace.String())
	}
}

// left says whether the catalogue and the group itself say that this node is no member.
func (k *keeper) left(h *hosted) bool {
	row, ok := k.n.cat.View().Group(h.id)
	id := k.n.id.Node
	return ok && row.Founded && row.Members.Term > 0 && h.log().Primary() != nil && !slices.Contains(row.Voters, id) &&
		!slices.Contains(row.Members.Voters, id) && !slices.Contains(row.Members.Learners, id)
}

// heal brings the directory to what the group has: after a crash between the two steps of a
// creation or a deletion.
func (k *keeper) heal(ctx context.Context, h *hosted) error {
	n := k.n
	if err := n.refreshCatalogue(ctx); err != nil {
		return err
	}
	v := n.cat.View()
	var errs []error
	for _, t := range h.pages.Tenants() {
		rec := t.Record()
		row, ok := v.TenantByID(rec.ID)
		gone := rec.State == tenant.StateDeleted
		switch {
		case hidden(rec.Name):
		case gone && ok && row.Live:
			n.releaseLater(ctx, rec.ID)
		case !gone && (!ok || !row.Live):
			if err := n.claim(ctx, rec); err != nil {
				errs = append(errs, err)
				n.log.Error("a tenant's name is not in the catalogue", "tenant", string(rec.Name), "id", rec.ID, "error", err)
			}
		case !gone:
			if err := k.healPlacement(ctx, h, t, row); err != nil {
				errs = append(errs, err)
				n.log.Warn("a tenant's placement is not in the catalogue", "tenant", string(rec.Name), "id", rec.ID, "error", err)
			}
		}
	}
	before := n.cfg.Now().Add(-claimLifetime)
	for row := range v.TenantsOf(h.id) {
		if _, err := h.pages.Tenant(row.ID); err != nil && row.Live && row.Changed.Before(before) && row.ID != tenant.SystemID() {
			n.releaseLater(ctx, row.ID)
		}
	}
	return errors.Join(errs...)
}
