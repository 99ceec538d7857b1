package httpapi

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

func parseFormat(value string) (Format, error) {
	switch f := Format(value); f {
	case FormatSQLite, FormatSQL:
		return f, nil
	}
	return "", badParam("format", value, "sqlite or sql")
}

// importTenant streams the body to Tenants.Import; nothing of it is held.
func (h *Handler) importTenant(w http.ResponseWriter, r *http.Request) error {
	if err := h.admin(r); err != nil {
		return err
	}
	name := r.PathValue("t")
	if _, err := tenant.ParseName(name); err != nil {
		return err
	}
	format := Format("")
	var o createOptions
	if err := eachParam(r, func(name, value string) (err error) {
		switch name {
		case "format":
			format, err = parseFormat(value)
		case "options":
			if err = decodeJSON([]byte(value), &o); err == nil {
				err = o.Validate()
			}
			if err != nil {
				err = wire.NewError(clientErrorOr(err, wire.CodeBadRequest), "options: %w", err)
			}
		default:
			err = unknownParam(name)
		}
		return err
	}); err != nil {
		return err
	}
	kind, err := mediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	if format == "" {
		switch kind {
		case "application/vnd.sqlite3", "application/x-sqlite3", "application/octet-stream", "":
			format = FormatSQLite
		case "application/sql":
			format = FormatSQL
		default:
			return wire.NewError(wire.CodeUnsupportedMediaType, "Content-Type %.60q: want application/vnd.sqlite3 or application/sql, or format= in the query", kind)
		}
	}
	in, done, err := h.openBody(w, r)
	if err != nil {
		return err
	}
	defer done()
	e := &errand{stream: &importBody{r: in}, length: -1}
	if r.Header["Content-Encoding"] == nil {
		e.length = r.ContentLength
	}
	err = h.anywhere(w, r, e, func() error {
		o, err := h.resolve(r.Context(), &o)
		if err != nil {
			return err
		}
		t, err := h.tenants.Import(r.Context(), name, format, e.stream, o)
		if err != nil {
			if e.stream.err != nil { // the cause, however it was wrapped
				return e.stream.err
			}
			return err
		}
		w.Header().Set("Location", "/v1/tenants/"+name)
		return h.writeJSON(w, r, http.StatusCreated, t)
	})
	if sent := (sentError{}); err == nil || !h.internal || !e.stream.touched() || errors.As(err, &sent) {
		return err
	}
	return refuseRest(w, e.stream, err)
}

// restTime is how long a node goes on sending a body after it was told that nobody wants it.
const restTime = 5 * time.Second

// refuseRest answers a node with err in the midst of a body, and takes what still comes: net/http would close the
// connection, and the node could find that out before it has the answer.
func refuseRest(w http.ResponseWriter, body io.Reader, err error) error {
	writeError(w, clientError(err))
	c := http.NewResponseController(w)
	if c.Flush() == nil && c.SetReadDeadline(time.Now().Add(restTime)) == nil {
		for until := time.Now().Add(restTime); time.Now().Before(until); {
			if _, err := io.CopyN(io.Discard, body, 1<<20); err != nil {
				break
			}
		}
	}
	return sentError{err}
}

// clientErrorOr is the code of err if it is one for clients, else code.
func clientErrorOr(err error, code wire.Code) wire.Code {
	if c := clientError(err).Code; c != wire.CodeInternal {
		return c
	}
	return code
}

// exportWriter sends the headers with the first byte.
type exportWriter struct {
	h     *Handler
	w     http.ResponseWriter
	r     *http.Request
	name  string
	f     Format
	out   stallWriter
	zip   *gzip.Writer
	began bool
}

func (e *exportWriter) begin() {
	e.began = true
	header := e.w.Header()
	header.Set("Content-Type", e.f.contentType())
	header.Set("Content-Disposition", `attachment; filename="`+e.name+"."+string(e.f)+`"`)
	if packs(e.r) {
		markPacked(header)
		e.zip = e.h.packer(&e.out)
	}
}

func (e *exportWriter) Write(p []byte) (n int, err error) {
	if !e.began {
		e.begin()
	}
	if e.zip != nil {
		n, err = e.zip.Write(p)
	} else {
		n, err = e.out.Write(p)
	}
	if err != nil {
		err = gone(err)
	}
	return n, err
}

func (e *exportWriter) close() error {
	if !e.began {
		e.begin()
	}
	if e.zip == nil {
		return nil
	}
	if err := e.zip.Close(); err != nil {
		return gone(err)
	}
	return nil
}

func (h *Handler) exportTenant(w http.ResponseWriter, r *http.Request) error {
	if err := h.admin(r); err != nil {
		return err
	}
	name, err := tenantName(r)
	if err != nil {
		return err
	}
	format := FormatSQLite
	if err := eachParam(r, func(name, value string) (err error) {
		if name != "format" {
			return unknownParam(name)
		}
		format, err = parseFormat(value)
		return err
	}); err != nil {
		return err
	}
	return h.anywhere(w, r, &errand{}, func() error { return h.exportHere(w, r, name, format) })
}

func (h *Handler) exportHere(w http.ResponseWriter, r *http.Request, name string, format Format) error {
	out := &exportWriter{h: h, w: w, r: r, name: name, f: format,
		out: stallWriter{w: w, c: http.NewResponseController(w), stall: h.cfg.Stall}}
	err := h.tenants.Export(r.Context(), name, out, format)
	if err == nil {
		err = out.close()
	}
	if out.zip != nil {
		h.packers.Put(out.zip)
	}
	switch {
	case err == nil:
		out.out.done()
		return nil
	case !out.began:
		return err
	}
	return sentError{brokenError{err}}
}
