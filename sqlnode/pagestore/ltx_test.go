package pagestore

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/superfly/ltx"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/wire"
)

// reencode writes an LTX file again with the library's encoder.
func reencode(t *testing.T, h ltx.Header, pages []ltx.PageHeader, data [][]byte, post ltx.Checksum) []byte {
	t.Helper()
	var b bytes.Buffer
	enc, err := ltx.NewEncoder(&b)
	must(t, err)
	must(t, enc.EncodeHeader(h))
	for i, p := range pages {
		must(t, enc.EncodePage(ltx.PageHeader{Pgno: p.Pgno}, data[i]))
	}
	enc.SetPostApplyChecksum(post)
	must(t, enc.Close())
	return b.Bytes()
}

// TestLTX compacts often, and puts the database together from the files.
func TestLTX(t *testing.T) {
	for _, size := range []int{512, 4096, 65536} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			fs := disktest.NewMemFS()
			r := newRig(t, memDisk(fs))
			w := r.writer(r.create(1, size))
			var database []byte
			var last wire.TXID
			seen := 0
			follow := func() {
				t.Helper()
				r.tidy()
				must(t, r.g.CompactLTX(context.Background()))
				checkChain(t, r, "LTX")
				l, err := r.g.LTXFiles(r.tenant(1).ID(), 1)
				must(t, err)
				for ; seen < len(l); seen++ {
					raw, err := disk.ReadFile(fs, "test.read", l[seen].Path, 1<<30)
					must(t, err)
					must(t, ltx.NewDecoder(bytes.NewReader(raw)).Verify())
					dec := ltx.NewDecoder(bytes.NewReader(raw))
					must(t, dec.DecodeHeader())
					h := dec.Header()
					if wire.TXID(h.MinTXID) != last+1 || wire.TXID(h.MaxTXID) != l[seen].Max || h.PageSize != uint32(size) {
						t.Fatalf("header %+v after txid %d", h, last)
					}
					if last > 0 && wire.Checksum(h.PreApplyChecksum) != sumOf(database, size) {
						t.Fatalf("file %d: pre-apply checksum %s, the database has %s", seen, h.PreApplyChecksum, sumOf(database, size))
					}
					var pages []ltx.PageHeader
					var data [][]byte
					grown := make([]byte, int(h.Commit)*size)
					copy(grown, database)
					database = grown
					for {
						var ph ltx.PageHeader
						buf := make([]byte, size)
						if err := dec.DecodePage(&ph, buf); err != nil {
							break
						}
						pages, data = append(pages, ph), append(data, buf)
						copy(database[int(ph.Pgno-1)*size:], buf)
					}
					must(t, dec.Close())
					if got := sumOf(database, size); got != wire.Checksum(dec.Trailer().PostApplyChecksum) {
						t.Fatalf("file %d: post-apply checksum %s, the database has %s", seen, dec.Trailer().PostApplyChecksum, got)
					}
					if again := reencode(t, h, pages, data, dec.Trailer().PostApplyChecksum); !bytes.Equal(again, raw) {
						t.Fatalf("file %d: %d bytes, ltx.Encoder makes others (%d)", seen, len(raw), len(again))
					}
					last = wire.TXID(h.MaxTXID)
				}
				if !bytes.Equal(database, pagesOf(t, w.store)) {
					t.Fatal("the database from LTX files differs")
				}
			}
			mustExec(t, w, "pragma auto_vacuum=1")
			mustExec(t, w, "create table t(id integer primary key, a)")
			mustExec(t, w, "insert into t values(1, 'x')")
			follow()
			mustExec(t, w, "with recursive c(i) as (select 1 union all select i+1 from c where i<100) insert into t(a) select randomblob(1500) from c")
			follow()
			mustExec(t, w, "update t set a=zeroblob(200) where id%3=0")
			must(t, r.g.Checkpoint())
			mustExec(t, w, "delete from t where id>20")
			follow()
			mustExec(t, w, "insert into t(a) select randomblob(3000) from t")
			mustExec(t, w, "delete from t where id<10")
			must(t, r.g.Checkpoint())
			must(t, r.g.Checkpoint())
			mustExec(t, w, "vacuum")
			follow()
			if seen != 4 {
				t.Fatalf("%d files", seen)
			}
		})
	}
}

// sumOf is the rolling checksum of a database.
func sumOf(database []byte, size int) wire.Checksum {
	sum := ltx.ChecksumFlag
	for i := 0; i*size < len(database); i++ {
		sum = ltx.ChecksumFlag | (sum ^ ltx.ChecksumPage(uint32(i+1), database[i*size:(i+1)*size]))
	}
	return wire.Checksum(sum)
}

// TestLTXRetention: only the oldest files go, of tenants that are idle too; leftovers of a compaction
// that was cut short go, and are never listed.
func TestLTXRetention(t *testing.T) {
	now := time.Now()
	cfg := testConfig(t)
	cfg.Now = func() time.Time { return now }
	r := newRig(t, cfg)
	w, w2 := r.writer(r.create(1, 4096)), r.writer(r.create(2, 4096))
	compact := func() {
		t.Helper()
		r.tidy()
		must(t, r.g.CompactLTX(context.Background()))
	}
	files := func(n byte) []LTXFile {
		t.Helper()
		l, err := r.g.LTXFiles(r.tenant(n).ID(), 1)
		must(t, err)
		return l
	}
	mustExec(t, w2, "create table t(a)")
	mustExec(t, w, "create table t(a)")
	for i := range 4 {
		mustExec(t, w, fmt.Sprintf("insert into t values(%d)", i))
		compact()
	}
	l := files(1)
	if len(l) != 4 || len(files(2)) != 1 {
		t.Fatalf("%d and %d files", len(l), len(files(2)))
	}
	for i, f := range l[:2] {
		must(t, os.Chtimes(f.Path, now, now.Add(-25*time.Hour+time.Duration(i)*time.Minute)))
	}
	must(t, os.Chtimes(files(2)[0].Path, now, now.Add(-25*time.Hour)))
	dir := filepath.Dir(l[0].Path)
	inner := filepath.Join(dir, ltx.FormatFilename(ltx.TXID(l[3].Min), ltx.TXID(l[3].Max))+disk.TempSuffix)
	must(t, os.WriteFile(inner, []byte("cut short"), 0o600))
	mustExec(t, w, "insert into t values(9)")
	compact()
	l = files(1)
	if len(l) != 3 || l[0].Min != 4 || l[2].Max != r.tenant(1).Logged().TXID || len(files(2)) != 0 {
		t.Fatalf("left are %v and %v", l, files(2))
	}
	if _, err := os.Stat(inner); err == nil {
		t.Error("a file that was never finished stays")
	}
	// A file that a later one contains.
	must(t, os.WriteFile(filepath.Join(dir, ltx.FormatFilename(ltx.TXID(l[2].Min), ltx.TXID(l[2].Max+5))), nil, 0o600))
	if got := files(1); len(got) != 3 || got[2].Max != l[2].Max+5 {
		t.Errorf("got %v", got)
	}
}

// TestBaseFile opens the base file with plain SQLite, as anyone might.
func TestBaseFile(t *testing.T) {
	for _, size := range []int{512, 4096, 16384} {
		cfg := testConfig(t)
		r := newRig(t, cfg)
		w := r.writer(r.create(1, size))
		want(t, w, "pragma page_count", "[[0]]")
		want(t, w, "pragma page_size", fmt.Sprintf("[[%d]]", size))
		r.tidy() // nothing to write
		for _, sql := range []string{
			"create table t(id integer primary key, a)",
			"with recursive c(i) as (select 1 union all select i+1 from c where i<300) insert into t(a) select zeroblob(1000) from c",
			"delete from t where id>100", "vacuum",
			"insert into t(a) select zeroblob(5000) from t",
		} {
			mustExec(t, w, sql)
			r.tidy()
			path := filepath.Join(cfg.Dir, "bases", r.tenant(1).ID().String()+".db")
			raw, err := os.ReadFile(path)
			must(t, err)
			if !bytes.Equal(raw, pagesOf(t, w.store)) {
				t.Fatalf("%s: the base is not the database", sql)
			}
			openPlain(t, path, func(q func(string) string) {
				if got := q("pragma integrity_check"); got != `[["ok"]]` {
					t.Fatalf("%s: %s", sql, got)
				}
				rows, err := query(w, "select count(*), sum(length(a)) from t")
				must(t, err)
				if got := q("select count(*), sum(length(a)) from t"); got != fmt.Sprint(rows) {
					t.Fatalf("%s: got %s, want %v", sql, got, rows)
				}
			})
		}
	}
}
