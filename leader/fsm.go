package leader

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// snapshotHeader is what precedes the machine's bytes in a snapshot: a version
// and the index of the last command in it. See snapshots/FORMAT.md.
const (
	snapshotHeader  = 9
	snapshotVersion = 1
)

// fsm is a Machine as raft sees it.
type fsm struct {
	machine Machine
	seen    func() uint64 // bytes of entries that were stored, or replayed at the start, so far

	// await returns when an entry that raft calls committed is stored here, or can't be: with this node it has a majority.
	await func(index uint64)

	// failed says whether the log failed: what raft says from then on may rest
	// on what was never stored, or skip what it could not read, and changes nothing.
	failed func() bool

	// capturing is seen() when the last snapshot was begun, captured the same
	// of the last one that was completed or installed, plus 1; 0 before any.
	capturing, captured atomic.Uint64

	// running says that raft runs. Before, a snapshot that can't be restored
	// ends the start: raft would try an older one, and go on without what the log
	// has no more.
	running atomic.Bool

	mu struct {
		sync.Mutex
		applied uint64        // invariant: the index of the last command applied; never falls but by a restore
		changed chan struct{} // closed when applied changes; nil if nobody waits

		unrestored error // why a snapshot could not be restored at the start
	}
}

var _ raft.BatchingFSM = (*fsm)(nil)

// gone is the response to an entry that was not applied since the log failed.
type gone struct{}

// ApplyBatch implements raft.BatchingFSM.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	responses := make([]any, len(logs))
	f.await(logs[len(logs)-1].Index)
	// raft put the batch together before: if it could not read an entry of it,
	// or before it, that shows now.
	failed := f.failed()
	last := uint64(0)
	for i, log := range logs {
		if log.Type != raft.LogCommand {
			continue
		}
		if failed {
			responses[i] = gone{}
			continue
		}
		responses[i] = f.machine.Apply(log.Index, log.Term, log.Data)
		last = log.Index
	}
	if last > 0 {
		f.setApplied(last)
	}
	return responses
}

// Apply implements raft.FSM.
func (f *fsm) Apply(log *raft.Log) any { return f.ApplyBatch([]*raft.Log{log})[0] }

func (f *fsm) setApplied(index uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.applied = index
	if f.mu.changed != nil {
		close(f.mu.changed)
		f.mu.changed = nil
	}
}

// applied returns the index of the last command applied.
func (f *fsm) applied() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.applied
}

// wait returns when the command at index has been applied.
func (f *fsm) wait(ctx context.Context, index uint64, stopped <-chan struct{}) error {
	for {
		f.mu.Lock()
		if f.mu.applied >= index {
			f.mu.Unlock()
			return nil
		}
		if f.mu.changed == nil {
			f.mu.changed = make(chan struct{})
		}
		changed := f.mu.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-stopped:
			return ErrStopped
		}
	}
}

// Snapshot implements raft.FSM.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if f.failed() {
		return nil, ErrStopped
	}
	captured := f.seen()
	w, err := f.machine.Snapshot()
	if err != nil {
		return nil, err
	}
	f.capturing.Store(captured)
	return &snapshot{fsm: f, writer: w, applied: f.applied()}, nil
}

// Restore implements raft.FSM.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	if f.running.Load() {
		return f.restore(r)
	}
	err := f.unrestored()
	if err == nil {
		err = f.restore(r)
		f.mu.Lock()
		f.mu.unrestored = err
		f.mu.Unlock()
	}
	return err
}

// unrestored is why a snapshot could not be restored at the start; nil if none was or all were.
func (f *fsm) unrestored() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.unrestored
}

func (f *fsm) restore(r io.Reader) error {
	if f.failed() {
		return ErrStopped
	}
	var header [snapshotHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return fmt.Errorf("snapshot header: %w", err)
	}
	if header[0] != snapshotVersion {
		return fmt.Errorf("snapshot has version %d, want %d", header[0], snapshotVersion)
	}
	if err := f.machine.Restore(r); err != nil {
		return err
	}
	f.captured.Store(f.seen() + 1)
	f.setApplied(binary.LittleEndian.Uint64(header[1:]))
	return nil
}

// snapshot is a captured state as raft sees it.
type snapshot struct {
	fsm     *fsm
	writer  SnapshotWriter
	applied uint64
}

// Persist implements raft.FSMSnapshot; raft closes the sink.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	var header [snapshotHeader]byte
	header[0] = snapshotVersion
	binary.LittleEndian.PutUint64(header[1:], s.applied)
	if _, err := sink.Write(header[:]); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	if err := s.writer.Persist(sink); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	if s.fsm.failed() {
		return errors.Join(ErrStopped, sink.Cancel())
	}
	return nil
}

// Release implements raft.FSMSnapshot.
func (s *snapshot) Release() { s.writer.Release() }
