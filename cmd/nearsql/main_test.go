package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/nearsql/nearsql/sqlnode/client/clienttest"
	"github.com/nearsql/nearsql/sqlnode/importer"
)

// result is what a command did.
type result struct {
	code     int
	out, err string
}

// command runs nearsql in this process.
func command(t *testing.T, in string, args ...string) result {
	t.Helper()
	var out, errOut bytes.Buffer
	code := run(t.Context(), append([]string{"nearsql"}, args...), stdio{strings.NewReader(in), &out, &errOut})
	return result{code, out.String(), errOut.String()}
}

// against gives a runner of commands against a node of the test's own.
func against(t *testing.T) (*clienttest.Node, func(in string, args ...string) result) {
	t.Helper()
	t.Chdir(t.TempDir())
	n := clienttest.Start(t)
	t.Setenv("NEARSQL_URL", n.URL)
	t.Setenv("NEARSQL_TOKEN", clienttest.Token)
	return n, func(in string, args ...string) result { t.Helper(); return command(t, in, args...) }
}

func (r result) want(t *testing.T, code int, out, err string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.out, out) || !strings.Contains(r.err, err) {
		t.Errorf("got code %d, out %q, err %q\nwant code %d, out with %q, err with %q", r.code, r.out, r.err, code, out, err)
	}
}

func TestTenantCommands(t *testing.T) {
	_, nearsql := against(t)
	nearsql("", "tenant", "list").want(t, 0, "no tenants", "")
	nearsql("", "tenant", "list", "--json").want(t, 0, "[]\n", "")
	nearsql("", "tenant", "create", "acme", "--page-size", "8192", "--limit", "size=1GiB").want(t, 0, "created tenant acme (id ", "")
	nearsql("", "tenant", "create", "acme").want(t, 1, "", "TENANT_EXISTS")
	nearsql("", "tenant", "create", "Acme").want(t, 1, "", "upper-case")
	nearsql("", "tenant", "create", "b", "--page-size", "1000").want(t, 2, "", "power of two")
	nearsql("", "tenant", "create", "b", "--limit", "colour=1").want(t, 2, "", `"colour" is unknown`)
	nearsql("", "tenant", "create").want(t, 2, "", "takes 1 argument (NAME), got 0")
	nearsql("", "tenant", "create", "beta", "--json").want(t, 0, `"name":"beta"`, "")
	nearsql("", "tenant", "list").want(t, 0, "acme  active      1       8192", "")
	r := nearsql("", "tenant", "list", "--json")
	var list []map[string]any
	if err := json.Unmarshal([]byte(r.out), &list); err != nil || len(list) != 2 {
		t.Errorf("%v in %q", err, r.out)
	}
	nearsql("", "tenant", "list", "--after", "acme", "--max", "1", "--json").want(t, 0, `[{"id"`, "")
	nearsql("", "tenant", "show", "acme").want(t, 0, "limit size              1073741824\n", "")
	nearsql("", "tenant", "show", "nobody").want(t, 3, "", "NO_SUCH_TENANT")
	nearsql("", "tenant", "delete", "acme").want(t, 2, "", "--yes")
	nearsql("", "tenant", "delete", "acme", "--yes").want(t, 0, "deleted tenant acme", "")
	nearsql("", "tenant", "show", "acme").want(t, 3, "", "TENANT_DELETED")
	nearsql("", "tenant", "frobnicate").want(t, 2, "", `unknown command "frobnicate"`)
	nearsql("", "frobnicate").want(t, 2, "", `unknown command "frobnicate"`)
	nearsql("", "tenant", "list", "--nothere").want(t, 2, "", "nothere")
	nearsql("", "tenant", "list", "--token", "wrong").want(t, 4, "", "UNAUTHENTICATED")
	nearsql("", "tenant", "list", "--url", "http://127.0.0.1:1").want(t, 5, "", "Is a node running")
	nearsql("", "tenant", "list", "--url", "nonsense").want(t, 2, "", "http://")
	nearsql("").want(t, 0, "serve", "")
	nearsql("", "tenant").want(t, 0, "import", "")
	nearsql("", "version").want(t, 0, "SQLite 3.", "")
	nearsql("", "version", "--json").want(t, 0, `"sqlite":"3.`, "")
}

func TestTransfer(t *testing.T) {
	_, nearsql := against(t)
	dump := "CREATE TABLE t(a);\nINSERT INTO t VALUES(1);\n"
	nearsql(dump, "tenant", "import", "one", "-").want(t, 0, "imported tenant one", "")
	nearsql("", "tenant", "export", "one", "one.db").want(t, 0, "exported tenant one to one.db", "")
	nearsql("", "tenant", "export", "one", "one.db").want(t, 1, "", "--force")
	nearsql("", "tenant", "export", "one", "one.db", "--force", "--json").want(t, 0, `"format":"sqlite"`, "")
	if info, err := os.Stat("one.db"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info, err)
	}
	nearsql("", "tenant", "import", "two", "one.db").want(t, 0, "imported tenant two", "")
	nearsql("", "sql", "two", "select * from t").want(t, 0, "a\n-\n1\n(1 row)\n", "")
	nearsql("", "tenant", "export", "two", "two.sql").want(t, 0, "two.sql", "")
	nearsql("", "tenant", "export", "two", "-", "--format", "sql").want(t, 0, "CREATE TABLE t(a);", "")
	nearsql("", "tenant", "export", "nobody", "x.db").want(t, 3, "", "NO_SUCH_TENANT")
	nearsql("", "tenant", "export", "two", "x.db", "--format", "zip").want(t, 2, "", "--format")
	nearsql("SELEC 1;", "tenant", "import", "bad", "-").want(t, 1, "", "line 1")
	nearsql("", "tenant", "import", "bad", "nothere.db").want(t, 1, "", "nothere.db")
	if err := os.WriteFile("one.db-wal", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	nearsql("", "tenant", "import", "three", "one.db").want(t, 0, "", "one.db-wal is not imported")
	if left, _ := filepath.Glob(".*"); len(left) != 0 {
		t.Errorf("files were left: %q", left)
	}
}

func TestSQLOneShot(t *testing.T) {
	n, nearsql := against(t)
	nearsql("", "tenant", "create", "acme")
	nearsql("", "sql", "acme", "create table t(a integer primary key, b)").want(t, 0, "(0 rows changed)", "")
	nearsql("", "sql", "acme", "insert into t(b) values('x'),(null); insert into t(b) values(x'00ff')").want(t, 0, "(2 rows changed)\n(1 row changed)\n", "")
	r := nearsql("", "sql", "acme", "select * from t")
	if want := "a  b\n-  -------\n1  x\n2  NULL\n3  x'00ff'\n(3 rows)\n"; r.out != want {
		t.Errorf("got %q, want %q", r.out, want)
	}
	nearsql("", "sql", "acme", "select * from t", "--mode", "csv").want(t, 0, "a,b\n1,x\n2,\n3,x'00ff'\n", "")
	nearsql("", "sql", "--mode=list", "--no-headers", "acme", "select * from t").want(t, 0, "1|x\n2|\n", "")
	r = nearsql("", "sql", "acme", "select * from t where a = 9007199254740993 or a = 3", "--json", "--consistency", "weak", "--max-staleness", "2s", "--timeout", "1s")
	r.want(t, 0, `{"results":[{"columns":["a","b"],"types":["integer","blob"],"rows":[[3,{"base64":"AP8="}]],"rows_affected":0,"last_insert_rowid":null}],"bookmark":"bookmark-1","meta":{"consistency":"strong",`, "")
	if !json.Valid([]byte(r.out)) {
		t.Errorf("%q is not JSON", r.out)
	}
	nearsql("", "sql", "acme", "begin; delete from t; select count(*) from t; commit").want(t, 0, "0\n", "")
	last := n.Requests()[len(n.Requests())-1]
	if len(last.Statements) != 2 || !last.Batch {
		t.Errorf("got %+v", last)
	}
	nearsql("", "sql", "acme", "selec 1").want(t, 1, "", `syntax error (SQLITE_ERROR)`)
	nearsql("", "sql", "acme", "select 'x").want(t, 2, "", "not closed")
	nearsql("", "sql", "acme", " -- nothing").want(t, 2, "", "has no statement")
	nearsql("", "sql", "nobody", "select 1").want(t, 3, "", "NO_SUCH_TENANT")
	nearsql("", "sql", "acme", "select 1", "--mode", "xml").want(t, 2, "", "--mode")
	nearsql("", "sql", "acme", "select 1", "--consistency", "wild").want(t, 2, "", "--consistency")
	nearsql("", "sql", "acme", "select 1", "--max-staleness", "-1s").want(t, 2, "", "--max-staleness")
}

func TestLocalNode(t *testing.T) {
	t.Chdir(t.TempDir())
	n := clienttest.Start(t)
	if err := os.Mkdir("data", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{addressFile: n.URL + "\n", rootKeyFile: clienttest.Token + "\n"} {
		if err := os.WriteFile(filepath.Join("data", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command(t, "", "tenant", "list", "--data-dir", "data").want(t, 0, "no tenants", "")
	command(t, "", "tenant", "list", "--data-dir", "data", "--url", n.URL).want(t, 0, "no tenants", "")
	t.Setenv("NEARSQL_DATA_DIR", "data")
	command(t, "", "tenant", "list").want(t, 0, "no tenants", "")
}

// TestRootKeyStaysHere shows that the key of the working directory's node is
// not sent to a node elsewhere.
func TestRootKeyStaysHere(t *testing.T) {
	for _, c := range []struct {
		args string
		base string
		want bool
	}{
		{"", "http://127.0.0.1:7600", true},
		{"--url http://127.0.0.1:1", "http://127.0.0.1:1", true},
		{"--url http://localhost:1", "http://localhost:1", true},
		{"--url http://[::1]:1", "http://[::1]:1", true},
		{"--url http://node.example", "http://node.example", false},
		{"--url http://10.0.0.1", "http://10.0.0.1", false},
		{"--url http://node.example --data-dir x", "http://node.example", true},
		{"--data-dir x", "http://node.example", true}, // from its address file
	} {
		app := &cli.App{Flags: clientFlags(), Action: func(ctx *cli.Context) error {
			if got := keyIsFor(ctx, c.base); got != c.want {
				t.Errorf("%q: got %v, want %v", c.args, got, c.want)
			}
			return nil
		}}
		if err := app.Run(append([]string{"x"}, strings.Fields(c.args)...)); err != nil {
			t.Error(err)
		}
	}
}

func TestConfigFile(t *testing.T) {
	t.Chdir(t.TempDir())
	n := clienttest.Start(t)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile("c.toml", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("[client]\nurl = \"" + n.URL + "\"\ntoken = \"" + clienttest.Token + "\"\njson = true\n[serve]\nlabel = [\"a=b\"]\ninsecure-no-auth = true\n")
	command(t, "", "tenant", "list", "--config", "c.toml").want(t, 0, "[]", "")
	command(t, "", "tenant", "list", "--config", "c.toml", "--token", "wrong").want(t, 4, "", "UNAUTHENTICATED")
	for text, want := range map[string]string{
		"[client]\ncolour = 1":           `[client] has no key "colour"; there are data-dir, json`,
		"[serve]\nconfig = \"x\"":        `[serve] has no key "config"`,
		"[servers]\nx = 1":               `key "servers" is unknown`,
		"url = \"x\"":                    `key "url" is unknown`,
		"client = 1":                     `"client" is a section`,
		"[client]\nurl = ":               "line 2",
		"[client]\njson = \"sometimes\"": "json",
		"[client]\nurl=\"a\"\nurl=\"b\"": "line 3",
	} {
		write(text)
		command(t, "", "tenant", "list", "--config", "c.toml").want(t, 2, "", want)
	}
	command(t, "", "tenant", "list", "--config", "nothere.toml").want(t, 2, "", "nothere.toml")
}

func TestFlagsFirst(t *testing.T) {
	app := newApp(stdio{})
	for _, c := range []struct{ in, want string }{
		{"nearsql tenant create acme --json", "nearsql tenant create --json -- acme"},
		{"nearsql tenant create acme --page-size 512 --json", "nearsql tenant create --page-size 512 --json -- acme"},
		{"nearsql tenant create --page-size=512 acme", "nearsql tenant create --page-size=512 -- acme"},
		{"nearsql sql acme -- --json", "nearsql sql -- acme --json"},
		{"nearsql tenant export acme - --format sql", "nearsql tenant export --format sql -- acme -"},
		{"nearsql tenant delete acme -y", "nearsql tenant delete -y -- acme"},
		{"nearsql serve", "nearsql serve"},
		{"nearsql", "nearsql"},
		{"nearsql --help", "nearsql --help"},
		{"nearsql check-file -- -x", "nearsql check-file -- -x"},
	} {
		if got := strings.Join(flagsFirst(app, strings.Fields(c.in)), " "); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	got := flagsFirst(app, []string{"nearsql", "sql", "acme", "-- a comment\nselect 1"})
	if want := []string{"nearsql", "sql", "--", "acme", "-- a comment\nselect 1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCheckFile(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "x.db")
	command(t, "CREATE TABLE t(a);", importer.ChildVerb, "--from-sql", "--", out).want(t, 0, "{}", "")
	command(t, "", importer.ChildVerb, "--", out).want(t, 0, `"page_size":4096`, "")
	command(t, "nonsense", importer.ChildVerb, "--from-sql", "--", out+"2").want(t, 0, `"kind":"sql"`, "")
	command(t, "", importer.ChildVerb).want(t, 2, "", "takes 1 argument")
}
