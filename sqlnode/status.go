package sqlnode

import (
	"context"
	"errors"
	"time"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// statusService is httpapi.Status.
type statusService struct{ n *Node }

// Ready implements httpapi.Status.
func (s statusService) Ready(context.Context) error {
	s.n.state.Lock()
	defer s.n.state.Unlock()
	if s.n.state.ready {
		return nil
	}
	return errors.Join(s.n.state.why)
}

// Status is what /v1/status tells of a node.
type Status struct {
	Node    string            `json:"node"`
	Cluster string            `json:"cluster"`
	PoP     string            `json:"pop"`
	Region  string            `json:"region,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	SQLite  string            `json:"sqlite"`
	Uptime  string            `json:"uptime"`
	Ready   bool              `json:"ready"`
	Tenants int               `json:"tenants"`
	Open    int               `json:"open_tenants"`
	Groups  []GroupStatus     `json:"groups"`
}

// GroupStatus is what /v1/status tells of one group.
type GroupStatus struct {
	ID           wire.GroupID `json:"id"`
	Primary      bool         `json:"primary"`
	Leader       string       `json:"leader"`
	Term         uint64       `json:"term"`
	Applied      uint64       `json:"applied"`
	Tenants      int          `json:"tenants"`
	Failed       int          `json:"failed_copies"`
	Checkpoints  int64        `json:"checkpoints"`
	SegmentBytes int64        `json:"segment_bytes"`
}

// Status implements httpapi.Status.
func (s statusService) Status(ctx context.Context) any {
	n := s.n
	st := Status{Node: n.id.Node, Cluster: n.id.Cluster, PoP: n.cfg.PoP, Region: n.cfg.Region, Labels: n.cfg.Labels,
		SQLite: sqliteVersion(), Uptime: n.cfg.Now().Sub(n.started).Round(time.Second).String(), Ready: s.Ready(ctx) == nil, Open: n.engine.Open()}
	for _, h := range n.groups.all() {
		l, _ := h.log().Leadership()
		g := GroupStatus{ID: h.id, Primary: l.Primary, Leader: string(l.Leader), Term: l.Term, Applied: h.pages.Index(),
			Checkpoints: h.pages.Stats.Checkpoints.Load(), SegmentBytes: h.pages.Stats.SegmentBytes.Load()}
		for _, t := range h.pages.Tenants() {
			if rec := t.Record(); rec.State != tenant.StateDeleted {
				g.Tenants++
			}
			if t.Failed() != nil {
				g.Failed++
			}
		}
		if h.id != systemGroup {
			st.Tenants += g.Tenants
		}
		st.Groups = append(st.Groups, g)
	}
	return st
}
