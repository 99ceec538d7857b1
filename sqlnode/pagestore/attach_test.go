package pagestore

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

// crrFile makes a file of conflict-free tables.
func crrFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "crr with space.db")
	c, err := sqlite.Open(path, "unix", sqlite.ReadWrite|sqlite.Create)
	must(t, err)
	must(t, c.Exec("PRAGMA journal_mode=WAL; CREATE TABLE likes(post TEXT PRIMARY KEY NOT NULL, n INT)"))
	must(t, c.Close())
	return path
}

// Two schemas on one connection, and no transaction that writes both.
func TestAttachedFileKeepsApart(t *testing.T) {
	r := newRig(t, testConfig(t))
	tn := r.create(1, 4096)
	path := crrFile(t)
	w := r.writer(tn)
	must(t, w.AttachCRR(path))
	mustExec(t, w, "create table posts(id text primary key)")
	mustExec(t, w, "insert into posts values('a')")
	s, err := tn.Acquire()
	must(t, err)
	cw, err := s.OpenCRRWriter(path, nil)
	must(t, err)
	t.Cleanup(func() { cw.Close() })

	// The main writer in an open transaction holds up nothing of crr.
	mustExec(t, w, "begin immediate")
	mustExec(t, w, "insert into posts values('b')")
	mustExec(t, cw, "begin immediate")
	mustExec(t, cw, "insert into likes values('a', 1)")
	mustExec(t, cw, "commit")
	// And the other way round.
	mustExec(t, cw, "begin immediate")
	mustExec(t, cw, "update likes set n=n+1")
	mustExec(t, w, "commit")
	mustExec(t, cw, "commit")

	for _, c := range []struct {
		conn *Conn
		sql  string
	}{{w, "insert into likes values('x', 1)"}, {w, "update crr.likes set n=0"}, {w, "create table crr.t(a)"}, {w, "drop table crr.likes"},
		{cw, "insert into posts values('x')"}, {cw, "create table t(a)"}, {cw, "delete from main.posts"}} {
		err := exec(c.conn, c.sql)
		c.conn.TakeErr()
		if sqlite.ErrorCode(err)&0xff != sqlite.CodeReadOnly {
			t.Errorf("%s: %v, want read-only", c.sql, err)
		}
	}
	// A transaction that tries both leaves neither half of the second.
	mustExec(t, cw, "begin immediate")
	mustExec(t, cw, "update likes set n=100")
	if err := exec(cw, "insert into posts values('y')"); err == nil {
		t.Error("main was written by the writer of crr")
	}
	cw.TakeErr()
	mustExec(t, cw, "rollback")

	rd := r.reader(tn)
	must(t, rd.AttachCRR(path))
	want(t, rd, "select p.id, l.n from posts p left join likes l on l.post=p.id order by 1", `[["a" 2] ["b" NULL]]`)
	if err := exec(rd, "update likes set n=0"); err == nil {
		t.Error("a reader wrote")
	}
}

func TestAttachWithoutFile(t *testing.T) {
	r := newRig(t, testConfig(t))
	rd := r.reader(r.create(1, 4096))
	if err := rd.AttachCRR(filepath.Join(t.TempDir(), "none.db")); err == nil || !strings.Contains(err.Error(), "none.db") {
		t.Fatalf("got %v", err)
	}
	want(t, rd, "select 1", "[[1]]")
}
