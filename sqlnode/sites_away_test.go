package sqlnode

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
)

// awayWorld is three nodes with a tenant that has conflict-free tables.
type awayWorld struct {
	*simulation
	skew atomic.Int64 // of n3's clock, or of all
}

func newAwayWorld(t *testing.T) *awayWorld { return newAwayWorldWith(t, nil) }

// newAwayWorldWith has tune change the configuration of all nodes, whose clocks go together then.
func newAwayWorldWith(t *testing.T, tune func(*Config)) *awayWorld {
	w := &awayWorld{simulation: newSimulation(t)}
	w.tune = func(cfg *Config) {
		if tune != nil {
			tune(cfg)
		}
		if cfg.NodeID == "n3" || tune != nil {
			cfg.Now = func() time.Time { return time.Now().Add(time.Duration(w.skew.Load())) }
		}
	}
	t.Cleanup(w.close)
	w.log = simLog(t)
	a := w.start("n1")
	w.await(time.Minute, func() string { return ready(a) })
	b, c := w.start("n2", "n1"), w.start("n3", "n1")
	w.awaitVoters("n1", "default", 3)
	w.await(time.Minute, func() string { return ready(b) + ready(c) })
	a.want(t, "POST", "/v1/tenants", `{"name":"acme"}`, 201)
	a.sql(t, "acme", "", "create table crr.likes(post text primary key not null, n counter not null default 0, title text)")
	for _, id := range []string{"n1", "n2", "n3"} {
		w.await(time.Minute, func() string {
			if w.file(id).Number() == 0 {
				return id + " is no site yet"
			}
			return ""
		})
	}
	w.try("n1", "insert into crr.likes values('x', 1, 'first'), ('gone', 1, null), ('drop', 1, null)")
	w.same(`[["drop",1,null],["gone",1,null],["x",1,"first"]]`, "n1", "n2", "n3")
	for _, id := range []string{"n1", "n2", "n3"} {
		w.try(id, "update crr.likes set n = n + 1 where post = 'x'")
	}
	w.same(`[["drop",1,null],["gone",1,null],["x",4,"first"]]`, "n1", "n2", "n3")
	return w
}

// try runs a statement that writes, until it is taken.
func (w *awayWorld) try(id, sql string) {
	w.t.Helper()
	w.await(2*time.Minute, func() string {
		status, text := w.node(id).do("POST", "/v1/tenants/acme/sql?max_staleness=any", `{"sql":"`+sql+`"}`)
		if status != 200 {
			return fmt.Sprintf("%s: %s: %d %s", id, sql, status, text)
		}
		return ""
	})
}

// same waits until all have the same rows.
func (w *awayWorld) same(want string, ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		w.await(3*time.Minute, func() string { // the files, and not what others answer for a node
			if a, b := w.head(ids[0]), w.head(id); a.Hash != b.Hash {
				return fmt.Sprintf("%s has %s, %s has %s", ids[0], a.Vector, id, b.Vector)
			}
			return ""
		})
		w.await(3*time.Minute, func() string {
			status, text := w.node(id).do("POST", "/v1/tenants/acme/sql?max_staleness=any", `{"sql":"select post, n, title from crr.likes order by post"}`)
			if status != 200 {
				return fmt.Sprintf("%s: %d %s", id, status, text)
			}
			if got := w.node(id).sql(w.t, "acme", "?max_staleness=any", "select post, n, title from crr.likes order by post"); got != want {
				return fmt.Sprintf("%s has %s, want %s", id, got, want)
			}
			return ""
		})
	}
}

// file is a node's file, once the node has the tenant.
func (w *awayWorld) file(id string) (f *crrfiles.File) {
	w.t.Helper()
	w.await(time.Minute, func() string {
		n := w.node(id)
		r, err := n.locate(context.Background(), "acme")
		if err == nil {
			f, err = n.sites.files.Open(context.Background(), r.Tenant)
		}
		if err != nil {
			return id + ": " + err.Error()
		}
		return ""
	})
	return f
}

func (w *awayWorld) head(id string) crr.Head {
	w.t.Helper()
	h, err := w.file(id).Head(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

// cut cuts a node off from all others.
func (w *awayWorld) cut(id string) {
	for _, n := range []string{"n1", "n2", "n3"} {
		if n != id {
			w.net.CutBoth(n, id)
		}
	}
}

// retire retires a site as an operator does.
func (w *awayWorld) retire(site crr.SiteID) {
	w.t.Helper()
	w.await(time.Minute, func() string {
		why := ""
		for _, n := range w.up() {
			_, err := tenantService{n.Node}.RetireSites(context.Background(), "acme", httpapi.RetireOptions{Sites: []int64{int64(site)}, Force: true})
			if err == nil {
				return ""
			}
			why += n.id.Node + ": " + err.Error() + "; "
		}
		return why
	})
}

// settled waits until nothing of a former file of the node is left to be salvaged, and it has a number.
func (w *awayWorld) settled(id string, was crr.SiteID) {
	w.t.Helper()
	w.await(3*time.Minute, func() string {
		f := w.file(id)
		if kept, err := f.Kept(); err != nil || len(kept) > 0 {
			return fmt.Sprintf("%s keeps %v, %v", id, kept, err)
		}
		if f.Number() == was || f.Number() == 0 || f.Ended() {
			return fmt.Sprintf("%s has number %d, and had %d; %s", id, f.Number(), was, w.node(id).sites.Caring(f.Tenant()))
		}
		return ""
	})
}

// A node is cut off with writes that nobody has, is retired meanwhile, and deletes are forgotten that it has not seen. It comes back:
// nothing that it wrote is lost or counted twice, and nothing that was deleted is back.
func TestSiteIsAwayForLong(t *testing.T) {
	for _, how := range []string{"runs on", "stops", "is killed when it is back"} {
		t.Run(how, func(t *testing.T) {
			stops := how != "runs on"
			synctest.Test(t, func(t *testing.T) {
				w := newAwayWorld(t)
				was := w.head("n3").Site
				w.cut("n3")
				w.try("n3", "update crr.likes set n = n + 10 where post = 'x'")
				w.try("n3", "insert into crr.likes values('mine', 7, 'only n3')")
				w.try("n3", "update crr.likes set n = n + 1, title = 'too late' where post = 'gone'")
				w.try("n3", "delete from crr.likes where post = 'drop'")
				if stops {
					if err := w.halt("n3"); err != nil && err != context.Canceled {
						t.Fatal(err)
					}
				}
				w.try("n1", "delete from crr.likes where post = 'gone'")
				w.try("n2", "update crr.likes set n = n + 100, title = 'second' where post = 'x'")
				w.retire(was)
				w.await(5*time.Minute, func() string {
					for _, id := range []string{"n1", "n2"} {
						if n := w.node(id).sites.files.Stats.Tombstones.Load(); n == 0 {
							return id + " has collected nothing"
						}
					}
					return ""
				})
				w.net.HealAll()
				if stops {
					w.start("n3")
					w.await(time.Minute, func() string { return ready(w.node("n3")) })
				}
				killed := strings.HasPrefix(how, "is killed")
				seed := rand.Uint64()
				t.Log("seed", seed)
				chance := rand.New(rand.NewPCG(seed, 1))
				for i := 0; killed && i < 6; i++ {
					time.Sleep(time.Duration(chance.IntN(4000)) * time.Millisecond)
					w.kill("n3", nil)
					w.start("n3")
					w.await(time.Minute, func() string { return ready(w.node("n3")) })
				}
				w.settled("n3", was)
				w.same(`[["mine",7,"only n3"],["x",114,"second"]]`, "n1", "n2", "n3")
				w.try("n3", "update crr.likes set n = n + 1 where post = 'x'")
				w.try("n1", "update crr.likes set n = n + 1 where post = 'x'")
				w.same(`[["mine",7,"only n3"],["x",116,"second"]]`, "n1", "n2", "n3")
				if killed {
					return // each life counts its own
				}
				st := &w.node("n3").sites.files.Stats
				if st.Replaced.Load() != 1 || st.Salvaged.Load() != 1 || st.SalvagedRows.Load() != 3 || st.SalvageLost.Load() != 1 {
					t.Errorf("replaced %d, salvaged %d with %d rows, %d lost", st.Replaced.Load(), st.Salvaged.Load(), st.SalvagedRows.Load(), st.SalvageLost.Load())
				}
			})
		})
	}
}

// While a node is down its file is replaced by an older copy of it; the record beside it may be lost too. It becomes another site, and
// what it had sent is not lost, nor what it writes then.
func TestSiteWithAnOlderFile(t *testing.T) {
	for _, recorded := range []bool{true, false} {
		t.Run(fmt.Sprintf("recorded=%v", recorded), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newAwayWorld(t)
				was := w.head("n3").Site
				path := w.file("n3").Path()
				halt := func() {
					if err := w.halt("n3"); err != nil && err != context.Canceled {
						t.Fatal(err)
					}
				}
				start := func() {
					w.start("n3")
					w.await(time.Minute, func() string { return ready(w.node("n3")) })
				}
				halt()
				old, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				start()
				w.file("n3")
				time.Sleep(5 * time.Second) // until then others may write for it
				newest := w.head("n3").Vector[was]
				for range 5 {
					w.try("n3", "update crr.likes set n = n + 1 where post = 'x'")
				}
				if w.head("n3").Vector[was] == newest {
					t.Fatal("n3 has not written itself")
				}
				w.same(`[["drop",1,null],["gone",1,null],["x",9,"first"]]`, "n1", "n2", "n3")
				if w.head("n3").Site != was {
					t.Fatal("a restart takes another number")
				}
				halt()
				if beside, err := filepath.Glob(path + "-*"); err != nil || len(beside) > 0 {
					t.Fatal(beside, err)
				}
				if err := os.WriteFile(path, old, 0o600); err != nil {
					t.Fatal(err)
				}
				if !recorded {
					if err := os.Remove(path + ".sent"); err != nil {
						t.Fatal(err)
					}
				}
				w.cut("n3") // nobody can tell it, or give it a number
				w.start("n3")
				status, text := w.node("n3").do("POST", "/v1/tenants/acme/sql?max_staleness=any&timeout=3s", `{"sql":"update crr.likes set n = n + 1 where post = 'x'"}`)
				if status == 200 {
					t.Fatalf("the older file writes under its number: %s", text)
				}
				w.net.HealAll()
				w.await(time.Minute, func() string { return ready(w.node("n3")) })
				w.try("n3", "update crr.likes set n = n + 1 where post = 'x'")
				w.try("n2", "update crr.likes set n = n + 1 where post = 'x'")
				w.settled("n3", was)
				w.same(`[["drop",1,null],["gone",1,null],["x",11,"first"]]`, "n1", "n2", "n3")
				// The number that it had is retired, so that deletes are forgotten again.
				w.try("n1", "delete from crr.likes where post = 'drop'")
				w.await(5*time.Minute, func() string {
					for _, id := range []string{"n1", "n2", "n3"} {
						if w.node(id).sites.files.Stats.Tombstones.Load() == 0 {
							return id + " has collected nothing"
						}
					}
					return ""
				})
			})
		})
	}
}

// A site that has written nothing of its own since gets an older file, from before deletes that all have forgotten since: nothing shows that it went back, but that
// changes can't bring it up. It is replaced, keeps what it wrote meanwhile, and brings nothing back.
func TestSiteIsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newAwayWorld(t)
		was := w.head("n3").Site
		path := w.file("n3").Path()
		halt := func() {
			if err := w.halt("n3"); err != nil && err != context.Canceled {
				t.Fatal(err)
			}
		}
		halt()
		old, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		w.start("n3")
		w.await(time.Minute, func() string { return ready(w.node("n3")) })
		w.try("n1", "delete from crr.likes where post = 'drop'")
		w.try("n2", "delete from crr.likes where post = 'gone'")
		w.same(`[["x",4,"first"]]`, "n1", "n2", "n3")
		w.await(5*time.Minute, func() string {
			for _, id := range []string{"n1", "n2", "n3"} {
				if got := w.node(id).sites.files.Stats.Tombstones.Load(); got != 2 {
					return fmt.Sprintf("%s has collected %d", id, got)
				}
			}
			return ""
		})
		halt()
		if err := os.WriteFile(path, old, 0o600); err != nil {
			t.Fatal(err)
		}
		w.start("n3")
		w.await(time.Minute, func() string { return ready(w.node("n3")) })
		w.file("n3")
		time.Sleep(time.Second) // so that it can tell clients, and knows the tenant without others
		w.cut("n3")
		w.try("n3", "update crr.likes set n = n + 10 where post = 'x'")
		w.try("n3", "update crr.likes set n = n + 10 where post = 'drop'")
		w.try("n3", "insert into crr.likes values('mine', 1, null)")
		if w.head("n3").Site != was {
			t.Fatal("it was replaced before it wrote")
		}
		w.net.HealAll()
		w.settled("n3", was)
		w.same(`[["mine",1,null],["x",14,"first"]]`, "n1", "n2", "n3")
		if n := w.node("n3").sites.files.Stats.Replaced.Load(); n != 1 {
			t.Errorf("replaced %d times", n)
		}
	})
}

// When a file is replaced and when what is left of it is salvaged.
func TestCareForFiles(t *testing.T) {
	t0 := time.Unix(1000, 0)
	at := func(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }
	type step struct {
		at   float64
		say  bool // others say that it is behind
		file fileState
		want task
		fail bool // what is wanted fails
	}
	for name, steps := range map[string][]step{
		"nothing":                   {{0, false, fileState{number: 1}, taskNone, false}, {100, false, fileState{number: 1}, taskNone, false}},
		"retired":                   {{0, false, fileState{number: 1, ended: true}, taskReplace, false}},
		"behind, said once":         {{0, true, fileState{number: 1}, taskNone, false}, {50, false, fileState{number: 1}, taskNone, false}},
		"behind, said for long":     {{0, true, fileState{number: 1}, taskNone, false}, {3, true, fileState{number: 1}, taskReplace, false}, {4, false, fileState{}, taskNone, false}},
		"behind, said now and then": {{0, true, fileState{number: 1}, taskNone, false}, {200, true, fileState{number: 1}, taskNone, false}},
		"tainted for a moment":      {{0, false, fileState{number: 1, tainted: true}, taskNone, false}, {59, false, fileState{number: 1, tainted: true}, taskNone, false}, {61, false, fileState{number: 1}, taskNone, false}, {100, false, fileState{number: 1, tainted: true}, taskNone, false}},
		"tainted":                   {{0, false, fileState{number: 1, tainted: true}, taskNone, false}, {60, false, fileState{number: 1, tainted: true}, taskReplace, false}},
		"failures are apart":        {{0, false, fileState{number: 1, ended: true}, taskReplace, true}, {0.5, false, fileState{number: 1, ended: true}, taskNone, false}, {1, false, fileState{number: 1, ended: true}, taskReplace, true}, {2.5, false, fileState{number: 1, ended: true}, taskNone, false}, {3, false, fileState{number: 1, ended: true}, taskReplace, false}},
		"again and again":           {{0, false, fileState{number: 1, ended: true}, taskReplace, false}, {100, false, fileState{number: 2, ended: true}, taskNone, false}, {120, false, fileState{number: 2, ended: true}, taskReplace, false}, {300, false, fileState{number: 3, ended: true}, taskNone, false}, {360, false, fileState{number: 3, ended: true}, taskReplace, false}},
		"salvage waits":             {{0, false, fileState{number: 1, ended: true}, taskReplace, false}, {1, false, fileState{kept: true}, taskNone, false}, {2, false, fileState{number: 2, kept: true}, taskNone, false}, {5, false, fileState{number: 2, kept: true}, taskSalvage, false}},
		"salvage after a restart":   {{0, false, fileState{number: 2, kept: true}, taskNone, false}, {3, false, fileState{number: 2, kept: true}, taskSalvage, true}, {4, false, fileState{number: 2, kept: true}, taskSalvage, false}},
	} {
		t.Run(name, func(t *testing.T) {
			c := &care{}
			for i, s := range steps {
				now := at(s.at)
				if s.say {
					c.isBehind(now, fmt.Errorf("behind"))
				}
				got, _ := c.next(s.file, now)
				if got != s.want {
					t.Fatalf("step %d at %v: %d, want %d", i, s.at, got, s.want)
				}
				if got == taskNone {
					continue
				}
				c.busy = true
				if again, _ := c.next(s.file, now); again != taskNone {
					t.Fatal("two at a time")
				}
				var err error
				if s.fail {
					err = fmt.Errorf("failed")
				}
				c.done(got, err, now)
			}
		})
	}
}

// A node whose clock is wild takes no writes to conflict-free tables, once it knows; the others go on.
func TestClockOfASiteIsWild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newAwayWorld(t)
		n3 := w.node("n3")
		w.skew.Store(int64(time.Minute))
		time.Sleep(15 * time.Second) // heartbeats tell
		status, text := n3.do("POST", "/v1/tenants/acme/sql?max_staleness=any", `{"sql":"update crr.likes set n = n + 1 where post = 'x'"}`)
		if status != 503 || !strings.Contains(text, "clock") {
			t.Fatalf("status %d: %s", status, text)
		}
		w.try("n1", "update crr.likes set n = n + 1 where post = 'x'")
		w.try("n2", "update crr.likes set n = n + 1 where post = 'x'")
		w.skew.Store(0)
		time.Sleep(15 * time.Second)
		w.try("n3", "update crr.likes set n = n + 1 where post = 'x'")
		w.same(`[["drop",1,null],["gone",1,null],["x",7,"first"]]`, "n1", "n2", "n3")
	})
}

// Of a node whose file has got another number only that one is a peer's.
func TestSitesInUse(t *testing.T) {
	site := func(n crr.SiteID, node string, state crr.MemberState) crrfiles.Site {
		return crrfiles.Site{Member: crr.Member{Site: n, State: state}, Node: node}
	}
	got := inUse([]crrfiles.Site{site(1, "a", crr.Active), site(2, "b", crr.Retired), site(3, "b", crr.Active), site(4, "a", crr.Leaving), site(5, "c", crr.Active), site(6, "c", crr.Retired)})
	if want := "[{{3 00000000000000000000000000000000 1 never} b} {{4 00000000000000000000000000000000 2 never} a} {{5 00000000000000000000000000000000 1 never} c}]"; fmt.Sprint(got) != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
}

// A node whose copy of main is behind its file sends a local write to another site, which takes it once; unless it is to fail.
func TestWriteWhereTheFileIsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newAwayWorld(t)
		n3 := w.node("n3")
		err := w.file("n3").Write(t.Context(), func(x *crrfiles.Writer) error {
			return x.Site.ApplySchema(schema.Change{Version: x.Site.Schema().Version + 1, SQL: "create table crr.later(k int primary key not null)"})
		})
		if err != nil {
			t.Fatal(err)
		}
		w.node("n1").sql(t, "acme", "", "create table moves(a)")
		w.await(time.Minute, func() string {
			if err := w.file0("n3"); !errors.As(err, new(*crrfiles.AheadError)) {
				return fmt.Sprint("n3 is not behind: ", err)
			}
			return ""
		})
		const write = `{"sql":"update crr.likes set n = n + 1 where post = 'x'"}`
		if got := n3.want(t, "POST", "/v1/tenants/acme/sql?on_stale=fail", write, 503); code(got) != "STALE" {
			t.Error(got)
		}
		for range 3 {
			if got := n3.want(t, "POST", "/v1/tenants/acme/sql", write, 200); strings.Contains(got, `"node":"n3"`) {
				t.Error(got)
			}
		}
		w.same(`[["drop",1,null],["gone",1,null],["x",7,"first"]]`, "n1", "n2")
	})
}

// file0 opens a node's file, and says why that can't be.
func (w *awayWorld) file0(id string) error {
	r, err := w.node(id).locate(context.Background(), "acme")
	if err == nil {
		_, err = w.node(id).sites.files.Open(context.Background(), r.Tenant)
	}
	return err
}
