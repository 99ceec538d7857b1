package frame

import (
	"encoding/binary"
	"math"

	"github.com/nearsql/nearsql/crr"
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

func (d *fields) uv(most uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || n > 1 && d.b[n-1] == 0 || v > most {
		d.fail("a number is cut short, too large, or not in its shortest form")
		return 0
	}
	d.b = d.b[n:]
	return v
}

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

func (d *fields) u8() uint8   { return d.take(1)[0] }
func (d *fields) i64() int64  { return int64(d.u64()) }
func (d *fields) u64() uint64 { return binary.BigEndian.Uint64(d.take(8)) }

func (d *fields) flag() bool {
	v := d.u8()
	if v > 1 {
		d.fail("a flag is %d", v)
	}
	return v == 1
}

func (d *fields) rest() []byte {
	p := d.b
	d.b = nil
	return p
}

func (d *fields) check(err error) {
	if d.err == nil {
		d.err = err
	}
}

// decode reads a payload; data of the frame is part of it.
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
		return Heartbeat{Now: d.i64(), Echo: d.i64(), At: d.i64()}
	case TypeError:
		f := Error{Code: ErrorCode(d.u8()), Text: string(d.rest())}
		if f.Code == 0 {
			d.fail("it has no code")
		}
		d.check(checkText(d.t, f.Text))
		return f
	case TypeHeads:
		f := Heads{Urgent: d.flag()}
		for len(d.b) > 0 && len(f.Heads) <= MaxHeads {
			f.Heads = append(f.Heads, Head{Tenant: wire.TenantID(d.take(16)), Hash: d.u64()})
		}
		d.check(f.check())
		return f
	case TypePull:
		f := Pull{ID: d.uv(math.MaxUint64), Kind: Kind(d.u8()), Tenant: wire.TenantID(d.take(16)), Window: uint32(d.uv(math.MaxUint32)), Request: d.rest()}
		d.check(f.check())
		return f
	case TypeAnswer:
		f := Answer{ID: d.uv(math.MaxUint64), End: d.flag(), Data: d.rest()}
		d.check(f.check())
		return f
	case TypeAnswered:
		return d.answered()
	case TypeCancel:
		f := Cancel{ID: d.uv(math.MaxUint64)}
		d.check(checkID(d.t, f.ID))
		return f
	case TypeCredit:
		f := Credit{ID: d.uv(math.MaxUint64), Bytes: uint32(d.uv(math.MaxUint32))}
		d.check(f.check())
		return f
	case TypePush:
		f := Push{Tenant: wire.TenantID(d.take(16))}
		for n := d.u8(); n > 0 && d.err == nil; n-- {
			f.Relay = append(f.Relay, string(d.take(int(d.u8()))))
		}
		f.Data = d.rest()
		d.check(f.check())
		return f
	}
	d.fail("no such type")
	return nil
}

func (d *fields) hello() Frame {
	if string(d.take(len(magic))) != magic {
		d.fail("it does not begin as an exchange")
		return nil
	}
	f := Hello{Version: d.u8()}
	if d.err == nil && f.Version != Version {
		d.err = &VersionError{f.Version}
		return nil
	}
	f.Heartbeat = uint32(d.uv(math.MaxUint32))
	return f
}

func (d *fields) answered() Frame {
	f := Answered{ID: d.uv(math.MaxUint64), Code: Code(d.u8())}
	v, err := crr.ParseVector(d.take(int(d.uv(maxPayload))))
	if d.err == nil && err != nil {
		d.fail("its vector: %v", err)
	}
	f.Vector, f.Text = v, string(d.rest())
	d.check(f.check())
	return f
}
