package quickhttp

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// drawCommon is a request of the kind that is served here.
func drawCommon(t *rapid.T) string {
	path := rapid.SampledFrom([]string{"/dump", "/v1/tenants/acme/sql", "/stream", "/pieces", "/flushed", "/none", "/notmodified", "/short", "/long", "/exact", "/close",
		"/split", "/empty", "/panic", "/html"}).Draw(t, "path")
	query := rapid.SampledFrom([]string{"", "?n=1", "?n=4000", "?n=16384", "?n=20000", "?n=100000", "?a=b&c=%20"}).Draw(t, "query")
	lines := []string{"GET " + path + query + " HTTP/1.1", "Host: a:1"}
	body := ""
	if rapid.Bool().Draw(t, "post") {
		body = strings.Repeat("y", rapid.SampledFrom([]int{0, 1, 100, 4095, 9000, maxBody}).Draw(t, "size"))
		lines = []string{"POST " + path + query + " HTTP/1.1", fmt.Sprint("content-length:", len(body)), "Host: localhost"}
	}
	for range rapid.IntRange(0, 4).Draw(t, "fields") {
		lines = append(lines, rapid.SampledFrom([]string{"Accept: */*", "accept-encoding: gzip", "X-A: 1", "x-a: 2", "Authorization:Bearer abc", "connection: Keep-Alive", "X-Empty:",
			"X-Blank:   ", "Cookie: a=b", "Cookie: c=d", "X-Big: " + strings.Repeat("b", 3000)}).Draw(t, "field"))
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

// drawRequest is a request as clients send them, with here and there something that they seldom send, or should not.
func drawRequest(t *rapid.T) string {
	path := rapid.SampledFrom([]string{"/dump", "/dump", "/v1/tenants/acme/sql", "/stream", "/pieces", "/flushed", "/none", "/notmodified", "/short", "/long", "/exact",
		"/close", "/split", "/empty", "/panic", "/html", "//dump", "/a%2fb", "/dump/", "/d\"", "*", "http://other/dump", "/ü"}).Draw(t, "path")
	query := rapid.SampledFrom([]string{"", "", "?", "?n=0", "?n=1", "?n=4000", "?n=20000", "?n=100000", "?a=b&c=%20", "?a=b#c", "?a=ü", "?a;b", "?a?b"}).Draw(t, "query")
	method := rapid.SampledFrom([]string{"POST", "POST", "POST", "GET", "HEAD", "PUT", "OPTIONS", "get", "P OST", ""}).Draw(t, "method")
	proto := rapid.SampledFrom([]string{"HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "http/1.1", ""}).Draw(t, "proto")
	eol := rapid.SampledFrom([]string{"\r\n", "\r\n", "\r\n", "\r\n", "\n"}).Draw(t, "eol")
	size := rapid.SampledFrom([]int{0, 1, 50, 5000, maxBody, maxBody + 1}).Draw(t, "size")
	body := strings.Repeat("x", size)
	lines := []string{method + " " + path + query + " " + proto}
	if n := rapid.SampledFrom([]int{1, 1, 1, 1, 0, 2}).Draw(t, "hosts"); n > 0 {
		for range n {
			lines = append(lines, "Host: "+rapid.SampledFrom([]string{"localhost:4100", "a.b", "[::1]:80", "a b", "a/b", ""}).Draw(t, "host"))
		}
	}
	switch rapid.IntRange(0, 9).Draw(t, "length") {
	case 0:
		body = ""
	case 1:
		body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", size, body)
		if size == 0 {
			body = "0\r\n\r\n"
		}
		lines = append(lines, "Transfer-Encoding: chunked")
	case 2:
		lines = append(lines, "Content-Length: "+rapid.SampledFrom([]string{"", "-1", "+1", "x", "1 1", "01", "99999999999999999999", " 3 "}).Draw(t, "bad length"))
	case 3:
		lines = append(lines, fmt.Sprint("Content-Length: ", size), fmt.Sprint("Content-Length: ", size))
	default:
		lines = append(lines, fmt.Sprint("Content-Length: ", size))
	}
	for range rapid.IntRange(0, 4).Draw(t, "fields") {
		lines = append(lines, rapid.SampledFrom([]string{"Accept: */*", "accept-encoding: gzip", "X-A: 1", "x-a: 2", "Authorization: Bearer abc", "Content-Type: application/json",
			"Connection: keep-alive", "connection: Keep-Alive", "Connection: close", "Connection: upgrade", "Upgrade: websocket", "Expect: 100-continue", "Expect: x", "X-Empty:", "X-Blank:   ",
			"X-Tab:\ta\tb\t", " folded", "X A: b", "X_A: b", "X-Ü: a", "X-V: ü", "X-C: \x01", ": none", "none", "X-Big: " + strings.Repeat("b", 9000), "Pragma: no-cache",
			"Trailer: X-T", "TE: trailers", "Cookie: a=b", "Cookie: c=d", "Transfer-Encoding: identity", "Nearsql-Bookmark: x", "!a: b", "Keep-Alive: timeout=5"}).Draw(t, "field"))
	}
	return strings.Join(lines, eol) + eol + eol + body
}

// Whatever bytes come in whatever pieces, the answers are those of net/http.
func TestAsNetHTTP(t *testing.T) {
	t.Parallel()
	quickly := 0
	rapid.Check(t, func(rt *rapid.T) {
		var text strings.Builder
		for range rapid.IntRange(1, 4).Draw(rt, "requests") {
			if rapid.IntRange(0, 3).Draw(rt, "odd") > 0 {
				text.WriteString(drawCommon(rt))
			} else {
				text.WriteString(drawRequest(rt))
			}
		}
		all := text.String()
		if rapid.IntRange(0, 5).Draw(rt, "cut") == 0 {
			all = all[:rapid.IntRange(0, len(all)).Draw(rt, "at")]
		}
		piece := rapid.SampledFrom([]int{1 << 20, 1 << 20, 4096, 1000, 77}).Draw(rt, "piece")
		pause := rapid.SampledFrom([]time.Duration{0, time.Second, 11 * time.Second}).Draw(rt, "pause")
		var heard [2][]string
		for i := range heard {
			synctest.Test(t, func(t *testing.T) {
				w := start(t, http.HandlerFunc(play), i == 1)
				defer w.end(t)
				c := w.client()
				defer c.Close()
				half := len(all) / 2
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					c.send(all[:half], piece)
					if pause > 0 && pause < 10*time.Second { // slower ones may be cut off a little later here
						time.Sleep(pause)
					}
					c.send(all[half:], piece)
				}()
				time.Sleep(8 * time.Second)
				heard[i] = c.heard()
				c.Close()
				<-sent
				if w.log.Len() > 0 {
					rt.Logf("%d: %s", i, w.log)
				}
			})
		}
		if !reflect.DeepEqual(heard[0], heard[1]) {
			rt.Fatalf("%.2000q\nnet/http: %.3000q\nhere:     %.3000q", all, heard[0], heard[1])
		}
		if _, how := parseHead([]byte(all), 0); how == common {
			quickly++
		}
	})
	t.Logf("%d began with a common request", quickly)
	if quickly == 0 {
		t.Error("no common request was drawn")
	}
}

// checkHead holds a head against what net/http reads.
func checkHead(t *testing.T, b []byte) {
	h, how := parseHead(b, 0)
	for n := 0; n <= min(len(b), 300); n++ { // bytes that came earlier never change the verdict
		early, v := parseHead(b[:n], 0)
		if v == other && how != other || v == common && (how != common || early.size != h.size) {
			t.Fatalf("%q is %v at %d bytes, %v at all", b, v, n, how)
		}
		if v != more {
			continue
		}
		if again, v := parseHead(b, n); v != how || v == common && again.size != h.size {
			t.Fatalf("%q is %v after a look at %d bytes, %v at once", b, v, n, how)
		}
	}
	if how != common {
		return
	}
	b = append(b[:h.size:h.size], make([]byte, h.body)...)
	want, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		t.Fatalf("%q is no request: %v", b, err)
	}
	if want.Host == "" || want.ProtoMinor != 1 || len(want.TransferEncoding) > 0 || want.Close {
		t.Fatalf("%q is not common", b)
	}
	sent, err := io.ReadAll(want.Body)
	if err != nil || len(sent) != h.body {
		t.Fatalf("%q has a body of %d, %v; want %d", b, len(sent), err, h.body)
	}
	got := h.request(t.Context(), "", new(body))
	want.Body, got.Body = nil, nil
	if want.ContentLength != got.ContentLength || want.RequestURI != got.RequestURI || want.Host != got.Host || want.Method != got.Method ||
		!reflect.DeepEqual(want.URL, got.URL) || !reflect.DeepEqual(want.Header, got.Header) {
		t.Fatalf("%q\nnet/http: %+v\nhere:     %+v", b, want, got)
	}
}

func FuzzHead(f *testing.F) {
	for _, s := range []string{
		"POST /v1/tenants/a/sql HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
		"GET /?a=b HTTP/1.1\r\nHost: [::1]:1\r\nAccept: */*\r\naccept: b\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nX:\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
		"GET // HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(checkHead)
}
