package sqlnode

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nearsql/nearsql/tenant"
)

// registerTables adds the metrics of conflict-free tables.
func registerTables(r *prometheus.Registry, n *Node) {
	name := func(s string) string { return "nearsql_crr_" + s }
	gauge := func(s, help string, f func() int64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name(s), Help: help}, func() float64 { return float64(f()) }))
	}
	counter := func(s, help string, f func() int64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name(s), Help: help}, func() float64 { return float64(f()) }))
	}
	f, e := &n.sites.files.Stats, &n.engine.Stats
	counter("local_writes_total", "Requests that write conflict-free tables on this node.", e.LocalWrites.Load)
	counter("transactions_total", "Transactions of files of conflict-free tables, merges too.", f.Transactions.Load)
	counter("schema_changes_total", "Changes of conflict-free schemas made in files here.", f.SchemaChanges.Load)
	counter("damaged_files_total", "Files taken out of service.", f.Damaged.Load)
	counter("rewound_files_total", "Files that were older than what they had sent, and gave their number up.", f.Rewound.Load)
	counter("replaced_files_total", "Files that a copy of another site's took the place of.", f.Replaced.Load)
	counter("rebuilt_files_total", "Damaged files that a copy of another site's took the place of.", f.Rebuilt.Load)
	counter("salvaged_files_total", "Replaced files of which all that only they had is written anew.", f.Salvaged.Load)
	counter("salvaged_rows_total", "Rows of which something was in a replaced file only, and is written anew.", f.SalvagedRows.Load)
	counter("salvage_lost_total", "Writes in replaced files that nothing could be made of; they are in __crr_lost.", f.SalvageLost.Load)
	counter("tombstones_dropped_total", "Deletes that all sites have and that are not remembered any more.", f.Tombstones.Load)
	counter("silent_sites_retired_total", "Sites that this node retired as their tenant's primary, since nobody had heard of them for --crr-retire-after.", n.sites.silentRetired.Load)
	gauge("open_files", "Writing connections to files of conflict-free tables.", f.Open.Load)
	if n.sites.x == nil {
		return
	}
	x := &n.sites.x.Stats
	gauge("links", "Connections to nodes with sites of the same tenants.", x.Links.Load)
	gauge("tenants", "Tenants that this node is a site of.", func() int64 { return int64(n.sites.x.Tenants()) })
	counter("pushes_total", "Pushes of local transactions that were made.", x.Pushes.Load)
	counter("pushes_dropped_total", "Pushes that were not sent or not merged; pulls bring what they had.", x.PushesDropped.Load)
	counter("pulls_total", "Pulls from other sites that have ended.", x.Pulls.Load)
	counter("answers_total", "Answers to pulls of other sites that had something new.", x.Answers.Load)
	counter("merges_total", "Batches of other sites that brought something.", x.Merged.Load)
	counter("merged_rows_total", "Rows that they changed.", x.Rows.Load)
	counter("fetches_total", "Copies of other sites' files that were fetched.", x.Fetches.Load)
	counter("failures_total", "Pulls, answers and look-ups that failed.", x.Failures.Load)
	counter("refused_total", "Messages that no site should have sent.", x.Refused.Load)
	r.MustRegister(newSiteMetrics(n.sites))
}

// siteMetrics tells how far the sites of other nodes are, over all tenants that this node shares with each; it reads when it is asked. There is a label for
// each node, none for tenants.
type siteMetrics struct {
	s                                *sites
	lag, behind, held, silent, ahead *prometheus.Desc
}

func newSiteMetrics(s *sites) *siteMetrics {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("nearsql_crr_"+name, help, labels, nil)
	}
	return &siteMetrics{
		s:      s,
		lag:    d("lag_seconds", "Between the newest transaction of the node's sites that is known of and the newest that is here: the largest of all tenants.", "node"),
		behind: d("behind_tenants", "Tenants of which the node has, or may have, what is not here.", "node"),
		held:   d("held_back_tenants", "Tenants of which the node's transactions are held back, since its clock runs ahead.", "node"),
		silent: d("unconnected_tenants", "Tenants that the node is a site of, while there is no connection to it.", "node"),
		ahead:  d("clock_ahead_seconds", "How far this node's clock is ahead of the median of those of other sites."),
	}
}

// Describe implements prometheus.Collector.
func (m *siteMetrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.lag, m.behind, m.held, m.silent, m.ahead} {
		c <- d
	}
}

// nodeSites is what is known of the sites of one node.
type nodeSites struct{ lag, behind, held, silent float64 }

// Collect implements prometheus.Collector.
func (m *siteMetrics) Collect(c chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for node, x := range m.byNode() {
		gauge(m.lag, x.lag, node)
		gauge(m.behind, x.behind, node)
		gauge(m.held, x.held, node)
		gauge(m.silent, x.silent, node)
	}
	gauge(m.ahead, m.s.x.Ahead().Seconds())
}

func (m *siteMetrics) byNode() map[string]*nodeSites {
	m.s.mu.Lock()
	ids := make([]tenant.ID, 0, len(m.s.mu.known))
	for id := range m.s.mu.known {
		ids = append(ids, id)
	}
	m.s.mu.Unlock()
	out := map[string]*nodeSites{}
	for _, id := range ids {
		status, _ := m.s.x.Status(id)
		for _, p := range status.Sites {
			x := out[p.Node]
			if x == nil {
				x = &nodeSites{}
				out[p.Node] = x
			}
			x.lag = max(x.lag, p.Lag.Seconds())
			if p.More {
				x.behind++
			}
			if p.Held != nil {
				x.held++
			}
			if !p.Connected {
				x.silent++
			}
		}
	}
	return out
}
