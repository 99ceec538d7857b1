package exchange

import (
	"errors"

	"github.com/nearsql/nearsql/crr/exchange/frame"
	"github.com/nearsql/nearsql/wire"
)

const (
	// quantum is about how many bytes are taken to be written at a time: what comes meanwhile may be more urgent.
	quantum = 128 << 10
	// controlMax is how many frames without data may wait for an end that does not read.
	controlMax = 8192
)

// outbox is what waits to be sent over a link. All of it is guarded by Exchange.mu.
type outbox struct {
	l       *link
	last    *frame.Error // ends the connection
	control []frame.Frame
	credit  map[uint64]uint32
	heads   map[*tenant]bool // to be told; true: urgent
	pushes  []frame.Push
	pushing map[wire.TenantID]int // how many of them are of a tenant
	bytes   int                   // of pushes
	turns   []*answer             // those that have something to send, in turn
}

func (o *outbox) init(l *link) {
	o.l, o.credit, o.heads = l, make(map[uint64]uint32), make(map[*tenant]bool)
	o.pushing = make(map[wire.TenantID]int)
}

// head has the head of a tenant sent, as it is then.
func (o *outbox) head(t *tenant, urgent bool) {
	o.heads[t] = o.heads[t] || urgent
	kick(o.l.wake)
}

// send has a frame without data sent.
func (o *outbox) send(f frame.Frame) {
	o.control = append(o.control, f)
	kick(o.l.wake)
}

// push has a push sent, unless too much waits already.
func (o *outbox) push(p frame.Push) bool {
	if o.bytes+len(p.Data) > o.l.x.cfg.PushBytes {
		return false
	}
	o.pushes = append(o.pushes, p)
	o.pushing[p.Tenant]++
	o.bytes += len(p.Data)
	kick(o.l.wake)
	return true
}

var errNotRead = errors.New("exchange: the other end does not read")

// take takes what is to be written next; beat: a heartbeat is due.
func (l *link) take(beat bool) ([]frame.Frame, error) {
	x := l.x
	x.mu.Lock()
	defer x.mu.Unlock()
	o := &l.out
	if o.last != nil {
		return []frame.Frame{*o.last}, nil
	}
	if len(o.control) > controlMax {
		return nil, errNotRead
	}
	var out []frame.Frame
	if beat {
		out = append(out, l.clock.beat(x.cfg.Now()))
	}
	if !l.up {
		return out, nil
	}
	out = append(out, o.control...)
	o.control = nil
	for id, n := range o.credit {
		out = append(out, frame.Credit{ID: id, Bytes: n})
	}
	clear(o.credit)
	out = o.takeHeads(out)
	for size := 0; size < quantum; {
		var n int
		if out, n = o.takeData(out); n == 0 {
			break
		}
		size += n
	}
	return out, nil
}

// takeHeads takes the heads that are known; others are looked up first. None overtakes a push of its tenant, which would be taken for newer.
func (o *outbox) takeHeads(out []frame.Frame) []frame.Frame {
	var lists [2]frame.Heads
	lists[1].Urgent = true
	for t, urgent := range o.heads {
		if o.pushing[t.id] > 0 {
			continue
		}
		delete(o.heads, t)
		if t.gone {
			continue
		}
		if !t.known {
			t.needHead = true // told when it is known
			o.l.x.touchLocked(t)
			continue
		}
		which := &lists[0]
		if urgent {
			which = &lists[1]
		}
		which.Heads = append(which.Heads, frame.Head{Tenant: t.id, Hash: t.head.Hash})
		if len(which.Heads) == frame.MaxHeads {
			out = append(out, *which)
			which.Heads = nil
		}
	}
	for _, l := range lists {
		if len(l.Heads) > 0 {
			out = append(out, l)
		}
	}
	return out
}

// takeData takes a push, and a part of the answer whose turn it is; n is about the bytes.
func (o *outbox) takeData(out []frame.Frame) (_ []frame.Frame, n int) {
	if len(o.pushes) > 0 {
		p := o.pushes[0]
		o.pushes[0] = frame.Push{}
		o.pushes = o.pushes[1:]
		o.bytes -= len(p.Data)
		if o.pushing[p.Tenant]--; o.pushing[p.Tenant] == 0 {
			delete(o.pushing, p.Tenant)
		}
		out = append(out, p)
		n += len(p.Data)
	}
	for range len(o.turns) {
		a := o.turns[0]
		o.turns = append(o.turns[1:], a)
		if f := a.takeLocked(); f != nil {
			return append(out, f), n + frame.MaxData
		}
	}
	return out, n
}
