package leader

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/raft"
)

// Member is a node of a group.
type Member struct {
	ID    NodeID
	Voter bool // else a learner: it follows, and has no vote
}

// Configuration is the members of a group.
type Configuration struct {
	Index   uint64 // of the log entry that made it: what changes are given
	Members []Member
}

// Member returns the member of that id; not ok if there is none.
func (c Configuration) Member(id NodeID) (m Member, ok bool) {
	for _, m := range c.Members {
		if m.ID == id {
			return m, true
		}
	}
	return Member{}, false
}

// ConfigurationChangedError says that the members are not those that a change
// was decided on. Nothing was changed.
type ConfigurationChangedError struct{ Want, Have uint64 } // indexes

func (e *ConfigurationChangedError) Error() string {
	return fmt.Sprintf("the group's members changed: the configuration is that of entry %d, not %d", e.Have, e.Want)
}

// MemberError says why a member can't be changed as was asked. Nothing was changed.
type MemberError struct {
	ID     NodeID
	Reason string
	Err    error // the cause, if there is another
}

func (e *MemberError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("node %s %s: %v", e.ID, e.Reason, e.Err)
	}
	return fmt.Sprintf("node %s %s", e.ID, e.Reason)
}

func (e *MemberError) Unwrap() error { return e.Err }

// Configuration returns the newest members that this node knows of; they may
// not be committed yet.
func (g *Group) Configuration() (Configuration, error) {
	if err := g.running(); err != nil {
		return Configuration{}, err
	}
	// The index is noted before raft knows the configuration: in this order an
	// index is never newer than the members that go with it.
	for {
		index, err := g.run.log.newestConfiguration(g.run.snapshots)
		if err != nil {
			return Configuration{}, err
		}
		conf := g.run.raft.GetConfiguration().Configuration()
		again, err := g.run.log.newestConfiguration(g.run.snapshots)
		if err != nil {
			return Configuration{}, err
		}
		if index != again {
			continue
		}
		c := Configuration{Index: index}
		for _, s := range conf.Servers {
			c.Members = append(c.Members, Member{ID: NodeID(s.ID), Voter: s.Suffrage == raft.Voter})
		}
		return c, nil
	}
}

// AddLearner makes a node follow the group, if index is still that of the
// Configuration. The errors of changes are NotPrimaryError,
// ConfigurationChangedError, MemberError, ErrUnconfirmed: nothing was changed; or
// UnknownOutcomeError: it may have been.
func (g *Group) AddLearner(ctx context.Context, id NodeID, index uint64) error {
	return g.changeMember(ctx, index, func(c Configuration) (raftChange, error) {
		if id == "" {
			return nil, &MemberError{ID: id, Reason: "has an empty id"}
		}
		if _, ok := c.Member(id); ok {
			return nil, &MemberError{ID: id, Reason: "is a member already"}
		}
		if _, ok := g.run.expelled[id]; ok {
			return nil, &MemberError{ID: id, Reason: "was left behind when the group was recovered: its node must join anew under another id"}
		}
		return func(r *raft.Raft) raft.IndexFuture {
			return r.AddNonvoter(raft.ServerID(id), raft.ServerAddress(id), index, g.cfg.RPCTimeout)
		}, nil
	})
}

// Promote makes a learner a voter, once it has applied what this node has, and
// if Config.MayChange allows it there and on a majority of the voters.
func (g *Group) Promote(ctx context.Context, id NodeID, index uint64) error {
	return g.changeMember(ctx, index, func(c Configuration) (raftChange, error) {
		if m, ok := c.Member(id); !ok || m.Voter {
			return nil, &MemberError{ID: id, Reason: "is no learner"}
		}
		voters := []NodeID{id}
		for _, m := range c.Members {
			if m.Voter {
				voters = append(voters, m.ID)
			}
		}
		if err := g.askWhole(ctx, voters, id); err != nil {
			return nil, err
		}
		return func(r *raft.Raft) raft.IndexFuture {
			return r.AddVoter(raft.ServerID(id), raft.ServerAddress(id), index, g.cfg.RPCTimeout)
		}, nil
	})
}

// Remove removes a member, if Config.MayChange allows it on a majority of the
// voters that remain. The primary hands leadership on before it can be removed.
func (g *Group) Remove(ctx context.Context, id NodeID, index uint64) error {
	return g.changeMember(ctx, index, func(c Configuration) (raftChange, error) {
		m, ok := c.Member(id)
		switch {
		case !ok:
			return nil, &MemberError{ID: id, Reason: "is no member"}
		case id == g.cfg.Node:
			return nil, &MemberError{ID: id, Reason: "is the primary: transfer leadership first"}
		}
		if m.Voter {
			var voters []NodeID
			for _, o := range c.Members {
				if o.Voter && o.ID != id {
					voters = append(voters, o.ID)
				}
			}
			if err := g.askWhole(ctx, voters, ""); err != nil {
				return nil, err
			}
		}
		return func(r *raft.Raft) raft.IndexFuture {
			return r.RemoveServer(raft.ServerID(id), index, g.cfg.RPCTimeout)
		}, nil
	})
}

type raftChange func(*raft.Raft) raft.IndexFuture

// changeMember makes the change that decide returns.
func (g *Group) changeMember(ctx context.Context, index uint64, decide func(Configuration) (raftChange, error)) error {
	if err := g.running(); err != nil {
		return err
	}
	if g.cfg.Network == nil {
		return &MemberError{ID: g.cfg.Node, Reason: "has no network"}
	}
	if err := g.Primary(); err != nil {
		return err
	}
	if !g.changing.TryLock() {
		return &ConfigurationChangedError{Want: index}
	}
	defer g.changing.Unlock()
	c, err := g.Configuration()
	if err != nil {
		return err
	}
	if c.Index != index {
		return &ConfigurationChangedError{Want: index, Have: c.Index}
	}
	change, err := decide(c)
	if err != nil {
		return err
	}
	changed := make(chan error, 1)
	if !g.begin(func() { changed <- change(g.run.raft).Error() }) {
		return ErrStopped
	}
	select {
	case err := <-changed:
		if err != nil && strings.HasPrefix(err.Error(), "configuration changed since") {
			return &ConfigurationChangedError{Want: index} // raft has no type for it
		}
		if err != nil {
			return g.outcome(err)
		}
		return nil
	case <-ctx.Done():
		return &UnknownOutcomeError{Err: ctx.Err()}
	}
}

// begin runs f on a goroutine that Run waits for, unless Run is ending.
func (g *Group) begin(f func()) bool {
	g.proposals.Lock()
	defer g.proposals.Unlock()
	if !g.proposals.open {
		return false
	}
	g.goroutines.Go(f)
	return true
}

// askWhole returns nil if a majority of the voters say that they hold all that
// they applied, among them this node and needed, which must also have applied
// what this node has; needed may be "".
func (g *Group) askWhole(ctx context.Context, voters []NodeID, needed NodeID) error {
	if err := g.mayChange(); err != nil {
		return &MemberError{ID: g.cfg.Node, Reason: "can't allow a change of members now", Err: err}
	}
	applied := g.run.fsm.applied()
	yes, answered := 1, needed == ""
	var others []NodeID
	for _, id := range voters {
		if id != g.cfg.Node {
			others = append(others, id)
		}
	}
	// A node that is not needed may be behind in a group under load: it holds what it applied.
	replies := make(chan reply, len(others))
	for _, id := range others {
		ask := frame{kind: kindWhole, group: g.cfg.Group, term: g.run.raft.CurrentTerm(), round: g.asked.Add(1)}
		if id == needed {
			ask.index = applied
		}
		g.run.askers.ask(id, question{ask: ask, answer: func(a frame, err error) { replies <- reply{id, a, err} }})
	}
	for left := len(others); left > 0 && !(answered && yes > len(voters)/2); left-- {
		select {
		case a := <-replies:
			switch {
			case a.err == nil && a.answer.code == codeOK:
				yes++
				answered = answered || a.from == needed
			case a.from == needed && a.err != nil:
				return &MemberError{ID: needed, Reason: "can't be asked", Err: a.err}
			case a.from == needed && a.answer.code == codeBehind:
				return &MemberError{ID: needed, Reason: fmt.Sprintf("is at entry %d, the primary at %d", a.answer.index, applied)}
			case a.err == nil:
				return &MemberError{ID: a.from, Reason: "does not hold all of its state"}
			}
		case <-ctx.Done():
			return errors.Join(ErrUnconfirmed, ctx.Err())
		}
	}
	if !answered || yes <= len(voters)/2 {
		return ErrUnconfirmed
	}
	return nil
}
