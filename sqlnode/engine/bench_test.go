package engine

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	_ "modernc.org/sqlite" // the driver, to compare with

	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

const (
	benchTable  = "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b TEXT)"
	benchIndex  = "CREATE INDEX ti ON t(b)"
	benchFill   = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<20000) INSERT INTO t SELECT i, 'hello world this is a row', i*7919%100003 FROM c"
	benchRead   = "SELECT a, b FROM t WHERE id=?"
	benchInsert = "INSERT INTO t(a, b) VALUES(?, ?)"
)

func benchRig(b *testing.B) (*rig, *pagestore.Tenant) {
	r := newRig(b, Config{})
	tn := r.create(1, tenant.Limits{InFlight: 4096})
	for _, s := range []string{benchTable, benchIndex, benchFill} {
		r.exec(tn, s)
	}
	return r, tn
}

// dropSink takes an answer as a server would: no copy is kept.
type dropSink struct{ rows int }

func (*dropSink) Begin(int, []wire.Column) error { return nil }
func (s *dropSink) Row([]wire.Value) error       { s.rows++; return nil }
func (*dropSink) End(wire.Summary) error         { return nil }

func readRequest(i int) *wire.Request {
	return &wire.Request{Statements: []wire.Statement{{SQL: benchRead, Args: []wire.Value{wire.Integer(int64(i%20000 + 1))}}}}
}

func BenchmarkPointRead(b *testing.B) {
	b.Run("engine", func(b *testing.B) {
		r, tn := benchRig(b)
		s := &dropSink{}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := r.e.Execute(b.Context(), tn, r.q, readRequest(i), s); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("engine-parallel", func(b *testing.B) {
		r, tn := benchRig(b)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			s := &dropSink{}
			for i := 0; pb.Next(); i++ {
				if _, err := r.e.Execute(b.Context(), tn, r.q, readRequest(i), s); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
	b.Run("binding", func(b *testing.B) { // a prepared statement on a connection of the page store
		r, tn := benchRig(b)
		s, err := tn.Acquire()
		if err != nil {
			b.Fatal(err)
		}
		defer tn.Release()
		c, err := s.OpenReader(nil)
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		st, _, err := c.Prepare(benchRead, true)
		if err != nil {
			b.Fatal(err)
		}
		defer st.Finalize()
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if err := st.BindAll(readRequest(i).Statements[0].Args); err != nil {
				b.Fatal(err)
			}
			if ok, err := st.Step(); !ok || err != nil {
				b.Fatal(ok, err)
			}
			_, _ = st.Column(0), st.Column(1)
			if ok, err := st.Step(); ok || err != nil {
				b.Fatal(ok, err)
			}
		}
		_ = r
	})
	b.Run("wal", func(b *testing.B) {
		db := benchWAL(b)
		if _, err := db.Exec(benchFill); err != nil {
			b.Fatal(err)
		}
		st, err := db.Prepare(benchRead)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			var x, y string
			if err := st.QueryRow(i%20000+1).Scan(&x, &y); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// benchWAL is SQLite by its database/sql driver, with a WAL that is never synced.
func benchWAL(b *testing.B) *sql.DB {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(b.TempDir(), "db")+"?_pragma=journal_mode(wal)&_pragma=synchronous(off)")
	if err != nil {
		b.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	b.Cleanup(func() { db.Close() })
	for _, s := range []string{benchTable, benchIndex} {
		if _, err := db.Exec(s); err != nil {
			b.Fatal(err)
		}
	}
	return db
}

func BenchmarkInsert(b *testing.B) {
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("engine-%d", clients), func(b *testing.B) {
			r, tn := benchRig(b)
			r.log.async(b)
			before := tn.Position().TXID
			b.ReportAllocs()
			b.SetParallelism(max(1, clients/2)) // of two processors
			var n atomic.Int64
			insert := func() {
				i := n.Add(1)
				req := &wire.Request{Statements: []wire.Statement{{SQL: benchInsert,
					Args: []wire.Value{wire.Text("hello world this is a row"), wire.Text(fmt.Sprint(i * 7919 % 100003))}}}}
				if _, err := r.e.Execute(b.Context(), tn, r.q, req, &dropSink{}); err != nil {
					b.Error(err)
				}
			}
			if clients == 1 {
				for b.Loop() {
					insert()
				}
			} else {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						insert()
					}
				})
			}
			b.ReportMetric(float64(n.Load())/float64(tn.Position().TXID-before), "requests/entry")
		})
	}
	b.Run("wal", func(b *testing.B) {
		db := benchWAL(b)
		if _, err := db.Exec(benchFill); err != nil {
			b.Fatal(err)
		}
		st, err := db.Prepare(benchInsert)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := st.Exec("hello world this is a row", fmt.Sprint(i*7919%100003)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
