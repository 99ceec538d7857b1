package pagestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// sampleCopy is the copy of testdata: three pages of 512 bytes.
func sampleCopy(t testing.TB) (copyHeader, []byte) {
	m := sampleManifest(t).tenants[0]
	m.rec.PageSize, m.rec.Epoch = 512, 3
	m.state = State{TXID: 42, Checksum: wire.ChecksumFlag, Pages: 3}
	for n := uint32(1); n <= 3; n++ {
		_, sum := samplePage(n)
		m.state.Checksum ^= sum &^ wire.ChecksumFlag
	}
	h := copyHeader{group: 2, manifestTenant: m}
	b, err := h.append(nil)
	must(t, err)
	w := bytes.NewBuffer(b)
	var enc ltxEncoder
	must(t, enc.begin(w, h.ltxHeader()))
	for n := uint32(1); n <= 3; n++ {
		data, _ := samplePage(n)
		must(t, enc.page(n, data))
	}
	must(t, enc.finish(m.state.Checksum))
	return h, w.Bytes()
}

func sampleReplacement(t testing.TB) replacement {
	h, _ := sampleCopy(t)
	return replacement{0x1f, h.manifestTenant}
}

var sampleOrigin = origin{0: 0xab, 15: 0xcd}

// TestGoldenCopy compares the formats of copies, and version 2 of the manifest, with the bytes in testdata.
func TestGoldenCopy(t *testing.T) {
	h, b := sampleCopy(t)
	golden(t, "copy.v1.bin", b)
	p := sampleReplacement(t)
	b, err := p.encode(2)
	must(t, err)
	golden(t, "replaced.v1.bin", b)
	golden(t, "origin.v1.bin", encodeOrigin(sampleOrigin))
	m := sampleManifest(t)
	m.origin = sampleOrigin
	b, err = m.encode()
	must(t, err)
	golden(t, "manifest.v2.bin", b)

	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		must(t, err)
		return b
	}
	same := func(got, want any) {
		t.Helper()
		if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
			t.Errorf("got  %s\nwant %s", g, w)
		}
	}
	got, pages, err := decodeCopy(read("copy.v1.bin"))
	must(t, err)
	same(got, h)
	if len(pages) != 3*512 {
		t.Errorf("%d bytes of pages", len(pages))
	}
	gotP, err := decodeReplacement(read("replaced.v1.bin"), p.rec.ID)
	must(t, err)
	same(gotP, p)
	if o, ok := decodeOrigin(read("origin.v1.bin")); !ok || o != sampleOrigin {
		t.Errorf("got %x", o)
	}
	gotM, err := decodeManifest(read("manifest.v2.bin"))
	must(t, err)
	same(gotM, m)
}

func decodeCopy(b []byte) (copyHeader, []byte, error) {
	r := bytes.NewReader(b)
	h, err := readCopyHeader(r)
	if err != nil {
		return h, nil, err
	}
	var pages []byte
	err = copyPages(r, &h, lockPgno(pendingByte, int(h.rec.PageSize)), nil, func(_ uint32, _ wire.Checksum, data []byte) error {
		pages = append(pages, data...)
		return nil
	})
	return h, pages, err
}

// TestDamagedCopy flips each bit and cuts at each byte: no such copy is taken, unless it means the same. (LZ4 can say the
// same in several ways.)
func TestDamagedCopy(t *testing.T) {
	_, b := sampleCopy(t)
	_, whole, err := decodeCopy(b)
	must(t, err)
	taken := 0
	for i := range b {
		if _, _, err := decodeCopy(b[:i]); err == nil {
			t.Fatalf("cut at %d: taken", i)
		}
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, pages, err := decodeCopy(b); err == nil {
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
	if _, _, err := decodeCopy(append(bytes.Clone(b), 0)); err == nil {
		t.Fatal("a byte too many: taken")
	}
	if _, _, err := decodeCopy(b); err != nil {
		t.Fatal(err)
	}
	p := sampleReplacement(t)
	b, err = p.encode(2)
	must(t, err)
	for i := range b {
		b[i] ^= 4
		if _, err := decodeReplacement(b, p.rec.ID); err == nil {
			t.Fatalf("record: byte %d: taken", i)
		}
		b[i] ^= 4
	}
}

// TestCopyRefused gives a hollow tenant copies that it must not take, and looks at what is left.
func TestCopyRefused(t *testing.T) {
	p := newPassing(t)
	fs := p.disk.Clone()
	r := p.follower(t, fs)
	free := int64(1 << 40)
	r.cfg.Space = disk.NewSpace(disk.SpaceConfig{Free: func() (int64, error) { return free, nil }, Reserve: 1 << 20, Believe: -1})
	r.start()
	defer r.stop()
	old := r.tenant(2)
	must(t, old.Failed())
	r.log.install(p.leader.log, p.snap, p.index)
	must(t, r.g.Restore(bytes.NewReader(p.snap)))
	p.feed(r, len(p.tail)/2)

	change := func(b []byte, f func(*copyHeader)) []byte {
		rd := bytes.NewReader(b)
		h, err := readCopyHeader(rd)
		must(t, err)
		f(&h)
		out, err := h.append(nil)
		must(t, err)
		rest, err := io.ReadAll(rd)
		must(t, err)
		return append(out, rest...)
	}
	good := p.early[2]
	// A transaction that is not what the log says, in a copy that is well made.
	var bogus bytes.Buffer
	h, pages, err := decodeCopy(good)
	must(t, err)
	pages[len(pages)-9] ^= 1
	h.state.Checksum = wire.ChecksumFlag
	for n := uint32(1); n <= h.state.Pages; n++ {
		h.state.Checksum ^= txn.PageSum(n, pages[(n-1)*4096:n*4096]) &^ wire.ChecksumFlag
	}
	b, err := h.append(nil)
	must(t, err)
	bogus.Write(b)
	var enc ltxEncoder
	must(t, enc.begin(&bogus, h.ltxHeader()))
	for n := uint32(1); n <= h.state.Pages; n++ {
		must(t, enc.page(n, pages[(n-1)*4096:n*4096]))
	}
	must(t, enc.finish(h.state.Checksum))
	_, _, err = decodeCopy(bogus.Bytes())
	must(t, err)

	huge := bytes.Clone(good)
	rec := int(binary.BigEndian.Uint32(huge[76:]))
	binary.BigEndian.PutUint32(huge[copyFixed+rec+4+100+6:], 0xfffffff0) // the size of the first page

	var corrupt *CopyError
	var stale *StaleCopyError
	before, trace := r.tenant(2).Logged(), listDir(t, fs)
	for _, c := range []struct {
		name string
		b    []byte
		want any
	}{
		{"nothing", nil, &corrupt},
		{"another tenant", p.mid[1], &corrupt},
		{"another group", change(good, func(h *copyHeader) { h.group++ }), &corrupt},
		{"another epoch", change(good, func(h *copyHeader) { h.rec.Epoch++ }), &corrupt},
		{"another page size", change(good, func(h *copyHeader) { h.rec.PageSize = 8192 }), &corrupt},
		{"another size", change(good, func(h *copyHeader) { h.state.Pages-- }), &corrupt},
		{"more pages", change(good, func(h *copyHeader) { h.state.Pages++ }), &corrupt},
		{"another state", bogus.Bytes(), &corrupt},
		{"an older one", change(good, func(h *copyHeader) { h.index-- }), &stale},
		{"cut short", good[:len(good)/2], &corrupt},
		{"without its end", good[:len(good)-1], &corrupt},
		{"more than its end", append(bytes.Clone(good), 1), &corrupt},
		{"a huge page", huge, &corrupt},
		{"ahead, of an older state", change(good, func(h *copyHeader) { h.index += 1000 }), &corrupt},
	} {
		err := r.readCopy(2, c.b)
		if !errors.As(err, c.want) {
			t.Errorf("%s: got %v", c.name, err)
		}
		if !errors.Is(r.tenant(2).Failed(), ErrHollow) || r.tenant(2).Logged() != before {
			t.Fatalf("%s: the tenant changed", c.name)
		}
		if now := listDir(t, fs); now != trace {
			t.Fatalf("%s: left are %s", c.name, now)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.tenant(2).ReadCopy(ctx, bytes.NewReader(good)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := p.leader.tenant(2).WriteCopy(ctx, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	free = 1 << 20
	if err := r.readCopy(2, good); !errors.Is(err, ErrDiskFull) {
		t.Errorf("got %v", err)
	}
	free = 1 << 40
	if now := listDir(t, fs); now != trace {
		t.Fatalf("left are %s", now)
	}
	if err := r.tenant(2).WriteCopy(context.Background(), io.Discard); !errors.Is(err, ErrHollow) {
		t.Errorf("got %v", err)
	}
	p.finish(r, "in the end")
}

// TestCopyOfParts: while parts come, no index of the log describes the tenant.
func TestCopyOfParts(t *testing.T) {
	entries, _ := history(t, 4096)
	r := newFollower(t, memDisk(disktest.NewMemFS()))
	open := 0
	for _, e := range entries {
		r.feed(e)
		if r.g.mu.staging == 0 {
			r.visible(1)
			r.copyOf(1)
			continue
		}
		open++
		if err := r.tenant(1).WriteCopy(context.Background(), io.Discard); !errors.Is(err, ErrStagingOpen) {
			t.Fatalf("got %v", err)
		}
	}
	if open == 0 {
		t.Fatal("there were no parts")
	}
}

// TestDamagedRecords: what this node keeps for the snapshots of others may rot. That costs copies, and nothing else.
func TestDamagedRecords(t *testing.T) {
	p := newPassing(t)
	for _, name := range []string{"manifest", "replaced/" + idOf(2).String()} {
		fs := p.disk.Clone()
		r := p.follower(t, fs)
		r.start()
		r.log.install(p.leader.log, p.snap, p.index)
		must(t, r.g.Restore(bytes.NewReader(p.snap)))
		must(t, r.readCopy(2, p.early[2]))
		r.stop()
		flip(t, fs, "/data/g2/"+name, 30)
		r.start()
		if r.tenant(2).Failed() == nil && name != "manifest" {
			t.Fatalf("%s: tenant 2 is in service", name)
		}
		if r.tenant(1).Failed() == nil && name == "manifest" {
			t.Fatalf("%s: tenant 1 is in service", name)
		}
		p.feed(r, len(p.tail))
		for _, n := range []byte{1, 2, 3, 5, 6} {
			if r.tenant(n).Failed() != nil {
				must(t, r.readCopy(n, p.end[n]))
			}
			r.same(p.leader, n, name)
		}
		r.tidy()
		r.restart()
		p.finish(r, name)
		r.stop()
	}
}

func listDir(t testing.TB, fs disk.FS) (s string) {
	t.Helper()
	for _, dir := range []string{"bases", "replaced", "failed", "segments"} {
		names, err := fs.ReadDir("test.list", filepath.Join("/data/g2", dir))
		must(t, err)
		for _, n := range names {
			s += dir + "/" + n.Name() + "\n"
		}
	}
	return s
}

func FuzzCopy(f *testing.F) {
	_, b := sampleCopy(f)
	f.Add(b)
	f.Add(b[:copyFixed])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, pages, err := decodeCopy(b)
		if err == nil && len(pages) != int(h.state.Pages)*int(h.rec.PageSize) {
			t.Fatalf("%d bytes of %s", len(pages), h.state)
		}
	})
}

// FuzzCopyPages puts a good header before what is fuzzed: its CRC would keep the fuzzer out.
func FuzzCopyPages(f *testing.F) {
	h, b := sampleCopy(f)
	n := copyFixed + int(binary.BigEndian.Uint32(b[76:])) + 4
	f.Add(b[n:])
	f.Fuzz(func(t *testing.T, rest []byte) {
		got := 0
		err := copyPages(bytes.NewReader(rest), &h, 0, nil, func(_ uint32, _ wire.Checksum, data []byte) error {
			got += len(data)
			return nil
		})
		if err == nil && got != 3*512 {
			t.Fatalf("%d bytes", got)
		}
	})
}
