package stream

import (
	"fmt"

	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/envelope"
	"github.com/nearsql/nearsql/wire/txn"
)

// Version is the version that this package writes and reads.
const Version = 1

// Limits of the format, in bytes unless they say otherwise.
const (
	// Overhead is what a frame takes beyond its payload: type, length, CRC.
	Overhead = envelope.Overhead
	// MaxEntry is the length of the longest entry: package txn's.
	MaxEntry = txn.MaxEntry
	// MaxChunk is the longest piece of a copy or LTX file.
	MaxChunk = 32 << 10
	// MaxFrame is the longest frame, Overhead included.
	MaxFrame = MaxEntry + 64
	// MaxText is the longest text of an Error.
	MaxText = 512
	// MaxHeads is how many lanes one Heads tells of.
	MaxHeads = 256
	// MaxHops is the largest number of hops from the voters. A tenant is not passed on further.
	MaxHops = 15
)

// Type is what a frame is. Numbers are never used again.
type Type uint8

// Types of frames.
const (
	TypeHello       Type = 1
	TypeHeartbeat   Type = 2
	TypeError       Type = 3
	TypeSubscribe   Type = 4
	TypeUnsubscribe Type = 5
	TypeAck         Type = 6
	TypeApplied     Type = 7
	TypeCredit      Type = 8
	TypeProbe       Type = 9
	TypeEnter       Type = 10
	TypeTxn         Type = 11
	TypeLTX         Type = 12
	TypeSnapshot    Type = 13
	TypeJoined      Type = 14
	TypeThrough     Type = 15
	TypeLeft        Type = 16
	TypeProbed      Type = 17
	TypeHeads       Type = 18
	TypeGone        Type = 19
)

// typeNames is never written.
var typeNames = [...]string{
	TypeHello: "hello", TypeHeartbeat: "heartbeat", TypeError: "error", TypeSubscribe: "subscribe", TypeUnsubscribe: "unsubscribe",
	TypeAck: "ack", TypeApplied: "applied", TypeCredit: "credit", TypeProbe: "probe", TypeEnter: "enter", TypeTxn: "txn", TypeLTX: "ltx",
	TypeSnapshot: "snapshot", TypeJoined: "joined", TypeThrough: "through", TypeLeft: "left", TypeProbed: "probed", TypeHeads: "heads",
	TypeGone: "gone",
}

// String is the type's name in FORMAT.md.
func (t Type) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return fmt.Sprintf("type(%d)", uint8(t))
}

// Frame is one message: one of the structs below.
type Frame interface {
	// Type is what the frame is.
	Type() Type
	// appendPayload appends the payload, or says which field has no encoding.
	appendPayload(b []byte) ([]byte, error)
}

// Slot names a subscription within a connection. The receiver chooses it, never the same twice; 0 is the connection itself.
type Slot uint32

// Lane names a run of transactions within a connection: of one group, in an order that marks refer to. The feeder
// chooses it, never the same twice; 0 is none.
type Lane uint32

// Head is how far a tenant has got: its position, and an index of its group's log. Entries of the tenant up to Index are
// contained, later ones are not. The zero Head is a tenant of which nothing is held.
type Head struct {
	Epoch    wire.Epoch
	TXID     wire.TXID
	Checksum wire.Checksum
	Index    uint64
}

// Hello is the first frame each way.
type Hello struct {
	Version   uint8  // Version; Reader refuses others
	Window    uint32 // bytes of data that may be sent at first: see Credit. 0 from feeders
	Heartbeat uint32 // milliseconds after which the sender lets the other end hear from it
}

// Heartbeat says that the sender is there.
type Heartbeat struct{}

// Error is the last frame before the sender closes the connection.
type Error struct {
	Code ErrorCode
	Text string // for people; at most MaxText bytes of UTF-8
}

// ErrorCode is why a connection ends.
type ErrorCode uint8

// Codes of an Error.
const (
	ErrorVersion  ErrorCode = 1 // the version is not known
	ErrorFormat   ErrorCode = 2 // a frame could not be read
	ErrorProtocol ErrorCode = 3 // a frame had no place where it came
	ErrorRefused  ErrorCode = 4 // an entry was not what it should have been
	ErrorBusy     ErrorCode = 5 // too many connections, subscriptions or questions
	ErrorStopping ErrorCode = 6 // the node is about to stop
)

// String names the code.
func (c ErrorCode) String() string {
	switch c {
	case ErrorVersion:
		return "unknown version"
	case ErrorFormat:
		return "malformed frame"
	case ErrorProtocol:
		return "frame out of place"
	case ErrorRefused:
		return "refused"
	case ErrorBusy:
		return "busy"
	case ErrorStopping:
		return "stopping"
	}
	return fmt.Sprintf("code(%d)", uint8(c))
}

// Subscribe asks for a tenant from a position on.
type Subscribe struct {
	Slot   Slot
	Tenant wire.TenantID
	Group  wire.GroupID // that the tenant is thought to be in, and whose log Head.Index is of; 0 if that is not known
	Policy uint32       // the newest policy of the tenant that the receiver knows: a feeder needs at least that
	Hops   uint8        // the feeder must have fewer hops from the voters; at most MaxHops
	Head   Head         // what the receiver has
}

// Unsubscribe ends a subscription. Frames for its slot may still be on their way.
type Unsubscribe struct{ Slot Slot }

// Ack says where the receiver stands after a copy or an LTX file that it installed.
type Ack struct {
	Slot Slot
	Head Head
}

// Applied says that the receiver has applied all that came before the lane's mark with this index.
type Applied struct {
	Lane  Lane
	Index uint64
}

// Credit lets the feeder send so many bytes more: of data of the connection (slot 0: payloads of Txn, LTX and Snapshot),
// or of LTX and Snapshot of a slot, which needs both.
type Credit struct {
	Slot  Slot
	Bytes uint32 // at least 1
}

// Probe asks for an index of a group such that all that was answered before the question came is at or below it.
type Probe struct {
	ID    uint64 // chosen by who asks; rises
	Group wire.GroupID
}

// Enter says that a subscription was taken, or goes on elsewhere: transactions of the slot come in this lane from now on. It is not
// joined.
type Enter struct {
	Slot  Slot
	Lane  Lane
	Group wire.GroupID
	Hops  uint8 // of the feeder from the voters, 0 for a voter
}

// Txn is an entry of a tenant.
type Txn struct {
	Slot  Slot
	Index uint64 // of the entry in its group's log
	Entry []byte // package txn; at least 1, at most MaxEntry bytes
}

// Chunk says where a piece of an LTX file or a copy belongs.
type Chunk uint8

// Bits of a Chunk. ChunkAborted says that what came so far is of no use; it is sent instead of ChunkLast.
const (
	ChunkFirst Chunk = 1 << iota
	ChunkLast
	ChunkAborted

	chunkKnown = ChunkFirst | ChunkLast | ChunkAborted
)

// LTX is a piece of what leads a tenant over a range of transactions.
type LTX struct {
	Slot     Slot
	Min, Max wire.TXID // both contained; the same in all pieces
	Chunk    Chunk
	Data     []byte // at most MaxChunk bytes
}

// Snapshot is a piece of a copy of a whole tenant.
type Snapshot struct {
	Slot  Slot
	Chunk Chunk
	Data  []byte // at most MaxChunk bytes
}

// Joined says that all of the tenant up to Head.Index has been sent, which leads to Head, and that the marks of its lane cover
// it from here on.
type Joined struct {
	Slot Slot
	Head Head
}

// Through is a mark: all that the tenants joined in the lane have, up to Index, has been sent.
type Through struct {
	Lane  Lane
	Index uint64
}

// Left says that the lane has ended: its tenants are not joined any more.
type Left struct{ Lane Lane }

// Probed answers a Probe.
type Probed struct {
	ID    uint64
	Group wire.GroupID
	Code  ProbeCode
	Index uint64 // 0 unless Code is ProbeOK
}

// ProbeCode is what became of a question.
type ProbeCode uint8

// Codes of a Probed.
const (
	ProbeOK          ProbeCode = 0
	ProbeUnconfirmed ProbeCode = 1 // nobody who could know was reached in time
	ProbeUnknown     ProbeCode = 2 // the feeder has nothing to do with the group
	ProbeBusy        ProbeCode = 3 // too many questions at a time
)

// String names the code.
func (c ProbeCode) String() string {
	switch c {
	case ProbeOK:
		return "ok"
	case ProbeUnconfirmed:
		return "unconfirmed"
	case ProbeUnknown:
		return "unknown group"
	case ProbeBusy:
		return "busy"
	}
	return fmt.Sprintf("code(%d)", uint8(c))
}

// LaneHead is the newest index that a feeder knows of a lane, sent or not.
type LaneHead struct {
	Lane  Lane
	Index uint64
}

// Heads says how far the feeder is; it is for measuring how far behind the receiver is, and proves nothing.
type Heads struct{ Heads []LaneHead } // at least 1, at most MaxHeads

// Gone says that nothing more comes for a slot.
type Gone struct {
	Slot  Slot
	Why   GoneCode
	Group wire.GroupID // where a moved tenant went; else 0
}

// GoneCode is why a subscription ended.
type GoneCode uint8

// Codes of a Gone.
const (
	GoneNotHere GoneCode = 1 // the feeder does not have the tenant
	GoneMoved   GoneCode = 2 // the tenant is in another group now
	GoneDeleted GoneCode = 3 // the tenant was purged
	GoneHops    GoneCode = 4 // the feeder is not nearer to the voters than asked
	GonePolicy  GoneCode = 5 // the feeder knows an older policy only, or the newest forbids it
	GoneFailed  GoneCode = 6 // the feeder's copy is out of service
	GoneBusy    GoneCode = 7 // the feeder has too many subscriptions
)

// String names the code.
func (c GoneCode) String() string {
	switch c {
	case GoneNotHere:
		return "not here"
	case GoneMoved:
		return "moved"
	case GoneDeleted:
		return "deleted"
	case GoneHops:
		return "not nearer to the voters"
	case GonePolicy:
		return "policy"
	case GoneFailed:
		return "out of service"
	case GoneBusy:
		return "busy"
	}
	return fmt.Sprintf("code(%d)", uint8(c))
}

// Type implements Frame.
func (Hello) Type() Type { return TypeHello }

// Type implements Frame.
func (Heartbeat) Type() Type { return TypeHeartbeat }

// Type implements Frame.
func (Error) Type() Type { return TypeError }

// Type implements Frame.
func (Subscribe) Type() Type { return TypeSubscribe }

// Type implements Frame.
func (Unsubscribe) Type() Type { return TypeUnsubscribe }

// Type implements Frame.
func (Ack) Type() Type { return TypeAck }

// Type implements Frame.
func (Applied) Type() Type { return TypeApplied }

// Type implements Frame.
func (Credit) Type() Type { return TypeCredit }

// Type implements Frame.
func (Probe) Type() Type { return TypeProbe }

// Type implements Frame.
func (Enter) Type() Type { return TypeEnter }

// Type implements Frame.
func (Txn) Type() Type { return TypeTxn }

// Type implements Frame.
func (LTX) Type() Type { return TypeLTX }

// Type implements Frame.
func (Snapshot) Type() Type { return TypeSnapshot }

// Type implements Frame.
func (Joined) Type() Type { return TypeJoined }

// Type implements Frame.
func (Through) Type() Type { return TypeThrough }

// Type implements Frame.
func (Left) Type() Type { return TypeLeft }

// Type implements Frame.
func (Probed) Type() Type { return TypeProbed }

// Type implements Frame.
func (Heads) Type() Type { return TypeHeads }

// Type implements Frame.
func (Gone) Type() Type { return TypeGone }
