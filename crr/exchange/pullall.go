package exchange

import (
	"context"
	"errors"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/crr/exchange/frame"
	"github.com/nearsql/nearsql/wire"
)

// Unreached is a site that PullAll did not bring everything of.
type Unreached struct {
	Peer
	Why string // for people
}

// asked is a site that PullAll waits for.
type asked struct {
	*peer
	link *link      // that it was asked over; nil: not yet
	want crr.Vector // what it had then; nil: no answer yet
	why  string
	q    *pull
}

// PullAll brings here all that all other sites had committed when the call began. It returns those of which it could not, with
// Timing.Ask and ctx as limits: a read that asks for all sites fails with UNREACHABLE, and their names. The error is of this node: the tenant is
// not here, or it is stopping.
func (x *Exchange) PullAll(ctx context.Context, id wire.TenantID) ([]Unreached, error) {
	limit, cancel := context.WithTimeout(ctx, x.cfg.Timing.Ask)
	defer cancel()
	x.mu.Lock()
	t := x.mu.tenants[id]
	if t == nil {
		x.mu.Unlock()
		return nil, errors.New("exchange: the node is no site of tenant " + id.String())
	}
	var wait []*asked
	for _, p := range t.peers {
		if p.Site != 0 {
			wait = append(wait, &asked{peer: p, why: "there is no connection to it"})
		}
	}
	began := time.Now()
	for {
		open := 0
		for _, a := range wait {
			if !x.askLocked(t, a) {
				open++
			}
		}
		changed, ended := t.changed, x.mu.ended
		x.mu.Unlock()
		if ended {
			return nil, errEnded
		}
		if open == 0 {
			break
		}
		select {
		case <-changed:
			x.mu.Lock()
			continue
		case <-limit.Done():
		}
		break
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []Unreached
	for _, a := range wait {
		if a.q != nil {
			delete(a.q.l.pulls, a.q.id)
		}
		if x.reachedLocked(t, a) {
			a.fresh = later(a.fresh, began)
			continue
		}
		if a.want != nil && a.held != nil {
			a.why = "its clock is ahead, and what it wrote is held back until then"
		}
		out = append(out, Unreached{Peer: a.Peer, Why: a.why})
	}
	return out, nil
}

// reachedLocked says whether all that a site had is here.
func (x *Exchange) reachedLocked(t *tenant, a *asked) bool {
	return a.want != nil && t.known && t.head.Vector.Covers(a.want)
}

// askLocked asks a site what it has, once over each connection, and says whether that is here.
func (x *Exchange) askLocked(t *tenant, a *asked) bool {
	if x.reachedLocked(t, a) {
		return true
	}
	l := x.linkLocked(a.Node)
	if a.want != nil || l == nil || l == a.link {
		return false
	}
	a.link, a.why = l, "it did not answer"
	q := newPull(frame.Vector, t, a.peer, l)
	a.q = q
	q.told = func(f *frame.Answered, err error) {
		switch {
		case err != nil:
			a.why = err.Error()
		case f.Code != frame.Done:
			a.why = answerError(f).Error()
		default:
			a.want, a.why = f.Vector, "what it has did not come in time"
			if t.known && !t.head.Vector.Covers(f.Vector) {
				a.notBefore = time.Time{}
			}
		}
		t.needHead = t.needHead || !t.known
		t.announce()
		x.touchLocked(t)
	}
	q.sendLocked(nil)
	return false
}
