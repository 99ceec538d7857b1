package httpapi

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/native"
)

// ndjsonType is the Content-Type of lines. Never written.
var ndjsonType = []string{"application/x-ndjson"}

// flushEvery is how long a row may wait for company when another comes after it.
const flushEvery = 100 * time.Millisecond

// lineSink is the sink of a streamed answer.
type lineSink struct {
	lines *native.Lines
	out   *lineWriter
	rows  int
}

func (s *lineSink) Begin(statement int, columns []wire.Column) error {
	return s.lines.Begin(statement, columns)
}

func (s *lineSink) Row(row []wire.Value) error {
	s.rows++
	if err := s.lines.Row(row); err != nil {
		return err
	}
	if time.Since(s.out.flushed) < flushEvery {
		return nil
	}
	if err := s.lines.Flush(); err != nil {
		return err
	}
	return s.out.flush()
}

func (s *lineSink) End(sum wire.Summary) error { return s.lines.End(sum) }

// lineWriter sends lines, packed or not, and gives up a client that takes none.
type lineWriter struct {
	out     stallWriter
	zip     *gzip.Writer // nil when not packed
	flushed time.Time
	err     error // of the first write that failed
}

func (w *lineWriter) Write(p []byte) (n int, err error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.zip != nil {
		n, err = w.zip.Write(p)
	} else {
		n, err = w.out.Write(p)
	}
	if err != nil {
		w.err = gone(err)
	}
	return n, w.err
}

// flush sends what is on its way.
func (w *lineWriter) flush() error {
	if w.err != nil {
		return w.err
	}
	var err error
	if w.zip != nil {
		err = w.zip.Flush()
	}
	if err == nil {
		err = w.out.flush()
	}
	if err != nil {
		w.err = gone(err)
	}
	w.flushed = time.Now()
	return w.err
}

// stream answers row by row.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, c *call, name string, p *sqlParams) error {
	out := &lineWriter{out: stallWriter{w: w, c: http.NewResponseController(w), stall: h.cfg.Stall}, flushed: time.Now()}
	header := w.Header()
	header["Content-Type"] = ndjsonType
	packed := packs(r)
	if packed {
		markPacked(header)
		out.zip = h.packer(&out.out)
		defer func() {
			h.packers.Put(out.zip)
		}()
	}
	defer out.out.done()
	c.lines.Reset(out, p.form)
	defer c.lines.Reset(nil, native.Options{})
	sink := &lineSink{lines: &c.lines, out: out}
	meta, err := h.sql.Execute(r.Context(), name, p.req, sink)
	h.counts.rows.Add(float64(sink.rows))
	if err != nil && out.err == nil && c.lines.Written() == 0 {
		// Nothing has left: the error has its status, and lines are dropped.
		header.Del("Content-Encoding")
		return err
	}
	switch {
	case out.err != nil:
		err = out.err
	case err != nil:
		if failed := c.lines.Fail(clientError(err)); failed != nil {
			err = failed
		}
	default:
		err = c.lines.Finish(&meta)
	}
	h.counts.out.Add(float64(c.lines.Written()))
	if out.zip != nil && out.err == nil {
		if closed := out.zip.Close(); closed != nil && err == nil {
			err = gone(closed)
		}
	}
	if err != nil {
		return sentError{err}
	}
	return nil
}

// gone is the error for a client that can not be written to.
func gone(err error) error {
	var known *wire.Error
	if errors.As(err, &known) {
		return err
	}
	return wire.NewError(wire.CodeCancelled, "the client takes no more of the answer: %w", err)
}

// stallWrite is the most bytes that a write with one bound in time has.
const stallWrite = 64 << 10

// stallWriter bounds the time that each write waits.
type stallWriter struct {
	w     io.Writer
	c     *http.ResponseController
	stall time.Duration
	wrote bool
}

func (s *stallWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		piece := p[:min(len(p), stallWrite)]
		_ = s.c.SetWriteDeadline(time.Now().Add(s.stall)) // not supported by recorders in tests
		s.wrote = true
		m, err := s.w.Write(piece)
		n += m
		if err != nil {
			return n, err
		}
		p = p[len(piece):]
	}
	return n, nil
}

func (s *stallWriter) flush() error {
	_ = s.c.SetWriteDeadline(time.Now().Add(s.stall))
	if err := s.c.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// done sends what net/http still holds, and lifts the bound, which would hold for
// the connection's next request too.
func (s *stallWriter) done() {
	if s.wrote {
		_ = s.flush()
		_ = s.c.SetWriteDeadline(time.Time{})
	}
}
