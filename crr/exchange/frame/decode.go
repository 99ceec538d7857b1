package frame

import (
	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/envelope"
)

// fields reads a payload of one type.
type fields struct {
	envelope.Fields
	t Type
}

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
		return Heartbeat{Now: int64(d.U64()), Echo: int64(d.U64()), At: int64(d.U64())}
	case TypeError:
		f := Error{Code: ErrorCode(d.U8()), Text: string(d.Rest())}
		if f.Code == 0 {
			d.Fail("it has no code")
		}
		d.Check(checkText(d.t, f.Text))
		return f
	case TypeHeads:
		f := Heads{Urgent: d.Flag()}
		for d.Left() > 0 && len(f.Heads) <= MaxHeads {
			f.Heads = append(f.Heads, Head{Tenant: wire.TenantID(d.Take(16)), Hash: d.U64()})
		}
		d.Check(f.check())
		return f
	case TypePull:
		f := Pull{ID: d.Uv64(), Kind: Kind(d.U8()), Tenant: wire.TenantID(d.Take(16)), Window: d.Uv32(), Request: d.Rest()}
		d.Check(f.check())
		return f
	case TypeAnswer:
		f := Answer{ID: d.Uv64(), End: d.Flag(), Data: d.Rest()}
		d.Check(f.check())
		return f
	case TypeAnswered:
		return d.answered()
	case TypeCancel:
		f := Cancel{ID: d.Uv64()}
		d.Check(checkID(d.t, f.ID))
		return f
	case TypeCredit:
		f := Credit{ID: d.Uv64(), Bytes: d.Uv32()}
		d.Check(f.check())
		return f
	case TypePush:
		f := Push{Tenant: wire.TenantID(d.Take(16))}
		for n := d.U8(); n > 0 && d.OK(); n-- {
			f.Relay = append(f.Relay, string(d.Take(int(d.U8()))))
		}
		f.Data = d.Rest()
		d.Check(f.check())
		return f
	}
	d.Fail("no such type")
	return nil
}

func (d *fields) hello() Frame {
	if string(d.Take(len(magic))) != magic {
		d.Fail("it does not begin as an exchange")
		return nil
	}
	f := Hello{Version: d.U8()}
	if d.OK() && f.Version != Version {
		d.Check(&VersionError{f.Version})
		return nil
	}
	f.Heartbeat = d.Uv32()
	return f
}

func (d *fields) answered() Frame {
	f := Answered{ID: d.Uv64(), Code: Code(d.U8())}
	v, err := crr.ParseVector(d.Take(int(d.Uv(maxPayload))))
	if d.OK() && err != nil {
		d.Fail("its vector: %v", err)
	}
	f.Vector, f.Text = v, string(d.Rest())
	d.Check(f.check())
	return f
}
