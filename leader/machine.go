package leader

import "io"

// Machine is the state that a group's log makes.
type Machine interface {
	// Apply is called for each committed entry that was proposed, in the order
	// of the log, from one goroutine. It must be quick, and must depend on
	// nothing but the entries before: every node gets to the same answer. What
	// it returns is the answer to who proposed the entry here. The bytes stay
	// valid and unchanged.
	Apply(index, term uint64, entry []byte) any
	// Snapshot captures the state after the last entry applied. It is called
	// between two calls of Apply and must be quick. An error means: not now.
	Snapshot() (SnapshotWriter, error)
	// Restore replaces the state by what Persist wrote, here or on another
	// node. It must be quick, and may come again with the same snapshot. It is
	// called at the start of Run if there is a snapshot, and when this node is
	// too far behind for the log.
	Restore(r io.Reader) error
}

// SnapshotWriter is a captured state.
type SnapshotWriter interface {
	// Persist makes durable what the state needs and writes what Restore reads.
	// It may take long; Apply goes on meanwhile. When it returns nil, the log up
	// to the snapshot may be deleted.
	Persist(w io.Writer) error
	// Release is called once, after Persist or instead of it.
	Release()
}
