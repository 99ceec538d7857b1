package pagestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// sampleManifest is the manifest of testdata.
func sampleManifest(t testing.TB) *manifest {
	rec, err := tenant.New(wire.TenantID{0: 0x0a, 15: 0xff}, "acme", tenant.CreateOptions{}, 2, time.UnixMilli(1_700_000_000_000))
	must(t, err)
	return &manifest{group: 2, index: 4711,
		units: []manifestUnit{{seq: 9, made: 1_700_000_000_001, segments: []uint64{7, 9}}, {seq: 10, made: 1_700_000_000_002, segments: []uint64{10}}},
		tenants: []manifestTenant{{rec: rec, state: State{TXID: 300, Checksum: 0x8123456789abcdef, Pages: 21},
			time: 1_700_000_000_000, index: 4700}},
	}
}

// samplePage is page n of the files of testdata.
func samplePage(n uint32) ([]byte, wire.Checksum) {
	p := bytes.Repeat([]byte{byte(n), 'a'}, 256)
	return p, txn.PageSum(n, p)
}

// writeSamples writes the files of testdata to fs.
func writeSamples(t testing.TB, fs disk.FS) {
	must(t, fs.MkdirAll("x", "/s/failed", 0o700))
	w, err := createSegment(fs, "/s", 2, 0x1f, 1_700_000_000_001)
	must(t, err)
	for i := range byte(2) {
		w.begin(&section{Tenant: wire.TenantID{0: 0x0a + i, 15: 0xff}, Epoch: 3, PageSize: 512,
			Prev: State{TXID: 40, Checksum: 0x8000000000001111, Pages: 2}, Next: State{TXID: 42, Checksum: 0x8000000000002222, Pages: 3}, Time: 1_700_000_000_000})
		for _, n := range []uint32{1, 3}[:2-i] {
			data, sum := samplePage(n)
			_, err := w.page(n, sum, data)
			must(t, err)
		}
	}
	_, err = w.finish()
	must(t, err)

	b, err := openBase(fs, wire.TenantID{1}, "/s/base.db", 512)
	must(t, err)
	must(t, b.begin())
	var pages []basePage
	for n := uint32(1); n <= 3; n++ {
		data, sum := samplePage(n)
		pages = append(pages, basePage{n, sum, data})
	}
	must(t, b.write(pages))
	must(t, b.resize(3))
	b.close()

	f := &files{cfg: Config{FS: fs, Dir: "/s"}}
	must(t, f.saveProgress(9, 7))
}

// TestGoldenFiles compares each format with the bytes in testdata, which are never changed.
func TestGoldenFiles(t *testing.T) {
	fs := disktest.NewMemFS()
	writeSamples(t, fs)
	for name, path := range map[string]string{
		"segment.v1.bin": "/s/" + segmentName(0x1f), "sums.v1.bin": "/s/base.db.sums", "progress.v1.bin": "/s/progress",
	} {
		b, err := disk.ReadFile(fs, "x", path, 1<<20)
		must(t, err)
		golden(t, name, b)
	}
	m := sampleManifest(t)
	b, err := m.encode()
	must(t, err)
	golden(t, "manifest.v1.bin", b)
}

// TestReadGoldenFiles reads the bytes in testdata.
func TestReadGoldenFiles(t *testing.T) {
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		must(t, err)
		return b
	}
	fs := disktest.NewMemFS()
	writeSamples(t, fs)
	put := func(path string, b []byte) {
		f, err := fs.OpenFile("x", path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		must(t, err)
		_, err = f.Write(b)
		must(t, err)
		must(t, f.Close())
	}
	put("/s/golden.seg", read("segment.v1.bin"))
	sg, err := openSegment(fs, "/s/golden.seg")
	must(t, err)
	if len(sg.sections) != 2 || sg.sections[0].Next.Pages != 3 || sg.sections[0].Epoch != 3 || len(sg.sections[1].pages) != 1 {
		t.Fatalf("got %+v", sg.sections)
	}
	for _, s := range sg.sections {
		for i, p := range s.pages {
			buf := make([]byte, 512)
			_, err := sg.file.f.ReadAt(buf, s.pageOffset(i))
			must(t, err)
			if txn.PageSum(p.pgno, buf) != p.sum {
				t.Errorf("page %d", p.pgno)
			}
		}
	}
	put("/s/base.db.sums", read("sums.v1.bin"))
	b, err := openBase(fs, wire.TenantID{1}, "/s/base.db", 512)
	must(t, err)
	if b.pages() != 3 || b.mu.bad != nil {
		t.Fatalf("%d pages, %v", b.pages(), b.mu.bad)
	}
	for n := uint32(1); n <= 3; n++ {
		must(t, b.readPageLocked(make([]byte, 512), n))
	}
	put("/s/progress", read("progress.v1.bin"))
	f := &files{cfg: Config{FS: fs, Dir: "/s"}}
	must(t, f.loadProgress())
	if f.mu.absorbed != 9 || f.mu.retired != 7 {
		t.Fatalf("absorbed %d, retired %d", f.mu.absorbed, f.mu.retired)
	}
	m, err := decodeManifest(read("manifest.v1.bin"))
	must(t, err)
	if got, want := fmt.Sprintf("%+v", m), fmt.Sprintf("%+v", sampleManifest(t)); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

// TestVersions: files of a version that is not known are refused by their number.
func TestVersions(t *testing.T) {
	b, err := sampleManifest(t).encode()
	must(t, err)
	b[11] = 9
	if _, err := decodeManifest(b); err == nil || !strings.Contains(err.Error(), "format 9 is not known") {
		t.Errorf("got %v", err)
	}
	fs := disktest.NewMemFS()
	writeSamples(t, fs)
	flip(t, fs, "/s/"+segmentName(0x1f), 11)
	var corrupt *CorruptError
	if _, err := openSegment(fs, "/s/"+segmentName(0x1f)); !errors.As(err, &corrupt) || !strings.Contains(err.Error(), "format 5 is not known") {
		t.Errorf("got %v", err)
	}
}

func FuzzManifest(f *testing.F) {
	b, err := sampleManifest(f).encode()
	must(f, err)
	f.Add(b[24:len(b)-4], false)
	f.Add(append(bytes.Repeat([]byte{7}, 16), b[24:len(b)-4]...), true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, body []byte, v2 bool) {
		// The checksum would keep the fuzzer out.
		head := []byte("NSQLMAN1\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x12\x67")
		if v2 {
			head[11] = 2
		}
		m, err := decodeManifest(seal(append(head, body...)))
		if err != nil {
			return
		}
		if _, err := m.encode(); err != nil {
			return // a record that JSON takes and can't give back
		}
	})
}

func FuzzSegment(f *testing.F) {
	fs := disktest.NewMemFS()
	writeSamples(f, fs)
	b, err := disk.ReadFile(fs, "x", "/s/"+segmentName(0x1f), 1<<20)
	must(f, err)
	f.Add(b)
	f.Add(b[:segmentHeader+segmentFooter])
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := disktest.NewMemFS()
		file, err := fs.OpenFile("x", "/f", os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		_, err = file.Write(b)
		must(t, err)
		sections, _, err := readSegment(file, "/f")
		checkSections(t, sections, err, int64(len(b)))
	})
}

func FuzzTable(f *testing.F) {
	fs := disktest.NewMemFS()
	writeSamples(f, fs)
	sg, err := openSegment(fs, "/s/"+segmentName(0x1f))
	must(f, err)
	table := []byte{0, 0, 0, 2}
	for _, s := range sg.sections {
		table = s.append(table)
	}
	f.Add(table, int64(5000))
	far := bytes.Clone(table)
	copy(far[4+72:], "\x7f\xff\xff\xff\xff\xff\xff\xff") // the end of the pages overflows
	f.Add(far, int64(5000))
	f.Fuzz(func(t *testing.T, b []byte, limit int64) {
		sections, err := decodeTable(b, limit)
		checkSections(t, sections, err, limit)
		if err != nil {
			return
		}
		again := []byte{b[0], b[1], b[2], b[3]}
		for _, s := range sections {
			again = s.append(again)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("%x is written again as %x", b, again)
		}
	})
}

// checkSections wants pages to lie within the file.
func checkSections(t *testing.T, sections []*section, err error, size int64) {
	for _, s := range sections {
		for i := range s.pages {
			if off := s.pageOffset(i); err == nil && (off < 0 || off > size-int64(s.PageSize)) {
				t.Fatalf("page %d at %d of %d bytes", i, off, size)
			}
		}
	}
}

func FuzzProgress(f *testing.F) {
	fs := disktest.NewMemFS()
	writeSamples(f, fs)
	b, err := disk.ReadFile(fs, "x", "/s/progress", 1<<10)
	must(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := disktest.NewMemFS()
		file, err := fs.OpenFile("x", "/progress", os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		_, err = file.Write(b)
		must(t, err)
		p := &files{cfg: Config{FS: fs, Dir: "/"}}
		if p.loadProgress() != nil {
			return
		}
		must(t, p.saveProgress(p.mu.absorbed, p.mu.retired))
		again, err := disk.ReadFile(fs, "x", "/progress", 1<<10)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is written again as %x", b, again)
		}
	})
}

// seal appends the checksum of a manifest.
func seal(b []byte) []byte { return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)) }
