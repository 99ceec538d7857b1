package sqlnode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// running is a node under test, behind a test server.
type running struct {
	t    *testing.T
	n    *Node
	url  string
	stop func() error
}

func testNodeConfig(t *testing.T) Config {
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Listen, cfg.MinFreeSpace = t.TempDir(), "", -1
	return cfg
}

func startNode(t *testing.T, cfg Config) *running {
	t.Helper()
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- n.Run(ctx, func(net.Addr) { close(ready) }) }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("the node ended: %v", err)
	}
	srv := httptest.NewServer(n.Handler())
	r := &running{t: t, n: n, url: srv.URL}
	over := false
	r.stop = func() error {
		if over {
			return nil
		}
		over = true
		srv.Close()
		cancel()
		return <-ended
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the node ended with %v", err)
		}
	})
	return r
}

// do sends a request as root and returns status and body.
func (r *running) do(method, path, body string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(r.n.cfg.DataDir, RootKeyFile))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(key)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (r *running) want(method, path, body string, status int) string {
	r.t.Helper()
	got, text := r.do(method, path, body)
	if got != status {
		r.t.Fatalf("%s %s %s: status %d, want %d: %s", method, path, body, got, status, text)
	}
	return text
}

// rows runs one statement and returns its rows as JSON.
func (r *running) rows(name, sql string) string {
	r.t.Helper()
	b, _ := json.Marshal(map[string]string{"sql": sql})
	var answer struct {
		Results  []struct{ Rows json.RawMessage }
		Bookmark string
	}
	text := r.want("POST", "/v1/tenants/"+name+"/sql", string(b), 200)
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		r.t.Fatalf("%s: %v in %s", sql, err, text)
	}
	return string(answer.Results[0].Rows)
}

func code(text string) string {
	var e struct{ Code string }
	_ = json.Unmarshal([]byte(text), &e)
	return e.Code
}

func TestLifeOfATenant(t *testing.T) {
	cfg := testNodeConfig(t)
	r := startNode(t, cfg)
	r.want("POST", "/v1/tenants", `{"name":"acme"}`, 201)
	if got := code(r.want("POST", "/v1/tenants", `{"name":"acme"}`, 409)); got != "TENANT_EXISTS" {
		t.Fatal(got)
	}
	r.rows("acme", "create table t(a)")
	r.rows("acme", "insert into t values(1),(2)")
	r.stop()

	r = startNode(t, cfg)
	if got := r.rows("acme", "select sum(a) from t"); got != "[[3]]" {
		t.Fatalf("after a restart: %s", got)
	}
	r.want("DELETE", "/v1/tenants/acme", "", 204)
	if got := code(r.want("POST", "/v1/tenants/acme/sql", `{"sql":"select 1"}`, 410)); got != "TENANT_DELETED" {
		t.Fatal(got)
	}
	r.want("POST", "/v1/tenants", `{"name":"acme"}`, 201)
	if got := r.rows("acme", "select count(*) from sqlite_schema"); got != "[[0]]" {
		t.Fatalf("a new tenant of an old name has %s objects", got)
	}
	// Past the grace period the deleted one's data goes; the new one stays.
	r.n.cfg.DeleteGrace = 0
	tenantService{r.n}.purge(context.Background())
	if n := len(r.n.groups.get(defaultGroup).pages.Tenants()); n != 1 {
		t.Fatalf("%d tenants are left, want 1", n)
	}
	r.stop()
	r = startNode(t, cfg)
	if got := r.rows("acme", "select count(*) from sqlite_schema"); got != "[[0]]" {
		t.Fatalf("got %s", got)
	}
}

// everything makes a database with one of each kind of object.
var everything = []string{
	"create table a(id integer primary key, name text not null unique, n real default 1.5, b blob, g text generated always as (upper(name)) virtual)",
	"create table b(x int, y text, primary key(x, y)) without rowid",
	"create table c(v, a_id references a(id))",
	"create table auto(id integer primary key autoincrement, v)",
	"create virtual table f using fts5(title, body)",
	"create virtual table ext using fts5(name, content='a', content_rowid='id')",
	"create virtual table r using rtree(id, x0, x1)",
	"create index ai on a(n) where n > 1",
	"create view v as select a.name, c.v from a join c on c.a_id=a.id",
	"create trigger tr after insert on a begin insert into b values(new.id, new.name); end",
	"insert into a(id, name, n, b) values(1,'it''s',2.0,x'00ff'),(9223372036854775807,'two\nlines;--', 1e300, null),(-5,'ä€😀',-0.0,zeroblob(9000))",
	"insert into c values(null, 1),(9e999, 1),(-9e999, 1),('t',null),(x'',null),(cast(x'610062' as text),null)",
	"insert into auto(v) values(1),(2)", "delete from auto where id=2",
	"insert into f values('hello','world of text'),('x','y')", "insert into ext(ext) values('rebuild')",
	"insert into r values(1, 0.5, 2.5)",
	"pragma user_version=77", "pragma application_id=5",
}

// content describes everything in such a database.
func (r *running) content(name string) string {
	var b strings.Builder
	for _, q := range []string{"select * from a order by id", "select * from b order by x", "select rowid, v, typeof(v), hex(v), a_id from c order by rowid", "select * from auto",
		"select seq from sqlite_sequence where name='auto'", "select * from f where f match 'text'", "select rowid from ext where ext match 'it'", "select * from r where x0 < 1", "select * from v",
		"pragma user_version", "pragma application_id", "pragma integrity_check",
		"select type, name, tbl_name, sql from sqlite_schema where name not like 'sqlite_%' order by 1,2"} {
		fmt.Fprintf(&b, "%s: %s\n", q, r.rows(name, q))
	}
	return b.String()
}

func TestImportIsTheInverseOfExport(t *testing.T) {
	r := startNode(t, testNodeConfig(t))
	r.want("POST", "/v1/tenants", `{"name":"src","page_size":1024}`, 201)
	for _, q := range everything {
		r.rows("src", q)
	}
	want := r.content("src")
	for _, format := range []string{"sqlite", "sql"} {
		file := r.want("GET", "/v1/tenants/src/export?format="+format, "", 200)
		r.want("POST", "/v1/tenants/"+format+"/import?format="+format, file, 201)
		if got := r.content(format); got != want {
			t.Errorf("%s: imported is\n%s\nexported was\n%s", format, got, want)
		}
		r.rows(format, "insert into auto(v) values(3)")
		if got := r.rows(format, "select max(id) from auto"); got != "[[3]]" {
			t.Errorf("%s: the next AUTOINCREMENT is %s, want 3", format, got)
		}
	}
}

// The node's own tables come back with an exported file.
func TestExportWithOutcomes(t *testing.T) {
	r := startNode(t, testNodeConfig(t))
	r.want("POST", "/v1/tenants", `{"name":"a"}`, 201)
	r.rows("a", "create table t(x)")
	req, _ := http.NewRequest("POST", r.url+"/v1/tenants/a/sql", strings.NewReader(`{"sql":"insert into t values(1)"}`))
	key, _ := os.ReadFile(filepath.Join(r.n.cfg.DataDir, RootKeyFile))
	req.Header = http.Header{"Authorization": {"Bearer " + strings.TrimSpace(string(key))}, "Idempotency-Key": {"k"}, "Content-Type": {"application/json"}}
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	for _, format := range []string{"sqlite", "sql"} {
		file := r.want("GET", "/v1/tenants/a/export?format="+format, "", 200)
		r.want("POST", "/v1/tenants/"+format+"/import?format="+format, file, 201)
		if got := r.rows(format, "select * from t"); got != "[[1]]" {
			t.Errorf("%s: %s", format, got)
		}
	}
}

func TestRestOfAnImportIsRemoved(t *testing.T) {
	cfg := testNodeConfig(t)
	r := startNode(t, cfg)
	s := tenantService{r.n}
	rec, err := s.newRecord("importing-1", tenant.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.create(context.Background(), r.n.groups.get(defaultGroup), rec); err != nil {
		t.Fatal(err)
	}
	if got := code(r.want("POST", "/v1/tenants", `{"name":"importing-2"}`, 400)); got != "BAD_NAME" {
		t.Fatal(got)
	}
	if got := r.want("GET", "/v1/tenants", "", 200); strings.Contains(got, "importing") {
		t.Fatalf("listed: %s", got)
	}
	r.stop()
	r = startNode(t, cfg)
	(tenantService{r.n}).removeRests(context.Background()) // runs beside ready; again is harmless
	for _, p := range r.n.groups.get(defaultGroup).pages.Tenants() {
		if r := p.Record(); r.State != tenant.StateDeleted {
			t.Fatalf("%s is still there", r.Name)
		}
	}
}

func TestImportRefused(t *testing.T) {
	r := startNode(t, testNodeConfig(t))
	r.want("POST", "/v1/tenants", `{"name":"taken"}`, 201)
	for _, c := range []struct{ name, path, body, code string }{
		{"no database", "/v1/tenants/x/import", strings.Repeat("no database ", 1000), "BAD_DATABASE"},
		{"cut short", "/v1/tenants/x/import", "SQLite format 3\x00\x10\x00\x01\x01", "BAD_DATABASE"},
		{"dump with an error", "/v1/tenants/x/import?format=sql", "create table t(a); insert into nosuch values(1);", "BAD_DATABASE"},
		{"dump that attaches", "/v1/tenants/x/import?format=sql", "attach '/tmp/x.db' as y; create table y.t(a);", "BAD_DATABASE"},
		{"name taken", "/v1/tenants/taken/import", "x", "TENANT_EXISTS"},
		{"bad name", "/v1/tenants/BAD/import", "x", "BAD_NAME"},
	} {
		_, text := r.do("POST", c.path, c.body)
		if got := code(text); got != c.code {
			t.Errorf("%s: %s, want %s", c.name, text, c.code)
		}
	}
	if got := len(r.n.groups.get(defaultGroup).pages.Tenants()); got != 1 {
		t.Errorf("%d tenants, want 1", got)
	}
}

func TestBookmarks(t *testing.T) {
	r := startNode(t, testNodeConfig(t))
	r.want("POST", "/v1/tenants", `{"name":"a"}`, 201)
	r.want("POST", "/v1/tenants", `{"name":"b"}`, 201)
	r.rows("a", "create table t(x)")
	text := r.want("POST", "/v1/tenants/a/sql", `{"sql":"insert into t values(1)"}`, 200)
	var answer struct{ Bookmark string }
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatal(err)
	}
	r.want("POST", "/v1/tenants/a/sql?bookmark="+answer.Bookmark, `{"sql":"select * from t"}`, 200)
	if got := code(r.want("POST", "/v1/tenants/b/sql?bookmark="+answer.Bookmark, `{"sql":"select 1"}`, 400)); got != "BAD_BOOKMARK" {
		t.Error(got)
	}
	rec := r.n.dir.find("a")
	p := rec.Position()
	p.TXID += 100
	if got := code(r.want("POST", "/v1/tenants/a/sql?bookmark="+wire.Bookmark(p), `{"sql":"select 1"}`, 409)); got != "BOOKMARK_LOST" {
		t.Error(got)
	}
	p.TXID, p.Epoch = 1, 2
	if got := code(r.want("POST", "/v1/tenants/a/sql?bookmark="+wire.Bookmark(p), `{"sql":"select 1"}`, 409)); got != "BOOKMARK_LOST" {
		t.Error(got)
	}
	if got := code(r.want("POST", "/v1/tenants/a/sql?bookmark=zzz", `{"sql":"select 1"}`, 400)); got != "BAD_BOOKMARK" {
		t.Error(got)
	}
}

func TestNearlyFullDisk(t *testing.T) {
	cfg := testNodeConfig(t)
	r := startNode(t, cfg)
	r.want("POST", "/v1/tenants", `{"name":"a"}`, 201)
	r.rows("a", "create table t(x)")
	r.stop()
	cfg.MinFreeSpace = 1 << 60
	r = startNode(t, cfg)
	if got := code(r.want("POST", "/v1/tenants/a/sql", `{"sql":"insert into t values(1)"}`, 507)); got != "DISK_FULL" {
		t.Error(got)
	}
	if got := r.rows("a", "select count(*) from t"); got != "[[0]]" {
		t.Error(got)
	}
}

func TestTokens(t *testing.T) {
	cfg := testNodeConfig(t)
	r := startNode(t, cfg)
	for _, header := range []string{"", "Bearer wrong", "Basic x"} {
		req, _ := http.NewRequest("GET", r.url+"/v1/tenants", nil)
		if header != "" {
			req.Header.Set("Authorization", header)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 401 {
			t.Errorf("%q: status %d, want 401", header, resp.StatusCode)
		}
	}
	fi, err := os.Stat(filepath.Join(cfg.DataDir, RootKeyFile))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("root key: %v, %v", fi.Mode(), err)
	}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second node on the same directory: %v", err)
	}
}

func TestConfigNamesTheField(t *testing.T) {
	for field, spoil := range map[string]func(*Config){
		"DataDir": func(c *Config) { c.DataDir = "" }, "Listen": func(c *Config) { c.Listen = "0.0.0.0:1" },
		"InsecureNoAuth": func(c *Config) { c.Listen, c.InsecureNoAuth, c.InsecurePlainHTTP = "0.0.0.0:1", true, true },
		"TLSCert":        func(c *Config) { c.TLSCert = "x" }, "PoP": func(c *Config) { c.PoP = "no spaces" },
		"MemoryVersions": func(c *Config) { c.MemoryVersions = 1 }, "Limits": func(c *Config) { c.Limits.Size = 1 },
		"HTTP": func(c *Config) { c.HTTP.Stall = -1 },
	} {
		cfg := testNodeConfig(t)
		spoil(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestMetricsAndStatus(t *testing.T) {
	r := startNode(t, testNodeConfig(t))
	r.want("POST", "/v1/tenants", `{"name":"a"}`, 201)
	r.rows("a", "create table t(x)")
	text := r.want("GET", "/metrics", "", 200)
	for _, name := range []string{"nearsql_writes_total ", "nearsql_open_tenants 2", "nearsql_group_primary", "nearsql_overlay_bytes", "nearsql_checkpoints_total", "nearsql_log_syncs_total", "nearsql_http_requests_total", "nearsql_http_request_seconds"} {
		if !strings.Contains(text, name) {
			t.Errorf("/metrics lacks %s", name)
		}
	}
	var st Status
	if err := json.Unmarshal([]byte(r.want("GET", "/v1/status", "", 200)), &st); err != nil || !st.Ready || st.Tenants != 1 || len(st.Groups) != 2 {
		t.Errorf("status %+v, %v", st, err)
	}
}
