package crr

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// crashed copies a file as a crash would leave it: the write-ahead log cut anywhere, and at times its last bytes spoiled.
func crashed(t *testing.T, rnd *rand.Rand, from, to string, cut bool) {
	t.Helper()
	main, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	wal, err := os.ReadFile(from + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	if cut {
		wal = wal[:rnd.IntN(len(wal)+1)]
		for i := max(0, len(wal)-rnd.IntN(600)); i < len(wal) && rnd.IntN(2) == 0; i++ {
			wal[i] = byte(rnd.Uint32())
		}
	}
	for name, b := range map[string][]byte{to: main, to + "-wal": wal} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	os.Remove(to + "-shm")
}

// P18: whatever write a crash comes at, the file opens as it was after some transaction, with metadata, vector and numbers of
// that transaction; nothing that was committed and synced is lost; and the site goes on from there.
func TestCrashAtAnyWrite(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("CRR_SEED"); v != "" {
		seed, _ = strconv.ParseUint(v, 10, 64)
	}
	t.Logf("CRR_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	clock := newTestClock()
	cfg := Config{Now: clock.off(0)}
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	a := newSite(t, 1, cfg, path, likes, pair, kv)
	if err := a.conn.Exec("PRAGMA crr.wal_checkpoint=truncate; PRAGMA crr.wal_autocheckpoint=0; PRAGMA crr.synchronous=off"); err != nil {
		t.Fatal(err)
	}
	b := newSite(t, 2, cfg, ":memory:", likes, pair, kv)
	states := map[int64]string{a.me.lseq: a.dump(true)}
	looks := 0
	look := func(cut bool) {
		t.Helper()
		looks++
		to := filepath.Join(dir, "crashed")
		crashed(t, rnd, path, to, cut)
		c := openEngine(t, to)
		s := openTester(t, c, 0, cfg)
		if want, ok := states[s.me.lseq]; !ok || s.dump(true) != want {
			t.Fatalf("opened at transaction %d (known %v), another state:\n%s\nwant:\n%s", s.me.lseq, ok, s.dump(true), want)
		}
		if !cut && s.me.lseq != a.me.lseq {
			t.Fatalf("opened at transaction %d, %d was committed", s.me.lseq, a.me.lseq)
		}
		s.sound()
		clock.add(time.Second)
		s.do("INSERT INTO likes(id,n) VALUES('after',1) ON CONFLICT DO UPDATE SET n=n+1")
		s.pull(b)
		s.sound()
		s.stop()
		c.Close()
	}
	for step := range 50 {
		clock.add(time.Duration(rnd.IntN(100)) * time.Millisecond)
		switch rnd.IntN(4) {
		case 0:
			b.do("INSERT INTO likes(id,n,note) VALUES(?,1,?) ON CONFLICT DO UPDATE SET n=n+1, note=excluded.note", fmt.Sprint(rnd.IntN(4)), step)
			b.do("DELETE FROM likes WHERE id=?", fmt.Sprint(rnd.IntN(4)))
			a.pull(b)
		case 1:
			membersOf(a, b)
			b.pull(a)
			a.pull(b)
			if _, err := a.Collect(100); err != nil {
				t.Fatal(err)
			}
			states[a.me.lseq] = a.dump(true) // collecting has no number of its own
			if err := a.conn.Exec("PRAGMA crr.wal_checkpoint=truncate"); err != nil {
				t.Fatal(err)
			}
			continue
		default:
			if _, err := a.tx(func() error {
				for i := range 1 + rnd.IntN(4) {
					if err := a.stmt("INSERT INTO likes(id,n) VALUES(?,1) ON CONFLICT DO UPDATE SET n=n+1", fmt.Sprint(rnd.IntN(4))); err != nil {
						return err
					}
					if err := a.stmt("REPLACE INTO kv VALUES(?,'k',randomblob(2000))", i); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		states[a.me.lseq] = a.dump(true)
		look(step%5 != 0)
	}
	t.Logf("%d crashes", looks)
}

// A process that writes and merges is killed anywhere: what it said it had committed is there.
func TestKilledProcess(t *testing.T) {
	if dir := os.Getenv("CRR_CHILD"); dir != "" {
		child(t, dir)
		return
	}
	dir := t.TempDir()
	said := 0
	for round := range 4 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$")
		cmd.Env = append(os.Environ(), "CRR_CHILD="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		sc := bufio.NewScanner(out)
		stop := said + 5 + rand.IntN(60)
		for sc.Scan() {
			if n, ok := strings.CutPrefix(sc.Text(), "committed "); ok {
				if said, err = strconv.Atoi(n); err != nil {
					t.Fatal(err)
				}
				if said >= stop {
					break
				}
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for sc.Scan() { // what was said before the kill came
			if n, ok := strings.CutPrefix(sc.Text(), "committed "); ok {
				said, _ = strconv.Atoi(n)
			}
		}
		cmd.Wait()
		s := openTester(t, openEngine(t, filepath.Join(dir, "a")), 0, Config{})
		n := int(s.one("SELECT n FROM likes WHERE id='x'").Int())
		if n != said && n != said+1 {
			t.Fatalf("round %d: the child had committed %d, the file has %d", round, said, n)
		}
		said = n
		s.sound()
		s.stop()
	}
}

// child counts up and tells after each commit.
func child(t *testing.T, dir string) {
	s := openTester(t, openEngine(t, filepath.Join(dir, "a")), 0, Config{})
	if s.me.Site == 0 {
		for _, c := range changes(likes) {
			if err := s.ApplySchema(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Adopt(s.me.File, 1); err != nil {
			t.Fatal(err)
		}
	}
	for {
		s.do(upsertX)
		fmt.Println("committed", s.one("SELECT n FROM likes WHERE id='x'").Int())
	}
}
