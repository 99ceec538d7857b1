package leader

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
)

// Leadership is who leads a group, as far as this node knows.
type Leadership struct {
	// Primary says that this node does, has applied all that earlier primaries
	// committed, and may propose. It may be wrong a moment later, or now: only
	// the outcome of a proposal or of ReadIndex proves it.
	Primary bool
	// Term is the term of Primary: what was begun in one term is void in
	// another, even of the same node. 0 if not Primary.
	Term uint64
	// Leader is the node that leads; "" if this node doesn't know.
	Leader NodeID
}

// Leadership returns who leads, and a channel that is closed when that changes.
func (g *Group) Leadership() (Leadership, <-chan struct{}) {
	g.state.Lock()
	defer g.state.Unlock()
	return g.state.leadership, g.state.changed
}

// Primary returns nil while this node may propose, else a NotPrimaryError.
func (g *Group) Primary() error {
	g.state.Lock()
	defer g.state.Unlock()
	if g.state.leadership.Primary {
		return nil
	}
	return g.notPrimaryLocked()
}

func (g *Group) notPrimaryLocked() error {
	if g.state.leadership.Leader == g.cfg.Node {
		return &NotPrimaryError{} // it leads, but may not propose yet
	}
	return &NotPrimaryError{Primary: g.state.leadership.Leader}
}

// otherPrimary is who else leads, if anybody.
func (g *Group) otherPrimary() NodeID {
	g.state.Lock()
	defer g.state.Unlock()
	if g.state.leadership.Leader == g.cfg.Node {
		return ""
	}
	return g.state.leadership.Leader
}

// setLeadership changes who leads, and wakes who waits for that.
func (g *Group) setLeadership(change func(*Leadership)) {
	g.state.Lock()
	defer g.state.Unlock()
	before := g.state.leadership
	change(&g.state.leadership)
	if g.state.leadership == before {
		return
	}
	close(g.state.changed)
	g.state.changed = make(chan struct{})
	if now := g.state.leadership; now.Primary != before.Primary || now.Leader != before.Leader {
		g.log.Info("leadership", "primary", now.Primary, "term", now.Term, "leader", string(now.Leader))
	}
}

// watchLeadership follows raft until stop is closed. raft waits for who reads
// notify, so nothing here may wait.
func (g *Group) watchLeadership(r *raft.Raft, notify <-chan bool, stop <-chan struct{}) {
	observations := make(chan raft.Observation, 16) // raft drops what does not fit, but one is enough to look again
	observer := raft.NewObserver(observations, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	r.RegisterObserver(observer)
	defer r.DeregisterObserver(observer)

	endTerm := func() {} // ends the opening of the current term
	defer func() { endTerm() }()
	for {
		_, id := r.LeaderWithID()
		g.setLeadership(func(l *Leadership) { l.Leader = NodeID(id) })
		select {
		case <-stop:
			return
		case <-observations:
		case leads := <-notify:
			endTerm()
			g.setLeadership(func(l *Leadership) { l.Primary, l.Term = false, 0 })
			if leads {
				ctx, cancel := context.WithCancel(context.Background())
				endTerm = cancel
				g.goroutines.Go(func() { g.openTerm(ctx, r) })
			}
		}
	}
}

// openTerm makes this node the primary of the term that it was elected in,
// once all that earlier terms committed has been applied.
func (g *Group) openTerm(ctx context.Context, r *raft.Raft) {
	for ctx.Err() == nil {
		term, err := g.barrier(r)
		if err == nil {
			g.announce(ctx, r, term)
			return
		}
		if r.State() != raft.Leader {
			return
		}
		// A transfer of leadership that failed may have been in the way.
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// barrier returns the term of an entry that was committed and reached the
// machine, with all before it.
func (g *Group) barrier(r *raft.Raft) (term uint64, err error) {
	f := r.Barrier(0)
	if err := f.Error(); err != nil {
		return 0, err
	}
	indexed, ok := f.(raft.IndexFuture)
	if !ok {
		return 0, ErrStopped
	}
	var entry raft.Log
	if err := g.run.store.GetLog(indexed.Index(), &entry); err != nil {
		return 0, err
	}
	return entry.Term, nil
}

// announce makes this node primary of term, unless that has ended.
func (g *Group) announce(ctx context.Context, r *raft.Raft, term uint64) {
	g.setLeadership(func(l *Leadership) {
		// Canceled before the end of the term is noted, and under this lock after:
		// so an announcement never outlives its term.
		if ctx.Err() != nil || g.run.store.Err() != nil || term == 0 || r.CurrentTerm() != term {
			return
		}
		l.Primary, l.Term, l.Leader = true, term, g.cfg.Node
	})
}
