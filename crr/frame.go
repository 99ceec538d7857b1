package crr

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/pierrec/lz4/v4"
)

// Frames: the pieces in which a batch travels. See FORMAT.md.
const (
	frameMagic   = "nc"
	frameVersion = 1
	frameLast    = 1 << 0
	frameLZ4     = 1 << 1

	// MaxFrame is the most bytes that a frame has.
	MaxFrame = 4 << 20
	// maxFrameRaw is the most bytes of a batch in one frame, so that the frame fits also when they don't pack.
	maxFrameRaw = MaxFrame - 64
	// packFrom is the size from which packing is tried.
	packFrom = 1 << 10
)

// castagnoli is constant.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame is one piece of a batch.
type frame struct {
	id   uint64 // the same in all pieces of a batch
	part uint64 // from 0
	last bool
	body []byte
}

// append writes the frame behind b.
func (f *frame) append(b []byte) []byte {
	from := len(b)
	flags := byte(0)
	if f.last {
		flags |= frameLast
	}
	data := f.body
	if len(data) >= packFrom {
		packed := make([]byte, len(data))
		if n, err := lz4.CompressBlock(data, packed, nil); err == nil && n > 0 && n < len(data)-len(data)/8 {
			data, flags = packed[:n], flags|frameLZ4
		}
	}
	b = append(b, frameMagic...)
	b = append(b, frameVersion, flags)
	b = binary.BigEndian.AppendUint64(b, f.id)
	b = binary.AppendUvarint(b, f.part)
	if flags&frameLZ4 != 0 {
		b = binary.AppendUvarint(b, uint64(len(f.body)))
	}
	b = append(b, data...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[from:], castagnoli))
}

// VersionError is a message of another version of this package.
type VersionError struct {
	What string
	Got  byte
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("crr: %s of version %d; this node reads version %d", e.What, e.Got, frameVersion)
}

// parseFrame reads one frame. The body may be b's.
func parseFrame(b []byte) (f frame, err error) {
	const head = len(frameMagic) + 2 + 8
	if len(b) < head+1+4 || len(b) > MaxFrame || string(b[:2]) != frameMagic {
		return f, fmt.Errorf("%w: not a frame", ErrCorrupt)
	}
	if b[2] != frameVersion {
		return f, &VersionError{"frame", b[2]}
	}
	n := len(b) - 4
	if crc32.Checksum(b[:n], castagnoli) != binary.BigEndian.Uint32(b[n:]) {
		return f, fmt.Errorf("%w: checksum of a frame", ErrCorrupt)
	}
	flags := b[3]
	if flags&^(frameLast|frameLZ4) != 0 {
		return f, fmt.Errorf("%w: flags %#x of a frame", ErrCorrupt, flags)
	}
	d := &decoder{b: b[head:n]}
	f = frame{id: binary.BigEndian.Uint64(b[4:]), last: flags&frameLast != 0, part: d.uvarint(1<<32 - 1)}
	raw := uint64(0)
	if flags&frameLZ4 != 0 {
		raw = d.uvarint(maxFrameRaw)
	}
	if d.bad {
		return f, fmt.Errorf("%w: head of a frame", ErrCorrupt)
	}
	if f.body = d.b; flags&frameLZ4 == 0 {
		return f, nil
	}
	f.body = make([]byte, raw)
	if n, err := lz4.UncompressBlock(d.b, f.body); err != nil || uint64(n) != raw {
		return f, fmt.Errorf("%w: packed body of a frame", ErrCorrupt)
	}
	return f, nil
}
