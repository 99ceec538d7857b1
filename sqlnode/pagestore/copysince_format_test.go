package pagestore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/nearsql/nearsql/wire"
)

// sampleSince is the copy of testdata with what changed: page 2 of three, of a database that had four.
func sampleSince(t testing.TB) (copyHeader, []byte) {
	h, _ := sampleCopy(t)
	h.prev = State{TXID: 40, Checksum: wire.ChecksumFlag | 7, Pages: 4}
	b, err := h.append(nil)
	must(t, err)
	w := bytes.NewBuffer(b)
	var enc ltxEncoder
	must(t, enc.begin(w, h.ltxHeader()))
	data, _ := samplePage(2)
	must(t, enc.page(2, data))
	must(t, enc.finish(h.state.Checksum))
	return h, w.Bytes()
}

// decodeSince reads a copy on top of pages 1, 3 and 4 as they are in the sample.
func decodeSince(t testing.TB, b []byte) (copyHeader, []byte, error) {
	r := bytes.NewReader(b)
	h, err := readCopyHeader(r)
	if err != nil || h.prev == (State{}) || h.state.Pages > 4 {
		return h, nil, fmt.Errorf("no copy of what changed: %v", err)
	}
	var pages []byte
	err = copyPages(r, &h, lockPgno(pendingByte, int(h.rec.PageSize)), func(pgno uint32, dst []byte) error {
		data, _ := samplePage(pgno)
		copy(dst, data)
		return nil
	}, func(_ uint32, _ wire.Checksum, data []byte) error {
		pages = append(pages, data...)
		return nil
	})
	return h, pages, err
}

// TestGoldenSince compares the format of a copy of what changed with the bytes in testdata.
func TestGoldenSince(t *testing.T) {
	h, b := sampleSince(t)
	golden(t, "copy.v2.bin", b)
	b, err := os.ReadFile(filepath.Join("testdata", "copy.v2.bin"))
	must(t, err)
	got, pages, err := decodeSince(t, b)
	must(t, err)
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", h); g != w {
		t.Errorf("got  %s\nwant %s", g, w)
	}
	if _, whole := sampleCopy(t); len(pages) != 3*512 {
		t.Errorf("%d bytes of pages", len(pages))
	} else if _, want, err := decodeCopy(whole); err != nil || !bytes.Equal(pages, want) {
		t.Errorf("other pages (%v)", err)
	}
	// What is recorded of a copy is whole, always.
	p := replacement{7, h.manifestTenant}
	enc, err := p.encode(2)
	must(t, err)
	if q, err := decodeReplacement(enc, h.rec.ID); err != nil || q.state != h.state {
		t.Errorf("%+v, %v", q, err)
	}
}

// TestDamagedSince flips each bit and cuts at each byte: no such copy is taken, unless it means the same.
func TestDamagedSince(t *testing.T) {
	_, b := sampleSince(t)
	_, whole, err := decodeSince(t, b)
	must(t, err)
	taken := 0
	for i := range b {
		if _, _, err := decodeSince(t, b[:i]); err == nil {
			t.Fatalf("cut at %d: taken", i)
		}
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, pages, err := decodeSince(t, b); err == nil {
				if taken++; !bytes.Equal(pages, whole) {
					t.Fatalf("bit %d of byte %d: taken", bit, i)
				}
			}
			b[i] ^= 1 << bit
		}
	}
	if taken > len(b)/2 {
		t.Fatalf("%d damaged copies were taken", taken)
	}
	if _, _, err := decodeSince(t, append(bytes.Clone(b), 0)); err == nil {
		t.Fatal("a byte too many: taken")
	}
}

// FuzzCopySince puts a good header before what is fuzzed: its CRC would keep the fuzzer out.
func FuzzCopySince(f *testing.F) {
	h, b := sampleSince(f)
	head := b[:copyFixed+int(binary.BigEndian.Uint32(b[76:]))+stateBytes+4]
	f.Add(b[len(head):])
	f.Fuzz(func(t *testing.T, rest []byte) {
		_, pages, err := decodeSince(t, append(bytes.Clone(head), rest...))
		if err == nil && len(pages) != int(h.state.Pages)*512 {
			t.Fatalf("%d bytes", len(pages))
		}
	})
}
