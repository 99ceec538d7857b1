package e2e_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// show is rows as text: values with | between, rows with /.
func show(rows [][]wire.Value) string {
	var lines []string
	for _, r := range rows {
		var vs []string
		for _, v := range r {
			switch v.Kind() {
			case wire.KindText:
				vs = append(vs, v.Str())
			default:
				vs = append(vs, v.String())
			}
		}
		lines = append(lines, strings.Join(vs, "|"))
	}
	return strings.Join(lines, " / ")
}

// TestSQLite uses what SQLite has, over the API, and again after a kill.
func TestSQLite(t *testing.T) {
	t.Parallel()
	n := startNode(t, hasty...)
	n.create("f")
	do := func(sql string) string {
		t.Helper()
		return show(n.mustRows("f", sql))
	}
	want := func(sql, want string) {
		t.Helper()
		if got := do(sql); got != want {
			t.Errorf("%s\n got %s\nwant %s", sql, got, want)
		}
	}
	refused := func(sql string, code wire.Code) {
		t.Helper()
		if _, err := n.rows("f", sql); codeOf(err) != code {
			t.Errorf("%s: got %v, want %s", sql, err, code)
		}
	}

	do(`CREATE TABLE author(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE) STRICT`)
	do(`CREATE TABLE book(id INTEGER PRIMARY KEY AUTOINCREMENT, author INTEGER NOT NULL REFERENCES author ON DELETE CASCADE,
 title TEXT NOT NULL, year INTEGER CHECK(year > 0), sold INTEGER NOT NULL DEFAULT 0, meta TEXT CHECK(json_valid(meta)),
 shout TEXT GENERATED ALWAYS AS (upper(title)) STORED, decade INTEGER GENERATED ALWAYS AS (year/10*10) VIRTUAL)`)
	do(`CREATE INDEX old ON book(year) WHERE year < 1900`)
	do(`CREATE TABLE audit(what TEXT, id INTEGER, at TEXT DEFAULT CURRENT_TIMESTAMP)`)
	do(`CREATE TRIGGER audited AFTER UPDATE OF sold ON book WHEN new.sold > old.sold BEGIN INSERT INTO audit(what, id) VALUES('sold', new.id); END`)
	do(`CREATE VIEW listing AS SELECT name, title FROM book JOIN author ON author.id = author`)
	do(`CREATE TRIGGER listed INSTEAD OF INSERT ON listing BEGIN
 INSERT OR IGNORE INTO author(name) VALUES(new.name);
 INSERT INTO book(author, title) SELECT id, new.title FROM author WHERE name = new.name; END`)

	t.Run("rows", func(t *testing.T) {
		want(`INSERT INTO author(name) VALUES('Ada'), ('Grace') RETURNING id, name`, "1|Ada / 2|Grace")
		want(`INSERT INTO book(author, title, year, meta) VALUES(1, 'Notes', 1843, '{"tags":["math","first"],"pages":66}') RETURNING shout, decade`, "NOTES|1840")
		want(`INSERT INTO author(name) VALUES('ADA') ON CONFLICT(name) DO UPDATE SET name='Ada L.' RETURNING id, name`, "1|Ada L.")
		want(`UPDATE book SET sold=sold+3 WHERE id=1 RETURNING sold`, "3")
		want(`SELECT what, id FROM audit`, "sold|1")
		do(`INSERT INTO listing VALUES('Edsger', 'Discipline'), ('edsger', 'Goto')`)
		want(`SELECT name, count(*) FROM listing GROUP BY name ORDER BY name`, "Ada L.|1 / Edsger|2")
		refused(`INSERT INTO book(author, title) VALUES(99, 'x')`, "SQLITE_CONSTRAINT_FOREIGNKEY")
		refused(`INSERT INTO book(author, title, year) VALUES(1, 'x', -1)`, "SQLITE_CONSTRAINT_CHECK")
		refused(`INSERT INTO author(id, name) VALUES('x', 'y')`, "SQLITE_MISMATCH")
		refused(`INSERT INTO author(name) VALUES('grace')`, "SQLITE_CONSTRAINT_UNIQUE")
		refused(`INSERT INTO author(name) VALUES(x'00')`, "SQLITE_CONSTRAINT_DATATYPE")
		want(`DELETE FROM author WHERE name='Edsger' RETURNING name`, "Edsger")
		want(`SELECT count(*) FROM book`, "1")
		if plan := do(`EXPLAIN QUERY PLAN SELECT * FROM book WHERE year < 1900 AND year = 1843`); !strings.Contains(plan, "INDEX old") {
			t.Errorf("the partial index is not used: %s", plan)
		}
	})
	t.Run("json", func(t *testing.T) {
		want(`SELECT meta ->> '$.tags[1]', meta -> 'pages', json_extract(meta, '$.pages')+1 FROM book WHERE id=1`, "first|66|67")
		want(`SELECT group_concat(value, ',') FROM book, json_each(meta, '$.tags') WHERE book.id=1`, "math,first")
		want(`SELECT json_group_array(name), json(jsonb('{"a" : 1}')) FROM author WHERE id < 3`, `["Ada L.","Grace"]|{"a":1}`)
	})
	t.Run("windows and recursion", func(t *testing.T) {
		want(`WITH RECURSIVE c(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM c WHERE i<4)
 SELECT i, sum(i) OVER (ORDER BY i), lag(i, 1, 0) OVER w, rank() OVER (ORDER BY i/2) FROM c WINDOW w AS (ORDER BY i) ORDER BY i`,
			"1|1|0|1 / 2|3|1|2 / 3|6|2|2 / 4|10|3|4")
		want(`SELECT sum(column1) FILTER (WHERE column1>1) FROM (VALUES(1),(2),(3))`, "5")
	})
	t.Run("fts5", func(t *testing.T) {
		do(`CREATE VIRTUAL TABLE doc USING fts5(title, body, tokenize='porter unicode61')`)
		do(`INSERT INTO doc VALUES('one', 'the quick brown fox jumps'), ('two', 'lazy dogs were jumping over'), ('three', 'nothing here')`)
		want(`SELECT title FROM doc WHERE doc MATCH 'jump' ORDER BY title`, "one / two")
		want(`SELECT highlight(doc, 1, '[', ']') FROM doc WHERE doc MATCH 'body: fox'`, "the quick brown [fox] jumps")
		do(`DELETE FROM doc WHERE title='one'`)
		want(`SELECT title FROM doc('jump AND over') ORDER BY bm25(doc)`, "two")
		do(`INSERT INTO doc(doc) VALUES('integrity-check')`)
	})
	t.Run("rtree", func(t *testing.T) {
		do(`CREATE VIRTUAL TABLE place USING rtree(id, x0, x1, y0, y1, +name)`)
		do(`INSERT INTO place VALUES(1, 0, 1, 0, 1, 'a'), (2, 5, 6, 5, 6, 'b'), (3, 0.5, 5.5, 0.5, 5.5, 'c')`)
		want(`SELECT name FROM place WHERE x0 <= 1 AND x1 >= 0.9 AND y0 <= 1 ORDER BY id`, "a / c")
		want(`SELECT rtreecheck('place')`, "ok")
	})
	t.Run("schema and space", func(t *testing.T) {
		do(`ALTER TABLE audit ADD COLUMN who TEXT DEFAULT 'nobody'`)
		do(`ALTER TABLE audit RENAME COLUMN what TO event`)
		want(`SELECT event, who FROM audit`, "sold|nobody")
		do(`CREATE TABLE big(b BLOB)`)
		do(`WITH RECURSIVE c(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM c WHERE i<2000) INSERT INTO big SELECT randomblob(3000) FROM c`)
		before := n.one("f", "PRAGMA page_count").Int()
		do(`DELETE FROM big`)
		do(`VACUUM`)
		if after := n.one("f", "PRAGMA page_count").Int(); after > before/4 {
			t.Errorf("VACUUM: %d pages before, %d after", before, after)
		}
		do(`ANALYZE`)
		do(`REINDEX`)
		do(`PRAGMA optimize`)
		do(`PRAGMA user_version=7`)
		want(`PRAGMA user_version`, "7")
		want(`PRAGMA foreign_key_check`, "")
	})
	t.Run("after the first key", func(t *testing.T) {
		if _, _, err := n.Exec(t.Context(), "f", &wire.Request{IdempotencyKey: "k", Statements: []wire.Statement{{SQL: "DELETE FROM audit WHERE 0"}}}); err != nil {
			t.Fatal(err)
		}
		for _, sql := range []string{"VACUUM", "ANALYZE", "REINDEX", "PRAGMA optimize", "ALTER TABLE audit ADD COLUMN more", "ALTER TABLE audit DROP COLUMN more"} {
			do(sql)
		}
	})
	n.kill()
	n.start()
	want(`SELECT title FROM doc('jump')`, "two")
	want(`SELECT count(*) FROM place`, "3")
	want(`SELECT name, shout FROM book JOIN author ON author=author.id`, "Ada L.|NOTES")
	want(`PRAGMA integrity_check`, "ok")
	db := exportFile(t, n, "f")
	var titles string
	if err := db.QueryRow(`SELECT group_concat(title) FROM doc WHERE doc MATCH 'jump'`).Scan(&titles); err != nil || titles != "two" {
		t.Errorf("plain SQLite reads %q, %v", titles, err)
	}
}

// TestValues sends values there and back, in each form of the API.
func TestValues(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	n.create("v")
	n.mustRows("v", "CREATE TABLE t(id INTEGER PRIMARY KEY, v ANY) STRICT")
	blob := make([]byte, 256)
	for i := range blob {
		blob[i] = byte(i)
	}
	values := []wire.Value{
		wire.Null, wire.Integer(0), wire.Integer(math.MaxInt64), wire.Integer(math.MinInt64), wire.Integer(1<<53 + 1), wire.Integer(-1<<53 - 1),
		wire.Float(0.1), wire.Float(1), wire.Float(math.MaxFloat64), wire.Float(math.SmallestNonzeroFloat64), wire.Float(math.Inf(1)), wire.Float(math.Inf(-1)),
		wire.Text(""), wire.Text("ä😀\u2028\"\\\x7f\t"), wire.Text("a\x00b"), wire.Text(strings.Repeat("long ", 100_000)),
		wire.Blob(nil), wire.Blob(blob), wire.Blob(bytes.Repeat(blob, 4000)),
	}
	for i, v := range values {
		r, meta, err := n.Query(t.Context(), "v", "INSERT INTO t VALUES(?, ?) RETURNING v, typeof(v)", wire.Integer(int64(i)), v)
		if err != nil {
			t.Fatalf("%.50s: %v", v, err)
		}
		if r.Rows[0][0] != v || r.Rows[0][1].Str() != v.Kind().String() {
			t.Errorf("RETURNING: got %.80s (%s), want %.80s", r.Rows[0][0], r.Rows[0][1], v)
		}
		if meta.Bookmark == "" {
			t.Error("a write without a bookmark")
		}
		// A read with the write's bookmark sees the write.
		got, _, err := n.Exec(t.Context(), "v", &wire.Request{Bookmark: meta.Bookmark, Statements: []wire.Statement{{SQL: "SELECT v FROM t WHERE id=:id", Named: []wire.NamedArg{{Name: ":id", Value: wire.Integer(int64(i))}}}}})
		if err != nil || got[0].Rows[0][0] != v {
			t.Errorf("%.50s: got %v, %v", v, got, err)
		}
	}
	n.kill()
	n.start()
	for i, v := range values {
		if got := n.one("v", "SELECT v FROM t WHERE id=?", wire.Integer(int64(i))); got != v {
			t.Errorf("after a kill: got %.80s, want %.80s", got, v)
		}
	}

	get := func(sql, more string, header ...string) reply {
		t.Helper()
		a := n.do("GET", "/v1/tenants/v/sql?q="+url.QueryEscape(sql)+more, nil, header...)
		if a.status != 200 {
			t.Fatalf("%s: %s", sql, a)
		}
		return a
	}
	rows := func(a reply) string {
		t.Helper()
		var doc struct {
			Results []struct{ Rows json.RawMessage }
		}
		if err := json.Unmarshal(a.body, &doc); err != nil || len(doc.Results) != 1 {
			t.Fatalf("%s: %v", a, err)
		}
		return string(doc.Results[0].Rows)
	}
	if got := rows(get("SELECT id, v FROM t WHERE id=2", "")); got != "[[2,9223372036854775807]]" {
		t.Errorf("GET: %s", got)
	}
	if got := rows(get("SELECT v FROM t WHERE id IN (2, 3)", "&integers=string")); got != `[["9223372036854775807"],["-9223372036854775808"]]` {
		t.Errorf("integers=string: %s", got)
	}
	if got := rows(get("SELECT id, id, ? AS b FROM t WHERE id=0", "&rows=objects&args="+url.QueryEscape(`[{"base64":"AAE"}]`))); got != `[{"id":0,"id_2":0,"b":{"base64":"AAE="}}]` {
		t.Errorf("rows=objects: %s", got)
	}
	if got := rows(n.do("POST", "/v1/tenants/v/sql?args="+url.QueryEscape(`{"x":{"float":"-inf"}}`), strings.NewReader("SELECT $x, true"), "Content-Type", "application/sql")); got != `[[{"float":"-inf"},1]]` {
		t.Errorf("application/sql: %s", got)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	fmt.Fprintf(z, `{"sql":"SELECT hex(?)","args":[{"base64":%q}]}`, base64.StdEncoding.EncodeToString(blob))
	z.Close()
	if got := rows(n.do("POST", "/v1/tenants/v/sql", &packed, "Content-Type", "application/json", "Content-Encoding", "gzip")); got != fmt.Sprintf(`[["%X"]]`, blob) {
		t.Errorf("gzip: %s", got)
	}
	a := get("SELECT v FROM t WHERE id=15", "", "Accept-Encoding", "gzip")
	if a.header.Get("Content-Encoding") != "gzip" || len(a.body) > 50_000 {
		t.Errorf("a large answer has encoding %q and %d bytes", a.header.Get("Content-Encoding"), len(a.body))
	}
	zr, err := gzip.NewReader(bytes.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	if a.body, err = io.ReadAll(zr); err != nil {
		t.Fatal(err)
	}
	if got := rows(a); got != `[["`+values[15].Str()+`"]]` {
		t.Errorf("a packed answer has %d bytes", len(got))
	}
	// A batch is one transaction: all or nothing, and one snapshot.
	if a := n.post("v", "", `{"statements":[{"sql":"INSERT INTO t VALUES(100,1)"},{"sql":"SELECT count(*) FROM t WHERE id=100"},{"sql":"INSERT INTO t VALUES(100,2)"}]}`); a.status != 409 || !bytes.Contains(a.body, []byte(`"statement":3`)) {
		t.Errorf("batch: %s", a)
	}
	if got := n.one("v", "SELECT count(*) FROM t WHERE id=100"); got.Int() != 0 {
		t.Error("a part of a batch that failed is there")
	}
}

// TestStream reads an answer of any length as lines, while the tenant is written to.
func TestStream(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	n.create("s")
	n.mustRows("s", "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)")
	const count = 100_000
	n.mustRows("s", fmt.Sprintf("WITH RECURSIVE c(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM c WHERE i<%d) INSERT INTO t SELECT i, 'row ' || i FROM c", count))
	for _, encoding := range []string{"identity", "gzip"} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", n.url+"/v1/tenants/s/sql?q="+url.QueryEscape("SELECT id, v FROM t ORDER BY id"), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+n.key)
		req.Header.Set("Accept", "application/x-ndjson")
		req.Header.Set("Accept-Encoding", encoding)
		c := newHTTP()
		defer c.CloseIdleConnections()
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var body io.Reader = resp.Body
		if encoding == "gzip" {
			if body, err = gzip.NewReader(body); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		s := bufio.NewScanner(body)
		lines, last := 0, ""
		for s.Scan() {
			switch lines {
			case 0:
				if s.Text() != `{"columns":["id","v"],"types":["integer","text"]}` {
					t.Errorf("the first line is %s", s.Text())
				}
				// The stream sees one state, whatever is written meanwhile.
				n.mustRows("s", "UPDATE t SET v='changed' WHERE id % 7 = 0")
				n.mustRows("s", fmt.Sprintf("DELETE FROM t WHERE id > %d", count/2))
			default:
				if want := fmt.Sprintf(`[%d,"row %d"]`, lines, lines); lines <= count && s.Text() != want {
					t.Fatalf("line %d: got %s, want %s", lines, s.Text(), want)
				}
			}
			lines++
			last = s.Text()
		}
		if s.Err() != nil || lines != count+3 || !strings.Contains(last, `"meta"`) {
			t.Fatalf("%d lines, last %.200s, %v", lines, last, s.Err())
		}
		t.Logf("%s: %d rows in %s", encoding, count, time.Since(began).Round(time.Millisecond))
		n.mustRows("s", "UPDATE t SET v='row ' || id")
		n.mustRows("s", fmt.Sprintf("WITH RECURSIVE c(i) AS (VALUES(%d) UNION ALL SELECT i+1 FROM c WHERE i<%d) INSERT INTO t SELECT i, 'row ' || i FROM c", count/2+1, count))
	}
	// Without a stream the tenant's limit on rows holds.
	if a := n.post("s", "", `{"sql":"SELECT 1 FROM t, (SELECT 1 UNION ALL SELECT 2)"}`); a.status != 413 || a.code() != string(wire.CodeRowsTooLarge) {
		t.Errorf("got %s", a)
	}
}
