package replicas

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// Config is what a Set needs. Zero durations and sizes mean the defaults.
type Config struct {
	Dir    string // DIR/replicas of the node
	FS     disk.FS
	Budget *pagestore.Budget // shared by all groups of the node
	Log    *slog.Logger
	Now    func() time.Time

	// CheckpointAge and CheckpointBytes bound what is fetched again after a crash. 30 s, 64 MiB.
	CheckpointAge   time.Duration
	CheckpointBytes int64
	// LTXBytes, LTXAge and LTXRetention are pagestore's: what is kept for nodes that this one feeds. The retention is 1 h.
	LTXBytes     int64
	LTXAge       time.Duration
	LTXRetention time.Duration
	// BuildBytes bounds the entries of a group that wait to be built. 64 MiB.
	BuildBytes int64
	// Space is asked for room on the disk before a copy is taken; nil means not to ask.
	Space *disk.Space
	// ScrubEvery is how often all bases are read. 24 h.
	ScrubEvery time.Duration
	// AilingEvery is how often copies are looked at that are out of service, besides when they begin to be. 5 s.
	AilingEvery time.Duration
}

func (c *Config) setDefaults() {
	c.CheckpointAge = cmp.Or(c.CheckpointAge, 30*time.Second)
	c.CheckpointBytes = cmp.Or(c.CheckpointBytes, 64<<20)
	c.LTXRetention = cmp.Or(c.LTXRetention, time.Hour)
	c.BuildBytes = cmp.Or(c.BuildBytes, 64<<20)
	c.ScrubEvery = cmp.Or(c.ScrubEvery, 24*time.Hour)
	c.AilingEvery = cmp.Or(c.AilingEvery, 5*time.Second)
	if c.FS == nil {
		c.FS = disk.OS()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Budget == nil {
		c.Budget = pagestore.NewBudget(1 << 30)
	}
}

// Stats counts what a Set did; for metrics.
type Stats struct {
	Entries  atomic.Int64 // applied
	Copies   atomic.Int64 // whole copies taken
	Changes  atomic.Int64 // times that changed pages were taken
	Refused  atomic.Int64 // entries, changes and copies that did not fit, or were damaged
	Diverged atomic.Int64 // copies that were not what a feeder had
	Rebuilt  atomic.Int64 // copies fetched anew because they failed or a page was corrupt
	Dropped  atomic.Int64 // copies removed
	Wiped    atomic.Int64 // groups whose files were of no use at the start
}

// Following is what a Set asks for copies anew: a *replica.Follower.
type Following interface {
	Follows(id wire.TenantID) bool
	Follow(id wire.TenantID, group wire.GroupID, policy uint32)
	Unfollow(id wire.TenantID)
}

// Set is the copies of tenants that this node does not vote on.
type Set struct {
	Stats Stats

	cfg  Config
	work sync.WaitGroup // of Run
	gone chan wire.TenantID

	mu struct {
		sync.Mutex
		groups    map[wire.GroupID]*pagestore.Group
		coming    map[wire.TenantID]int // copies that are being read
		following Following
		run       context.Context // nil before Run, and ended after it
		closed    bool
	}
}

// goneMax is how many tenants may wait to be dropped; those that find no place are dropped when they are not followed any more.
const goneMax = 1024

// New opens the copies that are in the directory.
func New(cfg Config) (*Set, error) {
	cfg.setDefaults()
	s := &Set{cfg: cfg, gone: make(chan wire.TenantID, goneMax)}
	s.mu.groups = make(map[wire.GroupID]*pagestore.Group)
	s.mu.coming = make(map[wire.TenantID]int)
	if err := disk.MkdirAllDurable(cfg.FS, "replicas.mkdir", cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("replicas: %w", err)
	}
	names, err := cfg.FS.ReadDir("replicas.list", cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("replicas: %w", err)
	}
	for _, n := range names {
		id, err := strconv.ParseUint(n.Name(), 10, 32)
		if err != nil || id == 0 || n.Name() != strconv.FormatUint(id, 10) {
			continue
		}
		if _, err := s.group(wire.GroupID(id)); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

// SetFollower names who fetches copies anew. It is called once, before Run.
func (s *Set) SetFollower(f Following) {
	s.mu.Lock()
	s.mu.following = f
	s.mu.Unlock()
}

// group returns the group with an id, which it makes if there is none.
func (s *Set) group(id wire.GroupID) (*pagestore.Group, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.mu.groups[id]; g != nil {
		return g, nil
	}
	if s.mu.closed {
		return nil, pagestore.ErrClosed
	}
	g, err := s.open(id)
	if err != nil {
		return nil, fmt.Errorf("replicas of group %d: %w", id, err)
	}
	s.mu.groups[id] = g
	if s.mu.run != nil {
		s.start(s.mu.run, g)
	}
	return g, nil
}

// open opens a group's files. Those that are damaged are removed: all that they hold can be had again.
func (s *Set) open(id wire.GroupID) (*pagestore.Group, error) {
	dir := filepath.Join(s.cfg.Dir, strconv.FormatUint(uint64(id), 10))
	for wiped := false; ; wiped = true {
		g, err := pagestore.NewGroup(pagestore.Config{
			ID: id, Dir: dir, FS: s.cfg.FS, Budget: s.cfg.Budget, Log: s.cfg.Log, Now: s.cfg.Now, Streams: true,
			CheckpointBytes: s.cfg.CheckpointBytes, CheckpointAge: s.cfg.CheckpointAge,
			LTXBytes: s.cfg.LTXBytes, LTXAge: s.cfg.LTXAge, LTXRetention: s.cfg.LTXRetention,
			BuildBytes: s.cfg.BuildBytes, Space: s.cfg.Space,
		})
		if err == nil {
			if err = g.Resume(); err == nil {
				return g, nil
			}
			g.Close()
		}
		var corrupt *pagestore.CorruptError
		if wiped || !errors.As(err, &corrupt) && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		s.cfg.Log.Error("the replicas of a group are of no use, and are fetched anew", "group", id, "dir", dir, "error", err)
		s.Stats.Wiped.Add(1)
		if err := s.cfg.FS.RemoveAll("replicas.wipe", dir); err != nil {
			return nil, err
		}
		if err := s.cfg.FS.SyncDir("replicas.syncdir", s.cfg.Dir); err != nil {
			return nil, err
		}
	}
}

// start runs a group until ctx ends.
func (s *Set) start(ctx context.Context, g *pagestore.Group) {
	s.work.Go(func() { _ = g.Run(ctx) })
	s.work.Go(func() { s.heal(ctx, g) })
	s.work.Go(func() { s.scrub(ctx, g) })
}

// Run builds, checkpoints and heals copies until ctx ends. It closes all copies and returns nil after the last of its goroutines.
func (s *Set) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.mu.run != nil || s.mu.closed {
		s.mu.Unlock()
		return errors.New("replicas: Run was called before")
	}
	s.mu.run = ctx
	for _, g := range s.mu.groups {
		s.start(ctx, g)
	}
	s.mu.Unlock()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case id := <-s.gone:
			if err := s.Drop(ctx, id); err != nil {
				s.cfg.Log.Warn("a copy that is gone elsewhere stays", "id", id, "error", err)
			}
		}
	}
	s.close()
	return nil
}

// close ends all groups.
func (s *Set) close() {
	s.mu.Lock()
	s.mu.closed = true
	s.mu.Unlock()
	s.work.Wait()
	for _, g := range s.Groups() {
		g.Close()
	}
}

// Groups are the groups that there are copies of, or were, by their numbers.
func (s *Set) Groups() []*pagestore.Group {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := make([]*pagestore.Group, 0, len(s.mu.groups))
	for _, g := range s.mu.groups {
		l = append(l, g)
	}
	slices.SortFunc(l, func(a, b *pagestore.Group) int { return cmp.Compare(a.ID(), b.ID()) })
	return l
}

// Tenant returns the copy of a tenant, which may be out of service: Tenant.Failed says so. A tenant that is being moved may have copies
// in two groups: the one that serves counts.
func (s *Set) Tenant(id wire.TenantID) (*pagestore.Tenant, bool) {
	t, _ := s.find(id)
	return t, t != nil
}

func (s *Set) find(id wire.TenantID) (t *pagestore.Tenant, g *pagestore.Group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, in := range s.mu.groups {
		c, err := in.Tenant(id)
		if err != nil {
			continue
		}
		if t == nil || t.Failed() != nil && c.Failed() == nil || in.ID() > g.ID() && c.Failed() == nil {
			t, g = c, in
		}
	}
	return t, g
}

// Tenants returns all copies, in no order.
func (s *Set) Tenants() []*pagestore.Tenant {
	var l []*pagestore.Tenant
	for _, g := range s.Groups() {
		l = append(l, g.Tenants()...)
	}
	return l
}

// Drop removes the copy of a tenant that is not followed any more: Follower.Unfollow has returned. Its connections are refused at once, and when
// Drop returns nil its files are durably gone, but for pages in segments: see Erase. There may be none.
func (s *Set) Drop(ctx context.Context, id wire.TenantID) error {
	for _, g := range s.Groups() {
		_, err := g.Tenant(id)
		had := err == nil
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := g.Drop(id); err != nil {
			return fmt.Errorf("replicas: %w", err)
		}
		if had {
			s.Stats.Dropped.Add(1)
		}
	}
	return nil
}

// Erase removes what may be left on the disk of copies that were dropped: it retires all segments. It costs a checkpoint and an LTX
// file for each tenant that changed lately.
func (s *Set) Erase(ctx context.Context) error {
	for _, g := range s.Groups() {
		if err := g.RetireUnits(ctx); err != nil {
			return fmt.Errorf("replicas of group %d: %w", g.ID(), err)
		}
	}
	return nil
}

// comes counts a copy of a tenant that is being read, until what it returns is called.
func (s *Set) comes(id wire.TenantID) func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.coming[id]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.mu.coming[id]--; s.mu.coming[id] == 0 {
			delete(s.mu.coming, id)
		}
	}
}

// isComing says whether a copy of a tenant is being read.
func (s *Set) isComing(id wire.TenantID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.coming[id] > 0
}
