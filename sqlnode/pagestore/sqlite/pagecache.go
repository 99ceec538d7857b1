package sqlite

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// ErrPageCacheTooLate is returned by InstallPageCache when SQLite is in use
// already: by this package, or by another that runs SQLite in this process.
var ErrPageCacheTooLate = errors.New("page cache: SQLite is initialized already")

// ErrPageCacheInstalled is returned by InstallPageCache, together with the
// cache, when one with another configuration is installed.
var ErrPageCacheInstalled = errors.New("page cache: installed already, with another configuration")

// PageCacheConfig is what a page cache is made with.
type PageCacheConfig struct {
	// BudgetBytes is how much the cached pages of all databases, without those
	// in memory, may take together. Beyond it a connection that needs a page has to give up
	// one that it doesn't hold; only pages in use at this moment, and the
	// first reservedPages of each connection, are granted regardless. Who
	// gives a process its memory sets it.
	BudgetBytes int64
}

// Validate names the field that is wrong.
func (cfg PageCacheConfig) Validate() error {
	if cfg.BudgetBytes <= 0 {
		return fmt.Errorf("page cache: BudgetBytes is %d, must be above 0", cfg.BudgetBytes)
	}
	return nil
}

// PageCache is the page cache of the process, in SQLite's place. Each
// connection has its own list of pages, up to its PRAGMA cache_size, which no
// other touches: one that scans takes nothing from the others, and a cached
// page is found without any lock. Pages lie outside of the Go heap. What an
// idle connection holds is given back by its owner, with Conn.ReleaseMemory.
type PageCache struct {
	cfg     PageCacheConfig
	budget  atomic.Int64
	methods uintptr // Tsqlite3_pcache_methods2, kept for the life of the process

	_    [64]byte // what follows is written by whoever needs a page
	used atomic.Int64
	// fixed: pages of databases in memory, temporary ones too if they are
	// kept there; they have no other place and are not part of the budget
	fixed                   atomic.Int64
	pages                   atomic.Int64
	hits, misses, evictions atomic.Int64
	_                       [64]byte

	// over is used > budget, as of when one of them changed: what an unpin
	// looks at, in a cache line that seldom changes.
	over atomic.Bool
	_    [64]byte

	pools atomic.Pointer[[]*pagePool] // copied to add one
	mu    sync.Mutex                  // held to add to pools
}

// PageCacheStats is what a page cache holds and has done.
type PageCacheStats struct {
	BudgetBytes int64
	Bytes       int64 // of pages in the budget
	FixedBytes  int64 // of pages of databases in memory, which are no part of the budget
	MappedBytes int64 // taken from the system for both, free room included
	Pages       int64
	// Counts since the start. A connection adds to them now and then, so
	// they may be behind by some hundred for each.
	Hits, Misses, Evictions int64
}

// InstallPageCache makes a page cache and gives it to SQLite. It must come
// before the first Open, else ErrPageCacheTooLate. With the same configuration
// it may be called again and returns the cache that there is.
func InstallPageCache(cfg PageCacheConfig) (*PageCache, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	process.Lock()
	defer process.Unlock()
	if pc := process.cache.Load(); pc != nil {
		if pc.cfg != cfg {
			return pc, ErrPageCacheInstalled
		}
		return pc, nil
	}
	if process.started {
		return nil, ErrPageCacheTooLate
	}
	pc := &PageCache{cfg: cfg}
	pc.budget.Store(cfg.BudgetBytes)
	pc.pools.Store(new([]*pagePool))

	tls := libc.NewTLS()
	defer tls.Close()
	pc.methods = calloc(tls, int(unsafe.Sizeof(lib.Tsqlite3_pcache_methods2{})))
	va := calloc(tls, 8)
	defer free(tls, va)
	if pc.methods == 0 || va == 0 {
		free(tls, pc.methods)
		return nil, codeError(CodeNoMem)
	}
	*at[lib.Tsqlite3_pcache_methods2](pc.methods) = lib.Tsqlite3_pcache_methods2{
		FiVersion:   1,
		FxInit:      funcPtr(pcacheInit),
		FxShutdown:  funcPtr(pcacheShutdown),
		FxCreate:    funcPtr(pcacheCreate),
		FxCachesize: funcPtr(pcacheCachesize),
		FxPagecount: funcPtr(pcachePagecount),
		FxFetch:     funcPtr(pcacheFetch),
		FxUnpin:     funcPtr(pcacheUnpin),
		FxRekey:     funcPtr(pcacheRekey),
		FxTruncate:  funcPtr(pcacheTruncate),
		FxDestroy:   funcPtr(pcacheDestroy),
		FxShrink:    funcPtr(pcacheShrink),
	}
	// Before SQLite can call: if it is initialized by another package this
	// fails, and nothing refers to pc.
	process.cache.Store(pc)
	if rc := lib.Xsqlite3_config(tls, lib.SQLITE_CONFIG_PCACHE2, libc.VaList(va, pc.methods)); rc != lib.SQLITE_OK {
		process.cache.Store(nil)
		free(tls, pc.methods)
		if rc == lib.SQLITE_MISUSE {
			return nil, ErrPageCacheTooLate
		}
		return nil, fmt.Errorf("install page cache: %w", codeError(int(rc)))
	}
	return pc, nil
}

// SetBudget changes PageCacheConfig.BudgetBytes. Connections give up what is
// beyond it as they work.
func (pc *PageCache) SetBudget(bytes int64) error {
	if err := (PageCacheConfig{BudgetBytes: bytes}).Validate(); err != nil {
		return err
	}
	pc.budget.Store(bytes)
	pc.over.Store(pc.used.Load() > bytes)
	return nil
}

// OverBudget says whether pages take more than the budget, so that idle
// connections had better give theirs back.
func (pc *PageCache) OverBudget() bool { return pc.used.Load() > pc.budget.Load() }

// Stats returns the state of pc.
func (pc *PageCache) Stats() PageCacheStats {
	s := PageCacheStats{
		BudgetBytes: pc.budget.Load(),
		Bytes:       pc.used.Load(),
		FixedBytes:  pc.fixed.Load(),
		Pages:       pc.pages.Load(),
		Hits:        pc.hits.Load(),
		Misses:      pc.misses.Load(),
		Evictions:   pc.evictions.Load(),
	}
	for _, p := range *pc.pools.Load() {
		s.MappedBytes += p.mapped()
	}
	return s
}

// charge counts a page of n bytes; n is negative for one given back.
func (pc *PageCache) charge(n int64) {
	if n > 0 {
		pc.pages.Add(1)
	} else {
		pc.pages.Add(-1)
	}
	over := pc.used.Add(n) > pc.budget.Load()
	// Two that charge at once may leave the wrong value, until the next does.
	if pc.over.Load() != over {
		pc.over.Store(over)
	}
}

// pool returns the number of the pool for pages of a size.
func (pc *PageCache) pool(pageSize, extraSize int) uint32 {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	pools := *pc.pools.Load()
	for i, p := range pools {
		if p.pageSize == pageSize && p.extraSize == extraSize {
			return uint32(i)
		}
	}
	grown := append(pools[:len(pools):len(pools)], newPagePool(pageSize, extraSize))
	pc.pools.Store(&grown)
	return uint32(len(pools))
}
