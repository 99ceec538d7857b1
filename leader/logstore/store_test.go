package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
)

func entry(index uint64, size int) *raft.Log {
	return &raft.Log{Index: index, Term: 1 + index/50, Type: raft.LogCommand, Data: bytes.Repeat([]byte{byte(index)}, size)}
}

func entries(from uint64, n, size int) []*raft.Log {
	var logs []*raft.Log
	for i := range n {
		logs = append(logs, entry(from+uint64(i), size))
	}
	return logs
}

func mustOpen(t testing.TB, fsys disk.FS) *Store {
	t.Helper()
	s, err := Open(Config{FS: fsys, Dir: "/g/log", SegmentSize: 8 << 10})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// check verifies that the store holds exactly the entries from first to last.
func check(t testing.TB, s *Store, first, last uint64, want func(uint64) *raft.Log) {
	t.Helper()
	gotFirst, err := s.FirstIndex()
	must(t, err)
	gotLast, err := s.LastIndex()
	must(t, err)
	if gotFirst != first || gotLast != last {
		t.Fatalf("log from %d to %d, want %d to %d", gotFirst, gotLast, first, last)
	}
	for i := first; i <= last && i > 0; i++ {
		var log raft.Log
		if err := s.GetLog(i, &log); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		w := want(i)
		if log.Index != w.Index || log.Term != w.Term || log.Type != w.Type || !bytes.Equal(log.Data, w.Data) || !bytes.Equal(log.Extensions, w.Extensions) {
			t.Fatalf("entry %d differs: %v, want %v", i, log, w)
		}
	}
	if err := s.GetLog(last+1, new(raft.Log)); err != raft.ErrLogNotFound {
		t.Fatalf("entry behind the last: %v", err)
	}
}

func sized(size int) func(uint64) *raft.Log {
	return func(i uint64) *raft.Log { return entry(i, size) }
}

func TestStoreAndReopen(t *testing.T) {
	m := disktest.NewMemFS()
	s := mustOpen(t, m)
	must(t, s.StoreLogs(entries(1, 100, 300)))
	with := &raft.Log{Index: 101, Term: 9, Type: raft.LogConfiguration, Data: []byte("c"), Extensions: []byte("ext")}
	must(t, s.StoreLog(with))
	must(t, s.SetUint64([]byte("CurrentTerm"), 7))
	must(t, s.Set([]byte("LastVoteCand"), []byte("n1")))
	must(t, s.Set([]byte("gone"), []byte("x")))
	must(t, s.Set([]byte("gone"), nil))
	for range 2 {
		check(t, s, 1, 101, func(i uint64) *raft.Log {
			if i == 101 {
				return with
			}
			return entry(i, 300)
		})
		term, err := s.GetUint64([]byte("CurrentTerm"))
		if term != 7 || err != nil {
			t.Fatalf("term %d, %v", term, err)
		}
		vote, _ := s.Get([]byte("LastVoteCand"))
		gone, _ := s.Get([]byte("gone"))
		if none, _ := s.GetUint64([]byte("LastVoteTerm")); string(vote) != "n1" || gone != nil || none != 0 {
			t.Fatalf("vote %q, gone %q, none %d", vote, gone, none)
		}
		for i, want := range map[uint64]bool{1: true, 100: true, 101: false} {
			if is, err := s.IsCommand(i); is != want || err != nil {
				t.Fatalf("entry %d a command: %v, %v", i, is, err)
			}
		}
		must(t, s.Close())
		s = mustOpen(t, m)
	}
	must(t, s.Close())
}

func TestOSDisk(t *testing.T) {
	cfg := Config{FS: disk.OS(), Dir: filepath.Join(t.TempDir(), "a", "log"), SegmentSize: 64 << 10}
	s, err := Open(cfg)
	must(t, err)
	for i := uint64(1); i <= 300; i++ {
		must(t, s.StoreLog(entry(i, 1000)))
	}
	must(t, s.DeleteRange(1, 200))
	must(t, s.Close())
	s, err = Open(cfg)
	must(t, err)
	check(t, s, 201, 300, sized(1000))
	must(t, s.Close())
}

// A crash between the seal of a segment and the metadata that says so.
func TestSealedAtACrash(t *testing.T) {
	m := disktest.NewMemFS()
	faults := disktest.NewFaults(m)
	s := mustOpen(t, faults)
	must(t, s.StoreLog(entry(1, 300)))
	faults.Crash("logmeta.*", 1)
	last := uint64(1)
	for s.StoreLog(entry(last+1, 300)) == nil {
		last++
	}
	if s.Err() == nil || last < 10 {
		t.Fatalf("no rotation failed, %d entries", last)
	}
	_ = s.Close()
	for range 2 {
		s = mustOpen(t, m)
		check(t, s, 1, last, sized(300))
		must(t, s.StoreLog(entry(last+1, 300)))
		last++
		must(t, s.Close())
	}
}

func TestDeletedEndAndReopen(t *testing.T) {
	m := disktest.NewMemFS()
	s := mustOpen(t, m)
	must(t, s.StoreLogs(entries(1, 5, 300)))
	must(t, s.DeleteRange(4, 5))
	must(t, s.StoreLogs(entries(4, 3, 200)))
	want := func(i uint64) *raft.Log {
		if i <= 3 {
			return entry(i, 300)
		}
		return entry(i, 200)
	}
	check(t, s, 1, 6, want)
	must(t, s.Close())
	s = mustOpen(t, m)
	check(t, s, 1, 6, want)
	must(t, s.DeleteRange(1, 2))
	check(t, s, 3, 6, want)
	must(t, s.Close())
	s = mustOpen(t, m)
	check(t, s, 3, 6, want)
	must(t, s.DeleteRange(1, 6))
	must(t, s.StoreLog(entry(100, 10)))
	must(t, s.Close())
	s = mustOpen(t, m)
	check(t, s, 100, 100, sized(10))
	must(t, s.Close())
}

// What was written but not synced when the process was killed must be durable
// before raft may answer for it.
func TestKilledThenPowerLoss(t *testing.T) {
	m := disktest.NewMemFS()
	faults := disktest.NewFaults(m)
	s := mustOpen(t, faults)
	must(t, s.StoreLog(entry(1, 300)))
	faults.Fail("log.sync", 1, disktest.ErrCrashed)
	if err := s.StoreLog(entry(2, 300)); err == nil {
		t.Fatal("stored without a sync")
	}
	_ = s.Close()
	m = disktest.NewMemFS()
	s = mustOpen(t, m)
	must(t, s.StoreLog(entry(1, 300)))
	killed := disktest.NewFaults(m)
	_ = s.Close()
	s = mustOpen(t, killed)
	killed.Crash("log.sync", 1)
	_ = s.StoreLog(entry(2, 300))
	m = m.Kill()
	s = mustOpen(t, m)
	last, err := s.LastIndex()
	must(t, err)
	after := mustOpen(t, m.Crash(nil))
	if got, _ := after.LastIndex(); got != last {
		t.Fatalf("the log ended at %d, and after a power loss at %d", last, got)
	}
}

func TestDamageIsReported(t *testing.T) {
	build := func() (*disktest.MemFS, string) {
		m := disktest.NewMemFS()
		s := mustOpen(t, m)
		for i := uint64(1); i <= 10; i++ {
			must(t, s.StoreLog(entry(i, 300)))
		}
		must(t, s.Close())
		list, err := m.ReadDir("t.list", "/g/log")
		must(t, err)
		for _, e := range list {
			if strings.HasSuffix(e.Name(), ".wal") {
				return m, "/g/log/" + e.Name()
			}
		}
		t.Fatal("no segment")
		return nil, ""
	}
	// Every byte of the first nine batches, the last of which is followed by a whole one.
	for off := int64(0); off < 9*(8+300+48); off += 7 {
		m, name := build()
		f, err := m.OpenFile("t.open", name, os.O_RDWR, 0)
		must(t, err)
		var b [1]byte
		_, err = f.ReadAt(b[:], off)
		must(t, err)
		b[0] ^= 0x40
		_, err = f.WriteAt(b[:], off)
		must(t, err)
		s, err := Open(Config{FS: m, Dir: "/g/log", SegmentSize: 8 << 10})
		if err == nil {
			check(t, s, 1, 10, sized(300)) // the byte did not matter
			_ = s.Close()
		} else if !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d: %v", off, err)
		}
	}

	m, _ := build()
	s := mustOpen(t, m)
	s.Running()
	_, name := "", ""
	list, _ := m.ReadDir("t.list", "/g/log")
	for _, e := range list {
		if strings.HasSuffix(e.Name(), ".wal") {
			name = "/g/log/" + e.Name()
		}
	}
	f, err := m.OpenFile("t.open", name, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("rotten"), 700)
	must(t, err)
	var log raft.Log
	for i := uint64(1); i <= 10; i++ {
		must(t, s.GetLog(i, &log)) // raft would panic
	}
	if !errors.Is(s.Err(), ErrCorrupt) {
		t.Fatalf("error %v", s.Err())
	}
	<-s.Failed()
	if err := s.StoreLog(entry(11, 1)); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("stored after damage: %v", err)
	}
	must(t, s.SetUint64([]byte("CurrentTerm"), 3))
	if err := s.SetUint64([]byte("LastVoteTerm"), 3); err == nil {
		t.Fatal("voted after damage")
	}

	m, _ = build()
	must(t, m.Remove("t.remove", "/g/log/meta"))
	if _, err := Open(Config{FS: m, Dir: "/g/log"}); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("without metadata: %v", err)
	}
	if _, err := m.Stat("t.stat", name); err != nil {
		t.Fatalf("the segment is gone: %v", err)
	}
}

func TestErrorsLast(t *testing.T) {
	for _, op := range []string{"log.write", "log.sync", "logmeta.sync", "log.allocate", "log.create", "log.read"} {
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
			m := disktest.NewMemFS()
			faults := disktest.NewFaults(m)
			s := mustOpen(t, faults)
			must(t, s.StoreLogs(entries(1, 5, 300)))
			s.Running()
			faults.Fail(op, 1, cause)
			for i := uint64(6); i < 200 && s.Err() == nil; i++ {
				_ = s.StoreLog(entry(i, 300))
				_ = s.GetLog(i, new(raft.Log))
			}
			if err := s.Err(); !errors.Is(err, cause) || disk.IsFull(err) != (cause == syscall.ENOSPC) {
				t.Fatalf("%s: error %v, want %v", op, err, cause)
			}
			if err := s.StoreLog(entry(200, 1)); !errors.Is(err, cause) {
				t.Fatalf("%s: then %v", op, err)
			}
			_ = s.Close()
		}
	}
}

// model is what a log must hold.
type model struct {
	first, last uint64
	data        map[uint64]*raft.Log
	term        uint64
	// What an operation that was cut off may have done.
	maybeFirst, maybeLast uint64
	maybe                 map[uint64]*raft.Log
	maybeTerm             uint64
}

func (m *model) settle() {
	m.first, m.last, m.term = m.maybeFirst, m.maybeLast, m.maybeTerm
	for i, l := range m.maybe {
		m.data[i] = l
	}
	m.maybe = nil
}

// step does one random operation, and returns its error.
func (m *model) step(s *Store, rng *rand.Rand) error {
	m.maybeFirst, m.maybeLast, m.maybeTerm, m.maybe = m.first, m.last, m.term, make(map[uint64]*raft.Log)
	var err error
	switch n := rng.IntN(20); {
	case n < 2:
		m.maybeTerm++
		err = s.SetUint64([]byte("CurrentTerm"), m.maybeTerm)
	case n == 2 && m.last > m.first: // the end
		cut := m.first + 1 + rng.Uint64N(m.last-m.first)
		m.maybeLast = cut - 1
		err = s.DeleteRange(cut, m.last)
	case n == 3 && m.last > m.first: // the beginning
		cut := m.first + rng.Uint64N(m.last-m.first)
		m.maybeFirst = cut + 1
		err = s.DeleteRange(m.first, cut)
	default:
		from := m.last + 1
		if m.last == 0 {
			from = 1
			m.maybeFirst = 1
		}
		var logs []*raft.Log
		for i := range 1 + rng.IntN(6) {
			// Payloads full of what looks like frames, at every alignment.
			data := bytes.Repeat([]byte{3, 0, 0, 0, byte(rng.Uint32()), 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0}, rng.IntN(80))
			if len(data) > 0 {
				data = data[rng.IntN(8):]
			}
			l := &raft.Log{Index: from + uint64(i), Term: rng.Uint64N(5), Data: data}
			m.maybe[l.Index] = l
			logs = append(logs, l)
		}
		m.maybeLast = logs[len(logs)-1].Index
		err = s.StoreLogs(logs)
	}
	if err == nil {
		err = s.Err()
	}
	return err
}

// recovered checks what a crash left, and takes it for true.
func (m *model) recovered(s *Store) error {
	first, err := s.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.LastIndex()
	if err != nil {
		return err
	}
	if first != m.first && first != m.maybeFirst && last != 0 {
		return fmt.Errorf("begins at %d, want %d or %d", first, m.first, m.maybeFirst)
	}
	if last != m.last && last != m.maybeLast {
		return fmt.Errorf("ends at %d, want %d or %d", last, m.last, m.maybeLast)
	}
	for i := first; i <= last && last > 0; i++ {
		var log raft.Log
		if err := s.GetLog(i, &log); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		want := m.data[i]
		if i > m.last {
			want = m.maybe[i]
		}
		if want == nil || log.Term != want.Term || !bytes.Equal(log.Data, want.Data) {
			return fmt.Errorf("entry %d differs", i)
		}
		m.data[i] = want
	}
	term, err := s.GetUint64([]byte("CurrentTerm"))
	if err != nil {
		return err
	}
	if term != m.term && term != m.maybeTerm {
		return fmt.Errorf("term %d, want %d or %d", term, m.term, m.maybeTerm)
	}
	m.first, m.last, m.term = first, last, term
	return nil
}

// TestCrashes crashes a store again and again, at any operation, with power
// losses and kills, also while it recovers.
func TestCrashes(t *testing.T) {
	seeds := 150
	if testing.Short() {
		seeds = 20
	}
	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(seed, 42))
		mem := disktest.NewMemFS()
		m := model{data: make(map[uint64]*raft.Log)}
		m.maybe = map[uint64]*raft.Log{}
		for life := range 12 {
			faults := disktest.NewFaults(mem)
			if n := 1 + rng.IntN(120); rng.IntN(3) == 0 {
				faults.TearNth(n)
				faults.CrashNth(n + 1)
			} else {
				faults.CrashNth(n)
			}
			s, err := Open(Config{FS: faults, Dir: "/g/log", SegmentSize: 4 << 10})
			if err == nil {
				if err := m.recovered(s); err != nil && !errors.Is(err, disktest.ErrCrashed) {
					t.Fatalf("seed %d, life %d: %v", seed, life, err)
				} else if err == nil {
					for m.step(s, rng) == nil {
						m.settle()
					}
				}
				_ = s.Close()
			} else if !errors.Is(err, disktest.ErrCrashed) && !errors.Is(err, disktest.ErrTorn) && !errors.Is(err, fs.ErrClosed) {
				t.Fatalf("seed %d, life %d: open: %v", seed, life, err)
			}
			if rng.IntN(4) == 0 {
				mem = mem.Kill()
			} else {
				mem = mem.Crash(rng)
			}
		}
		s, err := Open(Config{FS: mem, Dir: "/g/log", SegmentSize: 4 << 10})
		if err != nil {
			t.Fatalf("seed %d: at the end: %v", seed, err)
		}
		if err := m.recovered(s); err != nil {
			t.Fatalf("seed %d: at the end: %v", seed, err)
		}
		for range 20 {
			if err := m.step(s, rng); err != nil {
				t.Fatalf("seed %d: at the end: %v", seed, err)
			}
			m.settle()
		}
		_ = s.Close()
	}
}
