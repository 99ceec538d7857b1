package frame

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// Reader reads frames. It is used by one goroutine at a time.
type Reader struct {
	r     *bufio.Reader
	began bool
}

// NewReader returns a Reader of a connection's frames, from the first.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, 32<<10)} }

// Next returns the next frame; the first must be a Hello, and no other. What a frame holds is its own: it is not overwritten by the
// next. The error is io.EOF where the stream ended between two frames, io.ErrUnexpectedEOF where it ended inside one, a *FormatError, a
// *VersionError, or the reader's own. After an error there is nothing more to read.
func (r *Reader) Next() (Frame, error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return nil, err
	}
	t, n := Type(head[0]), int(head[1])<<16|int(head[2])<<8|int(head[3])
	switch {
	case n > maxPayload:
		return nil, formatErr(t, "%d bytes are more than %d", n, maxPayload)
	case !r.began && t != TypeHello:
		return nil, formatErr(t, "the stream does not begin with a hello")
	case r.began && t == TypeHello:
		return nil, formatErr(t, "a second hello")
	}
	b := make([]byte, n+crcSize)
	if _, err := io.ReadFull(r.r, b); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	payload := b[:n:n]
	sum := crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, payload)
	if got := binary.BigEndian.Uint32(b[n:]); got != sum {
		return nil, formatErr(t, "its CRC is %08x, its bytes have %08x", got, sum)
	}
	f, err := decode(t, payload)
	if err != nil {
		return nil, err
	}
	r.began = true
	return f, nil
}

// Writer writes frames, in as few writes as it can. It is used by one goroutine at a time.
type Writer struct {
	w   *bufio.Writer
	buf []byte
}

// NewWriter returns a Writer.
func NewWriter(w io.Writer) *Writer { return &Writer{w: bufio.NewWriterSize(w, 32<<10)} }

// Write writes a frame, which may stay in memory until Flush. The error is a *FormatError if the frame has no encoding, when
// nothing was written, or the writer's.
func (w *Writer) Write(f Frame) error {
	b, err := Append(w.buf[:0], f)
	w.buf = b[:0]
	if err != nil {
		return err
	}
	_, err = w.w.Write(b)
	return err
}

// Flush writes what is in memory.
func (w *Writer) Flush() error { return w.w.Flush() }
