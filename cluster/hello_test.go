package cluster

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

var addGolden = flag.Bool("add-golden", false, "write golden files that are missing; those that exist are never changed")

// sample is the example of FORMAT.md.
func sample() Hello {
	h := Hello{From: "n2", To: "n1", Purpose: PurposeRaft, Group: 7, Nonce: 0x0102030405060708}
	for i := range h.Cluster {
		h.Cluster[i] = byte(0xa0 + i)
	}
	return h
}

func mustAppend(t testing.TB, h Hello) []byte {
	t.Helper()
	b, err := h.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// resum gives changed bytes of a hello a right checksum.
func resum(b []byte) []byte {
	end := len(b) - crcSize
	binary.BigEndian.PutUint32(b[end:], crc32.Checksum(b[:end], castagnoli))
	return b
}

func TestGolden(t *testing.T) {
	longest := sample()
	longest.From, longest.To = strings.Repeat("f", nodeMax), strings.Repeat("t", nodeMax)
	longest.Purpose, longest.Group, longest.Nonce = PurposeStream, 1<<32-1, 1<<64-1
	for name, got := range map[string][]byte{
		"hello_v1":         mustAppend(t, sample()),
		"hello_v1_longest": mustAppend(t, longest),
		"accepted":         answer{version: 1, nonce: sample().Nonce}.append(nil),
		"refused":          answer{version: 1, code: CodeUnknownGroup, nonce: sample().Nonce, text: "node n1, raft, group 7"}.append(nil),
	} {
		file := filepath.Join("testdata", name+".hex")
		want, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) && *addGolden {
			if err := os.WriteFile(file, []byte(hex.Dump(got)), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if hex.Dump(got) != string(want) {
			t.Errorf("%s: got\n%swant\n%s", name, hex.Dump(got), want)
		}
	}
}

func TestHelloRoundTrip(t *testing.T) {
	want := sample()
	b := append(mustAppend(t, want), "more"...)
	r := bytes.NewReader(b)
	got, err := ReadHello(iotest.OneByteReader(r))
	if err != nil || got != want {
		t.Fatalf("got %+v, %v; want %+v", got, err, want)
	}
	if r.Len() != len("more") {
		t.Errorf("%d bytes are left", r.Len())
	}
	for i := range len(b) - len("more") {
		if _, err := ParseHello(b[:i]); err != io.ErrUnexpectedEOF {
			t.Errorf("cut after %d bytes: %v", i, err)
		}
	}
}

func TestHelloRefused(t *testing.T) {
	change := func(do func(b []byte) []byte) []byte { return do(mustAppend(t, sample())) }
	for _, c := range []struct {
		name string
		b    []byte
		code Code
		text string
	}{
		{"version", change(func(b []byte) []byte { b[8] = 2; return b }), CodeVersion, "version 2, known is 1"},
		{"version, other form", append([]byte("nearsqlC\x09\x00\x00\x10"), 1, 2, 3, 4), CodeVersion, "version 9"},
		{"size below the prefix", change(func(b []byte) []byte { b[11] = 11; return b }), CodeMalformed, "size is 11"},
		{"size above all", change(func(b []byte) []byte { b[10] = 3; return b }), CodeMalformed, "size is 822"},
		{"short", resum(change(func(b []byte) []byte { b[11] = 49; return b[:49] })), CodeMalformed, "size is 49"},
		{"checksum", change(func(b []byte) []byte { b[20]++; return b }), CodeMalformed, "checksum"},
		{"flags", resum(change(func(b []byte) []byte { b[15] = 1; return b })), CodeMalformed, "flags 00000001"},
		{"names too long", resum(change(func(b []byte) []byte { b[44] = 200; return b })), CodeMalformed, "names of 200 and 2"},
		{"names too short", resum(change(func(b []byte) []byte { b[45] = 1; return b })), CodeMalformed, "names of 2 and 1"},
		{"from empty", resum(change(func(b []byte) []byte { b[44], b[45] = 0, 4; return b })), CodeMalformed, "from: node id of 0"},
		{"to with a line", resum(change(func(b []byte) []byte { b[49] = '\n'; return b })), CodeMalformed, "to: node id"},
		{"purpose", resum(change(func(b []byte) []byte { b[9] = 0; return b })), CodeMalformed, "purpose is 0"},
		{"more behind it", change(func(b []byte) []byte { return append(b, 0) }), CodeMalformed, "1 bytes behind"},
	} {
		var got *HelloError
		if _, err := ParseHello(c.b); !errors.As(err, &got) || got.Code != c.code || !strings.Contains(got.Text, c.text) {
			t.Errorf("%s: got %v, want %v with %q", c.name, err, c.code, c.text)
		}
	}
	for _, s := range []string{"GET / HTTP/1.1\r\n", "nearsqlA\x01\x00\x00\x36"} {
		if _, err := ParseHello([]byte(s)); err != ErrNotHello {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, h := range []Hello{{From: "a", To: "b"}, {From: "A", To: "b", Purpose: 1}, {From: "a", To: strings.Repeat("b", 64), Purpose: 1}} {
		if _, err := h.Append(nil); err == nil {
			t.Errorf("%+v was written", h)
		}
	}
}

func TestAnswer(t *testing.T) {
	want := answer{version: 3, code: CodeBusy, nonce: 9, text: "später"}
	b := want.append(nil)
	r := bytes.NewReader(append(b, "more"...))
	got, err := readAnswer(iotest.OneByteReader(r))
	if err != nil || got != want || r.Len() != len("more") {
		t.Fatalf("got %+v, %v, %d bytes left", got, err, r.Len())
	}
	for i := range b {
		if _, err := readAnswer(bytes.NewReader(b[:i])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut after %d bytes: %v", i, err)
		}
	}
	long := answer{text: strings.Repeat("ä", 400) + "\x00\xff"}
	got, err = readAnswer(bytes.NewReader(long.append(nil)))
	if err != nil || got.text != strings.Repeat("ä", 256) {
		t.Errorf("long text: %q, %v", got.text, err)
	}
	got, err = readAnswer(bytes.NewReader(answer{text: "a\nb\xff"}.append(nil)))
	if err != nil || got.text != "a?b?" {
		t.Errorf("ugly text: %q, %v", got.text, err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"magic":    func(b []byte) []byte { b[0] = 'x'; return b },
		"length":   func(b []byte) []byte { b[10] = 4; return b },
		"checksum": func(b []byte) []byte { b[9]++; return b },
		"line":     func(b []byte) []byte { b[answerFixed] = '\n'; return resum(b) },
	} {
		if _, err := readAnswer(bytes.NewReader(change(want.append(nil)))); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestNames(t *testing.T) {
	seen := make(map[string]bool)
	for c := range Code(codeCount) {
		if s := c.String(); strings.HasPrefix(s, "code(") || seen[s] {
			t.Errorf("code %d is called %q", uint8(c), s)
		} else {
			seen[s] = true
		}
	}
	if Code(200).String() != "code(200)" || Purpose(200).String() != "purpose(200)" {
		t.Error("unknown numbers have names")
	}
	for p := PurposeRaft; p <= PurposeLine; p++ {
		if s := p.String(); strings.HasPrefix(s, "purpose(") || seen[s] {
			t.Errorf("purpose %d is called %q", uint8(p), s)
		} else {
			seen[s] = true
		}
	}
}

func FuzzParseHello(f *testing.F) {
	f.Add(mustAppend(f, sample()))
	f.Add([]byte(helloMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHello(b)
		var bad *HelloError
		switch {
		case err == nil:
			if again := mustAppend(t, h); !bytes.Equal(again, b) {
				t.Fatalf("%x reads as %x", b, again)
			}
		case errors.As(err, &bad):
			if bad.Code != CodeVersion && bad.Code != CodeMalformed {
				t.Fatalf("refused with %v", bad)
			}
		case err != ErrNotHello && err != io.ErrUnexpectedEOF:
			t.Fatal(err)
		}
		// The same with a right checksum, which lets the rest be read.
		if len(b) >= helloPrefix+crcSize && len(b) <= helloMax {
			b = bytes.Clone(b)
			copy(b, helloMagic)
			b[8] = Version
			binary.BigEndian.PutUint16(b[10:], uint16(len(b)))
			if h, err := ParseHello(resum(b)); err == nil && !bytes.Equal(mustAppend(t, h), b) {
				t.Fatalf("%x reads as %+v", b, h)
			}
		}
	})
}

func FuzzReadAnswer(f *testing.F) {
	f.Add(answer{version: 1, code: CodeBusy, nonce: 9, text: "x"}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := readAnswer(bytes.NewReader(b))
		if err != nil {
			return
		}
		if again := a.append(nil); !bytes.HasPrefix(b, again) {
			t.Fatalf("%x reads as %x", b, again)
		}
	})
}
