package sqlnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/wire"
)

// inside passes requests of this process on to other nodes. It goes the way of a request over HTTP, which knows when one may
// be sent again and what is known of one whose answer got lost; that way's handler is called, and not dialled.
type inside struct {
	once   sync.Once
	client *client.Client
	err    error
}

// open makes the client at the first use.
func (in *inside) open(n *Node) error {
	in.once.Do(func() {
		var h *httpapi.Handler
		h, in.err = httpapi.New(n.cfg.HTTP, httpapi.Deps{
			SQL: insideSQL{sqlService{n}}, Tenants: tenantService{n}, Auth: insideAuth{n.auth}, Status: statusService{n},
			Counts: n.metrics.http, Log: n.log, Peers: n.net.HTTPTransport(),
		})
		if in.err == nil {
			in.client, in.err = client.New("http://"+n.id.Node, client.Options{HTTP: &http.Client{Transport: inProcess{h}}, UserAgent: "nearsql-embedded"})
		}
	})
	return in.err
}

// forward does a request that this node could not answer, because of why.
func (in *inside) forward(ctx context.Context, n *Node, tenant string, req *wire.Request, sink wire.Sink, why error) (wire.Meta, error) {
	if err := in.open(n); err != nil {
		return wire.Meta{}, wire.AsError(err)
	}
	ctx = context.WithValue(ctx, knownKey{}, &known{err: why})
	a, err := in.client.Do(ctx, tenant, req)
	if err != nil {
		return wire.Meta{}, insideError(err)
	}
	defer a.Close()
	if !req.Stream {
		sink = &boundedSink{Sink: sink, left: n.cfg.HTTP.Answer}
	}
	if err := play(a, sink); err != nil {
		return wire.Meta{}, insideError(err)
	}
	return a.Meta(), nil
}

// play gives an answer to a sink.
func play(a *client.Answer, sink wire.Sink) error {
	for a.NextStatement() {
		columns := make([]wire.Column, len(a.Columns()))
		for i, c := range a.Columns() {
			columns[i] = wire.Column{Name: c.Name, DeclType: c.Type}
		}
		if err := sink.Begin(a.Statement()-1, columns); err != nil {
			return err
		}
		for a.NextRow() {
			if err := sink.Row(a.Row()); err != nil {
				return err
			}
		}
		if a.Err() != nil {
			break
		}
		if err := sink.End(a.Summary()); err != nil {
			return err
		}
	}
	return a.Err()
}

// insideError is an error of the client as one of the API.
func insideError(err error) error {
	var lost *client.UnreachableError
	if errors.As(err, &lost) {
		return wire.NewError(wire.CodeUnknownOutcome, "another node's answer broke off: %w", lost.Err)
	}
	return wire.AsError(err)
}

// boundedSink takes an answer that is held in memory.
type boundedSink struct {
	wire.Sink
	left int
}

// Row implements wire.Sink.
func (s *boundedSink) Row(row []wire.Value) error {
	for _, v := range row {
		s.left -= v.Size()
	}
	if s.left < 0 {
		return wire.NewError(wire.CodeAnswerTooLarge, "the answer is too large to be held in memory; ask for less, or take it as it comes")
	}
	return s.Sink.Row(row)
}

// known is why this node can't answer a request: found out before, and not to be found out again at its first try.
type known struct {
	err  error
	told atomic.Bool
}

type knownKey struct{}

// insideSQL is the node's SQL for requests that it has looked at before.
type insideSQL struct{ sqlService }

// Execute implements httpapi.SQL.
func (s insideSQL) Execute(ctx context.Context, name string, req *wire.Request, sink wire.Sink) (wire.Meta, error) {
	if k, ok := ctx.Value(knownKey{}).(*known); ok && k.told.CompareAndSwap(false, true) {
		return wire.Meta{}, k.err
	}
	return s.sqlService.Execute(ctx, name, req, sink)
}

// insideAuth is httpapi.Auth for this process, which has the root key in its data directory.
type insideAuth struct{ a *auth }

// Check implements httpapi.Auth.
func (i insideAuth) Check(ctx context.Context, _ string) (httpapi.Identity, error) {
	return i.a.Check(ctx, i.a.text)
}

// inProcess is an http.RoundTripper that calls a handler. It returns what the handler answers, also when the request's context
// has ended: the handler then says what became of the request.
type inProcess struct{ h http.Handler }

// RoundTrip implements http.RoundTripper.
func (t inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	r := req.Clone(req.Context()) // a RoundTripper leaves the request alone, a handler does not
	if r.Body == nil {
		r.Body = http.NoBody
	}
	out, in := io.Pipe()
	w := &pipedAnswer{body: in, header: http.Header{}, begun: make(chan struct{})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer r.Body.Close()
		w.serve(t.h, r)
	}()
	<-w.begun
	return &http.Response{
		Status: fmt.Sprintf("%d %s", w.status, http.StatusText(w.status)), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, ContentLength: -1, Body: &pipedBody{out, ended}, Request: req,
	}, nil
}

// pipedAnswer is an http.ResponseWriter whose bytes go to a pipe.
type pipedAnswer struct {
	body   *io.PipeWriter
	header http.Header
	begun  chan struct{} // closed when status and sent are known
	status int
	sent   http.Header
}

// serve has the handler answer, and ends the answer.
func (w *pipedAnswer) serve(h http.Handler, r *http.Request) {
	defer func() {
		p := recover()
		if p == nil {
			w.WriteHeader(http.StatusOK)
			w.body.Close()
			return
		}
		if p != http.ErrAbortHandler { // a fault of the program; it is the process's to end
			panic(p)
		}
		w.body.CloseWithError(io.ErrUnexpectedEOF)
		w.WriteHeader(http.StatusInternalServerError)
	}()
	h.ServeHTTP(w, r)
}

// Header implements http.ResponseWriter.
func (w *pipedAnswer) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *pipedAnswer) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.status, w.sent = status, w.header.Clone()
	close(w.begun)
}

// Write implements http.ResponseWriter.
func (w *pipedAnswer) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// pipedBody is the body of an answer of a handler. Close returns when the handler has.
type pipedBody struct {
	*io.PipeReader
	ended <-chan struct{}
}

// Close implements io.Closer.
func (b *pipedBody) Close() error {
	err := b.PipeReader.Close()
	<-b.ended
	return err
}
