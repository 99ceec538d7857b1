package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/wire"
)

// prepared is a data directory of a node that has stopped, to be damaged in copies.
type prepared struct {
	dir   string
	hurt  string // id of the tenant that is to be damaged
	pages map[string]int64
	rows  int64 // in the log of the tenant well
}

// prepare fills two tenants and ends the node. With settled, all changes are in the bases; else the
// last of them are in the log alone.
func prepare(t *testing.T, settled bool, flags ...string) prepared {
	n := startNode(t, flags...)
	p := prepared{dir: n.dir, pages: map[string]int64{}}
	n.create("hurt", "well")
	rec, err := n.Tenant(t.Context(), "hurt")
	if err != nil {
		t.Fatal(err)
	}
	p.hurt = rec.ID.String()
	for _, name := range []string{"hurt", "well"} {
		for _, table := range []string{"a", "b"} {
			n.mustRows(name, fmt.Sprintf("CREATE TABLE %s(id INTEGER PRIMARY KEY, v TEXT)", table))
			n.mustRows(name, fmt.Sprintf("WITH RECURSIVE c(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM c WHERE i<20) INSERT INTO %s SELECT i, 'marker-%s-%s ' || i FROM c", table, name, table))
		}
	}
	for _, table := range []string{"a", "b"} {
		p.pages[table] = n.one("hurt", "SELECT rootpage FROM sqlite_schema WHERE name=?", wire.Text(table)).Int()
	}
	if settled {
		eventually(t, soonMax, "all changes are in the bases", func() error {
			for _, table := range []string{"a", "b"} {
				b, err := os.ReadFile(p.base(n.dir))
				if err == nil && !bytes.Contains(b, []byte("marker-hurt-"+table)) {
					err = fmt.Errorf("the base has no rows of table %s", table)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		checkpoints := n.metric("nearsql_checkpoints_total")
		n.mustRows("well", "CREATE TABLE later(id INTEGER)")
		eventually(t, soonMax, "another checkpoint", func() error {
			if n.metric("nearsql_checkpoints_total") <= checkpoints {
				return fmt.Errorf("none")
			}
			return nil
		})
	} else {
		n.mustRows("well", "CREATE TABLE log(id INTEGER PRIMARY KEY, v TEXT)")
		for range 100 {
			p.rows++
			n.mustRows("well", "INSERT INTO log VALUES(?, ?)", wire.Integer(p.rows), wire.Text(strings.Repeat(fmt.Sprintf("logged-%d ", p.rows), 20)))
		}
	}
	n.kill()
	return p
}

func (p prepared) base(dir string) string {
	return filepath.Join(dir, "groups", "2", "bases", p.hurt+".db")
}

// copied is a node on a copy of the directory.
func (p prepared) copied(t *testing.T, flags ...string) *node {
	t.Helper()
	n := newNode(t, flags...)
	if err := os.CopyFS(n.dir, os.DirFS(p.dir)); err != nil {
		t.Fatal(err)
	}
	return n
}

// one file that matches the pattern under the node's directory.
func (n *node) file(pattern string) string {
	n.t.Helper()
	list, err := filepath.Glob(filepath.Join(n.dir, pattern))
	if err != nil || len(list) == 0 {
		n.t.Fatalf("no file %s: %v", pattern, err)
	}
	return list[len(list)-1]
}

// flip changes one bit of a file. A negative offset counts from the end.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += int64(len(b))
	}
	b[at] ^= 0x20
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// wantCount checks a table of the prepared tenants.
func (n *node) wantCount(t *testing.T, tenant, table string, want int64) {
	t.Helper()
	rows, err := n.rows(tenant, "SELECT count(v), sum(length(v)>5) FROM "+table)
	if err != nil || rows[0][0].Int() != want || rows[0][1].Int() != want {
		t.Errorf("%s.%s: got %v, %v, want %d rows", tenant, table, rows, err, want)
	}
}

// wantCorrupt checks that a read of the damaged tenant is refused as such.
func (n *node) wantCorrupt(t *testing.T, sql string) {
	t.Helper()
	if rows, err := n.rows("hurt", sql); codeOf(err) != wire.CodeCorrupt {
		t.Errorf("%s: got %v, %v, want %s", sql, rows, err, wire.CodeCorrupt)
	}
}

// wantNoStart checks that the node ends by itself, and says why.
func (n *node) wantNoStart(t *testing.T, words ...string) {
	t.Helper()
	if err := n.tryStart(); err == nil {
		t.Errorf("the node serves")
		n.kill()
		return
	}
	if code := n.state.ExitCode(); code != exitFailed {
		t.Errorf("it ended with exit code %d, want %d", code, exitFailed)
	}
	lines := strings.Split(strings.TrimSpace(n.logText()), "\n")
	last := lines[len(lines)-1]
	if !strings.HasPrefix(last, "nearsql: ") || strings.Contains(n.logText(), "panic") {
		t.Errorf("it ended without a word: %s", last)
	}
	for _, w := range words {
		if !strings.Contains(last, w) {
			t.Errorf("it ended with %q, which does not tell of %q", last, w)
		}
	}
	t.Logf("refused: %s", last)
}

func TestCorruptBase(t *testing.T) {
	t.Parallel()
	p := prepare(t, true, hasty...)
	rest := func(t *testing.T, n *node) {
		t.Helper()
		n.wantCount(t, "well", "a", 20)
		n.wantCount(t, "well", "b", 20)
		n.mustRows("well", "INSERT INTO a VALUES(21, 'more than that')")
		n.restart()
		n.wantCount(t, "well", "a", 21)
	}
	t.Run("undamaged", func(t *testing.T) {
		n := p.copied(t, hasty...)
		n.start()
		n.wantCount(t, "hurt", "a", 20)
		n.wantCount(t, "hurt", "b", 20)
		rest(t, n)
	})
	t.Run("page", func(t *testing.T) {
		n := p.copied(t, hasty...)
		flip(t, p.base(n.dir), (p.pages["b"]-1)*4096+4000)
		n.start()
		n.wantCorrupt(t, "SELECT * FROM b")
		n.wantCorrupt(t, "PRAGMA integrity_check")
		n.wantCount(t, "hurt", "a", 20)
		n.mustRows("hurt", "INSERT INTO a VALUES(21, 'more than that')")
		if r, err := n.Export(t.Context(), "hurt", client.SQLite); err == nil {
			if _, err = r.Read(make([]byte, 1)); err == nil {
				_, err = bytes.NewBuffer(nil).ReadFrom(r)
			}
			if err == nil {
				t.Error("the export of a damaged tenant looks whole")
			}
			r.Close()
		}
		if !strings.Contains(n.logText(), "corrupt page") || !strings.Contains(n.logText(), fmt.Sprintf("page %d", p.pages["b"])) {
			t.Error("the log does not tell of the page")
		}
		rest(t, n)
		n.wantCorrupt(t, "SELECT * FROM b")
		n.wantCount(t, "hurt", "a", 21)
	})
	t.Run("sums", func(t *testing.T) {
		n := p.copied(t, hasty...)
		flip(t, p.base(n.dir)+".sums", 16+8*(p.pages["b"]-1)+4)
		n.start()
		n.wantCorrupt(t, "SELECT * FROM b")
		n.wantCount(t, "hurt", "a", 20)
		rest(t, n)
	})
	t.Run("no sums", func(t *testing.T) {
		n := p.copied(t, hasty...)
		if err := os.Remove(p.base(n.dir) + ".sums"); err != nil {
			t.Fatal(err)
		}
		n.start()
		n.wantCorrupt(t, "SELECT * FROM b")
		rest(t, n)
	})
	t.Run("cut", func(t *testing.T) {
		n := p.copied(t, hasty...)
		if err := os.Truncate(p.base(n.dir), 4096); err != nil {
			t.Fatal(err)
		}
		n.start()
		n.wantCorrupt(t, "SELECT * FROM b")
		rest(t, n)
	})
	t.Run("no base", func(t *testing.T) {
		n := p.copied(t, hasty...)
		for _, suffix := range []string{"", ".sums"} {
			if err := os.Remove(p.base(n.dir) + suffix); err != nil {
				t.Fatal(err)
			}
		}
		n.start()
		n.wantCorrupt(t, "SELECT * FROM b")
		rest(t, n)
	})
}

func TestCorruptSegment(t *testing.T) {
	t.Parallel()
	flags := []string{"--checkpoint-age", "100ms"} // segments stay: they are compacted after an hour
	p := prepare(t, true, flags...)
	segment := func(n *node) string { // one with rows of the table b of the tenant hurt
		list, _ := filepath.Glob(filepath.Join(n.dir, "groups/2/segments/*.seg"))
		for _, path := range list {
			if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, []byte("marker-hurt-b")) {
				return path
			}
		}
		t.Fatalf("no segment has the rows")
		return ""
	}
	marker := func(path string) int64 {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return int64(bytes.Index(b, []byte("marker-hurt-b")))
	}
	t.Run("page that the base has", func(t *testing.T) {
		n := p.copied(t, flags...)
		s := segment(n)
		flip(t, s, marker(s))
		n.start()
		n.wantCount(t, "hurt", "b", 20)
		n.wantCount(t, "well", "b", 20)
	})
	t.Run("page that the base lacks", func(t *testing.T) {
		// As after a crash before the bases were recorded to have it.
		n := p.copied(t, flags...)
		s := segment(n)
		flip(t, s, marker(s))
		for _, path := range []string{filepath.Join(n.dir, "groups/2/progress"), p.base(n.dir), p.base(n.dir) + ".sums"} {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		n.start()
		n.wantCorrupt(t, "SELECT * FROM b")
		n.wantCount(t, "well", "a", 20)
		n.wantCount(t, "well", "b", 20)
		n.restart()
		n.wantCorrupt(t, "SELECT * FROM b")
		n.wantCount(t, "well", "b", 20)
	})
	t.Run("bases are made again", func(t *testing.T) {
		n := p.copied(t, flags...)
		for _, path := range []string{filepath.Join(n.dir, "groups/2/progress"), p.base(n.dir), p.base(n.dir) + ".sums"} {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		n.start()
		n.wantCount(t, "hurt", "a", 20)
		n.wantCount(t, "hurt", "b", 20)
	})
	for what, at := range map[string]int64{"table": -60, "footer": -4, "header": 9} {
		t.Run(what, func(t *testing.T) {
			n := p.copied(t, flags...)
			s := segment(n)
			flip(t, s, at)
			n.wantNoStart(t, filepath.Base(s))
		})
	}
	t.Run("newest, before it was absorbed", func(t *testing.T) {
		// The older snapshot is whole, but what came after it is in the damaged segment alone.
		n := p.copied(t, flags...)
		if err := os.Remove(filepath.Join(n.dir, "groups/2/progress")); err != nil {
			t.Fatal(err)
		}
		s := n.file("groups/2/segments/*.seg")
		flip(t, s, -4)
		n.wantNoStart(t, filepath.Base(s))
	})
	t.Run("missing", func(t *testing.T) {
		n := p.copied(t, flags...)
		s := segment(n)
		if err := os.Remove(s); err != nil {
			t.Fatal(err)
		}
		n.wantNoStart(t, filepath.Base(s))
	})
	t.Run("cut", func(t *testing.T) {
		n := p.copied(t, flags...)
		s := segment(n)
		if err := os.Truncate(s, 5000); err != nil {
			t.Fatal(err)
		}
		n.wantNoStart(t, filepath.Base(s))
	})
}

func TestCorruptState(t *testing.T) {
	t.Parallel()
	p := prepare(t, true, hasty...)
	for _, c := range []struct {
		what, file string
		at         int64
		words      string
	}{
		{"manifest", "groups/2/raft/snapshots/*.snap", -40, "group 2"},
		{"snapshot's header", "groups/2/raft/snapshots/*.snap", 10, "group 2"},
		{"progress", "groups/2/progress", 12, "progress"},
		{"log's meta", "groups/2/raft/log/meta", 10, "group 2"},
		{"identity", "node.json", 1, "node.json"},
	} {
		t.Run(c.what, func(t *testing.T) {
			n := p.copied(t, hasty...)
			flip(t, n.file(c.file), c.at)
			n.wantNoStart(t, c.words)
		})
	}
	t.Run("no snapshot", func(t *testing.T) {
		n := p.copied(t, hasty...)
		list, err := filepath.Glob(filepath.Join(n.dir, "groups/2/raft/snapshots/*.snap"))
		if err != nil || len(list) == 0 {
			t.Fatal(list, err)
		}
		for _, f := range list {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
		}
		n.wantNoStart(t, "group 2")
	})
}

func TestCorruptLog(t *testing.T) {
	t.Parallel()
	p := prepare(t, false) // all of it is in the log alone
	log := func(n *node) (path string, b []byte, used int64) {
		path = n.file("groups/2/raft/log/*.wal")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for used = int64(len(b)); used > 0 && b[used-1] == 0; used-- {
		}
		return path, b, (used + 7) &^ 7
	}
	check := func(t *testing.T, n *node) {
		t.Helper()
		n.start()
		n.wantCount(t, "well", "log", p.rows)
		n.wantCount(t, "hurt", "b", 20)
		n.mustRows("well", "INSERT INTO log VALUES(?, 'after the crash')", wire.Integer(p.rows+1))
		n.kill()
		n.start()
		n.wantCount(t, "well", "log", p.rows+1)
	}
	write := func(t *testing.T, path string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("undamaged", func(t *testing.T) { check(t, p.copied(t)) })
	t.Run("garbage behind the end", func(t *testing.T) {
		n := p.copied(t)
		path, b, used := log(n)
		copy(b[used:], bytes.Repeat([]byte("garbage "), 50))
		write(t, path, b)
		check(t, n)
	})
	t.Run("torn write behind the end", func(t *testing.T) {
		// The beginning of an entry like the last, as when the power fails within a write.
		n := p.copied(t)
		path, b, used := log(n)
		copy(b[used:], b[used-300:used-100])
		write(t, path, b)
		check(t, n)
	})
	t.Run("nothing allocated behind the end", func(t *testing.T) {
		n := p.copied(t)
		path, b, used := log(n)
		write(t, path, b[:used])
		check(t, n)
	})
	for _, marker := range []string{"logged-1 ", "logged-50 ", "marker-hurt-b 20"} {
		t.Run("in the midst: "+marker, func(t *testing.T) {
			n := p.copied(t)
			path, b, _ := log(n)
			at := bytes.Index(b, []byte(marker))
			if at < 0 {
				t.Fatalf("the log has no %q", marker)
			}
			flip(t, path, int64(at))
			n.wantNoStart(t, "group 2")
			n.wantNoStart(t, "group 2") // nothing was cut off in silence
		})
	}
	t.Run("zeros in the midst", func(t *testing.T) {
		n := p.copied(t)
		path, b, _ := log(n)
		at := bytes.Index(b, []byte("logged-50 "))
		copy(b[at-100:at+2000], make([]byte, 2100))
		write(t, path, b)
		n.wantNoStart(t, "group 2")
	})
	t.Run("no log", func(t *testing.T) {
		n := p.copied(t)
		path, _, _ := log(n)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		n.wantNoStart(t, "group 2")
	})
}
