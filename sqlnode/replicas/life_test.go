package replicas

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/tenant"
)

// files calls f with the name and content of each file below dir.
func files(t *testing.T, fs disk.FS, dir string, f func(name string, b []byte)) {
	t.Helper()
	names, err := fs.ReadDir("test", dir)
	must(t, err)
	for _, n := range names {
		path := filepath.Join(dir, n.Name())
		if n.IsDir() {
			files(t, fs, path, f)
			continue
		}
		b, err := disk.ReadFile(fs, "test", path, 1<<30)
		must(t, err)
		f(path, b)
	}
}

// TestDrop drops a copy: nothing of it is left on the disk, its connections are refused, and it can be followed again, also at
// once.
func TestDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		v := w.voter("v", testGroup)
		id, other := filled(v, 1), filled(v, 2)
		v.write(id, "insert into t(a,b) values(1, 'the secret of this tenant')")
		r := w.replica("r", "v")
		r.follow(id)
		r.follow(other)
		r.joined(id)
		r.joined(other)
		left := func() (l []string) {
			files(t, r.fs, "/data/replicas", func(name string, b []byte) {
				if bytes.Contains(b, []byte("the secret of this tenant")) || bytes.Contains([]byte(name), []byte(id.String())) {
					l = append(l, name)
				}
			})
			return l
		}
		for round := range 4 {
			v.write(id, "update t set b = b where id = 2001", "update t set a = a + 1 where id > 1990")
			w.same(id, r, v)
			if round > 0 {
				time.Sleep(10 * time.Second) // a checkpoint
			}
			tn := r.tenant(id)
			s, err := tn.Acquire()
			must(t, err)
			c, err := s.OpenReader(nil)
			must(t, err)
			if len(left()) == 0 {
				t.Fatal("nothing of it is on the disk before")
			}
			r.follower.Unfollow(id)
			must(t, r.set.Drop(t.Context(), id))
			if _, ok := r.set.Tenant(id); ok || r.set.Head(id).Epoch != 0 {
				t.Fatal("it is still there")
			}
			if _, err := queryOn(c, "select count(*) from t"); !errors.Is(err, pagestore.ErrNoTenant) {
				t.Fatalf("a connection to it: %v", err)
			}
			c.Close()
			tn.Release()
			must(t, r.set.Drop(t.Context(), id)) // there is none
			if round != 1 {
				must(t, r.set.Erase(t.Context()))
				if l := left(); len(l) > 0 {
					t.Fatalf("round %d: left on the disk: %v", round, l)
				}
			}
			if round == 2 {
				r.stop()
				r.start()
				if _, ok := r.set.Tenant(id); ok {
					t.Fatal("it is back after a restart")
				}
				r.follow(other)
			}
			r.follow(id)
			r.joined(id)
			w.same(id, r, v)
			w.same(other, r, v)
			if round == 3 {
				r.stop()
				r.start()
				r.follow(id)
				r.follow(other)
				w.same(id, r, v)
				w.same(other, r, v)
			}
		}
	})
}

// TestLife takes a tenant through its life while it is followed.
func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		v := w.voter("v", testGroup)
		id := v.create(1)
		r := w.replica("r", "v")
		relay := w.replica("relay", "r")
		for _, n := range []*node{r, relay} {
			n.follow(id)
			n.joined(id)
		}
		now := func() time.Time { return tenant.Millis(time.Now()) }
		check := func(what string, ok func(tenant.Tenant) bool) {
			t.Helper()
			for _, n := range []*node{r, relay} {
				w.eventually(what+" at "+n.name, func() bool { return ok(n.tenant(id).Record()) })
			}
		}
		v.write(id, "create table t(a)") // the first transaction follows an empty copy
		for _, n := range []*node{r, relay} {
			w.same(id, n, v)
		}
		must(t, v.control(id, tenant.Renamed{Time: now(), Name: "other"}))
		check("renamed", func(r tenant.Tenant) bool { return r.Name == "other" })
		must(t, v.control(id, tenant.PlacementChanged{Time: now(), Policy: 2}))
		check("policy", func(r tenant.Tenant) bool { return r.Policy == 2 })
		if p := r.set.Head(id).Policy; p != 2 {
			t.Fatalf("the head has policy %d", p)
		}
		must(t, v.control(id, tenant.Frozen{Time: now()}))
		check("frozen", func(r tenant.Tenant) bool { return r.State == tenant.StateFrozen })
		must(t, v.control(id, tenant.Thawed{Time: now()}))
		v.write(id, "insert into t values(1)")
		must(t, v.control(id, tenant.Deleted{Time: now()}))
		check("deleted", func(r tenant.Tenant) bool { return r.State == tenant.StateDeleted })
		must(t, v.control(id, tenant.Undeleted{Time: now(), Name: "third"}))
		check("undeleted", func(r tenant.Tenant) bool { return r.State == tenant.StateActive && r.Name == "third" })
		for _, n := range []*node{r, relay} {
			if s := &n.set.Stats; s.Copies.Load() != 1 || s.Changes.Load() != 0 {
				t.Fatalf("%s: %d copies, %d changes", n.name, s.Copies.Load(), s.Changes.Load())
			}
		}
		must(t, v.control(id, tenant.Deleted{Time: now()}))
		must(t, v.control(id, tenant.Purged{Time: now()}))
		for _, n := range []*node{r, relay} {
			w.eventually("purged at "+n.name, func() bool { _, ok := n.set.Tenant(id); return !ok })
			w.eventually("no file at "+n.name, func() bool {
				left := 0
				files(t, n.fs, "/data/replicas", func(name string, _ []byte) {
					if bytes.Contains([]byte(name), []byte(id.String())) {
						left++
					}
				})
				return left == 0
			})
		}
	})
}

// TestRot flips a bit of a copy's base: nobody reads it as if it were right, and the copy is replaced.
func TestRot(t *testing.T) {
	for _, scrub := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			v := w.voter("v", testGroup)
			id := filled(v, 1)
			r := w.replica("r", "v")
			r.follow(id)
			r.joined(id)
			v.write(id, "update t set b = 'x' where id = 3")
			time.Sleep(30 * time.Second)
			flipped := 0
			files(t, r.fs, "/data/replicas/7/bases", func(name string, b []byte) {
				if filepath.Ext(name) != ".db" {
					return
				}
				f, err := r.fs.OpenFile("test", name, 2, 0)
				must(t, err)
				defer f.Close()
				at := int64(len(b) - 700)
				_, err = f.WriteAt([]byte{b[at] ^ 1}, at)
				must(t, err)
				flipped++
			})
			if flipped != 1 {
				t.Fatalf("%d bases", flipped)
			}
			if !scrub {
				if got, err := query(r.tenant(id), "select sum(length(b)) from t"); err == nil {
					t.Fatalf("the page was read: %s", got)
				}
			}
			w.eventually("another copy", func() bool {
				time.Sleep(time.Second)
				return r.set.Stats.Copies.Load() == 2
			})
			w.same(id, r, v)
			if n := r.set.Stats.Rebuilt.Load(); n != 1 {
				t.Fatalf("rebuilt %d times", n)
			}
			if got, err := query(r.tenant(id), "pragma integrity_check"); err != nil || got != "ok" {
				t.Fatalf("%s, %v", got, err)
			}
			v.write(id, "insert into t(a) values(1)")
			w.same(id, r, v)
		})
	}
}

// TestWipe starts on files that are damaged where no single copy can be blamed: all is fetched anew.
func TestWipe(t *testing.T) {
	for _, which := range []string{"progress", "manifest", "origin"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			v := w.voter("v", testGroup)
			id := filled(v, 1)
			r := w.replica("r", "v")
			r.follow(id)
			r.joined(id)
			v.write(id, "update t set b = 'x' where id = 3")
			time.Sleep(30 * time.Second)
			r.stop()
			f, err := r.fs.OpenFile("test", "/data/replicas/7/"+which, 2, 0)
			must(t, err)
			_, err = f.WriteAt([]byte("garbage"), 3)
			must(t, err)
			f.Close()
			r.start()
			if tn := r.tenant(id); tn != nil {
				if b, st, err := dump(tn); err == nil {
					want, wantState, _ := dump(v.tenant(id))
					if st == wantState && !bytes.Equal(b, want) {
						t.Fatalf("%s damaged: another state counts as %s", which, st)
					}
				}
			}
			r.follow(id)
			w.same(id, r, v)
			time.Sleep(30 * time.Second)
			r.stop()
			r.start()
			r.follow(id)
			w.same(id, r, v)
		})
	}
}
