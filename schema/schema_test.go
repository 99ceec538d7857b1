package schema

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func plan(t *testing.T, s *State, sql string) *Plan {
	t.Helper()
	p, err := s.Plan(Change{s.Version + 1, sql}, nil)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return p
}

func state(t *testing.T, ddl ...string) *State {
	t.Helper()
	s := &State{}
	for _, sql := range ddl {
		s = plan(t, s, sql).Next
	}
	return s
}

// P14: what is refused, with its text.
func TestRefused(t *testing.T) {
	wide := "CREATE TABLE t(k INTEGER PRIMARY KEY"
	for i := range 64 {
		wide += fmt.Sprintf(", c%d", i)
	}
	for _, x := range []struct{ sql, why string }{
		{"CREATE TABLE crr.t(a, b)", "crr table t: a PRIMARY KEY is required: it names the row on every site"},
		{"CREATE TABLE crr.t AS SELECT 1", "crr table t: a PRIMARY KEY is required: it names the row on every site"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY, b)", "crr table t: primary key column a must be NOT NULL"},
		{"CREATE TABLE crr.t(a INT PRIMARY KEY, b)", "crr table t: primary key column a must be NOT NULL"},
		{"CREATE TABLE crr.t(a INTEGER PRIMARY KEY, b) WITHOUT ROWID", "crr table t: primary key column a must be NOT NULL"},
		{"CREATE TABLE crr.t(a TEXT NOT NULL, b TEXT, PRIMARY KEY(a, b))", "crr table t: primary key column b must be NOT NULL"},
		{"CREATE TABLE crr.t(a INTEGER PRIMARY KEY AUTOINCREMENT, b)", "two sites would give one number to two rows; use TEXT PRIMARY KEY NOT NULL DEFAULT (uuid7())"},
		{"CREATE TABLE crr.t(a INTEGER, b, PRIMARY KEY(a AUTOINCREMENT))", "two sites would give one number to two rows"},
		{"CREATE TABLE crr.t(a INTEGER PRIMARY KEY DESC, b)", "ascending"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, b TEXT UNIQUE)", "crr table t: UNIQUE (b) cannot be kept across sites; make it the PRIMARY KEY, or use a strong table"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, b TEXT, c, UNIQUE(b, c))", "UNIQUE (b, c) cannot be kept across sites"},
		{"CREATE UNIQUE INDEX crr.i ON t(b)", "UNIQUE (i) cannot be kept across sites; make it the PRIMARY KEY, or use a strong table"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, b REFERENCES u(x) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED)", "a parent may be deleted elsewhere"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, b, FOREIGN KEY(b) REFERENCES u)", "a parent may be deleted elsewhere"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL COLLATE nocase, b)", "must compare BINARY"},
		{"CREATE TABLE crr.t(a TEXT NOT NULL, b, PRIMARY KEY(a COLLATE rtrim))", "must compare BINARY"},
		{"CREATE TABLE crr.t(a REAL PRIMARY KEY NOT NULL, b)", "primary key column a must be declared INTEGER, TEXT or BLOB"},
		{"CREATE TABLE crr.t(a PRIMARY KEY NOT NULL, b)", "primary key column a must be declared INTEGER, TEXT or BLOB"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, n COUNTER)", "COUNTER column n must be declared NOT NULL DEFAULT 0"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, n COUNTER NOT NULL DEFAULT 5)", "COUNTER column n must be declared NOT NULL DEFAULT 0"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, n COUNTER NOT NULL DEFAULT 0 CHECK(n>=0))", "declare it BOUNDED COUNTER"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, n COUNTER NOT NULL DEFAULT 0) STRICT", "STRICT"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, n BOUNDED COUNTER NOT NULL DEFAULT 0)", "there is only COUNTER"},
		{"CREATE TABLE crr.t(a COUNTER PRIMARY KEY NOT NULL, x INT)", "a COUNTER cannot be part of the PRIMARY KEY"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, x INT, y INT, CHECK(x<y))", "a CHECK over several columns cannot hold when sites change them apart"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, x INT CHECK(x < t.y), y INT)", "a CHECK over several columns"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, x CHECK(x < random()))", "cannot use random()"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, x CHECK(x < CURRENT_TIME))", "cannot use CURRENT_TIME"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, x CHECK(x = claim('sub')))", "cannot use claim()"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, x, y, z AS (x-y) CHECK(z>0))", "CHECK on generated column z"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, x, y, z AS (nullif(x,y)) NOT NULL)", "generated column z cannot be NOT NULL"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, x, y, z AS (json_extract(x,y)))", "generated column z cannot use json_extract() over several columns"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, x, y, z AS (x->>y))", "generated column z cannot use -> over several columns"},
		{"CREATE TABLE crr.t(a TEXT PRIMARY KEY NOT NULL, n COUNTER NOT NULL DEFAULT 0, z AS (abs(n)))", "generated column z cannot use abs()"},
		{wide + ")", "more than 63 columns besides the key"},
		{"CREATE TABLE crr.crr_t(a TEXT PRIMARY KEY NOT NULL)", "kept for nearsql"},
		{"CREATE TABLE \"__CRR_t\"(a TEXT PRIMARY KEY NOT NULL)", "kept for nearsql"},
		{"CREATE TABLE have(a TEXT PRIMARY KEY NOT NULL)", "there is a table"},
		{"CREATE TABLE strong(a TEXT PRIMARY KEY NOT NULL)", "a name may be in one of both only"},
		{"CREATE VIEW strong AS SELECT 1", "a name may be in one of both only"},
		{"CREATE TABLE main.t(a TEXT PRIMARY KEY NOT NULL)", "not in the schema"},
		{"CREATE VIRTUAL TABLE crr.t USING fts5(a)", "virtual table"},
		{"CREATE TRIGGER crr.g AFTER INSERT ON have BEGIN SELECT 1; END", "a trigger"},
		{"CREATE TEMP TABLE t(a)", "TEMP"},
		{"CREATE INDEX crr.i ON have(lower(a))", "over an expression"},
		{"CREATE INDEX crr.i ON have(a) WHERE json_valid(a)", "the condition of index i"},
		{"CREATE INDEX crr.i ON have(a) WHERE a->'x' IS NULL", "the condition of index i"},
		{"CREATE INDEX crr.i ON none(a)", "no such conflict-free table: none"},
		{"CREATE VIEW crr.v AS SELECT * FROM crr.have", "without crr."},
		{"ALTER TABLE have ADD COLUMN u TEXT UNIQUE", "UNIQUE (u) cannot be kept"},
		{"ALTER TABLE have ADD COLUMN p TEXT PRIMARY KEY", "cannot become part"},
		{"ALTER TABLE have ADD COLUMN d TEXT DEFAULT CURRENT_TIMESTAMP", "constant DEFAULT"},
		{"ALTER TABLE have ADD COLUMN d TEXT DEFAULT (uuid7())", "constant DEFAULT"},
		{"ALTER TABLE have ADD COLUMN d TEXT NOT NULL", "NOT NULL without a DEFAULT"},
		{"ALTER TABLE have ADD COLUMN d TEXT NOT NULL DEFAULT NULL", "NOT NULL without a DEFAULT"},
		{"ALTER TABLE have ADD COLUMN d INT DEFAULT 1 CHECK(d>0)", "cannot be added with a CHECK"},
		{"ALTER TABLE have ADD COLUMN n COUNTER", "NOT NULL DEFAULT 0"},
		{"ALTER TABLE have ADD COLUMN g AS (a)", "must be declared with the table"},
		{"ALTER TABLE have ADD COLUMN A INT", "duplicate column name"},
		{"ALTER TABLE have DROP COLUMN k", "part of the PRIMARY KEY"},
		{"ALTER TABLE have ALTER COLUMN a SET NOT NULL", "only RENAME, ADD COLUMN and DROP COLUMN"},
		{"ALTER TABLE none DROP COLUMN a", "no such conflict-free table"},
		{"ALTER TABLE have RENAME TO __crr_m1", "kept for nearsql"},
		{"ALTER TABLE have RENAME TO strong", "one of both only"},
		{"DROP TABLE none", "no such conflict-free table"},
		{"DROP VIEW none", "no such view"},
		{"DROP INDEX none", "no such index"},
		{"DROP TABLE have; DROP TABLE have", "expected the end"},
		{"CREATE VIEW v AS SELECT 1; DROP TABLE have", "expected one statement"},
		{"INSERT INTO have VALUES(1)", "expected CREATE, ALTER TABLE or DROP"},
		{"CREATE TABLE t(a TEXT PRIMARY KEY NOT NULL", "found the end"},
		{"CREATE TABLE t(a 'unfinished", "doesn't end"},
		{"", "found the end"},
	} {
		s := state(t, "CREATE TABLE crr.have(k TEXT PRIMARY KEY NOT NULL, a)")
		_, err := s.Plan(Change{2, x.sql}, func(n string) bool { return n == "strong" })
		if err == nil || !strings.Contains(err.Error(), x.why) {
			t.Errorf("%s: %v, want %q", x.sql, err, x.why)
			continue
		}
		var r *Refusal
		var e *SyntaxError
		if !errors.As(err, &r) && !errors.As(err, &e) {
			t.Errorf("%s: an error of type %T", x.sql, err)
		}
	}
}

func TestTaken(t *testing.T) {
	for _, x := range []struct{ sql, run string }{
		{"create table if not exists crr.t(a text primary key not null, n counter not null default 0 /* COUNTER */, counter TEXT default 'COUNTER');",
			`CREATE TABLE crr."t"(a text primary key not null, n INTEGER not null default 0 /* COUNTER */, counter TEXT default 'COUNTER')`},
		{"CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL DEFAULT (uuid7()), x INT NOT NULL CHECK(x>0 AND length(id)<x), y VARCHAR(10) DEFAULT 'q', z AS (x+1) STORED) WITHOUT ROWID",
			`CREATE TABLE crr."t"(id TEXT PRIMARY KEY NOT NULL DEFAULT (uuid7()), x INT NOT NULL CHECK(x>0 AND length(id)<x), y VARCHAR(10) DEFAULT 'q', z AS (x+1) STORED) WITHOUT ROWID`},
		{"CREATE TABLE [a b](k INTEGER NOT NULL, l BLOB NOT NULL, v ANY, CONSTRAINT c PRIMARY KEY (k, l) ON CONFLICT REPLACE) STRICT, WITHOUT ROWID",
			`CREATE TABLE crr."a b"(k INTEGER NOT NULL, l BLOB NOT NULL, v ANY, CONSTRAINT c PRIMARY KEY (k, l) ON CONFLICT REPLACE) STRICT, WITHOUT ROWID`},
		{"CREATE VIEW crr.v(x) AS SELECT k FROM have -- end", `CREATE VIEW crr."v" (x) AS SELECT k FROM have`},
		{"CREATE INDEX crr.i ON have(a COLLATE nocase DESC, k) WHERE a IS NOT NULL AND (k > 'x' OR a IN (1,2))", `CREATE INDEX crr."i" ON "have"(a COLLATE nocase DESC, k) WHERE a IS NOT NULL AND (k > 'x' OR a IN (1,2))`},
		{"ALTER TABLE crr.have ADD n COUNTER NOT NULL DEFAULT 0", `ALTER TABLE crr."have" ADD COLUMN n INTEGER NOT NULL DEFAULT 0`},
		{"ALTER TABLE have ADD COLUMN d REAL NOT NULL DEFAULT -1.5", `ALTER TABLE crr."have" ADD COLUMN d REAL NOT NULL DEFAULT -1.5`},
		{"ALTER TABLE have RENAME a TO b", `ALTER TABLE crr."have" RENAME COLUMN "a" TO "b"`},
		{"ALTER TABLE have DROP a", `ALTER TABLE crr."have" DROP COLUMN "a"`},
		{"ALTER TABLE have RENAME TO had", `ALTER TABLE crr."have" RENAME TO "had"`},
		{"DROP TABLE IF EXISTS crr.have", `DROP TABLE crr."have"`},
		{"DROP TABLE IF EXISTS none", ""},
		{"CREATE TABLE IF NOT EXISTS have(a)", ""},
		{"DROP VIEW IF EXISTS none", ""},
	} {
		p := plan(t, state(t, "CREATE TABLE crr.have(k TEXT PRIMARY KEY NOT NULL, a)"), x.sql)
		if got := strings.Join(p.SQL, ";"); got != x.run {
			t.Errorf("%s:\ngot  %s\nwant %s", x.sql, got, x.run)
		}
	}
}

// Ids are given once, renames keep them, and old states stay as they were.
func TestIdsAreNeverUsedTwice(t *testing.T) {
	ddl := []string{"CREATE TABLE t(k TEXT PRIMARY KEY NOT NULL, a, b)", "ALTER TABLE t DROP COLUMN b", "ALTER TABLE t ADD COLUMN b INT DEFAULT 7",
		"ALTER TABLE t RENAME COLUMN a TO c", "ALTER TABLE t RENAME TO u", "DROP TABLE u", "CREATE TABLE t(k INTEGER PRIMARY KEY, a)", "CREATE VIEW v AS SELECT 1", "CREATE INDEX i ON t(a)"}
	s := state(t, ddl...)
	first, second := s.ByID(1), s.ByID(2)
	want := []Column{{1, "c", LWW, 1, 0, ""}, {2, "b", LWW, 1, 2, ""}, {3, "b", LWW, 3, 0, "7"}}
	if first.Name != "u" || first.Gone != 6 || !reflect.DeepEqual(first.Columns, want) {
		t.Errorf("first table: %+v", first)
	}
	if second.Name != "t" || !second.RowIDKey || second.Since != 7 || s.Table("T") != second || s.Table("u") != nil {
		t.Errorf("second table: %+v", second)
	}
	if !s.Has("V") || !s.Has("i") || s.Has("u") {
		t.Error("names are wrong")
	}
	var cs []Change
	for i, sql := range ddl {
		cs = append(cs, Change{uint64(i + 1), sql})
	}
	again, err := Replay(cs)
	if err != nil || !reflect.DeepEqual(again, s) {
		t.Errorf("replayed: %+v, %v", again, err)
	}
	before := state(t, ddl[0])
	plan(t, before, ddl[1])
	if len(before.Table("t").Live()) != 2 {
		t.Error("a plan changed the state that it was made for")
	}
	var v *VersionError
	if _, err := s.Plan(Change{5, "DROP TABLE t"}, nil); !errors.As(err, &v) || v.Have != 9 {
		t.Errorf("a change out of order: %v", err)
	}
	if _, err := Replay(cs[1:]); err == nil {
		t.Error("replayed without the first change")
	}
}

func TestConversions(t *testing.T) {
	steps, err := ToConflictFree("CREATE TABLE likes(id TEXT PRIMARY KEY NOT NULL, n COUNTER NOT NULL DEFAULT 0, g AS (id))")
	if err != nil {
		t.Fatal(err)
	}
	want := []Step{{Strong, `ALTER TABLE main."likes" RENAME TO "likes__strong"`},
		{DDL, "CREATE TABLE likes(id TEXT PRIMARY KEY NOT NULL, n COUNTER NOT NULL DEFAULT 0, g AS (id))"},
		{OneSite, `INSERT INTO crr."likes"("id", "n") SELECT "id", "n" FROM main."likes__strong"`},
		{Strong, `DROP TABLE main."likes__strong"`}}
	if !reflect.DeepEqual(steps, want) {
		t.Errorf("got %q", steps)
	}
	s := state(t, want[1].SQL)
	back, err := ToStrong(s.Table("likes"), "CREATE TABLE likes(id TEXT PRIMARY KEY NOT NULL, n COUNTER)")
	if err != nil {
		t.Fatal(err)
	}
	want = []Step{{Strong, `CREATE TABLE main."likes__strong"(id TEXT PRIMARY KEY NOT NULL, n INTEGER)`},
		{Strong, `INSERT INTO main."likes__strong"("id", "n") SELECT "id", "n" FROM crr."likes"`},
		{DDL, `DROP TABLE crr."likes"`},
		{Strong, `ALTER TABLE main."likes__strong" RENAME TO "likes"`}}
	if !reflect.DeepEqual(back, want) {
		t.Errorf("got %q", back)
	}
	if _, err := ToConflictFree("CREATE TABLE t(a)"); err == nil {
		t.Error("converted a table without a key")
	}
	if _, err := ToStrong(s.Table("likes"), "CREATE TABLE other(a)"); err == nil {
		t.Error("converted to another name")
	}
}

func FuzzPlan(f *testing.F) {
	for _, sql := range []string{"CREATE TABLE t(k TEXT PRIMARY KEY NOT NULL, n COUNTER NOT NULL DEFAULT 0, UNIQUE(n), CHECK(n>k)) STRICT", "ALTER TABLE t ADD COLUMN x INT DEFAULT -1",
		"CREATE INDEX i ON t(a, b DESC) WHERE a > 1", "CREATE VIEW v(a) AS SELECT 1", "DROP TABLE IF EXISTS crr.t", "ALTER TABLE t RENAME COLUMN a TO b", "create table \"", "create table t(a b c(1,2) as (x) collate y default (1) references z(q) match m"} {
		f.Add(sql)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		s := &State{}
		p, err := s.Plan(Change{1, sql}, nil)
		if err != nil {
			return
		}
		for _, run := range p.SQL {
			if strings.Contains(strings.ToUpper(run), "MAIN.") && !strings.Contains(strings.ToUpper(sql), "MAIN.") {
				t.Errorf("%q became %q", sql, run)
			}
		}
	})
}
