package leader

import "github.com/hashicorp/raft"

// transport is how raft reaches other nodes.
type transport interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
}

// noTransport is the transport of a group that has no network.
type noTransport struct {
	*raft.InmemTransport
	starting func()
}

// newNoTransport returns a transport that calls starting when raft has read its
// log and is about to start its goroutines. What raft panics over can be caught
// before that, but not after.
func newNoTransport(node NodeID, starting func()) *noTransport {
	_, inner := raft.NewInmemTransport(raft.ServerAddress(node))
	return &noTransport{InmemTransport: inner, starting: starting}
}

// SetHeartbeatHandler implements raft.Transport. It is the last that NewRaft
// calls before it starts goroutines (raft v1.8.0).
func (t *noTransport) SetHeartbeatHandler(handle func(raft.RPC)) {
	t.starting()
	t.InmemTransport.SetHeartbeatHandler(handle)
}
