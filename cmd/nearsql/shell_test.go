package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/sqlnode/client/clienttest"
	"github.com/nearsql/nearsql/wire"
)

func TestShellScript(t *testing.T) {
	n, nearsql := against(t)
	nearsql("", "tenant", "create", "acme")
	r := nearsql(`-- a script
create table t(
  a integer primary key, -- ; not the end
  b text
);
create trigger tr after insert on t begin
  update t set b = upper(new.b) where a = new.a;
end;
insert into t(b) values('x;'),('y');
.mode csv
select * from t;
.headers off
.mode list
select b from t where a = 1`, "sql", "acme")
	r.want(t, 0, "", "")
	if want := "(0 rows changed)\n(0 rows changed)\n(2 rows changed)\na,b\n1,X;\n2,Y\nX;\n"; r.out != want {
		t.Errorf("got %q, want %q", r.out, want)
	}
	if last := n.Requests()[len(n.Requests())-1]; last.Bookmark != "bookmark-1" {
		t.Errorf("the session's bookmark was not sent: %+v", last)
	}
}

func TestShellStopsAtTheFirstError(t *testing.T) {
	_, nearsql := against(t)
	nearsql("", "tenant", "create", "acme")
	script := "select 1;\nselect\n nothere;\nselect 3;\n.nothere\n"
	r := nearsql(script, "sql", "acme", "--mode", "list")
	r.want(t, 1, "1\n1\n", "error: line 2: statement 1: no such column: nothere (SQLITE_ERROR)\n")
	if strings.Contains(r.out, "3") {
		t.Errorf("went on: %q", r.out)
	}
	r = nearsql(script, "sql", "acme", "--mode", "list", "--no-bail")
	r.want(t, 1, "3\n3\n", "error: line 5: there is no command .nothere")
	nearsql(".bail off\n"+script, "sql", "acme", "--mode", "list").want(t, 1, "3\n3\n", "line 6")
	nearsql("select 1;\n.quit\nselect 2;", "sql", "acme", "--mode", "list", "--no-headers").want(t, 0, "1\n", "")
	nearsql("select 'open", "sql", "acme").want(t, 1, "", "line 1: the input ends within this statement")
	nearsql("select 1;", "sql").want(t, 2, "", ".tenant NAME")
	nearsql(".tenant acme\n.tenant\nselect 1;", "sql").want(t, 0, "acme\n1\n-\n1\n", "")
	nearsql(".tenant nobody", "sql").want(t, 3, "", "NO_SUCH_TENANT")
	nearsql("select 1;", "sql", "nobody").want(t, 3, "", "NO_SUCH_TENANT")
}

func TestShellBatch(t *testing.T) {
	n, nearsql := against(t)
	nearsql("", "tenant", "create", "acme")
	r := nearsql("create table t(a unique); begin immediate; insert into t values(1); select count(*) from t; commit;", "sql", "acme", "--mode", "list", "--no-headers")
	r.want(t, 0, "1\n", "")
	last := n.Requests()[len(n.Requests())-1]
	if len(last.Statements) != 2 || !last.Batch {
		t.Errorf("got %+v", last)
	}
	nearsql("begin; insert into t values(2); insert into t values(1); end transaction;", "sql", "acme").want(t, 1, "", "statement 2: UNIQUE constraint failed")
	nearsql("begin; insert into t values(3); rollback; select count(*) from t;", "sql", "acme", "--mode", "list").want(t, 0, "1\n", "")
	nearsql("begin;\ninsert into t values(3);", "sql", "acme").want(t, 1, "", "line 1: BEGIN without COMMIT")
	nearsql("commit;", "sql", "acme").want(t, 1, "", "COMMIT without BEGIN")
	nearsql("rollback;", "sql", "acme").want(t, 1, "", "ROLLBACK without BEGIN")
	nearsql("begin; begin;", "sql", "acme").want(t, 1, "", "BEGIN within BEGIN")
	nearsql("savepoint a;", "sql", "acme").want(t, 1, "", "savepoints have no meaning")
	nearsql("begin; commit;", "sql", "acme").want(t, 0, "", "")
	nearsql("select count(*) from t;", "sql", "acme", "--mode", "list").want(t, 0, "1\n", "")
}

func TestShellCommands(t *testing.T) {
	n, nearsql := against(t)
	nearsql("", "tenant", "create", "acme")
	for name, text := range map[string]string{
		"rows.csv":   "name,note\nAda,\"a, \"\"b\"\"\nline two\"\nBob,\n",
		"more.csv":   "Cy,x\n",
		"wide.csv":   "1,2,3\n",
		"broken.csv": "a,b\nc\n",
		"empty.csv":  "",
		"inner.sql":  "select 'inner';\n.mode csv\n",
		"outer.sql":  ".read inner.sql\nselect 'outer';\n",
		"loop.sql":   ".read loop.sql\n",
		"bad.sql":    "select 1;\nselec 2;\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sh := func(script string) result {
		t.Helper()
		return nearsql(script, "sql", "acme", "--mode", "list", "--no-headers")
	}
	sh(".import rows.csv people\n.import more.csv people\nselect count(*), min(note) from people;").want(t, 0, "3|\n", "")
	sh("select note from people where name = 'Ada';").want(t, 0, "a, \"b\"\nline two\n", "")
	sh(".import wide.csv people").want(t, 1, "", "the file has 3 columns, table people has 2")
	sh(".import broken.csv other").want(t, 1, "", "wrong number of fields")
	sh(".import empty.csv other").want(t, 1, "", "is empty")
	sh(".import nothere.csv other").want(t, 1, "", "nothere.csv")
	sh(".tables").want(t, 0, "people\n", "")
	sh(".schema people").want(t, 0, "CREATE TABLE \"people\"(\"name\" TEXT, \"note\" TEXT);\n", "")
	sh(".schema nothere").want(t, 1, "", "nothing of the name nothere")
	sh(".dump").want(t, 0, "CREATE TABLE", "")
	sh(".read outer.sql").want(t, 0, "inner\nouter\n", "")
	sh(".read bad.sql\nselect 'after';").want(t, 1, "1\n", "error: bad.sql, line 2: statement 1: near \"selec\"")
	sh(".read loop.sql").want(t, 1, "", "16 files read one another")
	sh(".help").want(t, 0, ".import FILE TABLE", "")
	sh(".help").want(t, 0, "one atomic batch", "")
	sh(".timer on\nselect 1;").want(t, 0, "(1 row; ", "")
	sh(".timer on\nselect 1;").want(t, 0, "; strong; from test-1 in lab (primary))\n", "")
	sh(".timer maybe").want(t, 1, "", "neither on nor off")
	sh(".mode xml").want(t, 1, "", "is none of")
	sh(".mode").want(t, 1, "", "use: .mode table|csv")
	sh(".mode 'csv").want(t, 1, "", "a quote is not closed")
	sh(".consistency weak\n.staleness 2s\nselect 1;").want(t, 0, "1\n", "")
	if last := n.Requests()[len(n.Requests())-1]; last.Consistency != wire.Weak || last.MaxStaleness.Seconds() != 2 {
		t.Errorf("got %+v", last)
	}
	sh(".consistency wild").want(t, 1, "", "wild")
	sh(".staleness 0s").want(t, 1, "", "0s")
}

func TestImportInBatches(t *testing.T) {
	n, nearsql := against(t)
	nearsql("", "tenant", "create", "acme")
	var csv strings.Builder
	csv.WriteString("a,b\n")
	for i := range 1234 {
		fmt.Fprintf(&csv, "%d,x\n", i)
	}
	if err := os.WriteFile("big.csv", []byte(csv.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	nearsql("create table t(a integer, b);\n.headers off\n.mode list\n.import big.csv t\nselect count(*), sum(a) from t where typeof(a) = 'integer';", "sql", "acme").
		want(t, 0, "1234|760761\n", "")
	inserts := 0
	for _, r := range n.Requests() {
		if strings.HasPrefix(r.Statements[0].SQL, "INSERT") {
			inserts++
		}
	}
	if inserts != 3 {
		t.Errorf("%d requests inserted 1,235 lines, want 3", inserts)
	}
}

// TestInterrupt plays Ctrl-C while a statement runs: the shell goes on.
func TestInterrupt(t *testing.T) {
	n := clienttest.Start(t)
	node, err := client.New(n.URL, client.Options{Token: clienttest.Token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.CloseIdle)
	if _, err := n.Create(t.Context(), "acme", optionsZero); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	sh := newShell(node, &out, &errOut)
	sh.tenant, sh.interactive, sh.mode = "acme", true, modeList
	interrupts := make(chan os.Signal, 1)
	sh.interrupts = interrupts
	in := &input{}
	done := make(chan error)
	go func() {
		done <- sh.line(t.Context(), in, "with recursive n(x) as (select 1 union all select x+1 from n) select count(*) from n;\n")
	}()
	for len(n.Requests()) == 0 { // it has arrived when it is listed
		select {
		case err := <-done:
			t.Fatalf("ended by itself: %v", err)
		default:
		}
	}
	interrupts <- os.Interrupt
	var shown *shownError
	if err := <-done; !errors.As(err, &shown) || !strings.Contains(errOut.String(), "error: cancelled\n") {
		t.Errorf("got %v, %q", err, errOut.String())
	}
	if err := sh.line(t.Context(), in, "select 'goes on';\n"); err != nil || !strings.Contains(out.String(), "goes on") {
		t.Errorf("got %v, %q", err, out.String())
	}
}

func TestPrompt(t *testing.T) {
	sh := newShell(nil, io.Discard, io.Discard)
	in := &input{}
	if got := sh.prompt(in); got != "no tenant> " {
		t.Errorf("got %q", got)
	}
	sh.tenant, sh.interactive = "acme", true
	if err := sh.line(context.Background(), in, "begin;\n"); err != nil {
		t.Fatal(err)
	}
	if got := sh.prompt(in); got != "acme*> " {
		t.Errorf("got %q", got)
	}
	if err := sh.line(context.Background(), in, "select\n"); err != nil {
		t.Fatal(err)
	}
	if got := sh.prompt(in); got != "    …> " {
		t.Errorf("got %q", got)
	}
}

func TestFirstWords(t *testing.T) {
	for sql, want := range map[string]string{
		"select 1":                        "SELECT",
		" -- x\n /* y */ begin immediate": "BEGIN IMMEDIATE",
		"/* open":                         "",
		"-- open":                         "",
		"rollback transaction to a;":      "ROLLBACK TRANSACTION TO A",
		"":                                "",
		"(select)":                        "",
	} {
		if got := strings.Join(firstWords(sql, 4), " "); got != want {
			t.Errorf("%q: got %q, want %q", sql, got, want)
		}
	}
	for sql, want := range map[string]kind{"END;": commits, "rollback to x": savepoint, "rollback": rollsBack, "release x": savepoint, "beginning": plain} {
		if got := kindOf(sql); got != want {
			t.Errorf("%q: got %d, want %d", sql, got, want)
		}
	}
}

func TestPrinters(t *testing.T) {
	columns := []client.Column{{Name: "id"}, {Name: "näme\x1b[31m"}, {Name: "r"}}
	rows := [][]wire.Value{
		{wire.Integer(-9223372036854775808), wire.Text("日本"), wire.Float(1)},
		{wire.Integer(7), wire.Text("a\x1b]0;x\a\n\t\u202eb"), wire.Null},
		{wire.Null, wire.Blob(bytes.Repeat([]byte{0xab}, 40)), wire.Float(1e300)},
	}
	sp := func(n int) string { return strings.Repeat(" ", n) }
	for m, want := range map[mode]string{
		modeTable: "                  id  näme\\u001b[31m" + sp(79-14) + "       r\n" +
			"--------------------  " + strings.Repeat("-", 79) + "  ------\n" +
			"-9223372036854775808  日本" + sp(79-4) + "     1.0\n" +
			"                   7  a\\u001b]0;x\\u0007\\n\\t\\u202eb" + sp(79-28) + "    NULL\n" +
			"                NULL  x'" + strings.Repeat("ab", 32) + "…' (40 bytes)  1e+300\n",
		modeJSON: `[{"id":-9223372036854775808,"näme\u001b[31m":"日本","r":1.0},` + "\n" + `{"id":7,"näme\u001b[31m":"a\u001b]0;x\u0007\n\t` + "\u202e" + `b","r":null},` + "\n" +
			`{"id":null,"näme\u001b[31m":{"base64":"q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6urqw=="},"r":1e+300}]` + "\n",
	} {
		var out bytes.Buffer
		p := newPrinter(m, &out, true)
		must(t, p.begin(columns))
		for _, r := range rows {
			must(t, p.row(r))
		}
		must(t, p.end())
		if out.String() != want {
			t.Errorf("%s:\ngot\n%s\nwant\n%s", m, out.String(), want)
		}
	}
	var out bytes.Buffer
	p := newPrinter(modeLine, &out, true)
	must(t, p.begin(columns))
	must(t, p.row(rows[0]))
	if want := "          id = -9223372036854775808\nnäme\\u001b[31m = 日本\n"; !strings.Contains(out.String(), "näme\\u001b[31m = 日本\n") {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

// TestTableOfManyRows shows that a table is printed without holding all of it.
func TestTableOfManyRows(t *testing.T) {
	var out bytes.Buffer
	p := newPrinter(modeTable, &out, true).(*tablePrinter)
	must(t, p.begin([]client.Column{{Name: "a"}, {Name: "b"}}))
	for i := range 3 * tableSample {
		must(t, p.row([]wire.Value{wire.Integer(int64(i)), wire.Text("x")}))
		if len(p.rows) > tableSample {
			t.Fatalf("holds %d rows", len(p.rows))
		}
	}
	must(t, p.end())
	if n := strings.Count(out.String(), "\n"); n != 3*tableSample+2 {
		t.Errorf("got %d lines", n)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lines is a history without an editor.
type lines struct{ text []string }

func (l *lines) ReadHistory(r io.Reader) (int, error) {
	b, err := io.ReadAll(r)
	l.text = strings.Split(strings.TrimSpace(string(b)), "\n")
	return len(l.text), err
}

func (l *lines) WriteHistory(w io.Writer) (int, error) {
	return fmt.Fprintln(w, strings.Join(l.text, "\n"))
}

func TestHistory(t *testing.T) {
	state := t.TempDir()
	env := map[string]string{"HOME": "/home/x", "XDG_STATE_HOME": state}
	file := historyFile(func(name string) string { return env[name] })
	if want := filepath.Join(state, "nearsql", "history"); file != want {
		t.Fatalf("got %q, want %q", file, want)
	}
	must(t, saveHistory(&lines{[]string{"select 1;", ".quit"}}, file))
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info, err)
	}
	var back lines
	loadHistory(&back, file)
	if !slices.Equal(back.text, []string{"select 1;", ".quit"}) {
		t.Errorf("got %q", back.text)
	}
	env["XDG_STATE_HOME"] = "relative"
	if got := historyFile(func(name string) string { return env[name] }); got != "/home/x/.nearsql_history" {
		t.Errorf("got %q", got)
	}
	must(t, saveHistory(&back, ""))
	loadHistory(&back, filepath.Join(state, "nothere"))
}
