package txn

import (
	"bufio"
	"errors"
	"io"
)

// PageReader reads the pages of a body of any length from a file or stream.
// It keeps two buffers of about a page.
type PageReader struct {
	h    Header
	in   *bufio.Reader
	crc  *crcReader
	data []byte
	last uint32
	left uint32 // pages to come
	off  int64
	err  error // what Next returns from now on
}

// NewPageReader reads the body of the transaction with header h from r, from its first byte.
func NewPageReader(r io.Reader, h Header) (*PageReader, error) {
	if what := h.check(); what != "" || h.Kind != Transaction {
		return nil, formatErr(-1, "no transaction: %s %s", h.Kind, what)
	}
	c := &crcReader{r: r}
	return &PageReader{
		h:    h,
		in:   bufio.NewReaderSize(c, max(16<<10, int(h.PageSize))),
		crc:  c,
		left: h.Pages,
	}, nil
}

// Next returns the next page, whose Data is valid until the next call. After the last
// page it returns io.EOF, if the body ended there and had the length and CRC that the header
// tells of a body in parts: until then pages may be built, but not believed.
func (r *PageReader) Next() (Page, error) {
	if r.err != nil {
		return Page{}, r.err
	}
	p, err := r.next()
	if err != nil {
		r.err = err
	}
	return p, err
}

func (r *PageReader) next() (Page, error) {
	if r.left == 0 {
		return Page{}, r.end()
	}
	b, err := r.in.Peek(maxPageHeader)
	if err != nil && !errors.Is(err, io.EOF) {
		return Page{}, err
	}
	p, head, size, err := nextPage(b, &r.h, r.last)
	if err != nil {
		return Page{}, shift(err, r.off)
	}
	if _, err := r.in.Discard(head); err != nil {
		return Page{}, err
	}
	if cap(r.data) < size {
		r.data = make([]byte, r.h.PageSize)
	}
	p.Data = r.data[:size]
	if _, err := io.ReadFull(r.in, p.Data); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = &FormatError{What: "body ends within a page", Offset: r.off}
		}
		return Page{}, err
	}
	r.off += int64(head + size)
	r.last = p.Pgno
	r.left--
	return p, nil
}

func (r *PageReader) end() error {
	switch _, err := r.in.ReadByte(); {
	case err == nil:
		return &FormatError{What: "bytes after the last page", Offset: r.off}
	case !errors.Is(err, io.EOF):
		return err
	}
	if r.h.Flags&FlagParts != 0 {
		if uint64(r.off) != r.h.BodyLen {
			return formatErr(-1, "body of %d bytes, want %d", r.off, r.h.BodyLen)
		}
		if r.crc.sum != r.h.BodyCRC {
			return formatErr(-1, "CRC-32C of the body is %08x, want %08x", r.crc.sum, r.h.BodyCRC)
		}
	}
	return io.EOF
}

// crcReader sums what goes through it.
type crcReader struct {
	r   io.Reader
	sum uint32
}

func (c *crcReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.sum = UpdateCRC(c.sum, p[:n])
	return n, err
}
