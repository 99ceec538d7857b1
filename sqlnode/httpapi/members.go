package httpapi

import (
	"context"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// Cluster keeps the cluster's nodes and groups. Only administrators get to it. Errors for clients are *wire.Error,
// NO_SUCH_NODE, NO_SUCH_GROUP and CONFLICT among them. Every method may return an *ElsewhereError.
type Cluster interface {
	// Nodes gives all nodes, by id.
	Nodes(ctx context.Context) ([]NodeInfo, error)
	Node(ctx context.Context, id string) (NodeInfo, error)
	// SetNodeState declares what a node is to be: one of the node states below. It returns
	// when that is decided; that the groups follow takes longer, and is seen in Nodes.
	SetNodeState(ctx context.Context, id, state string) error
	// Groups gives all groups, by id.
	Groups(ctx context.Context) ([]GroupInfo, error)
	// Group gives the group with that number, written in decimal, or that name.
	Group(ctx context.Context, idOrName string) (GroupInfo, error)
	CreateGroup(ctx context.Context, o GroupOptions) (GroupInfo, error)
	// MoveLeader makes a voter, to, the group's primary, and returns when it is.
	MoveLeader(ctx context.Context, idOrName, to string) error
}

// What SetNodeState declares.
const (
	NodeActive   = "active"   // may be a voter
	NodeDraining = "draining" // its groups get other voters
	NodeRemoving = "removing" // drains, and is then forgotten
)

// NodeInfo is what is known of one node.
type NodeInfo struct {
	ID          string            `json:"id"`
	PoP         string            `json:"pop"`
	Region      string            `json:"region"`
	Labels      map[string]string `json:"labels,omitempty"`
	State       string            `json:"state"`
	ClusterAddr string            `json:"cluster_addr"`
	PublicURL   string            `json:"public_url"`
	Joined      time.Time         `json:"joined"`
	Self        bool              `json:"self"`      // it is the node that answers
	Connected   bool              `json:"connected"` // the node that answers has a connection to it
	// LastContact is when the node that answers last heard of it; nil for never.
	LastContact *time.Time `json:"last_contact"`
	// Groups are those that it belongs to, each as "NAME:voter" or "NAME:learner".
	Groups []string `json:"groups"`
}

// GroupInfo is what is known of one group.
type GroupInfo struct {
	ID       wire.GroupID `json:"id"`
	Name     string       `json:"name"`
	Declared []string     `json:"declared"` // nodes that are to be its voters
	Voters   []string     `json:"voters"`   // those that are
	Learners []string     `json:"learners"`
	Primary  string       `json:"primary"` // "" when none is known
	Term     uint64       `json:"term"`
	Pinned   bool         `json:"pinned"` // the declaration is an administrator's and is left alone
	Target   int          `json:"target"` // how many voters it is to have
	Region   string       `json:"region"`
	Tenants  int          `json:"tenants"`
	Members  []MemberInfo `json:"members"`
}

// MemberInfo is how far one member of a group is, as its primary knows it.
type MemberInfo struct {
	ID      string `json:"id"`
	Voter   bool   `json:"voter"`
	Applied uint64 `json:"applied"` // index of the log's last entry that it has
	Behind  uint64 `json:"behind"`  // entries of the primary's log that it has not
	// LastContactMS is how long ago the primary heard of it, in milliseconds; nil for never.
	LastContactMS *int64 `json:"last_contact_ms"`
}

// GroupOptions is what may be asked for at a group's creation. Zero fields leave the choice to the cluster.
type GroupOptions struct {
	Name   string   `json:"name"`
	Voters []string `json:"voters"` // node ids; the group is then pinned to them
	Target int      `json:"target"` // how many voters it is to have
	Region string   `json:"region"` // where they are to be
}
