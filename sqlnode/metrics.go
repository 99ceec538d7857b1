package sqlnode

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

// metrics are one node's. Parts count in plain atomics; they are read when they are asked for.
type metrics struct {
	registry *prometheus.Registry
	http     *httpapi.Counts
}

func sqliteVersion() string { return sqlite.Version() }

func newMetrics(n *Node, budget *pagestore.Budget, cache *sqlite.PageCache) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), http: httpapi.NewCounts()}
	m.registry.MustRegister(newClusterMetrics(n), m.http, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	counter := func(name, help string, f func() float64) {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "nearsql_" + name, Help: help}, f))
	}
	gauge := func(name, help string, f func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "nearsql_" + name, Help: help}, f))
	}
	e := &n.engine.Stats
	counter("reads_total", "Requests that only read.", func() float64 { return float64(e.Reads.Load()) })
	counter("writes_total", "Requests that write.", func() float64 { return float64(e.Writes.Load()) })
	counter("rows_read_total", "Rows given by requests that only read.", func() float64 { return float64(e.RowsRead.Load()) })
	counter("rows_written_total", "Rows inserted, updated or deleted.", func() float64 { return float64(e.RowsWritten.Load()) })
	counter("write_groups_total", "Transactions, each of one or more requests that write.", func() float64 { return float64(e.Groups.Load()) })
	counter("regrouped_total", "Requests that had to run again alone.", func() float64 { return float64(e.Regrouped.Load()) })
	gauge("open_tenants", "Tenants that are open.", func() float64 { return float64(n.engine.Open()) })
	gauge("temp_bytes", "Bytes of SQLite's temporary files and journals.", func() float64 { return float64(e.TempBytes.Load()) })
	gauge("overlay_bytes", "Bytes of page versions in memory.", func() float64 { return float64(budget.Used()) })
	if cache != nil {
		gauge("page_cache_bytes", "Bytes of SQLite's page caches.", func() float64 { return float64(cache.Stats().Bytes) })
		counter("page_cache_hits_total", "Pages that were found cached.", func() float64 { return float64(cache.Stats().Hits) })
		counter("page_cache_misses_total", "Pages that were not.", func() float64 { return float64(cache.Stats().Misses) })
	}
	sum := func(f func(s *pagestore.Stats) int64) func() float64 {
		return func() float64 {
			var t int64
			for _, h := range n.groups.all() {
				t += f(&h.pages.Stats)
			}
			return float64(t)
		}
	}
	counter("log_syncs_total", "Times that a log was made durable.", func() float64 { return float64(n.syncs.log.Load()) })
	counter("log_sync_seconds_total", "Time that took.", func() float64 { return float64(n.syncs.logNanos.Load()) / 1e9 })
	counter("checkpoints_total", "Checkpoints of groups.", sum(func(s *pagestore.Stats) int64 { return s.Checkpoints.Load() }))
	counter("checkpoint_seconds_total", "Time that checkpoints took.", func() float64 {
		return sum(func(s *pagestore.Stats) int64 { return s.CheckpointNanos.Load() })() / 1e9
	})
	counter("segment_bytes_total", "Bytes of segments written.", sum(func(s *pagestore.Stats) int64 { return s.SegmentBytes.Load() }))
	counter("absorbed_pages_total", "Pages written to base files.", sum(func(s *pagestore.Stats) int64 { return s.AbsorbedPages.Load() }))
	counter("ltx_files_total", "LTX files written.", sum(func(s *pagestore.Stats) int64 { return s.LTXFiles.Load() }))
	counter("ltx_bytes_total", "Bytes of LTX files written.", sum(func(s *pagestore.Stats) int64 { return s.LTXBytes.Load() }))
	counter("transactions_promoted_total", "Transactions of this node's writers that were committed.", sum(func(s *pagestore.Stats) int64 { return s.Promoted.Load() }))
	counter("transactions_built_total", "Transactions built from their log entries.", sum(func(s *pagestore.Stats) int64 { return s.Built.Load() }))
	counter("entries_refused_total", "Log entries that did not fit their tenant's position.", sum(func(s *pagestore.Stats) int64 { return s.Refused.Load() }))
	counter("readers_expired_total", "Readers that held their snapshot too long.", sum(func(s *pagestore.Stats) int64 { return s.ReadersExpired.Load() }))
	counter("corrupt_pages_total", "Pages whose sum was wrong when they were read.", sum(func(s *pagestore.Stats) int64 { return s.Corrupt.Load() }))
	counter("copy_failures_total", "Copies taken out of service.", sum(func(s *pagestore.Stats) int64 { return s.Failures.Load() }))
	registerTables(m.registry, n)
	if n.copies != nil {
		registerCopies(m.registry, n)
		registerReplicas(m.registry, n)
		n.repl.strong.register(m.registry)
	}
	return m
}
