package engine

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// plain is SQLite as it is, on a file of its own, to compare the engine with.
type plain struct {
	t testing.TB
	c *sqlite.Conn
}

func newPlain(t testing.TB, path string) *plain {
	t.Helper()
	c, err := sqlite.Open(path, "", sqlite.ReadWrite|sqlite.Create)
	if err != nil {
		t.Fatal(err)
	}
	p := &plain{t, c}
	p.must("PRAGMA page_size=4096; PRAGMA journal_mode=MEMORY; PRAGMA synchronous=off; PRAGMA foreign_keys=on")
	for op, on := range map[sqlite.ConfigOp]bool{sqlite.Defensive: true, sqlite.TrustedSchema: false, sqlite.DQSInDDL: false} {
		if err := c.Config(op, on); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *plain) must(sql string) {
	p.t.Helper()
	if err := p.c.Exec(sql); err != nil {
		p.t.Fatalf("%s: %v", sql, err)
	}
}

// do runs a request as the engine promises to: all of it or nothing.
func (p *plain) do(req *wire.Request) ([]wire.Result, *wire.Error) {
	vacuum := classify(req.Statements[0].SQL) == classVacuum
	first := 0
	var results []wire.Result
	step := func(i int) *wire.Error {
		res, err := p.one(&req.Statements[i])
		if err != nil {
			return wire.NewError(wire.CodeForSQLite(sqlite.ErrorCode(err)), "%s", err.(*sqlite.Error).Message).At(i + 1)
		}
		results = append(results, res)
		return nil
	}
	for first < len(req.Statements) && classify(req.Statements[first].SQL) == classSession {
		if e := step(first); e != nil {
			return nil, e
		}
		first++
	}
	if !vacuum {
		p.must("BEGIN")
	}
	fail := func(e *wire.Error) ([]wire.Result, *wire.Error) {
		if !p.c.Autocommit() {
			p.must("ROLLBACK")
		}
		p.reset()
		return nil, e
	}
	for i := first; i < len(req.Statements); i++ {
		if e := step(i); e != nil {
			return fail(e)
		}
	}
	if !vacuum {
		if err := p.c.Exec("COMMIT"); err != nil {
			return fail(wire.NewError(wire.CodeForSQLite(sqlite.ErrorCode(err)), "%s", err.(*sqlite.Error).Message))
		}
	}
	p.reset()
	return results, nil
}

func (p *plain) reset() {
	p.must("PRAGMA foreign_keys=on; PRAGMA defer_foreign_keys=off; PRAGMA recursive_triggers=off; PRAGMA case_sensitive_like=off")
}

func (p *plain) one(w *wire.Statement) (res wire.Result, _ error) {
	s, _, err := p.c.Prepare(w.SQL, false)
	if err != nil {
		return res, err
	}
	defer s.Finalize()
	if err := s.BindAll(w.Args); err != nil {
		return res, err
	}
	before := p.c.TotalChanges()
	insert := isInsert(w.SQL) && !s.ReadOnly()
	if insert {
		p.c.SetLastInsertRowID(noRowID)
	}
	for {
		ok, err := s.Step()
		if err != nil {
			return res, err
		}
		if !ok {
			break
		}
		row := make([]wire.Value, s.ColumnCount())
		for i := range row {
			row[i] = s.Column(i)
		}
		res.Rows = append(res.Rows, row)
	}
	for i := range s.ColumnCount() {
		res.Columns = append(res.Columns, wire.Column{Name: s.ColumnName(i), DeclType: s.ColumnDeclType(i)})
	}
	if p.c.TotalChanges() != before {
		res.RowsAffected = p.c.Changes()
	}
	if id := p.c.LastInsertRowID(); insert && id != noRowID {
		res.LastInsertRowID, res.Inserted = id, true
	}
	return res, nil
}

var plainSchema = []string{
	"CREATE TABLE t(id INTEGER PRIMARY KEY, a INT UNIQUE, b TEXT COLLATE NOCASE, c REAL DEFAULT 1.5)",
	"CREATE TABLE s(k TEXT PRIMARY KEY, v INT NOT NULL, w ANY) STRICT, WITHOUT ROWID",
	"CREATE TABLE g(a INT CHECK(a < 15), b AS (a*2) STORED, c GENERATED ALWAYS AS (a||'x'))",
	"CREATE TABLE p(id INTEGER PRIMARY KEY, n)",
	"CREATE TABLE ch(id INTEGER PRIMARY KEY, p INT REFERENCES p ON DELETE CASCADE ON UPDATE SET NULL)",
	"CREATE TABLE df(id, p INT REFERENCES p(id) DEFERRABLE INITIALLY DEFERRED)",
	"CREATE TABLE au(id INTEGER PRIMARY KEY AUTOINCREMENT, x BLOB UNIQUE ON CONFLICT FAIL)",
	"CREATE TABLE log(op, id)",
	"CREATE INDEX tc ON t(c) WHERE b IS NOT NULL",
	"CREATE INDEX tb ON t(lower(b), a DESC)",
	"CREATE TRIGGER ti AFTER INSERT ON t BEGIN INSERT INTO log VALUES('i', new.id); END",
	"CREATE TRIGGER td AFTER DELETE ON t WHEN old.a > 10 BEGIN INSERT INTO log VALUES('d', old.id); UPDATE p SET n=coalesce(n,0)+1; END",
	"CREATE TRIGGER tu BEFORE UPDATE OF b ON t BEGIN SELECT CASE WHEN new.b='abort' THEN RAISE(ABORT, 'no abort') WHEN new.b='fail' THEN RAISE(FAIL, 'no fail') WHEN new.b='rollback' THEN RAISE(ROLLBACK, 'no rollback') WHEN new.b='ignore' THEN RAISE(IGNORE) END; END",
	"CREATE VIEW v AS SELECT id, a, b FROM t WHERE a IS NOT NULL",
	"CREATE TRIGGER vi INSTEAD OF INSERT ON v BEGIN INSERT INTO t(a, b) VALUES(new.a, new.b); END",
	"CREATE VIRTUAL TABLE ft USING fts5(x, y UNINDEXED)",
	"CREATE VIRTUAL TABLE rt USING rtree(id, x0, x1)",
}

// plainTemplates make statements; %d is a small number, %s a word, each ? is bound to any value.
var plainTemplates = []string{
	"INSERT INTO t(a, b) VALUES(%d, '%s')", "INSERT INTO t(a, b, c) VALUES(?, ?, ?)", "INSERT INTO t VALUES(%d, %d, '%s', %d.25) RETURNING *",
	"INSERT OR IGNORE INTO t(id, a) VALUES(%d, %d)", "INSERT OR REPLACE INTO t(id, a, b) VALUES(%d, %d, '%s') RETURNING id, a AS x",
	"INSERT OR FAIL INTO t(a) VALUES(%d), (%d), (%d)", "INSERT OR ROLLBACK INTO t(a) VALUES(%d), (%d)", "REPLACE INTO t(id, a) VALUES(%d, %d)",
	"INSERT INTO t(a, b) VALUES(%d, '%s') ON CONFLICT(a) DO UPDATE SET b=excluded.b||t.id, c=c+1 WHERE t.id<%d RETURNING id, b",
	"INSERT INTO t(a) VALUES(%d) ON CONFLICT DO NOTHING", "UPDATE t SET a=a+1 WHERE id=%d", "UPDATE t SET a=a+%d", "UPDATE t SET b='%s' WHERE id>=%d RETURNING b",
	"UPDATE t SET c=p.id FROM p WHERE p.id=t.a", "DELETE FROM t WHERE id=%d", "DELETE FROM t WHERE a>%d RETURNING id, a, b", "DELETE FROM t",
	"INSERT INTO s VALUES('%s', %d, ?)", "INSERT INTO s VALUES('%s', ?, ?)", "INSERT INTO s VALUES(?, 'x', 1)", "UPDATE s SET v=v*%d, w=? WHERE k<'%s'",
	"INSERT INTO g(a) VALUES(%d), (%d)", "UPDATE g SET a=a+%d", "SELECT *, typeof(b), typeof(c) FROM g ORDER BY rowid",
	"INSERT INTO p(id) VALUES(%d)", "INSERT INTO p VALUES(%d, ?)", "DELETE FROM p WHERE id=%d", "UPDATE p SET id=id+%d WHERE id=%d", "INSERT INTO ch(p) VALUES(%d)",
	"INSERT INTO df VALUES(%d, %d)", "DELETE FROM df WHERE p=%d", "UPDATE df SET p=%d", "SELECT count(*) FROM ch JOIN p ON ch.p=p.id",
	"INSERT INTO au(x) VALUES(?)", "INSERT INTO au(x) VALUES(zeroblob(%d)), (zeroblob(0))", "DELETE FROM au WHERE id=%d RETURNING hex(x)", "INSERT INTO au(x) VALUES(x'00'), (x'00')",
	"INSERT INTO v(a, b) VALUES(%d, '%s')", "SELECT * FROM v ORDER BY id", "DELETE FROM v",
	"INSERT INTO ft VALUES('%s %s', %d)", "SELECT rowid, x, y FROM ft WHERE ft MATCH '%s' ORDER BY rank, rowid", "DELETE FROM ft WHERE rowid=%d", "UPDATE ft SET x='%s' WHERE y=%d", "INSERT INTO ft(ft) VALUES('optimize')",
	"INSERT INTO rt VALUES(%d, %d, 20)", "SELECT id FROM rt WHERE x0<%d ORDER BY id", "DELETE FROM rt WHERE id=%d",
	"WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<%d) INSERT INTO t(a) SELECT i+%d FROM c",
	"WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<%d) SELECT sum(i), avg(i), group_concat(i) FROM c",
	"WITH x AS MATERIALIZED (SELECT * FROM t WHERE a<%d) DELETE FROM t WHERE id IN (SELECT id FROM x)",
	"SELECT id, a, row_number() OVER (ORDER BY a DESC), sum(a) OVER (PARTITION BY b ORDER BY id ROWS 2 PRECEDING) FROM t ORDER BY id",
	"SELECT json_group_array(json_object('a', a, 'b', b)) FROM (SELECT * FROM t ORDER BY id)", "SELECT value, type FROM json_each('[1, %d, \"%s\", null, 1.5]')",
	"SELECT jsonb(?)", "SELECT b AS name, count(*), max(c) FROM t GROUP BY b ORDER BY 1", "SELECT * FROM t LEFT JOIN p ON t.a=p.id ORDER BY t.id", "SELECT ?, ?, typeof(?), quote(?)",
	"SELECT 1/0, 1.0/3, 9223372036854775807+1, x'00ff', -0.0, 1e999", "SELECT abs(-9223372036854775808)", "SELECT nothing", "SELECT * FROM nowhere", "INSERT INTO t(nope) VALUES(1)", "SELEC", "UPDATE t SET",
	"SELECT * FROM t WHERE b LIKE '%s%%' ORDER BY id", "EXPLAIN QUERY PLAN SELECT * FROM t WHERE a=%d",
	"ALTER TABLE log ADD COLUMN x%d DEFAULT %d", "CREATE INDEX i%d ON log(op)", "DROP INDEX IF EXISTS i%d", "CREATE TABLE n%d(x, y AS (x+1))", "DROP TABLE IF EXISTS n%d", "CREATE TABLE c%d AS SELECT * FROM t",
	"INSERT INTO n%d VALUES(1)", "SELECT * FROM log ORDER BY rowid", "VACUUM", "ANALYZE", "REINDEX", "PRAGMA user_version=%d", "PRAGMA user_version", "PRAGMA table_info(t)", "PRAGMA foreign_keys",
	"PRAGMA foreign_key_check", "PRAGMA integrity_check", "PRAGMA auto_vacuum=%d", "PRAGMA incremental_vacuum", "PRAGMA foreign_keys=off", "PRAGMA defer_foreign_keys=on", "PRAGMA recursive_triggers=on", "PRAGMA case_sensitive_like=on",
}

func drawStatement(rt *rapid.T) wire.Statement {
	tmpl := rapid.SampledFrom(plainTemplates).Draw(rt, "template")
	number := rapid.IntRange(0, 20)
	word := rapid.SampledFrom([]string{"ada", "Ada", "bob", "abort", "fail", "rollback", "ignore", "x"})
	var b strings.Builder
	for i := 0; i < len(tmpl); i++ {
		switch {
		case tmpl[i] == '%' && tmpl[i+1] == 'd':
			fmt.Fprint(&b, number.Draw(rt, "number"))
			i++
		case tmpl[i] == '%' && tmpl[i+1] == 's':
			b.WriteString(word.Draw(rt, "word"))
			i++
		case tmpl[i] == '%':
			b.WriteByte('%')
			i++
		default:
			b.WriteByte(tmpl[i])
		}
	}
	w := wire.Statement{SQL: b.String()}
	value := rapid.OneOf(
		rapid.Just(wire.Null),
		rapid.Map(rapid.Int64Range(-3, 25), wire.Integer),
		rapid.Map(rapid.Int64(), wire.Integer),
		rapid.Map(rapid.Float64(), wire.Float),
		rapid.Map(rapid.StringN(0, 10, 40), wire.Text),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 20), wire.Blob),
	)
	for range strings.Count(tmpl, "?") {
		w.Args = append(w.Args, value.Draw(rt, "argument"))
	}
	return w
}

// TestAgainstPlainSQLite: what the engine answers, and what is in the database in the end, is what
// SQLite by itself makes of the same requests.
func TestAgainstPlainSQLite(t *testing.T) {
	r := newRig(t, Config{StatementCache: 20})
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		tn := r.create(n, tenant.Limits{})
		defer r.e.Forget(tn)
		p := newPlain(t, filepath.Join(dir, fmt.Sprint(n)))
		defer p.c.Close()
		for _, sql := range plainSchema {
			r.exec(tn, sql)
			p.must(sql)
		}
		for range rapid.IntRange(10, 40).Draw(rt, "requests") {
			req := &wire.Request{}
			for range rapid.SampledFrom([]int{1, 1, 1, 2, 3, 6}).Draw(rt, "statements") {
				req.Statements = append(req.Statements, drawStatement(rt))
			}
			if len(req.Statements) > 1 && strings.Contains(describe(req), "VACUUM") {
				continue
			}
			rt.Logf("%s %v", describe(req), req.Statements[0].Args)
			got, gotErr := r.do(tn, req)
			want, wantErr := p.do(req)
			if fmt.Sprint(gotErr) != fmt.Sprint(wantErr) {
				rt.Fatalf("%s:\n got %v\nwant %v", describe(req), gotErr, wantErr)
			}
			if g, w := printResults(got), printResults(want); g != w {
				rt.Fatalf("%s:\n got %s\nwant %s", describe(req), g, w)
			}
		}
		tables := r.ok(tn, one("SELECT name, type, sql FROM sqlite_schema ORDER BY rowid"))
		schema, _ := p.do(one("SELECT name, type, sql FROM sqlite_schema ORDER BY rowid"))
		if g, w := printResults(tables), printResults(schema); g != w {
			rt.Fatalf("schema:\n got %s\nwant %s", g, w)
		}
		for _, row := range tables[0].Rows {
			if row[1].Str() != "table" {
				continue
			}
			req := one(fmt.Sprintf("SELECT * FROM %q", row[0].Str()))
			want, err := p.do(req)
			if err != nil {
				rt.Fatal(err)
			}
			if g, w := printResults(r.ok(tn, req)), printResults(want); g != w {
				rt.Fatalf("content of %s:\n got %s\nwant %s", row[0], g, w)
			}
		}
		r.want(tn, "PRAGMA integrity_check", `[["ok"]]`)
	})
}

func printResults(results []wire.Result) string {
	var b strings.Builder
	for _, res := range results {
		fmt.Fprintf(&b, "%q %v %+v; ", res.Columns, res.Rows, res.Summary)
	}
	return b.String()
}

// TestIntegrityCheckOfFTS: a reader that searched a table before says of it what is so now.
func TestIntegrityCheckOfFTS(t *testing.T) {
	r := newRig(t, Config{})
	tn := r.create(1, tenant.Limits{Readers: 1})
	r.exec(tn, "CREATE VIRTUAL TABLE ft USING fts5(x)")
	for _, check := range []string{"PRAGMA integrity_check", "PRAGMA main.quick_check"} {
		r.ok(tn, one("SELECT * FROM ft WHERE ft MATCH 'ada'"))
		r.exec(tn, "INSERT INTO ft VALUES('ada bob')")
		r.want(tn, check, `[["ok"]]`)
		r.ok(tn, one("SELECT * FROM ft WHERE ft MATCH 'ada'"))
		r.exec(tn, "INSERT INTO ft VALUES('ada bob')")
		equal(t, check, r.ok(tn, batch("SELECT 1", check))[1].Rows[0], values([]any{"ok"}))
	}
}
