package pagestore

import (
	"context"
	"fmt"
	"testing"

	"github.com/nearsql/nearsql/wire"
)

func TestWriteReadRestart(t *testing.T) {
	for _, size := range []int{512, 4096, 65536} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			r := newRig(t, testConfig(t))
			tn := r.create(1, size)
			w := r.writer(tn)
			rd := r.reader(tn)
			want(t, rd, "select count(*) from sqlite_schema", "[[0]]")
			mustExec(t, w, "create table t(id integer primary key, a text, b blob)")
			want(t, rd, "select count(*) from t", "[[0]]")
			mustExec(t, w, "begin immediate")
			for i := range 500 {
				mustExec(t, w, "insert into t(a, b) values(?, zeroblob(300))", wire.Text(fmt.Sprint(i)))
			}
			want(t, rd, "select count(*) from t", "[[0]]")
			mustExec(t, w, "commit")
			want(t, rd, "select count(*), sum(length(b)) from t", "[[500 150000]]")
			want(t, rd, "pragma page_size", fmt.Sprintf("[[%d]]", size))
			checkSum(t, w.store)
			for _, step := range []func(){r.restart, func() { must(t, r.g.Checkpoint()) }, r.restart,
				func() { must(t, r.g.Checkpoint()); must(t, r.g.absorbAll(context.Background())) }, r.restart,
				func() { must(t, r.g.CompactLTX(context.Background())) }, r.restart} {
				w.Close()
				rd.Close()
				step()
				tn = r.tenant(1)
				rd, w = r.reader(tn), r.writer(tn)
				want(t, rd, "select count(*), sum(length(b)) from t", "[[500 150000]]")
				want(t, rd, "pragma integrity_check", `[["ok"]]`)
				checkSum(t, w.store)
				mustExec(t, w, "update t set a=a||'x' where id%7=0")
				want(t, rd, "select count(*) from t where a like '%x'", "[[71]]")
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
