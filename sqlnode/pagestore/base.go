package pagestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// base is the base file of a store, an ordinary SQLite database file, and
// beside it the file with the sum of each of its pages (FORMAT.md). Segments
// are absorbed into it; until the group has recorded that a whole unit is
// absorbed, recovery absorbs it again, so a torn base is no harm.
type base struct {
	fs       disk.FS
	tenant   wire.TenantID
	path     string // of the database file; the sums are at path + ".sums"
	pageSize int

	mu struct { // read-locked while pages are read, locked while absorb writes
		sync.RWMutex
		f      disk.File       // nil while there is no file
		sumsF  disk.File       // nil when f is
		sums   []wire.Checksum // by pgno-1
		bad    *CorruptError   // what is wrong with the whole file of sums, or nil
		closed bool            // and stays so: nothing is written any more
		sure   bool            // what was written is durable
		exact  bool            // both files have the length that sums tells
	}
}

const (
	sumsMagic  = "NSQLSUM1"
	sumsHeader = 16 // magic, page size, zero
)

// openBase opens the base at path, or one without a file when there is none yet.
func openBase(fsys disk.FS, tenant wire.TenantID, path string, pageSize int) (*base, error) {
	b := &base{fs: fsys, tenant: tenant, path: path, pageSize: pageSize}
	f, err := fsys.OpenFile("base.open", path, os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open base of tenant %s: %w", tenant, err)
	}
	b.mu.f = f
	sf, err := fsys.OpenFile("sums.open", path+".sums", os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		// A crash may have kept one name of two that were made and never recorded: units have
		// all pages then. Else each read of a page says what is wrong.
		f.Close()
		b.mu.f = nil
		b.mu.bad = b.corrupt(".sums", "the file does not exist")
		return b, nil
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open page sums of tenant %s: %w", tenant, err)
	}
	b.mu.sumsF = sf
	if err := b.load(); err != nil {
		f.Close()
		sf.Close()
		return nil, err
	}
	return b, nil
}

// load reads the sums. The shorter of the two files decides how many pages
// there are: a tail that is missing in one belongs to a unit that is not recorded as absorbed.
func (b *base) load() error {
	fi, err := b.mu.f.Stat()
	if err != nil {
		return fmt.Errorf("size of %s: %w", b.path, err)
	}
	si, err := b.mu.sumsF.Stat()
	if err != nil {
		return fmt.Errorf("size of %s.sums: %w", b.path, err)
	}
	if si.Size() < sumsHeader {
		// Made, and never recorded as absorbed; or damaged, which each read of a page will say.
		b.mu.bad = b.corrupt(".sums", fmt.Sprintf("it has %d bytes, less than its header", si.Size()))
		return nil
	}
	n := min(fi.Size()/int64(b.pageSize), (si.Size()-sumsHeader)/8)
	raw := make([]byte, sumsHeader+8*n)
	if _, err := io.ReadFull(io.NewSectionReader(b.mu.sumsF, 0, int64(len(raw))), raw); err != nil {
		return fmt.Errorf("read %s.sums: %w", b.path, err)
	}
	if string(raw[:8]) != sumsMagic || binary.BigEndian.Uint32(raw[8:]) != uint32(b.pageSize) {
		b.mu.bad = b.corrupt(".sums", fmt.Sprintf("its header is not that of page sums for pages of %d bytes", b.pageSize))
		return nil
	}
	b.mu.exact = fi.Size() == n*int64(b.pageSize) && si.Size() == sumsHeader+8*n
	b.mu.sums = make([]wire.Checksum, n)
	for i := range b.mu.sums {
		b.mu.sums[i] = wire.Checksum(binary.BigEndian.Uint64(raw[sumsHeader+8*i:]))
	}
	return nil
}

func (b *base) corrupt(suffix, what string) *CorruptError {
	return &CorruptError{Tenant: b.tenant, File: b.path + suffix, What: what}
}

// missingLocked is the error of a page that the base has not.
func (b *base) missingLocked(pgno uint32) error {
	if b.mu.bad != nil {
		e := *b.mu.bad
		e.Page = pgno
		return &e
	}
	return &CorruptError{Tenant: b.tenant, File: b.path, Page: pgno, What: fmt.Sprintf("it is not in the file, which has %d pages", len(b.mu.sums))}
}

// readPageLocked reads a whole page and checks it. The caller has b.mu read-locked.
func (b *base) readPageLocked(dst []byte, pgno uint32) error {
	if b.mu.closed {
		return ErrClosed
	}
	if pgno == 0 || int(pgno) > len(b.mu.sums) {
		return b.missingLocked(pgno)
	}
	if _, err := b.mu.f.ReadAt(dst, int64(pgno-1)*int64(b.pageSize)); err != nil {
		return fmt.Errorf("tenant %s: read page %d of %s: %w", b.tenant, pgno, b.path, err)
	}
	want := b.mu.sums[pgno-1]
	if got := txn.PageSum(pgno, dst); got != want {
		return &CorruptError{Tenant: b.tenant, File: b.path, Page: pgno, What: fmt.Sprintf("its sum is %s, written was %s", got, want)}
	}
	return nil
}

// sum returns the sum of a page of the base.
func (b *base) sum(pgno uint32) (wire.Checksum, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if pgno == 0 || int(pgno) > len(b.mu.sums) {
		return 0, b.missingLocked(pgno)
	}
	return b.mu.sums[pgno-1], nil
}

// pages is the size of the base in pages.
func (b *base) pages() uint32 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return uint32(len(b.mu.sums))
}

// basePage is a page to be written to a base.
type basePage struct {
	pgno uint32
	sum  wire.Checksum
	data []byte
}

// begin is called before the pages of a unit are written. After a sync that failed, as after the end of
// another process, none can tell what of the header and the sizes is durable: they are written anew.
func (b *base) begin() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.f != nil && !b.mu.sure {
		if err := b.writeHeader(b.mu.sumsF); err != nil {
			return err
		}
		b.mu.bad, b.mu.exact = nil, false
	}
	b.mu.sure = false
	return nil
}

// settled says that all that was written since begin is durable.
func (b *base) settled() {
	b.mu.Lock()
	b.mu.sure = true
	b.mu.Unlock()
}

// createLocked makes the files when there are none.
func (b *base) createLocked() error {
	switch {
	case b.mu.closed:
		return ErrClosed
	case b.mu.f != nil:
		return nil
	}
	f, err := b.fs.OpenFile("base.create", b.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("create base of tenant %s: %w", b.tenant, err)
	}
	sf, err := b.fs.OpenFile("sums.create", b.path+".sums", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		f.Close()
		return fmt.Errorf("create page sums of tenant %s: %w", b.tenant, err)
	}
	if err := b.writeHeader(sf); err != nil {
		f.Close()
		sf.Close()
		return err
	}
	b.mu.f, b.mu.sumsF, b.mu.bad, b.mu.exact = f, sf, nil, false
	return nil
}

func (b *base) writeHeader(sums disk.File) error {
	var h [sumsHeader]byte
	copy(h[:], sumsMagic)
	binary.BigEndian.PutUint32(h[8:], uint32(b.pageSize))
	if _, err := sums.WriteAt(h[:], 0); err != nil {
		return fmt.Errorf("write page sums of tenant %s: %w", b.tenant, err)
	}
	return nil
}

// write puts pages, ascending, into the files. It syncs nothing.
func (b *base) write(pages []basePage) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.createLocked(); err != nil {
		return err
	}
	exact := b.mu.exact
	b.mu.exact = false
	var sums []byte
	for i := 0; i < len(pages); {
		// A run of neighbours is one write to each file.
		j := i + 1
		for j < len(pages) && pages[j].pgno == pages[j-1].pgno+1 && j-i < 64 {
			j++
		}
		run := pages[i:j]
		sums = sums[:0]
		for _, p := range run {
			sums = binary.BigEndian.AppendUint64(sums, uint64(p.sum))
		}
		buf := run[0].data
		if len(run) > 1 {
			buf = make([]byte, 0, len(run)*b.pageSize)
			for _, p := range run {
				buf = append(buf, p.data...)
			}
		}
		b.growLocked(run[0].pgno - 1)
		if _, err := b.mu.f.WriteAt(buf, int64(run[0].pgno-1)*int64(b.pageSize)); err != nil {
			return fmt.Errorf("tenant %s: write page %d of %s: %w", b.tenant, run[0].pgno, b.path, err)
		}
		if _, err := b.mu.sumsF.WriteAt(sums, sumsHeader+8*int64(run[0].pgno-1)); err != nil {
			return fmt.Errorf("tenant %s: write sum of page %d of %s: %w", b.tenant, run[0].pgno, b.path, err)
		}
		for _, p := range run {
			if int(p.pgno) <= len(b.mu.sums) {
				b.mu.sums[p.pgno-1] = p.sum
			} else {
				b.mu.sums = append(b.mu.sums, p.sum)
			}
		}
		i = j
	}
	b.mu.exact = exact
	return nil
}

// growLocked makes room up to n pages: only the lock page is ever skipped, as every
// other page of a database that grows is written.
func (b *base) growLocked(n uint32) {
	for uint32(len(b.mu.sums)) < n {
		b.mu.sums = append(b.mu.sums, 0)
	}
}

// resize sets the size of the base to n pages. It syncs nothing.
func (b *base) resize(n uint32) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.createLocked(); err != nil {
		return err
	}
	if b.mu.exact && n == uint32(len(b.mu.sums)) {
		return nil
	}
	if err := b.mu.f.Truncate(int64(n) * int64(b.pageSize)); err != nil {
		return fmt.Errorf("tenant %s: set size of %s to %d pages: %w", b.tenant, b.path, n, err)
	}
	if err := b.mu.sumsF.Truncate(sumsHeader + 8*int64(n)); err != nil {
		return fmt.Errorf("tenant %s: set size of %s.sums to %d pages: %w", b.tenant, b.path, n, err)
	}
	if int(n) < len(b.mu.sums) {
		b.mu.sums = b.mu.sums[:n:n]
	}
	b.growLocked(n)
	b.mu.exact = true
	return nil
}

func (b *base) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.closed = true
	if b.mu.f != nil {
		b.mu.f.Close()
		b.mu.sumsF.Close()
		b.mu.f, b.mu.sumsF = nil, nil
	}
}
