package pagestore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// Log is what a group proposes its entries to: the leader of its Raft group.
type Log interface {
	// Propose appends entry after all proposed before. done is called once, from another
	// goroutine, with what Apply returned, or with the reason why the entry
	// is surely or possibly not in the log.
	Propose(entry []byte, done func(response any, err error))
	// Primary returns nil while this node may propose, else the reason why not.
	Primary() error
	// Snapshot makes the log take a snapshot of the group now, by Capture and Persist.
	Snapshot() error
}

// Config is what a group needs. Zero durations and sizes mean the defaults.
type Config struct {
	ID     wire.GroupID
	Dir    string
	FS     disk.FS
	Budget *Budget
	Log    *slog.Logger
	Now    func() time.Time

	// BigTransaction is the size of a transaction's pages, in bytes, above which a copy that builds it
	// from the log puts it in a segment instead of memory.
	BigTransaction int64
	// CheckpointBytes is how much may be logged between checkpoints.
	CheckpointBytes int64
	// CheckpointAge is how long a change may wait for a checkpoint.
	CheckpointAge time.Duration
	// LTXBytes and LTXAge say when absorbed units are compacted to LTX files.
	LTXBytes int64
	LTXAge   time.Duration
	// LTXRetention is how long LTX files are kept.
	LTXRetention time.Duration
	// MaxReaderAge is how long a reader may hold a snapshot once the budget is exceeded.
	MaxReaderAge time.Duration
	// Space is asked for room on the disk before a commit or a copy is taken; nil means not to ask.
	Space *disk.Space
	// QueueBytes bounds the commits of one tenant that wait for the log.
	QueueBytes int64
	// GroupQueueBytes bounds the commits of all tenants that wait for the log.
	GroupQueueBytes int64
	// BuildBytes bounds the entries of the log that wait to be built: beyond it, Apply waits.
	BuildBytes int64
	// BuildDelay is how long transactions of a tenant from the log may wait, while nobody has its store open here, to be built
	// together. 0 means that they don't wait.
	BuildDelay time.Duration
	// KeepBytes bounds the entries of the log that are kept for copies out of service, until another
	// takes their place.
	KeepBytes int64
	// ScrubRate is how much Scrub reads, in bytes per second.
	ScrubRate int64

	// Streams makes a group that has no log: see Group.Follow.
	Streams bool
	// Observer is told what takes effect; nil for none. Not of a group with Streams.
	Observer Observer

	retry       time.Duration // between tries to build on a disk that fails
	pendingByte int64         // for tests with a small database that has a lock page
}

func (c *Config) setDefaults() {
	def := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	dur := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	def(&c.BigTransaction, 8<<20)
	def(&c.CheckpointBytes, 128<<20)
	dur(&c.CheckpointAge, time.Minute)
	def(&c.LTXBytes, 64<<20)
	dur(&c.LTXAge, time.Hour)
	dur(&c.LTXRetention, 24*time.Hour)
	dur(&c.retry, time.Second)
	dur(&c.MaxReaderAge, 30*time.Second)
	def(&c.QueueBytes, 96<<20)
	def(&c.GroupQueueBytes, 256<<20)
	def(&c.BuildBytes, 256<<20)
	def(&c.KeepBytes, 64<<20)
	def(&c.ScrubRate, 8<<20)
	def(&c.pendingByte, pendingByte)
	if c.Budget == nil {
		c.Budget = NewBudget(1 << 30)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.FS == nil {
		c.FS = disk.OS()
	}
}

// Group is one Raft group's copies of its tenants on this node: the state
// machine that the log drives, the stores of the tenants, and their files.
//
// Apply looks at headers alone. Transactions of this node's own writers are
// there already, and only become visible; others are built beside the log by builders.
type Group struct {
	cfg Config

	mu struct {
		sync.Mutex
		tenants map[wire.TenantID]*Tenant
		dirty   map[*Tenant]struct{} // changed since the newest capture
		index   uint64               // of the newest entry applied
		term    uint64
		staging int // operations whose parts are still coming
		logged  int64
		changed time.Time // of the oldest change since the newest capture; zero when there is none
		purged  []purged  // tenants whose files are still there
		swept   bool      // files that no tenant owns were looked for
		log     Log
	}
	builds buildQueue
	kick   chan struct{} // wakes the checkpoint loop
	ails   chan struct{} // says that a copy began to ail
	files  files
	queued int64Counter // bytes of commits on their way through the log
	kept   int64Counter // bytes of entries kept for copies out of service
	Stats  Stats

	checkpointing sync.Mutex // held during Checkpoint
	tidying       sync.Mutex // held while units are absorbed or compacted, and files of purged tenants removed
}

// NewGroup opens the group in its directory, which it makes if there is none. The log then brings it to
// where it was: Restore with its newest snapshot, if any, and Apply of every entry after that.
func NewGroup(cfg Config) (*Group, error) {
	cfg.setDefaults()
	if err := registerVFS(); err != nil {
		return nil, err
	}
	g := &Group{cfg: cfg, kick: make(chan struct{}, 1), ails: make(chan struct{}, 1)}
	g.builds.init()
	g.mu.tenants = map[wire.TenantID]*Tenant{}
	g.mu.dirty = map[*Tenant]struct{}{}
	if err := disk.MkdirAllDurable(cfg.FS, "group.mkdir", cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("group %d: %w", cfg.ID, err)
	}
	for _, d := range []string{"segments", "bases", "ltx", "staging", "failed", "replaced"} {
		if err := cfg.FS.MkdirAll("group.mkdir", filepath.Join(cfg.Dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("group %d: %w", cfg.ID, err)
		}
	}
	if err := cfg.FS.SyncDir("group.syncdir", cfg.Dir); err != nil {
		return nil, fmt.Errorf("group %d: %w", cfg.ID, err)
	}
	if err := g.files.open(cfg); err != nil {
		return nil, fmt.Errorf("group %d: %w", cfg.ID, err)
	}
	if cfg.Streams {
		g.mu.log = streamLog{g}
	}
	return g, nil
}

// SetLog gives the group the log that it proposes to. It is called once, before Run.
func (g *Group) SetLog(l Log) {
	g.mu.Lock()
	g.mu.log = l
	g.mu.Unlock()
}

func (g *Group) log() Log {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.log
}

// ID is the number of the group.
func (g *Group) ID() wire.GroupID { return g.cfg.ID }

// Tenant returns the tenant with the id, or ErrNoTenant.
func (g *Group) Tenant(id wire.TenantID) (*Tenant, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t, ok := g.mu.tenants[id]
	if !ok {
		return nil, ErrNoTenant
	}
	return t, nil
}

// Tenants returns all tenants, in no order.
func (g *Group) Tenants() []*Tenant {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]*Tenant, 0, len(g.mu.tenants))
	for _, t := range g.mu.tenants {
		all = append(all, t)
	}
	return all
}

// Index is the index of the newest entry applied.
func (g *Group) Index() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.index
}

// Applied is what Apply returns for an entry that took effect.
type Applied struct {
	Tenant *Tenant
	State  State
}

// Apply is called with every committed entry, in order, by one goroutine. It
// returns Applied, or the error with which every copy alike refuses the entry. An *EntryError
// is another matter: this copy of the log can't be read, and the caller must stop.
// entry must stay as it is.
func (g *Group) Apply(index, term uint64, entry []byte) any {
	h, body, err := txn.Split(entry)
	if err == nil {
		err = txn.Verify(entry) // the log's own files are read without a check
	}
	if err != nil {
		g.cfg.Log.Error("log entry cannot be read", "group", g.cfg.ID, "index", index, "error", err)
		return &EntryError{Index: index, Err: err}
	}
	g.mu.Lock()
	if index <= g.mu.index { // a snapshot of the log contained it
		t := g.mu.tenants[h.Tenant]
		g.mu.Unlock()
		if t == nil {
			return Applied{}
		}
		return Applied{Tenant: t, State: t.Logged()}
	}
	g.mu.index = index
	stale := term != g.mu.term && g.mu.staging > 0
	g.mu.term = term
	g.mu.logged += int64(len(entry))
	if g.mu.changed.IsZero() {
		g.mu.changed = g.cfg.Now()
	}
	kick := g.mu.logged >= g.cfg.CheckpointBytes
	t := g.mu.tenants[h.Tenant]
	if t == nil && h.Kind == txn.Control && tenant.Code(h.Code) == tenant.CodeCreated {
		t = newTenant(g, h.Tenant)
	}
	g.mu.Unlock()
	if stale {
		g.dropStaging()
	}
	if kick {
		g.kickCheckpoint()
	}
	if t == nil {
		g.observe(index, nil, &h, State{})
		return fmt.Errorf("tenant %s: %w", h.Tenant, ErrNoTenant)
	}
	contained := g.cfg.Observer != nil && t.contains(index)
	st, err := t.apply(index, &h, body, entry)
	if err != nil || contained { // a copy that contains an entry does not say whether it took effect
		g.observe(index, nil, &h, st)
	} else {
		g.observe(index, entry, &h, st)
	}
	if err != nil {
		return err
	}
	if t.gone() {
		g.purge(t, index)
		g.observeLeft(t.id)
		return Applied{Tenant: t, State: st}
	}
	g.mu.Lock()
	g.mu.dirty[t] = struct{}{}
	g.mu.Unlock()
	g.builds.throttle(g.cfg.BuildBytes)
	return Applied{Tenant: t, State: st}
}

func (g *Group) kickCheckpoint() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// changed says that there is something to checkpoint.
func (g *Group) changed() {
	g.mu.Lock()
	if g.mu.changed.IsZero() {
		g.mu.changed = g.cfg.Now()
	}
	g.mu.Unlock()
}

// add makes a tenant known.
func (g *Group) add(t *Tenant) {
	g.mu.Lock()
	g.mu.tenants[t.id] = t
	g.mu.Unlock()
}

// LostPrimary drops all speculation: the node is not the primary any more. Waiting commits
// learn their fate from the log.
func (g *Group) LostPrimary() {
	for _, t := range g.Tenants() {
		if s := t.openStore(); s != nil {
			s.dropSpeculation()
		}
	}
}

// Run builds, checkpoints, absorbs and compacts until ctx ends.
func (g *Group) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { g.buildLoop(ctx) })
	}
	wg.Go(func() { g.builds.keepTime(ctx) })
	wg.Go(func() { g.checkpointLoop(ctx) })
	wg.Wait()
	return ctx.Err()
}

// Close closes all stores. Handles still open keep their files until they are closed.
func (g *Group) Close() {
	for _, t := range g.Tenants() {
		t.shut(ErrClosed)
	}
	g.files.close()
}

func (g *Group) buildLoop(ctx context.Context) {
	defer g.builds.work()()
	for {
		t := g.builds.take(ctx)
		if t == nil {
			return
		}
		t.build(ctx)
	}
}

// checkpointLoop keeps the log short and the bases near.
func (g *Group) checkpointLoop(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var retry time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.kick:
		case <-tick.C:
		}
		_ = g.cfg.Space.Fits(0) // so that it is said when there is room again
		now := g.cfg.Now()
		if now.Before(retry) {
			continue
		}
		if g.wantCheckpoint(now) {
			if need, free := g.checkpointRoom(); free < need {
				// The log can't go on after an error, and writes are refused anyway.
				g.cfg.Log.Warn("checkpoint put off: too little disk space", "group", g.cfg.ID, "free", free, "need", need)
				retry = now.Add(5 * time.Second)
				continue
			}
			if err := g.Checkpoint(); err != nil {
				if !errors.Is(err, ErrStagingOpen) && !errors.Is(err, ErrHollow) && !errors.Is(err, ErrCopying) {
					g.cfg.Log.Warn("checkpoint put off", "group", g.cfg.ID, "error", err)
				}
				retry = now.Add(time.Second)
				continue
			}
		}
		if err := g.absorbAll(ctx); err != nil && ctx.Err() == nil {
			g.cfg.Log.Warn("absorbing segments put off", "group", g.cfg.ID, "error", err)
			retry = now.Add(5 * time.Second)
			continue
		}
		if err := g.compactLTX(ctx, now); err != nil && ctx.Err() == nil {
			g.cfg.Log.Warn("compaction to LTX put off", "group", g.cfg.ID, "error", err)
			retry = now.Add(5 * time.Second)
		}
		g.expireReaders(now)
		g.closeIdle()
	}
}

// logRoom is what the log takes of the disk, in bytes, to be cut off at its beginning: a new file (16 MiB
// in package leader) and the manifest.
const logRoom = 20 << 20

// checkpointRoom is how much of the disk a checkpoint may take, and how much is free, in bytes.
func (g *Group) checkpointRoom() (need, free int64) {
	free, err := g.cfg.Space.Free()
	if err != nil {
		return 0, 0
	}
	return g.cfg.Budget.Used() + logRoom, free
}

func (g *Group) wantCheckpoint(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.changed.IsZero() {
		return false
	}
	return g.mu.logged >= g.cfg.CheckpointBytes || now.Sub(g.mu.changed) >= g.cfg.CheckpointAge ||
		g.cfg.Budget.Used() > g.cfg.Budget.Soft
}

// Checkpoint makes the log take a snapshot: all changes so far are put into segments,
// after which the log before them is not needed.
func (g *Group) Checkpoint() error {
	l := g.log()
	if l == nil {
		return errors.New("the group has no log yet")
	}
	g.checkpointing.Lock()
	defer g.checkpointing.Unlock()
	start := g.cfg.Now()
	g.files.watch()
	if err := l.Snapshot(); err != nil {
		g.changed() // so that it is tried again, also if nothing else happens
		return fmt.Errorf("checkpoint of group %d: %w", g.cfg.ID, err)
	}
	g.removePurged(g.files.recorded())
	g.Stats.Checkpoints.Add(1)
	g.Stats.CheckpointNanos.Add(int64(g.cfg.Now().Sub(start)))
	return nil
}

// expireReaders takes the snapshots of the oldest readers away while page
// versions take more memory than the budget allows.
func (g *Group) expireReaders(now time.Time) {
	if g.cfg.Budget.Used() <= g.cfg.Budget.Soft {
		return
	}
	before := now.Add(-g.cfg.MaxReaderAge).UnixNano()
	for _, t := range g.Tenants() {
		if s := t.openStore(); s != nil {
			g.Stats.ReadersExpired.Add(int64(s.expire(before)))
		}
	}
}

// closeIdle closes stores that nobody uses and that hold nothing that their files don't.
func (g *Group) closeIdle() {
	for _, t := range g.Tenants() {
		t.closeIfIdle()
	}
}
