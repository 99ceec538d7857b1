package leadertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/nearsql/nearsql/leader"
)

// State is a list's length and a digest of its entries in their order. Equal
// states are of equal lists.
type State struct {
	Len    int
	Digest uint64
}

// Append returns the state after one more entry.
func (s State) Append(entry string) State {
	h := fnv.New64a()
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], s.Digest)
	_, _ = h.Write(b[:])
	_, _ = h.Write([]byte(entry))
	return State{s.Len + 1, h.Sum64()}
}

// PositionError is a list's answer to an entry that named a position where the list did not end.
type PositionError struct{ Want, Have int }

func (e *PositionError) Error() string {
	return fmt.Sprintf("the list ends at %d, not %d", e.Have, e.Want)
}

// List is a Machine: an entry is a text, which is appended. An entry that
// begins with "@N " is refused where the list does not have N entries, the same on all nodes.
type List struct {
	mu struct {
		sync.Mutex
		entries  []string
		states   []State // invariant: after each of entries
		index    uint64  // of the last entry applied
		restored int
	}
}

var _ leader.Machine = (*List)(nil)

// Apply implements leader.Machine. It returns a State or a PositionError.
func (l *List) Apply(index, _ uint64, entry []byte) any {
	l.mu.Lock()
	defer l.mu.Unlock()
	if index <= l.mu.index {
		panic(fmt.Sprintf("entry %d was applied after %d", index, l.mu.index))
	}
	l.mu.index = index
	text := string(entry)
	if rest, ok := strings.CutPrefix(text, "@"); ok {
		position, _, _ := strings.Cut(rest, " ")
		var want int
		if _, err := fmt.Sscan(position, &want); err != nil || want != len(l.mu.entries) {
			return &PositionError{want, len(l.mu.entries)}
		}
	}
	return l.appendLocked(text)
}

func (l *List) appendLocked(text string) State {
	s := l.stateLocked().Append(text)
	l.mu.entries = append(l.mu.entries, text)
	l.mu.states = append(l.mu.states, s)
	return s
}

func (l *List) stateLocked() State {
	if n := len(l.mu.states); n > 0 {
		return l.mu.states[n-1]
	}
	return State{}
}

// State returns the list's state.
func (l *List) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stateLocked()
}

// Entries returns a copy of the list.
func (l *List) Entries() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.mu.entries)
}

// Restored is how many snapshots were restored.
func (l *List) Restored() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.restored
}

// Snapshot implements leader.Machine.
func (l *List) Snapshot() (leader.SnapshotWriter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &listSnapshot{index: l.mu.index, entries: l.mu.entries[:len(l.mu.entries):len(l.mu.entries)]}, nil
}

type listSnapshot struct {
	index   uint64
	entries []string
}

// Persist implements leader.SnapshotWriter.
func (s *listSnapshot) Persist(w io.Writer) error {
	b := binary.LittleEndian.AppendUint64(nil, s.index)
	for _, e := range s.entries {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(e)))
		b = append(b, e...)
	}
	_, err := w.Write(b)
	return err
}

// Release implements leader.SnapshotWriter.
func (s *listSnapshot) Release() {}

// Restore implements leader.Machine.
func (l *List) Restore(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(b) < 8 {
		return errors.New("snapshot of a list is cut off")
	}
	index := binary.LittleEndian.Uint64(b)
	if index < l.mu.index {
		panic(fmt.Sprintf("a snapshot with entry %d was restored after entry %d was applied", index, l.mu.index))
	}
	l.mu.index, l.mu.entries, l.mu.states = index, nil, nil
	l.mu.restored++
	for b = b[8:]; len(b) > 0; {
		if len(b) < 4 || len(b)-4 < int(binary.LittleEndian.Uint32(b)) {
			return errors.New("snapshot of a list is cut off")
		}
		n := int(binary.LittleEndian.Uint32(b))
		l.appendLocked(string(b[4 : 4+n]))
		b = b[4+n:]
	}
	return nil
}
