package stream

import (
	"encoding/binary"
	"math"

	"github.com/nearsql/nearsql/wire"
)

// fields reads a payload from front to back and keeps the first fault.
type fields struct {
	t   Type
	b   []byte
	err error
}

func (d *fields) fail(format string, args ...any) {
	if d.err == nil {
		d.err = formatErr(d.t, format, args...)
	}
	d.b = nil
}

func (d *fields) uv(limit uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	switch {
	case n <= 0:
		d.fail("a number is cut short or has more than 64 bits")
		return 0
	case n > 1 && d.b[n-1] == 0:
		d.fail("a number is not in its shortest form")
		return 0
	case v > limit:
		d.fail("the number %d is above %d", v, limit)
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *fields) u32() uint32 { return uint32(d.uv(math.MaxUint32)) }
func (d *fields) u64() uint64 { return d.uv(math.MaxUint64) }

// take returns the next n bytes, zeros after a fault.
func (d *fields) take(n int) []byte {
	if len(d.b) < n {
		d.fail("it is cut short")
		return make([]byte, n)
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *fields) u8() uint8 { return d.take(1)[0] }

// rest returns what is left.
func (d *fields) rest() []byte {
	p := d.b
	d.b = nil
	return p
}

func (d *fields) head() Head {
	var h Head
	h.Epoch = wire.Epoch(d.u32())
	h.TXID = wire.TXID(d.u64())
	h.Checksum = wire.Checksum(binary.BigEndian.Uint64(d.take(8)))
	h.Index = d.u64()
	return h
}

func (d *fields) slot() Slot { return Slot(d.u32()) }
func (d *fields) lane() Lane { return Lane(d.u32()) }

// check keeps what is wrong with the values of a frame whose form is right.
func (d *fields) check(err error) {
	if d.err == nil {
		d.err = err
	}
}

// decode reads a payload. Data of the frame is part of payload.
func decode(t Type, payload []byte) (Frame, error) {
	d := &fields{t: t, b: payload}
	f := d.frame()
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d bytes are left", len(d.b))
	}
	if d.err != nil {
		return nil, d.err
	}
	return f, nil
}

func (d *fields) frame() Frame {
	switch d.t {
	case TypeHello:
		return d.hello()
	case TypeHeartbeat:
		return Heartbeat{}
	case TypeError:
		f := Error{Code: ErrorCode(d.u8()), Text: string(d.rest())}
		d.check(f.check())
		return f
	case TypeSubscribe:
		f := Subscribe{Slot: d.slot(), Tenant: wire.TenantID(d.take(16)), Group: wire.GroupID(d.u32()), Policy: d.u32(), Hops: d.u8(), Head: d.head()}
		d.check(f.check())
		return f
	case TypeUnsubscribe:
		f := Unsubscribe{Slot: d.slot()}
		d.check(checkSlot(d.t, f.Slot))
		return f
	case TypeAck:
		f := Ack{Slot: d.slot(), Head: d.head()}
		d.check(checkSlot(d.t, f.Slot))
		return f
	case TypeApplied:
		f := Applied{Lane: d.lane(), Index: d.u64()}
		d.check(checkLane(d.t, f.Lane))
		return f
	case TypeCredit:
		f := Credit{Slot: d.slot(), Bytes: d.u32()}
		if f.Bytes == 0 {
			d.fail("no bytes")
		}
		return f
	case TypeProbe:
		return Probe{ID: d.u64(), Group: wire.GroupID(d.u32())}
	case TypeEnter:
		f := Enter{Slot: d.slot(), Lane: d.lane(), Group: wire.GroupID(d.u32()), Hops: d.u8()}
		d.check(f.check())
		return f
	case TypeTxn:
		f := Txn{Slot: d.slot(), Index: d.u64(), Entry: d.rest()}
		d.check(f.check())
		return f
	case TypeLTX:
		f := LTX{Slot: d.slot(), Chunk: Chunk(d.u8()), Min: wire.TXID(d.u64()), Max: wire.TXID(d.u64()), Data: d.rest()}
		d.check(f.check())
		return f
	case TypeSnapshot:
		f := Snapshot{Slot: d.slot(), Chunk: Chunk(d.u8()), Data: d.rest()}
		d.check(f.check())
		return f
	case TypeJoined:
		f := Joined{Slot: d.slot(), Head: d.head()}
		d.check(checkSlot(d.t, f.Slot))
		return f
	case TypeThrough:
		f := Through{Lane: d.lane(), Index: d.u64()}
		d.check(checkLane(d.t, f.Lane))
		return f
	case TypeLeft:
		f := Left{Lane: d.lane()}
		d.check(checkLane(d.t, f.Lane))
		return f
	case TypeProbed:
		f := Probed{ID: d.u64(), Group: wire.GroupID(d.u32()), Code: ProbeCode(d.u8()), Index: d.u64()}
		d.check(f.check())
		return f
	case TypeHeads:
		return d.heads()
	case TypeGone:
		f := Gone{Slot: d.slot(), Why: GoneCode(d.u8()), Group: wire.GroupID(d.u32())}
		d.check(f.check())
		return f
	}
	d.fail("no such type")
	return nil
}

func (d *fields) hello() Frame {
	if string(d.take(len(magic))) != magic {
		d.fail("it does not begin as a stream")
		return nil
	}
	f := Hello{Version: d.u8()}
	if d.err == nil && f.Version != Version {
		d.err = &VersionError{Found: f.Version}
		return nil
	}
	f.Window, f.Heartbeat = d.u32(), d.u32()
	return f
}

func (d *fields) heads() Frame {
	var f Heads
	for len(d.b) > 0 && d.err == nil {
		h := LaneHead{Lane: d.lane(), Index: d.u64()}
		d.check(checkLane(d.t, h.Lane))
		f.Heads = append(f.Heads, h)
		if len(f.Heads) > MaxHeads {
			d.fail("more than %d lanes", MaxHeads)
		}
	}
	if len(f.Heads) == 0 {
		d.fail("no lanes")
	}
	return f
}
