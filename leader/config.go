package leader

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/wire"
)

// NodeID names a node. It is also the node's address within Raft: what is
// dialled is looked up when it is dialled.
type NodeID string

// EntryMax is the largest entry that Propose takes. Callers keep far below it:
// entries of 64 KiB let a group's throughput not depend on distance.
const EntryMax = 1 << 20

// Config is what a Group needs. Zero numbers and durations mean the defaults.
type Config struct {
	Group   wire.GroupID
	Node    NodeID
	FS      disk.FS
	Dir     string // of this group alone; made if it is missing
	Machine Machine
	Log     *slog.Logger // nil for none

	// Network reaches the other nodes; nil for a group that never has any.
	Network Network

	// MayChange returns an error while no member may be promoted or removed,
	// since this node's Machine does not hold all of the state yet that it was
	// given: it counts as if it did. It must not wait. nil allows changes always.
	MayChange func() error

	// MayAppend returns an error while there is no room for entries of so many bytes that a primary sends; nil takes all. The primary
	// sends them again, ever less often, and this node goes on to vote and to hear of it. It must not wait.
	MayAppend func(bytes int) error

	// HasState says that the Machine has state on disk: an empty log is then a lost one, and refused. A member that lost its log must
	// not be asked for votes again, and a group of one would wait for others for ever.
	HasState bool

	// InitialVoters makes a new group, if Dir holds none; all of its voters are
	// given the same. Empty means to wait until a primary adds this node.
	InitialVoters []NodeID

	// HeartbeatTimeout is how long a follower waits for a sign of the primary
	// before it asks for votes; several round trips between the voters. 1 s.
	HeartbeatTimeout time.Duration
	// ElectionTimeout is how long an election may take before the next; at
	// least HeartbeatTimeout. 1 s.
	ElectionTimeout time.Duration
	// LeaseTimeout is how long a primary goes on without hearing from a
	// majority; at most HeartbeatTimeout. 500 ms.
	LeaseTimeout time.Duration
	// CommitTimeout is how soon followers hear of a commit when nothing else is
	// sent. 50 ms.
	CommitTimeout time.Duration

	// RPCTimeout is how long one message to another node may take until its
	// answer; snapshots by their size. 5 s.
	RPCTimeout time.Duration

	// BatchEntries is how many entries share one write and sync of the log, and
	// at most one message to a follower, when so many wait. Messages are bounded to
	// 2 MiB besides, of which 32 may be under way to each follower. With less
	// than 256, throughput over distance suffers. 256.
	BatchEntries int
	// StoreBeside is how long a sync of the log must take here, smoothed, for a primary's entries to be sent to the others before they
	// are stored here: it costs another goroutine, which is not worth it for a sync that takes nothing. Negative: always. 50 us.
	StoreBeside time.Duration
	// QueueEntries and QueueBytes bound the proposals that are not answered
	// yet; beyond them there is OverloadedError. 16384 and 64 MiB.
	QueueEntries int
	QueueBytes   int64
	// SegmentSize is the size of a file of the log. 16 MiB.
	SegmentSize int
	// TrailingBytes is about how much of the log a snapshot leaves for followers
	// that are a little behind. 16 MiB.
	TrailingBytes int64
	// DrainTimeout is how long Run waits, at its end, for the outcome of what was
	// proposed. 10 s.
	DrainTimeout time.Duration
}

func (c *Config) setDefaults() {
	setDefault(&c.HeartbeatTimeout, time.Second)
	setDefault(&c.ElectionTimeout, max(time.Second, c.HeartbeatTimeout))
	setDefault(&c.LeaseTimeout, c.HeartbeatTimeout/2)
	setDefault(&c.CommitTimeout, 50*time.Millisecond)
	setDefault(&c.StoreBeside, 50*time.Microsecond)
	setDefault(&c.RPCTimeout, max(5*time.Second, 2*c.HeartbeatTimeout))
	setDefault(&c.QueueEntries, 16384)
	setDefault(&c.QueueBytes, 64<<20)
	setDefault(&c.SegmentSize, 16<<20)
	setDefault(&c.TrailingBytes, 16<<20)
	setDefault(&c.DrainTimeout, 10*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Validate names the first field that can't be used.
func (c *Config) Validate() error {
	switch {
	case c.Group == 0:
		return errors.New("leader: Group is 0")
	case c.Node == "":
		return errors.New("leader: Node is empty")
	case c.FS == nil:
		return errors.New("leader: FS is missing")
	case c.Dir == "":
		return errors.New("leader: Dir is empty")
	case c.Machine == nil:
		return errors.New("leader: Machine is missing")
	case c.BatchEntries < 0 || c.BatchEntries > 1024:
		return fmt.Errorf("leader: BatchEntries is %d, want 1 to 1024", c.BatchEntries)
	case c.SegmentSize < 0 || c.SegmentSize > 1<<30:
		return fmt.Errorf("leader: SegmentSize is %d, want at most %d", c.SegmentSize, 1<<30)
	case c.QueueEntries < 0 || c.QueueBytes < 0 || c.TrailingBytes < 0:
		return errors.New("leader: QueueEntries, QueueBytes or TrailingBytes is negative")
	}
	for _, id := range c.InitialVoters {
		if id == "" {
			return errors.New("leader: InitialVoters has an empty node id")
		}
		if id != c.Node && c.Network == nil {
			return fmt.Errorf("leader: InitialVoters names %s, but there is no network to other nodes", id)
		}
	}
	return nil
}
