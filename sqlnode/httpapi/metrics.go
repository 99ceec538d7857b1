package httpapi

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nearsql/nearsql/wire"
)

// Counts are the metrics of a Handler; register them once.
type Counts struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	rows     prometheus.Counter
	in, out  prometheus.Counter
	forwards *prometheus.CounterVec
}

// NewCounts makes metrics that count from 0.
func NewCounts() *Counts {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "nearsql", Subsystem: "http", Name: name, Help: help})
	}
	return &Counts{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "nearsql", Subsystem: "http", Name: "requests_total",
			Help: "Requests answered, by route and by code: OK, or that of the error.",
		}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "nearsql", Subsystem: "http", Name: "request_seconds",
			Help:    "Time from a request's header to the end of its answer, by route.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2.5, 14), // 50 us to 7.5 s
		}, []string{"route"}),
		rows: counter("rows_total", "Rows answered."),
		in:   counter("body_bytes_total", "Bytes of bodies of SQL requests, unpacked."),
		out:  counter("answer_bytes_total", "Bytes of SQL answers, before packing."),
		forwards: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "nearsql", Subsystem: "http", Name: "forwards_total",
			Help: "Requests sent to other nodes, by what came of it; one that is tried again counts each time.",
		}, []string{"outcome"}),
	}
}

// What comes of a request that is sent to another node.
const (
	forwardAnswered    = "answered"    // with whatever it had to say
	forwardNotPrimary  = "not_primary" // it can't do this now, and did not
	forwardUnreachable = "unreachable" // nothing was sent
	forwardBroken      = "broken"      // the connection broke before an answer, or in its midst
	forwardCancelled   = "cancelled"   // the client went away, or gave no body
)

// Describe implements prometheus.Collector.
func (c *Counts) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range []prometheus.Collector{c.requests, c.seconds, c.rows, c.in, c.out, c.forwards} {
		m.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (c *Counts) Collect(ch chan<- prometheus.Metric) {
	for _, m := range []prometheus.Collector{c.requests, c.seconds, c.rows, c.in, c.out, c.forwards} {
		m.Collect(ch)
	}
}

// routeCounts are those of one route; the frequent ones are looked up once.
type routeCounts struct {
	name    string
	counts  *Counts
	ok      prometheus.Counter
	seconds prometheus.Observer
}

func (c *Counts) route(name string) routeCounts {
	return routeCounts{name, c, c.requests.WithLabelValues(name, "OK"), c.seconds.WithLabelValues(name)}
}

func (r *routeCounts) done(began time.Time, e *wire.Error) {
	if e == nil {
		r.ok.Inc()
	} else {
		r.counts.requests.WithLabelValues(r.name, string(e.Code)).Inc()
	}
	r.seconds.Observe(time.Since(began).Seconds())
}
