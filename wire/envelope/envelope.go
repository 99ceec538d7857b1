// Package envelope is what the frames of all connections between nodes have in common: a type of one byte, a length of three, a payload,
// and a CRC-32C of all that. What the types are, and what their payloads hold, is for the formats that use it (wire/stream, crr/exchange/frame), which
// carry the version too.
//
// What holds: no more than a format's bound is read or held for a frame, and nothing of a frame is looked at before its CRC is right.
package envelope

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

const (
	headSize = 4 // type, length
	crcSize  = 4
	// Overhead is what a frame takes beside its payload, in bytes.
	Overhead = headSize + crcSize
)

// castagnoli is the polynomial of the CRCs; never written.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Begin appends the head of a frame to b. The payload is appended to what it returns, then End ends the frame.
func Begin(b []byte, t uint8) []byte { return append(b, t, 0, 0, 0) }

// End ends the frame whose head was appended at start. The error says that its payload has more than most bytes; most is below 16 MiB.
func End(b []byte, start, most int) ([]byte, error) {
	n := len(b) - start - headSize
	if n > most {
		return b, fmt.Errorf("%d bytes are more than %d", n, most)
	}
	b[start+1], b[start+2], b[start+3] = byte(n>>16), byte(n>>8), byte(n)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli)), nil
}

// Format is one format of frames.
type Format[F any] struct {
	Hello  uint8 // type of the first frame of each end, and of no other
	Most   int   // bytes of a payload
	Buffer int   // bytes that a Reader and a Writer keep

	Append func(b []byte, f F) ([]byte, error)          // a whole frame
	Decode func(t uint8, payload []byte) (F, error)     // of a payload; the frame may keep it
	Refuse func(t uint8, format string, a ...any) error // the format's error for what is no frame
}

// Reader reads frames. It is used by one goroutine at a time.
type Reader[F any] struct {
	f     *Format[F]
	r     *bufio.Reader
	began bool
}

// NewReader returns a Reader of a connection's frames, from the first.
func (f *Format[F]) NewReader(r io.Reader) *Reader[F] {
	return &Reader[F]{f: f, r: bufio.NewReaderSize(r, f.Buffer)}
}

// Next returns the next frame; the first must be a hello, and no other. What a frame holds is its own: it is not
// overwritten by the next. The error is io.EOF where the stream ended between two frames, io.ErrUnexpectedEOF where it ended inside one,
// one of the format's, or the reader's own. After an error there is nothing more to read.
func (r *Reader[F]) Next() (F, error) {
	var (
		none F
		head [headSize]byte
	)
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return none, err
	}
	t, n := head[0], int(head[1])<<16|int(head[2])<<8|int(head[3])
	switch {
	case n > r.f.Most:
		return none, r.f.Refuse(t, "%d bytes are more than %d", n, r.f.Most)
	case !r.began && t != r.f.Hello:
		return none, r.f.Refuse(t, "the stream does not begin with a hello")
	case r.began && t == r.f.Hello:
		return none, r.f.Refuse(t, "a second hello")
	}
	b := make([]byte, n+crcSize)
	if _, err := io.ReadFull(r.r, b); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return none, err
	}
	payload := b[:n:n]
	sum := crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, payload)
	if got := binary.BigEndian.Uint32(b[n:]); got != sum {
		return none, r.f.Refuse(t, "its CRC is %08x, its bytes have %08x", got, sum)
	}
	f, err := r.f.Decode(t, payload)
	if err != nil {
		return none, err
	}
	r.began = true
	return f, nil
}

// Buffered says whether a part of the next frame is there already.
func (r *Reader[F]) Buffered() bool { return r.r.Buffered() > 0 }

// Writer writes frames, in as few writes as it can. It is used by one goroutine at a time.
type Writer[F any] struct {
	f   *Format[F]
	w   *bufio.Writer
	buf []byte
}

// NewWriter returns a Writer.
func (f *Format[F]) NewWriter(w io.Writer) *Writer[F] {
	return &Writer[F]{f: f, w: bufio.NewWriterSize(w, f.Buffer)}
}

// Write writes a frame, which may stay in memory until Flush. The error is the format's if the frame has no encoding, when nothing was
// written, or the writer's.
func (w *Writer[F]) Write(f F) error {
	b, err := w.f.Append(w.buf[:0], f)
	w.buf = b[:0]
	if err != nil {
		return err
	}
	_, err = w.w.Write(b)
	return err
}

// Flush writes what is in memory.
func (w *Writer[F]) Flush() error { return w.w.Flush() }

// Buffered is the number of bytes in memory.
func (w *Writer[F]) Buffered() int { return w.w.Buffered() }
