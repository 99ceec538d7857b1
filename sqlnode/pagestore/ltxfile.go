package pagestore

import (
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
	"io"

	"github.com/pierrec/lz4/v4"
	"github.com/superfly/ltx"

	"github.com/nearsql/nearsql/wire"
)

// ltxEncoder writes LTX files, the same bytes as ltx.Encoder of v0.5.3, and is used
// again and again: that one allocates 159 KB for each file.
type ltxEncoder struct {
	w    io.Writer
	off  int64
	buf  []byte // page header and LZ4 block of one page
	idx  []byte
	lz   lz4.Compressor
	hash hash.Hash64
}

// begin writes the header.
func (e *ltxEncoder) begin(w io.Writer, h ltx.Header) error {
	if err := h.Validate(); err != nil {
		return fmt.Errorf("LTX header: %w", err)
	}
	b, err := h.MarshalBinary()
	if err != nil {
		return fmt.Errorf("LTX header: %w", err)
	}
	if e.hash == nil {
		e.hash = crc64.New(crc64.MakeTable(crc64.ISO))
	}
	e.hash.Reset()
	e.w, e.off, e.idx = w, 0, e.idx[:0]
	e.hash.Write(b)
	return e.write(b)
}

func (e *ltxEncoder) write(b []byte) error {
	n, err := e.w.Write(b)
	e.off += int64(n)
	return err
}

// page writes one page; numbers ascend.
func (e *ltxEncoder) page(pgno uint32, data []byte) error {
	const head = ltx.PageHeaderSize + 4
	if n := head + lz4.CompressBlockBound(len(data)); cap(e.buf) < n {
		e.buf = make([]byte, n)
	}
	b := e.buf[:cap(e.buf)]
	binary.BigEndian.PutUint32(b, pgno)
	binary.BigEndian.PutUint16(b[4:], ltx.PageHeaderFlagSize)
	n, err := e.lz.CompressBlock(data, b[head:])
	if err != nil {
		return fmt.Errorf("compress page %d: %w", pgno, err)
	}
	binary.BigEndian.PutUint32(b[ltx.PageHeaderSize:], uint32(n))
	e.hash.Write(b[:head])
	e.hash.Write(data) // the compressed bytes are not hashed
	at := e.off
	if err := e.write(b[:head+n]); err != nil {
		return err
	}
	e.idx = binary.AppendUvarint(e.idx, uint64(pgno))
	e.idx = binary.AppendUvarint(e.idx, uint64(at))
	e.idx = binary.AppendUvarint(e.idx, uint64(e.off-at))
	return nil
}

// finish writes page index and trailer.
func (e *ltxEncoder) finish(post wire.Checksum) error {
	var end []byte
	end = append(end, make([]byte, ltx.PageHeaderSize)...)
	end = append(end, e.idx...)
	end = append(end, 0)
	end = binary.BigEndian.AppendUint64(end, uint64(len(e.idx)+1))
	end = binary.BigEndian.AppendUint64(end, uint64(post))
	e.hash.Write(end)
	end = binary.BigEndian.AppendUint64(end, uint64(ltx.ChecksumFlag)|e.hash.Sum64())
	return e.write(end)
}

// ltxMark is a place between two pages of a file that an encoder writes.
type ltxMark struct {
	off  int64 // bytes before
	idx  int   // bytes of the index of these
	hash []byte
}

// mark returns where the encoder is.
func (e *ltxEncoder) mark() (ltxMark, error) {
	h, ok := e.hash.(encoding.BinaryMarshaler)
	if !ok {
		return ltxMark{}, errors.New("the state of the checksum can't be kept")
	}
	b, err := h.MarshalBinary()
	return ltxMark{e.off, len(e.idx), b}, err
}

// resume goes back to where the encoder was, and writes what follows to w.
func (e *ltxEncoder) resume(w io.Writer, m ltxMark) error {
	h, ok := e.hash.(encoding.BinaryUnmarshaler)
	if !ok || m.idx > len(e.idx) {
		return errors.New("the encoder was never there")
	}
	if err := h.UnmarshalBinary(m.hash); err != nil {
		return err
	}
	e.w, e.off, e.idx = w, m.off, e.idx[:m.idx]
	return nil
}
