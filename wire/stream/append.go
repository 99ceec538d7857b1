package stream

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/nearsql/nearsql/wire/envelope"
)

const (
	magic      = "nearsqlS"
	maxPayload = MaxFrame - Overhead
)

// Append appends a whole frame to b. Its error is a *FormatError that names the field without an encoding; b is then returned as it was.
func Append(b []byte, f Frame) ([]byte, error) {
	out, err := f.appendPayload(envelope.Begin(b, uint8(f.Type())))
	if err != nil {
		return b, err
	}
	if out, err = envelope.End(out, len(b), maxPayload); err != nil {
		return b, formatErr(f.Type(), "%v", err)
	}
	return out, nil
}

func appendUv[T ~uint8 | ~uint32 | ~uint64](b []byte, v T) []byte {
	return binary.AppendUvarint(b, uint64(v))
}

func (h Head) append(b []byte) []byte {
	b = appendUv(b, h.Epoch)
	b = appendUv(b, h.TXID)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Checksum))
	return appendUv(b, h.Index)
}

func (f Hello) appendPayload(b []byte) ([]byte, error) {
	if f.Version != Version {
		return b, formatErr(TypeHello, "version %d is not the one that is written", f.Version)
	}
	b = append(b, magic...)
	b = append(b, f.Version)
	b = appendUv(b, f.Window)
	return appendUv(b, f.Heartbeat), nil
}

func (Heartbeat) appendPayload(b []byte) ([]byte, error) { return b, nil }

func (f Error) appendPayload(b []byte) ([]byte, error) {
	if err := f.check(); err != nil {
		return b, err
	}
	b = append(b, byte(f.Code))
	return append(b, f.Text...), nil
}

func (f Error) check() error {
	switch {
	case f.Code == 0:
		return formatErr(TypeError, "it has no code")
	case len(f.Text) > MaxText:
		return formatErr(TypeError, "a text of %d bytes", len(f.Text))
	case !utf8.ValidString(f.Text):
		return formatErr(TypeError, "its text is not UTF-8")
	}
	return nil
}

func checkSlot(t Type, s Slot) error {
	if s == 0 {
		return formatErr(t, "slot 0")
	}
	return nil
}

func checkLane(t Type, l Lane) error {
	if l == 0 {
		return formatErr(t, "lane 0")
	}
	return nil
}

func checkHops(t Type, hops uint8) error {
	if hops > MaxHops {
		return formatErr(t, "%d hops", hops)
	}
	return nil
}

func (f Subscribe) appendPayload(b []byte) ([]byte, error) {
	if err := f.check(); err != nil {
		return b, err
	}
	b = appendUv(b, f.Slot)
	b = append(b, f.Tenant[:]...)
	b = appendUv(b, f.Group)
	b = appendUv(b, f.Policy)
	b = append(b, f.Hops)
	return f.Head.append(b), nil
}

func (f Subscribe) check() error {
	if err := checkSlot(TypeSubscribe, f.Slot); err != nil {
		return err
	}
	if f.Tenant.IsZero() {
		return formatErr(TypeSubscribe, "the tenant is zero")
	}
	return checkHops(TypeSubscribe, f.Hops)
}

func (f Unsubscribe) appendPayload(b []byte) ([]byte, error) {
	return appendUv(b, f.Slot), checkSlot(TypeUnsubscribe, f.Slot)
}

func (f Ack) appendPayload(b []byte) ([]byte, error) {
	return f.Head.append(appendUv(b, f.Slot)), checkSlot(TypeAck, f.Slot)
}

func (f Applied) appendPayload(b []byte) ([]byte, error) {
	return appendUv(appendUv(b, f.Lane), f.Index), checkLane(TypeApplied, f.Lane)
}

func (f Credit) appendPayload(b []byte) ([]byte, error) {
	if f.Bytes == 0 {
		return b, formatErr(TypeCredit, "no bytes")
	}
	return appendUv(appendUv(b, f.Slot), f.Bytes), nil
}

func (f Probe) appendPayload(b []byte) ([]byte, error) {
	return appendUv(appendUv(b, f.ID), f.Group), nil
}

func (f Enter) appendPayload(b []byte) ([]byte, error) {
	if err := f.check(); err != nil {
		return b, err
	}
	b = appendUv(b, f.Slot)
	b = appendUv(b, f.Lane)
	b = appendUv(b, f.Group)
	return append(b, f.Hops), nil
}

func (f Enter) check() error {
	if err := checkSlot(TypeEnter, f.Slot); err != nil {
		return err
	}
	if err := checkLane(TypeEnter, f.Lane); err != nil {
		return err
	}
	return checkHops(TypeEnter, f.Hops)
}

func (f Txn) appendPayload(b []byte) ([]byte, error) {
	if err := f.check(); err != nil {
		return b, err
	}
	b = appendUv(b, f.Slot)
	b = appendUv(b, f.Index)
	return append(b, f.Entry...), nil
}

func (f Txn) check() error {
	if len(f.Entry) == 0 || len(f.Entry) > MaxEntry {
		return formatErr(TypeTxn, "an entry of %d bytes", len(f.Entry))
	}
	return checkSlot(TypeTxn, f.Slot)
}

func checkChunk(t Type, c Chunk, data []byte) error {
	switch {
	case c&^chunkKnown != 0:
		return formatErr(t, "unknown flags %x", uint8(c))
	case c&ChunkAborted != 0 && (c&ChunkLast != 0 || len(data) > 0):
		return formatErr(t, "aborted, and yet with data or last")
	case len(data) > MaxChunk:
		return formatErr(t, "a piece of %d bytes", len(data))
	}
	return nil
}

func (f LTX) appendPayload(b []byte) ([]byte, error) {
	if err := f.check(); err != nil {
		return b, err
	}
	b = appendUv(b, f.Slot)
	b = append(b, byte(f.Chunk))
	b = appendUv(b, f.Min)
	b = appendUv(b, f.Max)
	return append(b, f.Data...), nil
}

func (f LTX) check() error {
	if err := checkSlot(TypeLTX, f.Slot); err != nil {
		return err
	}
	if f.Min == 0 || f.Max < f.Min {
		return formatErr(TypeLTX, "the range %d to %d", uint64(f.Min), uint64(f.Max))
	}
	return checkChunk(TypeLTX, f.Chunk, f.Data)
}

func (f Snapshot) appendPayload(b []byte) ([]byte, error) {
	if err := f.check(); err != nil {
		return b, err
	}
	b = appendUv(b, f.Slot)
	b = append(b, byte(f.Chunk))
	return append(b, f.Data...), nil
}

func (f Snapshot) check() error {
	if err := checkSlot(TypeSnapshot, f.Slot); err != nil {
		return err
	}
	return checkChunk(TypeSnapshot, f.Chunk, f.Data)
}

func (f Joined) appendPayload(b []byte) ([]byte, error) {
	return f.Head.append(appendUv(b, f.Slot)), checkSlot(TypeJoined, f.Slot)
}

func (f Through) appendPayload(b []byte) ([]byte, error) {
	return appendUv(appendUv(b, f.Lane), f.Index), checkLane(TypeThrough, f.Lane)
}

func (f Left) appendPayload(b []byte) ([]byte, error) {
	return appendUv(b, f.Lane), checkLane(TypeLeft, f.Lane)
}

func (f Probed) appendPayload(b []byte) ([]byte, error) {
	if err := f.check(); err != nil {
		return b, err
	}
	b = appendUv(b, f.ID)
	b = appendUv(b, f.Group)
	b = append(b, byte(f.Code))
	return appendUv(b, f.Index), nil
}

func (f Probed) check() error {
	if f.Code != ProbeOK && f.Index != 0 {
		return formatErr(TypeProbed, "an index without an answer")
	}
	return nil
}

func (f Heads) appendPayload(b []byte) ([]byte, error) {
	if len(f.Heads) == 0 || len(f.Heads) > MaxHeads {
		return b, formatErr(TypeHeads, "%d lanes", len(f.Heads))
	}
	for _, h := range f.Heads {
		if err := checkLane(TypeHeads, h.Lane); err != nil {
			return b, err
		}
		b = appendUv(appendUv(b, h.Lane), h.Index)
	}
	return b, nil
}

func (f Gone) appendPayload(b []byte) ([]byte, error) {
	if err := f.check(); err != nil {
		return b, err
	}
	b = appendUv(b, f.Slot)
	b = append(b, byte(f.Why))
	return appendUv(b, f.Group), nil
}

func (f Gone) check() error {
	switch {
	case f.Why == 0:
		return formatErr(TypeGone, "it has no reason")
	case f.Why != GoneMoved && f.Group != 0:
		return formatErr(TypeGone, "a group without a move")
	}
	return checkSlot(TypeGone, f.Slot)
}
