package httpapi

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

const selectOne = `{"sql":"select 1"}`

func pack(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, s)
	_ = z.Close()
	return b.String()
}

func unpack(t *testing.T, s string) string {
	t.Helper()
	z, err := gzip.NewReader(strings.NewReader(s))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSQL(t *testing.T) {
	f := newFixture(t, nil)
	const want = `{"results":[{"columns":["id","name"],"types":["integer","text"],"rows":[[1,"Ada"]],"rows_affected":0,"last_insert_rowid":null}],` +
		`"bookmark":"b7","meta":{"consistency":"weak","staleness_ms":0,"node":"n1","pop":"ams","role":"primary","duration_ms":0.000}}` + "\n"
	a := f.do("POST", "/v1/tenants/acme/sql", `{"sql":"select * from t where id = ?","args":[1]}`)
	if a.status != 200 || a.body != want || a.header.Get("Content-Type") != "application/json" || a.header.Get("Nearsql-Bookmark") != "b7" {
		t.Errorf("got %+v", a)
	}
	got := f.sql.last()
	if !reflect.DeepEqual(*got, wire.Request{Subject: "root", Statements: []wire.Statement{{SQL: "select * from t where id = ?", Args: []wire.Value{wire.Integer(1)}}}}) {
		t.Errorf("got %+v", got)
	}
	a = f.do("POST", "/v1/tenants/acme/sql?rows=objects&integers=string", selectOne)
	if !strings.Contains(a.body, `"rows":[{"id":"1","name":"Ada"}]`) {
		t.Errorf("got %+v", a)
	}

	for name, c := range map[string]struct {
		method, query, body string
		headers             []string
		want                wire.Request
	}{
		"all parameters": {"POST", "?consistency=strong&max_staleness=500ms&bookmark=x%20y&on_stale=fail&timeout=2s&rows=arrays&integers=number", selectOne,
			[]string{"Idempotency-Key: k-1", "Content-Type: application/json; charset=utf-8"},
			wire.Request{Consistency: wire.Strong, MaxStaleness: 500 * time.Millisecond, Bookmark: "x y", FailOnStale: true, Timeout: 2 * time.Second, IdempotencyKey: "k-1"}},
		"any staleness":   {"POST", "?consistency=weak&max_staleness=any&on_stale=forward", selectOne, nil, wire.Request{Consistency: wire.Weak, MaxStaleness: wire.AnyStaleness}},
		"bookmark header": {"POST", "?bookmark=b", selectOne, []string{"Nearsql-Bookmark: b"}, wire.Request{Bookmark: "b"}},
		"bare":            {"POST", "", "select 1", []string{"Content-Type: application/sql"}, wire.Request{}},
		"lines":           {"POST", "", selectOne, []string{"Accept: application/x-ndjson"}, wire.Request{Stream: true}},
		"packed":          {"POST", "", pack(selectOne), []string{"Content-Encoding: gzip"}, wire.Request{}},
		"get":             {"GET", "?q=select%201", "", nil, wire.Request{ReadOnly: true}},
		"batch":           {"POST", "", `{"statements":[{"sql":"select 1"}]}`, nil, wire.Request{Batch: true}},
	} {
		a := f.do(c.method, "/v1/tenants/acme/sql"+c.query, c.body, c.headers...)
		c.want.Subject = "root"
		c.want.Statements = []wire.Statement{{SQL: "select 1"}}
		if got := f.sql.last(); a.status != 200 || !reflect.DeepEqual(*got, c.want) {
			t.Errorf("%s: got %+v, %d %s", name, got, a.status, a.body)
		}
	}
	f.do("GET", "/v1/tenants/acme/sql?q=select+:a&args=%7B%22a%22:%22x%22%7D", "")
	if s := f.sql.last().Statements[0]; s.SQL != "select :a" || !reflect.DeepEqual(s.Named, []wire.NamedArg{{Name: "a", Value: wire.Text("x")}}) {
		t.Errorf("arguments of GET: %+v", s)
	}
}

func TestRefused(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Body = 10_000; c.Statements = 3; c.Arguments = 3 })
	bomb := pack(strings.Repeat(" ", 50<<20) + selectOne)
	if len(bomb) > 100_000 {
		t.Fatal("the bomb is too large")
	}
	smallBomb := pack(strings.Repeat(" ", 1<<20) + selectOne)
	const sql = "/v1/tenants/acme/sql"
	f.sql.do = func(_ context.Context, req *wire.Request, _ wire.Sink) (wire.Meta, error) {
		return wire.Meta{}, errors.New("the engine was reached")
	}
	for name, c := range map[string]struct {
		method, path, body string
		headers            []string
		code               wire.Code
		message            string
	}{
		"malformed JSON":         {"POST", sql, `{"sql":`, nil, wire.CodeBadJSON, "malformed JSON"},
		"no body":                {"POST", sql, ``, nil, wire.CodeBadJSON, "the body ends"},
		"unknown field":          {"POST", sql, `{"sql":"x","arg":[]}`, nil, wire.CodeUnknownField, `"arg"`},
		"wrong type":             {"POST", sql, `{"sql":5}`, nil, wire.CodeBadJSON, "sql: want a string"},
		"NaN":                    {"POST", sql, `{"sql":"x","args":[NaN]}`, nil, wire.CodeBadJSON, "args[0]"},
		"large integer":          {"POST", sql, `{"sql":"x","args":[9223372036854775808]}`, nil, wire.CodeBadArgument, "9223372036854775808"},
		"invalid UTF-8":          {"POST", sql, "{\"sql\":\"\xff\"}", nil, wire.CodeInvalidUTF8, ""},
		"invalid UTF-8, bare":    {"POST", sql, "select '\xff'", []string{"Content-Type: application/sql"}, wire.CodeInvalidUTF8, ""},
		"invalid UTF-8, query":   {"GET", sql + "?q=%ff", "", nil, wire.CodeInvalidUTF8, ""},
		"NUL":                    {"POST", sql, "select 1\x00;", []string{"Content-Type: application/sql"}, wire.CodeBadRequest, "NUL"},
		"NUL, query":             {"GET", sql + "?q=%00", "", nil, wire.CodeBadRequest, "NUL"},
		"too many statements":    {"POST", sql, `{"statements":[{"sql":"a"},{"sql":"a"},{"sql":"a"},{"sql":"a"}]}`, nil, wire.CodeTooManyStatements, ""},
		"too many arguments":     {"POST", sql, `{"sql":"x","args":[1,2,3,4]}`, nil, wire.CodeArgumentCount, ""},
		"too many, query":        {"GET", sql + "?q=x&args=[1,2,3,4]", ``, nil, wire.CodeArgumentCount, ""},
		"more after args":        {"GET", sql + "?q=x&args=[1]2", ``, nil, wire.CodeBadJSON, ""},
		"oversize":               {"POST", sql, strings.Repeat(" ", 10_001), nil, wire.CodeRequestTooLarge, "10000 bytes"},
		"gzip bomb":              {"POST", sql, bomb, []string{"Content-Encoding: gzip"}, wire.CodeRequestTooLarge, ""},
		"small gzip bomb":        {"POST", sql, smallBomb, []string{"Content-Encoding: gzip"}, wire.CodeRequestTooLarge, ""},
		"not gzip":               {"POST", sql, selectOne, []string{"Content-Encoding: gzip"}, wire.CodeBadRequest, "gzip"},
		"cut gzip":               {"POST", sql, pack(selectOne)[:20], []string{"Content-Encoding: gzip"}, wire.CodeBadRequest, ""},
		"encoding":               {"POST", sql, selectOne, []string{"Content-Encoding: br"}, wire.CodeUnsupportedMediaType, "br"},
		"media type":             {"POST", sql, selectOne, []string{"Content-Type: text/plain"}, wire.CodeUnsupportedMediaType, ""},
		"charset":                {"POST", sql, selectOne, []string{"Content-Type: application/json; charset=latin1"}, wire.CodeUnsupportedMediaType, "latin1"},
		"accept":                 {"POST", sql, selectOne, []string{"Accept: text/html"}, wire.CodeNotAcceptable, ""},
		"accept nothing":         {"POST", sql, selectOne, []string{"Accept: application/json;q=0"}, wire.CodeNotAcceptable, ""},
		"unknown parameter":      {"POST", sql + "?staleness=2s", selectOne, nil, wire.CodeBadRequest, `"staleness"`},
		"parameter twice":        {"POST", sql + "?rows=arrays&rows=objects", selectOne, nil, wire.CodeBadRequest, "twice"},
		"malformed parameter":    {"POST", sql + "?rows=%zz", selectOne, nil, wire.CodeBadRequest, "malformed"},
		"consistency":            {"POST", sql + "?consistency=eventual", selectOne, nil, wire.CodeBadRequest, "strong or weak"},
		"max_staleness":          {"POST", sql + "?max_staleness=-2s", selectOne, nil, wire.CodeBadRequest, "max_staleness"},
		"max_staleness, unit":    {"POST", sql + "?max_staleness=2", selectOne, nil, wire.CodeBadRequest, "max_staleness"},
		"timeout":                {"POST", sql + "?timeout=0s", selectOne, nil, wire.CodeBadRequest, "timeout"},
		"on_stale":               {"POST", sql + "?on_stale=wait", selectOne, nil, wire.CodeBadRequest, "on_stale"},
		"rows":                   {"POST", sql + "?rows=csv", selectOne, nil, wire.CodeBadRequest, "rows"},
		"integers":               {"POST", sql + "?integers=float", selectOne, nil, wire.CodeBadRequest, "integers"},
		"q of POST":              {"POST", sql + "?q=x", selectOne, nil, wire.CodeBadRequest, "q is for GET"},
		"args of JSON":           {"POST", sql + "?args=[]", selectOne, nil, wire.CodeBadRequest, "args"},
		"no q":                   {"GET", sql, "", nil, wire.CodeBadRequest, "q"},
		"two bookmarks":          {"POST", sql + "?bookmark=a", selectOne, []string{"Nearsql-Bookmark: b"}, wire.CodeBadRequest, "two bookmarks"},
		"long bookmark":          {"POST", sql, selectOne, []string{"Nearsql-Bookmark: " + strings.Repeat("b", 5000)}, wire.CodeBadBookmark, ""},
		"idempotency key":        {"POST", sql, selectOne, []string{"Idempotency-Key: a b"}, wire.CodeBadRequest, "Idempotency-Key"},
		"empty idempotency key":  {"POST", sql, selectOne, []string{"Idempotency-Key: "}, wire.CodeBadRequest, "Idempotency-Key"},
		"idempotency key of GET": {"GET", sql + "?q=x", "", []string{"Idempotency-Key: a"}, wire.CodeBadRequest, "Idempotency-Key"},
		"unknown tenant":         {"POST", "/v1/tenants/nobody/sql", selectOne, nil, wire.CodeNoSuchTenant, "nobody"},
		"bad name":               {"POST", "/v1/tenants/Acme/sql", selectOne, nil, wire.CodeBadName, "upper-case"},
		"bad name, slash":        {"POST", "/v1/tenants/a%2fb/sql", selectOne, nil, wire.CodeBadName, ""},
		"bad name, dots":         {"POST", "/v1/tenants/%2e%2e/sql", selectOne, nil, wire.CodeNotFound, ""},
		"no token":               {"POST", sql, selectOne, []string{"Authorization: "}, wire.CodeUnauthenticated, ""},
		"bad token":              {"POST", sql, selectOne, []string{"Authorization: Bearer x"}, wire.CodeUnauthenticated, ""},
		"bad scheme":             {"POST", sql, selectOne, []string{"Authorization: Basic cm9vdA=="}, wire.CodeUnauthenticated, "Bearer"},
		"another's tenant":       {"POST", "/v1/tenants/other/sql", selectOne, []string{"Authorization: Bearer acme"}, wire.CodeForbidden, "other"},
		"wrong method":           {"PUT", sql, selectOne, nil, wire.CodeMethodNotAllowed, "POST"},
		"unknown path":           {"GET", "/v2/x", "", nil, wire.CodeNotFound, "/v2/x"},
		"root":                   {"GET", "/", "", nil, wire.CodeNotFound, ""},
		"slash at the end":       {"GET", "/v1/tenants/", "", nil, wire.CodeNotFound, ""},
		"double slash":           {"POST", "/v1//tenants", "", nil, wire.CodeNotFound, ""},
		"dots":                   {"GET", "/v1/../v1/tenants", "", nil, wire.CodeNotFound, ""},
		"fault":                  {"POST", sql, selectOne, nil, wire.CodeInternal, "internal error"},
		"list, not admin":        {"GET", "/v1/tenants", "", []string{"Authorization: Bearer acme"}, wire.CodeForbidden, ""},
		"list, limit":            {"GET", "/v1/tenants?limit=0", "", nil, wire.CodeBadRequest, "limit"},
		"list, parameter":        {"GET", "/v1/tenants?x=0", "", nil, wire.CodeBadRequest, "x"},
		"create, not admin":      {"POST", "/v1/tenants", `{"name":"a"}`, []string{"Authorization: Bearer acme"}, wire.CodeForbidden, ""},
		"create, no name":        {"POST", "/v1/tenants", `{}`, nil, wire.CodeBadRequest, "name"},
		"create, bad name":       {"POST", "/v1/tenants", `{"name":"-"}`, nil, wire.CodeBadName, ""},
		"create, reserved":       {"POST", "/v1/tenants", `{"name":"system"}`, nil, wire.CodeBadName, "reserved"},
		"create, unknown field":  {"POST", "/v1/tenants", `{"name":"a","x":1}`, nil, wire.CodeUnknownField, `"x"`},
		"create, type":           {"POST", "/v1/tenants", `{"name":1}`, nil, wire.CodeBadJSON, "name"},
		"create, malformed":      {"POST", "/v1/tenants", `{`, nil, wire.CodeBadJSON, ""},
		"create, more":           {"POST", "/v1/tenants", `{"name":"a"}{}`, nil, wire.CodeBadJSON, "more"},
		"create, page size":      {"POST", "/v1/tenants", `{"name":"a","page_size":1000}`, nil, wire.CodeBadRequest, "page_size"},
		"create, media type":     {"POST", "/v1/tenants", `{"name":"a"}`, []string{"Content-Type: text/plain"}, wire.CodeUnsupportedMediaType, ""},
		"get, unknown":           {"GET", "/v1/tenants/nobody", "", nil, wire.CodeNoSuchTenant, ""},
		"get, bad name":          {"GET", "/v1/tenants/A", "", nil, wire.CodeBadName, ""},
		"delete, unknown":        {"DELETE", "/v1/tenants/nobody", "", nil, wire.CodeNoSuchTenant, ""},
		"delete, not admin":      {"DELETE", "/v1/tenants/acme", "", []string{"Authorization: Bearer acme"}, wire.CodeForbidden, ""},
		"import, format":         {"POST", "/v1/tenants/a/import?format=csv", "", nil, wire.CodeBadRequest, "format"},
		"import, media type":     {"POST", "/v1/tenants/a/import", "", []string{"Content-Type: text/csv"}, wire.CodeUnsupportedMediaType, ""},
		"import, options":        {"POST", "/v1/tenants/a/import?options=%7B%22x%22:1%7D", "", nil, wire.CodeUnknownField, "options"},
		"import, not gzip":       {"POST", "/v1/tenants/a/import", strings.Repeat("x", 20), []string{"Content-Encoding: gzip"}, wire.CodeBadRequest, "gzip"},
		"import, cut gzip":       {"POST", "/v1/tenants/a/import", pack("xxxxx")[:20], []string{"Content-Encoding: gzip"}, wire.CodeBadRequest, ""},
		"import, not admin":      {"POST", "/v1/tenants/a/import", "x", []string{"Authorization: Bearer acme"}, wire.CodeForbidden, ""},
		"export, format":         {"GET", "/v1/tenants/a/export?format=csv", "", nil, wire.CodeBadRequest, "format"},
		"status, not admin":      {"GET", "/v1/status", "", []string{"Authorization: Bearer acme"}, wire.CodeForbidden, ""},
		"metrics, not admin":     {"GET", "/metrics", "", []string{"Authorization: Bearer acme"}, wire.CodeForbidden, ""},
	} {
		a := f.do(c.method, c.path, c.body, c.headers...)
		var e struct {
			Error, Message string
			Code           wire.Code
			Retryable      *bool
		}
		if err := json.Unmarshal([]byte(a.body), &e); err != nil {
			t.Errorf("%s: %v: %d %s", name, err, a.status, a.body)
			continue
		}
		if e.Code != c.code || a.status != c.code.HTTPStatus() || !strings.Contains(e.Message, c.message) || e.Error != e.Message || e.Retryable == nil {
			t.Errorf("%s: got %d %s, want %s with %q", name, a.status, a.body, c.code, c.message)
		}
		if a.header.Get("Content-Type") != "application/json" || a.header.Get("X-Request-Id") == "" {
			t.Errorf("%s: headers %v", name, a.header)
		}
		if a.status == 405 && a.header.Get("Allow") == "" || a.status == 401 && a.header.Get("Www-Authenticate") == "" {
			t.Errorf("%s: headers %v", name, a.header)
		}
	}
}

// A body without a length is bounded too.
func TestOversizeChunked(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Body = 10_000 })
	req, err := http.NewRequest("POST", f.server.URL+"/v1/tenants/acme/sql", io.MultiReader(strings.NewReader(strings.Repeat(" ", 10_001))))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer root")
	if a := f.send(req); a.status != 413 {
		t.Errorf("got %+v", a)
	}
}

func TestErrorAfterRows(t *testing.T) {
	f := newFixture(t, nil)
	e := wire.NewError(wire.CodeOverloaded, "busy").At(2)
	e.RetryAfter = 1500 * time.Millisecond
	f.sql.do = rowsThen(3, fmt.Errorf("wrapped: %w", e))
	for _, accept := range []string{"application/json", "application/x-ndjson"} { // few rows: nothing has left
		a := f.do("POST", "/v1/tenants/acme/sql", selectOne, "Accept: "+accept, "Accept-Encoding: gzip")
		const want = `{"error":"busy","message":"busy","code":"OVERLOADED","statement":2,"retryable":true,"retry_after_ms":1500}` + "\n"
		if a.status != 429 || a.body != want || a.header.Get("Retry-After") != "2" || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: got %+v", accept, a)
		}
	}
	f.sql.do = rowsThen(100_000, e)
	a := f.do("POST", "/v1/tenants/acme/sql", selectOne, "Accept: application/x-ndjson")
	lines := strings.Split(strings.TrimSpace(a.body), "\n")
	last := lines[len(lines)-1]
	if a.status != 200 || len(lines) != 100_003 || !strings.HasPrefix(last, `{"error":{"error":"busy",`) {
		t.Errorf("got %d, %d lines, the last %s", a.status, len(lines), last)
	}
}

func TestLines(t *testing.T) {
	f := newFixture(t, nil)
	const want = `{"columns":["id","name"],"types":["integer","text"]}
[1,"Ada"]
{"end":{"rows_affected":0,"last_insert_rowid":null}}
{"bookmark":"b7","meta":{"consistency":"weak","staleness_ms":0,"node":"n1","pop":"ams","role":"primary","duration_ms":0.000}}
`
	a := f.do("POST", "/v1/tenants/acme/sql", selectOne, "Accept: application/x-ndjson")
	if a.status != 200 || a.body != want || a.header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("got %+v", a)
	}
	a = f.do("GET", "/v1/tenants/acme/sql?q=select+1", "", "Accept: application/x-ndjson", "Accept-Encoding: br, gzip;q=0.5")
	if a.header.Get("Content-Encoding") != "gzip" || unpack(t, a.body) != want {
		t.Errorf("packed: got %+v", a)
	}
	for accept, lines := range map[string]bool{
		"": false, "*/*": false, "application/*": false, "application/json": false, "application/x-ndjson, application/json": true,
		"application/json, application/x-ndjson": false, "application/json;q=0.5, application/x-ndjson": true, "application/x-ndjson, */*": true,
		"text/html, */*;q=0.1": false, "Application/X-NDJSON; q=1": true,
	} {
		if got, ok := wantsLines([]string{accept}); got != lines || !ok {
			t.Errorf("Accept %q: got %v, %v", accept, got, ok)
		}
	}
}

// A row that another follows late has reached the client by then.
func TestLinesFlow(t *testing.T) {
	f := newFixture(t, nil)
	next := make(chan struct{})
	f.sql.do = func(ctx context.Context, _ *wire.Request, sink wire.Sink) (wire.Meta, error) {
		if err := sink.Begin(0, testColumns); err != nil {
			return wire.Meta{}, err
		}
		// The first flush is due when the answer has been on its way for flushEvery.
		deadline := time.Now().Add(10 * time.Second)
		for time.Now().Before(deadline) {
			if err := sink.Row(testRow); err != nil {
				return wire.Meta{}, err
			}
			select {
			case <-next:
				return testMeta, sink.End(wire.Summary{})
			case <-time.After(flushEvery / 4):
			}
		}
		return wire.Meta{}, errors.New("no row reached the client")
	}
	req, _ := http.NewRequest("POST", f.server.URL+"/v1/tenants/acme/sql", strings.NewReader(selectOne))
	req.Header.Set("Authorization", "Bearer root")
	req.Header.Set("Accept", "application/x-ndjson")
	resp, err := f.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	for range 2 {
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	close(next)
	rest, err := io.ReadAll(in)
	if err != nil || !strings.HasSuffix(string(rest), "}}\n") {
		t.Errorf("got %s, %v", rest, err)
	}
}

func TestClientGoesAway(t *testing.T) {
	f := newFixture(t, nil)
	for _, accept := range []string{"application/json", "application/x-ndjson"} {
		ended := make(chan error, 1)
		started := make(chan struct{})
		f.sql.do = func(ctx context.Context, _ *wire.Request, sink wire.Sink) (wire.Meta, error) {
			err := sink.Begin(0, testColumns)
			close(started)
			for err == nil && accept == "application/x-ndjson" {
				err = sink.Row(testRow)
			}
			<-ctx.Done()
			if err == nil {
				err = ctx.Err()
			}
			ended <- err
			return wire.Meta{}, err
		}
		ctx, cancel := context.WithCancel(context.Background())
		req, _ := http.NewRequestWithContext(ctx, "POST", f.server.URL+"/v1/tenants/acme/sql", strings.NewReader(selectOne))
		req.Header.Set("Authorization", "Bearer root")
		req.Header.Set("Accept", accept)
		done := make(chan struct{})
		go func() {
			defer close(done)
			if resp, err := f.server.Client().Do(req); err == nil {
				<-ctx.Done()
				resp.Body.Close()
			}
		}()
		<-started
		cancel()
		select {
		case err := <-ended:
			var e *wire.Error
			if !errors.Is(err, context.Canceled) && (!errors.As(err, &e) || e.Code != wire.CodeCancelled) {
				t.Errorf("%s: got %v", accept, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: the request goes on", accept)
		}
		<-done
	}
}

// A client that takes nothing is given up.
func TestStalledReader(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Stall = 200 * time.Millisecond })
	ended := make(chan error, 1)
	f.sql.do = func(ctx context.Context, _ *wire.Request, sink wire.Sink) (wire.Meta, error) {
		err := sink.Begin(0, testColumns)
		large := []wire.Value{wire.Integer(1), wire.Text(strings.Repeat("x", 1<<18))} // soon more than sockets hold
		for err == nil {
			err = sink.Row(large)
		}
		ended <- err
		return wire.Meta{}, err
	}
	req, _ := http.NewRequest("POST", f.server.URL+"/v1/tenants/acme/sql", strings.NewReader(selectOne))
	req.Header.Set("Authorization", "Bearer root")
	req.Header.Set("Accept", "application/x-ndjson")
	req.Header.Set("Accept-Encoding", "identity") // packed, equal rows would never fill a socket
	resp, err := f.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrDeadlineExceeded) || wire.AsError(err).Code != wire.CodeCancelled {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the request goes on")
	}
}

// A client that sends nothing more is given up, and a connection that was slow may be used again.
func TestStalledBody(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Stall = 200 * time.Millisecond })
	r, w := io.Pipe()
	defer w.Close()
	req, _ := http.NewRequest("POST", f.server.URL+"/v1/tenants/acme/sql", r)
	req.Header.Set("Authorization", "Bearer root")
	go func() { _, _ = io.WriteString(w, `{"sql":`) }()
	if a := f.send(req); a.status != 504 || !strings.Contains(a.body, `"TIMEOUT"`) {
		t.Errorf("got %+v", a)
	}
	// A request that runs longer than Stall is no stalled body.
	f.sql.do = func(ctx context.Context, req *wire.Request, sink wire.Sink) (wire.Meta, error) {
		select {
		case <-ctx.Done():
			return wire.Meta{}, ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
		return rows(1)(ctx, req, sink)
	}
	if a := f.do("POST", "/v1/tenants/acme/sql", selectOne); a.status != 200 {
		t.Errorf("got %+v", a)
	}
}

func TestAnswerTooLarge(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Answer = 10_000 })
	f.sql.do = rows(10_000)
	if a := f.do("POST", "/v1/tenants/acme/sql", selectOne); a.status != 413 || !strings.Contains(a.body, "ANSWER_TOO_LARGE") {
		t.Errorf("got %d %.200s", a.status, a.body)
	}
	if a := f.do("POST", "/v1/tenants/acme/sql", selectOne, "Accept: application/x-ndjson"); a.status != 200 || strings.Count(a.body, "\n") != 10_003 {
		t.Errorf("got %d %.200s", a.status, a.body)
	}
}

func TestPackedAnswer(t *testing.T) {
	f := newFixture(t, nil)
	f.sql.do = rows(20_000)
	plain := f.do("POST", "/v1/tenants/acme/sql", selectOne)
	packed := f.do("POST", "/v1/tenants/acme/sql", selectOne, "Accept-Encoding: gzip")
	if packed.header.Get("Content-Encoding") != "gzip" || packed.header.Get("Vary") != "Accept-Encoding" || len(packed.body) > len(plain.body)/5 || unpack(t, packed.body) != plain.body {
		t.Errorf("got %v", packed.header)
	}
	f.sql.do = rows(1)
	if a := f.do("POST", "/v1/tenants/acme/sql", selectOne, "Accept-Encoding: gzip"); a.header.Get("Content-Encoding") != "" {
		t.Error("a small answer is packed")
	}
	if a := f.do("POST", "/v1/tenants/acme/sql", selectOne, "Accept-Encoding: gzip;q=0"); a.header.Get("Content-Encoding") != "" {
		t.Error("packed against the client's will")
	}
}

func TestTenants(t *testing.T) {
	f := newFixture(t, nil)
	for _, name := range []string{"a", "b", "c"} {
		a := f.do("POST", "/v1/tenants", `{"name":"`+name+`","page_size":8192}`)
		var got tenant.Tenant
		if err := json.Unmarshal([]byte(a.body), &got); a.status != 201 || string(got.Name) != name || a.header.Get("Location") != "/v1/tenants/"+name {
			t.Errorf("got %+v, %v", a, err)
		}
	}
	if f.tenants.options.PageSize != 8192 {
		t.Errorf("got %+v", f.tenants.options)
	}
	if a := f.do("POST", "/v1/tenants", `{"name":"a"}`); a.status != 409 || !strings.Contains(a.body, "TENANT_EXISTS") {
		t.Errorf("got %+v", a)
	}
	if log := f.log.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "code=TENANT_EXISTS") || !strings.Contains(log, "route=tenant_create") {
		t.Errorf("the log has %s", log)
	}
	page := func(query string) (names []string, next string) {
		a := f.do("GET", "/v1/tenants"+query, "")
		var got struct {
			Tenants []tenant.Tenant
			Next    *string
		}
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != 200 || got.Tenants == nil {
			t.Fatalf("got %+v, %v", a, err)
		}
		for _, one := range got.Tenants {
			names = append(names, string(one.Name))
		}
		if got.Next != nil {
			next = *got.Next
		}
		return names, next
	}
	if names, next := page("?limit=2"); fmt.Sprint(names) != "[a b]" || next != "b" {
		t.Errorf("got %v, %q", names, next)
	}
	if names, next := page("?limit=2&after=b"); fmt.Sprint(names) != "[c]" || next != "" {
		t.Errorf("got %v, %q", names, next)
	}
	if names, _ := page("?after=z"); len(names) != 0 {
		t.Errorf("got %v", names)
	}
	if a := f.do("GET", "/v1/tenants/a", ""); a.status != 200 || !strings.Contains(a.body, `"name":"a"`) {
		t.Errorf("got %+v", a)
	}
	if a := f.do("DELETE", "/v1/tenants/a", ""); a.status != 204 || a.body != "" {
		t.Errorf("got %+v", a)
	}
	if a := f.do("HEAD", "/v1/tenants/a", ""); a.status != 404 {
		t.Errorf("got %+v", a)
	}
}

func TestImport(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Body = 1024 })
	data := strings.Repeat("0123456789", 100_000) // far above Config.Body
	for i, c := range []struct {
		query   string
		body    string
		headers []string
		format  Format
	}{
		{"", data, nil, FormatSQLite},
		{"?format=sql", data, nil, FormatSQL},
		{"", data, []string{"Content-Type: application/sql; charset=utf-8"}, FormatSQL},
		{"?format=sqlite&options=%7B%22group%22:3%7D", pack(data), []string{"Content-Encoding: gzip"}, FormatSQLite},
	} {
		a := f.do("POST", fmt.Sprintf("/v1/tenants/t%d/import%s", i, c.query), c.body, c.headers...)
		if a.status != 201 || f.tenants.format != c.format || f.tenants.imported.String() != data {
			t.Errorf("%d: got %+v, %s", i, a, f.tenants.format)
		}
	}
	if f.tenants.options.Group != 3 {
		t.Errorf("got %+v", f.tenants.options)
	}
	if a := f.do("POST", "/v1/tenants/t0/import", data); a.status != 409 {
		t.Errorf("got %+v", a)
	}
}

func TestExport(t *testing.T) {
	f := newFixture(t, nil)
	data := strings.Repeat("0123456789", 100_000)
	f.tenants.export = func(w io.Writer) error { _, err := io.WriteString(w, data); return err }
	a := f.do("GET", "/v1/tenants/a/export", "")
	if a.status != 200 || a.body != data || a.header.Get("Content-Type") != "application/vnd.sqlite3" ||
		a.header.Get("Content-Disposition") != `attachment; filename="a.sqlite"` || f.tenants.format != FormatSQLite {
		t.Errorf("got %v", a.header)
	}
	a = f.do("GET", "/v1/tenants/a/export?format=sql", "", "Accept-Encoding: gzip")
	if unpack(t, a.body) != data || a.header.Get("Content-Type") != "application/sql" || f.tenants.format != FormatSQL {
		t.Errorf("got %v", a.header)
	}
	f.tenants.export = func(w io.Writer) error { return &tenant.NoSuchTenantError{Name: "a"} }
	if a := f.do("GET", "/v1/tenants/a/export", "", "Accept-Encoding: gzip"); a.status != 404 || a.header.Get("Content-Encoding") != "" {
		t.Errorf("got %+v", a)
	}
	// An error in the midst breaks the connection: no client takes the half for the whole.
	f.tenants.export = func(w io.Writer) error {
		_, err := io.WriteString(w, data)
		return errors.Join(err, errors.New("the disk broke"))
	}
	for _, encoding := range []string{"identity", "gzip"} {
		req, _ := http.NewRequest("GET", f.server.URL+"/v1/tenants/a/export", nil)
		req.Header.Set("Authorization", "Bearer root")
		req.Header.Set("Accept-Encoding", encoding)
		resp, err := f.server.Client().Do(req)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if err == nil {
			t.Errorf("%s: half an export looks whole", encoding)
		}
	}
	if log := f.log.String(); !strings.Contains(log, "the disk broke") || !strings.Contains(log, "tenant=a") {
		t.Errorf("the log has %s", log)
	}
}

func TestNode(t *testing.T) {
	f := newFixture(t, nil)
	if a := f.do("GET", "/v1/status", ""); a.status != 200 || a.body != "{\"node\":\"n1\"}\n" {
		t.Errorf("got %+v", a)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if a := f.do("GET", path, "", "Authorization: "); a.status != 200 || a.body != "{\"ok\":true}\n" {
			t.Errorf("got %+v", a)
		}
	}
	f.status.err = errors.New("no leader")
	if a := f.do("GET", "/readyz", ""); a.status != 503 || !strings.Contains(a.body, "no leader") || !strings.Contains(a.body, "NOT_READY") {
		t.Errorf("got %+v", a)
	}
	if a := f.do("GET", "/healthz", ""); a.status != 200 {
		t.Errorf("got %+v", a)
	}
	f.do("POST", "/v1/tenants/acme/sql", selectOne)
	f.do("POST", "/v1/tenants/acme/sql", "{")
	a := f.do("GET", "/metrics", "")
	for _, want := range []string{
		`nearsql_http_requests_total{code="OK",route="sql"} 1`,
		`nearsql_http_requests_total{code="BAD_JSON",route="sql"} 1`,
		`nearsql_http_rows_total 1`,
		`nearsql_http_request_seconds_count{route="sql"} 2`,
	} {
		if !strings.Contains(a.body, want+"\n") {
			t.Errorf("no %s in %s", want, a.body)
		}
	}
	open := newFixture(t, func(c *Config) { c.OpenMetrics = true })
	if a := open.do("GET", "/metrics", "", "Authorization: "); a.status != 200 {
		t.Errorf("got %+v", a)
	}
}

func TestRequestID(t *testing.T) {
	f := newFixture(t, nil)
	if a := f.do("POST", "/v1/tenants/acme/sql", selectOne, "X-Request-Id: abc-1.2_X"); a.header.Get("X-Request-Id") != "abc-1.2_X" {
		t.Errorf("got %v", a.header)
	}
	for _, bad := range []string{"a b", "a\"", strings.Repeat("x", 65)} {
		if a := f.do("POST", "/v1/tenants/acme/sql", "{", "X-Request-Id: "+bad); len(a.header.Get("X-Request-Id")) != 16 {
			t.Errorf("%q: got %v", bad, a.header)
		}
	}
	f.sql.do = rowsThen(0, errors.New("secret path /data"))
	a := f.do("POST", "/v1/tenants/acme/sql", selectOne, "X-Request-Id: find-me")
	if a.status != 500 || strings.Contains(a.body, "secret") {
		t.Errorf("got %+v", a)
	}
	if log := f.log.String(); !strings.Contains(log, "request=find-me") || !strings.Contains(log, "secret path") {
		t.Errorf("the log has %s", log)
	}
}

func TestCORS(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Origins = []string{"https://app.example"} })
	preflight := []string{"Authorization: ", "Origin: https://app.example", "Access-Control-Request-Method: POST"}
	if a := f.do("OPTIONS", "/v1/tenants/acme/sql", "", preflight...); a.status != 204 ||
		a.header.Get("Access-Control-Allow-Origin") != "https://app.example" || !strings.Contains(a.header.Get("Access-Control-Allow-Headers"), "Nearsql-Bookmark") {
		t.Errorf("got %+v", a)
	}
	if a := f.do("POST", "/v1/tenants/acme/sql", selectOne, "Origin: https://app.example"); a.status != 200 ||
		a.header.Get("Access-Control-Allow-Origin") != "https://app.example" || a.header.Get("Vary") != "Origin" {
		t.Errorf("got %+v", a)
	}
	preflight[1] = "Origin: https://evil.example"
	if a := f.do("OPTIONS", "/v1/tenants/acme/sql", "", preflight...); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("got %+v", a)
	}
	if a := f.do("OPTIONS", "/v1/tenants/acme/sql", ""); a.status != 204 || a.header.Get("Allow") != "POST, GET, HEAD, OPTIONS" {
		t.Errorf("got %+v", a)
	}
	all := newFixture(t, func(c *Config) { c.Origins = []string{"*"} })
	if a := all.do("GET", "/v1/tenants/acme/sql?q=x", "", "Origin: https://a.example"); a.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("got %+v", a)
	}
}

func TestConfig(t *testing.T) {
	for field, change := range map[string]func(*Config){
		"Body":       func(c *Config) { c.Body = 0 },
		"Answer":     func(c *Config) { c.Answer = 0 },
		"Statements": func(c *Config) { c.Statements = 0 },
		"Arguments":  func(c *Config) { c.Arguments = 0 },
		"Stall":      func(c *Config) { c.Stall = 0 },
		"Origins":    func(c *Config) { c.Origins = []string{"app.example"} },
	} {
		cfg := DefaultConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), " "+field+": ") {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := New(DefaultConfig(), Deps{}); err == nil {
		t.Error("nothing to stand on")
	}
}
