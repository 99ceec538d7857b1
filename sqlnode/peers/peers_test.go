package peers

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
)

var addGolden = flag.Bool("add-golden", false, "write golden files that are missing; those that exist are never changed")

func open(t testing.TB, fsys disk.FS) *Peers {
	t.Helper()
	p, err := Open(fsys, "/data")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newDisk(t testing.TB) *disktest.MemFS {
	t.Helper()
	m := disktest.NewMemFS()
	if err := disk.MkdirAllDurable(m, "test", "/data", 0o700); err != nil {
		t.Fatal(err)
	}
	return m
}

func wantAddr(t testing.TB, p *Peers, node, addr string) {
	t.Helper()
	got, err := p.Resolve(node)
	if got != addr || (err == nil) != (addr != "") {
		t.Errorf("%s: got %q, %v, want %q", node, got, err, addr)
	}
}

var some = map[string]string{"n1": "10.0.0.1:7001", "n2": "[2001:db8::2]:7001"}

func TestPeers(t *testing.T) {
	m := newDisk(t)
	p := open(t, m)
	wantAddr(t, p, "n1", "")
	if err := p.Set(some, []string{"n0"}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // in memory, and from the disk
		wantAddr(t, p, "n1", "10.0.0.1:7001")
		wantAddr(t, p, "n0", "")
		var unknown *UnknownError
		if _, err := p.Resolve("n0"); !errors.As(err, &unknown) || !unknown.Removed || !p.Removed("n0") || p.Removed("n1") || p.Removed("n9") {
			t.Errorf("n0: %v", err)
		}
		if _, err := p.Resolve("n9"); !errors.As(err, &unknown) || unknown.Removed {
			t.Errorf("n9: %v", err)
		}
		m = m.Crash(rand.New(rand.NewPCG(1, 1)))
		p = open(t, m)
	}
	// Removed is stronger than an address.
	if err := p.Set(some, []string{"n0", "n2", "n2"}); err != nil {
		t.Fatal(err)
	}
	wantAddr(t, p, "n2", "")
	if all := p.All(); len(all) != 1 || all["n1"] == "" {
		t.Errorf("all: %v", all)
	}
}

func TestSetWritesOnChange(t *testing.T) {
	f := disktest.NewFaults(newDisk(t))
	p := open(t, f)
	writes := func(addrs map[string]string, removed []string, want bool) {
		t.Helper()
		before := f.Count()
		if err := p.Set(addrs, removed); err != nil {
			t.Fatal(err)
		}
		if got := f.Count() > before; got != want {
			t.Errorf("%v, %v: written %t, want %t", addrs, removed, got, want)
		}
	}
	writes(some, nil, true)
	writes(map[string]string{"n2": some["n2"], "n1": some["n1"]}, nil, false)
	writes(some, []string{"n3", "n4"}, true)
	writes(some, []string{"n4", "n3", "n4"}, false)
	writes(nil, []string{"n4", "n3"}, true)
	p = open(t, f)
	writes(nil, []string{"n4", "n3"}, false)
	// What could not be written counts, and is written the next time.
	f.Fail("peers.write", 1, syscall.EIO)
	if err := p.Set(some, []string{"n4"}); !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	wantAddr(t, p, "n1", some["n1"])
	writes(some, []string{"n4"}, true)
	writes(some, []string{"n4"}, false)
}

func TestSetRefuses(t *testing.T) {
	p := open(t, newDisk(t))
	many := make(map[string]string)
	for i := range addrsMax + 1 {
		many[fmt.Sprintf("n%d", i)] = "a:1"
	}
	for _, c := range []struct {
		addrs   map[string]string
		removed []string
	}{
		{map[string]string{"": "a:1"}, nil}, {map[string]string{"N": "a:1"}, nil}, {map[string]string{"n1": "a"}, nil}, {map[string]string{"n1": ":1"}, nil},
		{map[string]string{"n1": strings.Repeat("a", addrMax) + ":1"}, nil}, {nil, []string{"a b"}}, {nil, make([]string, removedMax+1)}, {many, nil},
	} {
		if err := p.Set(c.addrs, c.removed); err == nil {
			t.Errorf("%.80v, %.80v was taken", c.addrs, c.removed)
		}
	}
	if len(p.All()) != 0 {
		t.Error("something counts that was refused")
	}
}

// TestSetCrash loses power at each operation: the file is what it was, or what was set.
func TestSetCrash(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	base := newDisk(t)
	if err := open(t, base).Set(some, nil); err != nil {
		t.Fatal(err)
	}
	for n := 1; ; n++ {
		m := base.Crash(rng)
		f := disktest.NewFaults(m)
		p := open(t, f)
		f.CrashNth(n)
		err := p.Set(map[string]string{"n9": "a:9"}, nil)
		p = open(t, m.Crash(rng))
		switch all := p.All(); {
		case all["n9"] == "a:9" && len(all) == 1:
		case all["n1"] == some["n1"] && len(all) == 2 && err != nil:
		default:
			t.Fatalf("crash at %d, %v: %v", n, err, all)
		}
		if err == nil {
			return
		}
	}
}

// TestRoundTrip: what was set last is there after a start.
func TestRoundTrip(t *testing.T) {
	node, addr := rapid.StringMatching(`[a-z0-9_-]{1,63}`), rapid.StringMatching(`[a-z0-9.]{1,20}:[0-9]{1,5}`)
	rapid.Check(t, func(r *rapid.T) {
		m := newDisk(t)
		p := open(t, m)
		addrs := rapid.MapOfN(node, addr, 0, 8).Draw(r, "addrs")
		removed := rapid.SliceOfN(node, 0, 4).Draw(r, "removed")
		if err := p.Set(addrs, removed); err != nil {
			r.Fatal(err)
		}
		again := open(t, m)
		if !again.mu.state.equal(p.mu.state) {
			r.Fatalf("got %+v, want %+v", again.mu.state, p.mu.state)
		}
		for n, a := range addrs {
			if got, err := again.Resolve(n); again.Removed(n) != (err != nil) || err == nil && got != a {
				r.Fatalf("%s: %q, %v, want %q", n, got, err, a)
			}
		}
	})
}

func TestConcurrent(t *testing.T) {
	m := newDisk(t)
	p := open(t, m)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				if err := p.Set(map[string]string{"n1": fmt.Sprintf("a:%d", 100*i+j)}, nil); err != nil {
					t.Error(err)
				}
				_, _ = p.Resolve("n1")
			}
		})
	}
	wg.Wait()
	if again := open(t, m); !again.mu.state.equal(p.mu.state) {
		t.Errorf("the file says %v, memory %v", again.All(), p.All())
	}
}

func TestGolden(t *testing.T) {
	s, err := makeState(some, []string{"n0"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.encode()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "peers_v1.json")
	want, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) && *addGolden {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		want = got
	} else if err != nil {
		t.Fatal(err)
	}
	back, err := decode(want)
	if err != nil || !back.equal(s) || !bytes.Equal(got, want) {
		t.Errorf("got %s, %+v, %v", got, back, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, s := range []string{"", "{}", `{"version":1,"colour":1}`, `{"version":1}{}`, `{"version":1,"peers":{"n1":"x"}}`, `{"version":1,"removed":["N"]}`, `{"version":"1"}`} {
		if _, err := decode([]byte(s)); err == nil {
			t.Errorf("%s was read", s)
		}
	}
	var v *VersionError
	if _, err := decode([]byte(`{"version":2,"peers":[]}`)); !errors.As(err, &v) || v.Found != 2 {
		t.Errorf("got %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"version":1,"peers":{"n1":"a:1"},"removed":["n2"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decode(b)
		if err != nil {
			return
		}
		out, err := s.encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := decode(out); err != nil || !again.equal(s) {
			t.Fatalf("%q reads as %+v, then as %+v, %v", b, s, again, err)
		}
	})
}
