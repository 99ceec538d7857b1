package leader

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/nearsql/nearsql/wire"
)

// The frames are FORMAT.md's.
const (
	frameVersion = 1
	frameSize    = 40
)

// kind is what a frame asks.
type kind uint8

const (
	kindConfirm   kind = 1 // is term still your term?
	kindReadIndex kind = 2 // which index must a read wait for?
	kindWhole     kind = 3 // have you applied all up to index, and do you hold all of it?
)

// code is the answer's outcome; 0 in a question.
type code uint8

const (
	codeOK          code = 0
	codeNotVoter    code = 1 // of its newest configuration
	codeNotPrimary  code = 2
	codeUnconfirmed code = 3
	codeNotWhole    code = 4 // Config.MayChange says no
	codeBehind      code = 5
)

// frame is a question or its answer, which is of the same kind, group and round.
type frame struct {
	kind  kind
	code  code
	group wire.GroupID
	term  uint64 // of who sends the frame
	round uint64 // chosen by who asks
	index uint64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (f frame) encode() []byte {
	b := make([]byte, 0, frameSize)
	b = append(b, frameVersion, byte(f.kind), byte(f.code), 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(f.group))
	for _, v := range [...]uint64{f.term, f.round, f.index} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = append(b, 0, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeFrame(b []byte) (frame, error) {
	if len(b) != frameSize {
		return frame{}, fmt.Errorf("confirm frame of %d bytes, want %d", len(b), frameSize)
	}
	if b[0] != frameVersion {
		return frame{}, fmt.Errorf("confirm frame has version %d, want %d", b[0], frameVersion)
	}
	sum := binary.LittleEndian.Uint32(b[frameSize-4:])
	if got := crc32.Checksum(b[:frameSize-4], castagnoli); got != sum {
		return frame{}, fmt.Errorf("confirm frame has checksum %08x, its bytes have %08x", sum, got)
	}
	if b[3] != 0 || binary.LittleEndian.Uint32(b[32:]) != 0 {
		return frame{}, fmt.Errorf("confirm frame has bits that are not known")
	}
	return frame{
		kind: kind(b[1]), code: code(b[2]), group: wire.GroupID(binary.LittleEndian.Uint32(b[4:])),
		term: binary.LittleEndian.Uint64(b[8:]), round: binary.LittleEndian.Uint64(b[16:]), index: binary.LittleEndian.Uint64(b[24:]),
	}, nil
}

func readFrame(r io.Reader) (frame, error) {
	var b [frameSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return frame{}, err
	}
	return decodeFrame(b[:])
}
