package pagestore

import (
	"fmt"
	"testing"

	"github.com/nearsql/nearsql/wire"
)

func BenchmarkInsert(b *testing.B) {
	r := newRig(b, testConfig(b))
	tn := r.create(1, 4096)
	w := r.writer(tn)
	mustExec(b, w, "create table t(id integer primary key, a text, b text)")
	mustExec(b, w, "create index ti on t(b)")
	s, _, err := w.Prepare("insert into t(a,b) values(?,?)", true)
	must(b, err)
	defer s.Finalize()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		must(b, s.Bind(1, wire.Text("hello world this is a row")))
		must(b, s.Bind(2, wire.Text(fmt.Sprint(i*7919%100003))))
		if _, err := s.Step(); err != nil {
			b.Fatal(err, w.TakeErr())
		}
		must(b, s.Reset())
		r.log.first += uint64(len(r.log.entries))
		r.log.entries = r.log.entries[:0]
	}
}

func BenchmarkPointRead(b *testing.B) {
	r := newRig(b, testConfig(b))
	tn := r.create(1, 4096)
	w := r.writer(tn)
	mustExec(b, w, "create table t(id integer primary key, a text, b text)")
	mustExec(b, w, "with recursive c(i) as (select 1 union all select i+1 from c where i<20000) insert into t select i, 'hello world this is a row', i*7919%100003 from c")
	rd := r.reader(tn)
	s, _, err := rd.Prepare("select a,b from t where id=?", true)
	must(b, err)
	defer s.Finalize()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		must(b, s.Bind(1, wire.Integer(int64(i%20000+1))))
		if ok, err := s.Step(); err != nil || !ok {
			b.Fatal(err)
		}
		_, _ = s.Column(0), s.Column(1)
		must(b, s.Reset())
	}
}
