package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// serve gives a client of a node that handle plays.
func serve(t *testing.T, handle http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	c, err := New(s.URL+"/", Options{Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return c
}

func lines(text ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		io.WriteString(w, strings.Join(text, "\n")+"\n")
	}
}

const lastLine = `{"bookmark":"b1","meta":{"consistency":"weak","staleness_ms":41.5,"node":"ams-1","pop":"ams","role":"replica","duration_ms":0.25}}`

func TestValues(t *testing.T) {
	c := serve(t, lines(`{"columns":["a","b"],"types":["integer",""]}`,
		`[9223372036854775807,-9223372036854775808]`, `[1.0,1e300]`, `["ü\u0000\"",null]`,
		`[{"base64":"AP8="},{"base64":"AP8"}]`, `[{"float":"inf"},{"float":"-inf"}]`, `[9007199254740993,""]`,
		`{"end":{"rows_affected":3,"last_insert_rowid":9223372036854775807}}`, lastLine))
	res, meta, err := c.Query(t.Context(), "acme", "select")
	if err != nil {
		t.Fatal(err)
	}
	want := [][]wire.Value{
		{wire.Integer(math.MaxInt64), wire.Integer(math.MinInt64)},
		{wire.Float(1), wire.Float(1e300)},
		{wire.Text("ü\x00\""), wire.Null},
		{wire.Blob([]byte{0, 255}), wire.Blob([]byte{0, 255})},
		{wire.Float(math.Inf(1)), wire.Float(math.Inf(-1))},
		{wire.Integer(9007199254740993), wire.Text("")},
	}
	if len(res.Rows) != len(want) {
		t.Fatalf("got %d rows, want %d", len(res.Rows), len(want))
	}
	for i := range want {
		for j := range want[i] {
			if res.Rows[i][j] != want[i][j] {
				t.Errorf("row %d, column %d: got %v, want %v", i, j, res.Rows[i][j], want[i][j])
			}
		}
	}
	if res.Columns[0] != (Column{"a", "integer"}) || res.RowsAffected != 3 || res.LastInsertRowID != math.MaxInt64 || !res.Inserted {
		t.Errorf("got %+v", res)
	}
	if meta != (wire.Meta{Consistency: wire.Weak, Staleness: 41500 * time.Microsecond, Node: "ams-1", PoP: "ams",
		Role: "replica", Duration: 250 * time.Microsecond, Bookmark: "b1"}) {
		t.Errorf("got %+v", meta)
	}
}

func TestRequestIsAsTheAPIHasIt(t *testing.T) {
	var got struct{ uri, auth, key, accept, body string }
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got.uri, got.auth, got.key, got.accept, got.body = r.URL.String(), r.Header.Get("Authorization"),
			r.Header.Get("Idempotency-Key"), r.Header.Get("Accept"), string(b)
		lines(`{"columns":[],"types":[]}`, `{"end":{"rows_affected":0,"last_insert_rowid":null}}`, lastLine)(w, r)
	})
	_, _, err := c.Exec(t.Context(), "acme", &wire.Request{
		Statements: []wire.Statement{
			{SQL: "insert into t values(?,?,?,?,?,?)", Args: []wire.Value{wire.Integer(math.MinInt64), wire.Float(1),
				wire.Float(math.Inf(-1)), wire.Text("<é\n>"), wire.Blob([]byte{0, 255}), wire.Null}},
			{SQL: "select :a", Named: []wire.NamedArg{{Name: "a", Value: wire.Float(1e100)}}},
		},
		Batch: true, Consistency: wire.Weak, MaxStaleness: 1500 * time.Microsecond, FailOnStale: true,
		Timeout: time.Second, Bookmark: "x y", IdempotencyKey: "k",
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := "/v1/tenants/acme/sql?bookmark=x+y&consistency=weak&max_staleness=2ms&on_stale=fail&timeout=1000ms"; got.uri != want {
		t.Errorf("got  %s\nwant %s", got.uri, want)
	}
	if got.auth != "Bearer secret" || got.key != "k" || got.accept != "application/x-ndjson" {
		t.Errorf("got %+v", got)
	}
	var body any
	dec := json.NewDecoder(strings.NewReader(got.body))
	dec.UseNumber()
	if err := dec.Decode(&body); err != nil {
		t.Fatalf("%v in %s", err, got.body)
	}
	if want := `[-9223372036854775808,1.0,{"float":"-inf"},"\u003cé\n\u003e",{"base64":"AP8="},null]`; !strings.Contains(got.body, want) {
		t.Errorf("got %s, want %s", got.body, want)
	}
	if want := `"args":{"a":1e+100}`; !strings.Contains(got.body, want) {
		t.Errorf("got %s, want %s", got.body, want)
	}
}

func TestRequestRefusesWhatJSONCannotSay(t *testing.T) {
	c, err := New("http://127.0.0.1:1", Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = c.Query(t.Context(), "acme", "select ?", wire.Text("\xff"))
	if err == nil || !strings.Contains(err.Error(), "argument 1: text is not valid UTF-8") {
		t.Errorf("got %v", err)
	}
}

func TestStreamHoldsOneRow(t *testing.T) {
	const rows = 1000
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"columns":["x"],"types":["text"]}`+"\n")
		row := `["` + strings.Repeat("x", 5000) + `"]` + "\n"
		for range rows {
			io.WriteString(w, row)
		}
		io.WriteString(w, `{"end":{"rows_affected":0,"last_insert_rowid":null}}`+"\n"+lastLine+"\n")
	})
	a, err := c.Do(t.Context(), "acme", &wire.Request{Statements: []wire.Statement{{SQL: "select"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	n := 0
	for a.NextStatement() {
		for a.NextRow() {
			n++
		}
	}
	if a.Err() != nil || n != rows || a.Meta().Node != "ams-1" {
		t.Fatalf("got %d rows, %v", n, a.Err())
	}
	c.maxAnswer = 1 << 20
	if _, _, err := c.Query(t.Context(), "acme", "select"); err == nil || !strings.Contains(err.Error(), "row by row") {
		t.Errorf("got %v", err)
	}
}

func TestStatementsAreSkipped(t *testing.T) {
	end := `{"end":{"rows_affected":0,"last_insert_rowid":null}}`
	c := serve(t, lines(`{"columns":["x"],"types":[""]}`, `[1]`, `[2]`, end, `{"columns":["y"],"types":[""]}`, `[3]`, end, lastLine))
	a, err := c.Do(t.Context(), "acme", &wire.Request{Statements: make([]wire.Statement, 2)})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	first := a.NextStatement()
	if second := a.NextStatement(); !first || !second || a.Columns()[0].Name != "y" || a.Statement() != 2 {
		t.Fatalf("the second statement was not reached: %v", a.Err())
	}
	if a.NextStatement() || a.Err() != nil || a.Meta().Node == "" {
		t.Fatalf("got %v", a.Err())
	}
}

func TestErrors(t *testing.T) {
	body := `{"error":"no","message":"no such table: t","code":"SQLITE_ERROR","statement":2,"retryable":false}`
	t.Run("before the answer", func(t *testing.T) {
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(http.StatusTooManyRequests)
			io.WriteString(w, `{"error":"busy","code":"OVERLOADED","retryable":true}`)
		})
		_, _, err := c.Query(t.Context(), "acme", "select")
		var we *wire.Error
		if !errors.As(err, &we) || we.Code != wire.CodeOverloaded || we.Message != "busy" || !we.Retryable || we.RetryAfter != 3*time.Second {
			t.Errorf("got %#v", err)
		}
	})
	t.Run("within the answer", func(t *testing.T) {
		c := serve(t, lines(`{"columns":["x"],"types":[""]}`, `[1]`, `{"error":`+body+`}`))
		_, _, err := c.Query(t.Context(), "acme", "select")
		var we *wire.Error
		if !errors.As(err, &we) || we.Code != wire.CodeSQLiteError || we.Message != "no such table: t" || we.Statement != 2 {
			t.Errorf("got %#v", err)
		}
	})
	for name, handle := range map[string]http.HandlerFunc{
		"an empty error":   lines(`{"error":{}}`),
		"a bad error":      lines(`{"error":7}`),
		"another server":   func(w http.ResponseWriter, r *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) },
		"a redirect":       func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://x/", http.StatusFound) },
		"no JSON":          lines("hello"),
		"a lonely row":     lines("[1]"),
		"a wide row":       lines(`{"columns":["x"],"types":[""]}`, `[1,2]`),
		"a boolean":        lines(`{"columns":["x"],"types":[""]}`, `[true]`),
		"a huge integer":   lines(`{"columns":["x"],"types":[""]}`, `[9223372036854775808]`),
		"bad base64":       lines(`{"columns":["x"],"types":[""]}`, `[{"base64":"!"}]`),
		"an unknown line":  lines(`{"colour":1}`),
		"two beginnings":   lines(`{"columns":["x"],"types":[""]}`, `{"columns":["x"],"types":[""]}`),
		"an unknown value": lines(`{"columns":["x"],"types":[""]}`, `[{"x":1}]`),
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := serve(t, handle).Query(t.Context(), "acme", "select")
			var ae *AnswerError
			if !errors.As(err, &ae) {
				t.Errorf("got %v, want an AnswerError", err)
			}
		})
	}
	for name, handle := range map[string]http.HandlerFunc{
		"an early end": lines(`{"columns":["x"],"types":[""]}`, `[1]`),
		"a cut line":   func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"columns":["x"`) },
		"a lost connection": func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"columns":["x"],"types":[""]}`+"\n[1]\n")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := serve(t, handle).Query(t.Context(), "acme", "select")
			var ue *UnreachableError
			if !errors.As(err, &ue) {
				t.Errorf("got %v, want an UnreachableError", err)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		s := httptest.NewServer(http.NotFoundHandler())
		s.Close()
		c, err := New(s.URL, Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Status(t.Context())
		var ue *UnreachableError
		if !errors.As(err, &ue) {
			t.Errorf("got %v, want an UnreachableError", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"columns":["x"],"types":[""]}`+"\n")
			w.(http.Flusher).Flush()
			cancel()
			<-r.Context().Done()
		})
		_, _, err := c.Query(ctx, "acme", "select")
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	})
}

func TestTenants(t *testing.T) {
	record, err := tenant.New(tenant.ID{1}, "acme", tenant.CreateOptions{}, 1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	var uploaded int64
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Method+" "+r.URL.String())
		switch {
		case r.URL.Path == "/v1/tenants" && r.Method == http.MethodGet:
			json.NewEncoder(w).Encode(map[string]any{"tenants": []tenant.Tenant{record}, "next": ""})
		case strings.HasSuffix(r.URL.Path, "/import"):
			uploaded, _ = io.Copy(io.Discard, r.Body)
			json.NewEncoder(w).Encode(record)
		case strings.HasSuffix(r.URL.Path, "/export"):
			io.WriteString(w, "SQLite format 3")
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		default:
			b, _ := io.ReadAll(r.Body)
			if r.Method == http.MethodPost && string(b) != `{"name":"acme","page_size":8192}` {
				t.Errorf("got body %s", b)
			}
			json.NewEncoder(w).Encode(record)
		}
	})
	ctx := t.Context()
	if got, err := c.CreateTenant(ctx, "acme", tenant.CreateOptions{PageSize: 8192}); err != nil || got != record {
		t.Errorf("create: got %+v, %v", got, err)
	}
	if got, err := c.ListTenants(ctx, "a", 10); err != nil || len(got.Tenants) != 1 || got.Tenants[0] != record {
		t.Errorf("list: got %+v, %v", got, err)
	}
	if got, err := c.Tenant(ctx, "a/b"); err != nil || got != record {
		t.Errorf("get: got %+v, %v", got, err)
	}
	const size = 10 << 20
	if _, err := c.Import(ctx, "acme", SQLite, io.LimitReader(zeros{}, size), tenant.CreateOptions{PageSize: 512}); err != nil || uploaded != size {
		t.Errorf("import: %d bytes arrived, %v", uploaded, err)
	}
	r, err := c.Export(ctx, "acme", SQL)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(b, []byte("SQLite format 3")) {
		t.Errorf("export: got %q, %v", b, err)
	}
	if err := c.DeleteTenant(ctx, "acme"); err != nil {
		t.Errorf("delete: %v", err)
	}
	want := []string{"POST /v1/tenants", "GET /v1/tenants?after=a&limit=10", "GET /v1/tenants/a%2Fb",
		"POST /v1/tenants/acme/import?format=sqlite&options=%7B%22page_size%22%3A512%7D", "GET /v1/tenants/acme/export?format=sql", "DELETE /v1/tenants/acme"}
	if strings.Join(seen, "\n") != strings.Join(want, "\n") {
		t.Errorf("got  %q\nwant %q", seen, want)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestNewRefuses(t *testing.T) {
	for _, bad := range []string{"", "127.0.0.1:7600", "ftp://x", "http://", "http://u:p@x", "http://x?y", "http://x#y", "http://\x00"} {
		if _, err := New(bad, Options{}); err == nil {
			t.Errorf("%q is an address", bad)
		}
	}
}
