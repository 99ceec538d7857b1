package catalogue

import (
	"fmt"
	"maps"
	"time"

	"github.com/nearsql/nearsql/tenant"
)

// NodeState is where in its life a node is.
type NodeState string

// The states.
const (
	NodeActive   NodeState = "active"   // may vote
	NodeDraining NodeState = "draining" // leaves its groups when there are others to take its places
	NodeRemoving NodeState = "removing" // leaves its groups, and then the cluster
	NodeRemoved  NodeState = "removed"  // was a node; it never comes back
)

// earlier says from which states a node can come to one.
func (s NodeState) earlier() []NodeState {
	switch s {
	case NodeActive:
		return []NodeState{NodeDraining, NodeRemoving}
	case NodeDraining:
		return []NodeState{NodeActive, NodeRemoving}
	case NodeRemoving:
		return []NodeState{NodeActive, NodeDraining}
	case NodeRemoved:
		return []NodeState{NodeRemoving}
	}
	return nil
}

// Node is the row of a node. What it refers to must not be changed.
type Node struct {
	ID          string // a label, as tenant.CheckLabel has it
	Incarnation string // random; of the data directory that bears the id
	PoP         string
	Region      string // "" for none
	Labels      map[string]string
	ClusterAddr string // HOST:PORT that other nodes dial
	PublicURL   string // of its API; "" if it has none
	State       NodeState
	Joined      time.Time
	Version     uint64 // of its newest change
}

// OutgoingOnly is the ClusterAddr of a node that listens nowhere: connections to it begin on lines that it has opened.
const OutgoingOnly = "outgoing-only:0"

// Listens says whether others can dial the node whenever they like, as they must if it votes or feeds.
func (n *Node) Listens() bool { return n.ClusterAddr != OutgoingOnly }

// Bounds of a node's row, in bytes.
const (
	maxIncarnation = 128
	maxAddress     = 512
	maxLabels      = 64 // labels
	maxLabelValue  = 256
)

// Validate says what in a node's own words can't be: State, Joined and Version are not looked at.
func (n *Node) Validate() error {
	for _, l := range []struct {
		field, value string
		optional     bool
	}{{"id", n.ID, false}, {"PoP", n.PoP, false}, {"region", n.Region, true}} {
		if l.optional && l.value == "" {
			continue
		}
		if err := tenant.CheckLabel(l.value); err != nil {
			return fmt.Errorf("node %.80q: %s: %w", n.ID, l.field, err)
		}
	}
	switch {
	case n.Incarnation == "" || len(n.Incarnation) > maxIncarnation:
		return fmt.Errorf("node %q: incarnation has %d bytes, want 1 to %d", n.ID, len(n.Incarnation), maxIncarnation)
	case n.ClusterAddr == "" || len(n.ClusterAddr) > maxAddress:
		return fmt.Errorf("node %q: cluster address has %d bytes, want 1 to %d", n.ID, len(n.ClusterAddr), maxAddress)
	case len(n.PublicURL) > maxAddress:
		return fmt.Errorf("node %q: public URL has %d bytes, want at most %d", n.ID, len(n.PublicURL), maxAddress)
	case len(n.Labels) > maxLabels:
		return fmt.Errorf("node %q: has %d labels, at most %d are allowed", n.ID, len(n.Labels), maxLabels)
	}
	for k, v := range maps.All(n.Labels) {
		if k == "" || len(k) > maxLabelValue || len(v) > maxLabelValue {
			return fmt.Errorf("node %q: label %.80q: key or value has more than %d bytes, or the key none", n.ID, k, maxLabelValue)
		}
	}
	return nil
}
