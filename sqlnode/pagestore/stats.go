package pagestore

import "sync/atomic"

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
