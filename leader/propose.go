package leader

import (
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// proposal is an entry on its way to the log.
type proposal struct {
	entry    []byte
	done     func(response any, err error)
	future   raft.ApplyFuture // set when raft was given the entry
	answered atomic.Bool
}

// Propose appends an entry to the log, after all entries that were proposed
// before, and returns at once. done is called once, from another goroutine,
// with what Machine.Apply returned, or with an error:
//
//   - NotPrimaryError, OverloadedError, EntryTooLargeError: the entry is surely
//     not in the log;
//   - UnknownOutcomeError: it may be.
//
// Entries that came to raft are answered in the order of the log, by one
// goroutine, which done must not hold up; refusals come at once, before them.
// entry must not be changed any more.
func (g *Group) Propose(entry []byte, done func(response any, err error)) {
	p := &proposal{entry: entry, done: done}
	if err := g.submit(p); err != nil {
		g.refuse(p, err)
	}
}

// submit takes a proposal, or says why not.
func (g *Group) submit(p *proposal) error {
	size := int64(len(p.entry))
	if size > EntryMax {
		return &EntryTooLargeError{Size: len(p.entry)}
	}
	g.proposals.Lock()
	defer g.proposals.Unlock()
	q := &g.proposals
	if !q.open {
		return &NotPrimaryError{}
	}
	if err := g.Primary(); err != nil {
		return err
	}
	if q.count >= g.cfg.QueueEntries || q.count > 0 && q.bytes+size > g.cfg.QueueBytes {
		return &OverloadedError{Entries: q.count, Bytes: q.bytes}
	}
	q.count++
	q.bytes += size
	if len(q.waiting) == 0 && !q.handing && q.count <= g.run.window {
		// raft's channel has room for it: no need to wake another goroutine.
		g.handOver(p)
		return nil
	}
	q.waiting = append(q.waiting, p)
	wake(g.run.waiting)
	return nil
}

// handOver gives an entry to raft. It waits only if raft's channel is full.
func (g *Group) handOver(p *proposal) {
	p.future = g.run.raft.ApplyLog(raft.Log{Data: p.entry}, 0)
	g.run.underway <- p // has room for all that may be counted
}

// handOverWaiting gives raft what does not fit its channel at once, until stop
// is closed.
func (g *Group) handOverWaiting(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-g.run.waiting:
		}
		for {
			g.proposals.Lock()
			batch := g.proposals.waiting
			g.proposals.waiting = nil
			g.proposals.handing = len(batch) > 0
			g.proposals.Unlock()
			if len(batch) == 0 {
				break
			}
			for i, p := range batch {
				select {
				case <-stop:
					for _, p := range batch[i:] {
						g.finish(p, nil, &NotPrimaryError{})
					}
					return
				default:
				}
				g.handOver(p)
			}
		}
	}
}

// answerUnderway answers, in order, what raft was given, until the channel is
// closed.
func (g *Group) answerUnderway() {
	for p := range g.run.underway {
		g.run.answering.Store(p)
		if err := p.future.Error(); err != nil {
			g.finish(p, nil, g.outcome(err))
			continue
		}
		response := p.future.Response()
		if _, ok := response.(gone); ok {
			g.finish(p, nil, &UnknownOutcomeError{Err: errGone})
			continue
		}
		g.finish(p, response, nil)
	}
}

// finish answers a proposal that was counted.
func (g *Group) finish(p *proposal, response any, err error) {
	if p.answered.Swap(true) {
		return
	}
	g.proposals.Lock()
	g.proposals.count--
	g.proposals.bytes -= int64(len(p.entry))
	last := g.proposals.count == 0
	g.proposals.Unlock()
	p.done(response, err)
	if last && g.run.hints != nil {
		wake(g.run.hints.wake)
	}
}

// refusal is a proposal that was not taken.
type refusal struct {
	proposal *proposal
	err      error
}

// refuse answers a proposal that was not taken, from another goroutine.
func (g *Group) refuse(p *proposal, err error) {
	g.refusals.Lock()
	defer g.refusals.Unlock()
	if !g.refusals.answered {
		go p.done(nil, err) // the group does not run
		return
	}
	// As many may wait as callers called: each of them holds more than this.
	g.refusals.waiting = append(g.refusals.waiting, refusal{p, err})
	wake(g.refusals.wake)
}

// answerRefusals answers until stop is closed and nothing waits.
func (g *Group) answerRefusals(stop <-chan struct{}) {
	stopped := false
	for {
		g.refusals.Lock()
		batch := g.refusals.waiting
		g.refusals.waiting = nil
		if len(batch) == 0 && stopped {
			g.refusals.answered = false
			g.refusals.Unlock()
			return
		}
		g.refusals.Unlock()
		for _, r := range batch {
			r.proposal.done(nil, r.err)
		}
		if stopped {
			continue
		}
		select {
		case <-g.refusals.wake:
		case <-stop:
			stopped = true
		}
	}
}

// wake tells who reads the channel, which holds one, to look again.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
