package stream

import (
	"io"

	"github.com/nearsql/nearsql/wire/envelope"
)

// Reader reads frames. Errors of its Next are a *FormatError, a *VersionError, or what package envelope says.
type Reader = envelope.Reader[Frame]

// Writer writes frames. Errors of its Write are a *FormatError, or the writer's own.
type Writer = envelope.Writer[Frame]

// format is constant.
var format = envelope.Format[Frame]{
	Hello: uint8(TypeHello), Most: maxPayload, Buffer: 64 << 10, Append: Append, Decode: decode,
	Refuse: func(t uint8, f string, args ...any) error { return formatErr(Type(t), f, args...) },
}

// NewReader returns a Reader of a connection's frames, from the first.
func NewReader(r io.Reader) *Reader { return format.NewReader(r) }

// NewWriter returns a Writer.
func NewWriter(w io.Writer) *Writer { return format.NewWriter(w) }
