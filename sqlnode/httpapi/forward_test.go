package httpapi

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
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
func TestIdentityBetweenNodes(t *testing.T) {
	run(t, func(t *testing.T) {
		m := newMesh(t, nil, "n1", "n2")
		m.nodes["n1"].sendsTo("n2")
		n2 := m.nodes["n2"]
		ctx := t.Context()
		a, err := m.ask(ctx, "pub.n1", "POST", acmeSQL, strings.NewReader(selectOne), "Authorization: Bearer both", "Idempotency-Key: k", "Content-Type: application/json")
		if err != nil || a.status != 200 {
			t.Fatalf("got %+v, %v", a, err)
		}
		if r := n2.sql.last(); r.Subject != "both-key" || r.IdempotencyKey != "k" {
			t.Errorf("got %+v", r)
		}
		if h := <-n2.heads; h.Get(headerRights) != `{"tenants":["acme"]}` || h.Get(headerHops) != "1" {
			t.Errorf("got %v", h)
		}
		inner := []string{headerSubject + ": root", headerRights + `: {"admin":true}`, headerHops + ": 1"}
		for name, c := range map[string]struct {
			host, path string
			headers    []string
			want       wire.Code
		}{
			"by a node":                    {"n2", "/v1/tenants", inner, ""},
			"headers on the public side":   {"pub.n2", "/v1/tenants", inner, wire.CodeUnauthenticated},
			"headers beside a lesser one":  {"pub.n2", "/v1/tenants", append([]string{"Authorization: Bearer acme"}, inner...), wire.CodeForbidden},
			"headers of one passed on":     {"pub.n1", "/v1/tenants", append([]string{"Authorization: Bearer acme"}, inner...), wire.CodeForbidden},
			"no headers":                   {"n2", "/v1/tenants", nil, wire.CodeUnauthenticated},
			"a token for a node":           {"n2", "/v1/tenants", []string{"Authorization: Bearer root"}, wire.CodeUnauthenticated},
			"no rights":                    {"n2", "/v1/tenants", []string{inner[0], inner[2]}, wire.CodeUnauthenticated},
			"no subject":                   {"n2", "/v1/tenants", inner[1:], wire.CodeUnauthenticated},
			"no hops":                      {"n2", "/v1/tenants", inner[:2], wire.CodeUnauthenticated},
			"two hops":                     {"n2", "/v1/tenants", []string{inner[0], inner[1], headerHops + ": 2"}, wire.CodeUnauthenticated},
			"rights of a newer node":       {"n2", "/v1/tenants", []string{inner[0], headerRights + `: {"admin":true,"read_only":true}`, inner[2]}, wire.CodeUnauthenticated},
			"rights that are no JSON":      {"n2", "/v1/tenants", []string{inner[0], headerRights + `: admin`, inner[2]}, wire.CodeUnauthenticated},
			"rights to a tenant":           {"n2", "/v1/tenants", []string{inner[0], headerRights + `: {"tenants":["acme"]}`, inner[2]}, wire.CodeForbidden},
			"rights to another tenant":     {"n2", acmeSQL + "?q=select", []string{inner[0], headerRights + `: {"tenants":["beta"]}`, inner[2]}, wire.CodeForbidden},
			"no time":                      {"n2", "/v1/tenants", append([]string{headerTimeout + ": 0"}, inner...), wire.CodeBadRequest},
			"time that is no number":       {"n2", "/v1/tenants", append([]string{headerTimeout + ": soon"}, inner...), wire.CodeBadRequest},
			"an internal route, in public": {"pub.n2", "/internal/v1/hello", []string{"Authorization: Bearer root"}, wire.CodeNotFound},
			"an internal route":            {"n2", "/internal/v1/hello", nil, ""},
			"none":                         {"n2", "/internal/v1/none", nil, wire.CodeNotFound},
		} {
			a, err := m.ask(ctx, c.host, "GET", c.path, nil, c.headers...)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if c.want != "" && code(t, a) != c.want || c.want == "" && a.status != 200 {
				t.Errorf("%s: got %+v, want %q", name, a, c.want)
			}
		}
	})
}

// TestOneHop: a node that was asked by another passes nothing on, and says who could answer; the first asks that one.
func TestOneHop(t *testing.T) {
	run(t, func(t *testing.T) {
		m := newMesh(t, nil, "n1", "n2", "n3")
		m.nodes["n2"].sendsTo("n3")
		var asked atomic.Int32
		m.nodes["n1"].sql.do = func(context.Context, *wire.Request, wire.Sink) (wire.Meta, error) {
			if asked.Add(1) == 1 {
				return wire.Meta{}, &ElsewhereError{Node: "n2"}
			}
			if m.dials("n3") > 0 {
				t.Error("n2 asked n3")
			}
			return wire.Meta{}, &ElsewhereError{Node: "n3"}
		}
		a, err := m.ask(t.Context(), "n2", "POST", acmeSQL, strings.NewReader(selectOne), headerSubject+": root", headerRights+`: {"admin":true}`, headerHops+": 1")
		if err != nil || code(t, a) != wire.CodeNotPrimary || a.status != 503 || a.header.Get("Nearsql-Primary") != "n3" || a.header.Get("Nearsql-Applied") != "no" {
			t.Errorf("got %+v, %v", a, err)
		}
		if a := m.do("n1", "POST", acmeSQL, selectOne); a.status != 200 || m.dials("n3") != 1 {
			t.Errorf("got %+v after %d", a, m.dials("n3"))
		}
		// A node on its own says so at once.
		alone := newFixture(t, nil)
		alone.sql.do = m.nodes["n2"].sql.do
		if a := alone.do("POST", acmeSQL, selectOne); code(t, a) != wire.CodeNotPrimary || a.header.Get("Nearsql-Primary") != "n3" {
			t.Errorf("got %+v", a)
		}
	})
}

// TestTriesAgainUntilANodeAnswers: nothing was sent, or the node surely did nothing.
func TestTriesAgainUntilANodeAnswers(t *testing.T) {
	refused := errors.New("connection refused")
	for name, c := range map[string]struct {
		query   string
		until   time.Duration // when n2 answers
		fails   string        // how it fails until then
		want    wire.Code
		elapsed time.Duration // at most
	}{
		"unreachable for a while":     {"", 3 * time.Second, "dial", "", 3500 * time.Millisecond},
		"unreachable":                 {"", time.Hour, "dial", wire.CodeNotPrimary, 10 * time.Second},
		"not primary for a while":     {"", 3 * time.Second, "not primary", "", 3500 * time.Millisecond},
		"not primary":                 {"", time.Hour, "not primary", wire.CodeNotPrimary, 10 * time.Second},
		"stopping for a while":        {"", time.Second, "stopping", "", 1500 * time.Millisecond},
		"this node knows no primary":  {"", 2 * time.Second, "here", "", 2500 * time.Millisecond},
		"nobody is named":             {"", 2 * time.Second, "nobody", "", 2500 * time.Millisecond},
		"a timeout of its own":        {"?timeout=2s", time.Hour, "dial", wire.CodeNotPrimary, 2 * time.Second},
		"overloaded is not for here":  {"", time.Hour, "overloaded", wire.CodeOverloaded, 0},
		"some error is not for here":  {"", time.Hour, "full", wire.CodeTenantFull, 0},
		"in the end this node can do": {"", 2 * time.Second, "then here", "", 2500 * time.Millisecond},
	} {
		run(t, func(t *testing.T) {
			m := newMesh(t, nil, "n1", "n2")
			n1, n2 := m.nodes["n1"], m.nodes["n2"]
			n1.sendsTo("n2")
			began := time.Now()
			now := func() bool { return time.Since(began) >= c.until }
			away := n1.sql.do
			n1.sql.do = func(ctx context.Context, r *wire.Request, s wire.Sink) (wire.Meta, error) {
				switch {
				case now() && c.fails == "then here":
					return rows(1)(ctx, r, s)
				case !now() && c.fails == "here":
					return wire.Meta{}, wire.NewError(wire.CodeNotPrimary, "no primary is known")
				case !now() && c.fails == "nobody":
					return wire.Meta{}, &ElsewhereError{}
				}
				return away(ctx, r, s)
			}
			n2.sql.do = func(ctx context.Context, r *wire.Request, s wire.Sink) (wire.Meta, error) {
				if now() {
					return rows(1)(ctx, r, s)
				}
				switch c.fails {
				case "stopping":
					return wire.Meta{}, wire.NewError(wire.CodeShuttingDown, "stopping")
				case "overloaded":
					return wire.Meta{}, wire.NewError(wire.CodeOverloaded, "too much")
				case "full":
					return wire.Meta{}, wire.NewError(wire.CodeTenantFull, "full")
				}
				return wire.Meta{}, wire.NewError(wire.CodeNotPrimary, "not here")
			}
			if c.fails == "dial" {
				m.setFault(func(host string, _ int) (int, error) {
					if host == "n2" && !now() {
						return 0, refused
					}
					return -1, nil
				})
			}
			a := m.do("n1", "POST", acmeSQL+c.query, selectOne)
			if c.want == "" && a.status != 200 || c.want != "" && code(t, a) != c.want {
				t.Errorf("%s: got %+v, want %q", name, a, c.want)
			}
			if e := time.Since(began); e > c.elapsed || c.want == wire.CodeNotPrimary && e < c.elapsed-time.Second {
				t.Errorf("%s: took %v, want at most %v", name, e, c.elapsed)
			}
			if n := m.dials("n2"); n > 100 {
				t.Errorf("%s: asked %d times", name, n)
			}
			if c.want != "" && strings.Contains(a.body, `"retryable":true`) != c.want.Retryable() {
				t.Errorf("%s: got %s", name, a.body)
			}
		})
	}
}

// TestConnectionBreaks: what is done twice is only what may be, and nobody is told of more than is known.
func TestConnectionBreaks(t *testing.T) {
	keyed := []string{"Idempotency-Key: k"}
	once := func(int) int { return 0 }
	conflict := wire.NewError("SQLITE_CONSTRAINT_UNIQUE", "there is one")
	for name, c := range map[string]struct {
		method, path, body string
		headers            []string
		reads              bool            // n1 knows that the statement reads
		cut                func(n int) int // of the n-th connection; after the last, none
		breaks             int             // that so many connections do
		then               error           // what n2 answers after those
		unreachable        bool            // n2 is never reached after those
		want               wire.Code       // "" for 200
		done               int             // times that n2 executed it
	}{
		"a read":                          {"GET", acmeSQL + "?q=select", "", nil, false, once, 2, nil, false, "", 3},
		"a read, known as such":           {"POST", acmeSQL, selectOne, nil, true, once, 2, nil, false, "", 3},
		"a read, in the header":           {"GET", acmeSQL + "?q=select", "", nil, false, func(int) int { return 20 }, 1, nil, false, "", 2},
		"a read, in its short answer":     {"GET", acmeSQL + "?q=select", "", nil, false, func(int) int { return 300 }, 1, nil, false, "", 2},
		"a read, for ever":                {"GET", acmeSQL + "?q=select", "", nil, false, once, 1e6, nil, false, wire.CodeNotPrimary, -1},
		"a write":                         {"POST", acmeSQL, selectOne, nil, false, once, 1, nil, false, wire.CodeUnknownOutcome, 1},
		"a write with a key":              {"POST", acmeSQL, selectOne, keyed, false, once, 2, nil, false, "", 3},
		"with a key, for ever":            {"POST", acmeSQL, selectOne, keyed, false, once, 1e6, nil, false, wire.CodeUnknownOutcome, -1},
		"with a key, then unreachable":    {"POST", acmeSQL, selectOne, keyed, false, once, 1, nil, true, wire.CodeUnknownOutcome, 1},
		"with a key, then not primary":    {"POST", acmeSQL, selectOne, keyed, false, once, 1, wire.NewError(wire.CodeNotPrimary, "no"), false, wire.CodeUnknownOutcome, -1},
		"with a key, then overloaded":     {"POST", acmeSQL, selectOne, keyed, false, once, 1, wire.NewError(wire.CodeOverloaded, "no"), false, wire.CodeUnknownOutcome, -1},
		"with a key, then full":           {"POST", acmeSQL, selectOne, keyed, false, once, 1, wire.NewError(wire.CodeTenantFull, "no"), false, wire.CodeUnknownOutcome, 2},
		"with a key, then a kept error":   {"POST", acmeSQL, selectOne, keyed, false, once, 1, conflict, false, conflict.Code, 2},
		"a read, then overloaded":         {"GET", acmeSQL + "?q=select", "", nil, false, once, 1, wire.NewError(wire.CodeOverloaded, "no"), false, wire.CodeOverloaded, 2},
		"the creation of a tenant":        {"POST", "/v1/tenants", `{"name":"a"}`, nil, false, once, 1, nil, false, wire.CodeUnknownOutcome, 0},
		"its deletion":                    {"DELETE", "/v1/tenants/a", "", nil, false, once, 1, nil, false, wire.CodeUnknownOutcome, 0},
		"what is declared may come twice": {"POST", "/v1/nodes/n2/drain", "", nil, false, once, 2, nil, false, "", 0},
	} {
		run(t, func(t *testing.T) {
			m := newMesh(t, nil, "n1", "n2")
			n1, n2 := m.nodes["n1"], m.nodes["n2"]
			n1.sendsTo("n2")
			n1.sql.do = func(context.Context, *wire.Request, wire.Sink) (wire.Meta, error) {
				return wire.Meta{}, &ElsewhereError{Node: "n2", Reads: c.reads}
			}
			var done atomic.Int32
			n2.sql.do = func(ctx context.Context, r *wire.Request, s wire.Sink) (wire.Meta, error) {
				if n := done.Add(1); int(n) > c.breaks && c.then != nil {
					return wire.Meta{}, c.then
				}
				return rows(3)(ctx, r, s)
			}
			m.setFault(func(host string, n int) (int, error) {
				switch {
				case host == "n2" && n <= c.breaks:
					return c.cut(n), nil
				case host == "n2" && c.unreachable:
					return 0, errors.New("connection refused")
				}
				return -1, nil
			})
			a := m.do("n1", c.method, c.path, c.body, c.headers...)
			if c.want == "" && a.status/100 != 2 || c.want != "" && code(t, a) != c.want {
				t.Errorf("%s: got %+v, want %q", name, a, c.want)
			}
			if c.want == wire.CodeUnknownOutcome && strings.Contains(a.body, `"retryable":true`) {
				t.Errorf("%s: got %s", name, a.body)
			}
			synctest.Wait()
			if n := int(done.Load()); c.done >= 0 && n != c.done {
				t.Errorf("%s: n2 executed it %d times, want %d", name, n, c.done)
			}
		})
	}
}

// TestKeptConnectionBreaks: http.Transport sends requests again by itself when a connection that it kept breaks. What
// follows must not pass for the outcome of all that was sent.
func TestKeptConnectionBreaks(t *testing.T) {
	run(t, func(t *testing.T) {
		m := newMesh(t, nil, "n1", "n2")
		n1, n2 := m.nodes["n1"], m.nodes["n2"]
		n1.sendsTo("n2")
		var broken, refused atomic.Bool
		tr := m.transport()
		tr.DisableKeepAlives = false
		tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if refused.Load() {
				return nil, &net.OpError{Op: "dial", Net: "pipe", Err: errors.New("connection refused")}
			}
			c, err := m.dial(ctx, network, addr)
			return &brokenConn{Conn: c, broken: &broken}, err
		}
		defer tr.CloseIdleConnections()
		n1.handler.peers = tr
		if a := m.do("n1", "POST", acmeSQL, selectOne); a.status != 200 {
			t.Fatalf("got %+v", a)
		}
		n2.sql.do = func(ctx context.Context, r *wire.Request, s wire.Sink) (wire.Meta, error) {
			broken.Store(true)
			refused.Store(true)
			return rows(1)(ctx, r, s)
		}
		if a := m.do("n1", "POST", acmeSQL, selectOne, "Idempotency-Key: k"); code(t, a) != wire.CodeUnknownOutcome {
			t.Errorf("got %+v for what was done", a)
		}
	})
}

// brokenConn breaks when something comes after broken was set.
type brokenConn struct {
	net.Conn
	broken *atomic.Bool
}

func (c *brokenConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.broken.Load() {
		_ = c.Conn.Close()
		return 0, errors.New("the connection broke")
	}
	return n, err
}

// TestStreamsAsItComes: a row is there before the next is made, and an answer that breaks off is seen to.
func TestStreamsAsItComes(t *testing.T) {
	for _, encoding := range []string{"identity", "gzip"} {
		run(t, func(t *testing.T) {
			m := newMesh(t, nil, "n1", "n2")
			m.nodes["n1"].sendsTo("n2")
			more, fail := make(chan bool), make(chan bool)
			m.nodes["n2"].sql.do = func(_ context.Context, _ *wire.Request, s wire.Sink) (wire.Meta, error) {
				if err := s.Begin(0, testColumns); err != nil {
					return wire.Meta{}, err
				}
				for range 3 {
					time.Sleep(200 * time.Millisecond)
					if err := s.Row(testRow); err != nil {
						return wire.Meta{}, err
					}
					<-more
				}
				<-fail
				panic(http.ErrAbortHandler)
			}
			resp, err := m.open(t.Context(), "pub.n1", "POST", acmeSQL, strings.NewReader(selectOne),
				"Authorization: Bearer root", "Content-Type: application/json", "Accept: application/x-ndjson", "Accept-Encoding: "+encoding)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			in := io.Reader(resp.Body)
			if encoding == "gzip" {
				in = lazyGzip(t, in)
			}
			lines := bufio.NewReader(in)
			for i := range 4 {
				line, err := lines.ReadString('\n')
				if err != nil || i > 0 && line != "[1,\"Ada\"]\n" {
					t.Fatalf("line %d: %q, %v", i, line, err)
				}
				if i > 0 {
					more <- true
				}
			}
			close(fail)
			if line, err := lines.ReadString('\n'); err == nil || err == io.EOF {
				t.Errorf("got %q, %v after the answer broke off", line, err)
			}
		})
	}
}

// TestExportThatBreaksOff is not whole for the client either.
func TestExportThatBreaksOff(t *testing.T) {
	run(t, func(t *testing.T) {
		m := newMesh(t, nil, "n1", "n2")
		m.nodes["n1"].sendsTo("n2")
		m.nodes["n2"].tenants.export = func(w io.Writer) error {
			_, _ = w.Write(bytesOf(200_000))
			return errors.New("disk")
		}
		for _, encoding := range []string{"identity", "gzip"} {
			a, err := m.ask(t.Context(), "pub.n1", "GET", "/v1/tenants/a/export", nil, "Authorization: Bearer root", "Accept-Encoding: "+encoding)
			if err == nil {
				t.Errorf("%s: got %d bytes as if they were all", encoding, len(a.body))
			}
		}
	})
}

// TestImportIsSentOnce: once some of the body is gone no other node gets it; before that, another does.
func TestImportIsSentOnce(t *testing.T) {
	const path = "/v1/tenants/a/import"
	database := string(bytesOf(2 << 20))
	run(t, func(t *testing.T) {
		m := newMesh(t, nil, "n1", "n2", "n3")
		n1, n3 := m.nodes["n1"], m.nodes["n3"]
		n1.sendsTo("n2")
		m.nodes["n2"].sendsTo("n3")
		go func() {
			<-m.nodes["n2"].heads
			time.Sleep(2 * time.Second)
			n1.tenants.setAway(&ElsewhereError{Node: "n3"})
		}()
		a := m.do("n1", "POST", path, database)
		if a.status != 201 || n3.tenants.imported.String() != database || m.dials("n2") < 3 {
			t.Errorf("got %+v, %d bytes after %d tries", a, n3.tenants.imported.Len(), m.dials("n2"))
		}
	})
	for name, c := range map[string]struct {
		imports func(io.Reader) error
		cut     int
		want    wire.Code
	}{
		"not primary after a part": {func(r io.Reader) error {
			_, _ = io.ReadFull(r, make([]byte, 100_000))
			return wire.NewError(wire.CodeNotPrimary, "no more")
		}, -1, wire.CodeNotPrimary},
		"broken after all": {nil, 40, wire.CodeUnknownOutcome},
		"refused": {func(io.Reader) error {
			return wire.NewError(wire.CodeTenantExists, "there is one")
		}, -1, wire.CodeTenantExists},
		"bad after a part": {func(r io.Reader) error {
			_, _ = io.ReadFull(r, make([]byte, 100_000))
			return wire.NewError(wire.CodeBadDatabase, "bad")
		}, -1, wire.CodeBadDatabase},
	} {
		run(t, func(t *testing.T) {
			m := newMesh(t, nil, "n1", "n2")
			m.nodes["n1"].sendsTo("n2")
			m.nodes["n2"].tenants.imports = c.imports
			m.setFault(func(host string, _ int) (int, error) {
				if host == "n2" {
					return c.cut, nil
				}
				return -1, nil
			})
			if a := m.do("n1", "POST", path, database); code(t, a) != c.want || m.dials("n2") != 1 {
				t.Errorf("%s: got %+v after %d tries", name, a, m.dials("n2"))
			}
		})
	}
	// A client that stops in the midst: n2 does not take what it got for all.
	run(t, func(t *testing.T) {
		m := newMesh(t, nil, "n1", "n2")
		m.nodes["n1"].sendsTo("n2")
		got := make(chan error, 1)
		m.nodes["n2"].tenants.imports = func(r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			got <- err
			return err
		}
		ctx, cancel := context.WithCancel(t.Context())
		in, out := io.Pipe()
		go func() {
			_, _ = out.Write(bytesOf(100_000))
			cancel()
			out.CloseWithError(errors.New("stopped"))
		}()
		if a, err := m.ask(ctx, "pub.n1", "POST", path, in, "Authorization: Bearer root"); err == nil {
			t.Errorf("got %+v", a)
		}
		if err := <-got; err == nil {
			t.Error("n2 had the whole body")
		}
	})
	// A client that sends nothing is given up, on both nodes.
	run(t, func(t *testing.T) {
		m := newMesh(t, func(c *Config) { c.Stall = 5 * time.Second }, "n1", "n2")
		m.nodes["n1"].sendsTo("n2")
		in, out := io.Pipe()
		go func() { _, _ = out.Write(bytesOf(100_000)) }()
		a, err := m.ask(t.Context(), "pub.n1", "POST", path, in, "Authorization: Bearer root")
		out.Close()
		if err == nil && code(t, a) != wire.CodeTimeout {
			t.Errorf("got %+v", a)
		}
		if _, ok := m.nodes["n2"].tenants.mu.all["a"]; ok {
			t.Error("n2 made a tenant of a part")
		}
	})
}

// TestClientOfAForwardedRequestGoesAway: the other node stops, too.
func TestClientOfAForwardedRequestGoesAway(t *testing.T) {
	run(t, func(t *testing.T) {
		m := newMesh(t, nil, "n1", "n2")
		m.nodes["n1"].sendsTo("n2")
		ended := make(chan error, 1)
		m.nodes["n2"].sql.do = func(ctx context.Context, _ *wire.Request, _ wire.Sink) (wire.Meta, error) {
			<-ctx.Done()
			ended <- ctx.Err()
			return wire.Meta{}, ctx.Err()
		}
		began := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if a, err := m.ask(ctx, "pub.n1", "POST", acmeSQL, strings.NewReader(selectOne), "Authorization: Bearer root"); err == nil {
			t.Errorf("got %+v", a)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) || time.Since(began) > 2*time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
	})
}

// TestSilentNode: a request has an end though another node gives nothing.
func TestSilentNode(t *testing.T) {
	for name, c := range map[string]struct {
		method, path, body, key string
		silence                 time.Duration
		want                    wire.Code
		within                  time.Duration
	}{
		"a read with a timeout":  {"GET", acmeSQL + "?q=select&timeout=2s", "", "", time.Minute, wire.CodeTimeout, 3 * time.Second},
		"a write with a timeout": {"POST", acmeSQL + "?timeout=2s", selectOne, "", time.Minute, wire.CodeUnknownOutcome, 3 * time.Second},
		"a read":                 {"GET", acmeSQL + "?q=select", "", "", time.Minute, wire.CodeNotPrimary, time.Minute},
		"a write":                {"POST", acmeSQL, selectOne, "", time.Minute, wire.CodeUnknownOutcome, time.Minute},
		"a write with a key":     {"POST", acmeSQL, selectOne, "k", 4 * time.Second, wire.CodeUnknownOutcome, 12100 * time.Millisecond},
	} {
		run(t, func(t *testing.T) {
			m := newMesh(t, func(cfg *Config) { cfg.ForwardSilence = c.silence }, "n1", "n2")
			m.nodes["n1"].sendsTo("n2")
			left := make(chan time.Duration, 100)
			m.nodes["n2"].sql.do = func(ctx context.Context, r *wire.Request, _ wire.Sink) (wire.Meta, error) {
				left <- r.Timeout
				<-t.Context().Done() // it does not even hear that the client has gone
				return wire.Meta{}, ctx.Err()
			}
			began := time.Now()
			var headers []string
			if c.key != "" {
				headers = []string{"Idempotency-Key: " + c.key}
			}
			a := m.do("n1", c.method, c.path, c.body, headers...)
			if e := time.Since(began); code(t, a) != c.want || e != c.within && (c.key == "" || e > c.within) {
				t.Errorf("%s: got %+v after %v", name, a, e)
			}
			if d := <-left; strings.Contains(c.path, "timeout") != (d > 0 && d <= 2*time.Second) {
				t.Errorf("%s: n2 was given %v", name, d)
			}
		})
	}
}

// TestTimeShrinks: what is left of a timeout is what the other node gets.
func TestTimeShrinks(t *testing.T) {
	run(t, func(t *testing.T) {
		m := newMesh(t, nil, "n1", "n2")
		m.nodes["n1"].sendsTo("n2")
		m.setFault(func(host string, n int) (int, error) {
			if host == "n2" && n < 10 {
				return 0, errors.New("refused")
			}
			return -1, nil
		})
		if a := m.do("n1", "POST", acmeSQL+"?timeout=5s", selectOne); a.status != 200 {
			t.Fatalf("got %+v", a)
		}
		if d := m.nodes["n2"].sql.last().Timeout; d < 3*time.Second || d > 4800*time.Millisecond {
			t.Errorf("n2 was given %v", d)
		}
	})
}

func TestInternalRoutesAreInternal(t *testing.T) {
	f := newFixture(t, nil)
	for _, pattern := range []string{"GET /v1/hello", "/", "internal/x", "GET /internal"} {
		_, err := New(DefaultConfig(), Deps{SQL: f.sql, Tenants: f.tenants, Auth: fakeAuth{}, Status: f.status, Counts: NewCounts(),
			Log: f.handler.log, InternalRoutes: map[string]http.Handler{pattern: http.NotFoundHandler()}})
		if err == nil {
			t.Errorf("%q was taken", pattern)
		}
	}
}

// lazyGzip unpacks what comes, from the first read on.
func lazyGzip(t *testing.T, in io.Reader) io.Reader {
	t.Helper()
	return &lazyReader{in: in}
}

type lazyReader struct {
	in io.Reader
	z  *gzip.Reader
}

func (l *lazyReader) Read(p []byte) (int, error) {
	if l.z == nil {
		z, err := gzip.NewReader(l.in)
		if err != nil {
			return 0, err
		}
		l.z = z
	}
	return l.z.Read(p)
}

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
func FuzzNodeIdentity(f *testing.F) {
	f.Add("root", `{"admin":true}`, "1", "5000")
	f.Add("a%20b", `{"tenants":["acme"]}`, "1", "")
	f.Add("%zz", `{}{}`, "2", "-1")
	f.Fuzz(func(t *testing.T, subject, rights, hops, left string) {
		r := &http.Request{Header: http.Header{headerSubject: {subject}, headerRights: {rights}, headerHops: {hops}, headerTimeout: {left}}}
		if d, err := timeLeft(r); err == nil && (d < time.Millisecond || d > timeParamMax) {
			t.Errorf("%q left is %v", left, d)
		}
		id, err := nodeIdentity(r)
		if err != nil {
			if clientError(err).Code != wire.CodeUnauthenticated {
				t.Errorf("got %v", err)
			}
			return
		}
		name := ""
		if len(id.Tenants) > 0 {
			name = id.Tenants[0]
		}
		h := http.Header{}
		if err := appendIdentity(h, id, name); err != nil {
			t.Fatal(err)
		}
		again, err := nodeIdentity(&http.Request{Header: h})
		if len(h[headerSubject][0]) > rightsMax || len(h[headerRights][0]) > rightsMax {
			return
		}
		if err != nil || again.Subject != id.Subject || again.Admin != id.Admin || again.mayUse(name) != id.mayUse(name) {
			t.Errorf("%+v came back as %+v, %v", id, again, err)
		}
	})
}
