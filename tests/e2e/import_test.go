package e2e_test

import (
	"bufio"
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// memoryMost is what the node's process may take for the largest import.
const memoryMost = 600 << 20

// makeLarge makes a database file of about mib MiB.
func makeLarge(t *testing.T, path string, mib int) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(off)&_pragma=synchronous(off)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, s := range []string{
		"CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL, data BLOB)",
		"CREATE INDEX item_name ON item(name)",
		"CREATE TABLE tag(item INTEGER, tag TEXT, PRIMARY KEY(item, tag)) WITHOUT ROWID",
		fmt.Sprintf(`WITH RECURSIVE c(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM c WHERE i<%d)
 INSERT INTO item SELECT i, 'item ' || i || ' ä', i*1.25, CASE i%%50 WHEN 0 THEN NULL ELSE randomblob(%d) END FROM c`, mib*500, 2000),
		"INSERT INTO tag SELECT id, 'tag' || id%7 FROM item WHERE id%3=0",
		"PRAGMA user_version=42",
	} {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%.80s: %v", s, err)
		}
	}
}

// sameRows compares two databases row by row.
func sameRows(t *testing.T, a, b *sql.DB) {
	t.Helper()
	for _, q := range []string{
		"SELECT id, name, price, data FROM item ORDER BY id",
		"SELECT item, tag, NULL, NULL FROM tag ORDER BY item, tag",
		"SELECT type, name, sql, NULL FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%' ORDER BY type, name",
	} {
		ra, err := a.Query(q)
		if err != nil {
			t.Fatal(err)
		}
		defer ra.Close()
		rb, err := b.Query(q)
		if err != nil {
			t.Fatal(err)
		}
		defer rb.Close()
		for n := 0; ; n++ {
			na, nb := ra.Next(), rb.Next()
			if na != nb {
				t.Fatalf("%s: one ends after %d rows", q, n)
			}
			if !na {
				if err := errors.Join(ra.Err(), rb.Err()); err != nil || n == 0 {
					t.Fatalf("%s: %d rows, %v", q, n, err)
				}
				break
			}
			var va, vb [4]sql.RawBytes
			if err := errors.Join(ra.Scan(&va[0], &va[1], &va[2], &va[3]), rb.Scan(&vb[0], &vb[1], &vb[2], &vb[3])); err != nil {
				t.Fatal(err)
			}
			for i := range va {
				if (va[i] == nil) != (vb[i] == nil) || !bytes.Equal(va[i], vb[i]) {
					t.Fatalf("%s: row %d, column %d differs", q, n, i)
				}
			}
		}
	}
}

// TestLargeImport takes a large database in, as a file and as a dump, while another tenant works.
func TestLargeImport(t *testing.T) {
	mib := 60
	if *long {
		mib = 1200
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "large.db")
	makeLarge(t, file, mib)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	original := openFile(t, file)
	n := startNode(t)
	patient, err := client.New(n.url, client.Options{Token: n.key, HTTP: &http.Client{}}) // no bound on the wait for an answer
	if err != nil {
		t.Fatal(err)
	}
	report := func(what string, size int64, began time.Time) {
		now, peak := n.memory()
		d := time.Since(began)
		t.Logf("%s: %d MB in %s, %.0f MB/s; resident memory %d MiB, at most %d MiB", what, size/1e6, d.Round(10*time.Millisecond), float64(size)/1e6/d.Seconds(), now>>20, peak>>20)
		if peak > memoryMost {
			t.Errorf("%s: the process took %d MiB of memory, want at most %d", what, peak>>20, memoryMost>>20)
		}
	}
	bystanders := 0
	bystander := func() *prober {
		t.Helper()
		bystanders++
		return n.probe(fmt.Sprintf("bystander-%d", bystanders))
	}
	load := func(name string, f client.Format, path string) {
		t.Helper()
		in, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		size, err := in.Seek(0, io.SeekEnd)
		if err == nil {
			_, err = in.Seek(0, io.SeekStart)
		}
		if err != nil {
			t.Fatal(err)
		}
		p := bystander()
		began := time.Now()
		if _, err := patient.Import(t.Context(), name, f, bufio.NewReaderSize(in, 1<<20), tenant.CreateOptions{}); err != nil {
			t.Fatalf("import: %v", err)
		}
		report("import as "+string(f), size, began)
		p.end(t, proberMost)
	}
	unload := func(name string, f client.Format, path string) {
		t.Helper()
		p := bystander()
		began := time.Now()
		r, err := patient.Export(t.Context(), name, f)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		out, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		size, err := io.Copy(out, r)
		if err := errors.Join(err, out.Close()); err != nil {
			t.Fatalf("export: %v", err)
		}
		report("export as "+string(f), size, began)
		p.end(t, proberMost)
	}
	load("large", client.SQLite, file)
	out, dump := filepath.Join(dir, "out.db"), filepath.Join(dir, "out.sql")
	unload("large", client.SQLite, out)
	got := openFile(t, out)
	sameRows(t, original, got)
	got.Close()
	os.Remove(out)
	unload("large", client.SQL, dump)
	load("again", client.SQL, dump)
	os.Remove(dump)
	if v := n.one("again", "PRAGMA user_version"); v.Int() != 42 {
		t.Errorf("user_version is %s", v)
	}
	// What was imported is a tenant like others, and survives a kill.
	for _, name := range []string{"large", "again"} {
		n.mustRows(name, "UPDATE item SET price=price+1 WHERE id=77")
	}
	n.kill()
	began := time.Now()
	n.start()
	t.Logf("start after a kill: %s", time.Since(began).Round(time.Millisecond))
	for _, name := range []string{"large", "again"} {
		if v := n.one(name, "SELECT price FROM item WHERE id=77"); v != wire.Float(77*1.25+1) {
			t.Errorf("%s: the price is %s", name, v)
		}
		n.mustRows(name, "UPDATE item SET price=price-1 WHERE id=77")
	}
	t.Logf("first answers after it: %s; the file has %d MB", time.Since(began).Round(time.Millisecond), info.Size()/1e6)
	patient, err = client.New(n.url, client.Options{Token: n.key, HTTP: &http.Client{}})
	if err != nil {
		t.Fatal(err)
	}
	unload("again", client.SQLite, out)
	got = openFile(t, out)
	sameRows(t, original, got)
	got.Close()
}
