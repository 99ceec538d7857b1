package pagestore

import (
	"sync"
	"sync/atomic"
	"time"
)

// Stats counts what a group did; for metrics.
type Stats struct {
	Checkpoints     atomic.Int64
	CheckpointNanos atomic.Int64
	SegmentBytes    atomic.Int64
	AbsorbedPages   atomic.Int64
	LTXFiles        atomic.Int64
	LTXBytes        atomic.Int64
	Built           atomic.Int64 // transactions built from their entries
	Promoted        atomic.Int64 // transactions of own writers that became visible
	Refused         atomic.Int64 // entries that did not fit their tenant's position
	ReadersExpired  atomic.Int64
	Failures        atomic.Int64 // copies taken out of service
	Copied          atomic.Int64 // copies taken from other nodes
	Changed         atomic.Int64 // times that a copy was brought up by the pages that had changed
	Corrupt         atomic.Int64 // times that a page was found corrupt
}

// int64Counter is a counter with a bound.
type int64Counter struct{ n atomic.Int64 }

func (c *int64Counter) add(n int64) int64 { return c.n.Add(n) }
func (c *int64Counter) load() int64       { return c.n.Load() }

// diskState remembers whether the disk is nearly full, so that commits can be refused
// before the log runs into it.
type diskState struct {
	mu struct {
		sync.Mutex
		checked time.Time
		full    bool
	}
}

// check asks for the free space, at most once a second.
func (d *diskState) check(cfg *Config) bool {
	if cfg.FreeSpace == nil || cfg.MinFreeSpace <= 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := cfg.Now()
	if !d.mu.checked.IsZero() && now.Sub(d.mu.checked) < time.Second {
		return d.mu.full
	}
	d.mu.checked = now
	free, err := cfg.FreeSpace()
	full := err == nil && free < cfg.MinFreeSpace
	if full != d.mu.full {
		cfg.Log.Warn("free disk space", "group", cfg.ID, "bytes", free, "reserve", cfg.MinFreeSpace, "writes_refused", full)
	}
	d.mu.full = full
	return full
}
