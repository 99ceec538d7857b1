package txn

import (
	"encoding/binary"
	"fmt"

	"github.com/pierrec/lz4/v4"

	"github.com/nearsql/nearsql/wire"
)

// Encoding is how a page is stored.
type Encoding uint8

// Encodings of a page.
const (
	EncodingRaw   Encoding = 1 // the page
	EncodingDelta Encoding = 2 // runs of changed bytes
	EncodingLZ4   Encoding = 3 // one LZ4 block
	// EncodingCopies: runs of changed bytes, of which some are elsewhere in the previous version; since version 2.
	EncodingCopies Encoding = 4
)

// String names the encoding.
func (e Encoding) String() string {
	switch e {
	case EncodingRaw:
		return "raw"
	case EncodingDelta:
		return "delta"
	case EncodingLZ4:
		return "lz4"
	case EncodingCopies:
		return "copies"
	}
	return fmt.Sprintf("encoding(%d)", uint8(e))
}

// OnPrevious says whether a page of this encoding is made from its previous version.
func (e Encoding) OnPrevious() bool { return e == EncodingDelta || e == EncodingCopies }

// Page is one page of a transaction, as it is stored.
type Page struct {
	Pgno     uint32
	Encoding Encoding
	Data     []byte        // part of the body it was read from
	Sum      wire.Checksum // PageSum of the page that Apply makes
}

// Apply writes the page to dst, whose length is the page size. prev is the page's
// previous version, or nil for zeros where there is none; it may be dst. After an error dst is
// of no use. The sum is not checked: see Build.
func (p Page) Apply(dst, prev []byte) error {
	switch p.Encoding {
	case EncodingRaw:
		if len(p.Data) != len(dst) {
			return fmt.Errorf("page %d: %w", p.Pgno, formatErr(-1, "raw page of %d bytes, want %d", len(p.Data), len(dst)))
		}
		copy(dst, p.Data)
	case EncodingDelta, EncodingCopies: // OnPrevious
		if prev == nil {
			prev = zeros[:len(dst)]
		}
		if len(prev) != len(dst) {
			return fmt.Errorf("page %d: previous version of %d bytes, want %d", p.Pgno, len(prev), len(dst))
		}
		same := len(dst) > 0 && &dst[0] == &prev[0]
		if !same {
			copy(dst, prev)
		}
		var err error
		switch {
		case p.Encoding == EncodingDelta:
			err = applyDelta(dst, p.Data)
		case same:
			err = applyCopiesInPlace(dst, p.Data)
		default:
			err = applyCopies(dst, prev, p.Data)
		}
		if err != nil {
			return fmt.Errorf("page %d: %w", p.Pgno, err)
		}
	case EncodingLZ4:
		n, err := lz4.UncompressBlock(p.Data, dst)
		if err != nil {
			return fmt.Errorf("page %d: %w: %w", p.Pgno, formatErr(-1, "bad LZ4 block"), err)
		}
		if n != len(dst) {
			return fmt.Errorf("page %d: %w", p.Pgno, formatErr(-1, "LZ4 block of %d bytes, want %d", n, len(dst)))
		}
	default:
		return fmt.Errorf("page %d: %w", p.Pgno, formatErr(-1, "unknown %s", p.Encoding))
	}
	return nil
}

// Build is Apply, and *SumError if the page that came out has another sum than the one sent.
func (p Page) Build(dst, prev []byte) error {
	if err := p.Apply(dst, prev); err != nil {
		return err
	}
	return p.Check(dst)
}

// Check returns *SumError if the page that Apply made has another sum than the one sent.
func (p Page) Check(made []byte) error {
	if got := PageSum(p.Pgno, made); got != p.Sum {
		return &SumError{Pgno: p.Pgno, Got: got, Want: p.Sum}
	}
	return nil
}

// maxPageHeader is the length of all that comes before a page's data.
const maxPageHeader = maxPageOverhead

// nextPage reads number, encoding, sum and length of the page at the start of b, after
// page last. head is how many bytes they took and size how many bytes of data follow;
// Data is not set.
func nextPage(b []byte, h *Header, last uint32) (p Page, head, size int, err error) {
	step, n := uvarint(b)
	if n == 0 || step == 0 || step > uint64(h.Commit-last) {
		return Page{}, 0, 0, formatErr(0, "bad page number after page %d of %d", last, h.Commit)
	}
	p.Pgno = last + uint32(step)
	if p.Pgno == LockPage(h.PageSize) {
		return Page{}, 0, 0, formatErr(0, "page %d holds the lock bytes", p.Pgno)
	}
	if len(b) < n+9 {
		return Page{}, 0, 0, formatErr(n, "body ends within page %d", p.Pgno)
	}
	p.Encoding = Encoding(b[n])
	p.Sum = wire.Checksum(binary.BigEndian.Uint64(b[n+1:]))
	if p.Sum&wire.ChecksumFlag == 0 {
		return Page{}, 0, 0, formatErr(n+1, "sum of page %d lacks bit 63", p.Pgno)
	}
	head = n + 9
	switch p.Encoding {
	case EncodingRaw:
		return p, head, int(h.PageSize), nil
	case EncodingDelta, EncodingLZ4, EncodingCopies:
		length, n := uvarint(b[head:])
		// What is not shorter than the page would have been stored raw.
		if n == 0 || length >= uint64(h.PageSize) || length == 0 && p.Encoding != EncodingDelta {
			return Page{}, 0, 0, formatErr(head, "bad length of page %d", p.Pgno)
		}
		return p, head + n, int(length), nil
	}
	return Page{}, 0, 0, formatErr(n, "page %d has unknown %s", p.Pgno, p.Encoding)
}
