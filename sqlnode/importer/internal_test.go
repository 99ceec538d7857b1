package importer

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

func TestInternalObjects(t *testing.T) {
	const own = `CREATE TABLE IF NOT EXISTS _nearsql_outcome(
 subject TEXT NOT NULL, key TEXT NOT NULL, digest BLOB NOT NULL, at INTEGER NOT NULL, outcome BLOB NOT NULL,
 PRIMARY KEY(subject, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS _nearsql_outcome_at ON _nearsql_outcome(at);`
	for name, c := range map[string]struct {
		sql string
		ok  bool
	}{
		"a node's own":       {own, true},
		"none":               {"CREATE TABLE t(a)", true},
		"other columns":      {"CREATE TABLE _nearsql_outcome(a)", false},
		"a view of the name": {"CREATE TABLE t(a); CREATE VIEW _nearsql_outcome AS SELECT * FROM t", false},
		"a trigger on it":    {own + "CREATE TABLE t(a); CREATE TRIGGER x AFTER INSERT ON _nearsql_outcome BEGIN INSERT INTO t VALUES(1); END", false},
		"an index on it":     {own + "CREATE INDEX i ON _nearsql_outcome(digest)", false},
		"another case":       {"CREATE TABLE _NearSQL_x(a)", false},
		"crr":                {"CREATE TABLE __crr_site(a)", false},
	} {
		path := filepath.Join(t.TempDir(), "x.db")
		db, err := sqlite.Open(path, "", sqlite.ReadWrite|sqlite.Create)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Exec(c.sql); err != nil {
			t.Fatal(name, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		_, err = CheckFile(context.Background(), path)
		var bad *BadDatabaseError
		if c.ok && err != nil || !c.ok && !errors.As(err, &bad) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
