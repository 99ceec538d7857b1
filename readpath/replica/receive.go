package replica

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/nearsql/nearsql/wire/stream"
)

// read takes what the feeder sends. What is not data of a tenant is dealt with at once, however much waits to be applied.
func (l *link) read(ctx context.Context, conn net.Conn) error {
	r := stream.NewReader(conn)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(l.f.cfg.Timing.Dead))
		f, err := r.Next()
		if err != nil {
			return fmt.Errorf("feeder %s: %w", l.node, err)
		}
		switch f := f.(type) {
		case stream.Hello, stream.Heartbeat:
			continue
		case stream.Error:
			return fmt.Errorf("feeder %s ended the stream: %v: %q", l.node, f.Code, f.Text)
		case stream.Probed:
			if err := l.answered(f); err != nil {
				return err
			}
			continue
		case stream.Heads:
			l.heads(f)
			continue
		case stream.Txn:
			err = l.spend(len(f.Entry))
		case stream.LTX:
			err = l.spend(len(f.Data))
		case stream.Snapshot:
			err = l.spend(len(f.Data))
		case stream.Enter, stream.Joined, stream.Through, stream.Left, stream.Gone:
		default:
			return l.refuse(nil, "a feeder has no %q to send", f.Type())
		}
		if err != nil {
			return err
		}
		select {
		case l.inbox <- f:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (l *link) refuse(s *sub, format string, args ...any) error {
	e := &RefusedError{Feeder: l.node, Reason: fmt.Sprintf(format, args...)}
	if s != nil {
		e.Tenant = s.t.id
	}
	return e
}

// spend counts data against the window.
func (l *link) spend(n int) error {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	l.window -= int64(n)
	if l.window < 0 {
		return l.refuse(nil, "it sent %d bytes more than it may", -l.window)
	}
	return nil
}

// done gives bytes of the window back.
func (l *link) done(n int) {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	l.doneLocked(n)
}

func (l *link) doneLocked(n int) {
	if l.taken += int64(n); l.taken > int64(l.f.cfg.Window)/4 {
		kick(l.wake)
	}
}

func (l *link) heads(f stream.Heads) {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	for _, h := range f.Heads {
		if lane := l.lanes[h.Lane]; lane != nil {
			lane.head = h.Index
		}
	}
}

// apply deals with what came, in the order in which it came.
func (l *link) apply(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case f := <-l.inbox:
			if err := l.applyFrame(ctx, f); err != nil {
				return err
			}
		}
	}
}

func (l *link) applyFrame(ctx context.Context, f stream.Frame) error {
	switch f := f.(type) {
	case stream.Enter:
		return l.enter(f)
	case stream.Txn:
		defer l.done(len(f.Entry))
		return l.txn(ctx, f)
	case stream.LTX:
		return l.chunk(ctx, f.Slot, piece{ltx: true, min: f.Min, max: f.Max, flags: f.Chunk, data: f.Data})
	case stream.Snapshot:
		return l.chunk(ctx, f.Slot, piece{flags: f.Chunk, data: f.Data})
	case stream.Joined:
		return l.joined(f)
	case stream.Through:
		return l.through(f)
	case stream.Left:
		return l.left(f)
	case stream.Gone:
		l.gone(f)
	}
	return nil
}
