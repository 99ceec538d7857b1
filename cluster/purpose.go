package cluster

import "fmt"

// Purpose is what a connection is for: which protocol follows the hello.
type Purpose uint8

// The purposes that nearsql has. Numbers are never used again.
const (
	PurposeRaft    Purpose = 1 // messages of hashicorp/raft, of one group
	PurposeConfirm Purpose = 2 // rounds of the read index
	PurposeHTTP    Purpose = 3 // requests between nodes
	PurposeStream  Purpose = 4 // transactions to replicas
	PurposeJoin    Purpose = 5 // a node that knows the cluster by an address alone; see Join

	PurposeExchange Purpose = 6 // changes of conflict-free tables between sites
	PurposeLine     Purpose = 7 // a line to a node that listens nowhere, which it opened; a connection of another purpose begins on it
)

// String returns the purpose's name.
func (p Purpose) String() string {
	switch p {
	case PurposeRaft:
		return "raft"
	case PurposeConfirm:
		return "confirm"
	case PurposeHTTP:
		return "http"
	case PurposeStream:
		return "stream"
	case PurposeJoin:
		return "join"
	case PurposeExchange:
		return "exchange"
	case PurposeLine:
		return "line"
	}
	return fmt.Sprintf("purpose(%d)", uint8(p))
}
