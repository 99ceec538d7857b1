// Command importing measures an import into a cluster of three nodes: how long it takes, what it does to the writes of
// another tenant, and how long a node that was down meanwhile takes to have it.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	_ "modernc.org/sqlite"

	"github.com/nearsql/nearsql/scripts/localcluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench-import:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("bench-import", flag.ContinueOnError)
	binary := flags.String("nearsql", "", "the `PROGRAM` to run (needed)")
	quick := flags.Bool("quick", false, "60 MB, shorter times")
	megabytes := flags.Int("megabytes", 500, "size of the database")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	before := 20 * time.Second
	if *quick {
		*megabytes, before = 60, 5*time.Second
	}
	dir, err := os.MkdirTemp("", "nearsql-import-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "big.db")
	if err := makeDatabase(ctx, file, *megabytes); err != nil {
		return err
	}
	c, err := localcluster.New(localcluster.Options{Binary: *binary, Dir: filepath.Join(dir, "cluster"), Nodes: 3})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.Start(ctx); err != nil {
		return err
	}
	return measure(ctx, c, file, before, out)
}

// makeDatabase makes a database of about that size: rows that don't compress, and an index.
func makeDatabase(ctx context.Context, path string, megabytes int) error {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, q := range []string{
		"PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF",
		"CREATE TABLE big(id INTEGER PRIMARY KEY, k INTEGER, v BLOB)",
		fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) INSERT INTO big SELECT i, i*7919%%100003, randomblob(950) FROM n", megabytes*1000),
		"CREATE INDEX big_k ON big(k)",
	} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("%.40s: %w", q, err)
		}
	}
	return db.Close()
}

// writer inserts rows one after another through one node, and keeps how long each took.
type writer struct {
	stop atomic.Bool
	done sync.WaitGroup

	mu     sync.Mutex
	took   []time.Duration
	failed int
	err    error
}

func (w *writer) run(ctx context.Context, c *localcluster.Cluster, n *localcluster.Node) {
	for !w.stop.Load() && ctx.Err() == nil {
		began := time.Now()
		_, err := c.Do(ctx, n, "POST", "/v1/tenants/small/sql", `{"sql":"insert into t(v) values('some text of a usual size')"}`)
		w.mu.Lock()
		if err != nil {
			w.failed++
			w.err = err
		} else {
			w.took = append(w.took, time.Since(began))
		}
		w.mu.Unlock()
		time.Sleep(5 * time.Millisecond) // a load that leaves room: latency is measured, not throughput
	}
}

// take returns the times since the last take, in order.
func (w *writer) take() []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.took
	w.took = nil
	slices.Sort(t)
	return t
}

func quantile(t []time.Duration, q float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	return t[min(len(t)-1, int(q*float64(len(t))))]
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

func measure(ctx context.Context, c *localcluster.Cluster, file string, before time.Duration, out io.Writer) error {
	primary, err := c.Primary(ctx)
	if err != nil {
		return err
	}
	var down *localcluster.Node
	for _, n := range c.Nodes {
		if n != primary {
			down = n
		}
	}
	if _, err := c.Do(ctx, primary, "POST", "/v1/tenants", `{"name":"small"}`); err != nil {
		return err
	}
	if _, err := c.Do(ctx, primary, "POST", "/v1/tenants/small/sql", `{"sql":"create table t(id integer primary key, v text)"}`); err != nil {
		return err
	}
	w := &writer{}
	for range 4 {
		w.done.Go(func() { w.run(ctx, c, primary) })
	}
	defer func() {
		w.stop.Store(true)
		w.done.Wait()
	}()
	if err := wait(ctx, before); err != nil {
		return err
	}
	calm := w.take()
	down.Process.Kill()
	began := time.Now()
	if err := importFile(ctx, c, primary, file); err != nil {
		return err
	}
	took := time.Since(began)
	busy := w.take()
	size, err := os.Stat(file)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "# %d MB imported while one of three nodes was down; 4 clients insert beside it, %d before and %d during it, %d failed (%v)\n", size.Size()>>20, len(calm), len(busy), w.failed, w.err)
	fmt.Fprintf(out, "figure import %.1f MB_per_s\n", float64(size.Size())/1e6/took.Seconds())
	fmt.Fprintf(out, "figure import_write_p99_before %.2f ms\n", ms(quantile(calm, 0.99)))
	fmt.Fprintf(out, "figure import_write_p99_during %.2f ms\n", ms(quantile(busy, 0.99)))
	if p := quantile(calm, 0.99); p > 0 {
		fmt.Fprintf(out, "figure import_write_p99_ratio %.2f x\n", float64(quantile(busy, 0.99))/float64(p))
	}
	began = time.Now()
	if err := down.Start(ctx); err != nil {
		return err
	}
	late, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	err = c.Await(late, func() error {
		// The node answers from its own copy, or the answer says that another did.
		b, err := c.Do(late, down, "POST", "/v1/tenants/big/sql?consistency=strong", `{"sql":"select count(*) from big"}`)
		if err == nil && !strings.Contains(string(b), fmt.Sprintf("%q:%q", "node", down.ID)) {
			err = fmt.Errorf("another node answers for it: %.200s", b)
		}
		return err
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "figure import_catch_up %.2f s\n", time.Since(began).Seconds())
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// importFile makes the tenant big of the file.
func importFile(ctx context.Context, c *localcluster.Cluster, n *localcluster.Node, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	key, err := c.Key()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", n.URL()+"/v1/tenants/big/import", f)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/vnd.sqlite3")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return fmt.Errorf("import: %s: %s", resp.Status, b)
	}
	return nil
}
