package copies

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// Groups knows the groups of this node.
type Groups interface {
	// Group returns the group with the id, if this node has it.
	Group(id wire.GroupID) (*pagestore.Group, bool)
}

// ServerConfig is what a Server needs. Zero values mean the defaults.
type ServerConfig struct {
	Groups Groups
	// Parallel is how many copies are sent at once (4); others are refused for a second.
	Parallel int
	// Keep is how many states are kept for receivers whose copy broke off (8), and KeepFor for how long (one minute). A state that is kept
	// holds on to page versions; past the memory budget of the node these go, and the receiver begins anew.
	Keep    int
	KeepFor time.Duration
	// Stall is how long a receiver may take no byte (30 s).
	Stall time.Duration
	// Rate bounds the bytes per second of all copies together; 0 is no bound. Those that are sent at once share it evenly.
	Rate int64
	Log  *slog.Logger
}

func (c *ServerConfig) setDefaults() {
	orInt(&c.Parallel, 4)
	orInt(&c.Keep, 8)
	orDuration(&c.KeepFor, time.Minute)
	orDuration(&c.Stall, 30*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// ServerStats counts what a Server did.
type ServerStats struct {
	Active  atomic.Int64 // copies that are sent now
	Sent    atomic.Int64 // copies that were sent to their end
	Partial atomic.Int64 // of these, with only what changed
	Resumed atomic.Int64 // times that one went on where it broke off
	Broken  atomic.Int64 // times that a receiver went away or stood still
	Failed  atomic.Int64 // times that the source's own copy was at fault
	Refused atomic.Int64 // requests refused, those for being busy included
	Busy    atomic.Int64
	Bytes   atomic.Int64
}

// Server sends copies of the tenants of this node. It is an http.Handler for Prefix.
type Server struct {
	cfg   ServerConfig
	mux   *http.ServeMux
	slots chan struct{}
	pace  *pacer
	kept  *kept
	Stats ServerStats
}

// NewServer makes a Server. It starts nothing; Run is to run beside it.
func NewServer(cfg ServerConfig) *Server {
	cfg.setDefaults()
	s := &Server{cfg: cfg, mux: http.NewServeMux(), slots: make(chan struct{}, cfg.Parallel), pace: newPacer(cfg.Rate), kept: newKept(cfg.Keep, cfg.KeepFor)}
	s.mux.HandleFunc(pattern, s.serveCopy)
	s.mux.HandleFunc(pattern+"/status", s.serveStatus)
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Run lets go of states that nobody came back for. When ctx ends all go, and no more are kept.
func (s *Server) Run(ctx context.Context) error { return s.kept.run(ctx) }

// refuse answers with why not.
func (s *Server) refuse(w http.ResponseWriter, e *RefusedError) {
	s.Stats.Refused.Add(1)
	e.write(w)
}

// tenant resolves what is asked for.
func (s *Server) tenant(q *request) (*pagestore.Tenant, *RefusedError) {
	g, ok := s.cfg.Groups.Group(q.group)
	if !ok {
		return nil, &RefusedError{Code: CodeNoGroup, Text: fmt.Sprintf("group %d is not on this node", q.group)}
	}
	t, err := g.Tenant(q.tenant)
	if err != nil {
		return nil, &RefusedError{Code: CodeNoTenant, Text: err.Error()}
	}
	return t, nil
}

func (s *Server) serveStatus(w http.ResponseWriter, r *http.Request) {
	q, err := parseTarget(r)
	if err != nil {
		s.refuse(w, &RefusedError{Code: CodeBad, Text: err.Error()})
		return
	}
	t, refused := s.tenant(&q)
	if refused != nil {
		s.refuse(w, refused)
		return
	}
	a, ailing := t.Ailing()
	pos := t.Position()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(Status{
		InService: t.Failed() == nil,
		Rotten:    ailing && a.InService,
		Diverged:  ailing && a.Diverged,
		Epoch:     pos.Epoch,
		TXID:      pos.TXID,
	})
}

func (s *Server) serveCopy(w http.ResponseWriter, r *http.Request) {
	q, err := parseRequest(r)
	if err != nil {
		s.refuse(w, &RefusedError{Code: CodeBad, Text: err.Error()})
		return
	}
	t, refused := s.tenant(&q)
	if refused != nil {
		s.refuse(w, refused)
		return
	}
	select {
	case s.slots <- struct{}{}:
	default:
		s.Stats.Busy.Add(1)
		s.refuse(w, &RefusedError{Code: CodeBusy, Text: fmt.Sprintf("%d copies are being sent", s.cfg.Parallel), RetryAfter: time.Second})
		return
	}
	defer func() { <-s.slots }()
	s.Stats.Active.Add(1)
	defer s.Stats.Active.Add(-1)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	p, refused := s.pin(ctx, cancel, t, &q)
	if refused != nil {
		s.refuse(w, refused)
		return
	}
	s.send(ctx, w, p, &q)
}

// pin finds the state of a copy that broke off, or pins the newest.
func (s *Server) pin(ctx context.Context, cancel func(), t *pagestore.Tenant, q *request) (*pin, *RefusedError) {
	p, busy := s.kept.take(q, cancel)
	if busy {
		// Its connection is gone, but the stream to it does not know yet.
		return nil, &RefusedError{Code: CodeBusy, Text: "the copy is still being sent", RetryAfter: time.Second}
	}
	if p == nil {
		wait, stop := context.WithTimeout(ctx, s.cfg.Stall)
		defer stop()
		c, err := t.PinCopy(wait, q.have)
		if err != nil {
			return nil, pinRefusal(t, err)
		}
		p = s.kept.begin(q, c, cancel)
	}
	var refused *RefusedError
	switch {
	case q.tag != "" && q.tag != p.copy.Tag():
		refused = &RefusedError{Code: CodeGone, Text: "the state of the copy is not kept any more"}
	case p.copy.Index() < q.index:
		refused = &RefusedError{Code: CodeStale, Have: p.copy.Index(), Want: q.index, RetryAfter: time.Second,
			Text: fmt.Sprintf("the copy contains entries up to %d, wanted are those up to %d", p.copy.Index(), q.index)}
	}
	if refused != nil {
		s.kept.end(p, false)
		return nil, refused
	}
	return p, nil
}

// pinRefusal is what a receiver is told when a copy can't be pinned.
func pinRefusal(t *pagestore.Tenant, err error) *RefusedError {
	e := &RefusedError{Code: CodeInternal, Text: err.Error()}
	switch {
	case errors.Is(err, pagestore.ErrHollow):
		e.Code = CodeHollow
	case errors.Is(err, pagestore.ErrStagingOpen):
		e.Code, e.RetryAfter = CodeStaging, time.Second
	case errors.Is(err, pagestore.ErrNoTenant):
		e.Code = CodeNoTenant
	case errors.Is(err, pagestore.ErrReplaced), errors.Is(err, pagestore.ErrClosed), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		e.Code, e.RetryAfter = CodeBusy, time.Second
	case t.Failed() != nil:
		e.Code = CodeFailed
	}
	return e
}

// send writes a copy from where it is asked for.
func (s *Server) send(ctx context.Context, w http.ResponseWriter, p *pin, q *request) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("ETag", strconv.Quote(p.copy.Tag()))
	h.Set("Trailer", bytesTrailer+", "+faultTrailer)
	if p.copy.Partial() {
		h.Set(partialHeader, strconv.FormatUint(uint64(q.have.State.TXID), 10))
	}
	status := http.StatusOK
	if q.offset > 0 {
		status = http.StatusPartialContent
		s.Stats.Resumed.Add(1)
	}
	w.WriteHeader(status)
	out := &receiver{ctx: ctx, w: w, control: http.NewResponseController(w), stall: s.cfg.Stall, pace: s.pace}
	err := p.copy.WriteTo(ctx, out, q.offset)
	if err == nil {
		err = out.finish()
	}
	s.Stats.Bytes.Add(out.n)
	switch {
	case err == nil:
		h.Set(bytesTrailer, strconv.FormatInt(q.offset+out.n, 10))
		s.Stats.Sent.Add(1)
		if p.copy.Partial() {
			s.Stats.Partial.Add(1)
		}
		s.kept.end(p, false)
	case out.err != nil || ctx.Err() != nil:
		s.Stats.Broken.Add(1)
		s.cfg.Log.Info("a copy broke off", "id", q.tenant, "group", q.group, "at", q.offset+out.n, "error", err)
		s.kept.end(p, true)
	default:
		s.Stats.Failed.Add(1)
		s.cfg.Log.Warn("a copy can't be sent", "id", q.tenant, "group", q.group, "at", q.offset+out.n, "error", err)
		text := strings.Map(printable, err.Error())
		h.Set(faultTrailer, text[:min(len(text), maxFault)])
		s.kept.end(p, false)
	}
}

// maxFault bounds the text in a trailer, in bytes.
const maxFault = 500

// printable keeps what may be in a header.
func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return '?'
	}
	return r
}

// receiver is the far end of a copy, which must not stand still.
type receiver struct {
	ctx     context.Context
	w       io.Writer
	control *http.ResponseController
	stall   time.Duration
	pace    *pacer
	n       int64
	err     error // why nothing more can be sent
}

// sendChunk is how many bytes are sent between two looks at rate and deadline.
const sendChunk = 64 << 10

func (r *receiver) Write(b []byte) (n int, _ error) {
	for len(b) > 0 {
		c := b[:min(len(b), sendChunk)]
		if r.err = r.pace.wait(r.ctx, len(c)); r.err != nil {
			return n, r.err
		}
		r.deadline()
		m, err := r.w.Write(c)
		n += m
		r.n += int64(m)
		if r.err = err; err != nil {
			return n, err
		}
		b = b[len(c):]
	}
	return n, nil
}

// deadline moves the time by which the receiver must have taken what is written next. A response that knows none is bounded by ctx.
func (r *receiver) deadline() { _ = r.control.SetWriteDeadline(time.Now().Add(r.stall)) }

func (r *receiver) finish() error {
	r.deadline()
	if err := r.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		r.err = err
	}
	return r.err
}

func orInt(p *int, v int) {
	if *p == 0 {
		*p = v
	}
}

func orDuration(p *time.Duration, v time.Duration) {
	if *p == 0 {
		*p = v
	}
}
