package readpathtest

import (
	"context"
	"fmt"
	"time"

	"github.com/nearsql/nearsql/readpath/replica"
	"github.com/nearsql/nearsql/wire"
)

// Group is the log of one group. All of it is guarded by World.mu.
type Group struct {
	ID     wire.GroupID
	Voters []string
	Leader string // the true one

	log   []logged
	state map[wire.TenantID]*State // after all of log
}

type logged struct {
	entry []byte // nil for one that all copies refuse
	at    time.Time
}

// voter is what a node knows of a group that it votes in. All but tail and prober is guarded by World.mu.
type voter struct {
	g       *Group
	leader  string // who it thinks leads
	applied uint64
	copies  map[wire.TenantID]*State
	tail    *replica.Tail
	changed chan struct{}
}

// replicateEvery is how often voters look for entries.
const replicateEvery = 5 * time.Millisecond

// replicate brings entries to a voter while it reaches the leader.
func (n *Node) replicate(ctx context.Context, v *voter) {
	tick := time.NewTicker(replicateEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n.w.mu.Lock()
		if n.w.connectedLocked(n.Name, v.g.Leader) && !n.suspended {
			v.leader = v.g.Leader
			n.w.catchUpLocked(n, v)
		}
		n.w.mu.Unlock()
	}
}

// catchUpLocked applies what has arrived.
func (w *World) catchUpLocked(n *Node, v *voter) {
	did := false
	for int(v.applied) < len(v.g.log) {
		l := v.g.log[v.applied]
		if n.Name != v.g.Leader && time.Since(l.at) < w.delay {
			break
		}
		v.applied++
		did = true
		if l.entry != nil {
			w.applyLocked(v, v.applied, l.entry)
		}
	}
	if did {
		v.tail.Advance(v.applied)
		close(v.changed)
		v.changed = make(chan struct{})
	}
}

func (w *World) applyLocked(v *voter, index uint64, entry []byte) {
	id := tenantOf(entry)
	var before State
	if c := v.copies[id]; c != nil {
		before = *c
	}
	after, err := before.Next(index, entry)
	if err != nil {
		w.Failed("voter of group %d: %v", v.g.ID, err)
		return
	}
	v.copies[id] = &after
	if err := v.tail.Append(index, entry); err != nil {
		w.Failed("tail: %v", err)
	}
	if after.MovedTo != 0 {
		v.tail.Leave(id)
	}
}

// commit appends an entry if the leader reaches a majority, and says when it was answered.
func (w *World) commit(g *Group, id wire.TenantID, make func(s *State, now time.Duration) ([]byte, error)) error {
	w.mu.Lock()
	leader := w.nodes[g.Leader]
	s := g.state[id]
	if !w.majorityLocked(g, g.Leader) || leader.suspended || s != nil && s.MovedTo != 0 {
		w.mu.Unlock()
		return fmt.Errorf("group %d: no majority", g.ID)
	}
	if s == nil {
		s = &State{Tenant: id, Group: g.ID, Epoch: 1}
	}
	entry, err := make(s, leader.Clock.Now().Wall)
	if err != nil {
		w.mu.Unlock()
		return err
	}
	index := uint64(len(g.log) + 1)
	after, err := s.Next(index, entry)
	if err != nil {
		w.mu.Unlock()
		return err
	}
	g.log = append(g.log, logged{entry, time.Now()})
	g.state[id] = &after
	w.catchUpLocked(leader, leader.voters[g.ID])
	version, delay := after.Version, w.delay
	w.mu.Unlock()
	time.Sleep(2 * delay)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history[id] = append(w.history[id], answered{version, time.Now(), after})
	return nil
}

// refuse puts an entry into the log that all copies refuse.
func (w *World) refuse(g *Group) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.majorityLocked(g, g.Leader) {
		g.log = append(g.log, logged{nil, time.Now()})
	}
}

func (w *World) majorityLocked(g *Group, of string) bool {
	yes := 0
	for _, v := range g.Voters {
		if v == of || w.connectedLocked(of, v) && !w.nodes[v].suspended {
			yes++
		}
	}
	return yes > len(g.Voters)/2
}

// ReadIndexAt implements readpath.Voter.
func (v *nodeVoter) ReadIndexAt(ctx context.Context) (uint64, error) {
	w := v.n.w
	w.mu.Lock()
	delay := w.delay
	w.mu.Unlock()
	// To the primary, and on to the voters.
	if err := sleep(ctx, 2*delay); err != nil {
		return 0, err
	}
	w.mu.Lock()
	leader := v.v.leader
	reached := w.connectedLocked(v.n.Name, leader) && !v.n.suspended
	l := w.nodes[leader].voters[v.v.g.ID]
	confirmed := leader == v.v.g.Leader && w.majorityLocked(v.v.g, leader) && !w.nodes[leader].suspended
	index := uint64(len(v.v.g.log))
	if w.Faults.Unconfirmed && !confirmed {
		confirmed, index = true, l.applied
	}
	w.mu.Unlock()
	if !reached || !confirmed {
		return 0, replica.ErrUnconfirmed
	}
	return index, sleep(ctx, 2*delay)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// nodeVoter is a readpath.Voter.
type nodeVoter struct {
	n *Node
	v *voter
}

// Applied implements readpath.Voter.
func (v *nodeVoter) Applied() uint64 {
	v.n.w.mu.Lock()
	defer v.n.w.mu.Unlock()
	return v.v.applied
}

// WaitApplied implements readpath.Voter.
func (v *nodeVoter) WaitApplied(ctx context.Context, index uint64) error {
	for {
		v.n.w.mu.Lock()
		done, changed := v.v.applied >= index, v.v.changed
		v.n.w.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
