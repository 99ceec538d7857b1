package copies

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// served is what a request reads as at the far end.
func served(t interface{ Fatal(...any) }, url string) (q request, err error) {
	mux := http.NewServeMux()
	called := false
	mux.HandleFunc(pattern, func(_ http.ResponseWriter, r *http.Request) { called = true; q, err = parseRequest(r) })
	mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", url, nil))
	if !called {
		t.Fatal("no route for " + url)
	}
	return q, err
}

// TestRequest: what is asked for is what is understood.
func TestRequest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := request{
			group:  wire.GroupID(rapid.Uint32().Draw(t, "group")),
			tenant: id(rapid.IntRange(0, 65535).Draw(t, "tenant")),
			fetch:  rapid.StringN(1, 16, maxFetch).Draw(t, "fetch"),
			index:  rapid.Uint64().Draw(t, "index"),
			tag:    rapid.String().Draw(t, "tag"),
		}
		if q.tag != "" {
			q.offset = rapid.Int64Min(0).Draw(t, "offset")
		}
		if rapid.Bool().Draw(t, "has") {
			q.have = pagestore.Have{Epoch: wire.Epoch(rapid.Uint32().Draw(t, "epoch")), State: pagestore.State{
				TXID: wire.TXID(rapid.Uint64Min(1).Draw(t, "txid")), Checksum: wire.Checksum(rapid.Uint64().Draw(t, "sum")), Pages: rapid.Uint32().Draw(t, "pages")}}
		}
		got, err := served(t, q.url("n1").RequestURI())
		if err != nil || got != q {
			t.Fatalf("got  %+v (%v)\nwant %+v", got, err, q)
		}
	})
}

func TestBadRequests(t *testing.T) {
	at := Prefix + "2/tenants/" + id(1).String() + "/copy"
	for _, url := range []string{
		at,
		at + "?fetch=a",
		at + "?fetch=a&index=-1",
		at + "?fetch=" + strings.Repeat("a", 65) + "&index=1",
		at + "?fetch=a&index=1&have=1-2",
		at + "?fetch=a&index=1&have=1-2-3-4-5",
		at + "?fetch=a&index=1&have=1-2-3-4+end",
		at + "?fetch=a&index=1&have=1-2-x-4",
		at + "?fetch=a&index=1&tag=x",
		at + "?fetch=a&index=1&tag=x&offset=-1",
		Prefix + "x/tenants/" + id(1).String() + "/copy?fetch=a&index=1",
		Prefix + "2/tenants/1/copy?fetch=a&index=1",
	} {
		if q, err := served(t, url); err == nil {
			t.Errorf("%s: got %+v", url, q)
		}
		w := httptest.NewRecorder()
		NewServer(ServerConfig{}).ServeHTTP(w, httptest.NewRequest("GET", url, nil))
		if e := readRefusal("n1", w.Result()); e.Code != CodeBad || w.Code != http.StatusBadRequest {
			t.Errorf("%s: refused with %d, %v", url, w.Code, e)
		}
	}
}

func TestRefusal(t *testing.T) {
	for _, c := range []Code{CodeBad, CodeNoGroup, CodeNoTenant, CodeHollow, CodeFailed, CodeStale, CodeStaging, CodeGone, CodeBusy, CodeInternal} {
		e := &RefusedError{Code: c, Text: "a <text>", Have: 1, Want: 2, RetryAfter: 1500 * time.Millisecond}
		w := httptest.NewRecorder()
		e.write(w)
		got := readRefusal("n1", w.Result())
		if want := (RefusedError{"n1", c, e.Text, 1, 2, 2 * time.Second}); *got != want {
			t.Errorf("got  %+v\nwant %+v", *got, want)
		}
		if w.Code < 400 {
			t.Errorf("%s: status %d", c, w.Code)
		}
	}
}

func FuzzRequest(f *testing.F) {
	q := request{group: 2, tenant: id(1), fetch: "a", have: pagestore.Have{Epoch: 1, State: pagestore.State{TXID: 2, Checksum: 3, Pages: 4}}, tag: "x", offset: 5}
	f.Add(q.url("n1").RawQuery)
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.RawQuery = query
		r.SetPathValue("group", "2")
		r.SetPathValue("tenant", id(1).String())
		if q, err := parseRequest(r); err == nil && (q.offset < 0 || q.fetch == "" || len(q.fetch) > maxFetch) {
			t.Fatalf("%+v", q)
		}
	})
}

func FuzzRefusal(f *testing.F) {
	f.Add(`{"code":"BUSY","error":"x"}`, "1")
	f.Fuzz(func(t *testing.T, body, after string) {
		w := httptest.NewRecorder()
		_, _ = w.WriteString(body)
		r := w.Result()
		r.Header.Set("Retry-After", after)
		if e := readRefusal("n1", r); e.Code == "" || e.RetryAfter < 0 || e.RetryAfter > time.Hour {
			t.Fatalf("%+v", e)
		}
	})
}
