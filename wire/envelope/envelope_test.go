package envelope

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// note is a frame of text; type 1 is the hello.
type note struct {
	t    uint8
	text string
}

func notes() *Format[note] {
	return &Format[note]{
		Hello: 1, Most: 10, Buffer: 16,
		Append: func(b []byte, n note) ([]byte, error) { return End(append(Begin(b, n.t), n.text...), len(b), 10) },
		Decode: func(t uint8, p []byte) (note, error) { return note{t, string(p)}, nil },
		Refuse: func(t uint8, f string, args ...any) error {
			return fmt.Errorf("type %d: %s", t, fmt.Sprintf(f, args...))
		},
	}
}

func encoded(t *testing.T, all ...note) []byte {
	t.Helper()
	var b bytes.Buffer
	w := notes().NewWriter(&b)
	for _, n := range all {
		if err := w.Write(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func read(b []byte) (got []note, err error) {
	r := notes().NewReader(bytes.NewReader(b))
	for {
		n, err := r.Next()
		if err != nil {
			return got, err
		}
		got = append(got, n)
	}
}

func TestFramesComeBack(t *testing.T) {
	all := []note{{1, "hello"}, {2, ""}, {3, "0123456789"}}
	got, err := read(encoded(t, all...))
	if err != io.EOF || fmt.Sprint(got) != fmt.Sprint(all) {
		t.Fatalf("%v, %v", got, err)
	}
}

// Whatever bit is flipped and wherever the stream ends, no frame comes out that was not sent.
func TestDamage(t *testing.T) {
	all := []note{{1, "hello"}, {2, "abc"}}
	b := encoded(t, all...)
	for i := range len(b) * 8 {
		bad := bytes.Clone(b)
		bad[i/8] ^= 1 << (i % 8)
		got, err := read(bad)
		if len(got) > 1 || len(got) == 1 && got[0] != all[0] || err == io.EOF && len(got) != 1 {
			t.Fatalf("bit %d flipped: %v, %v", i, got, err)
		}
	}
	first := len(encoded(t, all[0]))
	for n := range len(b) {
		_, err := read(b[:n])
		whole := n == 0 || n == first
		if whole != (err == io.EOF) || !whole && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		bytes []byte
		want  string
	}{
		{encoded(t, note{2, "a"}), "type 2: the stream does not begin with a hello"},
		{encoded(t, note{1, "a"}, note{1, "b"}), "type 1: a second hello"},
		{append(encoded(t, note{1, "a"}), 2, 0, 0, 11), "type 2: 11 bytes are more than 10"},
	} {
		if _, err := read(c.bytes); err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
	if err := notes().NewWriter(io.Discard).Write(note{2, strings.Repeat("x", 11)}); err == nil {
		t.Error("a payload that is too long was written")
	}
}

func TestFields(t *testing.T) {
	d := Of([]byte{7, 0x80, 1, 1, 0, 0, 0, 0, 0, 0, 0, 5, 'a', 'b', 'c'})
	if a, b, c, e, f := d.U8(), d.Uv32(), d.Flag(), d.U64(), string(d.Take(2)); a != 7 || b != 128 || !c || e != 5 || f != "ab" {
		t.Fatal(a, b, c, e, f)
	}
	if d.Left() != 1 || string(d.Rest()) != "c" || !d.OK() {
		t.Fatal("the rest")
	}
	if what, err := d.End(); what != "" || err != nil {
		t.Fatal(what, err)
	}
	for _, c := range []struct {
		b    []byte
		read func(*Fields)
		want string
	}{
		{nil, func(d *Fields) { d.U8(); d.Fail("later") }, "it is cut short"},
		{[]byte{0x80, 0}, func(d *Fields) { d.Uv64() }, "a number is not in its shortest form"},
		{[]byte{0x80}, func(d *Fields) { d.Uv64() }, "a number is cut short or has more than 64 bits"},
		{[]byte{9}, func(d *Fields) { d.Uv(8) }, "the number 9 is above 8"},
		{[]byte{2}, func(d *Fields) { d.Flag() }, "a flag is 2"},
		{[]byte{2, 3}, func(d *Fields) { d.U8() }, "1 bytes are left"},
	} {
		d := Of(c.b)
		c.read(&d)
		if what, err := d.End(); what != c.want || err != nil {
			t.Errorf("%q, %v, want %q", what, err, c.want)
		}
	}
	d = Of([]byte{1})
	d.Check(nil)
	d.Check(io.ErrNoProgress)
	d.Check(io.EOF)
	if what, err := d.End(); what != "" || err != io.ErrNoProgress {
		t.Error(what, err)
	}
}
