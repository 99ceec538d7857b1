package pagestore

import (
	"bytes"
	"context"
	"testing"

	"github.com/nearsql/nearsql/wire"
)

// A page that somebody looks at without a lock is not used again, whatever becomes of its version.
func TestBorrowedPages(t *testing.T) {
	r, w, _ := newTable(t, testConfig(t))
	s, b := w.store, r.g.cfg.Budget
	for _, borrowed := range []bool{false, true} {
		r.log.hold = true
		mustExec(t, w, "insert into t(a) values('lost')") // speculative
		if borrowed {
			s.borrowed.Add(1)
		}
		page, _ := s.borrowPage(1, s.Head().TXID)
		if page == nil {
			t.Fatal("page 1 is not in memory")
		}
		was := bytes.Clone(page)
		s.dropSpeculation()
		for range 100 { // what another connection writes
			clear(b.newPage(s.pageSize))
		}
		if same := bytes.Equal(page, was); same != borrowed {
			t.Errorf("borrowed %t: the page is as it was: %t", borrowed, same)
		}
		if borrowed {
			s.borrowed.Add(-1)
		}
		r.log.lose(ErrNotPrimary)
		w.Close()
		w = r.writer(r.tenant(1))
	}
}

// What a reader keeps of page 1 for the beginning of a transaction is that of its snapshot, wherever the page
// lies, so that it sees each change at once.
func TestStamp(t *testing.T) {
	r, w, rd := newTable(t, testConfig(t))
	other := r.reader(r.tenant(1))
	for i := range 10 {
		mustExec(t, w, "delete from t")
		mustExec(t, w, "insert into t(a) select 'x' from (with recursive c(i) as (select 1 union all select i+1 from c where i<?) select i from c)", wire.Integer(int64(10*i+1)))
		for range 3 {
			want(t, rd, "select count(*) from t", "[["+wire.Integer(int64(10*i+1)).String()+"]]")
			want(t, other, "select count(*) from t", "[["+wire.Integer(int64(10*i+1)).String()+"]]")
			if rd.stamped != w.store.Committed() {
				t.Fatalf("kept of %s, committed is %s", rd.stamped, w.store.Committed())
			}
			var fresh [stampSize]byte
			must(t, w.store.readAt(fresh[:], 1, stampOffset, w.store.Committed().TXID))
			if fresh != rd.stamp {
				t.Fatalf("kept %x, want %x", rd.stamp, fresh)
			}
			must(t, r.g.Checkpoint())
			if i%2 == 0 {
				must(t, r.g.absorbAll(context.Background()))
			}
		}
	}
}
