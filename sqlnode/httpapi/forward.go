package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/wire"
)

// forward sends one errand to other nodes, one after another.
type forward struct {
	h       *Handler
	errand  *errand
	id      Identity
	began   time.Time
	request string // id of the request
	lost    error  // of the first try that was perhaps done and has no answer
}

// errSilent ends a try whose node said nothing for too long.
var errSilent = errors.New("the node says nothing")

// lateAnswer is how much longer than the request's own timeout the other node may take to say that it is over.
const lateAnswer = time.Second

// try sends the errand to a node and its answer to the client. If again is true there is no answer yet, and err is
// what to say unless a later try has one.
func (f *forward) try(w http.ResponseWriter, r *http.Request, away *ElsewhereError) (again bool, err error) {
	if away.Node == "" {
		return true, clientError(away)
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	watch := &watch{f: f}
	watch.timer = time.AfterFunc(watch.left(), func() { cancel(errSilent) })
	defer watch.timer.Stop()
	body := f.body(watch)
	defer body.end()
	req, err := f.newRequest(body.trace(ctx), r, away.Node, body)
	if err != nil {
		return false, err
	}
	resp, err := f.h.peers.RoundTrip(req)
	if err == nil {
		defer resp.Body.Close()
		var answered bool
		answered, again, err = f.pass(w, r, resp, watch)
		if answered {
			return again, err
		}
	}
	// There is no answer.
	body.end()
	if s := f.errand.stream; s != nil && s.err != nil {
		f.count(forwardCancelled)
		return false, s.err
	}
	if cause := context.Cause(ctx); cause != nil {
		err = fmt.Errorf("%w (%w)", cause, err)
	}
	if body.unsent() || unsent(err) {
		f.count(forwardUnreachable)
		f.debug(r, away.Node, err)
		return true, wire.NewError(wire.CodeNotPrimary, "node %s, which has to answer this, can not be reached: %w", away.Node, err)
	}
	reads := f.errand.repeats || away.Reads || r.Method == http.MethodGet || r.Method == http.MethodHead
	if !reads && f.lost == nil {
		f.lost = err
	}
	if gone := r.Context().Err(); gone != nil {
		f.count(forwardCancelled)
		return false, f.settled(gone)
	}
	f.count(forwardBroken)
	f.debug(r, away.Node, err)
	switch {
	case reads && f.errand.timeout > 0 && time.Since(f.began) >= f.errand.timeout:
		return false, wire.NewError(wire.CodeTimeout, "node %s did not answer in time: %w", away.Node, err)
	case reads:
		return true, wire.NewError(wire.CodeNotPrimary, "the connection to node %s, which has to answer this, broke: %w", away.Node, err)
	case f.errand.keyed:
		return true, wire.NewError(wire.CodeUnknownOutcome, "the connection to node %s broke: %w", away.Node, err)
	}
	return false, wire.NewError(wire.CodeUnknownOutcome, "the connection to node %s broke when the write was on its way: %w", away.Node, err)
}

func (f *forward) count(outcome string) { f.h.counts.forwards.WithLabelValues(outcome).Inc() }

func (f *forward) debug(r *http.Request, node string, err error) {
	f.h.log.LogAttrs(r.Context(), slog.LevelDebug, "request not answered by another node",
		slog.String("node", node), slog.String("request", f.request), slog.Any("error", err))
}

// unsent says whether a try surely did not reach the other node.
func unsent(err error) bool {
	var refused *cluster.RefusedError
	var unreachable *cluster.UnreachableError
	var op *net.OpError
	return errors.As(err, &refused) || errors.As(err, &unreachable) || errors.As(err, &op) && op.Op == "dial"
}

// passedHeaders are those of a request that the other node gets, too.
var passedHeaders = []string{"Accept", "Content-Type", "Idempotency-Key", "Nearsql-Bookmark", "User-Agent"}

// newRequest is the request as the other node gets it.
func (f *forward) newRequest(ctx context.Context, r *http.Request, node string, body *tryBody) (*http.Request, error) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet // an error has its code in its body
	}
	u := &url.URL{Scheme: "http", Host: node, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	req := (&http.Request{Method: method, URL: u, Host: node, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}}).WithContext(ctx)
	for _, name := range passedHeaders {
		if list := r.Header[name]; len(list) > 0 {
			req.Header[name] = list
		}
	}
	if kind, err := bodyKind(r); err == nil && kind == "" {
		delete(req.Header, "Content-Type") // what bodyKind makes of it here depends on the token
	}
	req.Header["Accept-Encoding"] = []string{"identity"} // this node packs the answer
	req.Header["X-Request-Id"] = []string{f.request}
	if err := appendIdentity(req.Header, f.id, f.errand.tenant); err != nil {
		return nil, err
	}
	if t := f.errand.timeout; t > 0 {
		left := (t - time.Since(f.began)).Milliseconds()
		if left < 1 {
			return nil, f.settled(wire.NewError(wire.CodeTimeout, "the request's time was over before a node could answer it"))
		}
		req.Header[headerTimeout] = []string{strconv.FormatInt(left, 10)}
	}
	switch {
	case f.errand.stream != nil && f.errand.length != 0:
		req.Body, req.ContentLength = body, f.errand.length
		// The body leaves only when the other node wants it: if it does not, another can have it.
		req.Header["Expect"] = []string{"100-continue"}
	case len(f.errand.body) > 0:
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(f.errand.body)), nil }
		req.Body, _ = open()
		req.ContentLength = int64(len(f.errand.body))
		if !f.errand.keyed {
			// http.Transport sends it again where an idle connection took none of it. A write with a key it would send
			// again even where that is not known, and nobody here would know it.
			req.GetBody = open
		}
	}
	return req, nil
}

// watch ends a try when the other node has been silent for too long.
type watch struct {
	f     *forward
	timer *time.Timer
}

func (w *watch) left() time.Duration {
	d := w.f.h.cfg.ForwardSilence
	if t := w.f.errand.timeout; t > 0 {
		d = max(0, min(d, t+lateAnswer-time.Since(w.f.began)))
	}
	return d
}

// reset says that the other node has given something, or has taken it. It has no effect once the watch is over.
func (w *watch) reset() {
	if w.timer.Stop() {
		w.timer.Reset(w.left())
	}
}

// errorMax bounds the body of an error of another node, in bytes.
const errorMax = 1 << 20

// nodeError is what another node's error says.
type nodeError struct {
	Message    string    `json:"message"`
	Code       wire.Code `json:"code"`
	Statement  int       `json:"statement"`
	Retryable  bool      `json:"retryable"`
	RetryAfter float64   `json:"retry_after_ms"`
}

// error is the same as an error of this node.
func (e *nodeError) error() *wire.Error {
	return &wire.Error{Code: e.Code, Message: e.Message, Statement: e.Statement, Retryable: e.Retryable,
		RetryAfter: time.Duration(min(max(e.RetryAfter, 0), 3600_000)) * time.Millisecond}
}

// passError sends another node's error to the client, unless another try may do better.
func (f *forward) passError(w http.ResponseWriter, resp *http.Response) (answered, again bool, err error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, errorMax+1))
	if err == nil && len(body) > errorMax {
		err = fmt.Errorf("an error of more than %d bytes", errorMax)
	}
	if err != nil {
		return false, false, err
	}
	var said nodeError
	if json.Unmarshal(body, &said) != nil || said.Code == "" {
		return false, false, fmt.Errorf("an answer with status %d that is none of a nearsql node", resp.StatusCode)
	}
	e := said.error()
	switch {
	case e.Retryable && (e.Code == wire.CodeNotPrimary || e.Code == wire.CodeNotReady || e.Code == wire.CodeShuttingDown || f.lost != nil):
		f.count(forwardNotPrimary)
		return true, true, e
	case f.lost != nil && !final(e):
		f.count(forwardAnswered)
		return true, false, f.settled(e)
	}
	f.count(forwardAnswered)
	f.setHeaders(w, resp)
	if w.Header()["X-Request-Id"] == nil {
		w.Header().Set("X-Request-Id", f.request)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(body)
	return true, false, sentError{e}
}
