package sqlnode

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/sqlnode/catalogue"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/engine"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// Times of contacts.
const (
	contactKeeps = 5 * time.Second // how long what is known of a node counts
	contactWait  = time.Second     // for its answer
)

// contacts is which nodes answered lately. Requests for a site can be sent to any of several: one that does not answer is passed over.
type contacts struct {
	mu struct {
		sync.Mutex
		seen map[string]contact
	}
}

type contact struct {
	at time.Time
	ok bool
}

// toSite is the httpapi.ElsewhereError that sends a request to the nearest node that keeps the tenant's conflict-free tables.
func (n *Node) toSite(ctx context.Context, r *resident, reads bool) error {
	return n.toNearest(ctx, n.siteNodes(r.group, r.Record().Placement), reads)
}

// past is err, which says that another node has to answer, or that the nearest site has to: of a tenant of which this node has no copy at all it knows by the
// text alone whether a request is about conflict-free tables.
func (n *Node) past(ctx context.Context, name string, req *wire.Request, err error) error {
	var away *httpapi.ElsewhereError
	if !errors.As(err, &away) || !engine.SaysCRR(req) || req.Consistency == wire.Strong {
		return err
	}
	t, ok := n.cat.View().Tenant(tenant.Name(name))
	if !ok || n.groups.get(t.Group) != nil {
		return err
	}
	return n.toNearest(ctx, n.siteNodes(t.Group, t.Placement), !engine.NeedsPrimary(req))
}

// unlessAhead is err, or the nearest site that may take a write which this one can't: its file is ahead of its copy of main. That is found out at the beginning of a turn at the
// file, so that nothing was written. The other node is asked once.
func (n *Node) unlessAhead(ctx context.Context, r *resident, req *wire.Request, err error) error {
	var ahead *crrfiles.AheadError
	if !errors.As(err, &ahead) || req.FailOnStale || n.net == nil {
		return err
	}
	var away *httpapi.ElsewhereError
	if !errors.As(n.toSite(ctx, r, false), &away) {
		return err
	}
	away.Err, away.Either = err, true
	return away
}

func (n *Node) toNearest(ctx context.Context, list []string, reads bool) error {
	if len(list) == 0 {
		return wire.NewError(wire.CodeUnreachable, "%w", errNoSiteKnown)
	}
	for _, node := range list {
		if n.answers(ctx, node) {
			return &httpapi.ElsewhereError{Node: node, Reads: reads}
		}
		if ctx.Err() != nil {
			return wire.AsError(ctx.Err())
		}
	}
	return &httpapi.ElsewhereError{Node: list[0], Reads: reads} // who sends it there says what is wrong
}

// siteNodes are the other nodes that keep the tenant's conflict-free tables as far as the catalogue knows, the nearest first: where it is placed,
// and the voters of its group.
func (n *Node) siteNodes(group wire.GroupID, p tenant.Placement) []string {
	v := n.cat.View()
	g, _ := v.Group(group)
	var list []string
	for _, nd := range v.Nodes() {
		standing := p.Holds(nd.PoP, nd.Region) || slices.Contains(g.Members.Voters, nd.ID)
		if nd.ID != n.id.Node && nd.State != catalogue.NodeRemoved && standing && p.Allows(nd.Region) {
			list = append(list, nd.ID)
		}
	}
	if n.repl != nil {
		n.repl.nearestFirst(v, list)
	}
	return list
}

// answers says whether a node could be reached lately, or can be now.
func (n *Node) answers(ctx context.Context, node string) bool {
	c := &n.sites.contacts
	c.mu.Lock()
	seen, known := c.mu.seen[node]
	c.mu.Unlock()
	if at := time.Now(); known && at.Sub(seen.at) < contactKeeps {
		return seen.ok
	}
	late, cancel := context.WithTimeout(ctx, contactWait)
	defer cancel()
	conn, err := n.net.Dial(late, node, cluster.PurposeHTTP, 0)
	if err == nil {
		_ = conn.Close() // nothing was sent over it
	}
	if ctx.Err() != nil && err != nil {
		return false // it was not the node's fault
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.seen == nil || len(c.mu.seen) > 4096 { // nodes that are gone are not kept for ever
		c.mu.seen = map[string]contact{}
	}
	c.mu.seen[node] = contact{time.Now(), err == nil}
	return err == nil
}

// keeps says whether this node keeps the conflict-free tables of a tenant: engine.Config.Site.
func (s *sites) keeps(t *pagestore.Tenant) bool {
	if s.n.repl == nil {
		return true
	}
	rec := t.Record()
	return s.n.groups.get(rec.Group) != nil || rec.Placement.Holds(s.n.cfg.PoP, s.n.cfg.Region)
}
