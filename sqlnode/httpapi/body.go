package httpapi

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// bodyStart is the room in bytes that is made for a body whose length is not known, or not believed.
const bodyStart = 32 << 10

// readBody reads the body of a request into buf, unpacked, and at most Config.Body bytes.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request, buf []byte) ([]byte, error) {
	limit := h.cfg.Body
	if r.ContentLength > limit {
		return buf, h.tooLarge()
	}
	in, done, err := h.openBody(w, r)
	if err != nil {
		return buf, err
	}
	defer done()
	buf = slices.Grow(buf[:0], int(min(max(r.ContentLength+1, 512), bodyStart)))
	for {
		if len(buf) == cap(buf) {
			buf = slices.Grow(buf, len(buf))
		}
		n, err := in.Read(buf[len(buf):min(cap(buf), int(limit)+1)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > limit:
			return buf, h.tooLarge()
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return buf, bodyError(err)
		}
	}
}

func (h *Handler) tooLarge() error {
	return wire.NewError(wire.CodeRequestTooLarge, "the body is larger than %d bytes", h.cfg.Body)
}

// openBody gives a reader of the request's body, unpacked, that gives up a client which stalls. done is called at the end.
func (h *Handler) openBody(w http.ResponseWriter, r *http.Request) (in io.Reader, done func(), err error) {
	encoding := ""
	if list := r.Header["Content-Encoding"]; len(list) > 0 {
		encoding = strings.ToLower(strings.Join(list, ","))
	}
	switch encoding {
	case "", "identity", "gzip", "x-gzip":
	default:
		return nil, nil, wire.NewError(wire.CodeUnsupportedMediaType, "Content-Encoding %.40q: want gzip or none", encoding)
	}
	in, done = r.Body, func() {}
	if r.ContentLength != 0 {
		s := &stallReader{r: r.Body, c: http.NewResponseController(w), stall: h.cfg.Stall}
		in, done = s, s.done
	}
	if encoding == "" || encoding == "identity" {
		return in, done, nil
	}
	z, _ := h.readers.Get().(*gzip.Reader)
	if z == nil {
		z = new(gzip.Reader)
	}
	if err := z.Reset(in); err != nil {
		done()
		return nil, nil, bodyError(err)
	}
	inner := done
	return z, func() {
		inner()
		h.readers.Put(z)
	}, nil
}

// bodyError says why a body could not be read.
func bodyError(err error) error {
	switch {
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum):
		return wire.NewError(wire.CodeBadRequest, "the body is not gzip, or damaged: %w", err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return wire.NewError(wire.CodeTimeout, "no more of the body came")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return wire.NewError(wire.CodeBadRequest, "the body ends early: %w", err)
	}
	var known *wire.Error
	if errors.As(err, &known) {
		return err
	}
	return wire.NewError(wire.CodeBadRequest, "reading the body: %w", err)
}

// stallReader bounds the time that each read waits.
type stallReader struct {
	r     io.Reader
	c     *http.ResponseController
	stall time.Duration
}

func (s *stallReader) Read(p []byte) (int, error) {
	_ = s.c.SetReadDeadline(time.Now().Add(s.stall)) // not supported by recorders in tests
	return s.r.Read(p)
}

// done lifts the bound: net/http goes on reading to learn when the client goes away.
func (s *stallReader) done() { _ = s.c.SetReadDeadline(time.Time{}) }

// importBody remembers why an import's body could not be read, and whether somebody has begun to.
type importBody struct {
	r    io.Reader
	err  error
	read atomic.Bool
}

// touched says that some of the body may be gone.
func (b *importBody) touched() bool { return b.read.Load() }

func (b *importBody) Read(p []byte) (int, error) {
	b.read.Store(true)
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		b.err = bodyError(err)
		err = b.err
	}
	return n, err
}
