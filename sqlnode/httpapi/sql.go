package httpapi

import (
	"bytes"
	"net/http"
	"strconv"
	"unicode/utf8"

	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/native"
)

// call is what one SQL request needs and another can use again.
type call struct {
	body   []byte
	answer native.Answer
	lines  native.Lines
}

// keepMax is the size in bytes up to which a buffer is kept for another request.
const keepMax = 1 << 20

func (h *Handler) release(c *call) {
	if cap(c.body) <= keepMax && c.answer.Cap() <= keepMax && c.lines.Cap() <= keepMax {
		h.calls.Put(c)
	}
}

func (h *Handler) postSQL(w http.ResponseWriter, r *http.Request) error {
	c := h.calls.Get().(*call)
	defer h.release(c)
	p := sqlParams{req: new(wire.Request)}
	name, err := h.sqlRequest(r, &p)
	if err != nil {
		return err
	}
	kind, err := bodyKind(r)
	if err != nil {
		return err
	}
	switch kind {
	case "", "application/json", "application/sql":
	default:
		return wire.NewError(wire.CodeUnsupportedMediaType, "Content-Type %.60q: want application/json or application/sql", kind)
	}
	if p.hasQ {
		return wire.NewError(wire.CodeBadRequest, "the query parameter q is for GET; the statement is in the body")
	}
	if c.body, err = h.readBody(w, r, c.body); err != nil {
		return err
	}
	h.counts.in.Add(float64(len(c.body)))
	if kind == "application/sql" {
		if !utf8.Valid(c.body) {
			return wire.NewError(wire.CodeInvalidUTF8, "the body is not UTF-8")
		}
		err = h.bareSQL(&p, string(c.body))
	} else if p.hasArgs {
		err = wire.NewError(wire.CodeBadRequest, "the query parameter args is for GET and application/sql; the arguments are in the body")
	} else {
		err = native.DecodeRequest(c.body, h.limits, p.req)
	}
	if err != nil {
		return err
	}
	return h.execute(w, r, c, name, &p)
}

func (h *Handler) getSQL(w http.ResponseWriter, r *http.Request) error {
	c := h.calls.Get().(*call)
	defer h.release(c)
	p := sqlParams{req: &wire.Request{ReadOnly: true}}
	name, err := h.sqlRequest(r, &p)
	if err != nil {
		return err
	}
	if !p.hasQ {
		return wire.NewError(wire.CodeBadRequest, "the query parameter q, a statement, is missing")
	}
	if err := h.bareSQL(&p, p.query); err != nil {
		return err
	}
	return h.execute(w, r, c, name, &p)
}

// sqlRequest reads all of a request but its statements: whose it is, for which tenant, and how.
func (h *Handler) sqlRequest(r *http.Request, p *sqlParams) (name string, err error) {
	id, err := h.identify(r)
	if err != nil {
		return "", err
	}
	if name, err = tenantName(r); err != nil {
		return "", err
	}
	if !id.mayUse(name) {
		return "", wire.NewError(wire.CodeForbidden, "the token has no right to tenant %q", name)
	}
	p.req.Subject = id.Subject
	if r.URL.RawQuery != "" {
		if err := eachParam(r, p.param); err != nil {
			return "", err
		}
	}
	if h.internal {
		left, err := timeLeft(r)
		if err != nil {
			return "", err
		}
		if left > 0 && (p.req.Timeout == 0 || left < p.req.Timeout) {
			p.req.Timeout = left
		}
	}
	return name, p.headers(r)
}

// bareSQL takes sql, with the arguments of the query, as the one statement.
func (h *Handler) bareSQL(p *sqlParams, sql string) error {
	if err := native.CheckSQL(sql); err != nil {
		return err
	}
	s := wire.Statement{SQL: sql}
	if p.hasArgs {
		if err := native.DecodeArgs([]byte(p.args), h.limits, &s); err != nil {
			return err
		}
	}
	p.req.Statements = []wire.Statement{s}
	return nil
}

// execute answers the request here, or has another node do so.
func (h *Handler) execute(w http.ResponseWriter, r *http.Request, c *call, name string, p *sqlParams) error {
	err := h.executeHere(w, r, c, name, p)
	if err == nil || !movable(err) {
		return err
	}
	e := &errand{tenant: name, repeats: p.req.ReadOnly, keyed: p.req.IdempotencyKey != "", timeout: p.req.Timeout}
	if r.Method == http.MethodPost {
		e.body, c.body = c.body, nil // a transport may read it for longer than this request lasts
	}
	return h.elsewhere(w, r, e, err, func() error { return h.executeHere(w, r, c, name, p) })
}

func (h *Handler) executeHere(w http.ResponseWriter, r *http.Request, c *call, name string, p *sqlParams) error {
	if p.stream {
		p.req.Stream = true
		return h.stream(w, r, c, name, p)
	}
	c.answer.Reset(p.form, h.cfg.Answer)
	meta, err := h.sql.Execute(r.Context(), name, p.req, &c.answer)
	if err != nil {
		return err
	}
	rows := c.answer.Rows()
	body := c.answer.Finish(&meta)
	h.counts.rows.Add(float64(rows))
	h.counts.out.Add(float64(len(body)))
	header := w.Header()
	header["Content-Type"] = jsonType
	if meta.Bookmark != "" {
		header["Nearsql-Bookmark"] = []string{meta.Bookmark}
	}
	return h.writeAnswer(w, r, body)
}

// writeAnswer sends a whole body, packed where that is worth it.
func (h *Handler) writeAnswer(w http.ResponseWriter, r *http.Request, body []byte) error {
	header := w.Header()
	if len(body) >= packMin && packs(r) {
		markPacked(header)
		var packed bytes.Buffer
		z := h.packer(&packed)
		_, _ = z.Write(body) // a buffer does not fail
		_ = z.Close()
		h.packers.Put(z)
		body = packed.Bytes()
	}
	// net/http counts short bodies itself.
	if len(body) >= 2<<10 {
		header["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	if len(body) > stallWrite {
		out := stallWriter{w: w, c: http.NewResponseController(w), stall: h.cfg.Stall}
		defer out.done()
		if _, err := out.Write(body); err != nil {
			return sentError{gone(err)}
		}
		return nil
	}
	if _, err := w.Write(body); err != nil {
		return sentError{gone(err)}
	}
	return nil
}
