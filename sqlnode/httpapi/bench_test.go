package httpapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/wire"
)

// BenchmarkPointRead and BenchmarkEcho together say what this layer costs beside net/http: over
// 64 connections, a point read without an engine, and the shortest of JSON handlers.
func BenchmarkPointRead(b *testing.B) {
	f := newFixture(b, nil)
	meta := wire.Meta{Consistency: wire.Weak, Node: "n1", PoP: "ams", Role: "primary"}
	f.sql.do = func(_ context.Context, _ *wire.Request, sink wire.Sink) (wire.Meta, error) {
		if err := sink.Begin(0, testColumns); err != nil {
			return wire.Meta{}, err
		}
		if err := sink.Row(testRow); err != nil {
			return wire.Meta{}, err
		}
		return meta, sink.End(wire.Summary{})
	}
	load(b, f.server.URL+"/v1/tenants/acme/sql")
}

func BenchmarkEcho(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var in struct {
			SQL  string `json:"sql"`
			Args []any  `json:"args"`
		}
		if err == nil {
			err = json.Unmarshal(body, &in)
		}
		if err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		out, _ := json.Marshal(in)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(out)
	}))
	defer s.Close()
	load(b, s.URL)
}

func load(b *testing.B, url string) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}
	defer client.CloseIdleConnections()
	b.SetParallelism(max(1, 64/runtime.GOMAXPROCS(0)))
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			req, err := http.NewRequest("POST", url, strings.NewReader(`{"sql":"select id, name from users where id = ?","args":[12345]}`))
			if err != nil {
				b.Error(err)
				return
			}
			req.Header["Authorization"] = []string{"Bearer root"}
			req.Header["Content-Type"] = jsonType
			resp, err := client.Do(req)
			if err != nil {
				b.Error(err)
				return
			}
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != 200 {
				b.Errorf("%d, %v", resp.StatusCode, err)
				return
			}
		}
	})
}

// nullWriter is a ResponseWriter that costs nothing.
type nullWriter struct{ header http.Header }

func (n *nullWriter) Header() http.Header         { return n.header }
func (n *nullWriter) Write(p []byte) (int, error) { return len(p), nil }
func (n *nullWriter) WriteHeader(int)             {}

type again struct{ strings.Reader }

func (*again) Close() error { return nil }

// BenchmarkHandler is the handler alone.
func BenchmarkHandler(b *testing.B) {
	f := newFixture(b, nil)
	const body = `{"sql":"select id, name from users where id = ?","args":[12345]}`
	in := &again{}
	r := httptest.NewRequest("POST", "/v1/tenants/acme/sql", in)
	r.ContentLength = int64(len(body))
	r.Header["Authorization"] = []string{"Bearer root"}
	r.Header["Content-Type"] = jsonType
	w := &nullWriter{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		in.Reset(body)
		clear(w.header)
		f.handler.ServeHTTP(w, r)
	}
}
