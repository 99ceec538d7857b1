package frame

import (
	"fmt"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/envelope"
)

// Version is the only one there is.
const Version = 1

// Bounds of frames.
const (
	MaxData    = 64 << 10        // of the data of one frame, in bytes
	maxPayload = MaxData + 8<<10 // all of a payload
	MaxFrame   = maxPayload + envelope.Overhead
	MaxHeads   = 1024 // heads in one frame
	MaxRelay   = 64   // nodes that one push is passed on to
	MaxText    = 512  // bytes of a text for people
	maxNode    = 255  // bytes of a node's id
)

// Type says what a frame is. Numbers are never used again.
type Type uint8

// The types.
const (
	TypeHello     Type = 1
	TypeHeartbeat Type = 2
	TypeError     Type = 3
	TypeHeads     Type = 4
	TypePull      Type = 5
	TypeAnswer    Type = 6
	TypeAnswered  Type = 7
	TypeCancel    Type = 8
	TypeCredit    Type = 9
	TypePush      Type = 10
)

// String returns the type's name.
func (t Type) String() string {
	if t >= 1 && int(t) <= 10 {
		return [...]string{"hello", "heartbeat", "error", "heads", "pull", "answer", "answered", "cancel", "credit", "push"}[t-1]
	}
	return fmt.Sprintf("type(%d)", uint8(t))
}

// Frame is one of the types below.
type Frame interface {
	Type() Type
	appendPayload(b []byte) ([]byte, error)
}

// Hello is the first frame of each end.
type Hello struct {
	Version   uint8
	Heartbeat uint32 // the most milliseconds for which the sender is silent
}

// Heartbeat says that the sender is there, and what its wall clock shows; microseconds since 1970.
type Heartbeat struct {
	Now  int64 // when this frame was made
	Echo int64 // Now of the newest heartbeat of the other end; 0: none yet
	At   int64 // when that came, by the sender's clock
}

// ErrorCode is why a connection ends.
type ErrorCode uint8

// The codes. Others are errors too.
const (
	ErrorVersion  ErrorCode = 1
	ErrorFormat   ErrorCode = 2
	ErrorProtocol ErrorCode = 3
)

// Error ends the connection.
type Error struct {
	Code ErrorCode
	Text string // for people
}

// Head is what a site has of one tenant.
type Head struct {
	Tenant wire.TenantID
	Hash   uint64 // crr.Vector.Hash; 0: nothing
}

// Heads says what the sender has.
type Heads struct {
	Urgent bool // of what has changed: no push brings it
	Heads  []Head
}

// Kind is what is asked for.
type Kind uint8

// The kinds.
const (
	Batch    Kind = 1 // what the asker lacks: frames of a batch of package crr
	Vector   Kind = 2 // what the other end has, no rows
	Snapshot Kind = 3 // a copy of the file, without identity
)

// Pull asks for something of a tenant.
type Pull struct {
	ID      uint64 // chosen by the asker, not used twice in a connection; not 0
	Kind    Kind
	Tenant  wire.TenantID
	Window  uint32 // bytes of answers that may be on their way; more by Credit
	Request []byte // of Batch: crr.Request
}

// Answer is a part of what was asked for.
type Answer struct {
	ID   uint64
	End  bool // of Batch: the last part of one crr frame
	Data []byte
}

// Code is how a pull ended.
type Code uint8

// The codes. Others are failures too.
const (
	Done    Code = 1 // all was sent
	Nothing Code = 2 // the asker has all there is
	Behind  Code = 3 // a batch does not do: a snapshot is needed
	Refused Code = 4 // the asker is no site of the tenant, as far as is known here
	Busy    Code = 5 // later
	Failed  Code = 6
)

// Answered ends the answer to a pull.
type Answered struct {
	ID     uint64
	Code   Code
	Vector crr.Vector // what the sender has; nil or empty when it does not say
	Text   string     // for people
}

// Cancel says that a pull's answer is of no use any more.
type Cancel struct{ ID uint64 }

// Credit allows more bytes of answers.
type Credit struct {
	ID    uint64
	Bytes uint32
}

// Push brings transactions of one site to others as they happen.
type Push struct {
	Tenant wire.TenantID
	Relay  []string // nodes that the receiver passes it on to
	Data   []byte   // one frame of a batch of package crr
}

// Type implements Frame.
func (Hello) Type() Type { return TypeHello }

// Type implements Frame.
func (Heartbeat) Type() Type { return TypeHeartbeat }

// Type implements Frame.
func (Error) Type() Type { return TypeError }

// Type implements Frame.
func (Heads) Type() Type { return TypeHeads }

// Type implements Frame.
func (Pull) Type() Type { return TypePull }

// Type implements Frame.
func (Answer) Type() Type { return TypeAnswer }

// Type implements Frame.
func (Answered) Type() Type { return TypeAnswered }

// Type implements Frame.
func (Cancel) Type() Type { return TypeCancel }

// Type implements Frame.
func (Credit) Type() Type { return TypeCredit }

// Type implements Frame.
func (Push) Type() Type { return TypePush }

// FormatError is bytes, or a frame, that are not as FORMAT.md says.
type FormatError struct {
	Type Type
	What string
}

func (e *FormatError) Error() string { return fmt.Sprintf("exchange: frame %s: %s", e.Type, e.What) }

// VersionError is a hello of another version.
type VersionError struct{ Got uint8 }

func (e *VersionError) Error() string {
	return fmt.Sprintf("exchange: the other end speaks version %d; this node speaks version %d", e.Got, Version)
}

func formatErr(t Type, format string, args ...any) error {
	return &FormatError{t, fmt.Sprintf(format, args...)}
}
