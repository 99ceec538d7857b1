package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"github.com/nearsql/nearsql/disk"
)

// payloadMax bounds one stored entry.
const payloadMax = 16 << 20

// DefaultSegmentSize is the size at which a new segment of the log begins.
const DefaultSegmentSize = 16 << 20

// Config is what a Store needs.
type Config struct {
	FS          disk.FS
	Dir         string       // is made if it is missing; holds nothing else
	SegmentSize int          // bytes; 0 means DefaultSegmentSize
	Logger      hclog.Logger // raft-wal's messages; nil for none
}

// Store is the log and the stable store of one Raft group. Its methods may be
// called by several goroutines.
type Store struct {
	dir   string
	meta  *meta
	vfs   *vfs
	filer *filer
	wal   *wal.WAL
	seed  uint32 // of the checksums of entries: the state of the CRC after the log's secret key

	// writing serializes changes of the log: raft appends from one goroutine and
	// deletes from another. Who has put something in it may write. It is a channel because a sync under it may take
	// long: simulated time goes on while somebody waits for a channel, and not for a mutex.
	writing chan struct{}

	running atomic.Bool
	err     atomic.Pointer[error]
	failed  chan struct{} // closed when err is set

	// opened is the last index at opening: up to it, kinds are read from the log.
	opened uint64

	mu struct {
		sync.Mutex
		bytes  uint64   // see Bytes
		others []uint64 // invariant: ascending; indexes above opened of entries that are no commands
	}
}

var (
	_ raft.LogStore          = (*Store)(nil)
	_ raft.MonotonicLogStore = (*Store)(nil)
	_ raft.StableStore       = (*Store)(nil)
)

// Open opens the store in a directory, which no other Store may have open.
func Open(cfg Config) (*Store, error) {
	if cfg.SegmentSize == 0 {
		cfg.SegmentSize = DefaultSegmentSize
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	s := &Store{dir: cfg.Dir, writing: make(chan struct{}, 1), failed: make(chan struct{})}
	s.vfs = newVFS(cfg.FS, s.fail)
	s.meta = newMeta(cfg.FS, cfg.Dir, s.fail)
	if err := s.open(cfg); err != nil {
		s.closeFiles()
		return nil, fmt.Errorf("open log store %s: %w", cfg.Dir, err)
	}
	return s, nil
}

func (s *Store) open(cfg Config) error {
	if err := disk.MkdirAllDurable(cfg.FS, "log.mkdir", cfg.Dir, 0o700); err != nil {
		return err
	}
	if err := checkDir(cfg.FS, cfg.Dir); err != nil {
		return err
	}
	if err := s.meta.open(); err != nil {
		return err
	}
	s.seed = crc32.Checksum(binary.LittleEndian.AppendUint64(nil, s.meta.checksumKey()), castagnoli)
	st, err := s.meta.Load(cfg.Dir)
	if err != nil {
		return err
	}
	changed, err := repairTail(cfg.FS, cfg.Dir, &st, s.own)
	if err != nil {
		return err
	}
	if changed {
		if err := s.meta.CommitState(st); err != nil {
			return err
		}
	}
	s.filer = newFiler(cfg.Dir, s.vfs)
	w, err := wal.Open(cfg.Dir, wal.WithSegmentSize(cfg.SegmentSize), wal.WithMetaStore(s.meta),
		wal.WithSegmentFiler(s.filer), wal.WithLogger(cfg.Logger))
	if err != nil {
		return err
	}
	s.wal = w
	if s.opened, err = w.LastIndex(); err != nil {
		return err
	}
	return s.Err()
}

// checkDir refuses a directory that has segments but lost its metadata, since
// raft-wal would delete them.
func checkDir(fsys disk.FS, dir string) error {
	entries, err := fsys.ReadDir("log.list", dir)
	if err != nil {
		return err
	}
	hasMeta, segment := false, ""
	for _, e := range entries {
		if e.Name() == metaName {
			hasMeta = true
		}
		if strings.HasSuffix(e.Name(), ".wal") {
			segment = e.Name()
		}
	}
	if segment != "" && !hasMeta {
		return corrupt("there is segment %s, but no metadata", segment)
	}
	return nil
}

// Running says that raft is made: from now on a failed Store answers what raft
// would panic over. Before, it returns its errors.
func (s *Store) Running() { s.running.Store(true) }

// Err returns the first error of the files, after which nothing may be relied
// on. It is set before the operation that failed returns.
func (s *Store) Err() error {
	if err := s.err.Load(); err != nil {
		return *err
	}
	return nil
}

// Failed is closed as soon as Err is not nil.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// fail notes an error and returns it.
func (s *Store) fail(err error) error {
	if s.err.CompareAndSwap(nil, &err) {
		close(s.failed)
	}
	return err
}

// Close closes the files. Nothing may be in progress.
func (s *Store) Close() error {
	err := s.wal.Close()
	return errors.Join(err, s.closeFiles())
}

func (s *Store) closeFiles() error {
	return errors.Join(s.vfs.closeAll(), s.meta.Close())
}

// FirstIndex implements raft.LogStore.
func (s *Store) FirstIndex() (uint64, error) { return s.wal.FirstIndex() }

// LastIndex implements raft.LogStore.
func (s *Store) LastIndex() (uint64, error) { return s.wal.LastIndex() }

// IsMonotonic implements raft.MonotonicLogStore.
func (s *Store) IsMonotonic() bool { return true }

// GetLog implements raft.LogStore.
func (s *Store) GetLog(index uint64, log *raft.Log) error {
	err := s.get(index, log)
	if err == nil || errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	err = s.fail(fmt.Errorf("read log entry %d: %w", index, err))
	if s.running.Load() {
		// raft would panic. What it does with this reaches nobody any more.
		*log = raft.Log{Index: index, Type: raft.LogNoop}
		return nil
	}
	return err
}

func (s *Store) get(index uint64, log *raft.Log) error {
	if err := s.Err(); err != nil {
		return err
	}
	var stored raft.Log
	if err := s.decode(index, &stored); err != nil {
		if errors.Is(err, raft.ErrLogNotFound) {
			return s.missing(index)
		}
		return err
	}
	if stored.Index != index {
		return corrupt("log entry %d is where %d should be", stored.Index, index)
	}
	if _, ok := s.verify(&stored); !ok {
		return corrupt("checksum of log entry %d", index)
	}
	*log = stored
	if !s.running.Load() {
		s.mu.Lock()
		s.mu.bytes += uint64(len(log.Data))
		s.mu.Unlock()
	}
	return nil
}

// decode reads an entry. raft-wal's decoder goes out of bounds in a damaged
// one, before its checksum can be verified.
func (s *Store) decode(index uint64, log *raft.Log) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = corrupt("log entry %d: %v", index, r)
		}
	}()
	return s.wal.GetLog(index, log)
}

// missing tells an entry that is not there from one that should be.
func (s *Store) missing(index uint64) error {
	first, err := s.wal.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.wal.LastIndex()
	if err != nil {
		return err
	}
	if first > 0 && index >= first && index <= last {
		return corrupt("no log entry %d between %d and %d", index, first, last)
	}
	return raft.ErrLogNotFound
}

// StoreLog implements raft.LogStore.
func (s *Store) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore: when it returns nil, the entries are
// durable, all of them by one sync.
func (s *Store) StoreLogs(logs []*raft.Log) error {
	if err := s.Err(); err != nil {
		return err
	}
	stored := make([]raft.Log, len(logs))
	refs := make([]*raft.Log, len(logs))
	trailers := make([]byte, 0, trailerSize*len(logs))
	bytes := 0
	for i, log := range logs {
		stored[i] = *log
		if len(log.Extensions) == 0 {
			trailers = s.appendTrailer(trailers, log, uint32(i))
			stored[i].Extensions = trailers[trailerSize*i : trailerSize*(i+1) : trailerSize*(i+1)]
		} else {
			stored[i].Extensions = s.appendTrailer(slices.Clip(log.Extensions), log, uint32(i))
			trailers = trailers[:trailerSize*(i+1)]
		}
		refs[i] = &stored[i]
		bytes += len(log.Data)
	}
	s.writing <- struct{}{}
	defer func() { <-s.writing }()
	if err := s.wal.StoreLogs(refs); err != nil {
		return s.fail(fmt.Errorf("store log entries from %d: %w", logs[0].Index, err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.bytes += uint64(bytes)
	for _, log := range logs {
		if log.Type != raft.LogCommand {
			s.mu.others = append(s.mu.others, log.Index)
		}
	}
	return nil
}

// DeleteRange implements raft.LogStore.
func (s *Store) DeleteRange(first, last uint64) error {
	if err := s.Err(); err != nil {
		return err
	}
	s.writing <- struct{}{}
	defer func() { <-s.writing }()
	// raft-wal rotates segments in the background, and does not see that what
	// it rotates is the tail no more.
	if err := s.filer.awaitRotation(s.failed); err != nil {
		return s.Err()
	}
	if err := s.wal.DeleteRange(first, last); err != nil {
		return s.fail(fmt.Errorf("delete log entries %d to %d: %w", first, last, err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.others = slices.DeleteFunc(s.mu.others, func(i uint64) bool { return i >= first && i <= last })
	return s.Err() // raft-wal deletes files without telling of errors
}

// IsCommand says whether the entry at index is a command. The error of one that
// was deleted is raft.ErrLogNotFound.
func (s *Store) IsCommand(index uint64) (bool, error) {
	if index > s.opened {
		// DeleteRange deletes from the log first: what is in the log here is in others too.
		s.mu.Lock()
		defer s.mu.Unlock()
		first, err := s.wal.FirstIndex()
		if err != nil {
			return false, err
		}
		if index < first || first == 0 {
			return false, raft.ErrLogNotFound
		}
		_, found := slices.BinarySearch(s.mu.others, index)
		return !found, nil
	}
	var log raft.Log
	if err := s.get(index, &log); err != nil {
		return false, err
	}
	return log.Type == raft.LogCommand, nil
}

// Bytes returns how many bytes of entries were stored since opening, or read
// before Running: those are what raft finds behind its snapshot.
func (s *Store) Bytes() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.bytes
}

// Set implements raft.StableStore.
func (s *Store) Set(key, value []byte) error {
	if err := s.Err(); err != nil {
		return err
	}
	return s.meta.SetStable(key, value)
}

// Get implements raft.StableStore. What is not there is nil.
func (s *Store) Get(key []byte) ([]byte, error) { return s.meta.GetStable(key) }

// SetUint64 implements raft.StableStore.
func (s *Store) SetUint64(key []byte, value uint64) error {
	err := s.Set(key, binary.LittleEndian.AppendUint64(nil, value))
	if err != nil && s.running.Load() && string(key) == "CurrentTerm" {
		return nil // raft would panic; see the package's comment
	}
	return err
}

// GetUint64 implements raft.StableStore. What is not there is 0.
func (s *Store) GetUint64(key []byte) (uint64, error) {
	b, err := s.Get(key)
	if err != nil || b == nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, corrupt("stable value %q of %d bytes, want 8", key, len(b))
	}
	return binary.LittleEndian.Uint64(b), nil
}
