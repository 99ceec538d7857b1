package replica

import (
	"context"
	"fmt"
	"time"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
)

// ask is a question under way.
type ask struct {
	group wire.GroupID
	pairs *readpath.Pairs // of the group
	asked readpath.Asked
	since time.Time
	done  chan asked // holds one; nil if nobody waits
}

type asked struct {
	index uint64
	err   error
}

// probe asks for the index of each group that it is time for, and says when to look again. Of a group it is asked once, by whichever link to a voter
// comes first; a relay is asked only while no voter answers. Between two questions there is Timing.Probe, whoever asked before: also a read, or a link
// that was the one to ask until now.
func (l *link) probe() time.Duration {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	now, every := time.Now(), l.f.cfg.Timing.Probe
	under := make(map[wire.GroupID]int)
	for id, a := range l.asks {
		if now.Sub(a.since) > 2*l.f.cfg.Timing.Answer {
			a.answer(0, ErrUnconfirmed)
			delete(l.asks, id)
			continue
		}
		under[a.group]++
	}
	next := every
	look := func(group wire.GroupID, relay bool) {
		g := l.f.groupLocked(group)
		due := questionDue(g, l.sent[group], every, relay && (g.asker != nil || g.byVoter))
		if !due.After(now) {
			if due = now.Add(every); under[group] < asksPerGroup {
				l.askLocked(group, nil)
			}
		}
		next = min(next, due.Sub(now))
	}
	for group := range l.asked {
		look(group, false)
	}
	for _, lane := range l.lanes {
		if len(lane.tenants) > 0 {
			look(lane.group, lane.hops > 0)
		}
	}
	return max(next, time.Millisecond)
}

// questionDue is when a link asks for a group's index next. sent is when it has asked last; standIn says that others are asked, and this one only if they don't
// answer. It is pure.
func questionDue(g *groupIn, sent time.Time, every time.Duration, standIn bool) time.Time {
	own := sent.Add(every)
	silent := g.confirmed.Add(2 * every) // who is asked does not answer
	if own.After(silent) {
		silent = own
	}
	if due := g.asked.Add(every); !standIn && due.Before(silent) {
		return due
	}
	return silent
}

// askLocked sends a question. It is noted before it is sent.
func (l *link) askLocked(group wire.GroupID, done chan asked) {
	if !l.connected || len(l.asks) >= asksMax {
		if done != nil {
			done <- asked{0, ErrUnconfirmed}
		}
		return
	}
	l.nextAsk++
	g, now := l.f.groupLocked(group), time.Now()
	g.asked, l.sent[group] = now, now
	l.asks[l.nextAsk] = &ask{group: group, pairs: g.pairs, asked: g.pairs.Ask(), since: now, done: done}
	l.sendLocked(stream.Probe{ID: l.nextAsk, Group: group})
}

func (a *ask) answer(index uint64, err error) {
	if a.done != nil {
		a.done <- asked{index, err}
		a.done = nil
	}
}

// ask sends a question after the call, and waits for its answer. Those who ask at the same time share one.
func (l *link) ask(ctx context.Context, group wire.GroupID) (uint64, error) {
	l.f.mu.Lock()
	if !l.connected {
		l.f.mu.Unlock()
		return 0, ErrUnconfirmed
	}
	r := l.rounds[group]
	if r == nil {
		r = readpath.NewRounds(func(ctx context.Context) (uint64, error) {
			done := make(chan asked, 1)
			l.f.mu.Lock()
			l.askLocked(group, done)
			l.f.mu.Unlock()
			timeout := time.NewTimer(l.f.cfg.Timing.Answer)
			defer timeout.Stop()
			select {
			case a := <-done:
				return a.index, a.err
			case <-timeout.C:
				return 0, ErrUnconfirmed
			}
		})
		l.rounds[group] = r
	}
	l.f.mu.Unlock()
	return r.Join(ctx)
}

// answered notes an answer.
func (l *link) answered(p stream.Probed) error {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	a := l.asks[p.ID]
	if a == nil {
		return nil // it took too long
	}
	if a.group != p.Group {
		return &RefusedError{Feeder: l.node, Reason: fmt.Sprintf("an answer for group %d to a question for group %d", p.Group, a.group)}
	}
	delete(l.asks, p.ID)
	if p.Code != stream.ProbeOK {
		a.answer(0, fmt.Errorf("feeder %s: %v: %w", l.node, p.Code, ErrUnconfirmed))
		return nil
	}
	a.pairs.Confirm(a.asked, p.Index)
	if g := l.f.mu.groups[p.Group]; g != nil && a.since.After(g.confirmed) {
		g.confirmed = a.since
	}
	a.answer(p.Index, nil)
	l.f.announceLocked()
	return nil
}
