package crr

import (
	"encoding/binary"
	"fmt"

	"github.com/nearsql/nearsql/wire"
)

// Tags of the values in a packed key, and of values on the wire.
const (
	tagNull = iota
	tagInteger
	tagFloat
	tagText
	tagBlob
)

// packKey appends one value of a composite key: its tag, and its length where it has one, so
// that no two keys are packed alike.
func packKey(b []byte, v wire.Value) ([]byte, error) {
	switch v.Kind() {
	case wire.KindInteger:
		return binary.AppendVarint(append(b, tagInteger), v.Int()), nil
	case wire.KindText:
		b = binary.AppendUvarint(append(b, tagText), uint64(len(v.Str())))
	case wire.KindBlob:
		b = binary.AppendUvarint(append(b, tagBlob), uint64(len(v.Str())))
	default:
		return b, errKeyKind
	}
	return append(b, v.Str()...), nil
}

// unpackKey returns the values of a packed key.
func unpackKey(packed string) ([]wire.Value, error) {
	d := &decoder{b: []byte(packed)}
	var vs []wire.Value
	for len(d.b) > 0 {
		switch d.byte() {
		case tagInteger:
			vs = append(vs, wire.Integer(d.varint()))
		case tagText:
			vs = append(vs, wire.Text(string(d.bytes(d.count(1)))))
		case tagBlob:
			vs = append(vs, wire.Blob(d.bytes(d.count(1))))
		default:
			d.fault()
		}
	}
	if err := d.end("packed key"); err != nil {
		return nil, err
	}
	if len(vs) == 0 {
		return nil, fmt.Errorf("%w: empty key", ErrCorrupt)
	}
	return vs, nil
}
