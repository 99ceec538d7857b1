package frame

import (
	"bytes"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/wire"
)

// headerSize and crcSize are what a frame has before its payload and behind it.
const headerSize, crcSize = 4, 4

var tenant = wire.TenantID{1, 2, 3, 15: 9}

// samples is one frame of each type, and of the forms they have.
func samples() map[string]Frame {
	return map[string]Frame{
		"hello":       Hello{Version: 1, Heartbeat: 1000},
		"heartbeat":   Heartbeat{Now: 1_700_000_000_000_000, Echo: -5, At: 7},
		"error":       Error{Code: ErrorProtocol, Text: "a frame out of place"},
		"heads":       Heads{Heads: []Head{{tenant, 0x1122334455667788}, {wire.TenantID{9}, 0}}},
		"urgent":      Heads{Urgent: true, Heads: []Head{{tenant, 1}}},
		"pull":        Pull{ID: 300, Kind: Batch, Tenant: tenant, Window: 1 << 18, Request: []byte("request")},
		"pull_vector": Pull{ID: 1, Kind: Vector, Tenant: tenant},
		"pull_copy":   Pull{ID: 2, Kind: Snapshot, Tenant: tenant, Window: 5},
		"answer":      Answer{ID: 300, End: true, Data: []byte("data")},
		"answered":    Answered{ID: 300, Code: Done, Vector: crr.Vector{1: 5, 300: 1 << 60}, Text: "well"},
		"refused":     Answered{ID: 300, Code: Refused, Vector: crr.Vector{}},
		"cancel":      Cancel{ID: 1 << 40},
		"credit":      Credit{ID: 300, Bytes: 65536},
		"push":        Push{Tenant: tenant, Relay: []string{"ams-1", "sin-1"}, Data: []byte("batch")},
		"push_plain":  Push{Tenant: tenant, Data: []byte("batch")},
	}
}

func stream(t testing.TB, fs ...Frame) []byte {
	t.Helper()
	var b []byte
	for _, f := range append([]Frame{Hello{Version: 1}}, fs...) {
		var err error
		if b, err = Append(b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestGolden(t *testing.T) {
	for name, f := range samples() {
		b, err := Append(nil, f)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		path := filepath.Join("testdata", name+".v1.hex")
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
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
			t.Errorf("%s is written as\n%x, golden is\n%x", name, b, want)
		}
		in := want
		if f.Type() != TypeHello {
			in = append(stream(t), want...)
		}
		r := NewReader(bytes.NewReader(in))
		var got Frame
		for {
			x, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got = x
		}
		if !reflect.DeepEqual(got, f) && !(name == "pull_vector" || name == "pull_copy") {
			t.Errorf("%s: got %#v, want %#v", name, got, f)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, f := range map[string]Frame{
		"version":     Hello{Version: 2},
		"no code":     Error{Text: "x"},
		"no heads":    Heads{},
		"zero tenant": Heads{Heads: make([]Head, 1)},
		"many heads":  Heads{Heads: make([]Head, MaxHeads+1)},
		"kind":        Pull{ID: 1, Kind: 9, Tenant: tenant, Window: 1},
		"id":          Cancel{},
		"window":      Pull{ID: 1, Kind: Snapshot, Tenant: tenant},
		"request":     Pull{ID: 1, Kind: Batch, Tenant: tenant, Window: 1},
		"large":       Answer{ID: 1, Data: make([]byte, MaxData+1)},
		"text":        Answered{ID: 1, Code: 1, Text: strings.Repeat("x", MaxText+1)},
		"node":        Push{Tenant: tenant, Relay: []string{""}, Data: []byte{1}},
		"relay":       Push{Tenant: tenant, Relay: make([]string, MaxRelay+1), Data: []byte{1}},
	} {
		if _, err := Append(nil, f); !errors.As(err, new(*FormatError)) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	other := stream(t)
	other[headerSize+len(magic)] = 2
	fixCRC(other)
	if _, err := NewReader(bytes.NewReader(other)).Next(); !errors.As(err, new(*VersionError)) {
		t.Errorf("another version: %v", err)
	}
	for name, b := range map[string][]byte{
		"without hello": stream(t, Cancel{1})[len(stream(t)):],
		"second hello":  stream(t, Hello{Version: 1}),
		"damaged":       func() []byte { b := stream(t, Cancel{1}); b[len(b)-6] ^= 1; return b }(),
		"too long":      append(stream(t), 4, 255, 255, 255),
		"long varint": func() []byte {
			b := append(stream(t), 8, 0, 0, 2, 0x81, 0, 0, 0, 0, 0)
			fixCRC(b[len(stream(t)):])
			return b
		}(),
	} {
		r := NewReader(bytes.NewReader(b))
		var err error
		for err == nil {
			_, err = r.Next()
		}
		if !errors.As(err, new(*FormatError)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// fixCRC makes the CRC of a frame right.
func fixCRC(b []byte) {
	n := len(b) - crcSize
	sum := crc32.Checksum(b[:n], crc32.MakeTable(crc32.Castagnoli))
	b[n], b[n+1], b[n+2], b[n+3] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
}

func FuzzReader(f *testing.F) {
	for _, x := range samples() {
		if x.Type() != TypeHello {
			f.Add(stream(f, x))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// The CRCs of what is whole are made right, so that the fuzzer gets past them.
		for rest := b; len(rest) >= headerSize+crcSize; {
			n := headerSize + int(rest[1])<<16 + int(rest[2])<<8 + int(rest[3]) + crcSize
			if n > len(rest) {
				break
			}
			fixCRC(rest[:n])
			rest = rest[n:]
		}
		r := NewReader(bytes.NewReader(b))
		var out []byte
		for {
			x, err := r.Next()
			if err != nil {
				break
			}
			if out, err = Append(out, x); err != nil {
				t.Fatalf("%#v was read and can't be written: %v", x, err)
			}
		}
		if !bytes.HasPrefix(b, out) {
			t.Fatalf("read from\n%x\nand written as\n%x", b, out)
		}
	})
}
