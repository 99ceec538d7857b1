package sqlnode

import (
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/wire"
)

// strongWays knows what strong reads took lately on copies that follow, by either way, and chooses the way of each by that (readpath.ChooseWay).
//
// What it knows is of a group, and there of a feeder for the index, and of a node for reads that are forwarded; it is as much as there are groups that are
// followed here, and feeders of them. A wrong choice costs time and nothing else: both ways are linearizable. While no strong reads come nothing is measured;
// while they come each way of a group and feeder is tried at most once a second only to be measured.
type strongWays struct {
	index, forward atomic.Int64 // reads by way
	turned         atomic.Int64 // of the latter, those that were to go by index
	seconds        *prometheus.HistogramVec

	mu struct {
		sync.Mutex
		groups map[wire.GroupID]*strongGroup
	}
}

// strongGroup is what is known of a group. All of it is guarded by strongWays.mu.
type strongGroup struct {
	used    time.Time
	feeders map[string]*strongFeeder
	node    string // that reads are forwarded to
	voter   readpath.WayTime
	// measuring: a request to node is under way only to be measured.
	measuring bool
	// sent are the requests that were forwarded last: one that comes again had no answer.
	sent [strongSent]weak.Pointer[wire.Request]
	next int
}

// strongFeeder is what is known of the way by one feeder.
type strongFeeder struct {
	used      time.Time
	last      readpath.Way
	index     readpath.WayTime
	measuring bool
}

const (
	// strongSent is how many requests are remembered that were forwarded. Of more that are under way at once some are not known again, and wait for their node as they
	// would if nothing were known.
	strongSent = 32
	// strongCold is how long after a measure the connection to a node may not be open any more.
	strongCold = time.Minute
	// strongKeeps is how long what is known of a group or feeder is kept when no strong reads come, at least.
	strongKeeps = 10 * time.Minute
)

func newStrongWays() *strongWays {
	s := &strongWays{seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "nearsql_replica_strong_seconds", Help: "Time until a strong read may begin on a copy that follows, or is answered where it is forwarded to, by way.",
		Buckets: prometheus.ExponentialBuckets(500e-6, 2, 14), // 0.5 ms to 4.1 s
	}, []string{"way"})}
	s.mu.groups = make(map[wire.GroupID]*strongGroup)
	return s
}

// strongAt is what a strong read's time depends on.
type strongAt struct {
	group  wire.GroupID
	feeder string // of the copy; "" for none
	node   string // that it would be forwarded to; "" if none is known
}

// groupLocked is what is known of the group, of the node that reads are forwarded to now.
func (s *strongWays) groupLocked(at strongAt, now time.Time) *strongGroup {
	g := s.mu.groups[at.group]
	if g == nil {
		for id, old := range s.mu.groups {
			if now.Sub(old.used) > strongKeeps {
				delete(s.mu.groups, id)
			}
		}
		g = &strongGroup{feeders: make(map[string]*strongFeeder)}
		s.mu.groups[at.group] = g
	}
	if g.node != at.node {
		g.node, g.voter = at.node, readpath.WayTime{}
	}
	g.used = now
	return g
}

// feederLocked is what is known of a feeder.
func (g *strongGroup) feederLocked(id string, now time.Time) *strongFeeder {
	f := g.feeders[id]
	if f == nil {
		for id, old := range g.feeders {
			if now.Sub(old.used) > strongKeeps {
				delete(g.feeders, id)
			}
		}
		f = &strongFeeder{}
		g.feeders[id] = f
	}
	f.used = now
	return f
}

// choose says how a request goes. Of f it fills in what is known. What is to be measured is the caller's to measure, and to say by took. cold says that nothing was
// sent to the node lately.
func (s *strongWays) choose(at strongAt, f readpath.WayFacts, req *wire.Request) (c readpath.WayChoice, cold bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groupLocked(at, f.Now)
	fd := g.feederLocked(at.feeder, f.Now)
	if g.cameBackLocked(req) {
		g.voter = g.voter.Missed(f.Now)
	}
	f.Last, f.Index, f.Voter = fd.last, fd.index, g.voter
	c = readpath.ChooseWay(&f)
	if !c.Only {
		fd.last = c.Way
	}
	c.MeasureIndex = c.MeasureIndex && !fd.measuring
	c.MeasureVoter = c.MeasureVoter && !g.measuring
	fd.measuring = fd.measuring || c.MeasureIndex
	g.measuring = g.measuring || c.MeasureVoter
	return c, f.Voter.Recent == 0 || f.Voter.Failed || f.Now.Sub(f.Voter.At) > strongCold
}

// cameBackLocked says whether a request had been forwarded, and was not answered.
func (g *strongGroup) cameBackLocked(req *wire.Request) bool {
	p := weak.Make(req)
	for i := range g.sent {
		if g.sent[i] == p {
			g.sent[i] = weak.Pointer[wire.Request]{}
			return true
		}
	}
	return false
}

// forwards notes that a request is forwarded; turned: it was to go by index.
func (s *strongWays) forwards(at strongAt, req *wire.Request, turned bool) {
	s.forward.Add(1)
	if turned {
		s.turned.Add(1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groupLocked(at, time.Now())
	g.sent[g.next] = weak.Make(req)
	g.next = (g.next + 1) % strongSent
}

// took notes what a way took, or that it could not be taken; measured: it was taken only for that.
func (s *strongWays) took(at strongAt, way readpath.Way, d time.Duration, measured bool, err error) {
	if err == nil {
		s.seconds.WithLabelValues(way.String()).Observe(d.Seconds())
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.mu.groups[at.group]
	if g == nil {
		return
	}
	note := func(t *readpath.WayTime) {
		if err != nil {
			*t = t.Missed(now)
		} else {
			*t = t.Took(d, now)
		}
	}
	switch {
	case way == readpath.ByVoter:
		g.measuring = g.measuring && !measured
		if g.node == at.node {
			note(&g.voter)
		}
	case g.feeders[at.feeder] != nil:
		fd := g.feeders[at.feeder]
		fd.measuring = fd.measuring && !measured
		note(&fd.index)
	}
}

// register adds the metrics.
func (s *strongWays) register(r *prometheus.Registry) {
	for way, n := range map[readpath.Way]*atomic.Int64{readpath.ByIndex: &s.index, readpath.ByVoter: &s.forward} {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "nearsql_replica_strong_reads_total",
			Help: "Strong reads that came to copies that follow, by the way that they took.", ConstLabels: prometheus.Labels{"way": way.String()},
		}, func() float64 { return float64(n.Load()) }))
	}
	r.MustRegister(s.seconds, prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "nearsql_replica_strong_turned_total",
		Help: "Of the forwarded ones, those that were to be served by index first.",
	}, func() float64 { return float64(s.turned.Load()) }))
}
