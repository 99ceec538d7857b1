package pagestore

import (
	"context"
	"fmt"
	"testing"
	"time"

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
		r.log.entries, r.log.history, r.log.results, r.log.terms = r.log.entries[:0], nil, nil, nil
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

// BenchmarkBuild is what a follower does with a one-row transaction: apply, build, make visible.
func BenchmarkBuild(b *testing.B) {
	r := newRig(b, testConfig(b))
	w := r.writer(r.create(1, 4096))
	mustExec(b, w, "create table t(id integer primary key, a text, b text)")
	mustExec(b, w, "create index ti on t(b)")
	const batch = 2000
	for i := range batch {
		mustExec(b, w, "insert into t(a,b) values('hello world this is a row', ?)", wire.Text(fmt.Sprint(i*7919%100003)))
	}
	entries := r.log.history
	b.ReportAllocs()
	n := batch
	var f *rig
	for b.Loop() {
		if n == batch {
			b.StopTimer()
			if f != nil {
				f.stop()
			}
			f = &rig{t: b, log: newTestLog(), cfg: testConfig(b)}
			f.start()
			for _, e := range entries[:len(entries)-batch] {
				f.feed(e)
			}
			f.visible(1)
			n = 0
			b.StartTimer()
		}
		f.feed(entries[len(entries)-batch+n])
		if n++; n == batch {
			f.visible(1)
		}
	}
	f.stop()
}

// BenchmarkCheckpoint is a checkpoint of many tenants with one changed row each, and its absorption.
func BenchmarkCheckpoint(b *testing.B) {
	for _, tenants := range []int{1, 100} {
		b.Run(fmt.Sprintf("tenants=%d", tenants), func(b *testing.B) {
			r := newRig(b, testConfig(b))
			var writers []*Conn
			for n := range tenants {
				w := r.writer(r.create(byte(n+1), 4096))
				mustExec(b, w, "create table t(id integer primary key, a text)")
				mustExec(b, w, "insert into t values(1, '')")
				writers = append(writers, w)
			}
			r.tidy()
			b.ReportAllocs()
			var checkpoint, absorb time.Duration
			i := 0
			for b.Loop() {
				b.StopTimer()
				i++
				for _, w := range writers {
					mustExec(b, w, "update t set a=?", wire.Text(fmt.Sprint(i)))
				}
				b.StartTimer()
				start := time.Now()
				must(b, r.g.Checkpoint())
				checkpoint += time.Since(start)
				start = time.Now()
				must(b, r.g.absorbAll(context.Background()))
				absorb += time.Since(start)
				b.StopTimer()
				must(b, r.g.CompactLTX(context.Background()))
				b.StartTimer()
			}
			b.ReportMetric(float64(checkpoint.Microseconds())/float64(b.N), "µs-checkpoint/op")
			b.ReportMetric(float64(absorb.Microseconds())/float64(b.N), "µs-absorb/op")
		})
	}
}

// BenchmarkInsertUnderReader is BenchmarkInsert while a reader holds an old snapshot of all pages: what it keeps must not
// make each commit dearer.
func BenchmarkInsertUnderReader(b *testing.B) {
	r := newRig(b, testConfig(b))
	w := r.writer(r.create(1, 4096))
	mustExec(b, w, "create table t(id integer primary key, a text, b text)")
	mustExec(b, w, "with recursive c(i) as (select 1 union all select i+1 from c where i<200000) insert into t select i, 'hello world this is a row', i from c")
	rd := r.reader(r.tenant(1))
	mustExec(b, rd, "begin")
	want(b, rd, "select count(*) from t", "[[200000]]")
	mustExec(b, w, "update t set a='another row'")
	mustExec(b, w, "update t set a='a third row'")
	s, _, err := w.Prepare("insert into t(a,b) values('x','y')", true)
	must(b, err)
	defer s.Finalize()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Step(); err != nil {
			b.Fatal(err, w.TakeErr())
		}
		must(b, s.Reset())
		r.log.first += uint64(len(r.log.entries))
		r.log.entries, r.log.history, r.log.results, r.log.terms = nil, nil, nil, nil
	}
}
