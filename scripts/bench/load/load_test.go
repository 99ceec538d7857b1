package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestHistogramIsExactTo1In64(t *testing.T) {
	for _, d := range []time.Duration{0, 1, 63, 64, 127, 128, 1000, 123456, time.Second, 48 * time.Hour, 1<<63 - 1} {
		b := bucket(uint64(d))
		hi, lo := top(b), time.Duration(-1)
		if b > 0 {
			lo = top(b - 1)
		}
		if d > hi || d <= lo || hi-d > d/64+1 {
			t.Errorf("%d is in bucket %d, which is (%d, %d]", d, b, lo, hi)
		}
	}
	var h Histogram
	if q := h.Quantile(0.5); q != 0 {
		t.Errorf("median of nothing: %s", q)
	}
	for i := range 1000 {
		h.Add(time.Duration(i+1) * time.Microsecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Microsecond, 0.99: 990 * time.Microsecond, 1: time.Millisecond} {
		if got := h.Quantile(q); got < want || got > want+want/50 {
			t.Errorf("quantile %v: got %s, want %s", q, got, want)
		}
	}
}

func TestRun(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]int{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		seen[string(b)]++
		mu.Unlock()
		if r.Header.Get("Authorization") != "Bearer key" || r.URL.Path != "/x" {
			w.WriteHeader(403)
			return
		}
		if len(b)%2 == 0 {
			w.(http.Flusher).Flush() // makes the answer chunked
			io.WriteString(w, strings.Repeat("long", 5000))
		}
		w.Write(b)
	}))
	defer s.Close()
	addr := strings.TrimPrefix(s.URL, "http://")
	p, err := Dial(addr, 5)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	run := Run{Requests: 101,
		Request: func(dst []byte, i int64) []byte {
			return AppendPost(dst, addr, "/x", "key", fmt.Appendf(nil, "%d", i))
		},
		Check: func(i int64, status int, body []byte) error {
			want := fmt.Sprint(i)
			if len(want)%2 == 0 {
				want = strings.Repeat("long", 5000) + want
			}
			if status != 200 || string(body) != want {
				return fmt.Errorf("status %d, %d bytes", status, len(body))
			}
			return nil
		}}
	for range 2 {
		res, err := p.Run(context.Background(), run)
		if err != nil {
			t.Fatal(err)
		}
		if res.Requests != 101 || res.Latency.Quantile(1) > res.Elapsed+res.Elapsed/50 || res.PerSecond() <= 0 {
			t.Errorf("%d requests in %s, slowest %s", res.Requests, res.Elapsed, res.Latency.Quantile(1))
		}
	}
	if len(seen) != 202 {
		t.Errorf("%d different requests came, want 202", len(seen))
	}
	run.Request = func(dst []byte, i int64) []byte { return AppendPost(dst, addr, "/y", "key", nil) }
	run.Check = nil
	var status *StatusError
	if _, err := p.Run(context.Background(), run); !errors.As(err, &status) || status.Status != 403 {
		t.Errorf("a refused request: %v", err)
	}
	if _, err := p.Run(context.Background(), Run{Request: run.Request}); err == nil {
		t.Error("a run without an end was begun")
	}
}
