package leader_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/nearsql/nearsql/leader"
)

// list is a Machine that remembers what it was given.
type list struct {
	mu struct {
		sync.Mutex
		entries  []string
		indexes  []uint64
		terms    []uint64
		restored int
		refuse   error // of the next snapshots
	}
}

func (l *list) Apply(index, term uint64, entry []byte) any {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.mu.indexes); n > 0 && l.mu.indexes[n-1] >= index {
		panic(fmt.Sprintf("entry %d after %d", index, l.mu.indexes[n-1]))
	}
	l.mu.entries = append(l.mu.entries, string(entry))
	l.mu.indexes = append(l.mu.indexes, index)
	l.mu.terms = append(l.mu.terms, term)
	return index
}

func (l *list) Snapshot() (leader.SnapshotWriter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.refuse != nil {
		return nil, l.mu.refuse
	}
	return captured{slices.Clone(l.mu.entries), slices.Clone(l.mu.indexes)}, nil
}

type captured struct {
	entries []string
	indexes []uint64
}

func (c captured) Release() {}

func (c captured) Persist(w io.Writer) error {
	for i, e := range c.entries {
		b := binary.LittleEndian.AppendUint64(nil, c.indexes[i])
		b = binary.LittleEndian.AppendUint32(b, uint32(len(e)))
		if _, err := w.Write(append(b, e...)); err != nil {
			return err
		}
	}
	return nil
}

func (l *list) Restore(r io.Reader) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.entries, l.mu.indexes, l.mu.terms = nil, nil, nil
	l.mu.restored++
	for {
		var h [12]byte
		if _, err := io.ReadFull(r, h[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		e := make([]byte, binary.LittleEndian.Uint32(h[8:]))
		if _, err := io.ReadFull(r, e); err != nil {
			return err
		}
		l.mu.entries = append(l.mu.entries, string(e))
		l.mu.indexes = append(l.mu.indexes, binary.LittleEndian.Uint64(h[:]))
	}
}

func (l *list) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.mu.entries)
}

func (l *list) index(i int) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.indexes[i]
}
