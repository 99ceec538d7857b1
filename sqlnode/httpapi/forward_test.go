package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nearsql/nearsql/wire"
)

const acmeSQL = "/v1/tenants/acme/sql"

// run is a test on virtual time.

func run(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }

// TestForwardedAnswersAreTheSame sends requests to n1, which has n2 answer them, and to n2.

func TestForwardedAnswersAreTheSame(t *testing.T) {
	run(t, func(t *testing.T) {
		m := newMesh(t, func(c *Config) { c.Origins = []string{"https://app.example"} }, "n1", "n2")
		n1, n2 := m.nodes["n1"], m.nodes["n2"]
		n1.sendsTo("n2")
		database := string(bytesOf(300_000))
		n2.tenants.export = func(w io.Writer) error { _, err := io.WriteString(w, database); return err }
		constraint := func(context.Context, *wire.Request, wire.Sink) (wire.Meta, error) {
			e := wire.NewError(wire.CodeOverloaded, "too much").At(2)
			e.RetryAfter = 1500 * time.Millisecond
			return wire.Meta{}, e
		}
		const form = "Content-Type: application/x-www-form-urlencoded"
		for name, c := range map[string]struct {
			do                 func(context.Context, *wire.Request, wire.Sink) (wire.Meta, error)
			method, path, body string
			headers            []string
		}{
			"json":           {rows(1), "POST", acmeSQL, selectOne, nil},
			"parameters":     {rows(2), "POST", acmeSQL + "?rows=objects&integers=string&max_staleness=3s&bookmark=a%26b", selectOne, []string{"Idempotency-Key: k"}},
			"no rows":        {rows(0), "POST", acmeSQL, selectOne, nil},
			"bare":           {rows(1), "POST", acmeSQL + "?args=[1]", "select ?", []string{"Content-Type: application/sql"}},
			"as curl":        {rows(1), "POST", acmeSQL, selectOne, []string{form}},
			"packed body":    {rows(1), "POST", acmeSQL, pack(selectOne), []string{"Content-Encoding: gzip"}},
			"get":            {rows(1), "GET", acmeSQL + "?q=select%201", "", nil},
			"head":           {rows(1), "HEAD", acmeSQL + "?q=select%201", "", nil},
			"lines":          {rows(3), "POST", acmeSQL, selectOne, []string{"Accept: application/x-ndjson"}},
			"many lines":     {rows(30_000), "POST", acmeSQL, selectOne, []string{"Accept: application/x-ndjson"}},
			"packed lines":   {rows(9_000), "POST", acmeSQL, selectOne, []string{"Accept: application/x-ndjson", "Accept-Encoding: gzip"}},
			"large":          {rows(30_000), "POST", acmeSQL, selectOne, nil},
			"large, packed":  {rows(30_000), "POST", acmeSQL, selectOne, []string{"Accept-Encoding: gzip"}},
			"error":          {constraint, "POST", acmeSQL, selectOne, []string{"X-Request-Id: r-1"}},
			"error of lines": {constraint, "POST", acmeSQL, selectOne, []string{"X-Request-Id: r-1", "Accept: application/x-ndjson", "Accept-Encoding: gzip"}},
			"late error":     {rowsThen(2, wire.NewError(wire.CodeSQLiteError, "no")), "POST", acmeSQL, selectOne, []string{"X-Request-Id: r-1", "Accept: application/x-ndjson"}},
			"head, error":    {constraint, "HEAD", acmeSQL + "?q=select%201", "", []string{"X-Request-Id: r-1"}},
			"of a page":      {rows(1), "POST", acmeSQL, selectOne, []string{"Origin: https://app.example", "Accept-Encoding: gzip"}},
			"no tenant":      {rows(1), "GET", "/v1/tenants/nobody", "", []string{"X-Request-Id: r-1"}},
			"tenants":        {rows(1), "GET", "/v1/tenants?limit=2", "", nil},
			"export":         {rows(1), "GET", "/v1/tenants/acme/export", "", nil},
			"export, packed": {rows(1), "GET", "/v1/tenants/acme/export?format=sql", "", []string{"Accept-Encoding: gzip"}},
			"nodes":          {rows(1), "GET", "/v1/nodes", "", nil},
			"drain":          {rows(1), "POST", "/v1/nodes/n2/drain", "", nil},
			"remove":         {rows(1), "DELETE", "/v1/nodes/n2", "", nil},
			"group":          {rows(1), "GET", "/v1/groups/eu", "", nil},
			"group exists":   {rows(1), "POST", "/v1/groups", `{"name":"eu"}`, []string{"X-Request-Id: r-1"}},
			"new group":      {rows(1), "POST", "/v1/groups", `{"name":"us","voters":["n1","n2"],"target":2}`, nil},
			"move":           {rows(1), "POST", "/v1/groups/eu/move-leader", `{"to":"n2"}`, nil},
		} {
			n2.sql.do = c.do
			before := m.dials("n2")
			got := m.do("n1", c.method, c.path, c.body, c.headers...)
			if m.dials("n2") != before+1 {
				t.Errorf("%s: n2 was asked %d times", name, m.dials("n2")-before)
			}
			seen := n2.sql.last()
			want := m.do("n2", c.method, c.path, c.body, c.headers...)
			for _, h := range []string{"Content-Encoding", "Content-Type", "Content-Disposition", "Nearsql-Bookmark", "Location", "Retry-After", "Vary", "X-Request-Id", "Access-Control-Allow-Origin"} {
				if !reflect.DeepEqual(got.header[h], want.header[h]) {
					t.Errorf("%s: %s: got %q, want %q", name, h, got.header[h], want.header[h])
				}
			}
			if got.header.Get("Content-Encoding") == "gzip" {
				got.body, want.body = unpack(t, got.body), unpack(t, want.body)
			}
			if got.status != want.status || got.body != want.body {
				t.Errorf("%s: got %d, %d bytes %.200q\nwant %d, %d bytes %.200q", name, got.status, len(got.body), got.body, want.status, len(want.body), want.body)
			}
			if last := n2.sql.last(); !reflect.DeepEqual(seen, last) {
				t.Errorf("%s: n2 was asked %+v by n1, %+v by the client", name, seen, last)
			}
		}
		for range len(n2.heads) {
			h := <-n2.heads
			if h.Get("Accept-Encoding") != "identity" || h.Get("Authorization") != "" || h.Get(headerSubject) != "root" || h.Get("X-Request-Id") == "" {
				t.Fatalf("n2 got the headers %v", h)
			}
		}
	})
}

// TestForwardedTenants creates, imports and deletes on n2, by n1.

func TestForwardedTenants(t *testing.T) {
	run(t, func(t *testing.T) {
		m := newMesh(t, nil, "n1", "n2")
		n2 := m.nodes["n2"]
		m.nodes["n1"].sendsTo("n2")
		if a := m.do("n1", "POST", "/v1/tenants", `{"name":"a","page_size":8192,"group":"eu"}`); a.status != 201 || a.header.Get("Location") != "/v1/tenants/a" {
			t.Errorf("got %+v", a)
		}
		if o := n2.tenants.options; o.PageSize != 8192 || o.Group != 7 {
			t.Errorf("got %+v", o)
		}
		if a := m.do("n1", "POST", "/v1/tenants", `{"name":"a"}`); code(t, a) != wire.CodeTenantExists || a.status != 409 {
			t.Errorf("got %+v", a)
		}
		database := bytesOf(3 << 20)
		for name, c := range map[string]struct {
			body    string
			headers []string
		}{"b": {string(database), nil}, "c": {pack(string(database)), []string{"Content-Encoding: gzip"}}} {
			a := m.do("n1", "POST", "/v1/tenants/"+name+`/import?format=sql&options={"group":"eu"}`, c.body, c.headers...)
			if a.status != 201 || !bytes.Equal(n2.tenants.imported.Bytes(), database) || n2.tenants.format != FormatSQL || n2.tenants.options.Group != 7 {
				t.Errorf("%s: got %+v, %d bytes, %q", name, a, n2.tenants.imported.Len(), n2.tenants.format)
			}
		}
		if a := m.do("n1", "POST", "/v1/tenants/d/import", ""); a.status != 201 || n2.tenants.imported.Len() != 0 {
			t.Errorf("nothing: got %+v", a)
		}
		if a := m.do("n1", "DELETE", "/v1/tenants/a", ""); a.status != 204 || a.body != "" {
			t.Errorf("got %+v", a)
		}
		if a := m.do("n2", "GET", "/v1/tenants/a", ""); a.status != 404 {
			t.Errorf("got %+v", a)
		}
	})
}

func code(t *testing.T, a answer) wire.Code {
	t.Helper()
	var e nodeError
	if err := json.Unmarshal([]byte(a.body), &e); err != nil {
		t.Fatalf("%v in %d %q", err, a.status, a.body)
	}
	return e.Code
}

// TestIdentityBetweenNodes: who asks is what the token says on the public listener, and what the node says on the other.

// TestOneHop: a node that was asked by another passes nothing on, and says who could answer; the first asks that one.

// TestTriesAgainUntilANodeAnswers: nothing was sent, or the node surely did nothing.

// TestConnectionBreaks: what is done twice is only what may be, and nobody is told of more than is known.

// TestKeptConnectionBreaks: http.Transport sends requests again by itself when a connection that it kept breaks. What

// follows must not pass for the outcome of all that was sent.

// brokenConn breaks when something comes after broken was set.

// TestStreamsAsItComes: a row is there before the next is made, and an answer that breaks off is seen to.

// TestExportThatBreaksOff is not whole for the client either.

// TestImportIsSentOnce: once some of the body is gone no other node gets it; before that, another does.

// TestClientOfAForwardedRequestGoesAway: the other node stops, too.

// TestSilentNode: a request has an end though another node gives nothing.

// TestTimeShrinks: what is left of a timeout is what the other node gets.

// lazyGzip unpacks what comes, from the first read on.

func TestForwardsAreCounted(t *testing.T) {
	run(t, func(t *testing.T) {
		m := newMesh(t, nil, "n1", "n2")
		n1 := m.nodes["n1"]
		n1.sendsTo("n2")
		m.setFault(func(host string, n int) (int, error) {
			switch {
			case host == "n2" && n == 1:
				return 0, errors.New("refused")
			case host == "n2" && n == 2:
				return 0, nil
			}
			return -1, nil
		})
		if a := m.do("n1", "GET", acmeSQL+"?q=select", ""); a.status != 200 {
			t.Fatalf("got %+v", a)
		}
		m.nodes["n2"].sql.do = rowsThen(0, wire.NewError(wire.CodeSQLiteError, "no"))
		if a := m.do("n1", "GET", acmeSQL+"?q=select", ""); a.status != 400 {
			t.Fatalf("got %+v", a)
		}
		synctest.Wait() // a request is counted when its answer has left
		registry := prometheus.NewRegistry()
		registry.MustRegister(n1.handler.counts)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			for _, one := range f.GetMetric() {
				key := ""
				for _, l := range one.GetLabel() {
					key += " " + l.GetValue()
				}
				got[f.GetName()+key] = one.GetCounter().GetValue()
			}
		}
		for name, want := range map[string]float64{
			"nearsql_http_forwards_total answered": 2, "nearsql_http_forwards_total unreachable": 1, "nearsql_http_forwards_total broken": 1,
			"nearsql_http_requests_total OK sql_get": 1, "nearsql_http_requests_total SQLITE_ERROR sql_get": 1,
		} {
			if got[name] != want {
				t.Errorf("%s is %v, want %v", name, got[name], want)
			}
		}
	})
}

// FuzzNodeIdentity: what is taken for an identity is one that a node would send.
