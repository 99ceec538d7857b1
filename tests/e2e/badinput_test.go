package e2e_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// proberMost is how long another tenant may wait while somebody misbehaves, on two busy cores.
const proberMost = 10 * time.Second

// TestBadInput sends what a node must refuse. Each gets its code, and another tenant notices nothing.
func TestBadInput(t *testing.T) {
	n := startNode(t)
	n.create("bad")
	n.mustRows("bad", "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT NOT NULL) STRICT")
	n.mustRows("bad", "INSERT INTO t VALUES(1, 'one')")
	if _, _, err := n.Exec(t.Context(), "bad", &wire.Request{IdempotencyKey: "k", Statements: []wire.Statement{{SQL: "INSERT INTO t VALUES(2, 'two')"}}}); err != nil {
		t.Fatal(err)
	}
	p := n.probe("bystander")
	t.Run("body", func(t *testing.T) { badBodies(t, n) })
	t.Run("route", func(t *testing.T) { badRoutes(t, n) })
	t.Run("sql", func(t *testing.T) { badSQL(t, n) })
	t.Run("import", func(t *testing.T) { badImports(t, n) })
	p.end(t, proberMost)
	if got := n.one("bad", "SELECT group_concat(id || a) FROM t"); got.Str() != "1one,2two" {
		t.Errorf("the tenant has %s", got)
	}
	if got := n.one("bad", "PRAGMA integrity_check"); got.Str() != "ok" {
		t.Errorf("integrity_check: %s", got)
	}
	if page, err := n.ListTenants(t.Context(), "", 0); err != nil || len(page.Tenants) != 2 {
		t.Errorf("tenants: %v, %v", page.Tenants, err)
	}
	n.restart()
}

// wantRefusal checks an answer that tells of an error.
func wantRefusal(t *testing.T, what string, a reply, status int, code wire.Code) {
	t.Helper()
	var e struct {
		Error, Message, Code string
		Retryable            *bool
	}
	if err := json.Unmarshal(a.body, &e); err != nil || e.Error == "" || e.Error != e.Message || e.Retryable == nil {
		t.Errorf("%s: %s: is not the body of an error: %v", what, a, err)
		return
	}
	if a.status != status || e.Code != string(code) {
		t.Errorf("%s: got %s, want %d %s", what, a, status, code)
	}
}

func badBodies(t *testing.T, n *node) {
	for _, c := range []struct {
		body   string
		status int
		code   wire.Code
	}{
		{``, 400, wire.CodeBadJSON},
		{`{"sql":`, 400, wire.CodeBadJSON},
		{`{"sql":"select 1"} x`, 400, wire.CodeBadJSON},
		{`[]`, 400, wire.CodeBadJSON},
		{`null`, 400, wire.CodeBadJSON},
		{`{"sql":7}`, 400, wire.CodeBadJSON},
		{`{"sql":"select ?","args":7}`, 400, wire.CodeBadJSON},
		{`{"statements":{}}`, 400, wire.CodeBadJSON},
		{`{"sql":"select 1","what":1}`, 400, wire.CodeUnknownField},
		{`{"sql":"select 1","sql":"select 2"}`, 400, wire.CodeUnknownField},
		{`{"SQL":"select 1"}`, 400, wire.CodeUnknownField},
		{`{"statements":[{"sql":"select 1","x":1}]}`, 400, wire.CodeUnknownField},
		{`{"sql":"select ?","args":[NaN]}`, 400, wire.CodeBadJSON},
		{`{"sql":"select ?","args":[Infinity]}`, 400, wire.CodeBadJSON},
		{`{"sql":"select ?","args":[[1]]}`, 400, wire.CodeBadArgument},
		{`{"sql":"select ?","args":[9223372036854775808]}`, 400, wire.CodeBadArgument},
		{`{"sql":"select ?","args":[1e999]}`, 400, wire.CodeBadArgument},
		{`{"sql":"select ?","args":[{"base64":"*"}]}`, 400, wire.CodeBadArgument},
		{`{"sql":"select ?","args":["\ud800"]}`, 400, wire.CodeInvalidUTF8},
		{"{\"sql\":\"select '\xff'\"}", 400, wire.CodeInvalidUTF8},
		{`{"sql":"select 1","args":[1]}`, 400, wire.CodeArgumentCount},
		{`{"sql":"select ?, ?","args":[1]}`, 400, wire.CodeArgumentCount},
		{`{"sql":"select :a","args":{"b":1}}`, 400, wire.CodeArgumentCount},
		{`{"sql":"select 1; select 2"}`, 400, wire.CodeMultipleStatements},
		{`{"sql":"insert into t values(9,'x'); drop table t"}`, 400, wire.CodeMultipleStatements},
		{`{"sql":" -- nothing"}`, 400, wire.CodeEmptyStatement},
		{`{"sql":""}`, 400, wire.CodeEmptyStatement},
		{`{"statements":[{"sql":"insert into t values(9,'x')"},{"sql":"select * from nothere"}]}`, 400, "SQLITE_ERROR"},
		{`{"sql":"selec 1"}`, 400, "SQLITE_ERROR"},
		{`{"sql":"insert into t values(1,'x')"}`, 409, "SQLITE_CONSTRAINT_PRIMARYKEY"},
		{`{"sql":"insert into t values(8,null)"}`, 409, "SQLITE_CONSTRAINT_NOTNULL"},
		{`{"sql":"insert into t values(8,x'00')"}`, 409, "SQLITE_CONSTRAINT_DATATYPE"},
		{`{"sql":"` + strings.Repeat(" ", 1<<20) + `select 1"}`, 413, wire.CodeStatementTooLong},
		{`{"sql":"select ?","args":["` + strings.Repeat("x", 17<<20) + `"]}`, 413, wire.CodeRequestTooLarge},
		{`{"sql":"select zeroblob(20000000)"}`, 413, "SQLITE_TOOBIG"},
		{`{"statements":[` + strings.Repeat(`{"sql":"select 1"},`, 2000) + `{"sql":"select 1"}]}`, 413, wire.CodeTooManyStatements},
		{strings.Repeat(`[`, 100_000), 400, wire.CodeBadJSON},
		{`{"sql":"select ?","args":` + strings.Repeat(`[`, 100_000) + strings.Repeat(`]`, 100_000) + `}`, 400, ""},
	} {
		a := n.post("bad", "", c.body)
		if c.code == "" && a.status == c.status {
			continue
		}
		wantRefusal(t, fmt.Sprintf("%.80q", c.body), a, c.status, c.code)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte(`{"sql":"select '`))
	for range 256 { // a bomb: 256 MiB in 256 KiB
		_, _ = z.Write(make([]byte, 1<<20))
	}
	z.Close()
	_, before := n.memory()
	wantRefusal(t, "gzip bomb", n.do("POST", "/v1/tenants/bad/sql", bytes.NewReader(packed.Bytes()), "Content-Type", "application/json", "Content-Encoding", "gzip"), 413, wire.CodeRequestTooLarge)
	if _, after := n.memory(); after > before+96<<20 {
		t.Errorf("a gzip bomb took the process from %d to %d MiB", before>>20, after>>20)
	}
	wantRefusal(t, "no gzip", n.post("bad", "", "{}", "Content-Encoding", "gzip"), 400, wire.CodeBadRequest)
	wantRefusal(t, "other encoding", n.post("bad", "", "{}", "Content-Encoding", "br"), 415, wire.CodeUnsupportedMediaType)
	wantRefusal(t, "other type", n.post("bad", "", "{}", "Content-Type", "text/csv"), 415, wire.CodeUnsupportedMediaType)
	wantRefusal(t, "other answer", n.post("bad", "", `{"sql":"select 1"}`, "Accept", "text/csv"), 406, wire.CodeNotAcceptable)
	wantRefusal(t, "bad key", n.post("bad", "", `{"sql":"select 1"}`, "Idempotency-Key", "a b"), 400, wire.CodeBadRequest)
	wantRefusal(t, "other request under the key", n.post("bad", "", `{"sql":"delete from t"}`, "Idempotency-Key", "k"), 422, wire.CodeIdempotencyMismatch)
}

func badRoutes(t *testing.T, n *node) {
	get := func(q string) string { return "/v1/tenants/bad/sql?q=" + url.QueryEscape(q) }
	for _, c := range []struct {
		method, path string
		status       int
		code         wire.Code
	}{
		{"GET", "/", 404, wire.CodeNotFound},
		{"GET", "/v1/tenants/bad/sql/", 404, wire.CodeNotFound},
		{"GET", "/v1//tenants", 404, wire.CodeNotFound},
		{"GET", "/v1/tenants/../../etc/passwd", 404, wire.CodeNotFound},
		{"PUT", "/v1/tenants", 405, wire.CodeMethodNotAllowed},
		{"GET", "/v1/tenants/nobody", 404, wire.CodeNoSuchTenant},
		{"GET", "/v1/tenants/nobody/sql?q=select+1", 404, wire.CodeNoSuchTenant},
		{"GET", "/v1/tenants/nobody/export", 404, wire.CodeNoSuchTenant},
		{"DELETE", "/v1/tenants/nobody", 404, wire.CodeNoSuchTenant},
		{"GET", "/v1/tenants/Upper/sql?q=select+1", 400, wire.CodeBadName},
		{"GET", "/v1/tenants/a%2f..%2fb/sql?q=select+1", 404, wire.CodeNotFound},
		{"GET", "/v1/tenants/a%2fb/sql?q=select+1", 400, wire.CodeBadName},
		{"GET", "/v1/tenants/bad%00/sql?q=select+1", 400, wire.CodeBadName},
		{"GET", "/v1/tenants/" + strings.Repeat("a", 64) + "/sql?q=select+1", 400, wire.CodeBadName},
		{"GET", "/v1/tenants/bad/sql", 400, wire.CodeBadRequest},
		{"GET", "/v1/tenants/bad/sql?q=select+1&what=1", 400, wire.CodeBadRequest},
		{"GET", "/v1/tenants/bad/sql?q=select+1&timeout=1", 400, wire.CodeBadRequest},
		{"GET", "/v1/tenants/bad/sql?q=select+1&max_staleness=-1s", 400, wire.CodeBadRequest},
		{"GET", "/v1/tenants/bad/sql?q=select+1&bookmark=zzz", 400, wire.CodeBadBookmark},
		{"GET", "/v1/tenants/bad/sql?q=%ff", 400, wire.CodeInvalidUTF8},
		{"GET", get("INSERT INTO t VALUES(5,'x')"), 403, wire.CodeReadOnlyRequest},
		{"GET", get("WITH c AS (SELECT 1) DELETE FROM t"), 403, wire.CodeReadOnlyRequest},
		{"GET", get("EXPLAIN DELETE FROM t"), 200, ""},
	} {
		a := n.do(c.method, c.path, nil)
		if c.code == "" {
			if a.status != c.status {
				t.Errorf("%s %.60s: got %s", c.method, c.path, a)
			}
			continue
		}
		wantRefusal(t, c.method+" "+c.path, a, c.status, c.code)
	}
	for _, name := range []string{"", "Upper", "-a", "a-", "a_b", "a.b", "ä", strings.Repeat("a", 64), "importing-1", "../x"} {
		_, err := n.CreateTenant(t.Context(), name, tenant.CreateOptions{})
		if codeOf(err) != wire.CodeBadName {
			t.Errorf("create %q: got %v", name, err)
		}
	}
	_, err := n.CreateTenant(t.Context(), "bad", tenant.CreateOptions{})
	if codeOf(err) != wire.CodeTenantExists {
		t.Errorf("create again: got %v", err)
	}
	for _, body := range []string{`{"name":"x","page_size":1000}`, `{"name":"x","limits":{"size":-1}}`, `{"name":"x","group":1}`, `{"name":7}`, `{"name":"x","other":1}`} {
		if a := n.do("POST", "/v1/tenants", strings.NewReader(body)); a.status != 400 {
			t.Errorf("create %s: got %s", body, a)
		}
	}
	if a := n.do("POST", "/v1/tenants", strings.NewReader(`{"name":"x","group":99}`)); a.status != 404 || !strings.Contains(a.String(), string(wire.CodeNoSuchGroup)) {
		t.Errorf("create in a group that is not there: got %s", a)
	}
	// Who has no token, or a wrong one, learns nothing.
	for _, token := range []string{"", "Bearer", "Bearer x", "Basic eDp4", "Bearer " + n.key + "x"} {
		for _, path := range []string{"/v1/tenants", "/v1/tenants/bad", "/v1/tenants/nobody/sql?q=select+1", "/v1/status", "/metrics"} {
			wantRefusal(t, fmt.Sprintf("%q %s", token, path), n.do("GET", path, nil, "Authorization", token), 401, wire.CodeUnauthenticated)
		}
	}
}

func badSQL(t *testing.T, n *node) {
	for _, c := range []struct {
		sql  string
		code wire.Code
	}{
		{"ATTACH 'x.db' AS x", wire.CodeSQLNotAllowed},
		{"/* */ attach ':memory:' as x", wire.CodeSQLNotAllowed},
		{"DETACH main", wire.CodeSQLNotAllowed},
		{"VACUUM INTO '/tmp/stolen.db'", wire.CodeSQLNotAllowed},
		{"SELECT load_extension('x')", wire.CodeSQLNotAllowed},
		{"SELECT fts3_tokenizer('x')", "SQLITE_ERROR"},
		{"PRAGMA journal_mode=WAL", wire.CodeSQLNotAllowed},
		{"PRAGMA journal_mode", wire.CodeSQLNotAllowed},
		{"PRAGMA locking_mode=EXCLUSIVE", wire.CodeSQLNotAllowed},
		{"PRAGMA writable_schema=1", wire.CodeSQLNotAllowed},
		{"PRAGMA cache_size=1000000", wire.CodeSQLNotAllowed},
		{"PRAGMA mmap_size=1", wire.CodeSQLNotAllowed},
		{"PRAGMA temp_store_directory='/'", wire.CodeSQLNotAllowed},
		{"PRAGMA synchronous=OFF", wire.CodeSQLNotAllowed},
		{"PRAGMA max_page_count=1", wire.CodeSQLNotAllowed},
		{"PRAGMA trusted_schema=1", wire.CodeSQLNotAllowed},
		{"SELECT * FROM pragma_database_list", wire.CodeSQLNotAllowed},
		{"CREATE TEMP TABLE x(a)", wire.CodeSQLNotAllowed},
		{"CREATE TABLE temp.x(a)", wire.CodeSQLNotAllowed},
		{"SELECT * FROM _nearsql_outcome", wire.CodeSQLNotAllowed},
		{"SELECT * FROM (SELECT key FROM main.[_nearsql_outcome])", wire.CodeSQLNotAllowed},
		{"DELETE FROM _nearsql_outcome", wire.CodeSQLNotAllowed},
		{"DROP TABLE _nearsql_outcome", wire.CodeSQLNotAllowed},
		{"CREATE TABLE _nearsql_x(a)", wire.CodeSQLNotAllowed},
		{"CREATE TABLE __crr_x(a)", wire.CodeSQLNotAllowed},
		{"CREATE INDEX i ON _nearsql_outcome(at)", wire.CodeSQLNotAllowed},
		{"CREATE VIEW v AS SELECT * FROM _nearsql_outcome", ""}, // using it is refused
		{"SELECT * FROM v", wire.CodeSQLNotAllowed},
		{"DROP VIEW v", ""},
		{"ALTER TABLE _nearsql_outcome RENAME TO mine", wire.CodeSQLNotAllowed},
		{"ALTER TABLE t RENAME TO _nearsql_mine", wire.CodeSQLNotAllowed},
		{"ALTER TABLE main . t RENAME /**/ TO \"_NearSQL_mine\"", wire.CodeSQLNotAllowed},
		{"ALTER TABLE t RENAME TO '__crr_mine'", wire.CodeSQLNotAllowed},
		{"CREATE TRIGGER g AFTER INSERT ON _nearsql_outcome BEGIN SELECT 1; END", wire.CodeSQLNotAllowed},
		{"SELECT * FROM sqlite_dbpage", wire.CodeSQLNotAllowed},
		{"CREATE VIRTUAL TABLE x USING dbpage", "*"},
		{"CREATE VIRTUAL TABLE x USING csv(filename='/etc/passwd')", "SQLITE_ERROR"},
		{"SELECT readfile('/etc/passwd')", "SQLITE_ERROR"},
		{"SELECT writefile('/tmp/x', 'x')", "SQLITE_ERROR"},
		{"SELECT edit('x')", "SQLITE_ERROR"},
		{"DELETE FROM sqlite_schema", "SQLITE_ERROR"},
		{"UPDATE sqlite_schema SET sql='x'", "SQLITE_ERROR"},
		{"INSERT INTO sqlite_schema VALUES('table','a','a',2,'create table a(b)')", "SQLITE_ERROR"},
		{"BEGIN", wire.CodeTransactionControlNotAllowed},
		{"; COMMIT", wire.CodeTransactionControlNotAllowed},
		{"SAVEPOINT a", wire.CodeTransactionControlNotAllowed},
		{"ROLLBACK TO nearsql", wire.CodeTransactionControlNotAllowed},
		{"RELEASE nearsql", wire.CodeTransactionControlNotAllowed},
		{"SELECT * FROM nothere", "SQLITE_ERROR"},
		{"SELECT RAISE(ABORT, 'x')", "SQLITE_ERROR"},
		{"SELECT " + strings.Repeat("abs(", 2000) + "1" + strings.Repeat(")", 2000), "SQLITE_ERROR"},
		{"SELECT printf('%.*c', 999999999, 'x')", "SQLITE_TOOBIG"},
	} {
		sql, code := c.sql, c.code
		for _, request := range []wire.Request{
			{Statements: []wire.Statement{{SQL: sql}}},
			{Statements: []wire.Statement{{SQL: "SELECT 1"}, {SQL: sql}}},
		} {
			if len(request.Statements) == 2 && (code == "" || strings.HasPrefix(sql, "SELECT * FROM v")) {
				continue
			}
			_, _, err := n.Exec(t.Context(), "bad", &request)
			got := codeOf(err)
			if code == "*" && err != nil {
				continue
			}
			if got != code || code == "" && err != nil {
				t.Errorf("%.90s (in a batch: %v): got %v, want %s", sql, len(request.Statements) > 1, err, code)
			}
		}
	}
	if _, err := os.Stat("/tmp/stolen.db"); err == nil {
		t.Error("VACUUM INTO wrote a file")
	}
	const forever = "WITH RECURSIVE c(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM c) "
	for _, c := range []struct {
		sql  string
		wait time.Duration
	}{
		{forever + "SELECT count(*) FROM c", 200 * time.Millisecond},
		{forever + "INSERT INTO t SELECT i+100, 'x' FROM c", 200 * time.Millisecond},
		{"SELECT count(*) FROM " + strings.Repeat("json_each('[1,2,3,4,5,6,7,8,9]') a, ", 1) + "(" + forever + "SELECT i FROM c LIMIT 1000000000)", 200 * time.Millisecond},
	} {
		began := time.Now()
		a := n.post("bad", "?timeout="+c.wait.String(), fmt.Sprintf(`{"sql":%q}`, c.sql))
		wantRefusal(t, c.sql, a, 504, wire.CodeTimeout)
		if d := time.Since(began); d < c.wait || d > c.wait+proberMost {
			t.Errorf("%s: the error came after %s", c.sql, d)
		}
		if got := n.one("bad", "SELECT count(*) FROM t"); got.Int() != 2 {
			t.Errorf("after a timeout the table has %s rows", got)
		}
	}
	// A client goes away while its rows come: the statement ends, and nothing waits for it.
	reads := n.metric("nearsql_reads_total")
	for range 8 {
		ctx, cancel := context.WithCancel(t.Context())
		a, err := n.Do(ctx, "bad", &wire.Request{Statements: []wire.Statement{{SQL: forever + "SELECT i, hex(zeroblob(500)) FROM c"}}})
		if err != nil {
			t.Fatal(err)
		}
		if !a.NextStatement() || !a.NextRow() {
			t.Fatal(a.Err())
		}
		cancel()
		a.Close()
	}
	// The tenant has 4 readers: more than that at once say that they are free again.
	eventually(t, soonMax, "readers are free again", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, err := n.Query(ctx, "bad", "SELECT 1")
		return err
	})
	if got := n.metric("nearsql_reads_total"); got < reads+8 {
		t.Errorf("reads: got %g, want at least %g", got, reads+8)
	}
	// A client that sends half a request, and goes.
	for range 4 {
		r, w := io.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "POST", n.url+"/v1/tenants/bad/sql", r)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+n.key)
		req.Header.Set("Content-Type", "application/sql")
		done := make(chan struct{})
		go func() {
			defer close(done)
			if resp, err := newHTTP().Do(req); err == nil {
				resp.Body.Close()
			}
		}()
		if _, err := w.Write([]byte("DELETE FROM t")); err != nil {
			t.Fatal(err)
		}
		cancel()
		<-done
		w.Close()
	}
}

// goodFile makes a database file with plain SQLite.
func goodFile(t testing.TB, statements ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "made.db")
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%.80s: %v", s, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func badImports(t *testing.T, n *node) {
	good := goodFile(t, "CREATE TABLE t(a, b)", "CREATE INDEX i ON t(b)",
		"WITH RECURSIVE c(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM c WHERE i<5000) INSERT INTO t SELECT i, hex(randomblob(50)) FROM c")
	flipped := func(at int, with string) []byte {
		b := bytes.Clone(good)
		copy(b[at:], with)
		return b
	}
	for _, c := range []struct {
		what   string
		format client.Format
		file   []byte
	}{
		{"nothing", client.SQLite, nil},
		{"text", client.SQLite, []byte(strings.Repeat("this is no database\n", 1000))},
		{"header alone", client.SQLite, good[:100]},
		{"cut in a page", client.SQLite, good[:len(good)/2+77]},
		{"cut between pages", client.SQLite, good[:len(good)/4096/2*4096]},
		{"page overwritten", client.SQLite, flipped(4096*10, strings.Repeat("\x55", 4096))},
		{"root page overwritten", client.SQLite, flipped(4096, strings.Repeat("\x00", 4096))},
		{"page size", client.SQLite, flipped(16, "\x00\x07")},
		{"version", client.SQLite, flipped(18, "\x09\x09")},
		{"schema", client.SQLite, bytes.Replace(good, []byte("CREATE TABLE t(a, b)"), []byte("CREATE TABLE t(a, (("), 1)},
		{"root beyond the end", client.SQLite, flipped(28, "\x7f\xff\xff\xff")},
		{"no SQL", client.SQL, []byte("this is no SQL;")},
		{"cut SQL", client.SQL, []byte("BEGIN; CREATE TABLE t(a); INSERT INTO t VALUES('abc")},
		{"without COMMIT", client.SQL, []byte("BEGIN; CREATE TABLE t(a);")},
		{"ATTACH", client.SQL, []byte("ATTACH '/tmp/stolen.db' AS x; CREATE TABLE x.t(a);")},
		{"VACUUM INTO", client.SQL, []byte("CREATE TABLE t(a); VACUUM INTO '/tmp/stolen.db';")},
		{"load_extension", client.SQL, []byte("SELECT load_extension('/tmp/x');")},
		{"ROLLBACK", client.SQL, []byte("BEGIN; CREATE TABLE t(a); ROLLBACK;")},
		{"dot command", client.SQL, []byte(".shell touch /tmp/stolen.db\n")},
		{"constraint", client.SQL, []byte("CREATE TABLE t(a UNIQUE); INSERT INTO t VALUES(1),(1);")},
		{"two transactions", client.SQL, []byte("CREATE TABLE t(a); INSERT INTO t VALUES(1); INSERT INTO nothere VALUES(1);")},
		{"binary", client.SQL, good},
	} {
		_, err := n.Import(t.Context(), "imported", c.format, bytes.NewReader(c.file), tenant.CreateOptions{})
		if codeOf(err) != wire.CodeBadDatabase {
			t.Errorf("import of %s: got %v, want %s", c.what, err, wire.CodeBadDatabase)
		}
		if _, err := n.Tenant(t.Context(), "imported"); codeOf(err) != wire.CodeNoSuchTenant && codeOf(err) != wire.CodeTenantDeleted {
			t.Errorf("import of %s: the tenant is there: %v", c.what, err)
			if err == nil {
				_ = n.DeleteTenant(t.Context(), "imported")
			}
		}
	}
	if _, err := os.Stat("/tmp/stolen.db"); err == nil {
		t.Error("an import wrote a file")
	}
	_, err := n.Import(t.Context(), "imported", client.SQLite, bytes.NewReader(good), tenant.CreateOptions{Limits: tenant.Limits{Size: 256 << 10}})
	if codeOf(err) != wire.CodeTenantFull {
		t.Errorf("import beyond the limit: got %v", err)
	}
	_, err = n.Import(t.Context(), "bad", client.SQLite, bytes.NewReader(good), tenant.CreateOptions{})
	if codeOf(err) != wire.CodeTenantExists {
		t.Errorf("import over a tenant: got %v", err)
	}
	// A dump that never ends, of a client that goes away.
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	failed := make(chan error, 1)
	go func() {
		_, err := n.Import(ctx, "imported", client.SQL, r, tenant.CreateOptions{})
		failed <- err
	}()
	for range 100 {
		if _, err := io.WriteString(w, "CREATE TABLE IF NOT EXISTS t(a); INSERT INTO t VALUES(1);\n"); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	_ = w.CloseWithError(context.Canceled) // net/http may wait for a read of the body to end
	if err := <-failed; err == nil {
		t.Error("an import that was broken off went well")
	}
	eventually(t, soonMax, "temporary files of imports are removed", func() error {
		files, err := os.ReadDir(filepath.Join(n.dir, "tmp"))
		if err == nil && len(files) > 0 {
			err = fmt.Errorf("there is %s", files[0].Name())
		}
		return err
	})
	// The same file, whole, is taken.
	if _, err := n.Import(t.Context(), "imported", client.SQLite, bytes.NewReader(good), tenant.CreateOptions{}); err != nil {
		t.Errorf("import of the whole file: %v", err)
	} else if err := n.DeleteTenant(t.Context(), "imported"); err != nil {
		t.Error(err)
	}
}
