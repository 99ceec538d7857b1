package stream

import (
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/envelope"
)

// fields reads a payload of one type.
type fields struct {
	envelope.Fields
	t Type
}

func (d *fields) head() Head {
	var h Head
	h.Epoch = wire.Epoch(d.Uv32())
	h.TXID = wire.TXID(d.Uv64())
	h.Checksum = wire.Checksum(d.U64())
	h.Index = d.Uv64()
	return h
}

func (d *fields) slot() Slot { return Slot(d.Uv32()) }
func (d *fields) lane() Lane { return Lane(d.Uv32()) }

// decode reads a payload. Data of the frame is part of payload.
func decode(t uint8, payload []byte) (Frame, error) {
	d := &fields{envelope.Of(payload), Type(t)}
	f := d.frame()
	if what, err := d.End(); err != nil {
		return nil, err
	} else if what != "" {
		return nil, formatErr(d.t, "%s", what)
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
		f := Error{Code: ErrorCode(d.U8()), Text: string(d.Rest())}
		d.Check(f.check())
		return f
	case TypeSubscribe:
		f := Subscribe{Slot: d.slot(), Tenant: wire.TenantID(d.Take(16)), Group: wire.GroupID(d.Uv32()), Policy: d.Uv32(), Hops: d.U8(), Head: d.head()}
		d.Check(f.check())
		return f
	case TypeUnsubscribe:
		f := Unsubscribe{Slot: d.slot()}
		d.Check(checkSlot(d.t, f.Slot))
		return f
	case TypeAck:
		f := Ack{Slot: d.slot(), Head: d.head()}
		d.Check(checkSlot(d.t, f.Slot))
		return f
	case TypeApplied:
		f := Applied{Lane: d.lane(), Index: d.Uv64()}
		d.Check(checkLane(d.t, f.Lane))
		return f
	case TypeCredit:
		f := Credit{Slot: d.slot(), Bytes: d.Uv32()}
		if f.Bytes == 0 {
			d.Fail("no bytes")
		}
		return f
	case TypeProbe:
		return Probe{ID: d.Uv64(), Group: wire.GroupID(d.Uv32())}
	case TypeEnter:
		f := Enter{Slot: d.slot(), Lane: d.lane(), Group: wire.GroupID(d.Uv32()), Hops: d.U8()}
		d.Check(f.check())
		return f
	case TypeTxn:
		f := Txn{Slot: d.slot(), Index: d.Uv64(), Entry: d.Rest()}
		d.Check(f.check())
		return f
	case TypeLTX:
		f := LTX{Slot: d.slot(), Chunk: Chunk(d.U8()), Min: wire.TXID(d.Uv64()), Max: wire.TXID(d.Uv64()), Data: d.Rest()}
		d.Check(f.check())
		return f
	case TypeSnapshot:
		f := Snapshot{Slot: d.slot(), Chunk: Chunk(d.U8()), Data: d.Rest()}
		d.Check(f.check())
		return f
	case TypeJoined:
		f := Joined{Slot: d.slot(), Head: d.head()}
		d.Check(checkSlot(d.t, f.Slot))
		return f
	case TypeThrough:
		f := Through{Lane: d.lane(), Index: d.Uv64()}
		d.Check(checkLane(d.t, f.Lane))
		return f
	case TypeLeft:
		f := Left{Lane: d.lane()}
		d.Check(checkLane(d.t, f.Lane))
		return f
	case TypeProbed:
		f := Probed{ID: d.Uv64(), Group: wire.GroupID(d.Uv32()), Code: ProbeCode(d.U8()), Index: d.Uv64()}
		d.Check(f.check())
		return f
	case TypeHeads:
		return d.heads()
	case TypeGone:
		f := Gone{Slot: d.slot(), Why: GoneCode(d.U8()), Group: wire.GroupID(d.Uv32())}
		d.Check(f.check())
		return f
	}
	d.Fail("no such type")
	return nil
}

func (d *fields) hello() Frame {
	if string(d.Take(len(magic))) != magic {
		d.Fail("it does not begin as a stream")
		return nil
	}
	f := Hello{Version: d.U8()}
	if d.OK() && f.Version != Version {
		d.Check(&VersionError{Found: f.Version})
		return nil
	}
	f.Window, f.Heartbeat = d.Uv32(), d.Uv32()
	return f
}

func (d *fields) heads() Frame {
	var f Heads
	for d.Left() > 0 && d.OK() {
		h := LaneHead{Lane: d.lane(), Index: d.Uv64()}
		d.Check(checkLane(d.t, h.Lane))
		f.Heads = append(f.Heads, h)
		if len(f.Heads) > MaxHeads {
			d.Fail("more than %d lanes", MaxHeads)
		}
	}
	if len(f.Heads) == 0 {
		d.Fail("no lanes")
	}
	return f
}
