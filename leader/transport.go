package leader

import "github.com/hashicorp/raft"

// transport is how raft reaches other nodes; a group of one node has none to reach.
type transport struct {
	*raft.InmemTransport
	starting func()
}

var _ raft.WithPreVote = (*transport)(nil)

// newTransport returns a transport that calls starting when raft has read its
// log and is about to start its goroutines. What raft panics over can be caught
// before that, but not after.
func newTransport(node NodeID, starting func()) *transport {
	_, inner := raft.NewInmemTransport(raft.ServerAddress(node))
	return &transport{InmemTransport: inner, starting: starting}
}

// SetHeartbeatHandler implements raft.Transport. It is the last that NewRaft
// calls before it starts goroutines (raft v1.8.0).
func (t *transport) SetHeartbeatHandler(handle func(raft.RPC)) {
	t.starting()
	t.InmemTransport.SetHeartbeatHandler(handle)
}
