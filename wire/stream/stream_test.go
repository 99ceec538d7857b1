package stream

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/wire"
)

var update = flag.Bool("update", false, "write golden files that are missing")

var (
	someTenant = wire.TenantID{0: 0x10, 15: 0x1f}
	someHead   = Head{Epoch: 3, TXID: 41, Checksum: wire.ChecksumFlag | 0x1111, Index: 300}
)

// goldens are the frames of testdata, by file name. Never change one; add.
func goldens() map[string]Frame {
	return map[string]Frame{
		"hello":       Hello{Version: 1, Window: 4 << 20, Heartbeat: 1000},
		"heartbeat":   Heartbeat{},
		"error":       Error{Code: ErrorRefused, Text: "the entry is of tenant é"},
		"subscribe":   Subscribe{Slot: 1, Tenant: someTenant, Group: 7, Policy: 2, Hops: MaxHops, Head: someHead},
		"unsubscribe": Unsubscribe{Slot: 1},
		"ack":         Ack{Slot: 1, Head: someHead},
		"applied":     Applied{Lane: 1, Index: 300},
		"credit":      Credit{Slot: 0, Bytes: 1 << 20},
		"probe":       Probe{ID: 9, Group: 7},
		"enter":       Enter{Slot: 1, Lane: 1, Group: 7, Hops: 1},
		"txn":         Txn{Slot: 1, Index: 301, Entry: []byte("entry")},
		"ltx":         LTX{Slot: 1, Min: 42, Max: 50, Chunk: ChunkFirst | ChunkLast, Data: []byte("ltx")},
		"snapshot":    Snapshot{Slot: 1, Chunk: ChunkFirst, Data: []byte("copy")},
		"aborted":     Snapshot{Slot: 1, Chunk: ChunkAborted},
		"joined":      Joined{Slot: 1, Head: someHead},
		"through":     Through{Lane: 1, Index: 300},
		"left":        Left{Lane: 1},
		"probed":      Probed{ID: 9, Group: 7, Index: 300},
		"unconfirmed": Probed{ID: 9, Group: 7, Code: ProbeUnconfirmed},
		"heads":       Heads{Heads: []LaneHead{{1, 300}, {2, 5}}},
		"gone":        Gone{Slot: 1, Why: GoneMoved, Group: 8},
	}
}

func TestGolden(t *testing.T) {
	for name, f := range goldens() {
		b, err := Append(nil, f)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		path := filepath.Join("testdata", name+".v1.hex")
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) && *update {
			text = []byte(hex.EncodeToString(b) + "\n")
			err = os.WriteFile(path, text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		want, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, want) {
			t.Errorf("%s: got %x, want %x", name, b, want)
		}
		got, err := read(want)
		if err != nil || !same(got, f) {
			t.Errorf("%s: read %+v, %v; want %+v", name, got, err, f)
		}
	}
}

// same compares frames; an empty Data is as none.
func same(a, b Frame) bool {
	x, err := Append(nil, a)
	if err != nil {
		return false
	}
	y, err := Append(nil, b)
	return err == nil && reflect.TypeOf(a) == reflect.TypeOf(b) && bytes.Equal(x, y)
}

// read reads the one frame of b, wherever it belongs in a stream.
func read(b []byte) (Frame, error) {
	var before []byte
	if len(b) > 0 && Type(b[0]) != TypeHello {
		var err error
		if before, err = Append(nil, Hello{Version: Version}); err != nil {
			return nil, err
		}
	}
	r := NewReader(bytes.NewReader(append(before, b...)))
	if before != nil {
		if _, err := r.Next(); err != nil {
			return nil, err
		}
	}
	f, err := r.Next()
	if err != nil {
		return nil, err
	}
	if r.Buffered() {
		return nil, errors.New("bytes are left")
	}
	return f, nil
}

func TestStream(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	frames := []Frame{Hello{Version: Version, Window: 5}, Heartbeat{}, Txn{Slot: 1, Index: 2, Entry: bytes.Repeat([]byte{1}, MaxEntry)},
		Snapshot{Slot: 1, Data: make([]byte, MaxChunk)}, Through{Lane: 1, Index: 1<<64 - 1}}
	for _, f := range frames {
		if err := w.Write(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	r := NewReader(bytes.NewReader(whole))
	for _, want := range frames {
		got, err := r.Next()
		if err != nil || !same(got, want) {
			t.Fatalf("got %+v, %v", got, err)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Fatalf("at the end: %v", err)
	}
	// Cut anywhere, it ends with a word about it, and with what was whole before.
	for n := range len(whole) {
		if n > 200 && n < len(whole)-200 && n%4093 != 0 {
			continue
		}
		r := NewReader(bytes.NewReader(whole[:n]))
		var err error
		for err == nil {
			_, err = r.Next()
		}
		if err != io.EOF && err != io.ErrUnexpectedEOF {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

func TestFlippedBits(t *testing.T) {
	for name, f := range goldens() {
		b, err := Append(nil, f)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 8 * len(b) {
			bad := bytes.Clone(b)
			bad[i/8] ^= 1 << (i % 8)
			if got, err := read(bad); err == nil {
				t.Errorf("%s: bit %d flipped: read %+v", name, i, got)
			}
		}
	}
}

// payloads that no frame has.
func TestMalformed(t *testing.T) {
	head := string(someHead.append(nil))
	for _, c := range []struct {
		t       Type
		payload string
		want    string
	}{
		{TypeHello, "nearsqlX\x01\x00\x00", "does not begin"},
		{TypeHello, "nearsqlS\x01\x00", "cut short"},
		{TypeHello, "nearsqlS\x01\x00\x00\x00", "left"},
		{TypeHeartbeat, "x", "left"},
		{TypeError, "\x00x", "no code"},
		{TypeError, "\x01\xff", "UTF-8"},
		{TypeError, "\x01" + strings.Repeat("x", MaxText+1), "513 bytes"},
		{TypeSubscribe, "\x00" + string(someTenant[:]) + "\x07\x02\x0f" + head, "slot 0"},
		{TypeSubscribe, "\x01" + strings.Repeat("\x00", 16) + "\x07\x02\x0f" + head, "tenant is zero"},
		{TypeSubscribe, "\x01" + string(someTenant[:]) + "\x07\x02\x10" + head, "16 hops"},
		{TypeSubscribe, "\x01" + string(someTenant[:]) + "\x07\x02\x0f" + head[:5], "cut short"},
		{TypeUnsubscribe, "", "cut short"},
		{TypeUnsubscribe, "\x80\x00", "shortest"},
		{TypeUnsubscribe, "\xff\xff\xff\xff\xff\x01", "above"},
		{TypeCredit, "\x00\x00", "no bytes"},
		{TypeTxn, "\x01\x02", "0 bytes"},
		{TypeTxn, "\x01\x02" + strings.Repeat("x", MaxEntry+1), "65537 bytes"},
		{TypeLTX, "\x01\x01\x00\x05x", "range"},
		{TypeLTX, "\x01\x01\x05\x04x", "range"},
		{TypeSnapshot, "\x01\x08x", "unknown flags"},
		{TypeSnapshot, "\x01\x04x", "aborted"},
		{TypeSnapshot, "\x01\x06", "aborted"},
		{TypeSnapshot, "\x01\x01" + strings.Repeat("x", MaxChunk+1), "32769 bytes"},
		{TypeThrough, "\x00\x01", "lane 0"},
		{TypeProbed, "\x09\x07\x01\x05", "without an answer"},
		{TypeHeads, "", "no lanes"},
		{TypeHeads, strings.Repeat("\x01\x01", MaxHeads+1), "more than"},
		{TypeGone, "\x01\x00\x00", "no reason"},
		{TypeGone, "\x01\x01\x05", "without a move"},
		{0, "", "no such type"},
		{20, "", "no such type"},
	} {
		f, err := decode(uint8(c.t), []byte(c.payload))
		var format *FormatError
		if !errors.As(err, &format) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v %q: got %+v, %v; want %q", c.t, c.payload[:min(len(c.payload), 40)], f, err, c.want)
		}
	}
}

func TestRefused(t *testing.T) {
	hello, err := Append(nil, Hello{Version: Version})
	if err != nil {
		t.Fatal(err)
	}
	next := func(b []byte) error {
		r := NewReader(bytes.NewReader(b))
		for {
			if _, err := r.Next(); err != nil {
				return err
			}
		}
	}
	if err := next(append(hello, hello...)); err == nil || !strings.Contains(err.Error(), "second hello") {
		t.Errorf("two hellos: %v", err)
	}
	beat, err := Append(nil, Heartbeat{})
	if err != nil {
		t.Fatal(err)
	}
	if err := next(beat); err == nil || !strings.Contains(err.Error(), "does not begin with a hello") {
		t.Errorf("no hello: %v", err)
	}
	// The length is believed only up to the limit: nothing is read, nor is room made.
	if err := next(append(hello, byte(TypeTxn), 0xff, 0xff, 0xff)); !errors.As(err, new(*FormatError)) {
		t.Errorf("oversized: %v", err)
	}
	_, err = decode(uint8(TypeHello), []byte("nearsqlS\x02what comes later"))
	var version *VersionError
	if !errors.As(err, &version) || version.Found != 2 || !errors.Is(err, ErrVersion) {
		t.Errorf("version 2: %v", err)
	}
}

func TestCannotWrite(t *testing.T) {
	for _, f := range []Frame{
		Hello{}, Error{}, Error{Code: 1, Text: "\xff"}, Subscribe{}, Subscribe{Slot: 1}, Unsubscribe{}, Ack{}, Applied{}, Credit{}, Enter{}, Enter{Slot: 1},
		Enter{Slot: 1, Lane: 1, Hops: 16}, Txn{Slot: 1}, Txn{Entry: []byte("x")}, Txn{Slot: 1, Entry: make([]byte, MaxEntry+1)}, LTX{Slot: 1},
		LTX{Min: 1, Max: 1}, Snapshot{}, Snapshot{Slot: 1, Data: make([]byte, MaxChunk+1)}, Joined{}, Through{}, Left{}, Probed{Code: 1, Index: 1},
		Heads{}, Heads{make([]LaneHead, 1)}, Gone{}, Gone{Slot: 1}, Gone{Slot: 1, Why: 1, Group: 1},
	} {
		b, err := Append([]byte("kept"), f)
		if !errors.As(err, new(*FormatError)) || string(b) != "kept" {
			t.Errorf("%+v: %q, %v", f, b, err)
		}
	}
}

// FuzzReader: what is read is written as the same bytes.
func FuzzReader(f *testing.F) {
	for _, g := range goldens() {
		b, err := Append(nil, g)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := read(b)
		if err != nil {
			return
		}
		again, err := Append(nil, got)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%+v: %x, %v; want %x", got, again, err, b)
		}
	})
}

// FuzzDecode gets behind the CRC.
func FuzzDecode(f *testing.F) {
	for _, g := range goldens() {
		b, err := g.appendPayload(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(g.Type()), b)
	}
	f.Fuzz(func(t *testing.T, typ uint8, payload []byte) {
		got, err := decode(typ, payload)
		if err != nil {
			if got != nil {
				t.Fatalf("a frame with %v", err)
			}
			return
		}
		again, err := got.appendPayload(nil)
		if err != nil || !bytes.Equal(again, payload) || got.Type() != Type(typ) {
			t.Fatalf("%+v: %x, %v; want %x", got, again, err, payload)
		}
	})
}

func BenchmarkTxn(b *testing.B) {
	f := Txn{Slot: 1, Index: 1 << 30, Entry: make([]byte, 660)}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = Append(buf[:0], f)
	}
	b.ReportMetric(float64(len(buf)-len(f.Entry)), "overhead-B/txn")
}
