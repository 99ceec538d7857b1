package copies

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// full says that this node's disk has no room for the copy.
func full(err error) bool { return errors.Is(err, pagestore.ErrDiskFull) || disk.IsFull(err) }

// fetchFrom takes a copy of node; should it break off, it goes on with whoever has the same.
func (f *Fetcher) fetchFrom(ctx context.Context, a pagestore.Ailing, have pagestore.Have, node string, all []Member) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &stream{f: f, ctx: ctx, nodes: []string{node}, start: time.Now(), newAt: time.Now(),
		q: request{group: f.cfg.Group.ID(), tenant: a.Tenant.ID(), fetch: rand.Text(), index: a.Index, have: have}}
	for _, m := range all {
		if !slices.Contains(s.nodes, m.Node) {
			s.nodes = append(s.nodes, m.Node)
		}
	}
	defer s.close()
	if err := s.open(node); err != nil {
		return err
	}
	err := a.Tenant.ReadCopy(ctx, bufio.NewReaderSize(s, 64<<10))
	if s.broken != nil && err != nil && !errors.Is(err, s.broken) {
		err = errors.Join(err, s.broken)
	}
	if err != nil {
		return err
	}
	took := time.Since(s.start)
	f.Stats.Fetched.Add(1)
	f.Stats.Nanos.Add(int64(took))
	if s.partial {
		f.Stats.Partial.Add(1)
	}
	f.cfg.Log.Info("copy fetched", "id", a.Tenant.ID(), "group", f.cfg.Group.ID(), "node", s.from, "bytes", s.got, "whole", !s.partial,
		"resumed", s.resumed, "duration", took)
	return nil
}

// stream reads a copy from one node, or, when it breaks off, from where it stood at that one or another which has the same.
type stream struct {
	f     *Fetcher
	ctx   context.Context
	q     request
	nodes []string // the first is where it began
	start time.Time

	from     string // who sends now
	body     io.ReadCloser
	trailer  func() http.Header
	cancel   func()        // ends the connection
	stall    *time.Timer   // runs while a read waits
	patience time.Duration // of the next read
	tag      string
	partial  bool
	got      int64 // bytes
	resumed  int
	broken   error // why it could not be gone on with

	openGot int64     // bytes when the newest connection began
	newAt   time.Time // when so much had come since newGot that the copy did not stand still
	newGot  int64     // bytes
}

const (
	slowest  = 64 << 10 // bytes: a copy of which less comes in FetcherConfig.Standstill stands still
	seekRate = 50 << 20 // bytes per second at which a source surely finds where a copy stood
)

// errBroken says that a copy broke off.
var errBroken = errors.New("the copy broke off")

// open asks node for the copy, from where it stands.
func (s *stream) open(node string) error {
	s.close()
	ctx, cancel := context.WithCancel(s.ctx)
	stall := time.AfterFunc(2*s.f.cfg.Stall, cancel) // the source waits for half of that
	q := s.q
	q.tag, q.offset = s.tag, s.got
	resp, err := s.do(ctx, q.url(node))
	if err != nil {
		stall.Stop()
		cancel()
		return err
	}
	want, tag := http.StatusOK, resp.Header.Get("ETag")
	if s.got > 0 {
		want = http.StatusPartialContent
	}
	switch {
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent:
		err = readRefusal(node, resp)
	case resp.StatusCode != want || !validTag(tag) || s.tag != "" && tag != quote(s.tag):
		err = fmt.Errorf("node %s answers with status %d, copy %s; asked for %q from byte %d", node, resp.StatusCode, tag, s.tag, s.got)
	}
	if err != nil {
		stall.Stop()
		cancel()
		resp.Body.Close()
		return err
	}
	s.tag = tag[1 : len(tag)-1]
	if s.got > 0 {
		s.resumed++
		s.f.Stats.Resumed.Add(1)
	}
	s.from, s.partial = node, resp.Header.Get(partialHeader) != ""
	s.body, s.trailer, s.cancel, s.stall = resp.Body, func() http.Header { return resp.Trailer }, cancel, stall
	// The source may have to look for where the copy stood.
	s.openGot = s.got
	s.patience = s.f.cfg.Stall + time.Duration(s.got/seekRate)*time.Second
	stall.Stop()
	return nil
}

func quote(tag string) string { return `"` + tag + `"` }

// maxTag bounds a tag, in bytes.
const maxTag = 128

func validTag(tag string) bool {
	return len(tag) > 2 && len(tag) <= maxTag && tag[0] == '"' && tag[len(tag)-1] == '"'
}

func (s *stream) do(ctx context.Context, u *url.URL) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	return s.f.client.Do(req)
}

func (s *stream) close() {
	if s.body == nil {
		return
	}
	s.stall.Stop()
	s.cancel()
	s.body.Close()
	s.body = nil
}

// Read implements io.Reader. Its end is the end of the copy.
func (s *stream) Read(p []byte) (int, error) {
	for {
		n, err := s.read(p)
		if n > 0 {
			s.got += int64(n)
			s.f.Stats.Bytes.Add(int64(n))
			return n, nil // what else there is to say is said again
		}
		if err == io.EOF && s.whole() {
			return 0, io.EOF
		}
		if err == nil || err == io.EOF {
			err = s.fault()
		}
		if err := s.goOn(err); err != nil {
			s.broken = err
			return 0, err
		}
	}
}

// read reads what comes next, and gives up a connection on which nothing does.
func (s *stream) read(p []byte) (int, error) {
	s.stall.Reset(s.patience)
	n, err := s.body.Read(p)
	s.stall.Stop()
	if n == 0 {
		return 0, err
	}
	s.patience = s.f.cfg.Stall
	if s.got+int64(n) >= s.newGot+slowest {
		s.newAt, s.newGot = time.Now(), s.got+int64(n)
	} else if s.stoodStill() {
		s.cancel() // the next read says so
	}
	return n, nil
}

// fault is why a body ended before the copy did. A source that can't go on is not asked again.
func (s *stream) fault() error {
	text := s.trailer().Get(faultTrailer)
	if text == "" {
		return errBroken
	}
	s.nodes = slices.DeleteFunc(s.nodes, func(n string) bool { return n == s.from })
	return &RefusedError{Node: s.from, Code: CodeFailed, Text: text}
}

// whole says whether the source said that all was sent, and all came.
func (s *stream) whole() bool {
	return s.trailer().Get(bytesTrailer) == fmt.Sprint(s.got)
}

// goOn asks for the rest, here and there, until nothing came for too long.
func (s *stream) goOn(cause error) error {
	s.close()
	at, from := max(0, slices.Index(s.nodes, s.from)), s.from
	if errors.Is(cause, context.Canceled) || s.got == s.openGot {
		at++ // it fell silent, or sent nothing: the others first
	}
	gone := !slices.Contains(s.nodes, from) // at who sent it
	if len(s.nodes) == 0 {
		return cause
	}
	for try := 0; ; try++ {
		if s.stoodStill() {
			return fmt.Errorf("%w (%w), and stood still for %s", errBroken, cause, s.f.cfg.Standstill)
		}
		node, round := s.nodes[(at+try)%len(s.nodes)], try/len(s.nodes)
		if err := s.wait(s.f.pause(round)); err != nil {
			return err
		}
		err := s.open(node)
		if err == nil {
			return nil
		}
		var refused *RefusedError
		if node == from {
			gone = errors.As(err, &refused) && refused.Code != CodeBusy && refused.Code != CodeStaging
		}
		if last := try%len(s.nodes) == len(s.nodes)-1; last && gone {
			return fmt.Errorf("%w (%w); then: %w", errBroken, cause, err)
		}
	}
}

// stoodStill says that too little came for too long.
func (s *stream) stoodStill() bool { return time.Since(s.newAt) > s.f.cfg.Standstill }

func (s *stream) wait(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-s.ctx.Done():
		return s.ctx.Err()
	case <-t.C:
		return nil
	}
}

// statusTimeout bounds the question for a status.
const statusTimeout = 5 * time.Second

// status asks a node what its copy is.
func (f *Fetcher) status(ctx context.Context, node string, id wire.TenantID) (s Status, _ error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	q := request{group: f.cfg.Group.ID(), tenant: id}
	u := url.URL{Scheme: "http", Host: node, Path: q.path() + "/status"}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return s, err
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s, readRefusal(node, resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxRefusal)).Decode(&s); err != nil {
		return s, fmt.Errorf("status of tenant %s at node %s: %w", id, node, err)
	}
	return s, nil
}
