package quickhttp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener in memory.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

func (p *pipes) dial() net.Conn {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
	case <-p.done:
		there.Close()
	}
	return here
}

// world is a server, quick or not, on pipes.
type world struct {
	pipes  *pipes
	stop   func(context.Context) error
	close  func() error
	served chan error
	log    *bytes.Buffer // read when nothing runs
}

func start(t *testing.T, h http.Handler, quick bool) *world {
	w := &world{pipes: newPipes(), served: make(chan error, 1), log: new(bytes.Buffer)}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: log.New(w.log, "", 0)}
	if quick {
		q := &Server{HTTP: srv}
		w.stop, w.close = q.Shutdown, q.Close
		go func() { w.served <- q.Serve(w.pipes) }()
	} else {
		w.stop, w.close = srv.Shutdown, srv.Close
		go func() { w.served <- srv.Serve(w.pipes) }()
	}
	synctest.Wait()
	return w
}

func (w *world) end(t *testing.T) {
	t.Helper()
	w.close()
	if err := <-w.served; err != http.ErrServerClosed {
		t.Errorf("Serve: %v", err)
	}
}

// client is one connection; what comes is kept.
type client struct {
	net.Conn
	mu     sync.Mutex
	got    bytes.Buffer
	closed bool
}

func (w *world) client() *client {
	c := &client{Conn: w.pipes.dial()}
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := c.Read(b)
			c.mu.Lock()
			c.got.Write(b[:n])
			c.closed = err != nil
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return c
}

// send writes in pieces, as long as anybody reads.
func (c *client) send(text string, piece int) {
	for len(text) > 0 {
		n := min(piece, len(text))
		if _, err := io.WriteString(c, text[:n]); err != nil {
			return
		}
		text = text[n:]
	}
}

// heard is what came so far: each answer, and whether the connection is closed.
func (c *client) heard() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	r := bufio.NewReader(bytes.NewReader(c.got.Bytes()))
	for {
		if _, err := r.Peek(1); err != nil {
			break
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			all = append(all, "no answer: "+err.Error())
			break
		}
		b, err := io.ReadAll(resp.Body)
		if resp.Header.Get("Date") == "" {
			all = append(all, "no date")
		}
		resp.Header.Del("Date")
		resp.Header.Del("Content-Length") // net/http holds less of a body before it sends it in chunks
		h, _ := json.Marshal(resp.Header)
		all = append(all, fmt.Sprintf("%s %s %s close %v: %d %.600s (%v)", resp.Proto, resp.Status, h, resp.Close, len(b), b, err))
	}
	return append(all, fmt.Sprint("closed ", c.closed))
}

// play answers as the path says, and says what the request was.
func play(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	n, _ := strconv.Atoi(r.URL.Query().Get("n"))
	text := strings.Repeat("0123456789abcdef", n/16+1)[:n]
	c := http.NewResponseController(w)
	switch r.URL.Path {
	case "/stream":
		w.Header().Set("Content-Type", "text/x")
		for i := range 3 {
			fmt.Fprint(w, i, text)
			if err := c.Flush(); err != nil {
				return
			}
		}
	case "/pieces":
		for range 5 {
			_, _ = io.WriteString(w, text)
		}
	case "/flushed":
		_ = c.Flush()
		_, _ = io.WriteString(w, text)
	case "/none":
		w.WriteHeader(http.StatusNoContent)
		_, err := io.WriteString(w, "x")
		if err != http.ErrBodyNotAllowed {
			panic("a body with 204")
		}
	case "/notmodified":
		w.Header().Set("Content-Length", "10")
		w.WriteHeader(http.StatusNotModified)
	case "/short":
		w.Header().Set("Content-Length", strconv.Itoa(n+1))
		_, _ = io.WriteString(w, text)
	case "/long":
		w.Header().Set("Content-Length", strconv.Itoa(n))
		_, _ = io.WriteString(w, text)
		if _, err := io.WriteString(w, "more"); err != http.ErrContentLength {
			panic("more than was said")
		}
	case "/exact":
		w.Header().Set("Content-Length", strconv.Itoa(n))
		_, _ = io.WriteString(w, text)
	case "/close":
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, text)
	case "/split":
		w.Header().Set("X-Split", "a\r\nX-Injected: b")
	case "/empty":
	case "/panic":
		if _, _ = io.WriteString(w, text); n > 1000 {
			_ = c.Flush() // how much else is sent before the end is each server's own
		}
		panic(http.ErrAbortHandler)
	case "/html":
		_, _ = io.WriteString(w, "<html>"+text)
	default:
		w.Header()["X-Many"] = []string{"a", "b"}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"method": r.Method, "url": r.URL.String(), "path": r.URL.Path, "raw": r.URL.RawPath, "query": r.URL.RawQuery, "uri": r.RequestURI,
			"host": r.Host, "header": r.Header, "length": r.ContentLength, "body": len(b), "sum": crc32.ChecksumIEEE(b), "error": fmt.Sprint(err), "proto": r.Proto,
			"minor": r.ProtoMinor, "encoding": r.TransferEncoding, "trailer": r.Trailer, "close": r.Close, "remote": r.RemoteAddr,
			"nobody": r.Body == http.NoBody, "text": text,
		})
	}
}
