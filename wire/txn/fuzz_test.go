package txn

import (
	"bytes"
	"testing"
)

// FuzzSplit: what is decoded is encoded to the same bytes.
func FuzzSplit(f *testing.F) {
	f.Add(sample().encode(f, new(Encoder)))
	for _, h := range []Header{
		{Kind: Control, Code: 1},
		{Kind: Part, Operation: 1, Part: 2, PageSize: 512},
		{Kind: Transaction, Flags: FlagParts, PageSize: 512, Commit: 1, Pages: 1, Parts: 1, BodyLen: 9},
	} {
		b, err := AppendEntry(nil, &h, nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, entry []byte) {
		h, body, err := Split(entry)
		if err != nil {
			return
		}
		again, err := AppendEntry(nil, &h, body)
		if err != nil {
			t.Fatalf("%+v: %v", h, err)
		}
		if entry[1] == oldest { // it says the same, by another first byte
			return
		}
		if end := len(entry) - trailerSize; !bytes.Equal(again[:end], entry[:end]) {
			t.Fatalf("got %x, want %x", again, entry)
		}
		if (Verify(entry) == nil) != bytes.Equal(again, entry) {
			t.Fatal("Verify does not agree")
		}
	})
}

// FuzzPages: a body that passes consists of its pages, and Pages and PageReader agree.
func FuzzPages(f *testing.F) {
	h, body, err := Split(sample().encode(f, new(Encoder)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body, h.Pages)
	f.Fuzz(func(t *testing.T, body []byte, pages uint32) {
		h := sampleHeader()
		h.Commit = 1 << 31
		h.Pages = min(pages, h.Commit)
		if fails(&h, body) {
			return
		}
		var again []byte
		last := uint32(0)
		dst := make([]byte, h.PageSize)
		for p, err := range Pages(&h, body) {
			if err != nil {
				t.Fatal(err)
			}
			again = appendPage(again, last, p)
			last = p.Pgno
			_ = p.Build(dst, nil)
		}
		if !bytes.Equal(again, body) {
			t.Fatalf("got %x, want %x", again, body)
		}
	})
}

// FuzzDelta: a page comes back from its delta, and any bytes as a delta do no harm.
func FuzzDelta(f *testing.F) {
	f.Add([]byte("some bytes"), []byte("some other bytes"))
	f.Add([]byte{1, 2, 3}, []byte{})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		prev, next := make([]byte, 512), make([]byte, 512)
		copy(prev, a)
		copy(next, b)
		for i := range b { // a second copy, off the word boundary
			if at := 200 + i*3; at < len(next) {
				next[at] = b[i]
			}
		}
		dst := bytes.Clone(prev)
		_ = applyDelta(dst, a)
		copy(dst, prev)
		_ = applyCopies(dst, prev, a)
		delta, ok := appendDelta(nil, prev, next, 511)
		if !ok {
			return
		}
		copy(dst, prev)
		if err := applyDelta(dst, delta); err != nil || !bytes.Equal(dst, next) {
			t.Fatalf("delta %x: %v", delta, err)
		}
		copies, ok := appendCopies(nil, delta, prev, next, 2*len(delta)+2)
		if !ok {
			t.Fatalf("%x: copies are more than twice as long", delta)
		}
		copy(dst, prev)
		if err := applyCopies(dst, prev, copies); err != nil || !bytes.Equal(dst, next) {
			t.Fatalf("copies %x: %v", copies, err)
		}
		if err := applyCopiesInPlace(prev, copies); err != nil || !bytes.Equal(prev, next) {
			t.Fatalf("copies %x, in place: %v", copies, err)
		}
	})
}

// FuzzApply: no page data does harm.
func FuzzApply(f *testing.F) {
	f.Add(byte(EncodingLZ4), []byte{0x1f, 'a', 1, 0, 0xff, 0xff})
	f.Add(byte(EncodingDelta), []byte{1, 2, 3, 4})
	f.Add(byte(EncodingCopies), []byte{2, 17, 3, 0, 4, 'a', 'b'})
	f.Fuzz(func(t *testing.T, encoding byte, data []byte) {
		dst := make([]byte, 1024)
		_ = Page{Pgno: 1, Encoding: Encoding(encoding), Data: data}.Apply(dst[:512:512], nil)
		if !bytes.Equal(dst[512:], make([]byte, 512)) {
			t.Fatal("wrote beyond the page")
		}
	})
}
