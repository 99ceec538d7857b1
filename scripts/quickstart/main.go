// Command quickstart shows a node at work: it builds nearsql, starts a node on
// loopback, makes a tenant from the sample database, asks it ten questions over
// HTTP, writes, and stops. All it leaves behind is what it printed.
//
//	go run ./scripts/quickstart
//	go run ./scripts/quickstart --keep    # the node goes on until Ctrl-C
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/nearsql/nearsql/scripts/sample"
	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

func main() {
	keep := flag.Bool("keep", false, "let the node go on until Ctrl-C")
	listen := flag.String("listen", "127.0.0.1:0", "where the node listens; port 0 is any that is free")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, *listen, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// run does all of it; the node and its files are gone when it returns.
func run(ctx context.Context, out io.Writer, listen string, keep bool) (err error) {
	dir, err := os.MkdirTemp("", "nearsql-quickstart-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	fmt.Fprintln(out, "1. Building nearsql: one binary, without cgo.")
	exe, err := build(ctx, dir)
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	fmt.Fprintf(out, "\n2. Starting a node:\n   nearsql serve --data-dir %s --listen %s\n", data, listen)
	n, err := start(ctx, exe, data, listen)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.stop()) }()
	key, err := os.ReadFile(filepath.Join(data, "root.key"))
	if err != nil {
		return err
	}
	node, err := client.New(n.url, client.Options{Token: strings.TrimSpace(string(key))})
	if err != nil {
		return err
	}
	defer node.CloseIdle()
	fmt.Fprintf(out, "   It serves at %s.\n", n.url)

	if err := tour(ctx, out, node); err != nil {
		return err
	}
	if keep {
		return wait(ctx, out, exe, data, n)
	}
	fmt.Fprint(out, `
The node stops now, and its files go. To go on:
   go run ./scripts/quickstart --keep         the same, and the node stays until Ctrl-C
   go build ./cmd/nearsql && ./nearsql serve  a node of your own, data in ./nearsql-data
   ./nearsql tenant create acme               a tenant; then: ./nearsql sql acme
   docs/cli.md, docs/api.md                   all commands, all routes
`)
	return nil
}

// build makes the binary from the module that the working directory is in.
func build(ctx context.Context, dir string) (string, error) {
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	exe := filepath.Join(dir, "nearsql")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", exe, "./cmd/nearsql")
	cmd.Dir = filepath.Dir(strings.TrimSpace(string(mod)))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, text)
	}
	return exe, nil
}

// running is a node in a process of its own.
type running struct {
	url string
	cmd *exec.Cmd
	log *os.File
}

// start runs the node until it says where it serves.
func start(ctx context.Context, exe, data, listen string) (*running, error) {
	log, err := os.Create(filepath.Join(filepath.Dir(data), "node.log"))
	if err != nil {
		return nil, err
	}
	// Not CommandContext: at Ctrl-C the node is to stop in order, not to be killed.
	cmd := exec.Command(exe, "serve", "--data-dir", data, "--listen", listen)
	cmd.Stderr = log
	cmd.SysProcAttr = apart()
	said, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	n := &running{cmd: cmd, log: log}
	lines := make(chan string, 1)
	go func() {
		line, err := bufio.NewReader(said).ReadString('\n')
		if err != nil {
			line = ""
		}
		lines <- line
	}()
	select {
	case line := <-lines:
		if _, rest, ok := strings.Cut(line, "serves at "); ok {
			n.url, _, _ = strings.Cut(rest, ",")
			return n, nil
		}
		err = errors.New("the node ended before it served")
	case <-time.After(30 * time.Second):
		err = errors.New("the node does not serve after 30 s")
	case <-ctx.Done():
		err = ctx.Err()
	}
	text, _ := os.ReadFile(log.Name())
	return nil, errors.Join(fmt.Errorf("%w; it said:\n%s", err, text), n.stop())
}

// stop asks the node to end, and waits until it has.
func (n *running) stop() error {
	defer n.log.Close()
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the node: %w", err)
	}
	if err := n.cmd.Wait(); err != nil {
		return fmt.Errorf("the node ended with an error: %w", err)
	}
	return nil
}

// tour is what the node is shown to do.
func tour(ctx context.Context, out io.Writer, node *client.Client) error {
	const name = "library"
	fmt.Fprintf(out, "\n3. Making the tenant %q from a dump of %d kB:\n   nearsql tenant import %s scripts/sample/library.sql\n", name, len(sample.Library())/1000, name)
	begin := time.Now()
	t, err := node.Import(ctx, name, client.SQL, strings.NewReader(sample.Library()), tenant.CreateOptions{})
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	fmt.Fprintf(out, "   It has the id %s, and took %s.\n", t.ID, time.Since(begin).Round(time.Millisecond))

	fmt.Fprintf(out, "\n4. Ten questions, each POST %s/v1/tenants/%s/sql:\n", node.URL(), name)
	queries, err := sample.Queries()
	if err != nil {
		return err
	}
	for _, q := range queries {
		begin := time.Now()
		res, meta, err := node.Query(ctx, name, q.SQL)
		if err != nil {
			return fmt.Errorf("%s: %w", q.Title, err)
		}
		fmt.Fprintf(out, "\n   %s\n", q.Title)
		table(out, res)
		fmt.Fprintf(out, "   (%d rows in %s, %s of it in node %s, %s)\n", len(res.Rows), time.Since(begin).Round(10*time.Microsecond), meta.Duration, meta.Node, meta.Role)
	}
	return write(ctx, out, node, name)
}

// write shows a batch that happens, and one that does not.
func write(ctx context.Context, out io.Writer, node *client.Client, name string) error {
	fmt.Fprintln(out, "\n5. A batch is atomic. A new member borrows a copy:")
	join := wire.Statement{SQL: "INSERT INTO members(name, email, town, joined) VALUES (?, ?, ?, ?)",
		Args: []wire.Value{wire.Text("Ada Byron"), wire.Text("ada@library.example"), wire.Text("Dunmere"), wire.Text("2025-07-01")}}
	lend := wire.Statement{SQL: `INSERT INTO loans(copy_id, member_id, lent, due)
SELECT min(id), last_insert_rowid(), '2025-07-01', '2025-07-29' FROM copies
WHERE id NOT IN (SELECT copy_id FROM loans WHERE returned IS NULL)`}
	results, meta, err := node.Batch(ctx, name, join, lend)
	if err != nil {
		return fmt.Errorf("batch: %w", err)
	}
	fmt.Fprintf(out, "   member %d, loan %d, durable before the answer; its bookmark has %d characters\n", results[0].LastInsertRowID, results[1].LastInsertRowID, len(meta.Bookmark))

	fmt.Fprintln(out, "   Another member with the same loan is refused by the trigger, and does not join either:")
	join.Args = []wire.Value{wire.Text("Charles B."), wire.Text("charles@library.example"), wire.Text("Dunmere"), wire.Text("2025-07-01")}
	again := wire.Statement{SQL: `INSERT INTO loans(copy_id, member_id, lent, due)
SELECT copy_id, last_insert_rowid(), '2025-07-02', '2025-07-30' FROM loans WHERE id = ?`, Args: []wire.Value{wire.Integer(results[1].LastInsertRowID)}}
	_, _, err = node.Batch(ctx, name, join, again)
	var refused *wire.Error
	if !errors.As(err, &refused) {
		return fmt.Errorf("a copy was lent twice: %v", err)
	}
	fmt.Fprintf(out, "   %v\n", refused)
	counted, _, err := node.Exec(ctx, name, &wire.Request{Bookmark: meta.Bookmark, Consistency: wire.Weak,
		Statements: []wire.Statement{{SQL: "SELECT count(*), max(name) FILTER (WHERE email LIKE '%ada@%') FROM members"}}})
	if err != nil {
		return fmt.Errorf("read with a bookmark: %w", err)
	}
	row := counted[0].Rows[0]
	if row[0] != wire.Integer(601) {
		return fmt.Errorf("there are %v members, want 601", row[0])
	}
	fmt.Fprintf(out, "   A read with that bookmark, at any node, sees %d members, %s among them.\n", row[0].Int(), row[1].Str())
	return nil
}

// tableRows is how many rows of an answer are printed.
const tableRows = 5

func table(out io.Writer, res client.Result) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	cells := make([]string, len(res.Columns))
	for i, c := range res.Columns {
		cells[i] = c.Name
	}
	fmt.Fprintf(w, "      %s\n", strings.Join(cells, "\t"))
	for _, row := range res.Rows[:min(len(res.Rows), tableRows)] {
		for i, v := range row {
			switch v.Kind() {
			case wire.KindText:
				cells[i] = v.Str()
			default:
				cells[i] = v.String()
			}
		}
		fmt.Fprintf(w, "      %s\n", strings.Join(cells, "\t"))
	}
	w.Flush()
	if n := len(res.Rows) - tableRows; n > 0 {
		fmt.Fprintf(out, "      … %d more\n", n)
	}
}

// wait lets the node go on, and says how to talk to it.
func wait(ctx context.Context, out io.Writer, exe, data string, n *running) error {
	fmt.Fprintf(out, `
The node goes on until Ctrl-C; then it stops and its files go. In another terminal:
   %[1]s sql library --data-dir %[2]s
   curl -H "Authorization: Bearer $(cat %[2]s/root.key)" %[3]s/v1/tenants/library/sql \
        --json '{"sql":"SELECT title FROM books WHERE year = ? LIMIT 3","args":[1950]}'
`, exe, data, n.url)
	<-ctx.Done()
	return nil
}
