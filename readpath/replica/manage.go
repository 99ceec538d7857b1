package replica

import (
	"container/heap"
	"slices"
	"time"

	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
)

// dueHeap is the tenants that the manager is to look at, the next one first: what it does is in proportion to what has changed.
type dueHeap []*followed

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	t := x.(*followed)
	t.at = len(*h)
	*h = append(*h, t)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	t.at = -1
	return t
}

// scheduleLocked lets the manager look at a tenant at that time, and not before.
func (f *Follower) scheduleLocked(t *followed, at time.Time) {
	t.due = at
	if t.at < 0 {
		heap.Push(&f.mu.due, t)
	} else {
		heap.Fix(&f.mu.due, t.at)
	}
	if t.at == 0 {
		kick(f.wake)
	}
}

func (f *Follower) unscheduleLocked(t *followed) {
	if t.at >= 0 {
		heap.Remove(&f.mu.due, t.at)
	}
}

// manage looks at the tenants that are due, and starts links. It returns when it is to be called again.
func (f *Follower) manage(start func(*link)) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for len(f.mu.due) > 0 && !f.mu.due[0].due.After(now) {
		f.tendLocked(heap.Pop(&f.mu.due).(*followed), now, start)
	}
	next := time.Minute
	if f.mu.reseat {
		f.mu.reseat = false
		if wait := f.reseatLocked(now, start); wait > 0 {
			f.mu.reseat, next = true, wait
		}
	}
	if len(f.mu.due) > 0 {
		next = min(next, f.mu.due[0].due.Sub(now))
	}
	return max(next, time.Millisecond)
}

// tendLocked does what is due for a tenant: it looks for a feeder, gives one up that does not feed, or for a better one.
func (f *Follower) tendLocked(t *followed, now time.Time, start func(*link)) {
	relax := f.cfg.Timing.Relax
	switch s := t.cur; {
	case t.ending, s == nil && t.busy: // doneLocked has it looked at again
	case s == nil && t.notYet.After(now):
		f.scheduleLocked(t, t.notYet)
	case s == nil:
		f.attachLocked(t, now, start)
	case !s.joined && !t.busy && s.link.connected && now.Sub(s.moved) > relax:
		t.tries++ // the feeder has nobody to follow itself
		f.detachLocked(t, true)
	case !s.joined:
		f.scheduleLocked(t, later(now, s.moved.Add(relax), relax/8))
	case t.next != nil && now.Sub(t.next.moved) > f.cfg.Timing.Settle:
		f.refusedLocked(t, true)
	case t.next != nil:
		f.scheduleLocked(t, later(now, t.next.moved.Add(f.cfg.Timing.Settle), f.cfg.Timing.Settle/8))
	default:
		f.improveLocked(t, now, start)
	}
}

// later is at, or a while from now if that is sooner than that.
func later(now, at time.Time, least time.Duration) time.Time {
	if soonest := now.Add(least); at.Before(soonest) {
		return soonest
	}
	return at
}

// attachLocked gives a tenant that is followed from nobody a feeder.
func (f *Follower) attachLocked(t *followed, now time.Time, start func(*link)) {
	if t.hops > 0 && now.Sub(t.lost) > f.cfg.Timing.Relax {
		t.hops = 0
	}
	nodes := f.cfg.Feeders(t.id)
	if len(nodes) == 0 {
		f.scheduleLocked(t, now.Add(f.cfg.Timing.BackoffMax/4))
		return
	}
	l, wait := f.pickLocked(nodes, t.tries, now)
	if l == nil {
		f.scheduleLocked(t, now.Add(wait))
		return
	}
	bound := uint8(stream.MaxHops)
	if t.hops > 0 {
		bound = t.hops
	}
	t.cur = l.takeLocked(t, f.boundLocked(t, l.node, bound), start)
	f.scheduleLocked(t, now.Add(f.cfg.Timing.Relax))
}

// boundLocked is how many hops a feeder must have fewer than: one that votes has none. One that was thought to vote, and follows now, might
// follow this node.
func (f *Follower) boundLocked(t *followed, node string, bound uint8) uint8 {
	if t.group != 0 && slices.Contains(f.cfg.Voters(t.group), node) {
		return 1
	}
	return bound
}

// improveLocked lets a joined tenant go to a better feeder, if there is one: the link is opened first.
func (f *Follower) improveLocked(t *followed, now time.Time, start func(*link)) {
	nodes := f.cfg.Feeders(t.id)
	better := slices.Index(nodes, t.cur.link.node) // so many
	switch {
	case better == 0 || len(nodes) == 0:
		t.moves = 0
		return // until Reconsider
	case better < 0:
		better = len(nodes) // it should not be fed from there
	}
	if f.mu.moving >= f.cfg.Moves {
		f.scheduleLocked(t, now.Add(jitter(f.cfg.Timing.Settle)))
		return
	}
	l, wait := f.pickLocked(nodes[:better], t.moves, now)
	if l == nil {
		f.scheduleLocked(t, now.Add(wait+jitter(f.cfg.Timing.Settle)))
		return
	}
	if !l.connected {
		l.startLocked(start)
		f.scheduleLocked(t, now.Add(jitter(f.cfg.Timing.Settle/2)))
		return
	}
	f.goLocked(t, l, f.boundLocked(t, l.node, stream.MaxHops), start)
	f.scheduleLocked(t, now.Add(f.cfg.Timing.Settle))
}

// pickLocked is the first of the nodes that may be tried now, beginning after as many as refused before.
func (f *Follower) pickLocked(nodes []string, tries int, now time.Time) (*link, time.Duration) {
	wait := f.cfg.Timing.BackoffMax
	for i := range nodes {
		l := f.linkLocked(nodes[(tries+i)%len(nodes)])
		if d := l.notBefore.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		return l, 0
	}
	return nil, wait
}

func (f *Follower) linkLocked(node string) *link {
	l := f.mu.links[node]
	if l == nil {
		l = newLink(f, node)
		f.mu.links[node] = l
	}
	return l
}

// retryLocked lets a tenant try the next feeder, a little later.
func (f *Follower) retryLocked(t *followed) {
	t.tries++
	d := f.cfg.Timing.BackoffMax
	if shift := t.tries / max(1, len(f.mu.links)); shift < 10 {
		d = min(d, f.cfg.Timing.Backoff<<shift)
	}
	t.notYet = time.Now().Add(jitter(d))
	if t.cur == nil && !t.busy && !t.ending {
		f.scheduleLocked(t, t.notYet)
	}
}

// reseatLocked sees to it that somebody is asked for the index of each group: a voter that feeds this node, or else one that is asked for nothing
// more. It returns when it is to be tried again; 0 for not before something changes.
func (f *Follower) reseatLocked(now time.Time, start func(*link)) (again time.Duration) {
	fed := make(map[wire.GroupID]bool) // by a voter, or not
	for _, l := range f.mu.links {
		for _, lane := range l.lanes {
			if len(lane.tenants) > 0 {
				fed[lane.group] = fed[lane.group] || lane.hops == 0
			}
		}
	}
	for id, g := range f.mu.groups {
		byVoter, any := fed[id]
		g.byVoter = byVoter
		voters := f.cfg.Voters(id)
		if g.asker != nil && (byVoter || !any || !slices.Contains(voters, g.asker.node)) {
			f.unseatLocked(id, g)
		}
		if g.asker != nil || byVoter || !any || len(voters) == 0 {
			continue
		}
		l, wait := f.pickLocked(voters, 0, now)
		for _, node := range voters { // one that is there already, as that which the tenants came from until now, needs no time
			if open := f.mu.links[node]; open != nil && open.connected {
				l = open
				break
			}
		}
		if l == nil {
			again = max(wait, again)
			continue
		}
		g.asker = l
		l.asked[id] = struct{}{}
		l.startLocked(start)
		l.lookLocked()
	}
	return again
}

// unseatLocked lets nobody be asked for a group because its tenants come by relays.
func (f *Follower) unseatLocked(id wire.GroupID, g *groupIn) {
	if g.asker != nil {
		delete(g.asker.asked, id)
		g.asker = nil
	}
}
