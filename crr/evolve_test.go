package crr

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/wire"
	"pgregory.net/rapid"
)

// Changes of the schema write no metadata, and the columns of a table go on meaning what they meant.
func TestChangesOfTheSchema(t *testing.T) {
	clock, a, b := two(t, likes)
	apply := func(sql string) {
		t.Helper()
		c := schema.Change{Version: a.state.Version + 1, SQL: sql}
		for _, s := range []*tester{a, b} {
			if err := s.ApplySchema(c); err != nil {
				t.Fatal(err)
			}
		}
	}
	a.do("INSERT INTO likes VALUES('x',1,'n')")
	settle(a, b)
	meta := a.one("SELECT group_concat(hex(st)) FROM __crr_m1")
	apply("ALTER TABLE likes ADD COLUMN tag TEXT NOT NULL DEFAULT 'none'")
	apply("ALTER TABLE likes ADD COLUMN hits COUNTER NOT NULL DEFAULT 0")
	apply("CREATE INDEX crr.by_tag ON likes(tag, n)")
	apply("CREATE VIEW crr.top AS SELECT id, n FROM likes WHERE n>0")
	apply("ALTER TABLE likes RENAME COLUMN n TO total")
	apply("ALTER TABLE likes RENAME COLUMN id TO post")
	apply("ALTER TABLE likes RENAME TO votes")
	if g := a.one("SELECT group_concat(hex(st)) FROM __crr_m1"); g != meta {
		t.Error("a change of the schema wrote metadata")
	}
	clock.add(time.Second)
	a.do("UPDATE votes SET total=total+1, hits=hits+1")
	b.do("UPDATE votes SET total=total+1, hits=hits+5, tag='t'")
	settle(a, b)
	same(t, "after changes", a, b)
	if g := a.one("SELECT post||total||note||tag||hits FROM votes"); g != wire.Text("x3nt6") {
		t.Error(g)
	}
	if g := a.one("SELECT total FROM top"); g.Int() != 3 {
		t.Error(g)
	}
	apply("ALTER TABLE votes DROP COLUMN note")
	apply("ALTER TABLE votes ADD COLUMN note TEXT DEFAULT 'fresh'")
	apply("DROP VIEW top")
	a.do("INSERT INTO votes(post) VALUES('y')")
	b.do("DELETE FROM votes WHERE post='x'")
	settle(a, b)
	same(t, "after more changes", a, b)
	if g := b.one("SELECT post||total||note||tag||hits FROM votes"); g != wire.Text("y0freshnone0") {
		t.Error(g)
	}
	// What the file says of the schema is what the changes made it, and a dropped table leaves nothing.
	read, err := readState(a.conn, a.state.Version)
	if err != nil || !reflect.DeepEqual(read.Tables, a.state.Tables) || !reflect.DeepEqual(read.Indexes, a.state.Indexes) || len(read.Views) != len(a.state.Views) {
		t.Errorf("read back %+v, %v\nwant %+v", read, err, a.state)
	}
	apply("DROP TABLE votes")
	apply("CREATE TABLE votes(post TEXT PRIMARY KEY NOT NULL, n COUNTER NOT NULL DEFAULT 0)")
	if g := a.one("SELECT group_concat(name) FROM crr.sqlite_schema WHERE type='table' AND name LIKE '__crr_m%' OR type='trigger' AND name='__crr_i1'"); g != wire.Text("__crr_m2") {
		t.Error(g)
	}
	a.do("INSERT INTO votes VALUES('z',1)")
	settle(a, b)
	same(t, "after the table was made anew", a, b)
	if err := a.ApplySchema(schema.Change{Version: 1, SQL: "nonsense"}); err != nil {
		t.Errorf("a change that is there already: %v", err)
	}
	// A change that fails leaves nothing.
	before := a.state
	if err := a.ApplySchema(schema.Change{Version: before.Version + 1, SQL: "CREATE INDEX i ON votes(nothing)"}); err == nil || a.state != before {
		t.Errorf("an index of no column: %v", err)
	}
	if err := a.CheckSchema("CREATE INDEX i ON votes(nothing)", nil); err == nil {
		t.Error("an index of no column was found good")
	}
	if err := a.CheckSchema("CREATE INDEX i ON votes(n)", nil); err != nil || a.one("SELECT count(*) FROM crr.sqlite_schema WHERE name='i'").Int() != 0 {
		t.Errorf("check of an index: %v", err)
	}
	a.do("UPDATE votes SET n=n+1")
}

// P19: sites at different versions of the schema. A batch of a later one waits; after all have all changes they are equal.
func TestMixedSchemas(t *testing.T) {
	ddl := []string{
		"CREATE TABLE t(k INTEGER PRIMARY KEY, a TEXT, n COUNTER NOT NULL DEFAULT 0)",
		"ALTER TABLE t ADD COLUMN b TEXT DEFAULT 'd'",
		"ALTER TABLE t ADD COLUMN c INT NOT NULL DEFAULT 7",
		"ALTER TABLE t DROP COLUMN a",
		"ALTER TABLE t ADD COLUMN m COUNTER NOT NULL DEFAULT 0",
		"ALTER TABLE t RENAME COLUMN b TO b2",
		"CREATE TABLE u(k TEXT PRIMARY KEY NOT NULL, v)",
		"ALTER TABLE t DROP COLUMN n",
		"DROP TABLE u",
	}
	rapid.Check(t, func(rt *rapid.T) {
		draw := func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "") }
		clock := newTestClock()
		var ss []*tester
		for i := range 2 + draw(2) {
			c := openEngine(t, ":memory:")
			s := openTester(rt, c, SiteID(i+1), Config{Now: clock.off(0)}, ddl[0])
			defer func() { s.stop(); c.Close() }()
			ss = append(ss, s)
		}
		up := func(s *tester) {
			v := int(s.state.Version)
			if v == len(ddl) {
				return
			}
			if err := s.ApplySchema(schema.Change{Version: uint64(v + 1), SQL: ddl[v]}); err != nil {
				rt.Fatalf("%s: %v", ddl[v], err)
			}
		}
		pull := func(to, from *tester) {
			frames, err := from.answer(to.Request(from.me.Site, from.me.File))
			if err != nil {
				rt.Fatalf("answer: %v", err)
			}
			_, err = to.take(frames)
			e := new(SchemaError)
			if later := from.state.Version > to.state.Version; later != errors.As(err, &e) || !later && err != nil {
				rt.Fatalf("batch of version %d at %d: %v", from.state.Version, to.state.Version, err)
			}
		}
		for step := range 20 + draw(60) {
			clock.add(time.Duration(draw(3)) * time.Millisecond)
			s := ss[draw(len(ss))]
			switch x := draw(10); {
			case x < 1:
				up(s)
			case x < 6:
				evolveWrite(rt, s, draw, step)
			default:
				if from := ss[draw(len(ss))]; from != s {
					pull(s, from)
				}
			}
		}
		for range ddl {
			for _, s := range ss {
				up(s)
			}
		}
		settle(ss...)
		for _, s := range ss {
			s.sound()
			if g, w := s.dump(false), ss[0].dump(false); g != w {
				rt.Fatalf("site %d differs\ngot:\n%s\nwant:\n%s", s.me.Site, g, w)
			}
		}
	})
}

// evolveWrite writes something that the site's version of the schema has.
func evolveWrite(rt *rapid.T, s *tester, draw func(int) int, step int) {
	k := draw(3)
	def := s.state.Table("t")
	col := def.Live()[draw(len(def.Live()))]
	var err error
	switch x := draw(8); {
	case x < 1:
		err = s.try("DELETE FROM t WHERE k=?", k)
	case x < 3:
		err = s.try("REPLACE INTO t(k) VALUES(?)", k)
	case x < 4 && s.state.Table("u") != nil:
		err = s.try("REPLACE INTO u VALUES(?,?)", fmt.Sprint(k), step)
	case col.Kind == schema.Counter:
		err = s.try(fmt.Sprintf("INSERT INTO t(k,%[1]s) VALUES(?,1) ON CONFLICT DO UPDATE SET %[1]s=%[1]s+1", col.Name), k)
	default:
		err = s.try(fmt.Sprintf("INSERT INTO t(k,%[1]s) VALUES(?,?) ON CONFLICT DO UPDATE SET %[1]s=excluded.%[1]s", col.Name), k, step)
	}
	if err != nil {
		rt.Fatalf("write: %v", err)
	}
}

// A new row of a site that has not added a column yet takes its default, also over a row that was there.
func TestOlderSitesInsert(t *testing.T) {
	clock, a, b := two(t, "CREATE TABLE t(k INTEGER PRIMARY KEY, a)")
	if err := a.ApplySchema(schema.Change{Version: 2, SQL: "ALTER TABLE t ADD COLUMN b TEXT DEFAULT 'd'"}); err != nil {
		t.Fatal(err)
	}
	a.do("INSERT INTO t VALUES(1,1,'a')")
	clock.add(time.Second)
	b.do("INSERT INTO t VALUES(1,2)")
	a.pull(b)
	if g := a.one("SELECT a||b FROM t"); g != wire.Text("2d") {
		t.Errorf("got %s", g)
	}
	if err := b.ApplySchema(schema.Change{Version: 2, SQL: "ALTER TABLE t ADD COLUMN b TEXT DEFAULT 'd'"}); err != nil {
		t.Fatal(err)
	}
	settle(a, b)
	same(t, "after the change came", a, b)
}

// Batches beyond one frame, and beyond what is merged at once.
func TestLargeBatches(t *testing.T) {
	clock := newTestClock()
	cfg := Config{Now: clock.off(0), BatchRows: 300}
	dir := t.TempDir()
	a := newSite(t, 1, cfg, filepath.Join(dir, "a"), "CREATE TABLE big(k INTEGER PRIMARY KEY, v BLOB)")
	b := newSite(t, 2, cfg, filepath.Join(dir, "b"), "CREATE TABLE big(k INTEGER PRIMARY KEY, v BLOB)")
	const fill = "WITH RECURSIVE r(i) AS (SELECT ?1 UNION ALL SELECT i+1 FROM r WHERE i<?1+99) INSERT INTO big SELECT i,randomblob(?2) FROM r"
	a.do(fill, 0, 100_000)
	frames, err := a.answer(b.Request(1, a.me.File))
	if err != nil {
		t.Fatal(err)
	}
	if len(frames) < 3 {
		t.Fatalf("%d frames", len(frames))
	}
	for i, f := range frames {
		if len(f) > MaxFrame {
			t.Errorf("frame %d has %d bytes", i, len(f))
		}
	}
	if p, err := a.r.Push(Mark{}, nil); err != nil || p.Sent {
		t.Errorf("10 MB were pushed: %+v, %v", p, err)
	}
	// A frame that is missing or comes twice spoils the batch, nothing is merged, and the next batch is whole.
	for _, bad := range [][][]byte{{frames[0], frames[2]}, {frames[0], frames[0], frames[0], frames[2]}, {frames[1]}} {
		if _, err := b.take(bad); !errors.Is(err, ErrOutOfOrder) {
			t.Errorf("frames out of order: %v", err)
		}
	}
	for i, f := range frames {
		r, err := b.Receive(f)
		if err != nil {
			t.Fatal(err)
		}
		if last := i == len(frames)-1; !last && (r.Outcome != Partial || b.one("SELECT count(*) FROM big").Int() != 0) || last && (r.Outcome != Applied || r.Rows != 100) {
			t.Errorf("frame %d: %+v", i, r)
		}
	}
	same(t, "after a batch of several frames", a, b)
	if g := b.one("SELECT count(*) FROM __crr_inbox"); g.Int() != 0 {
		t.Errorf("%s frames stayed in the inbox", g)
	}
	// A half received batch is forgotten when the file is opened again.
	a.do(fill, 100, 50_000)
	if frames, err = a.answer(b.Request(1, a.me.File)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Receive(frames[0]); err != nil {
		t.Fatal(err)
	}
	b.stop()
	b = newSite(t, 2, cfg, filepath.Join(dir, "b"))
	if g := b.one("SELECT count(*) FROM __crr_inbox"); g.Int() != 0 {
		t.Errorf("%s frames survived", g)
	}
	b.pull(a)
	same(t, "after opening again", a, b)
	// More rows than are merged at once: a snapshot is needed.
	a.do(fill, 200, 10)
	a.do(fill, 300, 10)
	c := newSite(t, 3, cfg, ":memory:", "CREATE TABLE big(k INTEGER PRIMARY KEY, v BLOB)")
	_, err = a.answer(c.Request(1, a.me.File))
	if e := new(BehindError); !errors.As(err, &e) || !strings.Contains(e.Reason, "300 rows") {
		t.Errorf("got %v", err)
	}
}

// The ring spares reading the metadata; where it doesn't reach back, reading it gives the same.
func TestRingIsOnlyAHint(t *testing.T) {
	clock := newTestClock()
	a := newSite(t, 1, Config{Now: clock.off(0), RingRows: 8}, ":memory:", pair)
	b := newSite(t, 2, Config{Now: clock.off(0)}, ":memory:", pair)
	for i := range 40 {
		a.do("INSERT INTO pair VALUES(?,'x',1)", i)
		if i%7 == 0 {
			b.pull(a)
			same(t, "on the way", a, b)
		}
	}
	b.pull(a)
	same(t, "at the end", a, b)
	if _, ok := a.Changed(0, a.me.lseq); ok {
		t.Error("a ring of 8 remembers 40 transactions")
	}
	rows, ok := a.Changed(a.me.lseq-2, a.me.lseq)
	if !ok || len(rows) != 2 || rows[0].Key != wire.Integer(39) || rows[0].Table != 1 {
		t.Errorf("changed lately: %v, %v", rows, ok)
	}
	// A transaction of more rows than the ring holds empties it.
	a.do("UPDATE pair SET a='y'")
	b.pull(a)
	same(t, "after a large transaction", a, b)
}

// A reader that was made before the file's writer was opened anew does not ask what the writer before remembers: it knows nothing of what was written since.
func TestReaderOfAnEarlierWriter(t *testing.T) {
	clock := newTestClock()
	cfg := Config{Now: clock.off(0)}
	path := filepath.Join(t.TempDir(), "a.db")
	a, b := newSite(t, 1, cfg, path, pair), newSite(t, 2, cfg, ":memory:", pair)
	a.do("INSERT INTO pair VALUES(1,'x',1)")
	b.pull(a)
	from := a.Head().Mark()
	old := a.Site.NewReader(openEngine(t, path))
	defer old.Close()
	a.Site.Close()
	a.Site = openTester(t, openEngine(t, path), 1, cfg).Site
	a.do("INSERT INTO pair VALUES(2,'y',2)")
	var frames [][]byte
	keep := func(f []byte) error { frames = append(frames, bytes.Clone(f)); return nil }
	if p, err := old.Push(from, keep); err != nil || !p.Sent {
		t.Fatal(p, err)
	}
	if got, err := b.take(frames); err != nil || got.Rows != 1 {
		t.Errorf("a push: %+v, %v", got, err)
	}
	a.do("INSERT INTO pair VALUES(3,'z',3)")
	frames = nil
	if err := old.Answer(b.Request(1, a.me.File), keep); err != nil {
		t.Fatal(err)
	}
	if got, err := b.take(frames); err != nil || got.Rows != 1 {
		t.Errorf("an answer: %+v, %v", got, err)
	}
	same(t, "after a writer was opened anew", a, b)
}

// A push goes on from a state of its own file only, under the number that it has.
func TestPushFromAnotherFile(t *testing.T) {
	_, ss := several(t, 2, likes)
	a, b := ss[0], ss[1]
	a.do(upsertX)
	b.do(upsertX)
	if _, err := a.r.Push(b.Head().Mark(), nil); !errors.Is(err, ErrOtherFile) {
		t.Errorf("from a state of another site's file: %v", err)
	}
	from := a.Head().Mark()
	if err := a.Renounce(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.r.Push(from, nil); !errors.Is(err, ErrOtherFile) {
		t.Errorf("from before the file renounced its number: %v", err)
	}
}
