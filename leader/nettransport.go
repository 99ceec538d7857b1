package leader

import (
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	// messageBytes bounds the entries of one message to a follower, unless a
	// single one is larger.
	messageBytes = 2 << 20
	// messagesInFlight is how many messages may be under way to one follower.
	messagesInFlight = 32
	// connsPerPeer is how many idle connections raft keeps to a node.
	connsPerPeer = 3
)

// netTransport is a transport over a Network. What comes in goes through inbox
// before raft sees it.
type netTransport struct {
	*raft.NetworkTransport
	starting func()
	// committed is the part of a commit index that others may be told of; constant.
	committed func(uint64) uint64
	links     *links
	inbox     *inbox
	log       *slog.Logger

	mu struct {
		sync.Mutex
		peers map[NodeID]*contact
	}
}

// contact is what is known of the connection to another node.
type contact struct {
	last time.Time // when it last answered
	lost bool      // the last message to it failed
}

func newNetTransport(l *links, listener net.Listener, node NodeID, timeout time.Duration, in *inbox, starting func(), log *slog.Logger, hc hclog.Logger) *netTransport {
	t := &netTransport{starting: starting, links: l, inbox: in, log: log}
	t.mu.peers = make(map[NodeID]*contact)
	t.NetworkTransport = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Logger: hc, Stream: &stream{Listener: listener, links: l, node: node}, MaxPool: connsPerPeer,
		MaxRPCsInFlight: messagesInFlight, Timeout: timeout, MsgpackUseNewTimeFormat: true,
	})
	in.from = t.NetworkTransport.Consumer()
	return t
}

// SetHeartbeatHandler implements raft.Transport; see noTransport. Heartbeats
// are left to raft's main goroutine like all else: beside it they may set a
// term back that it is just raising, and all here rests on terms that only rise.
func (t *netTransport) SetHeartbeatHandler(func(raft.RPC)) { t.starting() }

// Consumer implements raft.Transport.
func (t *netTransport) Consumer() <-chan raft.RPC { return t.inbox.out }

// Close implements raft.WithClose.
func (t *netTransport) Close() error {
	t.links.cut()
	t.CloseStreams()
	err := t.NetworkTransport.Close()
	t.inbox.close()
	return err
}

// AppendEntries implements raft.Transport.
func (t *netTransport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	t.bound(args)
	err := t.NetworkTransport.AppendEntries(id, target, args, resp)
	t.note(NodeID(id), err)
	return err
}

// AppendEntriesPipeline implements raft.Transport.
func (t *netTransport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := t.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	return pipeline{p, t}, nil
}

// note remembers whether a node answered. One line per change.
func (t *netTransport) note(id NodeID, err error) {
	t.mu.Lock()
	c := t.mu.peers[id]
	if c == nil {
		c = &contact{}
		t.mu.peers[id] = c
	}
	before, last := c.lost, c.last
	c.lost = err != nil
	if err == nil {
		c.last = time.Now()
	}
	t.mu.Unlock()
	switch {
	case err != nil && !before:
		t.log.Warn("contact lost", "peer", string(id), "error", err)
	case err == nil && before:
		t.log.Info("contact again", "peer", string(id), "last", last)
	}
}

// lastContact is when a node last answered a message of raft; zero if never.
func (t *netTransport) lastContact(id NodeID) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.mu.peers[id]; c != nil {
		return c.last
	}
	return time.Time{}
}

// pipeline bounds what messages say.
type pipeline struct {
	raft.AppendPipeline
	transport *netTransport
}

// AppendEntries implements raft.AppendPipeline.
func (p pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	p.transport.bound(args)
	return p.AppendPipeline.AppendEntries(args, resp)
}

// bound leaves out of a message what it must not say, and what is too much for it.
func (t *netTransport) bound(args *raft.AppendEntriesRequest) {
	args.LeaderCommitIndex = t.committed(args.LeaderCommitIndex)
	trim(args)
}

// trim leaves the entries of a message that fit. raft counts entries, not
// bytes, and goes on from the last that the message has when it was sent. The
// first entry always stays: without it a follower could take the commit index
// of the message for that of its own, different entries.
func trim(args *raft.AppendEntriesRequest) {
	size := 0
	for i, e := range args.Entries {
		size += len(e.Data)
		if i > 0 && size > messageBytes {
			args.Entries = args.Entries[:i]
			return
		}
	}
}

// respond answers a message that raft is not given.
func respond(rpc raft.RPC, resp any, format string, args ...any) {
	rpc.Respond(resp, fmt.Errorf(format, args...))
}
