package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// Node is what is known of one node of the cluster.
type Node struct {
	ID          string            `json:"id"`
	PoP         string            `json:"pop"`
	Region      string            `json:"region"`
	Labels      map[string]string `json:"labels,omitempty"`
	State       string            `json:"state"` // active, draining, removing
	ClusterAddr string            `json:"cluster_addr"`
	PublicURL   string            `json:"public_url"`
	Joined      time.Time         `json:"joined"`
	Self        bool              `json:"self"`         // it is the node that answered
	Connected   bool              `json:"connected"`    // the node that answered has a connection to it
	LastContact *time.Time        `json:"last_contact"` // when that node last heard of it; nil for never
	Groups      []string          `json:"groups"`       // each as "NAME:voter" or "NAME:learner"
}

// Group is what is known of one group.
type Group struct {
	ID       wire.GroupID `json:"id"`
	Name     string       `json:"name"`
	Declared []string     `json:"declared"` // nodes that are to be its voters
	Voters   []string     `json:"voters"`   // those that are
	Learners []string     `json:"learners"`
	Primary  string       `json:"primary"` // "" when none is known
	Term     uint64       `json:"term"`
	Pinned   bool         `json:"pinned"` // an administrator chose the voters
	Target   int          `json:"target"` // how many voters it is to have
	Region   string       `json:"region"`
	Tenants  int          `json:"tenants"`
	Members  []Member     `json:"members"`
}

// Member is how far one member of a group is, as its primary knows it.
type Member struct {
	ID            string `json:"id"`
	Voter         bool   `json:"voter"`
	Applied       uint64 `json:"applied"`         // index of the log's last entry that it has
	Behind        uint64 `json:"behind"`          // entries of the primary's log that it has not
	LastContactMS *int64 `json:"last_contact_ms"` // since the primary heard of it, in milliseconds; nil for never
}

// GroupOptions is what may be asked for at a group's creation. Zero fields but Name leave the choice to the cluster.
type GroupOptions struct {
	Name   string   `json:"name"`
	Voters []string `json:"voters,omitempty"`
	Target int      `json:"target,omitempty"`
	Region string   `json:"region,omitempty"`
}

func nodePath(id, rest string) string { return "/v1/nodes/" + url.PathEscape(id) + rest }

func groupPath(idOrName, rest string) string { return "/v1/groups/" + url.PathEscape(idOrName) + rest }

// Nodes gives all nodes, by id.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	var list struct {
		Nodes []Node `json:"nodes"`
	}
	err := c.json(ctx, http.MethodGet, "/v1/nodes", nil, nil, &list)
	return list.Nodes, err
}

// Node gives one node.
func (c *Client) Node(ctx context.Context, id string) (Node, error) {
	var n Node
	err := c.json(ctx, http.MethodGet, nodePath(id, ""), nil, nil, &n)
	return n, err
}

// Drain has the groups of a node take other voters. It returns when that is decided.
func (c *Client) Drain(ctx context.Context, id string) error {
	return c.json(ctx, http.MethodPost, nodePath(id, "/drain"), nil, nil, nil)
}

// Undrain lets a node be a voter again.
func (c *Client) Undrain(ctx context.Context, id string) error {
	return c.json(ctx, http.MethodPost, nodePath(id, "/undrain"), nil, nil, nil)
}

// RemoveNode has a node drained and then forgotten. It returns when that is decided.
func (c *Client) RemoveNode(ctx context.Context, id string) error {
	return c.json(ctx, http.MethodDelete, nodePath(id, ""), nil, nil, nil)
}

// Groups gives all groups, by number.
func (c *Client) Groups(ctx context.Context) ([]Group, error) {
	var list struct {
		Groups []Group `json:"groups"`
	}
	err := c.json(ctx, http.MethodGet, "/v1/groups", nil, nil, &list)
	return list.Groups, err
}

// Group gives the group of that number or name.
func (c *Client) Group(ctx context.Context, idOrName string) (Group, error) {
	var g Group
	err := c.json(ctx, http.MethodGet, groupPath(idOrName, ""), nil, nil, &g)
	return g, err
}

// CreateGroup makes a group.
func (c *Client) CreateGroup(ctx context.Context, o GroupOptions) (Group, error) {
	var g Group
	err := c.json(ctx, http.MethodPost, "/v1/groups", nil, o, &g)
	return g, err
}

// MoveLeader makes a voter the primary of a group. It returns when it is.
func (c *Client) MoveLeader(ctx context.Context, idOrName, to string) error {
	return c.json(ctx, http.MethodPost, groupPath(idOrName, "/move-leader"), nil, map[string]string{"to": to}, nil)
}
