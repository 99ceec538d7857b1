package crr

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/nearsql/nearsql/wire"
)

// kinds are the tables that are measured.
var kinds = []struct {
	name, ddl, plain, insert, update string
	cells                            int // changes in an inserted row
}{
	{"int3", "CREATE TABLE crr.t(id INTEGER PRIMARY KEY NOT NULL, a TEXT, b INTEGER, c TEXT)", "CREATE TABLE crr.t(id INTEGER PRIMARY KEY NOT NULL, a TEXT, b INTEGER, c TEXT)",
		"INSERT INTO t(id,a,b,c) VALUES(?1,'name-'||?1,?1,'some text value '||?1)", "UPDATE t SET b=b+1 WHERE id=?1", 3},
	{"counter", "CREATE TABLE crr.t(id TEXT PRIMARY KEY NOT NULL, n COUNTER NOT NULL DEFAULT 0)", "CREATE TABLE crr.t(id TEXT PRIMARY KEY NOT NULL, n INTEGER NOT NULL DEFAULT 0)",
		"INSERT INTO t(id,n) VALUES('0190c6b1-7c2e-7c1e-9b1e-'||printf('%012d',?1),1) ON CONFLICT(id) DO UPDATE SET n=n+excluded.n",
		"UPDATE t SET n=n+1 WHERE id='0190c6b1-7c2e-7c1e-9b1e-'||printf('%012d',?1)", 1},
}

// benchSite opens a site in a file, or a plain file without tracking.
func benchSite(b *testing.B, plain bool, ddl, sync string) *tester {
	c := openEngine(b, filepath.Join(b.TempDir(), "f"))
	s := openTester(b, c, 1, Config{TxRows: 1 << 30, BatchRows: 1 << 30})
	b.Cleanup(s.stop)
	var err error
	if plain {
		err = c.Exec(ddl)
	} else {
		err = s.ApplySchema(changes(ddl)[0])
	}
	if err == nil {
		err = c.Exec("PRAGMA crr.synchronous=" + sync + "; PRAGMA crr.cache_size=-65536")
	}
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkLocal measures a local write against the same in a plain table: many in one transaction, and one in each.
func BenchmarkLocal(b *testing.B) {
	for _, k := range kinds {
		for _, sync := range []string{"normal", "full"} {
			for _, batch := range []int{10000, 1} {
				for _, verb := range []string{"insert", "update"} {
					for _, how := range []string{"plain", "crr"} {
						b.Run(fmt.Sprintf("%s/%s/tx%d/%s/%s", k.name, sync, batch, verb, how), func(b *testing.B) {
							ddl := k.ddl
							if how == "plain" {
								ddl = k.plain
							}
							s := benchSite(b, how == "plain", ddl, sync)
							sql := k.insert
							if verb == "update" {
								fill(b, s, k.insert, b.N, 10000)
								sql = k.update
							}
							b.ResetTimer()
							fill(b, s, sql, b.N, batch)
							b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
						})
					}
				}
			}
		}
	}
}

// fill runs a prepared statement for 0 to n-1, batch of them in a transaction.
func fill(b *testing.B, s *tester, sql string, n, batch int) {
	b.Helper()
	st, err := s.conn.Prepare(sql)
	if err != nil {
		b.Fatal(err)
	}
	defer st.Finalize()
	use := Classify(sql)
	for i := range n {
		if i%batch == 0 {
			if err := s.Begin(); err != nil {
				b.Fatal(err)
			}
		}
		if err := s.Use(use); err != nil {
			b.Fatal(err)
		}
		if err := run(st, nil, wire.Integer(int64(i))); err != nil {
			b.Fatal(err)
		}
		if i%batch == batch-1 || i == n-1 {
			if _, err := s.Commit(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkMerge measures the merge of rows that are new, and of newer versions of one cell of each row; and what a change takes on the wire and in the file.
func BenchmarkMerge(b *testing.B) {
	for _, k := range kinds {
		for _, what := range []string{"new", "newer"} {
			b.Run(k.name+"/"+what, func(b *testing.B) {
				const rows = 30000
				from := benchSite(b, false, k.ddl, "normal")
				fill(b, from, k.insert, rows, rows)
				changes, bytes := 0, 0
				for b.Loop() {
					b.StopTimer()
					to := benchSite(b, false, k.ddl, "normal")
					to.me.Site, to.track.site = 2, 2
					if what == "newer" {
						to.pull(from)
						fill(b, from, k.update, rows, rows)
					}
					frames, err := from.answer(to.Request(1, from.me.File))
					if err != nil {
						b.Fatal(err)
					}
					for _, f := range frames {
						bytes += len(f)
					}
					b.StartTimer()
					r, err := to.take(frames)
					if err != nil || r.Rows != rows {
						b.Fatal(r, err)
					}
					changes += rows
					if what == "new" {
						changes += rows * (k.cells - 1)
					}
				}
				b.ReportMetric(float64(changes)/b.Elapsed().Seconds(), "changes/s")
				b.ReportMetric(float64(bytes)/float64(changes), "wire-B/change")
				ts, err := from.r.Check()
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(ts[0].Bytes)/rows, "meta-B/row")
			})
		}
	}
}

// BenchmarkFileBytes measures what tracking adds to the file, in bytes a row.
func BenchmarkFileBytes(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			const rows = 50000
			var size [2]float64
			for b.Loop() {
				for i, ddl := range []string{k.plain, k.ddl} {
					s := benchSite(b, i == 0, ddl, "off")
					before := s.one("SELECT page_count*page_size FROM pragma_page_count('crr'), pragma_page_size('crr')").Int()
					fill(b, s, k.insert, rows, rows)
					size[i] = float64(s.one("SELECT page_count*page_size FROM pragma_page_count('crr'), pragma_page_size('crr')").Int()-before) / rows
				}
			}
			b.ReportMetric(size[0], "plain-B/row")
			b.ReportMetric(size[1]-size[0], "extra-B/row")
		})
	}
}

// BenchmarkPush measures one row written, pushed, and merged at another site.
func BenchmarkPush(b *testing.B) {
	k := kinds[0]
	from, to := benchSite(b, false, k.ddl, "normal"), benchSite(b, false, k.ddl, "normal")
	to.me.Site, to.track.site = 2, 2
	fill(b, from, k.insert, 1000, 1000)
	to.pull(from)
	p := Pushed{Mark: from.Head().Mark()}
	i := 0
	for b.Loop() {
		if err := from.try(k.update, i%1000); err != nil {
			b.Fatal(err)
		}
		i++
		var err error
		p, err = from.r.Push(p.Mark, func(f []byte) error {
			r, err := to.Receive(f)
			if err == nil && r.Rows != 1 {
				b.Fatal(r)
			}
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
