package leader

import (
	"bytes"
	"io"
	"sync"

	"github.com/hashicorp/raft"
)

const (
	// installBytes bounds a snapshot that is received; those of a Machine are lists of positions.
	installBytes = 64 << 20
	// installsMax is how many are received at a time.
	installsMax = 4
)

// inbox is what comes to raft from other nodes, one message after the other.
// It keeps from raft what raft v1.8.0 does wrong:
//
//   - raft's main goroutine reads a snapshot from the connection, and neither
//     votes nor follows until it is there: inbox receives it first.
//   - An installed snapshot replaces all of the log, also entries behind it
//     that this voter acknowledged. A message that was long under way would
//     undo them: inbox answers for a snapshot that the log contains already.
//   - After one, raft still believes in the end of the log that was there, if
//     that was behind the snapshot: diverged tells, and nothing more comes in.
//   - A node without any configuration votes for anybody.
//   - A log that contradicts what was applied here is taken all the same.
type inbox struct {
	from  <-chan raft.RPC // of the network
	out   chan raft.RPC   // to raft
	whole chan raft.RPC   // InstallSnapshotRequests that are received

	// Set before run.
	raft     func() *raft.Raft
	has      func(index, term uint64) (bool, error) // whether log or snapshots have the entry, and so all up to it
	refuse   func(raft.RPC) error                   // why a message must not be taken; nil when it may be
	diverged func()
	settle   func() // returns when this node has stored what raft believes it has

	stop      chan struct{}
	stopped   sync.Once
	receiving sync.WaitGroup
	slots     chan struct{}
}

func newInbox() *inbox {
	return &inbox{
		out: make(chan raft.RPC), whole: make(chan raft.RPC), stop: make(chan struct{}), slots: make(chan struct{}, installsMax),
	}
}

func (in *inbox) close() { in.stopped.Do(func() { close(in.stop) }) }

// run passes messages on until close, or until raft may be given no more.
func (in *inbox) run() {
	defer in.receiving.Wait()
	for {
		var rpc raft.RPC
		select {
		case rpc = <-in.from:
		case rpc = <-in.whole:
			if !in.install(rpc) {
				return
			}
			continue
		case <-in.stop:
			return
		}
		if err := in.refuse(rpc); err != nil {
			in.turnDown(rpc, err)
			continue
		}
		switch cmd := rpc.Command.(type) {
		case *raft.InstallSnapshotRequest:
			in.receive(rpc, cmd)
		case *raft.RequestVoteRequest:
			if in.hasNoVote() {
				respond(rpc, &raft.RequestVoteResponse{}, "this node knows no configuration")
				continue
			}
			in.pass(rpc)
		case *raft.RequestPreVoteRequest:
			if in.hasNoVote() {
				respond(rpc, &raft.RequestPreVoteResponse{}, "this node knows no configuration")
				continue
			}
			in.pass(rpc)
		default:
			in.pass(rpc)
		}
	}
}

// turnDown answers a message that raft is not given.
func (in *inbox) turnDown(rpc raft.RPC, err error) {
	switch cmd := rpc.Command.(type) {
	case *raft.InstallSnapshotRequest:
		in.receiving.Go(func() {
			_, _ = io.Copy(io.Discard, rpc.Reader)
			respond(rpc, &raft.InstallSnapshotResponse{}, "%w", err)
		})
	case *raft.RequestVoteRequest:
		respond(rpc, &raft.RequestVoteResponse{}, "%w", err)
	case *raft.RequestPreVoteRequest:
		respond(rpc, &raft.RequestPreVoteResponse{}, "%w", err)
	case *raft.AppendEntriesRequest:
		respond(rpc, &raft.AppendEntriesResponse{}, "%w", err)
	case *raft.TimeoutNowRequest:
		respond(rpc, &raft.TimeoutNowResponse{}, "%w", err)
	default:
		respond(rpc, nil, "%w: %T", err, cmd)
	}
}

func (in *inbox) hasNoVote() bool {
	return len(in.raft().GetConfiguration().Configuration().Servers) == 0
}

// pass gives raft a message, and returns when it is answered.
func (in *inbox) pass(rpc raft.RPC) (raft.RPCResponse, bool) {
	answer := make(chan raft.RPCResponse, 1)
	inner := rpc
	inner.RespChan = answer
	select {
	case in.out <- inner:
	case <-in.stop:
		return raft.RPCResponse{}, false
	}
	select {
	case resp := <-answer:
		if _, ok := rpc.Command.(*raft.AppendEntriesRequest); ok {
			// Of a primary that was: it counts what this node has as stored.
			in.settle()
		}
		rpc.RespChan <- resp
		return resp, true
	case <-in.stop:
		return raft.RPCResponse{}, false
	}
}

// receive reads a snapshot, which may take as long as its connection is open,
// beside what else comes.
func (in *inbox) receive(rpc raft.RPC, req *raft.InstallSnapshotRequest) {
	select {
	case in.slots <- struct{}{}:
	default:
		in.receiving.Go(func() {
			_, _ = io.Copy(io.Discard, rpc.Reader)
			respond(rpc, &raft.InstallSnapshotResponse{}, "%d snapshots are being received", installsMax)
		})
		return
	}
	in.receiving.Go(func() {
		defer func() { <-in.slots }()
		if req.Size < 0 || req.Size > installBytes {
			_, _ = io.Copy(io.Discard, rpc.Reader)
			respond(rpc, &raft.InstallSnapshotResponse{}, "snapshot of %d bytes, at most %d are taken", req.Size, installBytes)
			return
		}
		var body bytes.Buffer
		if n, err := io.Copy(&body, rpc.Reader); err != nil || n != req.Size {
			respond(rpc, &raft.InstallSnapshotResponse{}, "snapshot of %d bytes ended after %d: %v", req.Size, n, err)
			return
		}
		rpc.Reader = &body
		select {
		case in.whole <- rpc:
		case <-in.stop:
		}
	})
}

// install gives raft a snapshot, unless it has what is in it. It says whether
// raft may be given more.
func (in *inbox) install(rpc raft.RPC) bool {
	req := rpc.Command.(*raft.InstallSnapshotRequest)
	r := in.raft()
	if term := r.CurrentTerm(); req.Term >= term {
		has, err := in.has(req.LastLogIndex, req.LastLogTerm)
		if err != nil {
			respond(rpc, &raft.InstallSnapshotResponse{Term: term}, "look for entry %d: %w", req.LastLogIndex, err)
			return true
		}
		if has {
			rpc.Respond(&raft.InstallSnapshotResponse{Term: term, Success: true}, nil)
			return true
		}
	}
	answer := make(chan raft.RPCResponse, 1)
	inner := rpc
	inner.RespChan = answer
	select {
	case in.out <- inner:
	case <-in.stop:
		return false
	}
	select {
	case resp := <-answer:
		if r.LastIndex() > req.LastLogIndex {
			if installed, ok := resp.Response.(*raft.InstallSnapshotResponse); ok && installed.Success {
				in.diverged()
				return false
			}
		}
		rpc.RespChan <- resp
		return true
	case <-in.stop:
		return false
	}
}
