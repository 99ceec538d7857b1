package txn

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash/crc64"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/superfly/ltx"

	"github.com/nearsql/nearsql/wire"
)

var addGolden = flag.Bool("add-golden", false, "write golden files that are missing; those that exist are never changed")

// change is one page of a transaction, before and after.
type change struct {
	pgno       uint32
	prev, next []byte
}

// transaction is a whole transaction as a value.
type transaction struct {
	header  Header
	changes []change
}

func (tx transaction) encode(t testing.TB, e *Encoder) []byte {
	t.Helper()
	if err := e.Begin(tx.header); err != nil {
		t.Fatal(err)
	}
	for _, c := range tx.changes {
		if err := e.Page(c.pgno, c.prev, c.next, PageSum(c.pgno, c.next)); err != nil {
			t.Fatal(err)
		}
	}
	e.SetNext(tx.header.NextTXID, tx.header.NextSum)
	entry, err := e.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return entry
}

func sampleHeader() Header {
	return Header{
		Kind:          Transaction,
		Tenant:        wire.TenantID{0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f},
		Epoch:         3,
		Group:         7,
		Policy:        2,
		PageSize:      512,
		PrevTXID:      41,
		PrevSum:       0x8000000000001111,
		NextTXID:      42,
		NextSum:       0x8000000000002222,
		Commit:        3,
		TimeUnixMilli: 1_700_000_000_000,
	}
}

// sample has a page of each encoding.
func sample() transaction {
	h := sampleHeader()
	prev := make([]byte, 512)
	delta := bytes.Clone(prev)
	copy(delta[24:], "\x00\x00\x00\x05")
	copy(delta[500:], "Ada Lovelace")
	packed := bytes.Repeat([]byte("nearsql "), 64)
	raw := make([]byte, 512)
	rand.NewChaCha8([32]byte{1}).Read(raw)
	return transaction{h, []change{{1, prev, delta}, {2, nil, packed}, {3, nil, raw}}}
}

func TestPageSum(t *testing.T) {
	table := crc64.MakeTable(crc64.ISO)
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 600 {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		pgno := r.Uint32()
		want := crc64.Update(crc64.Checksum([]byte{byte(pgno >> 24), byte(pgno >> 16), byte(pgno >> 8), byte(pgno)}, table), table, data)
		if got := PageSum(pgno, data); got != wire.Checksum(want)|wire.ChecksumFlag {
			t.Fatalf("%d bytes: got %s, want %016x", n, got, want)
		}
	}
	for _, size := range []int{512, 1024, 4096, 65536} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		if got, want := PageSum(77, data), wire.Checksum(ltx.ChecksumPage(77, data)); got != want {
			t.Errorf("%d bytes: got %s, LTX has %s", size, got, want)
		}
	}
}

func TestChangeKnowsTheSum(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var e Encoder
	for _, size := range []int{512, 1024, 4096, 65536} {
		h := sampleHeader()
		h.PageSize, h.Commit = uint32(size), 100
		prev := make([]byte, size)
		for i := range prev {
			prev[i] = byte(r.Uint32())
		}
		next := bytes.Clone(prev)
		deltas := 0
		for n := range 300 {
			at := r.IntN(size)
			for i := range min(r.IntN(1+n*4), size-at) {
				next[at+i] ^= byte(r.Uint32())
			}
			if n%3 == 0 { // an edge, and two runs within one word
				next[0]++
				next[5]++
				next[size-1]++
			}
			if err := e.Begin(h); err != nil {
				t.Fatal(err)
			}
			got, err := e.Change(77, prev, next, PageSum(77, prev))
			if want := PageSum(77, next); err != nil || got != want {
				t.Fatalf("%d bytes, change %d: got %s, %v, want %s", size, n, got, err, want)
			}
			if e.isDelta {
				deltas++
			}
			if n%20 == 0 {
				copy(prev, next)
			}
		}
		if deltas == 0 || deltas == 300 && size == 512 {
			t.Errorf("%d bytes: %d of 300 changes were deltas", size, deltas)
		}
	}
	if err := e.Begin(sampleHeader()); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Change(1, nil, make([]byte, 512), 1<<63); err == nil {
		t.Error("a change of nothing was taken")
	}
}

func TestHeaderRoundTrip(t *testing.T) {
	full := Header{
		Kind: Transaction, Flags: FlagParts | FlagImport,
		Tenant: wire.TenantID{0xff, 15: 0xff}, Epoch: 1<<32 - 1, Group: 1<<32 - 1, Policy: 1<<32 - 1, PageSize: 65536,
		PrevTXID: 1<<64 - 1, PrevSum: 1<<64 - 1, NextTXID: 1<<64 - 2, NextSum: 1<<64 - 1,
		Commit: 1<<32 - 1, TimeUnixMilli: 1<<64 - 1, Pages: 1<<32 - 1,
		Operation: 1<<64 - 1, Parts: 1<<32 - 1, BodyLen: (1<<32 - 1) * 65536, BodyCRC: 1<<32 - 1,
	}
	inline := sampleHeader()
	for _, h := range []Header{
		full,
		inline,
		{Kind: Control, Code: 0xabcd, Tenant: wire.TenantID{1}},
		{Kind: Part, Operation: 9, Part: 1<<32 - 1, PageSize: 4096},
	} {
		b, err := AppendEntry([]byte("x"), &h, nil)
		if err != nil {
			t.Fatal(err)
		}
		entry := b[1:]
		if len(entry) > MaxHeader+trailerSize {
			t.Errorf("header of %d bytes", len(entry)-trailerSize)
		}
		got, err := DecodeHeader(entry)
		if err != nil || got != h {
			t.Errorf("got %+v, %v, want %+v", got, err, h)
		}
		if err := Verify(entry); err != nil {
			t.Error(err)
		}
		for n := range entry {
			if _, err := DecodeHeader(entry[:n]); err == nil {
				t.Errorf("%d of %d bytes are a header", n, len(entry))
			}
		}
	}
}

func TestHeaderRefused(t *testing.T) {
	for name, change := range map[string]func(*Header){
		"unknown kind":        func(h *Header) { h.Kind = 4 },
		"no kind":             func(h *Header) { h.Kind = 0 },
		"unknown flag":        func(h *Header) { h.Flags = 4 },
		"flag of another":     func(h *Header) { h.Kind = Control; h.Flags = FlagImport },
		"page size":           func(h *Header) { h.PageSize = 1000 },
		"small pages":         func(h *Header) { h.PageSize = 256 },
		"no page size":        func(h *Header) { h.PageSize = 0 },
		"more than the pages": func(h *Header) { h.Pages = 4 },
		"code":                func(h *Header) { h.Code = 1 },
		"part":                func(h *Header) { h.Part = 1 },
		"operation":           func(h *Header) { h.Operation = 1 },
		"parts":               func(h *Header) { h.Parts = 1 },
		"no parts":            func(h *Header) { h.Flags = FlagParts; h.Pages = 1; h.BodyLen = 10 },
		"long body":           func(h *Header) { h.Flags = FlagParts; h.Pages = 1; h.Parts = 1; h.BodyLen = 1000 },
	} {
		h := sampleHeader()
		change(&h)
		var format *FormatError
		if b, err := AppendHeader(nil, &h); !errors.As(err, &format) || len(b) != 0 {
			t.Errorf("%s: got %x, %v", name, b, err)
		}
	}
	h := sampleHeader()
	good, _ := AppendEntry(nil, &h, nil)
	bad := bytes.Clone(good)
	bad[1] = 9
	var v *VersionError
	if _, err := DecodeHeader(bad); !errors.Is(err, ErrVersion) || !errors.As(err, &v) || v.Found != 9 {
		t.Errorf("version 9: %v", err)
	}
	bad[0] = 'X'
	var format *FormatError
	if _, err := DecodeHeader(bad); !errors.As(err, &format) || format.Offset != 0 {
		t.Errorf("magic: %v", err)
	}
}

func TestVerifyFindsEachFlippedBit(t *testing.T) {
	entry := sample().encode(t, new(Encoder))
	if err := Verify(entry); err != nil {
		t.Fatal(err)
	}
	for i := range entry {
		for bit := range 8 {
			entry[i] ^= 1 << bit
			if Verify(entry) == nil {
				t.Fatalf("flipped bit %d of byte %d is not found", bit, i)
			}
			entry[i] ^= 1 << bit
		}
	}
	for n := range entry {
		if Verify(entry[:n]) == nil {
			t.Errorf("%d of %d bytes pass", n, len(entry))
		}
	}
}

// goldenEntries are the entries of testdata, as they are written today.
func goldenEntries(t *testing.T) map[string][]byte {
	tx := sample()
	large := sampleHeader()
	large.Flags, large.Pages, large.Operation, large.Parts, large.BodyLen, large.BodyCRC = FlagParts|FlagImport, 2, 0x0102030405060708, 1, 600, 0xcafef00d
	part := PartHeader(&tx.header, 0x0102030405060708, 5)
	control := sampleHeader()
	control.Kind, control.Code, control.NextTXID, control.NextSum = Control, 0x0203, control.PrevTXID, control.PrevSum
	entry := func(h Header, body string) []byte {
		b, err := AppendEntry(nil, &h, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	small, copies := tx, tx
	small.header.Commit, copies.header.Commit = 1, 1
	small.changes = tx.changes[:1]
	prev, next := rowPages(512, 40, 9, 1)
	copies.changes = []change{{1, prev, next}}
	return map[string][]byte{
		"transaction": tx.encode(t, new(Encoder)),
		"small":       small.encode(t, new(Encoder)),
		"copies":      copies.encode(t, new(Encoder)),
		"parts":       entry(large, ""),
		"part":        entry(part, "piece of a body"),
		"control":     entry(control, "\x00payload"),
	}
}

func TestGolden(t *testing.T) {
	for name, got := range goldenEntries(t) {
		file := filepath.Join("testdata", name+".v2.hex")
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
	for name, want := range map[string]string{"transaction": "[delta lz4 raw]", "copies": "[copies]"} {
		h, body, err := Split(goldenEntries(t)[name])
		if err != nil {
			t.Fatal(err)
		}
		var encodings []Encoding
		for p, err := range Pages(&h, body) {
			if err != nil {
				t.Fatal(err)
			}
			encodings = append(encodings, p.Encoding)
		}
		if fmt.Sprint(encodings) != want {
			t.Errorf("the golden %s has %v", name, encodings)
		}
	}
}

// TestGoldenOfBefore: what version 1 wrote says the same as what is written now.
func TestGoldenOfBefore(t *testing.T) {
	now := goldenEntries(t)
	for _, name := range []string{"transaction", "small", "parts", "part", "control"} {
		dump, err := os.ReadFile(filepath.Join("testdata", name+".v1.hex"))
		if err != nil {
			t.Fatal(err)
		}
		var before []byte
		for line := range strings.Lines(string(dump)) { // offset, bytes, and what they look like
			text, _, _ := strings.Cut(line, "|")
			for _, field := range strings.Fields(text)[1:] {
				b, err := hex.DecodeString(field)
				if err != nil {
					t.Fatal(err)
				}
				before = append(before, b...)
			}
		}
		if before[1] != 1 {
			t.Fatalf("%s is of version %d", name, before[1])
		}
		if err := Verify(before); err != nil {
			t.Fatal(err)
		}
		h, body, err := Split(before)
		if err != nil {
			t.Fatal(err)
		}
		wantHeader, wantBody, err := Split(now[name])
		if err != nil || h != wantHeader || !bytes.Equal(body, wantBody) {
			t.Errorf("%s: %+v, %x, %v", name, h, body, err)
		}
	}
}

// rowPages is a page of a b-tree before and after some rows came into its middle: as SQLite does it, pointers at the beginning, which move,
// and cells at the end, to which some are added.
func rowPages(size, rows, cell, added int) (prev, next []byte) {
	r := rand.New(rand.NewPCG(uint64(size), uint64(rows)))
	build := func(order []int, cells int) []byte {
		page := make([]byte, size)
		page[0] = 10
		binary.BigEndian.PutUint16(page[3:], uint16(len(order)))
		binary.BigEndian.PutUint16(page[5:], uint16(size-cells*cell))
		for i, c := range order {
			binary.BigEndian.PutUint16(page[8+2*i:], uint16(size-(c+1)*cell))
		}
		text := rand.New(rand.NewPCG(7, 7))
		for c := range cells {
			for i := range cell {
				page[size-(c+1)*cell+i] = byte(text.IntN(256))
			}
		}
		return page
	}
	order := r.Perm(rows)
	prev = build(order, rows)
	for i := range added {
		order = slices.Insert(order, r.IntN(len(order)), rows+i)
	}
	return prev, build(order, rows+added)
}

// TestCopies: where rows come into a page or go, the pointers that move are not sent.
func TestCopies(t *testing.T) {
	for _, added := range []int{1, 2, 5} {
		prev, next := rowPages(4096, 150, 16, added)
		for name, c := range map[string][2][]byte{"come": {prev, next}, "go": {next, prev}} {
			h := sampleHeader()
			h.PageSize, h.Commit = 4096, 1
			var e Encoder
			entry := transaction{h, []change{{1, c[0], c[1]}}}.encode(t, &e)
			h, body, err := Split(entry)
			if err != nil {
				t.Fatal(err)
			}
			for p, err := range Pages(&h, body) {
				if err != nil {
					t.Fatal(err)
				}
				most := 30 + 32*added // header, and for each row its cell, its pointer, and three runs
				if p.Encoding != EncodingCopies || len(p.Data) > most || len(e.delta) < 2*len(p.Data) {
					t.Errorf("%d rows %s: %s of %d bytes, the delta has %d; want at most %d", added, name, p.Encoding, len(p.Data), len(e.delta), most)
				}
				page := bytes.Clone(c[0])
				if err := p.Build(page, page); err != nil {
					t.Errorf("%d rows %s: %v", added, name, err)
				}
			}
		}
	}
}

func TestBadCopies(t *testing.T) {
	prev := make([]byte, 512)
	for name, data := range map[string][]byte{
		"gap beyond the page":       {0xff, 0x7f, 2, 'x'},
		"run of no bytes":           {0, 0},
		"run beyond the page":       {0xf0, 3, 0x81, 1, 4},
		"end within a run":          {0, 8, 'x'},
		"copy without its distance": {0, 9},
		"copy from where it is":     {0, 9, 0},
		"copy from before the page": {1, 9, 3},
		"copy from behind the page": {0xf8, 3, 9, 0x0a},
		"distance of no end":        {0, 9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"end within a gap":          {0x80},
	} {
		p := Page{Pgno: 1, Encoding: EncodingCopies, Data: data}
		if err := p.Apply(make([]byte, 512), prev); !errors.As(err, new(*FormatError)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// randomTransaction changes pages of a random database in ways of all sorts.
func randomTransaction(r *rand.Rand) transaction {
	h := sampleHeader()
	h.PageSize = 512 << r.IntN(4)
	h.Commit = 1 + r.Uint32N(40)
	tx := transaction{header: h}
	for pgno := uint32(1); pgno <= h.Commit; pgno++ {
		if r.IntN(3) == 0 {
			continue
		}
		next := make([]byte, h.PageSize)
		var prev []byte
		if r.IntN(4) > 0 {
			prev = make([]byte, h.PageSize)
			for i := range prev {
				prev[i] = byte(r.IntN(1 + r.IntN(256)))
			}
			copy(next, prev)
		}
		switch r.IntN(5) {
		case 4: // bytes that move, by a little mostly
			copy(next, prev)
			for range 1 + r.IntN(4) {
				from, by := r.IntN(len(next)), []int{2, -2, 4, -4, r.IntN(9) - 4}[r.IntN(5)]
				copy(next[min(max(0, from+by), len(next)):], next[from:min(len(next), from+r.IntN(300))])
				next[from] = byte(r.Uint32())
			}
		case 0: // as it was
		case 1: // all of it
			for i := range next {
				next[i] = byte(r.Uint32())
			}
		case 2: // compressible
			for i := range next {
				next[i] = byte(i / 7)
			}
		default: // here and there
			for range r.IntN(40) {
				at := r.IntN(len(next))
				for i := range 1 + r.IntN(12) {
					next[(at+i)%len(next)] = byte(r.Uint32())
				}
			}
		}
		tx.changes = append(tx.changes, change{pgno, prev, next})
	}
	return tx
}

func TestRandomTransactions(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	used := new(Encoder)
	seen := map[Encoding]int{}
	for range 300 {
		tx := randomTransaction(r)
		entry := tx.encode(t, used)
		if fresh := tx.encode(t, new(Encoder)); !bytes.Equal(entry, fresh) {
			t.Fatalf("seed %d: a used encoder and a new one differ", seed)
		}
		if err := Verify(entry); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		h, body, err := Split(entry)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		reader, err := NewPageReader(iotest.OneByteReader(bytes.NewReader(body)), h)
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		for p, err := range Pages(&h, body) {
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			seen[p.Encoding]++
			c := tx.changes[i]
			dst := bytes.Repeat([]byte{0xee}, int(h.PageSize))
			if err := p.Build(dst, c.prev); err != nil || p.Pgno != c.pgno || !bytes.Equal(dst, c.next) {
				t.Fatalf("seed %d: page %d: %v", seed, c.pgno, err)
			}
			if c.prev != nil { // in place
				page := bytes.Clone(c.prev)
				if err := p.Build(page, page); err != nil {
					t.Fatalf("seed %d: page %d in place: %v", seed, c.pgno, err)
				}
			}
			q, err := reader.Next()
			if err != nil || q.Pgno != p.Pgno || q.Encoding != p.Encoding || q.Sum != p.Sum || !bytes.Equal(q.Data, p.Data) {
				t.Fatalf("seed %d: the reader has %+v, %v, want %+v", seed, q, err, p)
			}
			i++
		}
		if _, err := reader.Next(); err != io.EOF {
			t.Fatalf("seed %d: the reader ends with %v", seed, err)
		}
		if i != len(tx.changes) {
			t.Fatalf("seed %d: %d pages, want %d", seed, i, len(tx.changes))
		}
		for _, n := range []int{0, len(body) / 2, len(body) - 1} {
			if n >= 0 && n < len(body) && !fails(&h, body[:n]) {
				t.Fatalf("seed %d: %d of %d bytes of a body pass", seed, n, len(body))
			}
		}
		if !fails(&h, append(bytes.Clone(body), 1)) {
			t.Fatalf("seed %d: a byte too much passes", seed)
		}
	}
	for _, e := range []Encoding{EncodingRaw, EncodingDelta, EncodingLZ4, EncodingCopies} {
		if seen[e] == 0 {
			t.Errorf("seed %d: no %s page", seed, e)
		}
	}
}

// fails says whether Pages and PageReader refuse body, and complains when they do not agree.
func fails(h *Header, body []byte) bool {
	var whole, stream error
	for _, err := range Pages(h, body) {
		whole = err
	}
	r, err := NewPageReader(bytes.NewReader(body), *h)
	if err != nil {
		return whole != nil
	}
	for stream == nil {
		_, stream = r.Next()
	}
	if (whole == nil) != (stream == io.EOF) {
		panic(fmt.Sprintf("Pages says %v, PageReader %v", whole, stream))
	}
	return whole != nil
}

func TestParts(t *testing.T) {
	h := sampleHeader()
	h.PageSize, h.Commit = 4096, 60
	tx := transaction{header: h}
	r := rand.New(rand.NewPCG(5, 6))
	for pgno := uint32(1); pgno <= h.Commit; pgno++ {
		next := make([]byte, h.PageSize)
		for i := range next {
			next[i] = byte(r.Uint32())
		}
		tx.changes = append(tx.changes, change{pgno, nil, next})
	}
	inline := bytes.Clone(tx.encode(t, new(Encoder)))
	_, want, err := Split(inline)
	if err != nil {
		t.Fatal(err)
	}

	var e Encoder
	if err := e.Begin(h); err != nil {
		t.Fatal(err)
	}
	var body []byte
	for _, c := range tx.changes {
		if err := e.Page(c.pgno, c.prev, c.next, PageSum(c.pgno, c.next)); err != nil {
			t.Fatal(err)
		}
		if c.pgno%7 == 0 {
			body = append(body, e.Drain()...)
		}
	}
	if _, err := new(Encoder).Finish(); err == nil {
		t.Error("Finish without Begin")
	}
	rest := e.Body()
	entry, err := e.FinishParts(77, 4)
	if err != nil {
		t.Fatal(err)
	}
	body = append(body, rest...)
	if !bytes.Equal(body, want) {
		t.Fatal("the body in parts is not the body inline")
	}
	closing, err := DecodeHeader(entry)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(entry); err != nil {
		t.Fatal(err)
	}
	var joined []byte
	parts := uint32(0)
	for number, payload := range SplitParts(body) {
		ph := PartHeader(&h, 77, number)
		part, err := AppendEntry(nil, &ph, payload)
		if err != nil {
			t.Fatal(err)
		}
		if len(part) > MaxEntry || number != parts {
			t.Errorf("part %d has %d bytes", number, len(part))
		}
		got, piece, err := Split(part)
		if err != nil || got != ph || got.Operation != closing.Operation {
			t.Fatal(got, err)
		}
		joined = append(joined, piece...)
		parts++
	}
	if parts != closing.Parts {
		t.Errorf("%d parts, want %d", parts, closing.Parts)
	}
	if fails(&closing, joined) {
		t.Error("the joined parts do not pass")
	}
	for _, i := range []int{3, len(joined) / 2, len(joined) - 1} {
		joined[i] ^= 0x10
		if !fails(&closing, joined) {
			t.Errorf("a flipped bit in byte %d is not found", i)
		}
		joined[i] ^= 0x10
	}
	if err := e.Begin(h); err != nil {
		t.Fatal(err)
	}
	c := tx.changes[0]
	if err := e.Page(c.pgno, nil, c.next, PageSum(c.pgno, c.next)); err != nil {
		t.Fatal(err)
	}
	e.Drain()
	if _, err := e.Finish(); err == nil {
		t.Error("Finish after Drain")
	}
}

func TestEncoderRefuses(t *testing.T) {
	page := make([]byte, 512)
	sum := wire.ChecksumFlag
	for name, try := range map[string]func(e *Encoder) error{
		"number 0":        func(e *Encoder) error { return e.Page(0, nil, page, sum) },
		"beyond the end":  func(e *Encoder) error { return e.Page(4, nil, page, sum) },
		"short page":      func(e *Encoder) error { return e.Page(1, nil, page[:511], sum) },
		"short previous":  func(e *Encoder) error { return e.Page(1, page[:511], page, sum) },
		"sum":             func(e *Encoder) error { return e.Page(1, nil, page, 5) },
		"begin":           func(e *Encoder) error { return e.Begin(Header{PageSize: 5}) },
		"not ascending":   func(e *Encoder) error { return errors.Join(e.Page(2, nil, page, sum), e.Page(2, nil, page, sum)) },
		"before the end":  func(e *Encoder) error { e.Page(3, nil, page, sum); e.SetCommit(2); _, err := e.Finish(); return err },
		"no parts":        func(e *Encoder) error { e.Page(3, nil, page, sum); _, err := e.FinishParts(1, 0); return err },
		"after its end":   func(e *Encoder) error { e.Finish(); return e.Page(1, nil, page, sum) },
		"finished before": func(e *Encoder) error { e.Finish(); _, err := e.Finish(); return err },
	} {
		var e Encoder
		if err := e.Begin(sampleHeader()); err != nil {
			t.Fatal(err)
		}
		if try(&e) == nil {
			t.Errorf("%s: no error", name)
		}
	}
	var e Encoder
	h := sampleHeader()
	h.PageSize, h.Commit = 65536, 1<<32-1
	if err := e.Begin(h); err != nil {
		t.Fatal(err)
	}
	if err := e.Page(LockPage(65536), nil, make([]byte, 65536), sum); err == nil {
		t.Error("the lock page is taken")
	}
}

func TestApplyRefuses(t *testing.T) {
	dst := make([]byte, 512)
	for name, p := range map[string]Page{
		"raw":            {Encoding: EncodingRaw, Data: dst[:511]},
		"gap":            {Encoding: EncodingDelta, Data: []byte{0x81, 0x04, 1, 9}},
		"gap at the end": {Encoding: EncodingDelta, Data: []byte{0x80, 0x04, 1, 9}},
		"length":         {Encoding: EncodingDelta, Data: append([]byte{1, 0x80, 0x04}, dst...)},
		"length 0":       {Encoding: EncodingDelta, Data: []byte{1, 0}},
		"run cut":        {Encoding: EncodingDelta, Data: []byte{1, 2, 3}},
		"long varint":    {Encoding: EncodingDelta, Data: []byte{0x80, 0x00, 1, 3}},
		"huge gap":       {Encoding: EncodingDelta, Data: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 1, 3}},
		"lz4":            {Encoding: EncodingLZ4, Data: []byte{0xff, 0xff, 0xff}},
		"lz4, short":     {Encoding: EncodingLZ4, Data: []byte{0x10, 'a'}},
		"encoding":       {Encoding: 9},
	} {
		var format *FormatError
		if err := p.Apply(dst, nil); !errors.As(err, &format) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if (Page{Encoding: EncodingDelta}).Apply(dst, dst[:500]) == nil {
		t.Error("a short previous version passes")
	}
	var sum *SumError
	if err := (Page{Pgno: 1, Encoding: EncodingDelta, Sum: wire.ChecksumFlag}).Build(dst, nil); !errors.As(err, &sum) {
		t.Errorf("sum: %v", err)
	}
}

func TestAllocations(t *testing.T) {
	tx := sample()
	var e Encoder
	tx.encode(t, &e)
	entry := bytes.Clone(tx.encode(t, &e))
	dst := make([]byte, 512)
	for name, f := range map[string]func(){
		"encode":        func() { tx.encode(t, &e) },
		"decode header": func() { DecodeHeader(entry) },
		"page sum":      func() { PageSum(1, dst) },
		"pages": func() {
			h, body, _ := Split(entry)
			for p, err := range Pages(&h, body) {
				if err != nil || p.Apply(dst, nil) != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		if n := testing.AllocsPerRun(200, f); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestRunEnd(t *testing.T) {
	// What the words of runEnd's loop stand for, byte by byte.
	slow := func(a, b []byte, i int) int {
		end := i + 1
		for j := end; j < len(a) && j-end < minGap; j++ {
			if a[j] != b[j] {
				end = j + 1
			}
		}
		return end
	}
	r := rand.New(rand.NewPCG(5, 6))
	for range 20000 {
		a := make([]byte, 1+r.IntN(60))
		b := make([]byte, len(a))
		odds := 1 + r.IntN(6)
		for i := range b {
			b[i] = byte(min(r.IntN(odds), 1)) * byte(1+r.IntN(255))
		}
		i := r.IntN(len(b))
		b[i] = 1
		if got, want := runEnd(a, b, i), slow(a, b, i); got != want {
			t.Fatalf("run at %d of %x: got %d, want %d", i, b, got, want)
		}
	}
}
