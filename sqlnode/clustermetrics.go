package sqlnode

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nearsql/nearsql/sqlnode/catalogue"
)

// clusterMetrics tells of connections to other nodes and of the groups; it reads when it is asked.
type clusterMetrics struct {
	n *Node

	bytes, conns, accepted, dialled, refused, dropped   *prometheus.Desc
	nodes, primary, term, applied, hollow, failed, logs *prometheus.Desc
}

func newClusterMetrics(n *Node) *clusterMetrics {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("nearsql_"+name, help, labels, nil)
	}
	return &clusterMetrics{
		n:        n,
		bytes:    d("cluster_bytes_total", "Bytes over connections between nodes.", "purpose", "direction"),
		conns:    d("cluster_connections", "Connections between nodes that are open."),
		accepted: d("cluster_accepted_total", "Connections of other nodes that were accepted."),
		dialled:  d("cluster_dialled_total", "Connections to other nodes that were made."),
		refused:  d("cluster_refused_total", "Connections that were refused.", "code"),
		dropped:  d("cluster_dropped_total", "Connections to the cluster listener that did not say who they are."),
		nodes:    d("nodes", "Nodes of the cluster by state.", "state"),
		primary:  d("group_primary", "1 where this node is the group's primary.", "group"),
		term:     d("group_term", "The group's term.", "group"),
		applied:  d("group_applied_index", "Index of the last entry that this node has.", "group"),
		hollow:   d("group_hollow_tenants", "Tenants whose copy is to be fetched.", "group"),
		failed:   d("group_failed_copies", "Copies that are out of service.", "group"),
		logs:     d("group_log_bytes", "Bytes of the log since the last snapshot.", "group"),
	}
}

// Describe implements prometheus.Collector.
func (m *clusterMetrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.bytes, m.conns, m.accepted, m.dialled, m.refused, m.dropped, m.nodes, m.primary, m.term, m.applied,
		m.hollow, m.failed, m.logs} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (m *clusterMetrics) Collect(c chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if m.n.net != nil {
		s := m.n.net.Stats()
		for p, b := range s.Bytes {
			count(m.bytes, float64(b.Read), p.String(), "read")
			count(m.bytes, float64(b.Written), p.String(), "written")
		}
		for code, v := range s.Refused {
			count(m.refused, float64(v), code.String())
		}
		gauge(m.conns, float64(s.Open))
		count(m.accepted, float64(s.Accepted))
		count(m.dialled, float64(s.Dialled))
		count(m.dropped, float64(s.Dropped))
	}
	states := map[catalogue.NodeState]int{catalogue.NodeActive: 0}
	for _, nd := range m.n.cat.View().Nodes() {
		states[nd.State]++
	}
	for s, v := range states {
		gauge(m.nodes, float64(v), string(s))
	}
	for _, h := range m.n.groups.all() {
		id := strconv.Itoa(int(h.id))
		l, _, _ := h.leadership()
		primary := 0.0
		if l.Primary {
			primary = 1
		}
		st := h.log().Stats()
		gauge(m.primary, primary, id)
		gauge(m.term, float64(st.Term), id)
		gauge(m.applied, float64(st.AppliedIndex), id)
		gauge(m.logs, float64(st.SnapshotBytes), id)
		hollow := len(h.pages.Hollow())
		failed := 0
		for _, t := range h.pages.Tenants() {
			if t.Failed() != nil {
				failed++
			}
		}
		gauge(m.hollow, float64(hollow), id)
		gauge(m.failed, float64(failed-hollow), id)
	}
}

// registerReplicas adds the metrics of copies that follow, and of those that this node feeds.
func registerReplicas(r *prometheus.Registry, n *Node) {
	gauge := func(name, help string, f func() int64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "nearsql_replica_" + name, Help: help}, func() float64 { return float64(f()) }))
	}
	counter := func(name, help string, f func() int64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "nearsql_replica_" + name, Help: help}, func() float64 { return float64(f()) }))
	}
	f, s, d := &n.repl.follower.Stats, &n.repl.set.Stats, &n.repl.feeder.Stats
	gauge("tenants", "Tenants that this node follows without a vote.", f.Tenants.Load)
	gauge("tenants_joined", "Of these, tenants whose freshness is kept up.", f.Joined.Load)
	gauge("streams", "Streams to nodes that this one follows.", f.Streams.Load)
	counter("transactions_total", "Transactions received.", f.Txns.Load)
	counter("transaction_bytes_total", "Bytes of them.", f.TxnBytes.Load)
	counter("copies_total", "Whole copies installed.", f.Copies.Load)
	counter("changes_total", "Times that a copy caught up by what had changed, without a whole copy.", f.LTX.Load)
	counter("moved_total", "Times that a tenant went from one feeder to a better one.", f.Moved.Load)
	counter("diverged_total", "Copies that were not what their feeder had.", f.Diverged.Load)
	counter("refused_total", "Streams that ended because of what the feeder sent.", f.Refused.Load)
	counter("rebuilt_total", "Copies fetched anew because they failed or a page was corrupt.", s.Rebuilt.Load)
	counter("dropped_total", "Copies removed here.", s.Dropped.Load)
	gauge("fed_nodes", "Nodes that this one feeds.", d.Conns.Load)
	gauge("fed_tenants", "Tenants that it feeds them.", d.Slots.Load)
	counter("fed_transactions_total", "Transactions sent to nodes that follow.", d.Txns.Load)
	counter("fed_transaction_bytes_total", "Bytes of them.", d.TxnBytes.Load)
	counter("fed_copies_total", "Whole copies sent.", d.Copies.Load)
	counter("fed_changes_total", "Times that a receiver was brought up by what had changed.", d.LTX.Load)
	counter("fed_lost_total", "Receivers that fell behind what is kept in memory.", d.Lost.Load)
}
