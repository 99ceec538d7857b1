package leader

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// golden frames: these bytes are only ever added to.
var goldenFrames = []struct {
	frame frame
	bytes string
}{
	{frame{kind: kindConfirm, group: 7, term: 5, round: 258},
		"010100000700000005000000000000000201000000000000000000000000000000000000a7d07bae"},
	{frame{kind: kindReadIndex, code: codeUnconfirmed, group: 1 << 31, term: 1 << 40, round: 1, index: 99},
		"0102030000000080000000000001000001000000000000006300000000000000000000007e43861f"},
	{frame{kind: kindWhole, code: codeBehind, group: 1, term: 2, round: 3, index: 1<<64 - 1},
		"010305000100000002000000000000000300000000000000ffffffffffffffff000000002d5a86a9"},
}

func TestGoldenFrames(t *testing.T) {
	for _, g := range goldenFrames {
		if got := hex.EncodeToString(g.frame.encode()); got != g.bytes {
			t.Errorf("%+v is\n%s, want\n%s", g.frame, got, g.bytes)
		}
		b, err := hex.DecodeString(g.bytes)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeFrame(b); err != nil || got != g.frame {
			t.Errorf("%s is %+v, %v, want %+v", g.bytes, got, err, g.frame)
		}
	}
}

func TestDamagedFrames(t *testing.T) {
	whole := goldenFrames[1].frame.encode()
	for i := range whole {
		for bit := range 8 {
			b := bytes.Clone(whole)
			b[i] ^= 1 << bit
			if f, err := decodeFrame(b); err == nil {
				t.Fatalf("with bit %d of byte %d flipped: %+v", bit, i, f)
			}
		}
		if _, err := readFrame(bytes.NewReader(whole[:i])); err == nil {
			t.Fatalf("%d bytes are a frame", i)
		}
	}
}

func FuzzDecodeFrame(f *testing.F) {
	for _, g := range goldenFrames {
		f.Add(g.frame.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := decodeFrame(b); err == nil && !bytes.Equal(d.encode(), b) {
			t.Fatalf("%x is %+v, which is %x", b, d, d.encode())
		}
	})
}
