package txn

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/pierrec/lz4/v4"
	"pgregory.net/rapid"
)

// checkLZ4 says what is wrong with src as appendLZ4 packs it, "" if nothing.
func checkLZ4(src []byte) string {
	block, ok := appendLZ4([]byte("before"), src, 2*len(src)+16)
	if !ok || string(block[:6]) != "before" {
		return "not packed, or something else overwritten"
	}
	block = block[6:]
	out := make([]byte, len(src)+1)
	if n, err := lz4.UncompressBlock(block, out[:len(src)]); err != nil || !bytes.Equal(out[:n], src) {
		return "it does not come back"
	}
	// The rules for the end: the last sequence has literals alone, at least five of them, and the last match
	// begins at least twelve bytes before the end.
	done, match := 0, -1
	for off := 0; ; {
		token := int(block[off])
		off++
		length := func(n int) int {
			for more := n == 15; more; off++ {
				n += int(block[off])
				more = block[off] == 255
			}
			return n
		}
		literals := length(token >> 4)
		off += literals
		done += literals
		if off == len(block) {
			if match >= 0 && (literals < 5 || len(src)-match < 12) {
				return "it ends as no block may"
			}
			break
		}
		off += 2
		match = done
		done += length(token&15) + 4
	}
	if got, ok := appendLZ4(nil, src, len(block)+1); !ok || !bytes.Equal(got, block) {
		return "another block with a limit that fits"
	}
	if got, ok := appendLZ4([]byte("before"), src, len(block)); ok || string(got) != "before" {
		return "the limit is not kept"
	}
	return ""
}

func TestLZ4(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{512, 1024, 4096, 65536}).Draw(t, "size")
		src := make([]byte, 0, size)
		for len(src) < size {
			piece := rapid.SliceOfN(rapid.ByteRange(0, rapid.SampledFrom([]byte{1, 20, 255}).Draw(t, "alphabet")), 1, 40).Draw(t, "piece")
			for range rapid.IntRange(1, 2000).Draw(t, "times") {
				src = append(src, piece...)
			}
			if from := rapid.IntRange(0, len(src)).Draw(t, "from"); len(src) < size {
				src = append(src, src[from:]...)
			}
		}
		if what := checkLZ4(src[:size]); what != "" {
			t.Fatal(what)
		}
	})
}

// TestLZ4End packs what has nothing to find for long, so that positions are passed over, and then a copy just before the end:
// the match is found late, and reaches further back than forward.
func TestLZ4End(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		random := func(n int) []byte {
			b := make([]byte, n)
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			return b
		}
		src := random(rapid.IntRange(400, 4000).Draw(t, "literals"))
		from := rapid.IntRange(0, len(src)-40).Draw(t, "from")
		src = append(src, src[from:from+rapid.IntRange(4, 40).Draw(t, "copied")]...)
		src = append(src, random(rapid.IntRange(0, 24).Draw(t, "tail"))...)
		if what := checkLZ4(src); what != "" {
			t.Fatal(what)
		}
	})
}

// FuzzLZ4: any bytes come back.
func FuzzLZ4(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte("nearsql "), 40))
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) > maxPageSize {
			return
		}
		if what := checkLZ4(src); what != "" {
			t.Fatal(what)
		}
	})
}

// A page that is as it was adds nothing; another is encoded as by Change.
func TestChangeIfDifferent(t *testing.T) {
	page := bytes.Repeat([]byte{7}, 4096)
	other := bytes.Clone(page)
	other[99] = 8
	h := sampleHeader()
	h.PageSize, h.Commit, h.Flags = 4096, 10, 0
	var e, want Encoder
	for _, enc := range []*Encoder{&e, &want} {
		if err := enc.Begin(h); err != nil {
			t.Fatal(err)
		}
	}
	sum, different, err := e.ChangeIfDifferent(2, page, page, PageSum(2, page))
	if err != nil || different || sum != PageSum(2, page) || e.Pages() != 0 {
		t.Errorf("the same page: %v, %t, %v", sum, different, err)
	}
	sum, different, err = e.ChangeIfDifferent(3, page, other, PageSum(3, page))
	if err != nil || !different || sum != PageSum(3, other) || e.Pages() != 1 {
		t.Errorf("another page: %v, %t, %v", sum, different, err)
	}
	if _, err := want.Change(3, page, other, PageSum(3, page)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(e.Body(), want.Body()) {
		t.Errorf("got %x, want %x", e.Body(), want.Body())
	}
}
