package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/cluster/clustertest"
)

// serveHTTP answers other nodes' requests until the test ends.
func serveHTTP(t *testing.T, n running, h http.Handler) {
	t.Helper()
	l, err := n.HTTPListener()
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ConnContext: cluster.ConnContext}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
}

func get(ctx context.Context, n running, url string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	answer, err := (&http.Client{Transport: n.HTTPTransport()}).Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	return string(b), err
}

func wantGet(t *testing.T, n running, url, want string) {
	t.Helper()
	if got, err := get(t.Context(), n, url); err != nil || got != want {
		t.Fatalf("%s: got %q, %v; want %q", url, got, err, want)
	}
}

// whoAsks answers with the two nodes of the request.
func whoAsks(self string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, ok := cluster.FromContext(r.Context())
		fmt.Fprintf(w, "%s asks %s for %s, %v", from, self, r.URL.Path, ok)
	})
}

func TestHTTP(t *testing.T) {
	for _, secured := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secured), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := clustertest.New(clustertest.Options{})
				network.SetDelayBoth("n1", "n2", 50*time.Millisecond)
				cfg1, cfg2 := configure(t, network, "n1"), configure(t, network, "n2")
				if secured {
					dir := authority(t, "n1", "n2")
					cfg1, cfg2 = secure(t, cfg1, dir, "n1"), secure(t, cfg2, dir, "n2")
				}
				n1, n2 := run(t, cfg1), run(t, cfg2)
				serveHTTP(t, n1, whoAsks("n1"))
				for range 10 {
					wantGet(t, n2, "http://n1/a", "n2 asks n1 for /a, true")
				}
				if s := n2.Stats(); s.Dialled != 1 || s.Open != 1 {
					t.Errorf("stats %+v", s)
				}
				begin := time.Now()
				wantGet(t, n2, "http://n1/b", "n2 asks n1 for /b, true")
				wantTook(t, begin, 100*time.Millisecond) // a round trip, and no more
				// Idle connections go.
				time.Sleep(2 * time.Minute)
				if s := n2.Stats(); s.Open != 0 {
					t.Errorf("stats %+v", s)
				}
			})
		})
	}
}

func TestHTTPPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := clustertest.New(clustertest.Options{})
		cfg := configure(t, network, "n2")
		cfg.HTTPConnsPerNode, cfg.HTTPIdlePerNode = 3, 2
		n1, n2 := start(t, network, "n1"), run(t, cfg)
		n3 := start(t, network, "n3")
		busy := make(chan int, 100)
		serveHTTP(t, n1, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			busy <- n2.Stats().Open
			time.Sleep(time.Second)
		}))
		serveHTTP(t, n3, whoAsks("n3"))
		var wg sync.WaitGroup
		begin := time.Now()
		for range 9 {
			wg.Go(func() {
				if _, err := get(t.Context(), n2, "http://n1/"); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		wantGet(t, n2, "http://n3/", "n2 asks n3 for /, true") // nobody waits for another node
		wantTook(t, begin, 0)
		wg.Wait()
		wantTook(t, begin, 3*time.Second)
		synctest.Wait()
		if s := n2.Stats(); s.Open != 3 { // two that are idle, and n3's
			t.Errorf("stats %+v", s)
		}
		close(busy)
		for open := range busy {
			if open > 4 {
				t.Errorf("%d connections at a time", open)
			}
		}
	})
}

func TestHTTPCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := clustertest.New(clustertest.Options{})
		network.SetDelayBoth("n1", "n2", 10*time.Millisecond)
		n1, n2 := start(t, network, "n1"), start(t, network, "n2")
		ended := make(chan struct{})
		serveHTTP(t, n1, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			close(ended)
		}))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		if _, err := get(ctx, n2, "http://n1/"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		<-ended // the other node knows

		// A request to who can't be reached ends with its context, too.
		network.CutBoth("n1", "n2")
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if _, err := get(ctx, n2, "http://n1/"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		wantTook(t, begin, time.Second)
	})
}

func TestHTTPErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := clustertest.New(clustertest.Options{})
		n1, n2 := start(t, network, "n1"), start(t, network, "n2")
		_, err := get(t.Context(), n2, "http://n1/")
		wantRefused(t, err, cluster.CodeUnknownPurpose)
		_, err = get(t.Context(), n2, "http://n9/")
		wantUnreachable(t, err, nil)
		for url, text := range map[string]string{"http://n1:7600/": "without a port", "https://n1/": "http: URLs", "http://N1/": "only a-z"} {
			if _, err := get(t.Context(), n2, url); err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v", url, err)
			}
		}
		serveHTTP(t, n1, whoAsks("n1"))
		if _, err := n1.HTTPListener(); err == nil {
			t.Error("two listeners")
		}
		wantGet(t, n2, "http://n1/", "n2 asks n1 for /, true")
		// The node starts again; a connection of its old life is no hindrance.
		network.Kill("n1")
		_ = n1.stop()
		serveHTTP(t, start(t, network, "n1"), whoAsks("the new n1"))
		wantGet(t, n2, "http://n1/", "n2 asks the new n1 for /, true")
	})
	if _, ok := cluster.FromContext(t.Context()); ok {
		t.Error("a context of no connection has a node")
	}
}

// TestHTTPLargeBodies goes beyond the window both ways.
func TestHTTPLargeBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := clustertest.New(clustertest.Options{Window: 64 << 10})
		network.SetDelayBoth("n1", "n2", 10*time.Millisecond)
		n1, n2 := start(t, network, "n1"), start(t, network, "n2")
		serveHTTP(t, n1, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			_, _ = w.Write(b)
		}))
		body := strings.Repeat("0123456789abcdef", 1<<16)
		answer, err := (&http.Client{Transport: n2.HTTPTransport()}).Post("http://n1/", "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		got, err := io.ReadAll(answer.Body)
		if err != nil || string(got) != body {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	})
}
