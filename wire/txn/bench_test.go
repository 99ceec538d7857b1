package txn

import (
	"math/rand/v2"
	"testing"
)

func benchPages() (prev, sparse, text, random []byte) {
	r := rand.New(rand.NewPCG(1, 1))
	prev, random = make([]byte, 4096), make([]byte, 4096)
	for i := range prev {
		prev[i] = byte(r.IntN(256))
		random[i] = byte(r.IntN(256))
	}
	sparse = append([]byte(nil), prev...)
	for _, at := range []int{3, 24, 100, 104, 3900, 3990} {
		for i := range 16 {
			sparse[at+i]++
		}
	}
	text = make([]byte, 0, 4096)
	words := []string{"insert ", "into ", "orders", "values ", "name ", "street ", "2024-01-02 ", "42 "}
	for len(text) < 4090 {
		text = append(text, words[r.IntN(len(words))]...)
	}
	return prev, sparse, append(text, make([]byte, 4096)...)[:4096], random
}

func BenchmarkPageSum(b *testing.B) {
	page, _, _, _ := benchPages()
	b.SetBytes(4096)
	b.ReportAllocs()
	for b.Loop() {
		PageSum(7, page)
	}
}

// BenchmarkChange is the usual page of a small transaction, sum and delta: bytes that differ here and there, and
// a page of an index that a row came into.
func BenchmarkChange(b *testing.B) {
	prev, sparse, _, _ := benchPages()
	before, after := rowPages(4096, 150, 16, 1)
	for name, pages := range map[string][2][]byte{"sparse": {prev, sparse}, "row": {before, after}} {
		b.Run(name, func(b *testing.B) {
			h := sampleHeader()
			h.PageSize = 4096
			sum := PageSum(1, pages[0])
			var e Encoder
			b.SetBytes(4096)
			b.ReportAllocs()
			for b.Loop() {
				if err := e.Begin(h); err != nil {
					b.Fatal(err)
				}
				if _, err := e.Change(1, pages[0], pages[1], sum); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(e.Size()), "entry-bytes")
		})
	}
}

func BenchmarkEncodePage(b *testing.B) {
	prev, sparse, text, random := benchPages()
	for name, next := range map[string][]byte{"sparse": sparse, "text": text, "random": random} {
		b.Run(name, func(b *testing.B) {
			h := sampleHeader()
			h.PageSize = 4096
			sum := PageSum(1, next)
			var e Encoder
			b.SetBytes(4096)
			b.ReportAllocs()
			size := 0
			for b.Loop() {
				if err := e.Begin(h); err != nil {
					b.Fatal(err)
				}
				if err := e.Page(1, prev, next, sum); err != nil {
					b.Fatal(err)
				}
				entry, err := e.Finish()
				if err != nil {
					b.Fatal(err)
				}
				size = len(entry)
			}
			b.ReportMetric(float64(size), "entry-bytes")
		})
	}
}

func BenchmarkDecodeHeader(b *testing.B) {
	entry := sample().encode(b, new(Encoder))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeHeader(entry); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApply(b *testing.B) {
	prev, sparse, _, _ := benchPages()
	h := sampleHeader()
	h.PageSize = 4096
	entry := transaction{h, []change{{1, prev, sparse}}}.encode(b, new(Encoder))
	dst := make([]byte, 4096)
	b.SetBytes(4096)
	b.ReportAllocs()
	for b.Loop() {
		h, body, err := Split(entry)
		if err != nil {
			b.Fatal(err)
		}
		for p, err := range Pages(&h, body) {
			if err != nil {
				b.Fatal(err)
			}
			if err := p.Build(dst, prev); err != nil {
				b.Fatal(err)
			}
		}
	}
}
