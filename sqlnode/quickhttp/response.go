package quickhttp

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// holdMost is the most bytes of an answer that wait for its end, so that its length can be told.
const holdMost = 16 << 10

// response is the http.ResponseWriter of one request. Like any, it is used by one goroutine at a time.
type response struct {
	c      *conn
	header http.Header
	status int
	length int64  // the handler's Content-Length; -1: none
	out    []byte // what was not sent yet: the body before begun, then all
	sent   int64  // bytes of the body that the handler wrote
	long   bool   // he tried to write more than he had said
	began  bool   // the head is sent, or in out
	chunks bool
	close  bool // the connection ends with the answer
	err    error
}

// Header implements http.ResponseWriter.
func (w *response) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter. Codes below 200 are not sent.
func (w *response) WriteHeader(status int) {
	if w.status != 0 || status < 200 || status > 999 {
		return
	}
	w.status, w.length = status, -1
	if l := w.header["Content-Length"]; len(l) > 0 {
		n, err := strconv.ParseInt(l[0], 10, 64)
		if err != nil || n < 0 {
			delete(w.header, "Content-Length")
		} else {
			w.length = n
		}
	}
}

// bodiless says whether the status has no body.
func (w *response) bodiless() bool {
	return w.status == http.StatusNoContent || w.status == http.StatusNotModified
}

// Write implements io.Writer.
func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case len(p) == 0:
		return 0, w.err
	case w.bodiless():
		return 0, http.ErrBodyNotAllowed
	case w.length >= 0 && w.sent+int64(len(p)) > w.length:
		w.long = true
		return 0, http.ErrContentLength
	case w.err != nil:
		return 0, w.err
	}
	w.sent += int64(len(p))
	if !w.began && len(w.out)+len(p) <= holdMost {
		w.out = append(w.out, p...)
		return len(p), nil
	}
	if !w.began {
		held := w.out
		w.out = w.head(w.c.take(), held, p)
		w.piece(held)
		w.c.give(held)
	}
	if len(w.out)+len(p) <= holdMost {
		w.piece(p)
		return len(p), w.err
	}
	if w.chunks {
		w.out = append(strconv.AppendInt(w.out, int64(len(p)), 16), "\r\n"...)
	}
	w.send(p)
	if w.chunks {
		w.out = append(w.out, "\r\n"...)
	}
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

// piece appends a piece of the body to what is to be sent.
func (w *response) piece(p []byte) {
	if len(p) == 0 {
		return
	}
	if !w.chunks {
		w.out = append(w.out, p...)
		return
	}
	w.out = append(strconv.AppendInt(w.out, int64(len(p)), 16), "\r\n"...)
	w.out = append(append(w.out, p...), "\r\n"...)
}

// send sends what is held, and then p.
func (w *response) send(p []byte) {
	if w.err != nil || len(w.out)+len(p) == 0 {
		return
	}
	if len(p) == 0 {
		_, w.err = w.c.net.Write(w.out)
	} else {
		both := net.Buffers{w.out, p}
		_, w.err = both.WriteTo(w.c.net)
	}
	w.out = w.out[:0]
	if w.err != nil {
		w.close = true
		w.c.cancel()
	}
}

// Flush implements http.Flusher.
func (w *response) Flush() { _ = w.FlushError() }

// FlushError is what http.ResponseController asks for.
func (w *response) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.began {
		held := w.out
		w.out = w.head(w.c.take(), held, nil)
		w.piece(held)
		w.c.give(held)
	}
	w.send(nil)
	return w.err
}

// SetReadDeadline is what http.ResponseController asks for: the whole request is here already.
func (w *response) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline is what http.ResponseController asks for.
func (w *response) SetWriteDeadline(t time.Time) error { return w.c.net.SetWriteDeadline(t) }

// EnableFullDuplex is what http.ResponseController asks for.
func (w *response) EnableFullDuplex() error { return nil }

// end sends the rest when the handler has returned.
func (w *response) end() {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	short := w.length >= 0 && w.sent != w.length && !w.bodiless()
	if !w.began {
		if w.length < 0 && !w.bodiless() {
			w.length = int64(len(w.out))
			w.header["Content-Length"] = []string{strconv.Itoa(len(w.out))}
		}
		held := w.out
		w.out = append(w.head(w.c.take(), held, nil), held...)
		w.c.give(held)
	} else if w.chunks {
		w.out = append(w.out, "0\r\n\r\n"...)
	}
	w.send(nil)
	w.c.give(w.out)
	w.out = nil
	w.close = w.close || short || w.long // the client must not wait for what does not come
}

// head appends the head to dst. first and then second are what of the body is known.
func (w *response) head(dst, first, second []byte) []byte {
	w.began = true
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(w.status), 10)
	dst = append(append(append(dst, ' '), http.StatusText(w.status)...), "\r\n"...)
	h := w.header
	if w.bodiless() {
		delete(h, "Content-Length")
		delete(h, "Transfer-Encoding")
	} else if w.length < 0 {
		w.chunks = true
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	for name, values := range h {
		switch name {
		case "Connection":
			if len(values) == 1 && strings.EqualFold(values[0], "close") {
				w.close = true
				continue
			}
		case "Transfer-Encoding", "Trailer":
			continue
		}
		for _, v := range values {
			dst = append(append(dst, name...), ": "...)
			at := len(dst)
			dst = append(append(dst, v...), "\r\n"...)
			for i := at; i < len(dst)-2; i++ { // no value may end its line
				if dst[i] == '\r' || dst[i] == '\n' {
					dst[i] = ' '
				}
			}
		}
	}
	if len(first) == 0 {
		first = second
	}
	if _, typed := h["Content-Type"]; !typed && len(first) > 0 && len(h["Content-Encoding"]) == 0 && !w.bodiless() {
		dst = append(append(append(dst, "Content-Type: "...), http.DetectContentType(first)...), "\r\n"...)
	}
	if _, dated := h["Date"]; !dated {
		dst = append(append(append(dst, "Date: "...), w.c.s.date()...), "\r\n"...)
	}
	if w.c.s.stopping.Load() {
		w.close = true
	}
	if w.close {
		dst = append(dst, "Connection: close\r\n"...)
	}
	return append(dst, "\r\n"...)
}
