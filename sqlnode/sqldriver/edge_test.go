package sqldriver_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/sqlnode/sqldriver"
	"github.com/nearsql/nearsql/wire"
)

// On a replica reads are local, and nothing that its session wrote or saw is ever missing from them.
func TestReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := edge(t)
		defer s.close()
		far := s.up["n4"].open(t)
		near := s.up["n1"].open(t)

		// Reads within the bound take no time: no byte crosses the network for them.
		s.exec(far, "insert into t values(0, 'zero')")
		time.Sleep(time.Second)
		began := time.Now()
		for range 100 {
			var y string
			if err := far.QueryRowContext(t.Context(), "select y from t where x = ?", 0).Scan(&y); err != nil || y != "zero" {
				t.Fatal(y, err)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("100 local reads took %v of network", took)
		}
		if m := s.where(far, "select 1"); m.Node != "n4" || m.Role != "replica" || m.Staleness > 5*time.Second {
			t.Errorf("%+v", m)
		}

		// Read your writes, at once; and monotonic.
		for i := 1; i <= 20; i++ {
			r := s.exec(far, "insert into t values(?, ?)", i, fmt.Sprint("row ", i))
			if id, err := r.LastInsertId(); id != int64(i) || err != nil {
				t.Fatal(id, err)
			}
			if n, _ := r.RowsAffected(); n != 1 {
				t.Fatal(n)
			}
			var n int
			if err := far.QueryRowContext(sqldriver.With(t.Context(), sqldriver.AnyStaleness()), "select count(*) from t").Scan(&n); err != nil || n != i+1 {
				t.Fatalf("after write %d: %d rows, %v", i, n, err)
			}
		}
		// What another session was told, by its bookmark; and strong without one.
		s.exec(near, "insert into t values(100, 'near')")
		mark, _ := sqldriver.Bookmark(near)
		fresh := s.up["n4"].open(t, sqldriver.AnyStaleness())
		var n int
		if err := fresh.QueryRowContext(sqldriver.WithBookmark(t.Context(), mark), "select count(*) from t").Scan(&n); err != nil || n != 22 {
			t.Fatal(n, err)
		}
		s.exec(near, "insert into t values(101, 'nearer')")
		if err := fresh.QueryRowContext(sqldriver.WithStrong(t.Context()), "select count(*) from t").Scan(&n); err != nil || n != 23 {
			t.Fatal(n, err)
		}
		// An error that shows what the copy may not have yet is followed by reads that have it.
		s.exec(near, "insert into t values(102, 'taken')")
		_, err := far.ExecContext(t.Context(), "insert into t values(103, 'taken')")
		wantCode(t, err, wire.CodeSQLiteConstraintUnique)
		var x int64
		if err := far.QueryRowContext(sqldriver.With(t.Context(), sqldriver.AnyStaleness()), "select x from t where y = 'taken'").Scan(&x); err != nil || x != 102 {
			t.Fatalf("the row that was in the way: %d, %v", x, err)
		}
	})
}

// A read that waits for the copy here in vain waits once, and goes to another node.
func TestReplicaBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := edge(t)
		defer s.close()
		for _, id := range []string{"n1", "n2", "n3"} {
			s.net.Hold(id, "n4", cluster.PurposeStream)
		}
		far := s.up["n4"].open(t, sqldriver.AnyStaleness())
		s.exec(far, "insert into t values(1, 'a')")
		began := time.Now()
		if m := s.where(far, "select count(*) from t"); m.Node == "n4" || time.Since(began) > 800*time.Millisecond {
			t.Errorf("after %v: %+v", time.Since(began), m)
		}
		for _, id := range []string{"n1", "n2", "n3"} {
			s.net.Release(id, "n4")
		}
	})
}

// What goes to another node comes back as it would from here.
func TestForwarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := edge(t)
		defer s.close()
		far := s.up["n4"].open(t)
		s.exec(far, "create table v(id integer primary key, i, f real, b blob, d datetime)")
		moment := time.Date(2024, 2, 29, 1, 2, 3, 0, time.UTC)
		results, err := sqldriver.Batch(t.Context(), far,
			sqldriver.Statement{SQL: "insert into v values(1, ?, ?, ?, ?) returning id, i, f, b, d", Args: []any{int64(-1 << 63), 2.0, []byte{0, 1}, moment}},
			sqldriver.Statement{SQL: "insert into v values(2, :n, :n, :n, :n)", Args: []any{sql.Named("n", nil)}})
		if err != nil || len(results) != 2 || results[0].Rows[0][1] != wire.Integer(-1<<63) || results[0].Rows[0][2] != wire.Float(2) || results[0].Rows[0][3] != wire.Blob([]byte{0, 1}) || results[1].LastInsertRowID != 2 {
			t.Fatal(results, err)
		}
		var i, f, b any
		var d time.Time
		if err := far.QueryRowContext(t.Context(), "update v set id = id where id = 1 returning i, f, b, d").Scan(&i, &f, &b, &d); err != nil || i != int64(-1<<63) || f != 2.0 || string(b.([]byte)) != "\x00\x01" || !d.Equal(moment) {
			t.Fatal(i, f, b, d, err)
		}
		if _, err := sqldriver.Batch(t.Context(), far, sqldriver.Statement{SQL: "delete from v"}, sqldriver.Statement{SQL: "insert into v(id) values(1), (1)"}); err == nil {
			t.Fatal("no error")
		} else if e := wantCode(t, err, wire.CodeSQLiteConstraintPrimaryKey); e.Statement != 2 {
			t.Error(e)
		}
		// A key holds wherever the write comes from.
		for _, id := range []string{"n4", "n1", "n2"} {
			db := s.up[id].open(t)
			if _, err := db.ExecContext(sqldriver.WithIdempotencyKey(t.Context(), "once"), "insert into v(id) values(77)"); err != nil {
				t.Fatalf("from %s: %v", id, err)
			}
		}
		// Requests that may only read are refused as such, also where another node would answer.
		sink := discard{}
		_, err = s.up["n4"].Execute(t.Context(), "acme", &wire.Request{ReadOnly: true, Statements: []wire.Statement{{SQL: "delete from v"}}}, sink)
		wantCode(t, err, wire.CodeReadOnlyRequest)

		// Rows of a long answer, left early; then the way is free.
		rows, err := far.QueryContext(sqldriver.WithStrong(t.Context()), "with recursive n(i) as (select 1 union all select i + 1 from n where i < 200000) select i, 'text' from n")
		if err != nil {
			t.Fatal(err)
		}
		rows.Next()
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
		rows, err = far.QueryContext(t.Context(), "insert into v(id) with recursive n(i) as (select 1000 union all select i + 1 from n where i < 40000) select i from n returning id, 'some text of the row'")
		if err != nil {
			t.Fatal(err)
		}
		rows.Next()
		rows.Close()
		var n int
		if err := far.QueryRowContext(t.Context(), "select count(*) from v where id >= 1000").Scan(&n); err != nil || n != 39001 {
			t.Fatal(n, err)
		}

		// A context that ends while another node is asked.
		s.net.Hold("n4", "n1", cluster.PurposeHTTP)
		s.net.Hold("n4", "n2", cluster.PurposeHTTP)
		s.net.Hold("n4", "n3", cluster.PurposeHTTP)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, err = far.ExecContext(ctx, "insert into v(id) values(5)")
		if e := new(wire.Error); !errors.As(err, &e) || e.Code != wire.CodeUnknownOutcome && e.Code != wire.CodeTimeout && e.Code != wire.CodeCancelled || time.Since(began) > 2*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		s.net.Release("n4", "n1")
		s.net.Release("n4", "n2")
		s.net.Release("n4", "n3")
	})
}

// Cut off, a replica keeps every bound: it answers what it may, and refuses the rest.
func TestReplicaCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := edge(t)
		defer s.close()
		far := s.up["n4"].open(t)
		s.exec(far, "insert into t values(1, 'a')")
		time.Sleep(time.Second)
		s.net.Isolate("n4")
		time.Sleep(10 * time.Second)
		var y string
		if err := far.QueryRowContext(sqldriver.WithMaxStaleness(t.Context(), time.Hour), "select y from t").Scan(&y); err != nil || y != "a" {
			t.Fatal(y, err)
		}
		err := far.QueryRowContext(sqldriver.With(t.Context(), sqldriver.MaxStaleness(2*time.Second), sqldriver.FailOnStale()), "select y from t").Scan(&y)
		wantCode(t, err, wire.CodeStale)
		_, err = far.ExecContext(sqldriver.With(t.Context(), sqldriver.Timeout(3*time.Second)), "insert into t values(2, 'b')")
		if e := new(wire.Error); !errors.As(err, &e) {
			t.Fatal(err)
		}
		s.net.Rejoin("n4")
	})
}

type discard struct{}

func (discard) Begin(int, []wire.Column) error { return nil }
func (discard) Row([]wire.Value) error         { return nil }
func (discard) End(wire.Summary) error         { return nil }
