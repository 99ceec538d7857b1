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

// probe asks for the index of each group that it is time for. Of a group it is asked once, by whichever link to a voter comes first; a relay is
// asked only while no voter answers.
func (l *link) probe() {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	now := time.Now()
	under := make(map[wire.GroupID]int)
	for id, a := range l.asks {
		if now.Sub(a.since) > 2*l.f.cfg.Timing.Answer {
			a.answer(0, ErrUnconfirmed)
			delete(l.asks, id)
			continue
		}
		under[a.group]++
	}
	every := l.f.cfg.Timing.Probe
	ask := func(group wire.GroupID, patience time.Duration) {
		if under[group] < asksPerGroup && now.Sub(l.f.groupLocked(group).confirmed) >= patience {
			under[group] = asksPerGroup // one is enough for all lanes of a group
			l.askLocked(group, nil)
		}
	}
	for group := range l.asked {
		ask(group, every*9/10)
	}
	for _, lane := range l.lanes {
		switch {
		case len(lane.tenants) == 0:
		case lane.hops == 0:
			ask(lane.group, every*9/10)
		case l.f.groupLocked(lane.group).asker != nil:
			ask(lane.group, 2*every) // the voter does not answer
		default:
			ask(lane.group, every*9/10)
		}
	}
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
	pairs := l.f.groupLocked(group).pairs
	l.asks[l.nextAsk] = &ask{group: group, pairs: pairs, asked: pairs.Ask(), since: time.Now(), done: done}
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
