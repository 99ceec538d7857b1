package sqlite_test

import (
	"database/sql"
	"fmt"
	"testing"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

const benchRows = 10_000

func benchConn(b *testing.B) *sqlite.Conn {
	c := open(b)
	fill(b, c, benchRows)
	return c
}

func benchDriver(b *testing.B) *sql.Conn {
	name := b.TempDir() + "/driver.db"
	fill(b, openAt(b, name), benchRows)
	db, err := sql.Open("sqlite", "file:"+name+"?_pragma=synchronous(OFF)&_pragma=journal_mode(MEMORY)")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	conn, err := db.Conn(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return conn
}

func BenchmarkPointSelect(b *testing.B) {
	const query = "SELECT id, v FROM t WHERE id = ?"
	// In a transaction, so that the locks of the file are not what is measured.
	b.Run("conn", func(b *testing.B) {
		c := benchConn(b)
		run(b, c, "BEGIN")
		s := prepare(b, c, query)
		args := make([]wire.Value, 1)
		b.ReportAllocs()
		i := int64(0)
		for b.Loop() {
			i = (i*7919 + 1) % benchRows
			args[0] = wire.Integer(i + 1)
			s.BindAll(args)
			if row, err := s.Step(); !row || err != nil {
				b.Fatal(row, err)
			}
			if s.Column(0).Int() != i+1 || len(s.Column(1).Str()) != 500 {
				b.Fatal("wrong row")
			}
			s.Reset()
		}
	})
	b.Run("driver", func(b *testing.B) {
		conn := benchDriver(b)
		tx, err := conn.BeginTx(b.Context(), nil)
		if err != nil {
			b.Fatal(err)
		}
		defer tx.Rollback()
		s, err := tx.Prepare(query)
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		b.ReportAllocs()
		i := int64(0)
		for b.Loop() {
			i = (i*7919 + 1) % benchRows
			var id int64
			var v string
			if err := s.QueryRow(i+1).Scan(&id, &v); err != nil || id != i+1 || len(v) != 500 {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkInsert(b *testing.B) {
	const insert = "INSERT INTO u(a, b, c) VALUES(?, ?, ?)"
	const text = "a text of some length, as they come"
	b.Run("conn", func(b *testing.B) {
		c := benchConn(b)
		run(b, c, "CREATE TABLE u(a, b, c); BEGIN")
		s := prepare(b, c, insert)
		args := make([]wire.Value, 3)
		b.ReportAllocs()
		i := int64(0)
		for b.Loop() {
			i++
			args[0], args[1], args[2] = wire.Integer(i), wire.Text(text), wire.Float(float64(i))
			s.BindAll(args)
			if _, err := s.Step(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("driver", func(b *testing.B) {
		conn := benchDriver(b)
		conn.ExecContext(b.Context(), "CREATE TABLE u(a, b, c)")
		tx, err := conn.BeginTx(b.Context(), nil)
		if err != nil {
			b.Fatal(err)
		}
		defer tx.Rollback()
		s, err := tx.Prepare(insert)
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		b.ReportAllocs()
		i := int64(0)
		for b.Loop() {
			i++
			if _, err := s.Exec(i, text, float64(i)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkPrepare(b *testing.B) {
	const query = "SELECT id, length(v), v FROM t WHERE id > ? AND v LIKE 'a%' ORDER BY id DESC LIMIT 10"
	b.Run("conn", func(b *testing.B) {
		c := benchConn(b)
		b.ReportAllocs()
		for b.Loop() {
			s, _, err := c.Prepare(query, false)
			if err != nil {
				b.Fatal(err)
			}
			s.Finalize()
		}
	})
	b.Run("conn-authorizer", func(b *testing.B) {
		c := benchConn(b)
		c.SetAuthorizer(func(a sqlite.Action) sqlite.Verdict { return sqlite.Allow })
		b.ReportAllocs()
		for b.Loop() {
			s, _, err := c.Prepare(query, false)
			if err != nil {
				b.Fatal(err)
			}
			s.Finalize()
		}
	})
	b.Run("driver", func(b *testing.B) {
		conn := benchDriver(b)
		b.ReportAllocs()
		for b.Loop() {
			s, err := conn.PrepareContext(b.Context(), query)
			if err != nil {
				b.Fatal(err)
			}
			s.Close()
		}
	})
}

// What binding a text costs, by length.
func BenchmarkBindText(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := openMemory(b)
			s := prepare(b, c, "SELECT ?")
			args := []wire.Value{wire.Text(string(make([]byte, n)))}
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				s.BindAll(args)
			}
		})
	}
}

// Scans with all pages cached, on several connections at once: with
// NEARSQL_TEST_BUILTIN_PAGE_CACHE=1 on SQLite's own page cache.
func BenchmarkWarmScan(b *testing.B) {
	for _, n := range []int{1, 2} {
		b.Run(fmt.Sprintf("%d-conns", n), func(b *testing.B) {
			done := make(chan error)
			start := make(chan struct{})
			for range n {
				c := benchConn(b)
				run(b, c, "PRAGMA cache_size=5000; BEGIN")
				s := prepare(b, c, "SELECT sum(id) FROM t")
				s.Step()
				s.Reset()
				go func() {
					<-start
					for range b.N {
						if _, err := s.Step(); err != nil {
							done <- err
							return
						}
						s.Reset()
					}
					done <- nil
				}()
			}
			b.ResetTimer()
			close(start)
			for range n {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
