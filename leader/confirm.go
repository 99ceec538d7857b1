package leader

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// answerQuestions answers other nodes until the listener is closed.
func (g *Group) answerQuestions(ctx context.Context, listener net.Listener) {
	var conns sync.WaitGroup
	defer conns.Wait()
	for ctx.Err() == nil {
		c, err := listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		if c, err = g.run.links.add(c); err != nil {
			continue
		}
		conns.Go(func() { g.answerOver(ctx, c) })
	}
}

// answerOver answers what comes over one connection until that is closed.
func (g *Group) answerOver(ctx context.Context, c net.Conn) {
	defer c.Close()
	for {
		ask, err := readFrame(c)
		if err != nil || ask.group != g.cfg.Group {
			return
		}
		a, ok := g.answer(ctx, ask)
		if !ok || c.SetWriteDeadline(time.Now().Add(g.cfg.RPCTimeout)) != nil {
			return
		}
		if _, err := c.Write(a.encode()); err != nil {
			return
		}
	}
}

// answer is what this node says to a question; not ok for one that it doesn't know.
func (g *Group) answer(ctx context.Context, ask frame) (a frame, ok bool) {
	r := g.run.raft
	a = frame{kind: ask.kind, group: ask.group, round: ask.round}
	switch ask.kind {
	case kindConfirm:
		// The question is here, and now the term is read. raft raises it, durably,
		// before it votes for another primary.
		a.term = r.CurrentTerm()
		if !isVoter(r.GetConfiguration().Configuration(), g.cfg.Node) {
			a.code = codeNotVoter
		}
	case kindReadIndex:
		ctx, cancel := context.WithTimeout(ctx, g.cfg.HeartbeatTimeout)
		defer cancel()
		index, err := g.ReadIndex(ctx)
		a.term, a.index = r.CurrentTerm(), index
		switch {
		case errors.As(err, new(*NotPrimaryError)):
			a.code = codeNotPrimary
		case err != nil:
			a.code = codeUnconfirmed
		default:
			wake(g.run.hints.asked) // it waits until it has applied the index
		}
	case kindWhole:
		ctx, cancel := context.WithTimeout(ctx, g.cfg.HeartbeatTimeout/2)
		defer cancel()
		a.term = r.CurrentTerm()
		switch {
		case g.run.fsm.wait(ctx, ask.index, g.stopped) != nil:
			a.code = codeBehind
		case g.mayChange() != nil:
			a.code = codeNotWhole
		}
		a.index = g.run.fsm.applied()
	default:
		return frame{}, false
	}
	return a, true
}

func (g *Group) mayChange() error {
	if g.cfg.MayChange == nil {
		return nil
	}
	return g.cfg.MayChange()
}

func isVoter(conf raft.Configuration, id NodeID) bool {
	for _, s := range conf.Servers {
		if s.ID == raft.ServerID(id) {
			return s.Suffrage == raft.Voter
		}
	}
	return false
}

// reply is what became of a question to a node.
type reply struct {
	from   NodeID
	answer frame
	err    error
}

// askAll asks several nodes, and returns a channel that holds all replies.
func askAll(p *peers, nodes []NodeID, ask frame) <-chan reply {
	replies := make(chan reply, len(nodes))
	for _, id := range nodes {
		p.ask(id, question{ask: ask, answer: func(a frame, err error) { replies <- reply{id, a, err} }})
	}
	return replies
}

// confirmRound is a round of ReadIndex on the primary. DESIGN.md says why its
// answer holds.
func (g *Group) confirmRound(ctx context.Context) (uint64, error) {
	leadership, changed := g.Leadership()
	if !leadership.Primary {
		return 0, &NotPrimaryError{Primary: g.otherPrimary()}
	}
	r := g.run.raft
	commit := g.committed()
	conf := r.GetConfiguration().Configuration()
	var others []NodeID
	members := make(map[NodeID]bool)
	voters, yes := 0, 0
	for _, s := range conf.Servers {
		members[NodeID(s.ID)] = true
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if NodeID(s.ID) == g.cfg.Node {
			yes++ // verified below
			continue
		}
		others = append(others, NodeID(s.ID))
	}
	g.run.confirmers.keep(members)
	ctx, cancel := context.WithTimeout(ctx, g.cfg.HeartbeatTimeout)
	defer cancel()
	replies := askAll(g.run.confirmers, others, frame{kind: kindConfirm, group: g.cfg.Group, term: leadership.Term, round: g.asked.Add(1)})
	for left := len(others); yes <= voters/2; {
		if yes+left <= voters/2 {
			return 0, ErrUnconfirmed
		}
		select {
		case a := <-replies:
			left--
			switch {
			case a.err != nil || a.answer.code != codeOK:
			case a.answer.term > leadership.Term:
				return 0, &NotPrimaryError{Primary: g.otherPrimary()}
			case a.answer.term == leadership.Term:
				yes++
			}
		case <-changed:
			now, c := g.Leadership()
			if !now.Primary || now.Term != leadership.Term {
				return 0, &NotPrimaryError{Primary: g.otherPrimary()}
			}
			changed = c
		case <-ctx.Done():
			return 0, ErrUnconfirmed
		}
	}
	if r.State() != raft.Leader || r.CurrentTerm() != leadership.Term || g.run.store.Err() != nil {
		return 0, &NotPrimaryError{Primary: g.otherPrimary()}
	}
	return g.lastCommand(commit)
}

// remoteRound is a round of ReadIndexAt on a node that is not the primary.
func (g *Group) remoteRound(ctx context.Context) (uint64, error) {
	primary := g.otherPrimary()
	if primary == "" {
		return 0, &NotPrimaryError{}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*g.cfg.HeartbeatTimeout)
	defer cancel()
	replies := askAll(g.run.askers, []NodeID{primary}, frame{kind: kindReadIndex, group: g.cfg.Group, term: g.run.raft.CurrentTerm(), round: g.asked.Add(1)})
	select {
	case a := <-replies:
		switch {
		case a.err != nil:
			return 0, errors.Join(ErrUnconfirmed, a.err)
		case a.answer.code == codeOK:
			return a.answer.index, nil
		case a.answer.code == codeNotPrimary:
			return 0, &NotPrimaryError{}
		}
		return 0, ErrUnconfirmed
	case <-ctx.Done():
		return 0, ErrUnconfirmed
	}
}
