package engine

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// Quorum is what an answer without an entry of its own waits for: the leader of the tenant's group.
type Quorum interface {
	// Confirm returns nil when a majority has said, after the call, that this node is the primary, and
	// everything that was committed before the call is visible here.
	Confirm(ctx context.Context) error
}

// Config is what an engine needs. Zero values mean the defaults.
type Config struct {
	MaxOpen        int           // tenants open at a time
	IdleClose      time.Duration // how long a tenant that nobody uses stays open
	CacheKiB       int           // page cache of a connection
	StatementCache int           // statements kept by a connection
	Group          int           // requests that share one transaction, at most
	InFlight       int           // transactions of a tenant on their way through the log
	TempDir        string
	TempMax        int64       // bytes of temporary files of one connection
	Space          *disk.Space // of the disk of TempDir; may be nil
	Log            *slog.Logger
	Now            func() time.Time
	Guard          *Guard // remembers statements that crashed the process; may be nil

	CRR          *crrfiles.Manager // the files of conflict-free tables; nil: tenants can have none
	RegisterSite Registrar         // nil: by RegisterSite at this node
	Node         string            // this node, as RegisterSite has it
	// Site says whether this node keeps conflict-free tables of a tenant. Where it does not, their names are known here, and nothing else
	// of them: whoever asks must send what names them to a node that does. nil: it always does.
	Site func(t *pagestore.Tenant) bool
}

func (c *Config) setDefaults() {
	if c.MaxOpen == 0 {
		c.MaxOpen = 1000
	}
	if c.IdleClose == 0 {
		c.IdleClose = 5 * time.Minute
	}
	if c.CacheKiB == 0 {
		c.CacheKiB = 2048
	}
	if c.StatementCache == 0 {
		c.StatementCache = 64
	}
	if c.Group == 0 {
		c.Group = 256
	}
	if c.InFlight == 0 {
		c.InFlight = 16
	}
	if c.TempMax == 0 {
		c.TempMax = 1 << 30
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

// Stats counts what an engine did; for metrics.
type Stats struct {
	Reads, Writes         atomic.Int64 // requests
	RowsRead, RowsWritten atomic.Int64
	Groups                atomic.Int64 // transactions that requests shared or had alone
	Regrouped             atomic.Int64 // groups run again without the request that spoiled them
	Opened, Closed        atomic.Int64
	TempBytes             atomic.Int64 // in use now
	CRRGroups             atomic.Int64 // transactions of conflict-free tables that requests shared or had alone
	CRRShared             atomic.Int64 // requests that shared one
	LocalWrites           atomic.Int64 // requests that wrote conflict-free tables
}

// Engine runs requests on the tenants of a node.
type Engine struct {
	cfg   Config
	Stats Stats

	mu struct {
		sync.Mutex
		open    map[*pagestore.Tenant]*DB
		closing map[*pagestore.Tenant]*DB // forgotten, but still at work or with commits in the log
		lru     list.List                 // *DB, most recent first
		closed  bool
	}
}

// New returns an engine. Run closes idle tenants while it runs.
func New(cfg Config) *Engine {
	cfg.setDefaults()
	e := &Engine{cfg: cfg}
	e.mu.open = map[*pagestore.Tenant]*DB{}
	e.mu.closing = map[*pagestore.Tenant]*DB{}
	return e
}

// Open is the number of tenants that are open.
func (e *Engine) Open() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.mu.open)
}

// Run closes tenants that nobody has used for a while, until ctx ends; then it closes all.
func (e *Engine) Run(ctx context.Context) error {
	tick := time.NewTicker(max(e.cfg.IdleClose/10, 100*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			e.Close()
			return ctx.Err()
		case <-tick.C:
			e.closeIdle(e.cfg.Now().Add(-e.cfg.IdleClose))
		}
	}
}

// Close refuses new requests and closes all tenants. Requests that a writer has begun are
// answered as the log decides, those in line behind it with SHUTTING_DOWN; those that read keep
// their connection until they end.
func (e *Engine) Close() {
	e.mu.Lock()
	e.mu.closed = true
	var all []*DB
	for _, db := range e.mu.open {
		all = append(all, db)
	}
	e.mu.Unlock()
	for _, db := range all {
		db.shut()
	}
}

// errShutDown answers requests after Close.
var errShutDown = wire.NewError(wire.CodeShuttingDown, "the node is shutting down")

// acquire returns the open tenant, which release must give back.
func (e *Engine) acquire(t *pagestore.Tenant) (*DB, error) {
	for {
		e.mu.Lock()
		if e.mu.closed {
			e.mu.Unlock()
			return nil, errShutDown
		}
		db := e.mu.open[t]
		if db == nil {
			db = newDB(e, t, e.mu.closing[t])
			e.mu.open[t] = db
			db.elem = e.mu.lru.PushFront(db)
		} else {
			e.mu.lru.MoveToFront(db.elem)
		}
		db.users++ // used is of when it falls again: only a tenant without users is closed for being idle
		victim := e.victimLocked()
		e.mu.Unlock()
		if victim != nil {
			victim.shut()
		}
		err := db.open()
		if err == nil {
			return db, nil
		}
		e.release(db)
		if errors.Is(err, errDBClosed) {
			continue // closed while we came: open it anew
		}
		return nil, convert(err, nil)
	}
}

func (e *Engine) release(db *DB) {
	e.mu.Lock()
	db.users--
	db.used = e.cfg.Now()
	e.mu.Unlock()
}

// victimLocked takes the tenant out that was used longest ago and is in no use, when too many are open.
func (e *Engine) victimLocked() *DB {
	if len(e.mu.open) <= e.cfg.MaxOpen {
		return nil
	}
	for el := e.mu.lru.Back(); el != nil; el = el.Prev() {
		if db := el.Value.(*DB); db.users == 0 {
			e.forgetLocked(db)
			return db
		}
	}
	return nil // all in use: the bound is on idle ones
}

func (e *Engine) forgetLocked(db *DB) {
	if e.mu.open[db.t] == db {
		delete(e.mu.open, db.t)
		e.mu.lru.Remove(db.elem)
		e.mu.closing[db.t] = db
	}
}

// settled is called when nothing of db is under way any more.
func (e *Engine) settled(db *DB) {
	e.mu.Lock()
	if e.mu.closing[db.t] == db {
		delete(e.mu.closing, db.t)
	}
	e.mu.Unlock()
}

func (e *Engine) closeIdle(before time.Time) {
	var idle []*DB
	e.mu.Lock()
	for el := e.mu.lru.Back(); el != nil; {
		db := el.Value.(*DB)
		el = el.Prev()
		if db.users == 0 && db.used.Before(before) {
			e.forgetLocked(db)
			idle = append(idle, db)
		}
	}
	e.mu.Unlock()
	for _, db := range idle {
		db.shut()
	}
}

// Forget closes the tenant: it was deleted, or its store replaced.
func (e *Engine) Forget(t *pagestore.Tenant) {
	e.mu.Lock()
	db := e.mu.open[t]
	e.mu.Unlock()
	if db != nil {
		e.forget(db)
	}
}

// forget closes db, which is or was open.
func (e *Engine) forget(db *DB) {
	e.mu.Lock()
	e.forgetLocked(db)
	e.mu.Unlock()
	db.shut()
}
