package clienttest

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/wire"
)

// Cluster is what the node says of a cluster: a list of nodes and one of groups, without any work. A node that drains
// is no voter any more when it is next shown, and a node that is to be removed is gone after it was shown twice.
type Cluster struct {
	mu struct {
		sync.Mutex
		nodes  []httpapi.NodeInfo
		groups []httpapi.GroupInfo
		shown  map[string]int // how often a node was shown since it is to be removed
	}
}

// Set says what nodes and groups there are.
func (c *Cluster) Set(nodes []httpapi.NodeInfo, groups []httpapi.GroupInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.nodes, c.mu.groups, c.mu.shown = slices.Clone(nodes), slices.Clone(groups), map[string]int{}
}

func (c *Cluster) nodeLocked(id string) (int, error) {
	i := slices.IndexFunc(c.mu.nodes, func(n httpapi.NodeInfo) bool { return n.ID == id })
	if i < 0 {
		return 0, wire.NewError(wire.CodeNoSuchNode, "no node has the id %q", id)
	}
	return i, nil
}

func (c *Cluster) groupLocked(name string) (int, error) {
	i := slices.IndexFunc(c.mu.groups, func(g httpapi.GroupInfo) bool { return g.Name == name || strconv.Itoa(int(g.ID)) == name })
	if i < 0 {
		return 0, wire.NewError(wire.CodeNoSuchGroup, "no group is %q", name)
	}
	return i, nil
}

// Nodes implements httpapi.Cluster.
func (c *Cluster) Nodes(context.Context) ([]httpapi.NodeInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mu.nodes), nil
}

// Node implements httpapi.Cluster.
func (c *Cluster) Node(_ context.Context, id string) (httpapi.NodeInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, err := c.nodeLocked(id)
	if err != nil {
		return httpapi.NodeInfo{}, err
	}
	n := c.mu.nodes[i]
	switch n.State {
	case httpapi.NodeRemoving:
		if c.mu.shown[id]++; c.mu.shown[id] == 2 {
			c.mu.nodes = slices.Delete(c.mu.nodes, i, i+1)
		}
	case httpapi.NodeDraining:
		groups := slices.Clone(n.Groups)
		for j, g := range groups {
			groups[j] = strings.Replace(g, ":voter", ":learner", 1)
		}
		c.mu.nodes[i].Groups = groups
	}
	return n, nil
}

// SetNodeState implements httpapi.Cluster.
func (c *Cluster) SetNodeState(_ context.Context, id, state string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, err := c.nodeLocked(id)
	if err == nil {
		c.mu.nodes[i].State = state
	}
	return err
}

// Groups implements httpapi.Cluster.
func (c *Cluster) Groups(context.Context) ([]httpapi.GroupInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mu.groups), nil
}

// Group implements httpapi.Cluster.
func (c *Cluster) Group(_ context.Context, idOrName string) (httpapi.GroupInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, err := c.groupLocked(idOrName)
	if err != nil {
		return httpapi.GroupInfo{}, err
	}
	return c.mu.groups[i], nil
}

// CreateGroup implements httpapi.Cluster.
func (c *Cluster) CreateGroup(_ context.Context, o httpapi.GroupOptions) (httpapi.GroupInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.groupLocked(o.Name); err == nil {
		return httpapi.GroupInfo{}, wire.NewError(wire.CodeConflict, "there is a group %q already", o.Name)
	}
	g := httpapi.GroupInfo{ID: wire.GroupID(len(c.mu.groups) + 1), Name: o.Name, Declared: o.Voters, Pinned: o.Voters != nil, Target: o.Target, Region: o.Region}
	c.mu.groups = append(c.mu.groups, g)
	return g, nil
}

// MoveLeader implements httpapi.Cluster.
func (c *Cluster) MoveLeader(_ context.Context, idOrName, to string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, err := c.groupLocked(idOrName)
	if err != nil {
		return err
	}
	if !slices.Contains(c.mu.groups[i].Voters, to) {
		return wire.NewError(wire.CodeConflict, "node %s is no voter of group %s", to, c.mu.groups[i].Name)
	}
	c.mu.groups[i].Primary = to
	return nil
}
