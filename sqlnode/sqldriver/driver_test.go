package sqldriver_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nearsql/nearsql/sqlnode/sqldriver"
	"github.com/nearsql/nearsql/wire"
)

func exec(t testing.TB, db *sql.DB, text string, args ...any) sql.Result {
	t.Helper()
	r, err := db.ExecContext(t.Context(), text, args...)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return r
}

func wantCode(t *testing.T, err error, code wire.Code) *wire.Error {
	t.Helper()
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("got %v, want %s", err, code)
	}
	return e
}

func TestValuesComeBack(t *testing.T) {
	db := single(t).open(t)
	exec(t, db, "create table v(id integer primary key, x)")
	moment := time.Date(2024, 2, 29, 23, 59, 58, 123_000_000, time.FixedZone("", 3600))
	seven := int32(7)
	var none *string
	for i, c := range []struct{ in, want any }{
		{nil, nil}, {int64(math.MaxInt64), int64(math.MaxInt64)}, {int64(math.MinInt64), int64(math.MinInt64)}, {int64(1<<53 + 1), int64(1<<53 + 1)},
		{1.0, 1.0}, {-0.1, -0.1}, {math.Inf(1), math.Inf(1)}, {math.NaN(), nil}, {true, int64(1)}, {false, int64(0)},
		{"", ""}, {"grüße\n\"", "grüße\n\""}, {[]byte(nil), nil}, {[]byte{}, []byte{}}, {[]byte{0, 255}, []byte{0, 255}},
		{moment, "2024-02-29 22:59:58.123"}, {uint8(3), int64(3)}, {&seven, int64(7)}, {none, nil}, {sql.NullString{}, nil},
		{wire.Integer(4), int64(4)}, {wire.Blob([]byte{1}), []byte{1}},
	} {
		exec(t, db, "insert into v values(?, ?)", i, c.in)
		var got any
		if err := db.QueryRowContext(t.Context(), "select x from v where id = :id", sql.Named("id", i)).Scan(&got); err != nil {
			t.Fatalf("%v: %v", c.in, err)
		}
		if b, ok := c.want.([]byte); ok {
			if g, ok := got.([]byte); !ok || g == nil || !bytes.Equal(g, b) {
				t.Errorf("%v: got %#v, want %#v", c.in, got, c.want)
			}
		} else if got != c.want {
			t.Errorf("%v: got %#v, want %#v", c.in, got, c.want)
		}
	}
	_, err := db.ExecContext(t.Context(), "insert into v(x) values(?)", uint64(math.MaxUint64))
	wantCode(t, err, wire.CodeBadArgument)
	_, err = db.ExecContext(t.Context(), "insert into v(x) values(?)", struct{}{})
	wantCode(t, err, wire.CodeBadArgument)
	_, err = db.ExecContext(t.Context(), "insert into v(x) values(?)", "\xff")
	wantCode(t, err, wire.CodeInvalidUTF8)
	_, err = db.ExecContext(t.Context(), "select ?, :a", 1, sql.Named("a", 2))
	wantCode(t, err, wire.CodeBadArgument)
	_, err = db.ExecContext(t.Context(), "insert into v(x) values(?)", time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))
	wantCode(t, err, wire.CodeBadArgument)
	_, err = db.ExecContext(t.Context(), "select 1\x00; drop table v")
	wantCode(t, err, wire.CodeBadRequest)
	_, err = db.ExecContext(t.Context(), "select ?")
	wantCode(t, err, wire.CodeArgumentCount)
}

// Any value of SQLite that goes in comes out.
func TestAnyValueComesBack(t *testing.T) {
	db := single(t).open(t)
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.OneOf(
			rapid.Map(rapid.Int64(), func(i int64) any { return i }),
			rapid.Map(rapid.Float64(), func(f float64) any { return f }),
			rapid.Map(rapid.String(), func(s string) any { return s }),
			rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) any { return append([]byte{}, b...) }),
		).Draw(t, "value")
		var got any
		if err := db.QueryRowContext(context.Background(), "select ?", v).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if b, ok := v.([]byte); ok {
			if g, ok := got.([]byte); !ok || !bytes.Equal(b, g) {
				t.Fatalf("got %#v, want %#v", got, v)
			}
		} else if got != v {
			t.Fatalf("got %#v, want %#v", got, v)
		}
	})
}

func TestTimes(t *testing.T) {
	n := single(t)
	db := n.open(t)
	exec(t, db, "create table m(id integer primary key, d date, dt DateTime default current_timestamp, ts timestamp, plain text)")
	moment := time.Date(2024, 2, 29, 23, 59, 58, 123_456_789, time.UTC)
	exec(t, db, "insert into m(d, ts, plain) values('2024-02-29', ?, ?)", moment, moment)
	var d, dt, ts time.Time
	var plain string
	if err := db.QueryRowContext(t.Context(), "select d, dt, ts, plain from m").Scan(&d, &dt, &ts, &plain); err != nil {
		t.Fatal(err)
	}
	if !d.Equal(time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)) || time.Since(dt).Abs() > time.Minute || !ts.Equal(moment) || plain != "2024-02-29 23:59:58.123456789" {
		t.Error(d, dt, ts, plain)
	}
	var text string
	if err := db.QueryRowContext(t.Context(), "select strftime('%Y-%m-%d %H:%M:%f', ts) from m").Scan(&text); err != nil || text != "2024-02-29 23:59:58.123" {
		t.Error("SQLite's functions don't read it:", text, err)
	}
	if err := n.open(t, sqldriver.TimesAsText()).QueryRowContext(t.Context(), "select ts from m").Scan(&text); err != nil || text != "2024-02-29 23:59:58.123456789" {
		t.Error(text, err)
	}
	for _, c := range []struct {
		stored any
		want   any
	}{
		{"2024-02-29T10:00:00Z", time.Date(2024, 2, 29, 10, 0, 0, 0, time.UTC)}, {"2024-02-29 10:00:00.5+02:00", time.Date(2024, 2, 29, 8, 0, 0, 5e8, time.UTC)},
		{"2024-02-29 10:00", time.Date(2024, 2, 29, 10, 0, 0, 0, time.UTC)}, {"soon", "soon"}, {"2024-02-30", "2024-02-30"}, {1709200000, int64(1709200000)}, {nil, nil},
	} {
		exec(t, db, "update m set ts = ?", c.stored)
		var got any
		if err := db.QueryRowContext(t.Context(), "select ts from m").Scan(&got); err != nil {
			t.Fatal(err)
		}
		if g, ok := got.(time.Time); ok {
			if w, ok := c.want.(time.Time); !ok || !g.Equal(w) {
				t.Errorf("%v: got %v, want %v", c.stored, got, c.want)
			}
		} else if got != c.want {
			t.Errorf("%v: got %v, want %v", c.stored, got, c.want)
		}
	}
}

func TestResults(t *testing.T) {
	db := single(t).open(t)
	exec(t, db, "create table r(id integer primary key, u text unique)")
	r := exec(t, db, "insert into r(id, u) values(7000000000000, 'a'), (7000000000001, 'b')")
	id, err := r.LastInsertId()
	n, err2 := r.RowsAffected()
	if id != 7000000000001 || n != 2 || err != nil || err2 != nil {
		t.Error(id, n, err, err2)
	}
	r = exec(t, db, "update r set u = u || 'x'")
	if n, _ := r.RowsAffected(); n != 2 {
		t.Error(n)
	}
	if id, _ := r.LastInsertId(); id != 0 {
		t.Error(id)
	}
	_, err = db.ExecContext(t.Context(), "insert into r(u) values('ax')")
	wantCode(t, err, wire.CodeSQLiteConstraintUnique)
	_, err = db.QueryContext(t.Context(), "select nothing")
	wantCode(t, err, wire.CodeSQLiteError)
	_, err = db.ExecContext(t.Context(), "select 1; select 2")
	wantCode(t, err, wire.CodeMultipleStatements)
	var got string
	if err := db.QueryRowContext(t.Context(), "insert into r(u) values('c') returning u").Scan(&got); err != nil || got != "c" {
		t.Error(got, err)
	}
	if err := db.QueryRowContext(t.Context(), "select u from r where id < 0").Scan(&got); !errors.Is(err, sql.ErrNoRows) {
		t.Error(err)
	}
	st, err := db.PrepareContext(t.Context(), "select u, id as n from r where id > ? order by id")
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for range 3 {
		rows, err := st.QueryContext(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		types, err := rows.ColumnTypes()
		if err != nil || len(types) != 2 || types[0].DatabaseTypeName() != "TEXT" || types[1].DatabaseTypeName() != "INTEGER" || types[1].Name() != "n" {
			t.Fatal(types, err)
		}
		count := 0
		for rows.Next() {
			count++
		}
		if rows.Err() != nil || count != 3 {
			t.Fatal(count, rows.Err())
		}
	}
	// An error in the middle comes after the rows before it.
	rows, err := db.QueryContext(t.Context(), "select 1 union all select abs(-9223372036854775808)")
	if err == nil {
		for rows.Next() {
		}
		err = rows.Err()
	}
	wantCode(t, err, wire.CodeSQLiteError)
	if err := db.PingContext(t.Context()); err != nil {
		t.Error(err)
	}
	if e := wantCode(t, sqldriver.Open(single(t).Node, "nobody").PingContext(t.Context()), wire.CodeNoSuchTenant); e.HTTPStatus() != 404 {
		t.Error(e)
	}
	_, err = db.Driver().Open("acme")
	if err == nil {
		t.Error("opened by name")
	}
}

func TestTransactions(t *testing.T) {
	db := single(t).open(t)
	exec(t, db, "create table r(id integer primary key, u text unique)")
	_, err := db.BeginTx(t.Context(), nil)
	wantCode(t, err, wire.CodeTransactionControlNotAllowed)
	_, err = db.ExecContext(t.Context(), "begin")
	wantCode(t, err, wire.CodeTransactionControlNotAllowed)
	results, err := sqldriver.Batch(t.Context(), db,
		sqldriver.Statement{SQL: "insert into r values(?, ?)", Args: []any{1, "a"}},
		sqldriver.Statement{SQL: "insert into r values(:id, :u)", Args: []any{sql.Named("id", 2), sql.Named("u", "b")}},
		sqldriver.Statement{SQL: "select id, u from r order by id"})
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != 3 || results[1].LastInsertRowID != 2 || results[0].RowsAffected != 1 || len(results[2].Rows) != 2 || results[2].Rows[1][1] != wire.Text("b") || results[2].Columns[1].Name != "u" {
		t.Errorf("%+v", results)
	}
	_, err = sqldriver.Batch(t.Context(), db, sqldriver.Statement{SQL: "delete from r"}, sqldriver.Statement{SQL: "insert into r values(3, 'c'), (4, 'c')"})
	if e := wantCode(t, err, wire.CodeSQLiteConstraintUnique); e.Statement != 2 {
		t.Error(e.Statement)
	}
	var n int
	if err := db.QueryRowContext(t.Context(), "select count(*) from r").Scan(&n); err != nil || n != 2 {
		t.Errorf("after a batch that failed: %d rows, %v", n, err)
	}
	_, err = sqldriver.Batch(t.Context(), db)
	wantCode(t, err, wire.CodeEmptyStatement)
	_, err = sqldriver.Batch(t.Context(), db, sqldriver.Statement{SQL: "select 1"}, sqldriver.Statement{SQL: "select ?", Args: []any{make(chan int)}})
	if e := wantCode(t, err, wire.CodeBadArgument); e.Statement != 2 {
		t.Error(e.Statement)
	}
	// A key makes a write happen once.
	ctx := sqldriver.WithIdempotencyKey(t.Context(), "k1")
	for range 2 {
		if _, err := db.ExecContext(ctx, "insert into r(u) values('once')"); err != nil {
			t.Fatal(err)
		}
	}
	_, err = db.ExecContext(ctx, "insert into r(u) values('other')")
	wantCode(t, err, wire.CodeIdempotencyMismatch)
}

// Answers of any length are read row by row, may be left early, and many at a time.
func TestRowsInPieces(t *testing.T) {
	db := single(t).open(t)
	const many = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 300000) select i, 'some text' from n"
	rows, err := db.QueryContext(t.Context(), many)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for rows.Next() {
		var i int
		var s string
		if err := rows.Scan(&i, &s); err != nil {
			t.Fatal(err)
		}
		sum += i
	}
	if rows.Err() != nil || sum != 300000*300001/2 {
		t.Fatal(sum, rows.Err())
	}
	var wg sync.WaitGroup
	for i := range 40 { // more than a tenant has readers
		wg.Go(func() {
			rows, err := db.QueryContext(t.Context(), many)
			if err != nil {
				t.Error(err)
				return
			}
			for range i {
				rows.Next()
			}
			if err := rows.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var n int
	if err := db.QueryRowContext(t.Context(), many).Scan(&n, new(string)); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	// An answer without an end ends when it is left.
	rows, err = db.QueryContext(t.Context(), "with recursive n(i) as (select 1 union all select i + 1 from n) select i, 'some text' from n")
	if err != nil {
		t.Fatal(err)
	}
	rows.Next()
	began := time.Now()
	if rows.Close(); time.Since(began) > 10*time.Second { // the limit of a statement's time is 30 s
		t.Errorf("rows closed after %v", time.Since(began))
	}
	// Small answers hold nothing: open as many as one likes, and write meanwhile.
	exec(t, db, "create table w(x)")
	var open []*sql.Rows
	for range 50 {
		rows, err := db.QueryContext(t.Context(), "select 1 union all select 2")
		if err != nil {
			t.Fatal(err)
		}
		rows.Next()
		open = append(open, rows)
		exec(t, db, "insert into w values(1)")
	}
	for _, r := range open {
		r.Close()
	}
}

func TestContextsEnd(t *testing.T) {
	db := single(t).open(t)
	const forever = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := db.QueryContext(ctx, forever)
	if err == nil || !errors.Is(err, context.DeadlineExceeded) && !isCode(err, wire.CodeTimeout) {
		t.Error(err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := db.ExecContext(ctx, forever); err == nil || !errors.Is(err, context.Canceled) && !isCode(err, wire.CodeCancelled) {
		t.Error(err)
	}
	if _, err := db.ExecContext(ctx, "select 1"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := db.ExecContext(sqldriver.With(t.Context(), sqldriver.Timeout(30*time.Millisecond)), forever); !isCode(err, wire.CodeTimeout) {
		t.Error(err)
	}
	// A context that ends while rows are read ends them.
	ctx, cancel = context.WithCancel(t.Context())
	rows, err := db.QueryContext(ctx, "with recursive n(i) as (select 1 union all select i + 1 from n) select i, 'some text' from n")
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		rows.Next()
	}
	cancel()
	for rows.Next() {
	}
	if !errors.Is(rows.Err(), context.Canceled) && !isCode(rows.Err(), wire.CodeCancelled) {
		t.Error(rows.Err())
	}
	rows.Close()
	exec(t, db, "select 1")
}

func isCode(err error, code wire.Code) bool { return errors.Is(err, &wire.Error{Code: code}) }

func TestManyAtOnce(t *testing.T) {
	db := single(t).open(t)
	exec(t, db, "create table c(who integer, n integer, primary key(who, n))")
	var wg sync.WaitGroup
	for who := range 8 {
		wg.Go(func() {
			for n := range 25 {
				if _, err := db.ExecContext(t.Context(), "insert into c values(?, ?)", who, n); err != nil {
					t.Error(err)
					return
				}
				var got int
				if err := db.QueryRowContext(t.Context(), "select count(*) from c where who = ?", who).Scan(&got); err != nil || got != n+1 {
					t.Error(fmt.Errorf("%d wrote %d, sees %d: %w", who, n+1, got, err))
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestNodeHasStopped(t *testing.T) {
	n := single(t)
	db := n.open(t)
	exec(t, db, "create table x(y)")
	n.stop()
	err := <-n.ended
	n.ended <- err
	_, err = db.ExecContext(t.Context(), "insert into x values(1)")
	if e := new(wire.Error); !errors.As(err, &e) {
		t.Errorf("got %v, want an error of nearsql", err)
	}
}
