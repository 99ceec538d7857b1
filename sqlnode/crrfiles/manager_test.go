package crrfiles

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

const likes = "CREATE TABLE crr.likes(post TEXT PRIMARY KEY NOT NULL, n COUNTER NOT NULL DEFAULT 0)"

func TestFileFollowsMain(t *testing.T) {
	r := newRig(t)
	var told []crr.Head
	m := r.manager(Config{OnChange: func(_ *File, _, h crr.Head) { told = append(told, h) }})
	tn := r.tenant(1)
	if _, err := m.Open(t.Context(), tn); !errors.Is(err, ErrNone) {
		t.Fatalf("%v, want ErrNone", err)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "crr")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory without a file: %v", err)
	}
	r.declare(tn, likes)
	f, err := m.Open(t.Context(), tn)
	must(t, err)
	if _, err := write(f, "INSERT INTO likes VALUES('a',1)"); !errors.Is(err, crr.ErrNoSite) {
		t.Errorf("%v, want ErrNoSite", err)
	}
	r.site(m, tn)
	before := len(told)
	changed := f.Changed()
	done, err := write(f, "INSERT INTO likes VALUES('a',1)")
	if err != nil || done.Stamp.Site != 1 {
		t.Fatalf("%+v %v", done, err)
	}
	select {
	case <-changed:
	default:
		t.Error("nobody was told of a transaction")
	}
	if len(told) != before+1 || told[before].Vector[1] != done.Stamp.HLC {
		t.Errorf("told of %v", told[before:])
	}
	one(t, f, "SELECT n FROM likes")
	if len(told) != before+1 {
		t.Error("told of a transaction that was none")
	}
	// What main has when a turn begins is in the file in that turn.
	r.declare(tn, "ALTER TABLE crr.likes ADD COLUMN title TEXT")
	if _, err := write(f, "UPDATE likes SET title='x'"); err != nil {
		t.Error(err)
	}
	if v := f.Schema().Version; v != 2 {
		t.Errorf("schema %d", v)
	}
	// A site that is leaving, as main says, writes no more.
	r.strong(tn, func(c *sqlite.Conn) error { return c.Exec("UPDATE __crr_site SET state='leaving'") })
	if _, err := write(f, "UPDATE likes SET title='y'"); !errors.Is(err, crr.ErrLeaving) {
		t.Errorf("%v, want ErrLeaving", err)
	}
	// Power loss: what was answered was synced.
	for pragma, want := range map[string]string{"PRAGMA crr.synchronous": "2", "PRAGMA crr.journal_mode": `"wal"`} {
		if got := one(t, f, pragma); got != want {
			t.Errorf("%s is %s, want %s", pragma, got, want)
		}
	}
	// And main can't be written by it.
	if err := f.Write(t.Context(), func(w *Writer) error { return w.Conn.Exec("DELETE FROM main.__crr_ddl") }); sqlite.ErrorCode(err)&0xff != sqlite.CodeReadOnly {
		t.Errorf("main was written: %v", err)
	}
}

// Run brings open files up to main, and closes what nobody uses.
func TestRunFollowsAndCloses(t *testing.T) {
	r := newRig(t)
	m := r.manager(Config{IdleClose: 30 * time.Millisecond})
	tn := r.tenant(1)
	r.declare(tn, likes)
	f := r.site(m, tn)
	rd, err := f.NewReader(t.Context()) // keeps it open
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- m.Run(ctx) }()
	r.declare(tn, "ALTER TABLE crr.likes ADD COLUMN title TEXT")
	until(t, "the file follows", func() bool { return f.Schema().Version == 2 })
	if m.Stats.Open.Load() != 1 {
		t.Error("closed under a reader")
	}
	rd.Close()
	until(t, "the file is closed", func() bool { return m.Stats.Open.Load() == 0 })
	if _, err := write(f, "INSERT INTO likes(post) VALUES('a')"); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := write(f, "INSERT INTO likes(post) VALUES('b')"); !errors.Is(err, ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("%s: it never came", what)
		}
		timer := time.NewTimer(time.Millisecond)
		<-timer.C
	}
}

// A turn ends clean: what it left open is rolled back, and the next has a whole file; whoever waits may give up.
func TestTurns(t *testing.T) {
	r := newRig(t)
	m := r.manager(Config{})
	tn := r.tenant(1)
	r.declare(tn, likes)
	f := r.site(m, tn)
	boom := errors.New("boom")
	err := f.Write(t.Context(), func(w *Writer) error {
		must(t, w.Site.Begin())
		must(t, w.Conn.Exec("INSERT INTO likes(post) VALUES('left open')"))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := f.Sync(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("two have the turn: %v", err)
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Error(err)
	}
	if got := one(t, f, "SELECT count(*) FROM likes"); got != "0" {
		t.Errorf("%s rows of a turn that failed", got)
	}
	must(t, f.Write(t.Context(), func(w *Writer) error { w.Stale(); return nil }))
	if m.Stats.Open.Load() != 0 {
		t.Error("a stale connection is still open")
	}
	if _, err := write(f, "INSERT INTO likes(post) VALUES('a')"); err != nil {
		t.Error(err)
	}
}

// Numbers are given once, also over copies of a tenant: those of the original count for nobody there.
func TestNumbers(t *testing.T) {
	r := newRig(t)
	m := r.manager(Config{})
	tn, other := r.tenant(1), r.tenant(2)
	r.declare(tn, likes)
	f := r.site(m, tn)
	var a, b, again crr.SiteID
	id := crr.FileID{1}
	r.strong(tn, func(c *sqlite.Conn) (err error) {
		if a, err = Register(c, tn.ID(), "n2", id); err != nil {
			return err
		}
		if b, err = Register(c, other.ID(), "n2", id); err != nil { // as a copy of another tenant has it
			return err
		}
		again, err = Register(c, tn.ID(), "n2", id)
		return err
	})
	if a != 2 || b != 3 || again != a {
		t.Errorf("numbers %d %d %d", a, b, again)
	}
	must(t, f.Write(t.Context(), func(w *Writer) error {
		ms, err := Members(w.Conn.Conn, tn.ID())
		if err != nil || len(ms) != 3 || ms[1].State != crr.Active || ms[1].File != id || ms[2].State != crr.Retired {
			t.Errorf("%+v %v", ms, err)
		}
		return nil
	}))
	// A file that gives its number up gets another, never the old one.
	must(t, f.Renounce(t.Context()))
	r.site(m, tn)
	if head, err := f.Head(t.Context()); err != nil || head.Site != 4 {
		t.Errorf("%+v %v", head, err)
	}
}

// A snapshot is the file without its identity.
func TestSnapshot(t *testing.T) {
	r := newRig(t)
	m := r.manager(Config{})
	tn := r.tenant(1)
	r.declare(tn, likes)
	f := r.site(m, tn)
	if _, err := write(f, "INSERT INTO likes VALUES('a',3)"); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(r.dir, "elsewhere")
	must(t, os.Mkdir(to, 0o700))
	must(t, f.Snapshot(t.Context(), filepath.Join(to, tn.ID().String()+".db")))
	m2 := r.manager(Config{Dir: to})
	f2, err := m2.Open(t.Context(), tn)
	must(t, err)
	if got := one(t, f2, "SELECT n FROM likes"); got != "3" {
		t.Errorf("n=%s", got)
	}
	if _, err := write(f2, "UPDATE likes SET n=n+1"); !errors.Is(err, crr.ErrNoSite) {
		t.Errorf("a snapshot writes under its origin's number: %v", err)
	}
	r.site(m2, tn)
	if done, err := write(f2, "UPDATE likes SET n=n+1"); err != nil || done.Stamp.Site != 2 {
		t.Errorf("%+v %v", done, err)
	}
}

// A file ahead of main takes no writes and is not damaged; another tenant's file is refused.
func TestFilesThatDoNotFit(t *testing.T) {
	r := newRig(t)
	m := r.manager(Config{})
	tn, other := r.tenant(1), r.tenant(2)
	r.declare(tn, likes)
	r.declare(tn, "ALTER TABLE crr.likes ADD COLUMN a")
	f := r.site(m, tn)
	if _, err := write(f, "INSERT INTO likes(post) VALUES('a')"); err != nil {
		t.Fatal(err)
	}
	r.strong(tn, func(c *sqlite.Conn) error { return c.Exec("DELETE FROM __crr_ddl WHERE v=2") })
	var ahead *AheadError
	if _, err := write(f, "INSERT INTO likes(post) VALUES('b')"); !errors.As(err, &ahead) || ahead.File != 2 || ahead.Main != 1 {
		t.Errorf("%v, want AheadError", err)
	}
	// As a copy of main is that begins anew.
	r.strong(tn, func(c *sqlite.Conn) error { return c.Exec("ALTER TABLE __crr_ddl RENAME TO elsewhere") })
	if _, err := write(f, "INSERT INTO likes(post) VALUES('b')"); !errors.As(err, &ahead) || ahead.File != 2 || ahead.Main != 0 {
		t.Errorf("%v, want AheadError", err)
	}
	r.strong(tn, func(c *sqlite.Conn) error { return c.Exec("ALTER TABLE elsewhere RENAME TO __crr_ddl") })
	r.strong(tn, func(c *sqlite.Conn) error {
		return c.Exec("INSERT INTO __crr_ddl VALUES(2,'ALTER TABLE crr.likes ADD COLUMN a')")
	})
	if _, err := write(f, "INSERT INTO likes(post) VALUES('b')"); err != nil || f.Failed() != nil {
		t.Errorf("%v, %v", err, f.Failed())
	}
	m.Close()
	r.declare(other, likes)
	m2 := r.manager(Config{Dir: filepath.Join(r.dir, "mixed")})
	must(t, os.Mkdir(filepath.Join(r.dir, "mixed"), 0o700))
	b, err := os.ReadFile(m.Path(tn.ID()))
	must(t, err)
	must(t, os.WriteFile(m2.Path(other.ID()), b, 0o600))
	if _, err := m2.Open(t.Context(), other); err == nil {
		t.Error("another tenant's file was opened")
	}
	must(t, os.WriteFile(m2.Path(tn.ID()), []byte("this is no database, though it is long enough to be looked at as one: it has more than a hundred bytes in all"), 0o600))
	var damaged *DamagedError
	if _, err := m2.Open(t.Context(), tn); !errors.As(err, &damaged) || damaged.Tenant != tn.ID() {
		t.Errorf("%v, want DamagedError", err)
	}
}

// failingFS fails one operation.
type failingFS struct {
	disk.FS
	op string
}

func (f *failingFS) SyncDir(op, name string) error {
	if op == f.op {
		return errors.New("no sync")
	}
	return f.FS.SyncDir(op, name)
}

// A file whose name is not durable is not written to.
func TestNameIsDurableFirst(t *testing.T) {
	r := newRig(t)
	fsys := &failingFS{disk.OS(), "crr.sync"}
	m := r.manager(Config{FS: fsys})
	tn := r.tenant(1)
	r.declare(tn, likes)
	for range 2 {
		if _, err := m.Open(t.Context(), tn); err == nil {
			t.Fatal("opened, though its name may be lost")
		}
	}
	fsys.op = ""
	r.site(m, tn)
	if m.Path(wire.TenantID{}) == m.Path(tn.ID()) {
		t.Error("two tenants share a path")
	}
}

// The directory of files may be relative, as a node's data directory is by default.
func TestRelativeDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	r := newRig(t)
	m := r.manager(Config{Dir: filepath.Join("n1", "crr")})
	tn := r.tenant(1)
	r.declare(tn, likes)
	f := r.site(m, tn)
	if _, err := write(f, "INSERT INTO likes(post) VALUES('a')"); err != nil {
		t.Fatal(err)
	}
	if got := one(t, f, "SELECT post FROM likes"); got != `"a"` {
		t.Errorf("post=%s", got)
	}
	must(t, f.Snapshot(t.Context(), "copy.db"))
}

// A file that is put back from an older copy while the node runs, and has it closed, is found out also when nothing is missing that has left the node: it would give numbers out
// again from which pulls and pushes go on.
func TestFilePutBackUnderTheNode(t *testing.T) {
	r := newRig(t)
	m := r.manager(Config{})
	tn := r.tenant(1)
	r.declare(tn, likes)
	f := r.site(m, tn)
	if _, err := write(f, "INSERT INTO likes VALUES('a',1)"); err != nil {
		t.Fatal(err)
	}
	head, err := f.Head(t.Context())
	must(t, err)
	must(t, f.Sent(head.File, head.Vector[head.Site]))
	older := filepath.Join(t.TempDir(), "older.db")
	must(t, f.Write(t.Context(), func(w *Writer) error { return w.Conn.Exec("VACUUM crr INTO 'file:" + older + "?vfs=unix'") }))
	if _, err := write(f, "INSERT INTO likes VALUES('b',1)"); err != nil { // it has not left the node
		t.Fatal(err)
	}
	again := func(why string, number crr.SiteID) {
		t.Helper()
		f.closeNow(true)
		if why != "" {
			b, err := os.ReadFile(older)
			must(t, err)
			must(t, os.WriteFile(f.Path(), b, 0o600))
		}
		now, err := f.Head(t.Context())
		must(t, err)
		if now.Site != number {
			t.Errorf("%s: site %d, want %d", why, now.Site, number)
		}
	}
	again("", 1)
	again("put back", 0)
}
