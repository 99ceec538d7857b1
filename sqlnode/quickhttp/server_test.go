package quickhttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const ask = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"

// A client that goes away ends the context of its request, on either way to be served.
func TestGone(t *testing.T) {
	for _, quick := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var after time.Duration
			ended := make(chan struct{})
			w := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				began := time.Now()
				select {
				case <-r.Context().Done():
				case <-time.After(time.Hour):
				}
				after = time.Since(began)
				close(ended)
			}), quick)
			defer w.end(t)
			c := w.client()
			c.send(ask, 1000)
			time.Sleep(10 * time.Millisecond)
			c.Close()
			<-ended
			if after > time.Second {
				t.Errorf("quick %v: the request was left alone for %v", quick, after)
			}
		})
	}
}

// What a client sends while it waits for an answer is its next request, however long that one takes.
func TestPipelinedWhileWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			select {
			case <-r.Context().Done():
				t.Error("the context has ended")
			case <-time.After(time.Second):
			}
			fmt.Fprintf(w, "%s %s", r.URL.Path, b)
		}), true)
		defer w.end(t)
		c := w.client()
		defer c.Close()
		for i := range 5 {
			c.send(strings.ReplaceAll(ask, "/x", fmt.Sprint("/", i)), 1000)
			time.Sleep(300 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		if got := c.heard(); len(got) != 6 || !strings.Contains(got[4], "/4 hi") {
			t.Fatalf("%q", got)
		}
	})
}

// Shutdown waits for requests, tells their clients that the connection ends, and takes no further ones.
func TestShutdown(t *testing.T) {
	for _, quick := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(5 * time.Second)
				_, _ = io.WriteString(w, "late")
			}), quick)
			quiet, fresh, waiting := w.client(), w.client(), w.client()
			defer fresh.Close()
			quiet.send(ask, 1000)
			time.Sleep(8 * time.Second)
			waiting.send(ask, 1000)
			time.Sleep(time.Second)
			began := time.Now()
			if err := w.stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took < 3*time.Second || took > 6*time.Second {
				t.Errorf("quick %v: Shutdown took %v", quick, took)
			}
			synctest.Wait()
			if got := waiting.heard(); len(got) != 2 || !strings.Contains(got[0], "close true: 4 late") || got[1] != "closed true" {
				t.Errorf("quick %v: %q", quick, got)
			}
			if got := quiet.heard(); len(got) != 2 || got[1] != "closed true" {
				t.Errorf("quick %v: %q", quick, got)
			}
			w.end(t)
		})
	}
}

// What lasts longer than Shutdown may wait is ended by Close.
func TestShutdownGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), true)
		c := w.client()
		c.send(ask, 1000)
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		w.end(t)
	})
}

// A request that arrives byte after byte, slower than a head may, is net/http's; so is one without an end.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s, %v", b, err)
		}), true)
		defer w.end(t)
		slowBody := w.client()
		slowBody.send(ask[:len(ask)-1], 1000)
		time.Sleep(15 * time.Second)
		slowBody.send("!", 1)
		time.Sleep(time.Second)
		if got := slowBody.heard(); !strings.Contains(got[0], "h!, <nil>") {
			t.Errorf("%q", got)
		}
		slowBody.Close()
		slowHead := w.client()
		sent := 0
		for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(time.Second) {
			if _, err := slowHead.Write([]byte(ask[sent%20 : sent%20+1])); err != nil {
				break
			}
			sent++
		}
		if sent > 25 {
			t.Errorf("%d bytes of a head were taken, one a second", sent)
		}
	})
}

// A panic ends its connection and no other, and is logged.
func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/x" {
				panic("planted")
			}
		}), true)
		a, b := w.client(), w.client()
		defer b.Close()
		a.send(ask, 1000)
		b.send(strings.Replace(ask, "/x", "/y", 1), 1000)
		time.Sleep(time.Second)
		if got := a.heard(); len(got) != 1 || got[0] != "closed true" {
			t.Errorf("%q", got)
		}
		if got := b.heard(); len(got) != 2 {
			t.Errorf("%q", got)
		}
		w.end(t)
		if !strings.Contains(w.log.String(), "planted") {
			t.Errorf("log: %q", w.log)
		}
	})
}

// Who reads a body after its request has ended gets an error, and never the bytes of another request.
func TestBodyAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := make(chan io.Reader, 1)
		w := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { kept <- r.Body }), true)
		defer w.end(t)
		c := w.client()
		defer c.Close()
		c.send(ask, 1000)
		time.Sleep(time.Second)
		if b, err := io.ReadAll(<-kept); err != http.ErrBodyReadAfterClose || len(b) > 0 {
			t.Errorf("%q, %v", b, err)
		}
	})
}

// An error of the listener that passes is no end; one that does not is.
func TestAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &troubled{pipes: newPipes(), trouble: 20}
		q := &Server{HTTP: &http.Server{Handler: http.HandlerFunc(play)}}
		served := make(chan error, 1)
		go func() { served <- q.Serve(l) }()
		w := &world{pipes: l.pipes}
		c := w.client()
		c.send(ask, 1000)
		time.Sleep(time.Second)
		if got := c.heard(); len(got) != 2 {
			t.Errorf("%q", got)
		}
		l.Close()
		if err := <-served; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve: %v", err)
		}
		if err := q.Serve(newPipes()); err != http.ErrServerClosed {
			t.Errorf("Serve again: %v", err)
		}
	})
}

type troubled struct {
	*pipes
	trouble int
}

func (l *troubled) Accept() (net.Conn, error) {
	if l.trouble > 0 {
		l.trouble--
		return nil, errors.New("too many open files")
	}
	return l.pipes.Accept()
}

func BenchmarkRequest(b *testing.B) {
	for _, quick := range []bool{false, true} {
		b.Run(fmt.Sprint("quick=", quick), func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			srv := &http.Server{IdleTimeout: time.Minute, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				_, _ = w.Write(b)
			})}
			if quick {
				q := &Server{HTTP: srv}
				go q.Serve(l)
				defer q.Close()
			} else {
				go srv.Serve(l)
				defer srv.Close()
			}
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				c, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					b.Error(err)
					return
				}
				defer c.Close()
				req, in := []byte(ask), make([]byte, 1024)
				for p.Next() {
					if _, err := c.Write(req); err != nil {
						b.Error(err)
						return
					}
					if _, err := c.Read(in); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
