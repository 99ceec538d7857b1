package logstore

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/hashicorp/raft-wal/types"

	"github.com/nearsql/nearsql/disk"
)

// metaName is the name of the metadata file.
const metaName = "meta"

// rewriteAfter is the size that the metadata file may gain before it is
// written anew. A record is some 50 bytes plus 72 per segment of the log.
const rewriteAfter = 256 << 10

// metaLimit bounds the metadata file when it is read.
const metaLimit = 64 << 20

// meta is the metadata of a log, and the stable store: a types.MetaStore on
// one file. Every change is one appended and synced record.
type meta struct {
	fs   disk.FS
	name string
	fail func(error) error // notes an error of the file

	mu struct {
		sync.Mutex
		file    disk.File
		state   metaState
		size    int64 // of the file
		base    int64 // of the file when it was last written anew
		scratch []byte
	}
}

// metaState is what the records of a metadata file add up to.
type metaState struct {
	seq    uint64 // of the last record
	key    uint64 // the seed of the checksums of entries; see checksum
	log    types.PersistentState
	stable map[string][]byte
}

func newMeta(fsys disk.FS, dir string, fail func(error) error) *meta {
	return &meta{fs: fsys, name: filepath.Join(dir, metaName), fail: fail}
}

// open reads the file, or makes it, and writes it anew.
func (m *meta) open() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, err := disk.ReadFile(m.fs, "logmeta.open", m.name, metaLimit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		m.mu.state = metaState{key: rand.Uint64(), stable: make(map[string][]byte)}
	case err != nil:
		return err
	default:
		if m.mu.state, err = decodeMeta(data); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return m.rewriteLocked()
}

// rewriteLocked replaces the file by one that holds the state alone.
func (m *meta) rewriteLocked() error {
	if m.mu.file != nil {
		if err := m.mu.file.Close(); err != nil {
			return err
		}
		m.mu.file = nil
	}
	data := m.mu.state.encode()
	if err := disk.WriteFileAtomic(m.fs, "logmeta.rewrite", m.name, data, 0o600); err != nil {
		return err
	}
	f, err := m.fs.OpenFile("logmeta.append", m.name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	m.mu.file, m.mu.size, m.mu.base = f, int64(len(data)), int64(len(data))
	return nil
}

// appendLocked makes one record durable.
func (m *meta) appendLocked(r metaRecord) error {
	if m.mu.file == nil {
		return fs.ErrClosed
	}
	if m.mu.size-m.mu.base > rewriteAfter {
		if err := m.rewriteLocked(); err != nil {
			return err
		}
	}
	m.mu.state.seq++
	r.seq = m.mu.state.seq
	m.mu.scratch = r.appendTo(m.mu.scratch[:0])
	if _, err := m.mu.file.WriteAt(m.mu.scratch, m.mu.size); err != nil {
		return err
	}
	if err := m.mu.file.Sync(); err != nil {
		return err
	}
	m.mu.size += int64(len(m.mu.scratch))
	return nil
}

// Load implements types.MetaStore; open was called before.
func (m *meta) Load(string) (types.PersistentState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return clonePersistent(m.mu.state.log), nil
}

// CommitState implements types.MetaStore.
func (m *meta) CommitState(s types.PersistentState) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.appendLocked(metaRecord{kind: recordLog, log: s}); err != nil {
		return m.fail(fmt.Errorf("store the list of log segments: %w", err))
	}
	m.mu.state.log = clonePersistent(s)
	return nil
}

// GetStable implements types.MetaStore.
func (m *meta) GetStable(key []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.mu.state.stable[string(key)]), nil
}

// SetStable implements types.MetaStore.
func (m *meta) SetStable(key, value []byte) error {
	if len(key) > stableMax || len(value) > stableMax {
		return fmt.Errorf("store %.40q: key of %d or value of %d bytes is more than %d", key, len(key), len(value), stableMax)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.appendLocked(metaRecord{kind: recordStable, key: key, value: value}); err != nil {
		return m.fail(fmt.Errorf("store %q: %w", key, err))
	}
	m.mu.state.setStable(key, value)
	return nil
}

// Close implements types.MetaStore.
func (m *meta) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.file == nil {
		return nil
	}
	err := m.mu.file.Close()
	m.mu.file = nil
	return err
}

// checksumKey is the seed of the checksums of entries.
func (m *meta) checksumKey() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.state.key
}

func (s *metaState) setStable(key, value []byte) {
	if value == nil {
		delete(s.stable, string(key))
		return
	}
	s.stable[string(key)] = slices.Clone(value)
}

// encode returns a file that holds the state alone.
func (s *metaState) encode() []byte {
	b := appendMetaHeader(nil, s.key)
	b = metaRecord{kind: recordLog, seq: s.seq, log: s.log}.appendTo(b)
	for _, key := range slices.Sorted(maps.Keys(s.stable)) {
		b = metaRecord{kind: recordStable, seq: s.seq, key: []byte(key), value: s.stable[key]}.appendTo(b)
	}
	return b
}

func clonePersistent(s types.PersistentState) types.PersistentState {
	s.Segments = slices.Clone(s.Segments)
	return s
}
