package copies

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
)

// big makes a fleet whose last node lacks a tenant of about size bytes.
func (f *fleet) big(size int) *node {
	f.t.Helper()
	last := f.nodes[len(f.nodes)-1]
	last.set(func() { last.away = true })
	f.create(1)
	f.exec(1, "create table t(a)")
	for ; size > 0; size -= 1 << 20 {
		f.exec(1, fmt.Sprintf("insert into t values(randomblob(%d))", min(size, 1<<20)))
	}
	for _, n := range f.nodes[:len(f.nodes)-1] {
		n.tidy()
	}
	last.pass(f.nodes[0])
	return last
}

var errCut = errors.New("connection reset by a test")

// cut ends bodies with an error, each so many bytes after its beginning.
func cut(after ...int64) func(string, *http.Response, error) (*http.Response, error) {
	return func(_ string, r *http.Response, err error) (*http.Response, error) {
		if isCopy(r) && len(after) > 0 {
			err := []error{errCut, io.EOF}[len(after)%2] // the end of a stream is none of a copy
			r.Body = &body{ReadCloser: r.Body, after: after[0], do: func() (int, error) { return 0, err }}
			after = after[1:]
		}
		return r, err
	}
}

// TestResume: a copy that breaks off goes on where it stood, though its tenant was written meanwhile.
func TestResume(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		first := f.nodes[0]
		last := f.big(14 << 20)
		cuts := cut(3<<20, 1, 0, 5<<20, 4<<20+77)
		last.fault = func(from string, r *http.Response, err error) (*http.Response, error) {
			if isCopy(r) {
				f.exec(1, "insert into t values(1)")
			}
			return cuts(from, r, err)
		}
		stop := last.fetch()
		last.healed(time.Minute)
		stop()
		f.same(first, last, 1)
		st := &last.fetcher.Stats
		if st.Resumed.Load() != 5 || st.Fetched.Load() != 1 || st.Errors.Load() != 0 {
			t.Errorf("resumed %d times, fetched %d, %d errors", st.Resumed.Load(), st.Fetched.Load(), st.Errors.Load())
		}
		if n := st.Bytes.Load(); n > 15<<20 {
			t.Errorf("%d bytes were received", n)
		}
		if n := first.server.Stats.Resumed.Load(); n != 5 {
			t.Errorf("the source went on %d times", n)
		}
		if n := first.server.kept.count(); n != 0 {
			t.Errorf("%d states are kept", n)
		}
	})
}

// TestResumeElsewhere: the source dies midway. Another that stands at the same state goes on; one that does not sends all anew.
func TestResumeElsewhere(t *testing.T) {
	for _, moved := range []bool{false, true} {
		bubble(t, 3, func(t *testing.T, f *fleet) {
			first, last := f.nodes[0], f.big(3<<20)
			last.fault = func(from string, r *http.Response, err error) (*http.Response, error) {
				if isCopy(r) && from == first.name {
					r.Body = &body{ReadCloser: r.Body, after: 2 << 20, do: func() (int, error) {
						first.set(func() { first.down = true })
						if moved {
							f.exec(1, "insert into t values(1)")
						}
						return 0, errCut
					}}
				}
				return r, err
			}
			stop := last.fetch()
			last.healed(10 * time.Minute)
			stop()
			first.down = false
			f.same(first, last, 1)
			f.same(f.nodes[1], last, 1)
			n, want := last.fetcher.Stats.Bytes.Load(), int64(3)<<20
			if moved {
				want += 2 << 20
			}
			if n < want || n > want+200<<10 {
				t.Errorf("moved %v: %d bytes were received", moved, n)
			}
		})
	}
}

// TestSourceForgets: a state that is not kept any more costs a copy from its beginning.
func TestSourceForgets(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		first, last := f.nodes[0], f.big(2<<20)
		last.fault = func(_ string, r *http.Response, err error) (*http.Response, error) {
			if isCopy(r) && first.server.Stats.Broken.Load() == 0 {
				r.Body = &body{ReadCloser: r.Body, after: 1 << 20, do: func() (int, error) {
					last.set(func() { first.down = true })
					return 0, errCut
				}}
			}
			return r, err
		}
		stop := last.fetch()
		time.Sleep(30 * time.Second)
		if n := first.server.kept.count(); n != 1 {
			t.Errorf("%d states are kept", n)
		}
		f.exec(1, "insert into t values(1)")
		time.Sleep(50 * time.Second)
		if n := first.server.kept.count(); n != 0 {
			t.Errorf("%d states are kept after %s", n, first.server.cfg.KeepFor)
		}
		first.set(func() { first.down = false })
		last.healed(10 * time.Minute)
		stop()
		f.same(first, last, 1)
	})
}

// TestStandstill: a source that falls silent, at the beginning or midway, is given up.
func TestStandstill(t *testing.T) {
	for _, after := range []int64{0, 1 << 20} {
		bubble(t, 3, func(t *testing.T, f *fleet) {
			first, last := f.nodes[0], f.big(2<<20)
			last.fault = func(from string, r *http.Response, err error) (*http.Response, error) {
				if isCopy(r) && from == first.name {
					ctx, b := r.Request.Context(), r.Body
					r.Body = &body{ReadCloser: b, after: after, do: func() (int, error) {
						<-ctx.Done()
						return 0, ctx.Err()
					}}
				}
				return r, err
			}
			began := time.Now()
			stop := last.fetch()
			last.healed(10 * time.Minute)
			if took := time.Since(began); took < 20*time.Second || took > 5*time.Minute {
				t.Errorf("it took %s", took)
			}
			stop()
			f.same(first, last, 1)
		})
	}
}

// TestTrickle: a source that sends a byte now and then stands still too.
func TestTrickle(t *testing.T) {
	bubble(t, 3, func(t *testing.T, f *fleet) {
		first, last := f.nodes[0], f.big(2<<20)
		last.fault = func(from string, r *http.Response, err error) (*http.Response, error) {
			if isCopy(r) && from == first.name {
				r.Body = &trickle{r.Body, r.Request.Context()}
			}
			return r, err
		}
		stop := last.fetch()
		last.healed(10 * time.Minute)
		stop()
		f.same(first, last, 1)
	})
}

type trickle struct {
	io.ReadCloser
	ctx context.Context
}

func (b *trickle) Read(p []byte) (int, error) {
	select {
	case <-time.After(20 * time.Second):
		return b.ReadCloser.Read(p[:1])
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	}
}

// TestHostile: bytes that are not the tenant's are never taken, wherever they differ; another member's are.
func TestHostile(t *testing.T) {
	bubble(t, 3, func(t *testing.T, f *fleet) {
		first, last := f.nodes[0], f.big(100<<10)
		var whole bytes.Buffer
		must(t, first.tenant(1).WriteCopy(t.Context(), &whole))
		f.exec(1, "insert into t values(1)") // so that no other is like it
		taken := 0
		for at := int64(0); at < int64(whole.Len()); at += 1013 {
			last.fault = func(from string, r *http.Response, err error) (*http.Response, error) {
				if isCopy(r) {
					r.Body = &body{ReadCloser: r.Body, after: at, flip: true}
				}
				return r, err
			}
			err := last.fetcher.fetchFrom(t.Context(), ailing(last, 1), pagestore.Have{}, first.name, nil)
			if err == nil { // LZ4 can say the same in several ways
				taken++
				f.same(first, last, 1)
				last.tenant(1).Failure(errors.New("a test"))
				continue
			}
			var damaged *pagestore.CopyError
			if !errors.As(err, &damaged) {
				t.Fatalf("byte %d: got %v", at, err)
			}
		}
		if taken > 3 {
			t.Errorf("%d damaged copies were taken", taken)
		}
		flip := last.fault
		last.fault = func(from string, r *http.Response, err error) (*http.Response, error) {
			if from == first.name {
				return flip(from, r, err)
			}
			return r, err
		}
		stop := last.fetch()
		last.healed(time.Minute)
		stop()
		f.same(first, last, 1)
		if last.fetcher.Stats.Damaged.Load() == 0 {
			t.Error("no damage was counted")
		}
	})
}

// TestNonsense: answers that are no copies, and ones of another copy, are errors.
func TestNonsense(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		first, last := f.nodes[0], f.big(100<<10)
		for name, h := range map[string]http.HandlerFunc{
			"an empty answer": func(http.ResponseWriter, *http.Request) {},
			"no tag":          func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") },
			"a page of HTML": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("ETag", `"x"`)
				fmt.Fprint(w, "<html>")
			},
			"a redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://n1/", http.StatusFound) },
			"an error":   func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadGateway) },
			"a tag of one character": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("ETag", `"`)
				fmt.Fprint(w, "hello")
			},
			"part of a copy from its beginning": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("ETag", `"x"`)
				w.WriteHeader(http.StatusPartialContent)
			},
		} {
			last.fault = func(from string, r *http.Response, err error) (*http.Response, error) {
				if err == nil {
					r.Body.Close()
				}
				rec := httptest.NewRecorder()
				h(rec, r.Request)
				resp := rec.Result()
				resp.Request = r.Request
				return resp, nil
			}
			last.fetcher.cfg.Standstill = time.Second
			if err := last.fetcher.fetchFrom(t.Context(), ailing(last, 1), pagestore.Have{}, first.name, nil); err == nil {
				t.Errorf("%s: taken", name)
			}
		}
	})
}

// TestReceiverStalls: who takes nothing loses the slot that others wait for, and may come back.
func TestReceiverStalls(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		first := f.nodes[0]
		f.big(2 << 20)
		first.set(func() { first.server = NewServer(ServerConfig{Groups: first, Parallel: 1}) })
		q := request{group: groupID, tenant: id(1), fetch: "a"}
		ask := func(q request) (*http.Response, error) {
			req, err := http.NewRequestWithContext(t.Context(), "GET", q.url(first.name).String(), nil)
			must(t, err)
			return f.transport().RoundTrip(req)
		}
		r, err := ask(q)
		must(t, err)
		defer r.Body.Close()
		_, err = io.CopyN(io.Discard, r.Body, 100)
		must(t, err)
		time.Sleep(29 * time.Second)
		if n := first.server.Stats.Active.Load(); n != 1 {
			t.Fatalf("%d copies are sent", n)
		}
		other, err := ask(request{group: groupID, tenant: id(1), fetch: "b"})
		must(t, err)
		var refused *RefusedError
		if e := readRefusal(first.name, other); !errors.As(e, &refused) || refused.Code != CodeBusy || refused.RetryAfter != time.Second {
			t.Errorf("got %v", e)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := first.server.Stats.Active.Load(); n != 0 {
			t.Fatalf("%d copies are sent", n)
		}
		q.tag, q.offset = r.Header.Get("ETag")[1:len(r.Header.Get("ETag"))-1], 100
		again, err := ask(q)
		must(t, err)
		if again.StatusCode != http.StatusPartialContent {
			t.Errorf("got %s", again.Status)
		}
		_, err = io.Copy(io.Discard, again.Body)
		must(t, err)
		again.Body.Close()
	})
}

// TestKeptIsBounded: receivers that break off and never come back hold no more than Keep states.
func TestKeptIsBounded(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		first := f.nodes[0]
		f.big(2 << 20)
		gone := request{group: groupID, tenant: id(1), fetch: "a", tag: "1-00", offset: 5}
		req, err := http.NewRequestWithContext(t.Context(), "GET", gone.url(first.name).String(), nil)
		must(t, err)
		r, err := f.transport().RoundTrip(req)
		must(t, err)
		if e := readRefusal(first.name, r); e.Code != CodeGone {
			t.Errorf("got %v", e)
		}
		r.Body.Close()
		for i := range 30 {
			q := request{group: groupID, tenant: id(1), fetch: fmt.Sprint(i)}
			req, err := http.NewRequestWithContext(t.Context(), "GET", q.url(first.name).String(), nil)
			must(t, err)
			r, err := f.transport().RoundTrip(req)
			must(t, err)
			r.Body.Close()
			synctest.Wait()
			if n := first.server.kept.count(); n > 8 || n < 0 {
				t.Fatalf("%d states are kept", n)
			}
		}
		time.Sleep(2 * time.Minute)
		if n := first.server.kept.count(); n != 0 {
			t.Fatalf("%d states are kept", n)
		}
	})
}

// TestRate: copies that are sent at once share the rate evenly.
func TestRate(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		first := f.nodes[0]
		f.big(1 << 20)
		first.set(func() { first.server = NewServer(ServerConfig{Groups: first, Rate: 100_000}) })
		began := time.Now()
		ended := make(chan time.Duration)
		for i := range 3 {
			f.wg.Go(func() {
				q := request{group: groupID, tenant: id(1), fetch: fmt.Sprint(i)}
				req, err := http.NewRequestWithContext(f.ctx, "GET", q.url(first.name).String(), nil)
				if err != nil {
					t.Error(err)
				}
				r, err := f.transport().RoundTrip(req)
				if err != nil {
					t.Error(err)
				} else if n, err := io.Copy(io.Discard, r.Body); err != nil || n < 1<<20 {
					t.Error(n, err)
				}
				ended <- time.Since(began)
			})
		}
		for range 3 {
			if d := <-ended; d < 29*time.Second || d > 34*time.Second {
				t.Errorf("one of three copies of 1 MiB took %s", d)
			}
		}
	})
}

// count is how many states there are; those that nobody reads are counted right.
func (k *kept) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	idle := 0
	for _, p := range k.mu.pins {
		if p.cancel == nil {
			idle++
		}
	}
	if idle != k.mu.idle {
		return -1
	}
	return len(k.mu.pins)
}
