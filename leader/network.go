package leader

import (
	"context"
	"net"

	"github.com/nearsql/nearsql/wire"
)

// Purpose is what a connection between two nodes of a group is for. The
// numbers are those of the cluster's hello.
type Purpose uint8

// The purposes of a group's connections.
const (
	PurposeRaft    Purpose = 1 // raft's messages
	PurposeConfirm Purpose = 2 // FORMAT.md's frames
)

// Network is how a group reaches its other nodes. A connection reaches what
// listens on the other node for the same group and purpose.
type Network interface {
	// Dial connects to a node before ctx ends.
	Dial(ctx context.Context, to NodeID, group wire.GroupID, purpose Purpose) (net.Conn, error)
	// Listen takes the connections of other nodes. There is one listener at a
	// time for each group and purpose.
	Listen(group wire.GroupID, purpose Purpose) (net.Listener, error)
}
