package sqlnode

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/sqlnode/catalogue"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/wire"
)

// clusterService is httpapi.Cluster.
type clusterService struct{ n *Node }

// Nodes implements httpapi.Cluster.
func (s clusterService) Nodes(ctx context.Context) ([]httpapi.NodeInfo, error) {
	if err := s.n.refreshCatalogue(ctx); err != nil {
		return nil, err
	}
	v := s.n.cat.View()
	heard := s.contacts()
	list := make([]httpapi.NodeInfo, 0, len(v.Nodes()))
	for _, nd := range v.Nodes() {
		if nd.State != catalogue.NodeRemoved {
			list = append(list, s.info(v, nd, heard))
		}
	}
	return list, nil
}

// Node implements httpapi.Cluster.
func (s clusterService) Node(ctx context.Context, id string) (httpapi.NodeInfo, error) {
	if err := s.n.refreshCatalogue(ctx); err != nil {
		return httpapi.NodeInfo{}, err
	}
	v := s.n.cat.View()
	nd, ok := knownNode(v, id)
	if !ok {
		return httpapi.NodeInfo{}, wire.NewError(wire.CodeNoSuchNode, "no node has the id %q", id)
	}
	return s.info(v, nd, s.contacts()), nil
}

// knownNode is a node that was not removed. Of others the catalogue keeps only that they never come back.
func knownNode(v *catalogue.View, id string) (catalogue.Node, bool) {
	nd, ok := v.Node(id)
	return nd, ok && nd.State != catalogue.NodeRemoved
}

// contacts is when this node last heard of others, by the groups that it leads.
func (s clusterService) contacts() map[string]time.Time {
	heard := map[string]time.Time{}
	for _, h := range s.n.groups.all() {
		if h.log().Primary() != nil {
			continue
		}
		for _, p := range h.log().Stats().Peers {
			if at, ok := heard[string(p.ID)]; !ok || p.LastContact.After(at) {
				heard[string(p.ID)] = p.LastContact
			}
		}
	}
	return heard
}

func (s clusterService) info(v *catalogue.View, nd catalogue.Node, heard map[string]time.Time) httpapi.NodeInfo {
	i := httpapi.NodeInfo{ID: nd.ID, PoP: nd.PoP, Region: nd.Region, Labels: nd.Labels, State: string(nd.State), ClusterAddr: nd.ClusterAddr,
		PublicURL: nd.PublicURL, Joined: nd.Joined, Self: nd.ID == s.n.id.Node, Groups: []string{}}
	t, led := heard[nd.ID]
	switch {
	case i.Self:
		i.Connected = true
	case led: // connections outlive a node that died; a primary hears of its members all the time
		i.Connected = s.n.cfg.Now().Sub(t) < max(3*time.Second, 3*s.n.cfg.HeartbeatTimeout)
	case s.n.net != nil:
		i.Connected = s.n.net.Connected(nd.ID)
	}
	if !t.IsZero() {
		i.LastContact = &t
	}
	for _, g := range v.Groups() {
		switch {
		case slices.Contains(g.Members.Voters, nd.ID):
			i.Groups = append(i.Groups, g.Name+":voter")
		case slices.Contains(g.Members.Learners, nd.ID):
			i.Groups = append(i.Groups, g.Name+":learner")
		}
	}
	return i
}

// SetNodeState implements httpapi.Cluster.
func (s clusterService) SetNodeState(ctx context.Context, id, state string) error {
	if err := s.n.refreshCatalogue(ctx); err != nil {
		return err
	}
	v := s.n.cat.View()
	if _, ok := knownNode(v, id); !ok {
		return wire.NewError(wire.CodeNoSuchNode, "no node has the id %q", id)
	}
	if state != httpapi.NodeActive && !otherActive(v, id) {
		return wire.NewError(wire.CodeConflict, "node %q is the only one that is active: nothing could take over from it", id)
	}
	_, err := s.n.callSystem(ctx, &systemCall{Op: opNodeState, Node: &catalogue.Node{ID: id}, State: state})
	if err == nil {
		s.n.log.Info("node state asked for", "node", id, "state", state)
	}
	return err
}

func otherActive(v *catalogue.View, id string) bool {
	for _, nd := range v.Nodes() {
		if nd.ID != id && nd.State == catalogue.NodeActive {
			return true
		}
	}
	return false
}

// Groups implements httpapi.Cluster.
func (s clusterService) Groups(ctx context.Context) ([]httpapi.GroupInfo, error) {
	if err := s.n.refreshCatalogue(ctx); err != nil {
		return nil, err
	}
	v := s.n.cat.View()
	list := make([]httpapi.GroupInfo, 0, len(v.Groups()))
	for _, g := range v.Groups() {
		list = append(list, s.group(v, g))
	}
	return list, nil
}

// Group implements httpapi.Cluster.
func (s clusterService) Group(ctx context.Context, idOrName string) (httpapi.GroupInfo, error) {
	if err := s.n.refreshCatalogue(ctx); err != nil {
		return httpapi.GroupInfo{}, err
	}
	v := s.n.cat.View()
	g, err := findGroup(v, idOrName)
	if err != nil {
		return httpapi.GroupInfo{}, err
	}
	// Its primary knows how far the members are.
	if h := s.n.groups.get(g.ID); h != nil {
		if err := s.n.elsewhere(h, nil); err != nil {
			return httpapi.GroupInfo{}, err
		}
	} else if node := s.n.memberOf(g.ID); node != "" && s.n.net != nil {
		return httpapi.GroupInfo{}, &httpapi.ElsewhereError{Node: node, Reads: true}
	}
	return s.group(v, g), nil
}

func findGroup(v *catalogue.View, idOrName string) (catalogue.Group, error) {
	if n, err := strconv.ParseUint(idOrName, 10, 32); err == nil {
		if g, ok := v.Group(wire.GroupID(n)); ok {
			return g, nil
		}
	}
	if g, ok := v.GroupByName(idOrName); ok {
		return g, nil
	}
	return catalogue.Group{}, wire.NewError(wire.CodeNoSuchGroup, "no group is %q", idOrName)
}

// group is what is known of a group: here, if this node is a member, else from the catalogue.
func (s clusterService) group(v *catalogue.View, g catalogue.Group) httpapi.GroupInfo {
	i := httpapi.GroupInfo{ID: g.ID, Name: g.Name, Declared: g.Voters, Voters: orEmpty(g.Members.Voters), Learners: orEmpty(g.Members.Learners),
		Primary: g.Members.Primary, Term: g.Members.Term, Pinned: g.Pinned, Target: g.Target, Region: g.Region, Tenants: v.TenantCount(g.ID),
		Members: []httpapi.MemberInfo{}}
	h := s.n.groups.get(g.ID)
	if h == nil {
		return i
	}
	st := h.log().Stats()
	l, _, _ := h.leadership()
	i.Term, i.Primary = st.Term, string(l.Leader)
	conf, err := h.log().Configuration()
	if err != nil {
		return i
	}
	i.Voters, i.Learners = []string{}, []string{}
	now := s.n.cfg.Now()
	for _, m := range conf.Members {
		if m.Voter {
			i.Voters = append(i.Voters, string(m.ID))
		} else {
			i.Learners = append(i.Learners, string(m.ID))
		}
		info := httpapi.MemberInfo{ID: string(m.ID), Voter: m.Voter}
		if m.ID == leader.NodeID(s.n.id.Node) {
			info.Applied = st.AppliedIndex
			zero := int64(0)
			info.LastContactMS = &zero
		} else if l.Primary {
			for _, p := range st.Peers {
				if p.ID == m.ID && !p.LastContact.IsZero() {
					ms := now.Sub(p.LastContact).Milliseconds()
					info.LastContactMS = &ms
				}
			}
		}
		i.Members = append(i.Members, info)
	}
	return i
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// CreateGroup implements httpapi.Cluster.
func (s clusterService) CreateGroup(ctx context.Context, o httpapi.GroupOptions) (httpapi.GroupInfo, error) {
	var none httpapi.GroupInfo
	if s.n.net == nil {
		return none, wire.NewError(wire.CodeConflict, "this node is alone: more groups make sense in a cluster (--cluster-listen)")
	}
	if err := s.n.refreshCatalogue(ctx); err != nil {
		return none, err
	}
	v := s.n.cat.View()
	p := catalogue.Policy{Pinned: len(o.Voters) > 0, Target: o.Target, Region: o.Region}
	if p.Target == 0 {
		p.Target = 3
		if p.Pinned {
			p.Target = len(o.Voters) | 1
		}
	}
	voters := o.Voters
	if !p.Pinned {
		if voters = catalogue.Choose(v.Nodes(), v.Groups(), p); len(voters) == 0 {
			return none, wire.NewError(wire.CodeConflict, "no active node may vote in such a group")
		}
	}
	a, err := s.n.callSystem(ctx, &systemCall{Op: opCreateGroup, Name: o.Name, Voters: voters, Policy: &p})
	if err != nil {
		return none, err
	}
	if err := s.n.refreshCatalogue(ctx); err != nil {
		return none, err
	}
	v = s.n.cat.View()
	g, ok := v.Group(a.Group)
	if !ok {
		return none, wire.NewError(wire.CodeInternal, "group %d was made, and is not in the catalogue", a.Group)
	}
	return s.group(v, g), nil
}

// MoveLeader implements httpapi.Cluster.
func (s clusterService) MoveLeader(ctx context.Context, idOrName, to string) error {
	if err := s.n.refreshCatalogue(ctx); err != nil {
		return err
	}
	v := s.n.cat.View()
	g, err := findGroup(v, idOrName)
	if err != nil {
		return err
	}
	h := s.n.groups.get(g.ID)
	if h == nil {
		node := s.n.memberOf(g.ID)
		if node == "" || s.n.net == nil {
			return wire.NewError(wire.CodeUnreachable, "no member of group %q is known", g.Name)
		}
		return &httpapi.ElsewhereError{Node: node}
	}
	if err := s.n.wantPrimary(ctx, h); err != nil {
		return err
	}
	if to == s.n.id.Node {
		return nil
	}
	if err := h.log().TransferLeadership(ctx, leader.NodeID(to)); err != nil {
		return leaderError(err)
	}
	// The new primary answers for itself once it has made all of earlier terms its own.
	late, cancel := context.WithTimeout(ctx, bookmarkPatience)
	defer cancel()
	for (quorum{h: h, anywhere: true}).applied(late) != nil && late.Err() == nil {
		pause(late, 5*time.Millisecond)
	}
	return nil
}
