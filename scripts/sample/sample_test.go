package sample_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/scripts/sample"
	"github.com/nearsql/nearsql/scripts/sample/library"
	"github.com/nearsql/nearsql/sqlnode/importer"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

func TestDumpIsWhatGenWrites(t *testing.T) {
	var b bytes.Buffer
	if err := library.Write(&b); err != nil {
		t.Fatal(err)
	}
	if b.String() != sample.Library() {
		t.Error("library.sql is not what gen writes: go run ./scripts/sample/gen > scripts/sample/library.sql")
	}
	if b.Len() > 2<<20 {
		t.Errorf("the dump has %d bytes", b.Len())
	}
}

func TestDumpAndQueries(t *testing.T) {
	file := filepath.Join(t.TempDir(), "library.db")
	if err := importer.FromSQL(t.Context(), strings.NewReader(sample.Library()), file); err != nil {
		t.Fatal(err)
	}
	info, err := importer.CheckFile(t.Context(), file)
	if err != nil || info.ForeignKeyViolations != 0 || info.ForeignKeyFault != "" {
		t.Fatalf("got %+v, %v", info, err)
	}
	c, err := sqlite.Open(file, "", sqlite.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rows := func(sql string) (n int, first string) {
		t.Helper()
		s, _, err := c.Prepare(sql, false)
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		defer s.Finalize()
		for {
			more, err := s.Step()
			if err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
			if !more {
				return n, first
			}
			if n == 0 {
				first = string(s.ColumnBytes(0))
			}
			n++
		}
	}
	if _, total := rows("SELECT (SELECT count(*) FROM genres)+(SELECT count(*) FROM authors)+(SELECT count(*) FROM books)+(SELECT count(*) FROM copies)+(SELECT count(*) FROM members)+(SELECT count(*) FROM loans)"); total != "10012" {
		t.Errorf("got %s rows", total)
	}
	if n, _ := rows("SELECT 1 FROM loans a JOIN loans b USING (copy_id) WHERE a.id < b.id AND a.returned IS NULL AND b.returned IS NULL"); n != 0 {
		t.Errorf("%d copies are lent twice at once", n)
	}
	queries, err := sample.Queries()
	if err != nil || len(queries) != 10 {
		t.Fatalf("got %d queries, %v", len(queries), err)
	}
	for _, q := range queries {
		n, _ := rows(q.SQL)
		t.Logf("%s: %d rows", q.Title, n)
		if n == 0 || q.Title == "" {
			t.Errorf("%q gives %d rows", q.Title, n)
		}
	}
	if err := c.Exec("INSERT INTO books VALUES(9999,'The Zebra of Zürich',1,1,2000,100,NULL); UPDATE books SET title='Zebra' WHERE id=9999"); err != nil {
		t.Fatal(err)
	}
	if n, _ := rows("SELECT 1 FROM books_fts WHERE books_fts MATCH 'zebra'"); n != 1 {
		t.Errorf("the triggers keep %d rows of FTS", n)
	}
	if err := c.Exec("INSERT INTO loans SELECT NULL, copy_id, 1, '2025-07-02', '2025-08-02', NULL FROM loans WHERE returned IS NULL LIMIT 1"); err == nil {
		t.Error("a copy was lent twice")
	}
}
