package crrfiles

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// Config is what a Manager needs. Zero values mean the defaults, but for Dir.
type Config struct {
	Dir       string        // of the files; made when the first is
	FS        disk.FS       // makes and removes files; SQLite itself writes them through its own VFS
	MaxOpen   int           // writing connections that may be open without being used
	IdleClose time.Duration // how long one that nobody uses stays open
	CacheKiB  int           // page cache of a writing connection
	Space     *disk.Space   // is asked for room before anything is written; may be nil
	// Temp is the temporary space of a new writing connection: for sorts, and what statements that fail are undone with. nil: it has no bound.
	Temp func() *pagestore.TempSpace
	Log  *slog.Logger
	Now  func() time.Time
	// Ahead is how far the local clock is ahead of the other sites', as far as is known; beyond a bound local writes are refused. nil: it is not known.
	Ahead func() time.Duration
	// OnChange is told of what a turn has committed, merges too: the states of the file before and after, between which there may be several transactions. It
	// is called by the goroutine that still has the turn: it must not block, nor call the File's methods that take one. nil: nobody is told.
	OnChange func(f *File, before, after crr.Head)
}

func (c *Config) setDefaults() {
	if c.FS == nil {
		c.FS = disk.OS()
	}
	if c.MaxOpen == 0 {
		c.MaxOpen = 200
	}
	if c.IdleClose == 0 {
		c.IdleClose = 5 * time.Minute
	}
	if c.CacheKiB == 0 {
		c.CacheKiB = 2048
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

// Stats counts what a Manager did; for metrics.
type Stats struct {
	Open           atomic.Int64 // writing connections now
	Created        atomic.Int64 // files
	Removed        atomic.Int64
	Damaged        atomic.Int64 // files taken out of service
	Transactions   atomic.Int64 // committed, merges too
	SchemaChanges  atomic.Int64 // made in a file
	WriterReopened atomic.Int64 // since main was replaced under it
	Rewound        atomic.Int64 // files that gave their number up: they were not as new as what they had sent
	Replaced       atomic.Int64 // files that a copy of another site's took the place of
	Salvaged       atomic.Int64 // files that were kept for that, and are gone
	SalvagedRows   atomic.Int64 // of which something was in those files only
	SalvageLost    atomic.Int64 // writes in them that nothing could be made of; they are in __crr_lost
	Rebuilt        atomic.Int64 // damaged files that a copy of another site's took the place of
	Tombstones     atomic.Int64 // dropped, since all sites had them
	Forgotten      atomic.Int64 // deletes that live rows had survived, dropped
}

// Manager keeps the files of this node's tenants.
type Manager struct {
	cfg   Config
	Stats Stats
	run   uint32 // crr.Config.Run of all files

	making sync.Mutex                     // held while a file is made
	kept   map[wire.TenantID][]crr.FileID // on disk, to be salvaged; nil before they were listed; guarded by making

	mu struct {
		sync.Mutex
		files  map[wire.TenantID]*File // those that were asked for and exist; invariant: at most one for each file on disk
		closed bool
	}
}

func (m *Manager) temp() *pagestore.TempSpace {
	if m.cfg.Temp == nil {
		return nil
	}
	return m.cfg.Temp()
}

// New returns a manager. Run closes idle files while it runs.
func New(cfg Config) *Manager {
	cfg.setDefaults()
	m := &Manager{cfg: cfg, run: crr.NewRun()}
	m.mu.files = map[wire.TenantID]*File{}
	return m
}

// Path is where the file of a tenant is, or would be.
func (m *Manager) Path(id wire.TenantID) string { return filepath.Join(m.cfg.Dir, id.String()+".db") }

// Lookup returns the tenant's file if this node has it; it looks at nothing else, and opens nothing.
func (m *Manager) Lookup(t *pagestore.Tenant) *File {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.mu.files[t.ID()]; f != nil {
		f.setTenantLocked(t)
		return f
	}
	if m.mu.closed {
		return nil
	}
	if !m.exists(m.Path(t.ID())) {
		return nil
	}
	return m.addLocked(t)
}

// Known returns the tenant's file if this process has asked for it before; it looks at nothing else.
func (m *Manager) Known(id wire.TenantID) *File {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.files[id]
}

// exists says whether there is a file that somebody made whole: its name is durable before it has a first byte.
func (m *Manager) exists(path string) bool {
	info, err := m.cfg.FS.Stat("crr.stat", path)
	return err == nil && info.Size() > 0
}

func (m *Manager) addLocked(t *pagestore.Tenant) *File {
	f := &File{m: m, id: t.ID(), path: m.Path(t.ID()), turn: make(chan struct{}, 1)}
	f.tenant = t
	f.change.ch = make(chan struct{})
	f.sent.fs, f.sent.path = m.cfg.FS, m.sentPath(f.id)
	m.mu.files[f.id] = f
	return f
}

// Open returns the tenant's file, brought up to the strong schema as it is here, and makes it if that
// names conflict-free tables and there is none. ErrNone: the tenant has none.
func (m *Manager) Open(ctx context.Context, t *pagestore.Tenant) (*File, error) {
	f := m.Lookup(t)
	if f == nil {
		declared, err := declared(t)
		if err != nil {
			return nil, err
		}
		if !declared {
			return nil, ErrNone
		}
		if f, err = m.create(t); err != nil {
			return nil, err
		}
	}
	return f, f.Sync(ctx)
}

// declared says whether the committed state of main names conflict-free tables.
func declared(t *pagestore.Tenant) (bool, error) {
	s, err := t.Acquire()
	if err != nil {
		return false, err
	}
	defer t.Release()
	c, err := s.OpenReader(nil)
	if err != nil {
		return false, err
	}
	defer c.Close()
	return Declared(c.Conn)
}

// create makes the tenant's file, empty, so that its name outlives a crash before anything in it is answered for.
func (m *Manager) create(t *pagestore.Tenant) (*File, error) {
	m.making.Lock()
	defer m.making.Unlock()
	m.mu.Lock()
	f, closed := m.mu.files[t.ID()], m.mu.closed
	m.mu.Unlock()
	if f != nil {
		return f, nil
	}
	if closed {
		return nil, ErrClosed
	}
	if err := m.make(m.Path(t.ID())); err != nil {
		return nil, fmt.Errorf("make the file of conflict-free tables: %w", err)
	}
	m.Stats.Created.Add(1)
	m.cfg.Log.Info("file of conflict-free tables made", "tenant", string(t.Record().Name), "id", t.ID())
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.addLocked(t), nil
}

func (m *Manager) make(path string) error {
	if err := disk.MkdirAllDurable(m.cfg.FS, "crr.mkdir", m.cfg.Dir, 0o700); err != nil {
		return err
	}
	f, err := m.cfg.FS.OpenFile("crr.create", path, openNew, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return m.cfg.FS.SyncDir("crr.sync", m.cfg.Dir)
}

// Run closes files that nobody has used for a while, and brings those that are open up to their strong schemas, until ctx ends; then it closes all.
func (m *Manager) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { m.collect(ctx) })
	tick := time.NewTicker(min(m.cfg.IdleClose, followEvery))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			m.Close()
			return ctx.Err()
		case <-tick.C:
			m.closeIdle(m.cfg.Now().Add(-m.cfg.IdleClose))
			m.follow(ctx)
		}
	}
}

// followEvery is how long an open file may be behind its strong schema without anybody asking.
const followEvery = time.Second

// follow brings open files up to date whose strong schema has moved.
func (m *Manager) follow(ctx context.Context) {
	for _, f := range m.list() {
		if !f.behind() {
			continue
		}
		if err := f.Sync(ctx); err != nil && ctx.Err() == nil {
			m.cfg.Log.Warn("conflict-free tables do not follow their schema", "id", f.id, "error", err)
		}
	}
}

func (m *Manager) list() []*File {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*File, 0, len(m.mu.files))
	for _, f := range m.mu.files {
		out = append(out, f)
	}
	return out
}

// closeIdle closes writing connections that were used last before a time.
func (m *Manager) closeIdle(before time.Time) {
	for _, f := range m.list() {
		if f.open.Load() && f.used().Before(before) {
			f.closeNow(false)
		}
	}
}

// shed closes the connections that were used longest ago while too many are open.
func (m *Manager) shed(but *File) {
	for m.Stats.Open.Load() > int64(m.cfg.MaxOpen) {
		var victim *File
		for _, f := range m.list() {
			if f != but && f.open.Load() && f.readers.Load() == 0 && (victim == nil || f.used().Before(victim.used())) {
				victim = f
			}
		}
		if victim == nil || !victim.closeNow(false) {
			return // all in use: the bound is on idle ones
		}
	}
}

// Close closes all files; those in use when their user's turn ends.
func (m *Manager) Close() {
	m.mu.Lock()
	m.mu.closed = true
	m.mu.Unlock()
	for _, f := range m.list() {
		f.closeNow(true)
	}
}
