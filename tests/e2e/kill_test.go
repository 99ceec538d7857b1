package e2e_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite" // looks at exported files without anything of ours

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// hasty are flags with which checkpoints, absorbing and compaction happen all the time.
var hasty = []string{"--checkpoint-bytes", "1MiB", "--checkpoint-age", "100ms", "--ltx-bytes", "256KiB", "--ltx-age", "1s"}

// crash is the state of the kill test that outlives the node's processes.
type crash struct {
	t       *testing.T
	n       *node
	rng     *rand.Rand
	writers []*writer
	tenants []string
	imports *importWriter
	chosen  int // kills at a change of files
}

func newCrash(t *testing.T, tenants, each int) *crash {
	c := &crash{t: t, rng: newRand(t), n: newNode(t, hasty...)}
	c.n.start()
	for i := range tenants {
		name := fmt.Sprintf("ledger-%d", i)
		c.n.create(name)
		for _, sql := range ledgerSchema {
			c.n.mustRows(name, sql)
		}
		c.tenants = append(c.tenants, name)
		for range each {
			c.writers = append(c.writers, newWriter(*seed, name, int64(len(c.writers)+1)))
		}
	}
	c.imports = newImportWriter(t, c.rng)
	return c
}

// load runs all clients until each has lost an answer or ctx ends. It returns a
// function that waits for them.
func (c *crash) load(ctx context.Context) (wait func()) {
	var wg sync.WaitGroup
	node := c.n.Client // this process's
	for _, w := range c.writers {
		wg.Go(func() {
			do := func(r *wire.Request) (int64, wire.Meta, error) {
				late, cancel := context.WithTimeout(context.Background(), soonMax)
				defer cancel()
				return execute(late, node, w.tenant, r)
			}
			for ctx.Err() == nil {
				err := w.send(do, w.choose())
				if errors.Is(err, errLost) {
					return
				}
				if err != nil {
					c.t.Errorf("tenant %s, client %d: %v", w.tenant, w.id, err)
					return
				}
			}
		})
	}
	wg.Go(func() { c.imports.run(ctx, node) })
	return wg.Wait
}

// execute runs a request, and returns the value that its last statement with rows returned.
func execute(ctx context.Context, node *client.Client, name string, r *wire.Request) (returned int64, meta wire.Meta, err error) {
	results, meta, err := node.Exec(ctx, name, r)
	if err != nil {
		return 0, meta, err
	}
	if len(results) != len(r.Statements) {
		return 0, meta, fmt.Errorf("%d results for %d statements", len(results), len(r.Statements))
	}
	for _, res := range results {
		if len(res.Rows) == 1 && len(res.Rows[0]) == 1 {
			returned = res.Rows[0][0].Int()
		}
	}
	return returned, meta, nil
}

// check compares every tenant with what its clients know, and settles what they don't.
func (c *crash) check(whole bool) {
	c.t.Helper()
	defer c.n.watchdog(startMax)()
	for _, name := range c.tenants {
		if got := c.n.one(name, "PRAGMA integrity_check"); got.Str() != "ok" {
			c.t.Fatalf("tenant %s: integrity_check: %s", name, got)
		}
	}
	for _, w := range c.writers {
		c.checkWriter(w)
	}
	for i, name := range c.tenants {
		if whole || i == c.rng.IntN(len(c.tenants)) {
			c.checkExport(name)
		}
	}
	c.imports.check(c.n)
	for _, w := range c.writers {
		c.repeat(w)
	}
}

// seen is what a tenant has of one op.
type seen struct{ parts, partSum, ver, size, size0 int64 }

// checkWriter compares the rows of one client with what it knows.
func (c *crash) checkWriter(w *writer) {
	c.t.Helper()
	fail := func(format string, args ...any) {
		c.t.Helper()
		c.t.Fatalf("tenant %s, client %d: %s", w.tenant, w.id, fmt.Sprintf(format, args...))
	}
	// What the last answer showed must be there: its bookmark says so, or that the answer is of this moment.
	bookmark := w.last
	if c.rng.IntN(2) == 0 {
		bookmark = ""
	}
	results, meta, err := c.n.Exec(c.t.Context(), w.tenant, &wire.Request{Bookmark: bookmark, Batch: true, Statements: []wire.Statement{
		{SQL: `SELECT op, count(*), sum(part), max(ver), sum(length(data)), sum(CASE part WHEN 0 THEN length(data) END) FROM log WHERE client=? GROUP BY op`, Args: []wire.Value{wire.Integer(w.id)}},
		{SQL: `SELECT n, ops FROM count WHERE client=?`, Args: []wire.Value{wire.Integer(w.id)}},
	}})
	if err != nil {
		fail("read with bookmark %q: %v", bookmark, err)
	}
	if meta.Staleness != 0 {
		fail("the only node answers with a staleness of %s", meta.Staleness)
	}
	got := map[int64]seen{}
	for _, r := range results[0].Rows {
		got[r[0].Int()] = seen{r[1].Int(), r[2].Int(), r[3].Int(), r[4].Int(), r[5].Int()}
	}
	var count, ops int64
	if rows := results[1].Rows; len(rows) == 1 {
		count, ops = rows[0][0].Int(), rows[0][1].Int()
	}
	if o := w.pending; o != nil {
		applied := ops == w.ops+1
		if ops != w.ops && !applied {
			fail("it had %d requests answered and one under way (%s, op %d); the tenant counts %d", w.ops, o.kind, o.n, ops)
		}
		if applied && (o.kind == "failing" || o.kind == "failing with key") {
			fail("op %d can't have taken effect, and did", o.n)
		}
		if applied {
			w.apply(o)
			w.stats["lost, done"]++
		} else {
			o.fate = undone
		}
	}
	if count != w.count || ops != w.ops {
		fail("the tenant counts %d rows and %d requests, answered were %d and %d", count, ops, w.count, w.ops)
	}
	for n, want := range w.rows {
		g, ok := got[n]
		if !ok {
			fail("op %d was answered and is lost", n)
		}
		parts := int64(len(want.sizes))
		size := int64(want.size0)
		for _, s := range want.sizes[1:] {
			size += int64(s)
		}
		if exp := (seen{parts, parts * (parts - 1) / 2, want.ver, size, int64(want.size0)}); g != exp {
			fail("op %d: got %+v, want %+v", n, g, exp)
		}
		delete(got, n)
	}
	for n, g := range got {
		fail("op %d (%+v) is there and was never answered, or was deleted", n, g)
	}
}

// repeat sends requests with keys again: the one whose answer was lost, and one that was answered.
func (c *crash) repeat(w *writer) {
	c.t.Helper()
	fail := func(o *op, format string, args ...any) {
		c.t.Helper()
		c.t.Fatalf("tenant %s, client %d: op %d (%s) sent again under its key: %s", w.tenant, w.id, o.n, o.kind, fmt.Sprintf(format, args...))
	}
	if o := w.pending; o != nil && o.key != "" {
		was := o.fate
		returned, meta, err := execute(c.t.Context(), c.n.Client, w.tenant, w.request(o))
		switch {
		case o.kind == "failing with key":
			if codeOf(err) != "SQLITE_CONSTRAINT_PRIMARYKEY" {
				fail(o, "got %v, want the constraint error", err)
			}
		case err != nil:
			fail(o, "%v", err)
		case meta.Replayed != (was == done):
			fail(o, "replayed is %v; it had taken effect: %v", meta.Replayed, was == done)
		default:
			if was == undone {
				w.apply(o)
			}
			if returned != w.ops {
				fail(o, "it returned %d, want %d", returned, w.ops)
			}
			w.stats["repeated"]++
		}
	}
	w.pending = nil
	if len(w.keyed) == 0 {
		return
	}
	o := w.keyed[w.rng.IntN(len(w.keyed))]
	returned, meta, err := execute(c.t.Context(), c.n.Client, w.tenant, w.request(&o))
	switch {
	case o.kind == "failing with key":
		if codeOf(err) != "SQLITE_CONSTRAINT_PRIMARYKEY" {
			fail(&o, "got %v, want the constraint error", err)
		}
	case err != nil || !meta.Replayed || returned != o.returned:
		fail(&o, "got %d, replayed %v, %v; the first answer was %d", returned, meta.Replayed, err, o.returned)
	}
	w.stats["replayed"]++
	if len(w.keyed) > 50 {
		w.keyed = append([]op(nil), w.keyed[len(w.keyed)-50:]...)
	}
}

// exportFile exports a tenant, and opens what came with plain SQLite.
func exportFile(t testing.TB, n *node, name string) *sql.DB {
	t.Helper()
	r, err := n.Export(t.Context(), name, client.SQLite)
	if err != nil {
		t.Fatalf("export %s: %v", name, err)
	}
	defer r.Close()
	path := filepath.Join(t.TempDir(), name+".db")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatalf("export %s: %v", name, err)
	}
	return openFile(t, path)
}

// openFile opens a database file with plain SQLite, and looks whether it is sound.
func openFile(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close(); os.Remove(path) })
	var ok string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&ok); err != nil || ok != "ok" {
		t.Fatalf("%s: integrity_check of the exported file: %q, %v", filepath.Base(path), ok, err)
	}
	return db
}

// checkExport compares every byte of a tenant's rows, as plain SQLite reads them from an
// exported file, with what its clients wrote.
func (c *crash) checkExport(name string) {
	c.t.Helper()
	db := exportFile(c.t, c.n, name)
	defer db.Close()
	clients := map[int64]*writer{}
	want := 0
	for _, w := range c.writers {
		if w.tenant == name {
			clients[w.id] = w
			want += int(w.count)
		}
	}
	rows, err := db.Query("SELECT client, op, part, ver, data FROM log")
	if err != nil {
		c.t.Fatal(err)
	}
	defer rows.Close()
	found := 0
	for rows.Next() {
		var id, op, part, ver int64
		var data []byte
		if err := rows.Scan(&id, &op, &part, &ver, &data); err != nil {
			c.t.Fatal(err)
		}
		w := clients[id]
		if w == nil || !bytes.Equal(data, w.content(op, part, ver, len(data))) {
			c.t.Fatalf("exported file of %s: client %d, op %d, part %d, version %d: the data is not what was written", name, id, op, part, ver)
		}
		found++
	}
	if err := rows.Err(); err != nil || found != want {
		c.t.Fatalf("exported file of %s: %d rows, want %d (%v)", name, found, want, err)
	}
}

// moment waits for the moment to kill: any, or one at which the node has just changed its files.
func (c *crash) moment() {
	c.t.Helper()
	end := time.NewTimer(time.Duration(20+c.rng.IntN(900)) * time.Millisecond)
	defer end.Stop()
	watched := ""
	if n := c.rng.IntN(2 * len(watchedFiles)); n < len(watchedFiles) {
		watched = filepath.Join(c.n.dir, "groups", "2", watchedFiles[n])
	}
	look := time.NewTicker(500 * time.Microsecond)
	defer look.Stop()
	before := modified(watched)
	for {
		select {
		case <-end.C:
			return
		case <-c.n.ended:
			c.t.Fatalf("the node ended by itself\n%s", c.n.logTail(4000))
		case <-look.C:
			if watched == "" || modified(watched) == before {
				continue
			}
			soon := time.NewTimer(time.Duration(c.rng.IntN(8000)) * time.Microsecond)
			<-soon.C
			c.chosen++
			return
		}
	}
}

// watchedFiles change at each step of a checkpoint, and when it is absorbed and compacted.
var watchedFiles = []string{"segments", "raft/snapshots", "bases", "progress", "ltx", "staging", "raft/log"}

// modified is the time of the newest change of a file or directory; zero if it is not there.
func modified(path string) (t time.Time) {
	if info, err := os.Stat(path); err == nil {
		t = info.ModTime()
	}
	return t
}

// TestKill kills the node again and again, at any moment of its life.
func TestKill(t *testing.T) {
	t.Parallel()
	n := *rounds
	if n == 0 {
		n = 36
		if *long {
			n = 300
		}
	}
	c := newCrash(t, 3, 3)
	var kills, early int
	var ltx, checkpoints float64
	began := time.Now()
	for round := range n {
		if round > 0 && c.rng.IntN(4) == 0 {
			// Killed while it starts, perhaps while it recovers.
			c.n.launch()
			died := time.NewTimer(time.Duration(c.rng.IntN(150)) * time.Millisecond)
			select {
			case <-died.C:
			case <-c.n.ended:
				t.Fatalf("the node ended by itself\n%s", c.n.logTail(4000))
			}
			c.n.kill()
			early++
		}
		if round > 0 {
			c.n.start()
			c.check(round%10 == 9)
		}
		ctx, cancel := context.WithCancel(t.Context())
		wait := c.load(ctx)
		c.moment()
		if round%8 == 7 {
			ltx += c.n.metric("nearsql_ltx_files_total")
			checkpoints += c.n.metric("nearsql_checkpoints_total")
		}
		c.n.kill()
		cancel()
		wait()
		kills++
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	c.n.start()
	c.check(true)
	if code := c.n.stop(); code != 0 {
		t.Errorf("the node ended with exit code %d", code)
	}
	c.n.start()
	c.check(true)
	total := map[string]int{}
	for _, w := range c.writers {
		for k, v := range w.stats {
			total[k] += v
		}
	}
	t.Logf("%d kills, %d of them at a change of files, and %d at the start, in %s; requests: %v; imports: %v; in an eighth of the rounds: %g checkpoints, %g LTX files",
		kills, c.chosen, early, time.Since(began).Round(time.Second), total, c.imports.stats, checkpoints, ltx)
	if n >= 20 && (total["lost, done"] == 0 || total["repeated"] == 0 || total["large"] == 0 || total["trim"] == 0) {
		t.Error("the load did not have all that it should")
	}
}

// TestFreshAfterStart asks at once after a start that has much of the log to go through: no answer may be of a
// state before the log's end.
func TestFreshAfterStart(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	n.create("t")
	n.mustRows("t", "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
	const count = 60
	for i := range int64(count) {
		n.mustRows("t", "INSERT INTO t VALUES(?, randomblob(700000))", wire.Integer(i))
	}
	for _, ask := range []string{"read", "write", "export"} {
		n.kill()
		n.start()
		switch ask {
		case "read":
			if got := n.one("t", "SELECT max(id) FROM t"); got.Int() != count-1 {
				t.Errorf("the first read after a start sees row %s of %d", got, count-1)
			}
		case "write":
			n.mustRows("t", "DELETE FROM t WHERE id=0")
		case "export":
			var got int
			if err := exportFile(t, n, "t").QueryRow("SELECT max(id) FROM t").Scan(&got); err != nil || got != count-1 {
				t.Errorf("an export after a start has row %d of %d, %v", got, count-1, err)
			}
		}
	}
}

// TestTerminate stops the node in order, under load: what it has begun is answered.
func TestTerminate(t *testing.T) {
	t.Parallel()
	times := 3
	if *long {
		times = 20
	}
	c := newCrash(t, 2, 2)
	for range times {
		if !func() bool {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			wait := c.load(ctx)
			// A stream whose first row is here is surely under way.
			a, err := c.n.Do(t.Context(), c.tenants[0], &wire.Request{Statements: []wire.Statement{{
				SQL: `WITH RECURSIVE c(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM c WHERE i<80000) SELECT i, zeroblob(100) FROM c`}}})
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if !a.NextStatement() || !a.NextRow() {
				t.Fatal(a.Err())
			}
			end := time.NewTimer(time.Duration(c.rng.IntN(700)) * time.Millisecond)
			<-end.C
			stopped := make(chan int, 1)
			go func() { stopped <- c.n.stop() }()
			rows := 1
			for a.NextRow() {
				rows++
			}
			a.NextStatement()
			if a.Err() != nil || rows != 80000 {
				t.Errorf("the stream that was under way ended after %d rows: %v", rows, a.Err())
			}
			if code := <-stopped; code != 0 {
				t.Errorf("the node ended with exit code %d", code)
			}
			cancel()
			wait()
			return !t.Failed()
		}() {
			return
		}
		if _, err := os.Stat(filepath.Join(c.n.dir, "address")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the address file stays: %v", err)
		}
		c.n.start()
		c.check(true)
	}
}

// importWriter imports, creates and deletes tenants beside the writers of rows.
type importWriter struct {
	t     *testing.T
	rng   *rand.Rand
	file  []byte // a database
	dump  []byte // the same as SQL
	next  int
	known map[string]string // name -> what it must be: "imported", "empty" or "gone"
	open  string            // name whose fate is unknown
	want  string            // what open would be if it was done
	was   string            // what open was
	stats map[string]int
}

const importRows = 6000

func newImportWriter(t *testing.T, rng *rand.Rand) *importWriter {
	w := &importWriter{t: t, rng: rand.New(rand.NewPCG(rng.Uint64(), 3)), known: map[string]string{}, stats: map[string]int{}}
	path := filepath.Join(t.TempDir(), "import.db")
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range []string{
		"CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT)",
		fmt.Sprintf("WITH RECURSIVE c(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM c WHERE i<%d) INSERT INTO item SELECT i, hex(randomblob(150)) FROM c", importRows),
	} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if w.file, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	b.WriteString("BEGIN;\nCREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT);\n")
	for i := range importRows {
		fmt.Fprintf(&b, "INSERT INTO item VALUES(%d,'%0200d');\n", i+1, i)
	}
	b.WriteString("COMMIT;\n")
	w.dump = b.Bytes()
	return w
}

func (w *importWriter) run(ctx context.Context, node *client.Client) {
	for ctx.Err() == nil {
		late, cancel := context.WithTimeout(context.Background(), soonMax)
		err := w.step(late, node)
		cancel()
		if err == nil {
			continue
		}
		if lost(err) {
			w.stats["lost"]++
			return
		}
		w.open = "" // it surely had no effect
		switch codeOf(err) {
		case wire.CodeShuttingDown, wire.CodeNotReady, wire.CodeNotPrimary, wire.CodeOverloaded:
			return
		}
		w.t.Errorf("tenants: %v", err)
		return
	}
}

func (w *importWriter) step(ctx context.Context, node *client.Client) error {
	var err error
	switch p := w.rng.IntN(10); {
	case p < 4:
		w.next++
		w.open, w.want, w.was = fmt.Sprintf("imported-%d", w.next), "imported", "gone"
		if p < 3 {
			_, err = node.Import(ctx, w.open, client.SQLite, bytes.NewReader(w.file), tenant.CreateOptions{})
		} else {
			_, err = node.Import(ctx, w.open, client.SQL, bytes.NewReader(w.dump), tenant.CreateOptions{})
		}
	case p < 6:
		w.next++
		w.open, w.want, w.was = fmt.Sprintf("created-%d", w.next), "empty", "gone"
		_, err = node.CreateTenant(ctx, w.open, tenant.CreateOptions{})
	default:
		w.open = ""
		for name, is := range w.known {
			if is != "gone" {
				w.open, w.want, w.was = name, "gone", is
				break
			}
		}
		if w.open == "" {
			return nil
		}
		err = node.DeleteTenant(ctx, w.open)
	}
	if err != nil {
		return fmt.Errorf("%s, to be %s: %w", w.open, w.want, err)
	}
	w.known[w.open] = w.want
	w.stats[w.want]++
	w.open = ""
	return nil
}

// is says what a tenant is.
func (w *importWriter) is(n *node, name string) string {
	w.t.Helper()
	rows, err := n.rows(name, "SELECT count(*), max(id), sum(length(name)>100) FROM item")
	switch code := codeOf(err); {
	case code == wire.CodeNoSuchTenant, code == wire.CodeTenantDeleted:
		return "gone"
	case err != nil && code != "SQLITE_ERROR":
		w.t.Fatalf("tenant %s: %v", name, err)
	case err != nil:
		if got := n.one(name, "SELECT count(*) FROM sqlite_schema"); got.Int() != 0 {
			w.t.Fatalf("tenant %s was imported in part", name)
		}
		return "empty"
	}
	for _, v := range rows[0] {
		if v.Int() != importRows {
			w.t.Fatalf("tenant %s was imported in part: %v", name, rows[0])
		}
	}
	if got := n.one(name, "PRAGMA integrity_check"); got.Str() != "ok" {
		w.t.Fatalf("tenant %s: integrity_check: %s", name, got)
	}
	return "imported"
}

// check compares the tenants of a node that has started with what is known.
func (w *importWriter) check(n *node) {
	w.t.Helper()
	if w.open != "" {
		switch is := w.is(n, w.open); is {
		case w.want, w.was:
			w.known[w.open] = is
			w.stats["lost, then "+is]++
		default:
			w.t.Fatalf("tenant %s is %s; it was %s and was to be %s", w.open, is, w.was, w.want)
		}
		w.open = ""
	}
	listed := map[string]bool{}
	total := 0
	for after := ""; ; {
		page, err := n.ListTenants(w.t.Context(), after, 100)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, t := range page.Tenants {
			listed[string(t.Name)] = true
			total++
		}
		if after = page.Next; after == "" {
			break
		}
	}
	for name, want := range w.known {
		if listed[name] != (want != "gone") {
			w.t.Fatalf("tenant %s is listed: %v; it must be %s", name, listed[name], want)
		}
		if want == "gone" {
			if w.rng.IntN(20) == 0 {
				delete(w.known, name)
			}
			continue
		}
		if is := w.is(n, name); is != want {
			w.t.Fatalf("tenant %s is %s, want %s", name, is, want)
		}
	}
	// What is left of an import that was cut short is removed.
	eventually(w.t, soonMax, "removing the rests of imports", func() error {
		st, err := n.status()
		if err == nil && st.Tenants != total {
			err = fmt.Errorf("the node has %d tenants, and lists %d", st.Tenants, total)
		}
		return err
	})
}
