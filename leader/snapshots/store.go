package snapshots

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/nearsql/nearsql/disk"
)

const suffix = ".snap"

// Config is what a Store needs. Zero numbers mean the defaults.
type Config struct {
	FS     disk.FS
	Dir    string // is made if it is missing; holds nothing else
	Log    *slog.Logger
	Retain int   // how many snapshots are kept; 2
	Limit  int64 // of the bytes of one snapshot; 64 MiB
}

// Store is the snapshots of one group.
type Store struct {
	cfg Config

	mu sync.Mutex // one at a time changes or lists the directory
}

var _ raft.SnapshotStore = (*Store)(nil)

// Open opens the store in a directory and removes what was not completed.
func Open(cfg Config) (*Store, error) {
	if cfg.Retain == 0 {
		cfg.Retain = 2
	}
	if cfg.Limit == 0 {
		cfg.Limit = 64 << 20
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{cfg: cfg}
	if err := s.clean(); err != nil {
		return nil, fmt.Errorf("open snapshots %s: %w", cfg.Dir, err)
	}
	return s, nil
}

func (s *Store) clean() error {
	if err := disk.MkdirAllDurable(s.cfg.FS, "snapshot.mkdir", s.cfg.Dir, 0o700); err != nil {
		return err
	}
	entries, err := s.cfg.FS.ReadDir("snapshot.list", s.cfg.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), disk.TempSuffix) {
			if err := s.cfg.FS.Remove("snapshot.remove", filepath.Join(s.cfg.Dir, e.Name())); err != nil {
				return err
			}
		}
	}
	// A killed process may have renamed a snapshot without making its name durable.
	return s.cfg.FS.SyncDir("snapshot.syncdir", s.cfg.Dir)
}

// Create implements raft.SnapshotStore.
func (s *Store) Create(v raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	meta := raft.SnapshotMeta{
		Version: v, ID: name(term, index), Index: index, Term: term,
		Configuration: conf, ConfigurationIndex: confIndex,
	}
	header, err := appendHeader(nil, &meta)
	if err != nil {
		return nil, err
	}
	return &sink{store: s, meta: meta, header: len(header), data: header}, nil
}

// name sorts as snapshots do.
func name(term, index uint64) string { return fmt.Sprintf("%020d-%020d", index, term) }

// List implements raft.SnapshotStore: the newest first, none that is damaged.
func (s *Store) List() ([]*raft.SnapshotMeta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names, err := s.namesLocked()
	if err != nil {
		return nil, err
	}
	var metas []*raft.SnapshotMeta
	for _, id := range names {
		meta, _, err := s.read(id)
		if err != nil {
			s.cfg.Log.Error("snapshot is not used", "snapshot", id, "error", err)
			continue
		}
		metas = append(metas, &meta)
	}
	return metas, nil
}

// namesLocked returns the ids of all snapshots, the newest first.
func (s *Store) namesLocked() ([]string, error) {
	entries, err := s.cfg.FS.ReadDir("snapshot.list", s.cfg.Dir)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), suffix); ok {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Compare(b, a) })
	return ids, nil
}

// Newest returns the index of the newest snapshot, even if it is damaged; 0 if
// there is none.
func (s *Store) Newest() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names, err := s.namesLocked()
	if err != nil || len(names) == 0 {
		return 0, err
	}
	var index, term uint64
	if _, err := fmt.Sscanf(names[0], "%d-%d", &index, &term); err != nil {
		return 0, fmt.Errorf("%w: file %s%s", ErrCorrupt, names[0], suffix)
	}
	return index, nil
}

// Open implements raft.SnapshotStore.
func (s *Store) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, contents, err := s.read(id)
	if err != nil {
		return nil, nil, err
	}
	return &meta, io.NopCloser(bytes.NewReader(contents)), nil
}

func (s *Store) read(id string) (raft.SnapshotMeta, []byte, error) {
	b, err := disk.ReadFile(s.cfg.FS, "snapshot.open", s.path(id), s.cfg.Limit+maxHeaderSize+4)
	if err != nil {
		return raft.SnapshotMeta{}, nil, fmt.Errorf("snapshot %s: %w", id, err)
	}
	meta, contents, err := decode(b)
	if err == nil && name(meta.Term, meta.Index) != id {
		err = fmt.Errorf("%w: it is snapshot %s", ErrCorrupt, name(meta.Term, meta.Index))
	}
	if err != nil {
		return raft.SnapshotMeta{}, nil, fmt.Errorf("snapshot %s: %w", id, err)
	}
	meta.ID = id
	return meta, contents, nil
}

func (s *Store) path(id string) string { return filepath.Join(s.cfg.Dir, id+suffix) }

// store writes a complete snapshot, and forgets old ones.
func (s *Store) store(id string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := disk.WriteFileAtomic(s.cfg.FS, "snapshot.write", s.path(id), data, 0o600); err != nil {
		return err
	}
	ids, err := s.namesLocked()
	if err != nil {
		return err
	}
	for _, old := range ids[min(s.cfg.Retain, len(ids)):] {
		// Removed for good or not, an old snapshot does no harm.
		if err := s.cfg.FS.Remove("snapshot.remove", s.path(old)); err != nil {
			s.cfg.Log.Warn("old snapshot is not removed", "snapshot", old, "error", err)
		}
	}
	return nil
}

// sink gathers a snapshot in memory: it is small.
type sink struct {
	store  *Store
	meta   raft.SnapshotMeta
	header int // bytes of data that are header
	data   []byte
	err    error
	done   bool
}

// ID implements raft.SnapshotSink.
func (k *sink) ID() string { return k.meta.ID }

// Write implements raft.SnapshotSink.
func (k *sink) Write(p []byte) (int, error) {
	if k.err == nil && int64(len(k.data)-k.header+len(p)) > k.store.cfg.Limit {
		k.err = fmt.Errorf("snapshot %s is larger than the limit of %d bytes", k.meta.ID, k.store.cfg.Limit)
	}
	if k.err != nil {
		return 0, k.err
	}
	k.data = append(k.data, p...)
	return len(p), nil
}

// Close implements raft.SnapshotSink: when it returns nil, the snapshot is durable.
func (k *sink) Close() error {
	if k.done {
		return k.err
	}
	k.done = true
	if k.err != nil {
		return k.err
	}
	binary.LittleEndian.PutUint64(k.data[40:], uint64(len(k.data)-k.header))
	k.data = binary.LittleEndian.AppendUint32(k.data, crc32.Checksum(k.data, castagnoli))
	if err := k.store.store(k.meta.ID, k.data); err != nil {
		k.err = fmt.Errorf("snapshot %s: %w", k.meta.ID, err)
	}
	k.data = nil
	return k.err
}

// Cancel implements raft.SnapshotSink.
func (k *sink) Cancel() error {
	k.done, k.data = true, nil
	return nil
}
