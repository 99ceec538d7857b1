package snapshots

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
)

var update = flag.Bool("update", false, "write testdata")

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, fsys disk.FS) *Store {
	t.Helper()
	s, err := Open(Config{FS: fsys, Dir: "/g/snapshots", Limit: 1000})
	must(t, err)
	return s
}

var conf = raft.Configuration{Servers: []raft.Server{
	{Suffrage: raft.Voter, ID: "n1", Address: "n1"}, {Suffrage: raft.Nonvoter, ID: "n2", Address: "addr"},
}}

func write(s *Store, index uint64, contents string) error {
	k, err := s.Create(1, index, 3, conf, 2, nil)
	if err != nil {
		return err
	}
	for _, part := range []string{contents[:len(contents)/2], contents[len(contents)/2:]} {
		if _, err := io.WriteString(k, part); err != nil {
			return errors.Join(err, k.Cancel())
		}
	}
	return k.Close()
}

func TestStore(t *testing.T) {
	m := disktest.NewMemFS()
	s := open(t, m)
	if list, err := s.List(); len(list) != 0 || err != nil {
		t.Fatalf("of an empty directory: %v, %v", list, err)
	}
	for i := uint64(8); i <= 11; i++ {
		must(t, write(s, i, fmt.Sprintf("contents %d", i)))
	}
	k, err := s.Create(1, 12, 3, conf, 2, nil)
	must(t, err)
	must(t, k.Cancel())
	if err := write(s, 13, string(make([]byte, 1001))); err == nil {
		t.Fatal("stored beyond the limit")
	}
	must(t, disk.WriteFileAtomic(m, "t.write", "/g/snapshots/x.tmp", nil, 0o600))
	s = open(t, m.Crash(nil))
	list, err := s.List()
	must(t, err)
	if len(list) != 2 || list[0].Index != 11 || list[1].Index != 10 {
		t.Fatalf("kept %v", list)
	}
	meta, r, err := s.Open(list[0].ID)
	must(t, err)
	contents, err := io.ReadAll(r)
	must(t, err)
	want := raft.SnapshotMeta{Version: 1, ID: list[0].ID, Index: 11, Term: 3, Configuration: conf, ConfigurationIndex: 2, Size: 11}
	if string(contents) != "contents 11" || !reflect.DeepEqual(*meta, want) || !reflect.DeepEqual(*list[0], want) {
		t.Fatalf("%q, %+v", contents, *meta)
	}
	if _, _, err := s.Open("nothing"); err == nil {
		t.Fatal("opened what is not there")
	}
	if n, err := s.Newest(); n != 11 || err != nil {
		t.Fatalf("newest %d, %v", n, err)
	}
	entries, _ := m.ReadDir("t.list", "/g/snapshots")
	if len(entries) != 3 {
		t.Fatalf("files %v", entries)
	}
}

func TestDamagedIsNotListed(t *testing.T) {
	m := disktest.NewMemFS()
	s := open(t, m)
	must(t, write(s, 8, "eight"))
	must(t, write(s, 9, "nine"))
	f, err := m.OpenFile("t.open", s.path(name(3, 9)), os.O_RDWR, 0)
	must(t, err)
	info, _ := f.Stat()
	for off := range info.Size() {
		var b [1]byte
		_, _ = f.ReadAt(b[:], off)
		_, err = f.WriteAt([]byte{b[0] ^ 1}, off)
		must(t, err)
		list, err := s.List()
		must(t, err)
		if len(list) != 1 || list[0].Index != 8 {
			t.Fatalf("byte %d: listed %v", off, list)
		}
		if _, _, err := s.Open(name(3, 9)); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d: %v", off, err)
		}
		_, _ = f.WriteAt(b[:], off)
	}
	if n, err := s.Newest(); n != 9 || err != nil {
		t.Fatalf("newest %d, %v", n, err)
	}
}

func TestCrashAnywhere(t *testing.T) {
	for n := 1; ; n++ {
		var acked bool
		for seed := range uint64(30) {
			m := disktest.NewMemFS()
			must(t, write(open(t, m), 8, "eight"))
			faults := disktest.NewFaults(m)
			faults.CrashNth(n)
			s, err := Open(Config{FS: faults, Dir: "/g/snapshots"})
			if err == nil {
				err = write(s, 9, "nine")
			}
			acked = err == nil
			after := open(t, m.Crash(rand.New(rand.NewPCG(seed, 1))))
			list, err := after.List()
			must(t, err)
			if newest, _ := after.Newest(); len(list) == 0 || list[0].Index != newest || acked && newest != 9 {
				t.Fatalf("crash at %d, seed %d: %v, newest %d", n, seed, list, newest)
			}
		}
		if acked {
			return
		}
	}
}

func TestFullDisk(t *testing.T) {
	m := disktest.NewMemFS()
	faults := disktest.NewFaults(m)
	s := open(t, faults)
	must(t, write(s, 8, "eight"))
	faults.Fail("snapshot.write", 2, syscall.ENOSPC)
	if err := write(s, 9, "nine"); !disk.IsFull(err) {
		t.Fatalf("got %v", err)
	}
	must(t, write(s, 10, "ten"))
}

func TestGolden(t *testing.T) {
	m := disktest.NewMemFS()
	s := open(t, m)
	must(t, write(s, 11, "contents"))
	got, err := disk.ReadFile(m, "t.read", s.path(name(3, 11)), 1000)
	must(t, err)
	const path = "testdata/snapshot-v1.hex"
	if *update {
		must(t, os.WriteFile(path, []byte(hex.Dump(got)), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if hex.Dump(got) != string(want) {
		t.Fatalf("got\n%s", hex.Dump(got))
	}
}

func FuzzDecode(f *testing.F) {
	m := disktest.NewMemFS()
	s := open(f, m)
	must(f, write(s, 11, "contents"))
	example, err := disk.ReadFile(m, "t.read", s.path(name(3, 11)), 1000)
	must(f, err)
	f.Add(example)
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := len(b) - 4; n >= 0 { // what is behind a good checksum is to be fuzzed
			b = binary.LittleEndian.AppendUint32(bytes.Clone(b[:n]), crc32.Checksum(b[:n], castagnoli))
		}
		meta, contents, err := decode(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		again, err := appendHeader(nil, &meta)
		if err != nil || !bytes.Equal(append(again, contents...), b[:len(b)-4]) {
			t.Fatalf("encoded again: %v", err)
		}
	})
}
