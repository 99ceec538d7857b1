package leader

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// LogBytes returns how many bytes of entries came to the log since the last
// snapshot was begun: what a restart would replay.
func (g *Group) LogBytes() uint64 {
	if g.running() != nil {
		return 0
	}
	return g.logBytes()
}

func (g *Group) logBytes() uint64 {
	captured := g.run.fsm.captured.Load()
	if captured > 0 {
		captured--
	}
	return g.run.fsm.seen() - captured
}

// Snapshot makes a snapshot now, by Machine.Snapshot and Persist, and deletes
// the log before it, but for about Config.TrailingBytes. It returns when the
// snapshot is durable. If nothing was applied since the last one it does nothing.
func (g *Group) Snapshot() error {
	if err := g.running(); err != nil {
		return err
	}
	g.snapshotting.Lock()
	defer g.snapshotting.Unlock()
	r := g.run.raft
	if err := g.setTrailing(r); err != nil {
		return fmt.Errorf("snapshot of group %d: %w", g.cfg.Group, err)
	}
	err := r.Snapshot().Error()
	if failure := g.run.store.Err(); failure != nil {
		return &LogError{Group: g.cfg.Group, Err: failure}
	}
	switch {
	case errors.Is(err, raft.ErrNothingNewToSnapshot):
		return nil
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrStopped
	case err != nil:
		return fmt.Errorf("snapshot of group %d: %w", g.cfg.Group, err)
	}
	g.run.fsm.captured.Store(g.run.fsm.capturing.Load() + 1)
	return nil
}

// setTrailing makes TrailingBytes a count of entries, as raft wants it, by the
// mean size of those in the log. One entry stays at least: a log without any begins anew in a file of its own, for
// which a full disk has no room, and the log would have failed.
func (g *Group) setTrailing(r *raft.Raft) error {
	trailing := uint64(1)
	if conf := r.GetConfiguration().Configuration(); len(conf.Servers) > 1 {
		first, err := g.run.store.FirstIndex()
		if err != nil {
			return err
		}
		last, err := g.run.store.LastIndex()
		if err != nil {
			return err
		}
		mean := max(g.run.store.Bytes()/max(last-first+1, 1), 1)
		trailing = max(uint64(g.cfg.TrailingBytes)/mean, 1)
	}
	rc := r.ReloadableConfig()
	if rc.TrailingLogs == trailing {
		return nil
	}
	rc.TrailingLogs = trailing
	return r.ReloadConfig(rc)
}
