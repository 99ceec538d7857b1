package httpapi

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"

	"github.com/nearsql/nearsql/wire"
)

// answerHeaders are those of another node's answer that the client gets, beside Content-Length.
var answerHeaders = []string{"Content-Type", "Content-Encoding", "Content-Disposition", "Nearsql-Bookmark", "Retry-After", "Location"}

// setHeaders takes the headers of another node's answer for that of this one, in place of what was there.
func (f *forward) setHeaders(w http.ResponseWriter, resp *http.Response) {
	header := w.Header()
	delete(header, "Content-Length")
	for _, name := range answerHeaders {
		if list := resp.Header[name]; len(list) > 0 {
			header[name] = list
		} else {
			delete(header, name)
		}
	}
}

// passBuffer is how much of an answer is held, in bytes. An answer that breaks within it has not begun for the client.
const passBuffer = 32 << 10

// pass sends another node's answer to the client. If answered is false none of it was sent, and err says why.
func (f *forward) pass(w http.ResponseWriter, r *http.Request, resp *http.Response, watch *watch) (answered, again bool, err error) {
	watch.reset()
	if resp.StatusCode >= 400 {
		return f.passError(w, resp)
	}
	if resp.StatusCode < 200 || resp.StatusCode >= 300 {
		return false, false, errors.New("an answer with status " + strconv.Itoa(resp.StatusCode) + ", which no route has")
	}
	size := int64(passBuffer)
	if known := resp.ContentLength; known >= 0 {
		size = min(size, known)
	}
	buf := make([]byte, size)
	n, end := 0, io.EOF
	switch known := resp.ContentLength; {
	case r.Method == http.MethodHead, resp.StatusCode == http.StatusNoContent, known == 0:
	case known > 0:
		if n, err = io.ReadFull(resp.Body, buf); err != nil {
			return false, false, fmt.Errorf("the answer breaks off: %w", err)
		}
		if int64(n) < known {
			end = nil
		}
	default:
		if n, end = resp.Body.Read(buf); n == 0 && end != nil && end != io.EOF {
			return false, false, fmt.Errorf("the answer breaks off: %w", end)
		}
	}
	f.count(forwardAnswered)
	f.setHeaders(w, resp)
	out := &passWriter{out: stallWriter{w: w, c: http.NewResponseController(w), stall: f.h.cfg.Stall}}
	header := w.Header()
	switch known := resp.ContentLength; {
	case n > 0 && (known < 0 || known >= packMin) && packs(r) && header["Content-Encoding"] == nil:
		if slices.Contains(header["Vary"], "Accept-Encoding") { // a try of this node has said so
			header.Set("Content-Encoding", "gzip")
		} else {
			markPacked(header)
		}
		out.zip = f.h.packer(&out.out)
		defer func() { f.h.packers.Put(out.zip) }()
	case known >= 0 && resp.StatusCode != http.StatusNoContent:
		header["Content-Length"] = []string{strconv.FormatInt(known, 10)}
	}
	w.WriteHeader(resp.StatusCode)
	if err := out.copy(buf, n, end, resp, watch); err != nil {
		return true, false, sentError{err}
	}
	return true, false, nil
}

// passWriter sends the bytes of an answer, packed or not.
type passWriter struct {
	out stallWriter
	zip *gzip.Writer // nil when not packed
}

// copy sends the n bytes of buf and, unless end says that these are all, what follows in the answer. What has to
// wait for more is sent at once. An answer that breaks off breaks off for the client, too.
func (p *passWriter) copy(buf []byte, n int, end error, resp *http.Response, watch *watch) error {
	defer p.out.done()
	for {
		if err := p.write(buf[:n], end == nil && resp.ContentLength < 0 && n < len(buf)); err != nil {
			return gone(err)
		}
		if end != nil {
			break
		}
		watch.reset()
		n, end = resp.Body.Read(buf)
		watch.reset()
	}
	if end != io.EOF {
		return brokenError{wire.NewError(wire.CodeUnknownOutcome, "another node's answer broke off: %w", end)}
	}
	if p.zip != nil {
		if err := p.zip.Close(); err != nil {
			return gone(err)
		}
	}
	return nil
}

func (p *passWriter) write(b []byte, flush bool) (err error) {
	if p.zip == nil {
		if _, err = p.out.Write(b); err == nil && flush {
			err = p.out.flush()
		}
		return err
	}
	if _, err = p.zip.Write(b); err == nil && flush {
		if err = p.zip.Flush(); err == nil {
			err = p.out.flush()
		}
	}
	return err
}
