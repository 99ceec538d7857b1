package sqlnode

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/sqlnode/copies"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// Group implements copies.Groups.
func (g *groups) Group(id wire.GroupID) (*pagestore.Group, bool) {
	h := g.get(id)
	if h == nil {
		return nil, false
	}
	return h.pages, true
}

// newFetcher makes what replaces the copies of a group that are out of service here by those of other members.
func (n *Node) newFetcher(h *hosted) *copies.Fetcher {
	return copies.NewFetcher(copies.FetcherConfig{
		Group: h.pages, Members: groupMembers{h}, Transport: n.net.HTTPTransport(), Log: n.log,
		Primary: func() bool { return h.log().Primary() == nil },
		HandOn:  func(context.Context) { n.keeper.changed() },
	})
}

// groupMembers is copies.Members: the primary first, which is furthest, then the others.
type groupMembers struct{ h *hosted }

// Members implements copies.Members.
func (g groupMembers) Members(context.Context) copies.Membership {
	var m copies.Membership
	conf, err := g.h.log().Configuration()
	if err != nil {
		return m
	}
	l, _, _ := g.h.leadership()
	for _, c := range conf.Members {
		switch {
		case c.ID == leader.NodeID(g.h.node):
			m.Voter = c.Voter
		case c.ID == l.Leader:
			m.Others = append([]copies.Member{{Node: string(c.ID), Voter: c.Voter}}, m.Others...)
		default:
			m.Others = append(m.Others, copies.Member{Node: string(c.ID), Voter: c.Voter})
		}
	}
	return m
}

// registerCopies adds the metrics of copies that are fetched from, and sent to, other members.
func registerCopies(r *prometheus.Registry, n *Node) {
	counter := func(name, help string, f func() int64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "nearsql_copies_" + name, Help: help}, func() float64 { return float64(f()) }))
	}
	sum := func(f func(*copies.FetcherStats) int64) func() int64 {
		return func() (v int64) {
			for _, h := range n.groups.all() {
				if h.fetcher != nil {
					v += f(&h.fetcher.Stats)
				}
			}
			return v
		}
	}
	s := &n.copies.Stats
	counter("fetched_total", "Copies of other members that took the place of one here.", sum(func(s *copies.FetcherStats) int64 { return s.Fetched.Load() }))
	counter("fetched_partial_total", "Of these, copies with only what had changed.", sum(func(s *copies.FetcherStats) int64 { return s.Partial.Load() }))
	counter("fetched_resumed_total", "Times that a copy went on where it broke off.", sum(func(s *copies.FetcherStats) int64 { return s.Resumed.Load() }))
	counter("fetched_bytes_total", "Bytes of copies that were received.", sum(func(s *copies.FetcherStats) int64 { return s.Bytes.Load() }))
	counter("fetch_errors_total", "Members that did not give a copy.", sum(func(s *copies.FetcherStats) int64 { return s.Errors.Load() }))
	counter("damaged_total", "Copies received that were not what they said.", sum(func(s *copies.FetcherStats) int64 { return s.Damaged.Load() }))
	counter("taken_out_total", "Copies taken out of service here for a corrupt page, to be rebuilt.", sum(func(s *copies.FetcherStats) int64 { return s.TakenOut.Load() }))
	counter("held_total", "Times that a copy that contradicts the log was not replaced, for want of a majority that contradicts it.",
		sum(func(s *copies.FetcherStats) int64 { return s.Held.Load() }))
	counter("sent_total", "Copies sent to other members.", s.Sent.Load)
	counter("sent_bytes_total", "Bytes of copies that were sent.", s.Bytes.Load)
	counter("sent_refused_total", "Copies asked for and refused.", s.Refused.Load)
}
