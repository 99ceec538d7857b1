package replica

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/nearsql/nearsql/wire/stream"
)

// write sends what there is to send.
func (l *link) write(ctx context.Context, conn net.Conn) error {
	t := &l.f.cfg.Timing
	w := stream.NewWriter(conn)
	deadline := func() { _ = conn.SetWriteDeadline(time.Now().Add(t.Dead)) }
	deadline()
	hello := stream.Hello{Version: stream.Version, Window: uint32(l.f.cfg.Window), Heartbeat: uint32(t.Heartbeat / time.Millisecond)}
	if err := w.Write(hello); err != nil {
		return err
	}
	beat := time.NewTicker(t.Heartbeat)
	defer beat.Stop()
	probe := time.NewTimer(t.Probe)
	defer probe.Stop()
	idle := time.Now()
	for {
		frames, fresh, used, look := l.takeOut()
		if look {
			probe.Reset(l.probe())
		}
		if used {
			idle = time.Now()
		} else if time.Since(idle) > linkIdle && l.closeIfIdle() {
			return errIdle
		}
		deadline()
		for _, f := range frames {
			if err := w.Write(f); err != nil {
				return err
			}
			if f.Type() == stream.TypeError {
				return errors.Join(w.Flush(), errSaid)
			}
		}
		for _, slot := range fresh {
			if err := l.subscribe(w, slot); err != nil {
				return err
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-l.wake:
		case <-beat.C:
			if err := w.Write(stream.Heartbeat{}); err != nil {
				return err
			}
		case <-probe.C:
			probe.Reset(l.probe())
		}
	}
}

// closeIfIdle lets nobody come any more, if nobody is there.
func (l *link) closeIfIdle() bool {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	if len(l.slots) > 0 || len(l.asked) > 0 {
		return false
	}
	if l.f.mu.links[l.node] == l {
		delete(l.f.mu.links, l.node)
	}
	return true
}

// lookLocked has the writer look at who is asked for what.
func (l *link) lookLocked() {
	l.look = true
	kick(l.wake)
}

// takeOut takes what is to be sent.
func (l *link) takeOut() (frames []stream.Frame, fresh []stream.Slot, used, look bool) {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	frames, fresh = l.out, l.fresh
	look = l.look
	l.out, l.fresh, l.look = nil, nil, false
	if l.taken > int64(l.f.cfg.Window)/4 {
		frames = append(frames, stream.Credit{Bytes: uint32(l.taken)})
		l.window += l.taken
		l.taken = 0
	}
	return frames, fresh, len(l.slots) > 0 || len(l.asked) > 0, look
}

// subscribe asks for a tenant from where its copy is.
func (l *link) subscribe(w *stream.Writer, slot stream.Slot) error {
	f := l.f
	f.mu.Lock()
	s := l.slots[slot]
	if s == nil {
		f.mu.Unlock()
		return nil
	}
	t := s.t
	if t.busy {
		// While the Sink is at work on an entry, nobody knows where the copy is. That is so only while there is a feeder: another time.
		f.stayLocked(t, false)
		f.scheduleLocked(t, time.Now().Add(jitter(f.cfg.Timing.Settle)))
		f.mu.Unlock()
		return nil
	}
	head := f.headLocked(t)
	if l.slots[slot] == s && s == t.next && (head.Epoch == 0 || head.Group != t.group) {
		f.refusedLocked(t, false) // there is no copy now that entries can follow
	}
	if l.slots[slot] != s {
		f.mu.Unlock()
		return nil
	}
	if t.group == 0 {
		f.setGroupLocked(t, head.Group)
	}
	out := stream.Subscribe{Slot: slot, Tenant: t.id, Group: t.group, Policy: max(t.policy, head.Policy), Hops: s.bound}
	switch {
	case head.Epoch == 0 || head.Group != t.group:
		t.known, t.last = 0, 0 // an index of another group's log says nothing
	case !t.anew:
		t.known, t.last = max(t.known, head.Index), head.Index
	}
	if !t.anew && head.Epoch != 0 {
		out.Head = head.Head
		out.Head.Index = t.known
	}
	s.asked, s.at, s.ahead = true, out.Head, nil
	if s == t.next && len(t.cur.ahead) == 0 {
		t.cur.asked, t.cur.at = true, out.Head
	}
	f.mu.Unlock()
	return w.Write(out)
}
