package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestCheckDebug(t *testing.T) {
	for listen, want := range map[string]string{
		"": "", "127.0.0.1:0": "", "localhost:6060": "", "[::1]:6060": "",
		"0.0.0.0:6060": "loopback only", ":6060": "loopback only", "10.0.0.1:6060": "loopback only", "node.example:6060": "loopback only",
		"6060": "want HOST:PORT",
	} {
		err := checkDebug(listen)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %q", listen, err, want)
		}
		if err != nil && exitCode(err) != exitUsage {
			t.Errorf("%v is no usage error", err)
		}
	}
}

func TestDebugServesProfiles(t *testing.T) {
	var log strings.Builder
	end, err := serveDebug(t.Context(), settings{DebugListen: "127.0.0.1:0", Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	_, url, _ := strings.Cut(strings.TrimSpace(log.String()), "url=")
	resp, err := http.Get(url + "goroutine?debug=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || !strings.Contains(string(body), "TestDebugServesProfiles") {
		t.Errorf("%s, %v: %.200s", resp.Status, err, body)
	}
	end()
	if _, err := http.Get(url); err == nil {
		t.Error("it serves after its end")
	}
}

// A page of a browser that has resolved a name of its own to this machine gets nothing.
func TestDebugKnowsItsAddress(t *testing.T) {
	h := debugHandler("127.0.0.1:6060")
	for host, want := range map[string]int{"127.0.0.1:6060": 200, "localhost:6060": 200, "evil.example:6060": http.StatusMisdirectedRequest, "127.0.0.1": http.StatusMisdirectedRequest} {
		r, w := httptest.NewRequest("GET", "/debug/pprof/", nil), httptest.NewRecorder()
		r.Host = host
		if h.ServeHTTP(w, r); w.Code != want {
			t.Errorf("host %s: status %d, want %d", host, w.Code, want)
		}
	}
}
