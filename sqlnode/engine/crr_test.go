package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

const createLikes = "CREATE TABLE crr.likes(post TEXT PRIMARY KEY NOT NULL, n COUNTER NOT NULL DEFAULT 0, title TEXT)"

// newCRRRig is a rig whose tenants can have conflict-free tables.
func newCRRRig(t testing.TB, cfg Config) (*rig, *crrfiles.Manager) {
	t.Helper()
	return newCRRRigAt(t, t.TempDir(), cfg)
}

func newCRRRigAt(t testing.TB, dir string, cfg Config) (*rig, *crrfiles.Manager) {
	t.Helper()
	var r *rig
	m := crrfiles.New(crrfiles.Config{Dir: filepath.Join(dir, "crr"), Temp: func() *pagestore.TempSpace { return r.e.TempSpace() }})
	cfg.CRR, cfg.Node = m, "n1"
	t.Cleanup(m.Close)
	r = newRigAt(t, dir, cfg)
	return r, m
}

// The whole way: declare, write, read, join, evolve, drop.
func TestConflictFree(t *testing.T) {
	r, m := newCRRRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, "CREATE TABLE posts(id TEXT PRIMARY KEY, name TEXT)")
	r.exec(tn, "INSERT INTO posts VALUES('a','Ada'),('b','Bob')")
	if _, err := os.Stat(m.Path(tn.ID())); err == nil {
		t.Fatal("a tenant without conflict-free tables has a file")
	}
	r.exec(tn, createLikes)
	for range 3 {
		_, x, err := r.doCtx(t.Context(), tn, one("INSERT INTO likes(post,n) VALUES('a',1) ON CONFLICT(post) DO UPDATE SET n=n+excluded.n"))
		if err != nil || !x.Local || x.Write || x.Stamp.Site != 1 || x.Pos.TXID == 0 {
			t.Fatalf("%+v, %v", x, err)
		}
	}
	r.want(tn, "SELECT p.name, l.n FROM posts p LEFT JOIN likes l ON l.post=p.id ORDER BY 1", `[["Ada" 3] ["Bob" NULL]]`)
	r.want(tn, "UPDATE crr.likes SET title='x' WHERE post='a' RETURNING post, title", `[["a" "x"]]`)
	res := r.ok(tn, &wire.Request{Batch: true, Statements: []wire.Statement{st("UPDATE likes SET n=n+10"), st("SELECT n FROM likes"), st("DELETE FROM likes WHERE post=?", "none")}})
	if res[0].RowsAffected != 1 || fmt.Sprint(res[1].Rows) != "[[13]]" || res[2].RowsAffected != 0 {
		t.Fatalf("%v", res)
	}
	if got := r.ok(tn, one("SELECT crr_stamp('likes','a','title')"))[0].Rows[0][0].Str(); !strings.Contains(got, `"site":1`) || !strings.Contains(got, `"what":"write"`) {
		t.Fatalf("crr_stamp: %s", got)
	}
	r.exec(tn, "ALTER TABLE likes ADD COLUMN color TEXT DEFAULT 'red'")
	r.want(tn, "SELECT color FROM likes", `[["red"]]`)
	r.exec(tn, "ALTER TABLE crr.likes RENAME TO hearts")
	r.exec(tn, "CREATE INDEX crr.hearts_title ON hearts(title)")
	r.exec(tn, "CREATE VIEW crr.top AS SELECT post FROM hearts ORDER BY n DESC")
	r.exec(tn, "UPDATE hearts SET n=0")
	r.want(tn, "SELECT n, color FROM hearts, top USING(post)", `[[0 "red"]]`)
	// A strong write may read them.
	r.exec(tn, "INSERT INTO posts SELECT post||'2', title FROM hearts")
	r.want(tn, "SELECT name FROM posts WHERE id='a2'", `[["x"]]`)
	r.exec(tn, "DROP VIEW top")
	r.exec(tn, "DROP TABLE hearts")
	r.refused(tn, one("SELECT * FROM hearts"), wire.CodeSQLiteError)
	r.exec(tn, "CREATE TABLE hearts(a)")
	r.want(tn, "SELECT count(*) FROM hearts", "[[0]]")
}

// A statement that met the schema as it was runs again when somebody else has found the newer one meanwhile.
func TestSchemaFoundByAnother(t *testing.T) {
	r, _ := newCRRRig(t, Config{})
	tn := r.create(1, tenant.Limits{})
	r.exec(tn, createLikes)
	db, err := r.e.acquire(tn)
	if err != nil {
		t.Fatal(err)
	}
	defer r.e.release(db)
	was := db.crrState()
	r.exec(tn, "CREATE TABLE crr.counter(id TEXT PRIMARY KEY NOT NULL, n COUNTER NOT NULL DEFAULT 0)")
	missing := wire.NewError(wire.CodeSQLiteError, "no such table: counter")
	if again, err := db.discover(t.Context(), was, missing); err != nil || !again {
		t.Errorf("a statement of before: %v, %v", again, err)
	}
	if again, err := db.discover(t.Context(), db.crrState(), missing); err != nil || again {
		t.Errorf("a statement of now: %v, %v", again, err)
	}
}

var _ = pagestore.ErrClosed
