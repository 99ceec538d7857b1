package frame

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/nearsql/nearsql/wire/envelope"
)

const (
	magic = "nearsqlX"
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

func (f Hello) appendPayload(b []byte) ([]byte, error) {
	if f.Version != Version {
		return b, formatErr(TypeHello, "version %d is not the one that is written", f.Version)
	}
	b = append(append(b, magic...), f.Version)
	return binary.AppendUvarint(b, uint64(f.Heartbeat)), nil
}

func (f Heartbeat) appendPayload(b []byte) ([]byte, error) {
	for _, v := range []int64{f.Now, f.Echo, f.At} {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	return b, nil
}

func (f Error) appendPayload(b []byte) ([]byte, error) {
	if f.Code == 0 {
		return b, formatErr(TypeError, "it has no code")
	}
	return append(append(b, byte(f.Code)), f.Text...), checkText(TypeError, f.Text)
}

func (f Heads) appendPayload(b []byte) ([]byte, error) {
	urgent := byte(0)
	if f.Urgent {
		urgent = 1
	}
	b = append(b, urgent)
	for _, h := range f.Heads {
		b = binary.BigEndian.AppendUint64(append(b, h.Tenant[:]...), h.Hash)
	}
	return b, f.check()
}

func (f Heads) check() error {
	if len(f.Heads) == 0 || len(f.Heads) > MaxHeads {
		return formatErr(TypeHeads, "%d heads", len(f.Heads))
	}
	for _, h := range f.Heads {
		if h.Tenant.IsZero() {
			return formatErr(TypeHeads, "a tenant is zero")
		}
	}
	return nil
}

func (f Pull) appendPayload(b []byte) ([]byte, error) {
	b = append(binary.AppendUvarint(b, f.ID), byte(f.Kind))
	b = append(b, f.Tenant[:]...)
	b = binary.AppendUvarint(b, uint64(f.Window))
	return append(b, f.Request...), f.check()
}

func (f Pull) check() error {
	switch {
	case f.Kind < Batch || f.Kind > Snapshot:
		return formatErr(TypePull, "unknown kind %d", uint8(f.Kind))
	case f.Tenant.IsZero():
		return formatErr(TypePull, "the tenant is zero")
	case (f.Kind == Batch) != (len(f.Request) > 0):
		return formatErr(TypePull, "a request of %d bytes", len(f.Request))
	case f.Kind != Vector && f.Window == 0:
		return formatErr(TypePull, "no window")
	case len(f.Request) > MaxData:
		return formatErr(TypePull, "a request of %d bytes", len(f.Request))
	}
	return checkID(TypePull, f.ID)
}

func (f Answer) appendPayload(b []byte) ([]byte, error) {
	end := byte(0)
	if f.End {
		end = 1
	}
	b = append(binary.AppendUvarint(b, f.ID), end)
	return append(b, f.Data...), f.check()
}

func (f Answer) check() error {
	if len(f.Data) == 0 || len(f.Data) > MaxData {
		return formatErr(TypeAnswer, "a part of %d bytes", len(f.Data))
	}
	return checkID(TypeAnswer, f.ID)
}

func (f Answered) appendPayload(b []byte) ([]byte, error) {
	b = append(binary.AppendUvarint(b, f.ID), byte(f.Code))
	v := f.Vector.Append(nil)
	b = append(binary.AppendUvarint(b, uint64(len(v))), v...)
	return append(b, f.Text...), f.check()
}

func (f Answered) check() error {
	if f.Code == 0 {
		return formatErr(TypeAnswered, "it has no code")
	}
	if err := checkText(TypeAnswered, f.Text); err != nil {
		return err
	}
	return checkID(TypeAnswered, f.ID)
}

func (f Cancel) appendPayload(b []byte) ([]byte, error) {
	return binary.AppendUvarint(b, f.ID), checkID(TypeCancel, f.ID)
}

func (f Credit) appendPayload(b []byte) ([]byte, error) {
	b = binary.AppendUvarint(binary.AppendUvarint(b, f.ID), uint64(f.Bytes))
	return b, f.check()
}

func (f Credit) check() error {
	if f.Bytes == 0 {
		return formatErr(TypeCredit, "no bytes")
	}
	return checkID(TypeCredit, f.ID)
}

func (f Push) appendPayload(b []byte) ([]byte, error) {
	b = append(b, f.Tenant[:]...)
	b = append(b, byte(len(f.Relay)))
	for _, n := range f.Relay {
		b = append(append(b, byte(len(n))), n...)
	}
	return append(b, f.Data...), f.check()
}

func (f Push) check() error {
	switch {
	case f.Tenant.IsZero():
		return formatErr(TypePush, "the tenant is zero")
	case len(f.Data) == 0 || len(f.Data) > MaxData:
		return formatErr(TypePush, "data of %d bytes", len(f.Data))
	case len(f.Relay) > MaxRelay:
		return formatErr(TypePush, "%d nodes to pass it on to", len(f.Relay))
	}
	for _, n := range f.Relay {
		if len(n) == 0 || len(n) > maxNode || !utf8.ValidString(n) {
			return formatErr(TypePush, "a node's id of %d bytes", len(n))
		}
	}
	return nil
}

func checkText(t Type, s string) error {
	if len(s) > MaxText || !utf8.ValidString(s) {
		return formatErr(t, "a text of %d bytes", len(s))
	}
	return nil
}

func checkID(t Type, id uint64) error {
	if id == 0 {
		return formatErr(t, "id 0")
	}
	return nil
}
