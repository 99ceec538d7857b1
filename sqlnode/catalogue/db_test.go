package catalogue

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// sqlDB is a DB over one file.
type sqlDB struct {
	db *sql.DB
	// beforeQuery, if set, is called before each Query, with its number from 1.
	beforeQuery func(n int)
	queries     int
	// loseAnswer makes Exec tell of an unknown outcome after it did what it should.
	loseAnswer bool
}

func openDB(t testing.TB) *sqlDB {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "system.db")+"?_txlock=immediate&_pragma=synchronous(0)&_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return &sqlDB{db: db}
}

func args(in []wire.Value) []any {
	var out []any
	for _, v := range in {
		switch v.Kind() {
		case wire.KindInteger:
			out = append(out, v.Int())
		case wire.KindText:
			out = append(out, v.Str())
		case wire.KindBlob:
			out = append(out, []byte(v.Str()))
		default:
			out = append(out, nil)
		}
	}
	return out
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func query(ctx context.Context, q querier, text string, in []wire.Value, row func([]wire.Value) error) error {
	rows, err := q.QueryContext(ctx, text, args(in)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	for rows.Next() {
		raw, refs := make([]any, len(columns)), make([]any, len(columns))
		for i := range raw {
			refs[i] = &raw[i]
		}
		if err := rows.Scan(refs...); err != nil {
			return err
		}
		values := make([]wire.Value, len(columns))
		for i, r := range raw {
			switch x := r.(type) {
			case int64:
				values[i] = wire.Integer(x)
			case string:
				values[i] = wire.Text(x)
			case []byte:
				values[i] = wire.Blob(x)
			case nil:
			default:
				return fmt.Errorf("a %T", r)
			}
		}
		if err := row(values); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (d *sqlDB) Exec(ctx context.Context, stmts []wire.Statement) ([]wire.Result, error) {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	var results []wire.Result
	for _, s := range stmts {
		var r wire.Result
		if strings.HasPrefix(s.SQL, "SELECT") {
			err = query(ctx, tx, s.SQL, s.Args, func(row []wire.Value) error {
				r.Rows = append(r.Rows, row)
				return nil
			})
		} else {
			var res sql.Result
			if res, err = tx.ExecContext(ctx, s.SQL, args(s.Args)...); err == nil {
				r.RowsAffected, err = res.RowsAffected()
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.SQL, err)
		}
		results = append(results, r)
	}
	if err := tx.Commit(); err != nil {
		return nil, err
	}
	if d.loseAnswer {
		return nil, wire.NewError(wire.CodeUnknownOutcome, "the answer was lost")
	}
	return results, nil
}

func (d *sqlDB) Query(ctx context.Context, sql string, args []wire.Value, row func([]wire.Value) error) error {
	d.queries++
	if d.beforeQuery != nil {
		d.beforeQuery(d.queries)
	}
	return query(ctx, d.db, sql, args, row)
}

var start = time.UnixMilli(1_800_000_000_000).UTC()

func testNode(id, pop string) Node {
	return Node{ID: id, Incarnation: "inc-" + id, PoP: pop, ClusterAddr: id + ":7601", Labels: map[string]string{"b": "2", "a": "1"}}
}

func tenantID(n int) tenant.ID { return tenant.ID{0: byte(n >> 8), 1: byte(n), 7: 9} }

// newCatalogue is a catalogue with the first node "n1".
func newCatalogue(t testing.TB) (*sqlDB, *Writer) {
	t.Helper()
	db := openDB(t)
	if err := Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	w := NewWriter(db, func() time.Time { return start })
	if err := w.Bootstrap(t.Context(), "c1", testNode("n1", "fra")); err != nil {
		t.Fatal(err)
	}
	return db, w
}

// load returns the catalogue as a new follower sees it.
func load(t testing.TB, db DB) *View {
	t.Helper()
	d := NewDirectory()
	if _, err := d.Refresh(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return d.View()
}
