package pagestore

import (
	"fmt"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// tenantGate is the Gate of a tenant's writer: it lets commits through to the log.
type tenantGate struct{ t *Tenant }

// Writable implements Gate.
func (g tenantGate) Writable() error {
	t := g.t
	l := t.g.log()
	if l == nil {
		return ErrNotPrimary
	}
	if err := l.Primary(); err != nil {
		return fmt.Errorf("%w: %w", ErrNotPrimary, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.failed != nil {
		return t.mu.failed
	}
	if t.mu.rec.State != tenant.StateActive {
		return fmt.Errorf("tenant %s is %s: %w", t.id, t.mu.rec.State, ErrNotPrimary)
	}
	if len(t.mu.queue) > 0 || t.mu.busy {
		return fmt.Errorf("the copy is still catching up with the log: %w", ErrOverloaded)
	}
	return nil
}

// Admit implements Gate.
func (g tenantGate) Admit(bytes int) error {
	t := g.t
	if w := t.waiting.Load(); w > 0 && w+int64(bytes) > t.g.cfg.QueueBytes {
		return fmt.Errorf("%d bytes of this tenant wait for the log: %w", w, ErrOverloaded)
	}
	if w := t.g.queued.load(); w > 0 && w+int64(bytes) > t.g.cfg.GroupQueueBytes {
		return fmt.Errorf("%d bytes of the group wait for the log: %w", w, ErrOverloaded)
	}
	if u := t.g.cfg.Budget; u.Used() > u.Hard {
		t.g.kickCheckpoint()
		return fmt.Errorf("page versions take %d bytes of memory: %w", u.Used(), ErrOverloaded)
	}
	g.Withdraw() // of a connection that was lost in between
	room := diskRoom(bytes)
	if err := t.g.cfg.Space.Reserve(room); err != nil {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	t.admitted.Store(room)
	return nil
}

// diskRoom is what the entries of a commit take of the disk until the next checkpoint: in the log, and parts beside it.
func diskRoom(bytes int) int64 { return 2 * int64(bytes) }

// Withdraw implements Gate.
func (g tenantGate) Withdraw() { g.t.g.cfg.Space.Release(g.t.admitted.Swap(0)) }

// Header implements Gate.
func (g tenantGate) Header() txn.Header {
	t := g.t
	t.mu.Lock()
	rec := &t.mu.rec
	h := txn.Header{Tenant: t.id, Epoch: rec.Epoch, Group: t.g.cfg.ID, Policy: rec.Policy, PageSize: rec.PageSize}
	t.mu.Unlock()
	h.TimeUnixMilli = uint64(t.g.cfg.Now().UnixMilli())
	return h
}

// Propose implements Gate.
func (g tenantGate) Propose(c *Commit) {
	t := g.t
	t.waiting.Add(int64(c.Bytes))
	t.g.queued.add(int64(c.Bytes))
	room := t.admitted.Swap(0)
	l := t.g.log()
	last := len(c.Entries) - 1
	for _, e := range c.Entries[:last] {
		l.Propose(e, func(any, error) {}) // its fate is told by that of the last
	}
	l.Propose(c.Entries[last], func(resp any, err error) {
		t.waiting.Add(-int64(c.Bytes))
		t.g.queued.add(-int64(c.Bytes))
		t.g.cfg.Space.Release(room)
		if err == nil {
			if e, ok := resp.(error); ok {
				err = &RefusedError{Reason: e}
			}
		}
		s := t.openStore()
		switch {
		case s == nil: // closed: nobody reads it now
		case err != nil:
			// All that was speculated on this commit goes with it.
			s.dropSpeculation()
		case wire.TXID(s.committedTX.Load()) < c.Next.TXID:
			// The speculation had been dropped before, and a builder makes it visible.
			go func() { c.finish(s.wait(nil, c.Next.TXID)) }()
			return
		}
		c.finish(err)
	})
}

// RefusedError says that the log holds the entry, and that every copy refused it: it was
// surely not applied.
type RefusedError struct{ Reason error }

func (e *RefusedError) Error() string { return "refused by the log: " + e.Reason.Error() }

// Unwrap returns the reason.
func (e *RefusedError) Unwrap() error { return e.Reason }
