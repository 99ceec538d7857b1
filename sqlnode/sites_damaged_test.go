package sqlnode

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/crr"
)

// damage changes a file while its node is down.
func damageFile(t *testing.T, path string, change func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []string{"-wal", "-shm"} {
		if err := os.Remove(path + end); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func flipHeader(b []byte) []byte {
	for i := range 16 {
		b[i] ^= 0xff
	}
	return b
}

// flipFiller spoils a page that has nothing but rows of the table filler.
func flipFiller(t *testing.T) func(b []byte) []byte {
	return func(b []byte) []byte {
		const page = 4096
		best, most := 0, 0
		for at := page; at+page <= len(b); at += page {
			if n := bytes.Count(b[at:at+page], []byte("filling-")); n > most && b[at] == 13 { // a leaf of a table
				best, most = at, n
			}
		}
		if most < 10 {
			t.Fatal("the file has no page of the filler")
		}
		for i := range 64 {
			b[best+i] ^= 0xa5
		}
		return b
	}
}

// A damaged file is replaced by another site's, by itself when it can't be opened and by command otherwise. The damaged one stays aside, all that others
// have is there, and what can be read and nobody else has is written anew.
func TestDamagedFileIsRebuilt(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(t *testing.T) func([]byte) []byte
		command bool
		saved   bool // unsent writes are in the part that can be read
		record  bool // it is known what it had sent
	}{
		"header":                {func(*testing.T) func([]byte) []byte { return flipHeader }, false, false, true},
		"header, and no record": {func(*testing.T) func([]byte) []byte { return flipHeader }, true, false, false},
		"truncated":             {func(*testing.T) func([]byte) []byte { return func(b []byte) []byte { return b[:len(b)/2/4096*4096] } }, false, false, true},
		"middle":                {flipFiller, true, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newAwayWorld(t)
				was := w.head("n3").Site
				path := w.file("n3").Path()
				w.node("n1").sql(t, "acme", "", "create table crr.filler(id int primary key not null, v text)")
				w.try("n3", "with recursive k(i) as (select 1 union all select i+1 from k where i<300) insert into crr.filler select i, 'filling-'||i||'-filling-'||i from k")
				w.same(`[["drop",1,null],["gone",1,null],["x",4,"first"]]`, "n1", "n2", "n3")
				time.Sleep(5 * time.Second)
				sum := 4
				if c.saved {
					w.cut("n3")
					w.try("n3", "update crr.likes set n = n + 10 where post = 'x'")
					w.try("n3", "insert into crr.likes values('mine', 7, 'only n3')")
					sum += 10
				}
				if err := w.halt("n3"); err != nil && !strings.Contains(err.Error(), "canceled") {
					t.Fatal(err)
				}
				damageFile(t, path, c.change(t))
				if !c.record {
					if err := os.Remove(path + ".sent"); err != nil {
						t.Fatal(err)
					}
				}
				w.try("n1", "update crr.likes set n = n + 1 where post = 'x'")
				sum++
				w.net.HealAll()
				w.start("n3")
				w.await(time.Minute, func() string { return ready(w.node("n3")) })
				if c.command {
					time.Sleep(time.Minute)
					if w.node("n3").sites.files.Stats.Rebuilt.Load() != 0 {
						t.Fatal("it was rebuilt, and nobody asked for it")
					}
					w.await(time.Minute, func() string {
						status, text := w.node("n1").do("POST", "/v1/tenants/acme/crr/rebuild", `{"node":"n3"}`)
						if status != 200 || !strings.Contains(text, fmt.Sprintf(`"salvaging":%v`, c.saved)) || !strings.Contains(text, `"pending":false`) {
							return fmt.Sprintf("%d %s", status, text)
						}
						return ""
					})
				}
				w.await(3*time.Minute, func() string {
					if n := w.node("n3").sites.files.Stats.Rebuilt.Load(); n != 1 {
						return fmt.Sprintf("rebuilt %d times", n)
					}
					return ""
				})
				w.settled("n3", was)
				want := fmt.Sprintf(`[["drop",1,null],["gone",1,null],["x",%d,"first"]]`, sum)
				if c.saved {
					want = fmt.Sprintf(`[["drop",1,null],["gone",1,null],["mine",7,"only n3"],["x",%d,"first"]]`, sum)
				}
				w.same(want, "n1", "n2", "n3")
				if got := w.node("n3").sql(t, "acme", "?max_staleness=any", "select count(*), count(distinct v) from crr.filler"); got != "[[300,300]]" {
					t.Errorf("the filler has %s", got)
				}
				if aside, err := filepath.Glob(strings.TrimSuffix(path, ".db") + ".damaged-*.db"); err != nil || len(aside) != 1 {
					t.Errorf("set aside are %v, %v", aside, err)
				}
				if got := w.node("n3").want(t, "POST", "/v1/tenants/acme/crr/rebuild", `{}`, 409); !strings.Contains(got, "whole") {
					t.Error(got)
				}
				w.try("n3", "update crr.likes set n = n + 1 where post = 'x'")
				w.same(strings.Replace(want, fmt.Sprint(sum), fmt.Sprint(sum+1), 1), "n1", "n2", "n3")
				// The number that it had is retired, so that deletes are forgotten again.
				w.await(3*time.Minute, func() string {
					if st := w.state("n1", was).State; st != crr.Retired {
						return fmt.Sprintf("site %d is %v", was, st)
					}
					return ""
				})
			})
		})
	}
}

// A file that is found to be damaged while it is in use is rebuilt by command; who reads sees the new one then.
func TestDamagedFileInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newAwayWorld(t)
		was := w.head("n3").Site
		w.file("n3").Suspect(fmt.Errorf("%w: as by the disk", crr.ErrCorrupt))
		time.Sleep(3 * time.Minute)
		if w.node("n3").sites.files.Stats.Rebuilt.Load() != 0 {
			t.Error("a file that can be opened was rebuilt, and nobody asked for it")
		}
		if got := w.node("n3").want(t, "GET", "/v1/tenants/acme/crr", "", 200); !strings.Contains(got, `"problem":`) || !strings.Contains(got, "nearsql crr rebuild") {
			t.Error(got)
		}
		if got := w.node("n3").want(t, "POST", "/v1/tenants/acme/crr/rebuild", `{}`, 200); !strings.Contains(got, `"pending":false`) {
			t.Error(got)
		}
		w.settled("n3", was)
		w.try("n1", "update crr.likes set n = n + 1 where post = 'x'")
		w.try("n3", "update crr.likes set n = n + 1 where post = 'x'")
		w.same(`[["drop",1,null],["gone",1,null],["x",6,"first"]]`, "n1", "n2", "n3")
	})
}

// The only site can't be rebuilt: it stays out of service, and says what to do; the strong tables are served on.
func TestDamagedFileOfTheOnlySite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t)
		defer s.close()
		a := s.start("n1")
		s.await(time.Minute, func() string { return ready(a) })
		a.want(t, "POST", "/v1/tenants", `{"name":"acme"}`, 201)
		a.sql(t, "acme", "", "create table t(a)")
		a.sql(t, "acme", "", "create table crr.likes(post text primary key not null, n counter not null default 0)")
		a.sql(t, "acme", "", "insert into crr.likes values('x', 1)")
		path, err := filepath.Glob(filepath.Join(a.cfg.DataDir, "crr", "*.db"))
		if err != nil || len(path) != 1 {
			t.Fatal(path, err)
		}
		if err := s.halt("n1"); err != nil && !strings.Contains(err.Error(), "canceled") {
			t.Fatal(err)
		}
		damageFile(t, path[0], flipHeader)
		a = s.start("n1")
		s.await(time.Minute, func() string { return ready(a) })
		time.Sleep(5 * time.Minute)
		if got := code(a.want(t, "POST", "/v1/tenants/acme/sql", `{"sql":"select * from crr.likes"}`, 500)); got != "CORRUPT" {
			t.Error(got)
		}
		if got := a.want(t, "POST", "/v1/tenants/acme/crr/rebuild", `{}`, 500); !strings.Contains(got, "only site") || !strings.Contains(got, "backup") || !strings.Contains(got, path[0]) || code(got) != "CORRUPT" {
			t.Error(got)
		}
		a.sql(t, "acme", "", "insert into t values(1)")
		if b, err := os.ReadFile(path[0]); err != nil || b[0] != 'S'^0xff {
			t.Errorf("the damaged file was touched: %v", err)
		}
	})
}
