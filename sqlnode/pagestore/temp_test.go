package pagestore

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

// TestTempSpace bounds what a sort may put into temporary files.
func TestTempSpace(t *testing.T) {
	r, w, _ := newTable(t, testConfig(t))
	mustExec(t, w, "with recursive c(i) as (select 1 union all select i+1 from c where i<4000) insert into t(a) select hex(randomblob(500)) from c")
	var total atomic.Int64
	dir := t.TempDir()
	open := func(max int64) (*Conn, *TempSpace) {
		space := &TempSpace{Dir: dir, Max: max, Total: &total}
		s, err := r.tenant(1).Acquire()
		must(t, err)
		c, err := s.OpenReader(space)
		must(t, err)
		mustExec(t, c, "pragma cache_size=10")
		return c, space
	}
	const sort = "select a from t order by a"
	small, space := open(1 << 20)
	other, otherSpace := open(64 << 20)
	_, err := query(small, sort)
	if sqlite.ErrorCode(err) != sqlite.CodeFull || !space.TakeFull() {
		t.Fatalf("got %v", err)
	}
	if space.TakeFull() || space.Used() != 0 {
		t.Fatalf("%d bytes are used afterwards", space.Used())
	}
	want(t, small, "select count(*) from t", "[[4000]]") // it goes on
	// The space of another connection is its own; it is in use while the statement runs.
	s, _, err := other.Prepare(sort, false)
	must(t, err)
	for range 5 {
		if ok, err := s.Step(); !ok || err != nil {
			t.Fatal(err)
		}
	}
	if n := otherSpace.Used(); n < 3<<20 || n != total.Load() {
		t.Fatalf("a sort of 4 MB uses %d bytes, the node %d", n, total.Load())
	}
	if names, _ := os.ReadDir(dir); len(names) > 0 {
		t.Errorf("temporary files have names: %v", names)
	}
	must(t, s.Finalize())
	if otherSpace.TakeFull() || otherSpace.Used() != 0 || total.Load() != 0 {
		t.Fatalf("%d bytes are used afterwards, the node %d", otherSpace.Used(), total.Load())
	}
	small.Close()
	other.Close()
	// A writer's VACUUM goes through a temporary database too.
	st, err := r.tenant(1).Acquire()
	must(t, err)
	space = &TempSpace{Max: 1 << 20, Total: &total}
	vw, err := r.tenant(1).OpenWriter(st, space)
	must(t, err)
	defer vw.Close()
	head := st.Head()
	if err := exec(vw, "vacuum"); sqlite.ErrorCode(err) != sqlite.CodeFull || !space.TakeFull() || st.Head() != head {
		t.Fatalf("got %v", err)
	}
	space.Max = 0
	mustExec(t, vw, "vacuum")
	if total.Load() != 0 {
		t.Fatalf("%d bytes are used afterwards", total.Load())
	}
}

// TestTempFile compares a temporary file with a slice.
func TestTempFile(t *testing.T) {
	if err := registerVFS(); err != nil {
		t.Fatal(err)
	}
	for range 3 { // also in memory that was another file's
		testTempFile(t)
	}
}

func testTempFile(t *testing.T) {
	t.Helper()
	space := &TempSpace{Dir: t.TempDir()}
	f := &tempFile{space: space, memory: tempMemory}
	var model []byte
	grow := func(n int) {
		if n > len(model) {
			model = append(model, make([]byte, n-len(model))...)
		}
	}
	for i, c := range []struct{ off, n, cut int }{
		{0, 10, -1}, {100, 50, -1}, {0, 0, 60}, {0, 0, 200}, {70, 5, -1}, {200 << 10, 1000, -1}, {50 << 10, 10, 100 << 10},
		{300 << 10, 4096, -1}, {0, 100, -1}, {0, 0, 260 << 10}, {290 << 10, 7, -1}, {0, 0, 400 << 10}, {1, 1, 3}, {0, 0, 0},
		{tempChunk - 5, 10, -1}, {3*tempChunk + 7, tempChunk, -1}, {tempChunk, 2 * tempChunk, tempChunk + 1}, {4 * tempChunk, 1, -1}, {tempMemory, 5, -1}, {0, 0, 0}, {9, 9, -1},
	} {
		b := make([]byte, c.n)
		for j := range b {
			b[j] = byte(i + j)
		}
		if c.n > 0 {
			if rc := f.writeAt(b, int64(c.off)); rc != 0 {
				t.Fatal(rc)
			}
			grow(c.off + c.n)
			copy(model[c.off:], b)
		}
		if c.cut >= 0 {
			if rc := f.truncate(int64(c.cut)); rc != 0 {
				t.Fatal(rc)
			}
			grow(c.cut)
			model = model[:c.cut:c.cut]
		}
		got := make([]byte, len(model)+10)
		if rc := f.readAt(got, 0); rc == 0 {
			t.Fatal("no short read beyond the end")
		}
		if string(got[:len(model)]) != string(model) || space.Used() != int64(len(model)) {
			t.Fatalf("step %d: content differs, or %d bytes are used of %d", i, space.Used(), len(model))
		}
	}
	f.close()
	if space.Used() != 0 {
		t.Fatal(space.Used())
	}
}

// TestRollbackJournal rolls back transactions whose journal stays in memory, and those whose journal is a file; it doesn't count towards the space of the connection, and leaves nothing.
func TestRollbackJournal(t *testing.T) {
	r, w, _ := newTable(t, testConfig(t))
	mustExec(t, w, "with recursive c(i) as (select 1 union all select i+1 from c where i<6000) insert into t(a) select hex(randomblob(1800)) from c")
	w.Close()
	var total atomic.Int64
	space := &TempSpace{Dir: t.TempDir(), Max: 1 << 20, Total: &total}
	s, err := r.tenant(1).Acquire()
	must(t, err)
	w, err = r.tenant(1).OpenWriter(s, space)
	must(t, err)
	defer w.Close()
	const sums = "select count(*), sum(length(a)), substr(min(a), 1, 8), substr(max(a), 1, 8) from t"
	read := func() string {
		t.Helper()
		rows, err := query(w, sums)
		must(t, err)
		return fmt.Sprint(rows)
	}
	was := read()
	for _, rows := range []int{1, 30, 1000, 6000} {
		for range 2 {
			mustExec(t, w, "begin immediate")
			mustExec(t, w, fmt.Sprintf("update t set a='gone' where rowid<=%d", rows))
			if rows == 6000 && total.Load() < journalMemory {
				t.Errorf("the journal of %d rows has %d bytes", rows, total.Load())
			}
			mustExec(t, w, "rollback")
			if got := read(); got != was || total.Load() != 0 {
				t.Fatalf("after a rollback of %d rows: %s, was %s; %d bytes are in use", rows, got, was, total.Load())
			}
		}
	}
	mustExec(t, w, "update t set a='new' where rowid<=100")
	want(t, w, "select count(*) from t where a='new'", "[[100]]")
	want(t, w, "pragma integrity_check", `[["ok"]]`)
}

// A temporary file that can't be read is no file of zeros: a rollback would take them for the end of its journal.
func TestTempFileUnreadable(t *testing.T) {
	must(t, registerVFS())
	f := &tempFile{space: &TempSpace{Dir: t.TempDir()}, memory: tempMemory}
	b := make([]byte, tempMemory+1)
	if rc := f.writeAt(b, 0); rc != sqlite.CodeOK || f.f == nil {
		t.Fatal(rc)
	}
	must(t, f.f.Close())
	if rc := f.readAt(b, 0); rc&0xff != sqlite.CodeIOErr {
		t.Errorf("result code %d", rc)
	}
}
