package crrfiles

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

// register gives a file its number, as its node asks the primary to.
func (r *rig) register(t *pagestore.Tenant, node string, file crr.FileID) (site crr.SiteID) {
	r.t.Helper()
	r.strong(t, func(c *sqlite.Conn) (err error) { site, err = Register(c, t.ID(), node, file); return err })
	return site
}

// retire retires a site, with what counts of it.
func (r *rig) retire(t *pagestore.Tenant, site crr.SiteID, final crr.HLC) {
	r.t.Helper()
	r.strong(t, func(c *sqlite.Conn) error {
		return c.Exec(fmt.Sprintf("UPDATE __crr_site SET state='retired', final=%d WHERE number=%d", final, site))
	})
}

func head(t *testing.T, f *File) crr.Head {
	t.Helper()
	h, err := f.Head(t.Context())
	must(t, err)
	return h
}

func pull(t *testing.T, to, from *File) error {
	t.Helper()
	rd, err := from.NewReader(t.Context())
	must(t, err)
	defer rd.Close()
	h := head(t, from)
	return to.Write(t.Context(), func(w *Writer) error {
		return rd.Answer(w.Site.Request(h.Site, h.File), func(b []byte) error {
			_, err := w.Site.Receive(b)
			return err
		})
	})
}

// heard has two sites know what the other has.
func heard(t *testing.T, files ...*File) {
	t.Helper()
	for _, f := range files {
		for _, o := range files {
			if f != o {
				h := head(t, o)
				must(t, f.Write(t.Context(), func(w *Writer) error { return w.Site.Heard(h.Site, h.File, h.Vector) }))
			}
		}
	}
}

// copyOf writes a copy of a file as other nodes get it.
func copyOf(t *testing.T, f *File) func(context.Context, io.Writer) error {
	return func(ctx context.Context, w io.Writer) error {
		path := filepath.Join(t.TempDir(), "copy.db")
		if err := f.Snapshot(ctx, path); err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil {
			_, err = w.Write(b)
		}
		return err
	}
}

func rows(t *testing.T, f *File) string {
	t.Helper()
	return one(t, f, "SELECT group_concat(post||n, ' ' ORDER BY post) FROM likes")
}

// away is a tenant with two sites, of which one was cut off, wrote what nobody has, and was retired; the other has forgotten deletes since.
type away struct {
	*rig
	tn   *pagestore.Tenant
	peer *File
	dir  string // of the one that was away
	was  crr.SiteID
}

func newAway(t *testing.T) *away {
	a := &away{rig: newRig(t)}
	a.tn = a.tenant(1)
	a.declare(a.tn, likes)
	a.dir = filepath.Join(a.rig.dir, "away")
	m := New(Config{Dir: a.dir})
	defer m.Close()
	f := a.site(m, a.tn)
	a.was = head(t, f).Site
	pm := a.manager(Config{Dir: filepath.Join(a.rig.dir, "peer")})
	var err error
	a.peer, err = pm.Open(t.Context(), a.tn)
	must(t, err)
	a.register(a.tn, "n2", head(t, a.peer).File)
	put := func(f *File, sqls ...string) {
		for _, sql := range sqls {
			if _, err := write(f, sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	put(f, "INSERT INTO likes VALUES('x',1)", "INSERT INTO likes VALUES('gone',1)", "INSERT INTO likes VALUES('drop',1)")
	must(t, pull(t, a.peer, f))
	must(t, pull(t, f, a.peer))
	put(f, "UPDATE likes SET n=n+10 WHERE post='x'", "INSERT INTO likes VALUES('mine',7)", "DELETE FROM likes WHERE post='drop'")
	put(a.peer, "UPDATE likes SET n=n+100 WHERE post='x'", "DELETE FROM likes WHERE post='gone'")
	a.retire(a.tn, a.was, head(t, a.peer).Vector[a.was])
	must(t, a.peer.Write(t.Context(), func(w *Writer) error {
		got, err := w.Site.Sweep(100)
		if err != nil || got.Tombstones != 1 {
			t.Errorf("collected %+v, %v", got, err)
		}
		return nil
	}))
	return a
}

// bringBack does what the node does, from where its disk says that it was.
func (a *away) bringBack(m *Manager) (f *File, err error) {
	ctx := context.Background()
	if f, err = m.Open(ctx, a.tn); err != nil {
		return nil, err
	}
	own := []crr.SiteID{}
	if err := f.Write(ctx, func(w *Writer) error {
		all, err := w.Sites(a.tn.ID())
		for _, s := range all {
			if s.Node == "n1" {
				own = append(own, s.Site)
			}
		}
		return err
	}); err != nil {
		return nil, err
	}
	if f.Ended() {
		next, err := f.Next()
		if err != nil {
			return nil, err
		}
		a.register(a.tn, "n1", next)
		path, err := f.Fetch(ctx, copyOf(a.t, a.peer))
		if err != nil {
			return nil, err
		}
		if _, err := f.Replace(ctx, path, own, false); err != nil {
			return nil, err
		}
	}
	if err := f.Sync(ctx); err != nil {
		return nil, err
	}
	kept, err := f.Kept()
	if err != nil {
		return nil, err
	}
	for _, k := range kept {
		if _, err := f.Salvage(ctx, k, own, false); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// A file that was away is replaced, and what only it had written anew; the process may end before any operation on its files. Nothing is lost or counted twice, and
// nothing is left over.
func TestReturnCrashesAtEachStep(t *testing.T) {
	for n := 1; ; n++ {
		crashed := false
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			a := newAway(t)
			faults := disktest.NewFaults(disk.OS())
			faults.CrashNth(n)
			m := New(Config{Dir: a.dir, FS: faults})
			_, err := a.bringBack(m)
			crashed = err != nil
			if crashed && !errors.Is(err, disktest.ErrCrashed) {
				t.Fatal(err)
			}
			m.Close()
			m = a.manager(Config{Dir: a.dir})
			f, err := a.bringBack(m)
			must(t, err)
			const want = `"mine7 x111"`
			if got := rows(t, f); got != want {
				t.Errorf("it has %s, want %s", got, want)
			}
			must(t, pull(t, a.peer, f))
			must(t, pull(t, f, a.peer))
			if got := rows(t, a.peer); got != want {
				t.Errorf("its peer has %s, want %s", got, want)
			}
			if h := head(t, f); h.Site == a.was || h.Site == 0 {
				t.Errorf("it has number %d", h.Site)
			}
			if _, err := write(f, "UPDATE likes SET n=n+1 WHERE post='x'"); err != nil {
				t.Error(err)
			}
			names, err := os.ReadDir(a.dir)
			must(t, err)
			for _, e := range names {
				rest := strings.TrimPrefix(e.Name(), a.tn.ID().String()+".db")
				if rest != "" && rest != "-wal" && rest != "-shm" && rest != ".sent" {
					t.Errorf("left over: %s", e.Name())
				}
			}
		})
		if t.Failed() {
			break
		}
		if !crashed {
			if n < 15 {
				t.Errorf("there were %d operations only", n-1)
			}
			break
		}
	}
}

// Not the copy, but the file itself is written on until the moment that it is replaced in: a write that came between is salvaged, too.
func TestWritesUntilItIsReplaced(t *testing.T) {
	r := newRig(t)
	tn := r.tenant(1)
	r.declare(tn, likes)
	m := r.manager(Config{})
	f := r.site(m, tn)
	peer, err := r.manager(Config{Dir: filepath.Join(r.dir, "peer")}).Open(t.Context(), tn)
	must(t, err)
	r.register(tn, "n2", head(t, peer).File)
	if _, err := write(f, "INSERT INTO likes VALUES('x',1)"); err != nil {
		t.Fatal(err)
	}
	must(t, pull(t, peer, f))
	if _, err := write(peer, "UPDATE likes SET n=n+1"); err != nil {
		t.Fatal(err)
	}
	path, err := f.Fetch(t.Context(), copyOf(t, peer))
	must(t, err)
	if _, err := write(f, "UPDATE likes SET n=n+5"); err != nil {
		t.Fatal(err)
	}
	kept, err := f.Replace(t.Context(), path, []crr.SiteID{1}, false)
	if err != nil || !kept {
		t.Fatal(kept, err)
	}
	if _, err := write(f, "UPDATE likes SET n=n+1"); !errors.Is(err, crr.ErrNoSite) {
		t.Fatalf("it writes without a number: %v", err)
	}
	r.register(tn, "n1", head(t, f).File)
	list, err := f.Kept()
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if _, err := f.Salvage(t.Context(), list[0], []crr.SiteID{1, 3}, true); !errors.Is(err, ErrNotSettled) {
		t.Fatalf("salvaged while others may still take what it wrote: %v", err)
	}
	r.retire(tn, 1, head(t, peer).Vector[1]+1)
	if _, err := f.Salvage(t.Context(), list[0], []crr.SiteID{1, 3}, false); !errors.Is(err, ErrNotSettled) {
		t.Fatalf("salvaged while others have what is not here: %v", err)
	}
	got, err := f.Salvage(t.Context(), list[0], []crr.SiteID{1, 3}, true)
	if err != nil || got.Rows != 1 {
		t.Fatal(got, err)
	}
	if got := rows(t, f); got != `"x7"` {
		t.Errorf("got %s", got)
	}
	if s := &m.Stats; s.Replaced.Load() != 1 || s.Salvaged.Load() != 1 || s.SalvagedRows.Load() != 1 {
		t.Error("it is not counted")
	}
	if list, err := f.Kept(); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
}

// What is not to take the place of a file: damaged copies, those of others, of the future, or with what does not count. The file stays as it is, and in service.
func TestCopiesThatAreRefused(t *testing.T) {
	a := newAway(t)
	m := a.manager(Config{Dir: a.dir})
	f, err := m.Open(t.Context(), a.tn)
	must(t, err)
	before := rows(t, f)
	var whole bytes.Buffer
	must(t, copyOf(t, a.peer)(t.Context(), &whole))
	fetch := func(b []byte, err error) (string, error) {
		return f.Fetch(t.Context(), func(_ context.Context, w io.Writer) error {
			_, werr := w.Write(b)
			return errors.Join(werr, err)
		})
	}
	changed := func(sql string) []byte {
		path := filepath.Join(t.TempDir(), "c.db")
		must(t, os.WriteFile(path, whole.Bytes(), 0o600))
		c, err := sqlite.Open(":memory:", "", sqlite.ReadWrite|sqlite.Create|sqlite.URI)
		must(t, err)
		must(t, c.Exec("ATTACH '"+uriOf(path)+"' AS crr"))
		for _, name := range []string{"crr_local", "crr_lseq"} {
			must(t, c.RegisterFunc(name, 0, sqlite.Innocuous, func(x *sqlite.Context, _ []sqlite.Arg) { x.Integer(0) }))
		}
		for _, name := range []string{"crr_changed", "crr_floats", "crr_ins", "crr_upd", "crr_del", "crr_key"} {
			must(t, c.RegisterFunc(name, -1, sqlite.Innocuous, func(x *sqlite.Context, _ []sqlite.Arg) { x.Integer(0) }))
		}
		must(t, c.Exec(sql))
		must(t, c.Close())
		b, err := os.ReadFile(path)
		must(t, err)
		return b
	}
	cut := whole.Bytes()[:whole.Len()-5000]
	rotten := bytes.Clone(whole.Bytes())
	copy(rotten[8192-100:8192], bytes.Repeat([]byte{0xff}, 100))
	for what, b := range map[string][]byte{
		"nothing": nil, "no file of SQLite's": bytes.Repeat([]byte("x"), 9000), "one that ends too early": cut, "one with a rotten page": rotten,
		"another tenant's":                      changed("UPDATE crr.__crr_self SET tenant='other'"),
		"one with a number":                     changed("UPDATE crr.__crr_self SET site=2, hlc=1"),
		"one whose counter shows another":       changed("UPDATE crr.likes SET n=n+1 WHERE post='x'"),
		"one with a row that has no metadata":   changed("INSERT INTO crr.likes VALUES('y',1)"),
		"one with metadata that has no row":     changed("DELETE FROM crr.likes WHERE post='x'"),
		"one stamped above what it says it has": changed("DELETE FROM crr.__crr_vv"),
	} {
		_, err := fetch(b, nil)
		if !errors.As(err, new(*crr.CopyError)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := fetch(whole.Bytes(), errors.New("cut off")); err == nil {
		t.Error("a copy was taken whose sender failed")
	}
	for what, b := range map[string][]byte{
		"the future":             changed(fmt.Sprintf("UPDATE crr.__crr_vv SET hlc=%d WHERE site=2", uint64(time.Now().Add(time.Hour).UnixMilli())<<16)),
		"what does not count":    changed(fmt.Sprintf("UPDATE crr.__crr_vv SET hlc=hlc+1 WHERE site=%d", a.was)),
		"a site that is none":    changed("INSERT INTO crr.__crr_vv VALUES(99,1)"),
		"a schema that is newer": changed("UPDATE crr.__crr_self SET schema=2"),
		"a view for a table":     changed("DROP TABLE crr.__crr_vv; CREATE VIEW crr.__crr_vv AS SELECT 1 AS site, 2 AS hlc"),
	} {
		path, err := fetch(b, nil)
		if err == nil {
			_, err = f.Replace(t.Context(), path, []crr.SiteID{a.was}, false)
		}
		if err == nil {
			t.Errorf("a copy with %s was taken", what)
		}
	}
	if f.Failed() != nil || rows(t, f) != before || head(t, f).Site != a.was {
		t.Errorf("the file is not what it was: %v, %s", f.Failed(), rows(t, f))
	}
	// A copy that lacks what came from a third site is taken only if nothing else is to be had.
	third, err := a.manager(Config{Dir: filepath.Join(a.rig.dir, "third")}).Open(t.Context(), a.tn)
	must(t, err)
	a.register(a.tn, "n3", head(t, third).File)
	if _, err := write(third, "INSERT INTO likes VALUES('third',1)"); err != nil {
		t.Fatal(err)
	}
	must(t, pull(t, f, third))
	path, err := fetch(whole.Bytes(), nil)
	must(t, err)
	var lacks *LacksError
	if _, err := f.Replace(t.Context(), path, []crr.SiteID{a.was}, false); !errors.As(err, &lacks) || lacks.Site != head(t, third).Site {
		t.Errorf("%v, want LacksError", err)
	}
	if kept, err := f.Replace(t.Context(), path, []crr.SiteID{a.was}, true); err != nil || !kept {
		t.Error(kept, err)
	}
}

// The disk is full while a file is kept, or replaced: it stays what it was, and it works when there is room.
func TestReplaceOnAFullDisk(t *testing.T) {
	a := newAway(t)
	for _, op := range []string{"crr.fetch.create", "crr.keep.sync", "crr.keep.rename", "crr.sent.*"} {
		faults := disktest.NewFaults(disk.OS())
		faults.Fail(op, 1, errors.New("no space"))
		m := New(Config{Dir: a.dir, FS: faults})
		if _, err := a.bringBack(m); err == nil {
			t.Errorf("%s: it did not fail", op)
		}
		if f, err := m.Open(t.Context(), a.tn); err != nil || !f.Ended() || rows(t, f) != `"gone1 mine7 x11"` {
			t.Errorf("%s: %v", op, err)
		}
		m.Close()
	}
	f, err := a.bringBack(a.manager(Config{Dir: a.dir}))
	must(t, err)
	if got := rows(t, f); got != `"mine7 x111"` {
		t.Errorf("got %s", got)
	}
}

// An older copy of a file in its place is found out before it writes, by the record beside it: also when that is lost, or of another file.
func TestOlderFile(t *testing.T) {
	for _, how := range []string{"recorded", "not recorded", "torn record", "record of another file", "not older"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t)
			tn := r.tenant(1)
			r.declare(tn, likes)
			dir := filepath.Join(r.dir, "crr")
			m := New(Config{Dir: dir})
			f := r.site(m, tn)
			path := f.Path()
			if _, err := write(f, "INSERT INTO likes VALUES('x',1)"); err != nil {
				t.Fatal(err)
			}
			m.Close()
			old, err := os.ReadFile(path)
			must(t, err)
			m = New(Config{Dir: dir})
			f = r.site(m, tn)
			done, err := write(f, "UPDATE likes SET n=n+1")
			must(t, err)
			must(t, f.Sent(head(t, f).File, done.Stamp.HLC))
			if err := f.Sent(crr.FileID{1}, done.Stamp.HLC); err == nil {
				t.Error("what another file sent was noted")
			}
			m.Close()
			record, err := os.ReadFile(path + ".sent")
			must(t, err)
			switch how {
			case "not recorded":
				must(t, os.Remove(path+".sent"))
			case "torn record":
				for i := range record {
					record[i] ^= 1
				}
				must(t, os.WriteFile(path+".sent", record, 0o600))
			case "record of another file":
				must(t, os.WriteFile(path+".sent", appendSent(nil, 9, sent{file: crr.FileID{1}}), 0o600))
			}
			if how != "not older" {
				must(t, os.WriteFile(path, old, 0o600))
			}
			m = r.manager(Config{Dir: dir})
			f, err = m.Open(t.Context(), tn)
			must(t, err)
			_, err = write(f, "UPDATE likes SET n=n+1")
			if how == "not older" {
				if err != nil || head(t, f).Site != 1 || m.Stats.Rewound.Load() != 0 {
					t.Errorf("%v, %+v", err, head(t, f))
				}
				return
			}
			if !errors.Is(err, crr.ErrNoSite) || m.Stats.Rewound.Load() != 1 {
				t.Fatalf("an older file writes: %v", err)
			}
			f = r.site(m, tn)
			if _, err = write(f, "UPDATE likes SET n=n+1"); err != nil || head(t, f).Site != 2 {
				t.Errorf("%v, %+v", err, head(t, f))
			}
		})
	}
}

// A node whose clock is far from the others' takes no local writes, and merges on.
func TestClockIsAhead(t *testing.T) {
	r := newRig(t)
	tn := r.tenant(1)
	r.declare(tn, likes)
	ahead := time.Duration(0)
	f := r.site(r.manager(Config{Ahead: func() time.Duration { return ahead }}), tn)
	if _, err := write(f, "INSERT INTO likes VALUES('x',1)"); err != nil {
		t.Fatal(err)
	}
	ahead = time.Minute
	if _, err := write(f, "INSERT INTO likes VALUES('y',1)"); !errors.As(err, new(*crr.ClockError)) {
		t.Errorf("%v, want ClockError", err)
	}
	ahead = time.Second
	if _, err := write(f, "INSERT INTO likes VALUES('y',1)"); err != nil {
		t.Error(err)
	}
}

// Deletes are forgotten once all sites have them, in short turns beside the writers, and the space is used again.
func TestSpaceOfDeletedRowsIsUsedAgain(t *testing.T) {
	r := newRig(t)
	tn := r.tenant(1)
	r.declare(tn, likes)
	m := r.manager(Config{})
	f := r.site(m, tn)
	peer, err := r.manager(Config{Dir: filepath.Join(r.dir, "peer")}).Open(t.Context(), tn)
	must(t, err)
	r.register(tn, "n2", head(t, peer).File)
	size := func() string { return one(t, f, "PRAGMA crr.page_count") }
	first := ""
	for round := range 4 {
		sql := fmt.Sprintf("WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM i WHERE n<10000) INSERT INTO likes SELECT 'round %d, row '||n, 1 FROM i", round)
		if _, err := write(f, sql); err != nil {
			t.Fatal(err)
		}
		if round == 1 {
			first = size()
		}
		if _, err := write(f, "DELETE FROM likes"); err != nil {
			t.Fatal(err)
		}
		before := m.Stats.Tombstones.Load()
		must(t, f.sweep(t.Context()))
		if n := m.Stats.Tombstones.Load() - before; n != 0 {
			t.Fatalf("%d tombstones were dropped that another site lacks", n)
		}
		must(t, pull(t, peer, f))
		heard(t, f, peer)
		must(t, pull(t, f, peer))
		used := f.used()
		must(t, f.sweep(t.Context()))
		if n := m.Stats.Tombstones.Load() - before; n != 10000 {
			t.Fatalf("%d tombstones were dropped", n)
		}
		if f.used() != used {
			t.Error("a file that nobody uses stays open for that")
		}
	}
	if first != size() {
		t.Errorf("the file has %s pages, and had %s", size(), first)
	}
}
