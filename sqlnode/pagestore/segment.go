package pagestore

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/wire"
)

// The segment format; FORMAT.md is its specification.
const (
	segmentMagic   = "NSQLSEG1"
	segmentEnd     = "1GESLQSN"
	segmentHeader  = 40
	segmentFooter  = 28
	sectionHeader  = 80
	sectionPage    = 12
	segmentVersion = 1
)

// section is what a segment holds of one tenant: the newest pages as of Next
// that changed after Prev and lie in no earlier file of the same unit.
type section struct {
	Tenant   wire.TenantID
	Epoch    wire.Epoch
	PageSize int
	Prev     State
	Next     State
	Time     int64 // unix ms of the newest transaction
	offset   int64 // of the first page in the file
	pages    []sectionEntry
}

type sectionEntry struct {
	pgno uint32
	sum  wire.Checksum
}

// pageOffset is where the i-th page lies in the file.
func (s *section) pageOffset(i int) int64 { return s.offset + int64(i)*int64(s.PageSize) }

// segmentName is the file name of segment seq.
func segmentName(seq uint64) string { return fmt.Sprintf("%016x.seg", seq) }

// segmentWriter writes one segment. Nothing counts before finish returns nil.
type segmentWriter struct {
	fs       disk.FS
	path     string
	f        disk.File
	w        *bufio.Writer
	off      int64
	sections []*section
}

func createSegment(fsys disk.FS, dir string, group wire.GroupID, seq uint64, now int64) (*segmentWriter, error) {
	path := filepath.Join(dir, segmentName(seq))
	f, err := fsys.OpenFile("segment.create", path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create segment: %w", err)
	}
	var h [segmentHeader]byte
	copy(h[:], segmentMagic)
	binary.BigEndian.PutUint32(h[8:], segmentVersion)
	binary.BigEndian.PutUint32(h[12:], uint32(group))
	binary.BigEndian.PutUint64(h[16:], seq)
	binary.BigEndian.PutUint64(h[24:], uint64(now))
	binary.BigEndian.PutUint32(h[36:], crc32.Checksum(h[:36], castagnoli))
	w := &segmentWriter{fs: fsys, path: path, f: f, w: bufio.NewWriterSize(f, 256<<10), off: segmentHeader}
	if _, err := w.w.Write(h[:]); err != nil {
		w.abort()
		return nil, fmt.Errorf("write segment %s: %w", path, err)
	}
	return w, nil
}

// castagnoli is the CRC32C table; hash/crc32 makes it once.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// begin starts the section of a tenant.
func (w *segmentWriter) begin(s *section) {
	s.offset = w.off
	w.sections = append(w.sections, s)
}

// page adds a page to the section begun last and returns where it lies.
func (w *segmentWriter) page(pgno uint32, sum wire.Checksum, data []byte) (int64, error) {
	s := w.sections[len(w.sections)-1]
	s.pages = append(s.pages, sectionEntry{pgno, sum})
	at := w.off
	if _, err := w.w.Write(data); err != nil {
		return 0, fmt.Errorf("write segment %s: %w", w.path, err)
	}
	w.off += int64(len(data))
	return at, nil
}

// finish writes the table and makes the segment durable, its name included.
func (w *segmentWriter) finish() (*segment, error) {
	table := make([]byte, 0, 64+len(w.sections)*sectionHeader)
	table = binary.BigEndian.AppendUint32(table, uint32(len(w.sections)))
	for _, s := range w.sections {
		table = s.append(table)
	}
	at := w.off
	table = binary.BigEndian.AppendUint64(table, uint64(at))
	table = binary.BigEndian.AppendUint64(table, uint64(len(table)-8))
	table = binary.BigEndian.AppendUint32(table, crc32.Checksum(table, castagnoli))
	table = append(table, segmentEnd...)
	if _, err := w.w.Write(table); err != nil {
		return nil, fmt.Errorf("write segment %s: %w", w.path, err)
	}
	if err := w.w.Flush(); err != nil {
		return nil, fmt.Errorf("write segment %s: %w", w.path, err)
	}
	if err := w.f.Sync(); err != nil {
		return nil, fmt.Errorf("sync segment %s: %w", w.path, err)
	}
	if err := w.fs.SyncDir("segment.syncdir", filepath.Dir(w.path)); err != nil {
		return nil, fmt.Errorf("sync directory of segment %s: %w", w.path, err)
	}
	return &segment{path: w.path, bytes: at + int64(len(table)), file: newPageFile(w.path, w.f), sections: w.sections}, nil
}

// abort gives up the segment.
func (w *segmentWriter) abort() {
	w.f.Close()
	_ = w.fs.Remove("segment.remove", w.path) // an orphan is removed at the next start too
}

func (s *section) append(b []byte) []byte {
	b = append(b, s.Tenant[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(s.Epoch))
	b = binary.BigEndian.AppendUint32(b, uint32(s.PageSize))
	for _, st := range []State{s.Prev, s.Next} {
		b = binary.BigEndian.AppendUint64(b, uint64(st.TXID))
		b = binary.BigEndian.AppendUint64(b, uint64(st.Checksum))
		b = binary.BigEndian.AppendUint32(b, st.Pages)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(s.Time))
	b = binary.BigEndian.AppendUint64(b, uint64(s.offset))
	// the count ends the header of 84 bytes
	b = binary.BigEndian.AppendUint32(b, uint32(len(s.pages)))
	for _, p := range s.pages {
		b = binary.BigEndian.AppendUint32(b, p.pgno)
		b = binary.BigEndian.AppendUint64(b, uint64(p.sum))
	}
	return b
}

// segment is a finished segment with its table in memory.
type segment struct {
	path     string
	bytes    int64
	file     *pageFile
	sections []*section
}

// openSegment reads the table of a finished segment.
func openSegment(fsys disk.FS, path string) (*segment, error) {
	f, err := fsys.OpenFile("segment.open", path, os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	sections, size, err := readSegment(f, path)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &segment{path: path, bytes: size, file: newPageFile(path, f), sections: sections}, nil
}

// readSegment checks header and footer, and decodes the table.
func readSegment(f disk.File, path string) ([]*section, int64, error) {
	bad := func(what string, args ...any) error {
		return &CorruptError{File: path, What: fmt.Sprintf(what, args...)}
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("size of segment %s: %w", path, err)
	}
	size := fi.Size()
	if size < segmentHeader+segmentFooter {
		return nil, 0, bad("%d bytes are too few for a segment", size)
	}
	var h [segmentHeader]byte
	if _, err := f.ReadAt(h[:], 0); err != nil {
		return nil, 0, fmt.Errorf("read segment %s: %w", path, err)
	}
	if string(h[:8]) != segmentMagic {
		return nil, 0, bad("it does not begin as a segment")
	}
	if v := binary.BigEndian.Uint32(h[8:]); v != segmentVersion {
		return nil, 0, bad("segment format %d is not known here (known: %d)", v, segmentVersion)
	}
	if crc32.Checksum(h[:36], castagnoli) != binary.BigEndian.Uint32(h[36:]) {
		return nil, 0, bad("the checksum of its header is wrong")
	}
	var ft [segmentFooter]byte
	if _, err := f.ReadAt(ft[:], size-segmentFooter); err != nil {
		return nil, 0, fmt.Errorf("read segment %s: %w", path, err)
	}
	if string(ft[20:]) != segmentEnd {
		return nil, 0, bad("it does not end as a segment: it was cut short")
	}
	at, n := int64(binary.BigEndian.Uint64(ft[:])), int64(binary.BigEndian.Uint64(ft[8:]))
	if at < segmentHeader || n < 4 || at+n+segmentFooter != size {
		return nil, 0, bad("its table at %d of %d bytes does not fit %d bytes", at, n, size)
	}
	table := make([]byte, n+16)
	if _, err := io.ReadFull(io.NewSectionReader(f, at, n+16), table); err != nil {
		return nil, 0, fmt.Errorf("read segment %s: %w", path, err)
	}
	if crc32.Checksum(table, castagnoli) != binary.BigEndian.Uint32(ft[16:]) {
		return nil, 0, bad("the checksum of its table is wrong")
	}
	sections, err := decodeTable(table[:n], at)
	if err != nil {
		return nil, 0, bad("%v", err)
	}
	return sections, size, nil
}

// decodeTable decodes the table of a segment whose pages end at limit.
func decodeTable(b []byte, limit int64) ([]*section, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("the table has %d bytes", len(b))
	}
	n := int(binary.BigEndian.Uint32(b))
	b = b[4:]
	if n > len(b)/(sectionHeader+4) {
		return nil, fmt.Errorf("%d sections do not fit the table", n)
	}
	sections := make([]*section, 0, n)
	for i := 0; i < n; i++ {
		if len(b) < sectionHeader+4 {
			return nil, fmt.Errorf("section %d is cut short", i)
		}
		s := &section{}
		copy(s.Tenant[:], b)
		s.Epoch = wire.Epoch(binary.BigEndian.Uint32(b[16:]))
		s.PageSize = int(binary.BigEndian.Uint32(b[20:]))
		for j, st := range []*State{&s.Prev, &s.Next} {
			st.TXID = wire.TXID(binary.BigEndian.Uint64(b[24+20*j:]))
			st.Checksum = wire.Checksum(binary.BigEndian.Uint64(b[32+20*j:]))
			st.Pages = binary.BigEndian.Uint32(b[40+20*j:])
		}
		s.Time = int64(binary.BigEndian.Uint64(b[64:]))
		s.offset = int64(binary.BigEndian.Uint64(b[72:]))
		k := int(binary.BigEndian.Uint32(b[80:]))
		b = b[sectionHeader+4:]
		if !validPageSize(s.PageSize) {
			return nil, fmt.Errorf("section %d has pages of %d bytes", i, s.PageSize)
		}
		if k > len(b)/sectionPage {
			return nil, fmt.Errorf("section %d: %d pages do not fit the table", i, k)
		}
		if s.offset < segmentHeader || s.offset > limit-int64(k)*int64(s.PageSize) {
			return nil, fmt.Errorf("section %d: %d pages at %d do not fit the file", i, k, s.offset)
		}
		s.pages = make([]sectionEntry, k)
		for j := range s.pages {
			s.pages[j] = sectionEntry{binary.BigEndian.Uint32(b), wire.Checksum(binary.BigEndian.Uint64(b[4:]))}
			if s.pages[j].pgno == 0 || (j > 0 && s.pages[j].pgno <= s.pages[j-1].pgno) {
				return nil, fmt.Errorf("section %d: page %d is out of order", i, s.pages[j].pgno)
			}
			b = b[sectionPage:]
		}
		sections = append(sections, s)
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%d bytes are left in the table", len(b))
	}
	return sections, nil
}
