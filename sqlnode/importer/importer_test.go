package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

// TestMain plays the child process when it is started as one: the environment
// of a child is empty, so the arguments say it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == ChildVerb {
		if err := playChild(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// playChild is what cmd/nearsql does with the verb.
func playChild(args []string) error {
	path, dump, maxBytes := "", false, int64(0)
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case fromSQLFlag:
			dump = true
		case maxBytesFlag:
			i++
			maxBytes, _ = strconv.ParseInt(args[i], 10, 64)
		case "--":
		default:
			path = args[i]
		}
	}
	if strings.Contains(path, "crash") {
		panic("the file made the process crash")
	}
	return ChildMain(context.Background(), path, dump, maxBytes, os.Stdin, os.Stdout)
}

// both runs a test in this process and in a child.
func both(t *testing.T, run func(t *testing.T, i *Importer)) {
	t.Run("in process", func(t *testing.T) { run(t, New()) })
	t.Run("child", func(t *testing.T) {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		run(t, Child(exe))
	})
}

// database makes a database file by SQL.
func database(t *testing.T, sql string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a b?%.db")
	c, err := sqlite.Open(path, "", sqlite.ReadWrite|sqlite.Create)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Exec(sql), c.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheckFile(t *testing.T) {
	both(t, func(t *testing.T, i *Importer) {
		path := database(t, `PRAGMA page_size=1024; PRAGMA user_version=7; PRAGMA application_id=-2;
			CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(p REFERENCES p); INSERT INTO c VALUES(1),(2),(NULL);`)
		info, err := i.CheckFile(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		want := Info{PageSize: 1024, Pages: 3, Encoding: "UTF-8", UserVersion: 7, ApplicationID: -2, ForeignKeyViolations: 2}
		if info != want {
			t.Errorf("got %+v, want %+v", info, want)
		}
	})
}

func TestCheckFileOfWAL(t *testing.T) {
	path := database(t, "PRAGMA journal_mode=WAL; CREATE TABLE t(a); INSERT INTO t VALUES(1);")
	info, err := CheckFile(t.Context(), path)
	if err != nil || !info.WAL {
		t.Fatalf("got %+v, %v", info, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(ClearWAL(f), f.Close()); err != nil {
		t.Fatal(err)
	}
	if info, err := CheckFile(t.Context(), path); err != nil || info.WAL {
		t.Fatalf("got %+v, %v", info, err)
	}
}

func TestCheckFileRefuses(t *testing.T) {
	good, err := os.ReadFile(database(t, "CREATE TABLE t(a); CREATE INDEX i ON t(a); WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<500) INSERT INTO t SELECT hex(randomblob(20)) FROM n;"))
	if err != nil {
		t.Fatal(err)
	}
	with := func(offset int, b ...byte) []byte {
		c := append([]byte(nil), good...)
		copy(c[offset:], b)
		return c
	}
	for _, c := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "shorter than the 100 bytes"},
		{"short", good[:50], "shorter"},
		{"text", []byte(strings.Repeat("not a database\n", 20)), "does not begin with"},
		{"page size", with(16, 0x03, 0x03), "page size of 771"},
		{"version", with(18, 9), "version 9 at offset 18"},
		{"truncated", good[:len(good)-8192], ""},
		{"schema", with(100, make([]byte, 400)...), ""},
		{"index page", with(len(good)-4096, []byte("garbage")...), ""},
		{"zeroed page", with(4096*3, make([]byte, 4096)...), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x")
			if err := os.WriteFile(path, c.file, 0o600); err != nil {
				t.Fatal(err)
			}
			both(t, func(t *testing.T, i *Importer) {
				_, err := i.CheckFile(t.Context(), path)
				var bad *BadDatabaseError
				if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want a BadDatabaseError with %q", err, c.want)
				}
			})
		})
	}
	if _, err := CheckFile(t.Context(), "/nonexistent/x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}

const shellDump = `PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE a(id INTEGER PRIMARY KEY AUTOINCREMENT, t TEXT);
INSERT INTO a VALUES(1,'it''s; a
new line');
INSERT INTO a VALUES(2,replace('x\ny','\n',char(10)));
PRAGMA writable_schema=ON;
INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)VALUES('table','f','f',0,'CREATE VIRTUAL TABLE f USING fts5(t)');
CREATE TABLE IF NOT EXISTS 'f_data'(id INTEGER PRIMARY KEY, block BLOB);
INSERT INTO f_data VALUES(1,X'');
INSERT INTO f_data VALUES(10,X'00000000000000');
CREATE TABLE IF NOT EXISTS 'f_idx'(segid, term, pgno, PRIMARY KEY(segid, term)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS 'f_content'(id INTEGER PRIMARY KEY, c0);
CREATE TABLE IF NOT EXISTS 'f_docsize'(id INTEGER PRIMARY KEY, sz BLOB);
CREATE TABLE IF NOT EXISTS 'f_config'(k PRIMARY KEY, v) WITHOUT ROWID;
INSERT INTO f_config VALUES('version',4);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('a',2);
CREATE TRIGGER tr AFTER INSERT ON a BEGIN
  UPDATE a SET t = CASE WHEN t IS NULL THEN ';' ELSE t END WHERE id = new.id;
END;
CREATE INDEX i ON a(t);
CREATE VIEW v AS SELECT * FROM a;
PRAGMA writable_schema=OFF;
COMMIT;
`

func TestFromSQL(t *testing.T) {
	both(t, func(t *testing.T, i *Importer) {
		out := filepath.Join(t.TempDir(), "-out.db")
		if err := i.FromSQL(t.Context(), strings.NewReader("\xef\xbb\xbf"+shellDump), out); err != nil {
			t.Fatal(err)
		}
		info, err := i.CheckFile(t.Context(), out)
		if err != nil || info.WAL || info.PageSize != 4096 {
			t.Fatalf("got %+v, %v", info, err)
		}
		if got := query(t, out, "SELECT group_concat(id||':'||t, '|') FROM v"); got != "1:it's; a\nnew line|2:x\ny" {
			t.Errorf("got %q", got)
		}
		if got := query(t, out, "SELECT count(*) FROM f WHERE f MATCH 'x'"); got != "0" {
			t.Errorf("got %q from the FTS table", got)
		}
		if err := i.FromSQL(t.Context(), strings.NewReader(""), out); !strings.Contains(fmt.Sprint(err), "exists") {
			t.Errorf("a file was overwritten: %v", err)
		}
	})
}

func query(t *testing.T, path, sql string) string {
	t.Helper()
	c, err := sqlite.Open(path, "", sqlite.ReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var got string
	if err := each(t.Context(), c, sql, func(s *sqlite.Stmt) { got = string(s.ColumnBytes(0)) }); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestFromSQLOfNothing(t *testing.T) {
	for _, dump := range []string{"", "-- nothing\n", "BEGIN; COMMIT;", "PRAGMA page_size=8192;"} {
		out := filepath.Join(t.TempDir(), "x")
		if err := FromSQL(t.Context(), strings.NewReader(dump), out); err != nil {
			t.Fatalf("%q: %v", dump, err)
		}
		if _, err := CheckFile(t.Context(), out); err != nil {
			t.Errorf("%q: %v", dump, err)
		}
	}
}

func TestFromSQLIgnoresHowItWantsToRun(t *testing.T) {
	out := filepath.Join(t.TempDir(), "x")
	dump := "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA page_size=8192; PRAGMA user_version=5; CREATE TABLE t(a); VACUUM;"
	if err := FromSQL(t.Context(), strings.NewReader(dump), out); err != nil {
		t.Fatal(err)
	}
	info, err := CheckFile(t.Context(), out)
	if err != nil || info.WAL || info.PageSize != 8192 || info.UserVersion != 5 {
		t.Errorf("got %+v, %v", info, err)
	}
}

func TestFromSQLRefuses(t *testing.T) {
	secret := database(t, "CREATE TABLE s(x)")
	for _, c := range []struct {
		dump, want string
		line       int
	}{
		{"CREATE TABLE t(a);\n\nINSERT INTO t\n VALUES(1,2);", "has 1 columns but 2 values", 3},
		{"CREATE TABLE t(a);\nSELECT 1,\n  2,\n  nothere\n FROM t;", "no such column: nothere", 4},
		{"SELEC 1;", `near "SELEC": syntax error`, 1},
		{"-- x\nATTACH '" + secret + "' AS s;", "ATTACH", 2},
		{"VACUUM INTO '/tmp/nearsql-never';", "VACUUM INTO", 1},
		{"SELECT load_extension('x');", "load_extension is not allowed", 1},
		{"PRAGMA max_page_count=1000000;", "PRAGMA max_page_count is not allowed", 1},
		{"PRAGMA temp_store_directory='/';", "PRAGMA temp_store_directory is not allowed", 1},
		{"SELECT * FROM pragma_module_list;", "PRAGMA module_list is not allowed", 1},
		{"BEGIN;\nCREATE TABLE t(a);\n", "ends within the transaction", 1},
		{"BEGIN;\nCREATE TABLE t(a);\nROLLBACK; -- due to errors\n", "rolls back", 3},
		{"CREATE TABLE t(a);\nINSERT INTO t VALUES('x", "ends within this statement", 2},
		{"CREATE TABLE t(a UNIQUE);\nINSERT INTO t VALUES(1);\nINSERT INTO t VALUES(1);", "UNIQUE constraint failed: t.a", 3},
		{"CREATE TABLE t(a);\nINSERT INTO t VALUES(zeroblob(3000000));", "larger than 2097152 bytes", 2},
		{"PRAGMA page_size=512;\nCREATE TABLE t(a);\nINSERT INTO t VALUES(zeroblob(3000000));", "larger than 2097152 bytes", 3},
		{"SELECT '\x00';", "NUL", 1},
		{"\n" + strings.Repeat("x", maxLength+1), "longer than", 2},
	} {
		both(t, func(t *testing.T, i *Importer) {
			i.MaxBytes = 2 << 20
			out := filepath.Join(t.TempDir(), "x")
			err := i.FromSQL(t.Context(), strings.NewReader(c.dump), out)
			var se *SQLError
			if !errors.As(err, &se) || !strings.Contains(err.Error(), c.want) || se.Line != c.line {
				t.Errorf("%.80q: got %v, want %q on line %d", c.dump, err, c.want, c.line)
			}
			if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%.80q: the file stays: %v", c.dump, err)
			}
		})
	}
}

func TestFromSQLOfBrokenSource(t *testing.T) {
	both(t, func(t *testing.T, i *Importer) {
		boom := errors.New("boom")
		r := io.MultiReader(strings.NewReader("CREATE TABLE t(a);\n"), iotest.ErrReader(boom))
		if err := i.FromSQL(t.Context(), r, filepath.Join(t.TempDir(), "x")); !errors.Is(err, boom) {
			t.Errorf("got %v, want %v", err, boom)
		}
	})
}

func TestEndsWithItsContext(t *testing.T) {
	const forever = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n) SELECT max(x) FROM n;"
	both(t, func(t *testing.T, i *Importer) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if err := i.FromSQL(ctx, strings.NewReader(forever), filepath.Join(t.TempDir(), "x")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
	})
}

func TestChildThatDies(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, err = Child(exe).CheckFile(t.Context(), "crash")
	var died *DiedError
	if !errors.As(err, &died) || !strings.Contains(err.Error(), "made the process crash") {
		t.Errorf("got %v, want a DiedError", err)
	}
	if _, err := Child("/nonexistent").CheckFile(t.Context(), "x"); !errors.As(err, &died) {
		t.Errorf("got %v, want a DiedError", err)
	}
}
