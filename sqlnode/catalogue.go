package sqlnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/sqlnode/catalogue"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// followCatalogue keeps the catalogue in memory as this node's copy of it has it, until ctx ends.
func (n *Node) followCatalogue(ctx context.Context) {
	for ctx.Err() == nil {
		r, err := n.system()
		if err != nil || r.Failed() != nil {
			pause(ctx, 50*time.Millisecond)
			continue
		}
		seen := r.Position()
		if _, err := n.cat.Refresh(ctx, localDB{n}); err != nil {
			if ctx.Err() == nil && seen.TXID > 0 {
				n.log.Debug("the catalogue can't be read yet", "error", err)
			}
			pause(ctx, 50*time.Millisecond)
			continue
		}
		n.catalogueChanged()
		n.awaitChange(ctx, r, seen.TXID)
	}
}

// awaitChange returns when the tenant has more than the transaction that was seen, or may have.
func (n *Node) awaitChange(ctx context.Context, r *resident, seen wire.TXID) {
	s, err := r.Acquire()
	if err != nil {
		pause(ctx, 50*time.Millisecond)
		return
	}
	defer r.Release()
	if err := pagestore.WaitVisible(ctx.Done(), s, seen+1); err != nil {
		pause(ctx, 10*time.Millisecond)
	}
}

// pause waits, at most until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// catalogueChanged does at once what follows from what the catalogue says now.
func (n *Node) catalogueChanged() {
	v := n.cat.View()
	addrs := make(map[string]string)
	var removed []string
	for _, nd := range v.Nodes() {
		if nd.State == catalogue.NodeRemoved {
			removed = append(removed, nd.ID)
		} else if nd.ID != n.id.Node {
			addrs[nd.ID] = nd.ClusterAddr
		}
	}
	if n.net != nil && len(v.Nodes()) > 0 {
		if err := n.peers.Set(addrs, removed); err != nil {
			n.log.Error("addresses of the other nodes are not kept", "error", err)
		}
		for _, id := range removed {
			if id != n.id.Node {
				n.net.Disconnect(id)
			}
		}
	}
	for _, g := range v.Groups() {
		n.openDeclared(g)
	}
	n.keeper.changed()
	if n.repl != nil {
		n.repl.changed()
	}
	n.sites.changedCatalogue()
}

// openDeclared opens a group that this node is to be a voter of. Of a new group the first of
// the voters makes the log; the others are added by it.
func (n *Node) openDeclared(g catalogue.Group) {
	if n.groups.get(g.ID) != nil {
		return
	}
	wanted := false
	for _, id := range g.Voters {
		wanted = wanted || id == n.id.Node
	}
	if !wanted {
		return
	}
	var founders []leader.NodeID
	if !g.Founded && g.Voters[0] == n.id.Node {
		founders = []leader.NodeID{leader.NodeID(n.id.Node)}
	}
	if _, err := n.groups.add(g.ID, founders); err != nil {
		n.log.Error("group can't be opened", "group", g.ID, "name", g.Name, "error", err)
		return
	}
	n.log.Info("group opened", "group", g.ID, "name", g.Name, "founds", len(founders) > 0)
}

// refreshCatalogue brings the catalogue in memory to what anybody was told before the call.
func (n *Node) refreshCatalogue(ctx context.Context) error {
	late, cancel := context.WithTimeout(ctx, bookmarkPatience)
	defer cancel()
	for {
		err := n.tryRefresh(late)
		if err == nil || late.Err() != nil && ctx.Err() == nil {
			return notReadyError(err)
		}
		if ctx.Err() != nil {
			return wire.AsError(ctx.Err())
		}
		pause(late, 20*time.Millisecond)
	}
}

// notReadyError says that the catalogue can't be had.
func notReadyError(err error) error {
	if err == nil {
		return nil
	}
	return wire.NewError(wire.CodeNotReady, "the cluster's catalogue can't be read: %w", err)
}

func (n *Node) tryRefresh(ctx context.Context) error {
	// The index comes first: before it is applied there may be no tenant `system` here.
	h := n.groups.get(systemGroup)
	if err := (quorum{h: h, anywhere: true}).applied(ctx); err != nil {
		return err
	}
	r, err := n.system()
	if err != nil {
		return err
	}
	if err := r.q.built(ctx); err != nil {
		return err
	}
	changed, err := n.cat.Refresh(ctx, localDB{n})
	if changed {
		n.catalogueChanged()
	}
	return err
}

// bootstrap makes the catalogue of a new cluster; on one that has it, it does nothing. This
// node must be the primary of the system group.
func (n *Node) bootstrap(ctx context.Context) error {
	h := n.groups.get(systemGroup)
	if _, err := h.pages.Tenant(tenant.SystemID()); err != nil {
		rec := tenant.Tenant{ID: tenant.SystemID(), Name: tenant.SystemName, Group: systemGroup, Epoch: 1, State: tenant.StateActive,
			PageSize: tenant.DefaultPageSize, Created: tenant.Millis(n.cfg.Now()), Policy: 1}
		if err := h.control(ctx, rec.ID, tenant.Created{Tenant: rec}); err != nil {
			return err
		}
	}
	db := localDB{n}
	if err := catalogue.Migrate(ctx, db); err != nil {
		return err
	}
	if _, err := n.cat.Refresh(ctx, db); err != nil {
		return err
	}
	if n.id.Joined || n.cat.View().Cluster != "" {
		return nil // also where a recovery has given the cluster another id since
	}
	return n.writer().Bootstrap(ctx, n.id.Cluster, n.self())
}

func (n *Node) writer() *catalogue.Writer { return catalogue.NewWriter(localDB{n}, n.cfg.Now) }

// self is what this node says of itself.
func (n *Node) self() catalogue.Node {
	addr := n.cfg.advertised()
	if addr == "" {
		addr = aloneAddr
	}
	return catalogue.Node{ID: n.id.Node, Incarnation: n.id.Incarnation, PoP: n.cfg.PoP, Region: n.cfg.Region, Labels: n.cfg.Labels,
		ClusterAddr: addr, PublicURL: n.cfg.PublicURL, State: catalogue.NodeActive, Joined: n.cfg.Now()}
}

// aloneAddr is in the catalogue for a node that others can't reach.
const aloneAddr = "-"

// knownPeers is the addresses of all nodes, this one's too.
func (n *Node) knownPeers() map[string]string {
	all := make(map[string]string)
	for _, nd := range n.cat.View().Nodes() {
		if nd.State != catalogue.NodeRemoved && nd.ClusterAddr != aloneAddr {
			all[nd.ID] = nd.ClusterAddr
		}
	}
	all[n.id.Node] = n.cfg.advertised()
	return all
}

// awaitReady returns when this node can answer: it has the catalogue, and knows the primaries of its groups.
func (n *Node) awaitReady(ctx context.Context) error {
	for {
		err := n.tryReady(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n.setReady(false, err)
		pause(ctx, 5*time.Millisecond)
	}
}

func (n *Node) tryReady(ctx context.Context) error {
	late, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if n.net == nil {
		for _, h := range n.groups.all() {
			if l, err := h.awaitLeader(late); err != nil || !l.Primary {
				return errors.Join(errors.New("it is becoming the primary of its groups"), err)
			}
		}
	}
	if n.cat.View().Version == 0 || n.net != nil {
		if err := n.tryRefresh(late); err != nil {
			return err
		}
	}
	if n.cat.View().Version == 0 {
		return errors.New("the catalogue is empty yet")
	}
	for _, g := range n.cat.View().Groups() {
		if slices.Contains(g.Voters, n.id.Node) && n.groups.get(g.ID) == nil {
			return fmt.Errorf("group %s is not open yet", g.Name)
		}
	}
	for _, h := range n.groups.all() {
		if l, err := h.awaitLeader(late); err != nil || n.net == nil && !l.Primary {
			return errors.Join(fmt.Errorf("group %d has no primary that this node knows of", h.id), err)
		}
	}
	return nil
}
