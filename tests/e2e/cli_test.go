package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The exit codes of nearsql, as docs/cli.md has them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNoTenant    = 3
	exitRefused     = 4
	exitUnreachable = 5
)

// ran is what a command did.
type ran struct {
	code     int
	out, err string
}

// command runs nearsql with arguments, in dir.
func command(t *testing.T, dir, stdin string, args ...string) ran {
	t.Helper()
	return commandWith(t, dir, stdin, nil, args...)
}

func commandWith(t *testing.T, dir, stdin string, env []string, args ...string) ran {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soonMax)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return ran{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// TestCommands runs the verbs of the command line against a node.
func TestCommands(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	dir := t.TempDir()
	run := func(stdin string, args ...string) ran {
		t.Helper()
		return commandWith(t, dir, stdin, []string{"NEARSQL_DATA_DIR=" + n.dir}, args...)
	}
	want := func(code int, out string, args ...string) string {
		t.Helper()
		r := run("", args...)
		if r.code != code || !strings.Contains(r.out+r.err, out) {
			t.Errorf("nearsql %s: exit code %d, want %d with %q; it printed\n%s%s", strings.Join(args, " "), r.code, code, out, r.out, r.err)
		}
		return r.out
	}
	want(exitDone, "nearsql", "version")
	want(exitDone, "no tenants", "tenant", "list")
	want(exitDone, "created tenant acme", "tenant", "create", "acme")
	want(exitFailed, "TENANT_EXISTS", "tenant", "create", "acme")
	want(exitFailed, "BAD_NAME", "tenant", "create", "Acme")
	want(exitUsage, "limit", "tenant", "create", "x", "--limit", "size=1")
	want(exitUsage, "unknown command", "tenant", "paint")
	want(exitNoTenant, "NO_SUCH_TENANT", "tenant", "show", "nobody")
	want(exitDone, "acme", "tenant", "list")
	want(exitDone, "page size", "tenant", "show", "acme")
	want(exitDone, "", "sql", "acme", "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES(1,'Ada'),(2,NULL)")
	want(exitDone, "Ada", "sql", "acme", "SELECT * FROM t")
	want(exitDone, "id,name\n1,Ada\n2,\n", "sql", "acme", "SELECT * FROM t", "--mode", "csv")
	want(exitFailed, "SQLITE_ERROR", "sql", "acme", "SELECT * FROM nothere")
	want(exitRefused, "SQL_NOT_ALLOWED", "sql", "acme", "ATTACH 'x' AS x")
	want(exitNoTenant, "NO_SUCH_TENANT", "sql", "nobody", "SELECT 1")

	var list []struct{ Name, ID, State string }
	if err := json.Unmarshal([]byte(want(exitDone, "", "tenant", "list", "--json")), &list); err != nil || len(list) != 1 || list[0].Name != "acme" || list[0].State != "active" {
		t.Errorf("tenant list --json: %v, %v", list, err)
	}
	var answer struct {
		Results []struct{ Rows [][]any }
		Meta    map[string]any
	}
	if err := json.Unmarshal([]byte(want(exitDone, "", "sql", "acme", "SELECT 9007199254740993, name FROM t", "--json")), &answer); err != nil || len(answer.Results) != 1 || len(answer.Results[0].Rows) != 2 || answer.Meta["node"] == "" {
		t.Errorf("sql --json: %+v, %v", answer, err)
	}

	// A script on standard input stops at the first error.
	if r := run("INSERT INTO t VALUES(3,'Grace');\nINSERT INTO t VALUES(3,'x');\nINSERT INTO t VALUES(4,'never');\n", "sql", "acme"); r.code != exitFailed {
		t.Errorf("script: %+v", r)
	}
	want(exitDone, "1\n2\n3\n", "sql", "acme", "SELECT id FROM t", "--mode", "csv")

	// Out and in again, in both forms.
	for _, file := range []string{"acme.db", "acme.sql"} {
		want(exitDone, "exported tenant acme", "tenant", "export", "acme", file)
		want(exitFailed, "exists", "tenant", "export", "acme", file)
		name := strings.ReplaceAll(file, ".", "-")
		want(exitDone, "imported tenant "+name, "tenant", "import", name, file)
		want(exitDone, "1,Ada\n2,\n3,Grace\n", "sql", name, "SELECT * FROM t", "--mode", "csv")
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", file, info.Mode(), err)
		}
	}
	var count int
	if err := openFile(t, filepath.Join(dir, "acme.db")).QueryRow("SELECT count(*) FROM t").Scan(&count); err != nil || count != 3 {
		t.Errorf("the exported file has %d rows, %v", count, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bad.db"), []byte("SQLite format 3\x00 and no more"), 0o600); err != nil {
		t.Fatal(err)
	}
	want(exitFailed, "BAD_DATABASE", "tenant", "import", "bad", "bad.db")
	want(exitUsage, "--yes", "tenant", "delete", "acme-db")
	want(exitDone, "deleted tenant acme-db", "tenant", "delete", "acme-db", "--yes")
	want(exitNoTenant, "TENANT_DELETED", "sql", "acme-db", "SELECT 1")
	want(exitDone, "created tenant acme-db", "tenant", "create", "acme-db")
	want(exitDone, "0", "sql", "acme-db", "SELECT count(*) FROM sqlite_schema")

	// The token: none, a wrong one, and the one of the file that only its owner can read.
	at := func(code int, out string, args ...string) {
		t.Helper()
		if r := command(t, dir, "", append(args, "--url", n.url)...); r.code != code || !strings.Contains(r.out+r.err, out) {
			t.Errorf("nearsql %s: %+v, want code %d with %q", strings.Join(args, " "), r, code, out)
		}
	}
	at(exitRefused, "UNAUTHENTICATED", "tenant", "list")
	at(exitRefused, "UNAUTHENTICATED", "tenant", "list", "--token", "nsroot_wrong")
	at(exitDone, "acme", "tenant", "list", "--token", n.key)
	if info, err := os.Stat(filepath.Join(n.dir, "root.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("root.key: %v, %v", info, err)
	}
	if info, err := os.Stat(n.dir); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the data directory: %v, %v", info.Mode(), err)
	}

	// One process has a data directory.
	second := nodeIn(t, n.dir)
	if err := second.tryStart(); err == nil {
		t.Error("two processes use one data directory")
	}
	if second.state == nil || second.state.ExitCode() != exitFailed || !strings.Contains(second.logText(), "another process uses the data directory") {
		t.Errorf("the second process: %v\n%s", second.state, second.logText())
	}
	want(exitDone, "Ada", "sql", "acme", "SELECT * FROM t") // the first one goes on

	if code := n.stop(); code != 0 {
		t.Errorf("the node ended with exit code %d", code)
	}
	at(exitUnreachable, "", "tenant", "list", "--token", n.key)
	other := nodeIn(t, n.dir, "--node-id", "another")
	if err := other.tryStart(); err == nil || !strings.Contains(other.logText(), "keeps its id") {
		t.Errorf("another node id on the same directory: %v\n%s", err, other.logText())
	}
}

// TestWhoMayConnect starts nodes that must not start, or must not be open.
func TestWhoMayConnect(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, args := range [][]string{
		{"--listen", "0.0.0.0:0"},
		{"--listen", "0.0.0.0:0", "--insecure-no-auth"},
		{"--listen", "0.0.0.0:0", "--insecure-no-auth", "--insecure-plain-http"},
		{"--listen", ":0"},
		{"--tls-cert", "x.pem"},
		{"--checkpoint-age", "x"},
		{"--nothere"},
	} {
		if r := command(t, dir, "", append([]string{"serve", "--data-dir", filepath.Join(dir, "d")}, args...)...); r.code != exitUsage || r.out != "" {
			t.Errorf("serve %v: %+v", args, r)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "d")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a node that did not start made its directory")
	}
	n := startNode(t, "--insecure-no-auth")
	n.create("open")
	if a := n.do("GET", "/v1/tenants/open", nil, "Authorization", ""); a.status != 200 {
		t.Errorf("without authentication: %s", a)
	}
	host := strings.TrimPrefix(n.url, "http://")
	if h, _, err := net.SplitHostPort(host); err != nil || !net.ParseIP(h).IsLoopback() {
		t.Errorf("it listens at %s", n.url)
	}
}

// TestQuickstart runs the README's first command.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "run", "./scripts/quickstart")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("Starting a node")) || !bytes.Contains(out, []byte("The node stops now")) {
		t.Errorf("it printed\n%s", out)
	}
}
