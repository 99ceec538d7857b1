package logstore

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/hashicorp/raft-wal/types"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
)

// exampleSegment returns the bytes of a segment of n batches.
func exampleSegment(t testing.TB, n int) []byte {
	t.Helper()
	m := disktest.NewMemFS()
	s, err := Open(Config{FS: m, Dir: "/g/log", SegmentSize: 4 << 10})
	must(t, err)
	for i := range n {
		must(t, s.StoreLogs(entries(uint64(2*i+1), 2, 50)))
	}
	must(t, s.Close())
	list, err := m.ReadDir("t.list", "/g/log")
	must(t, err)
	for _, e := range list {
		if strings.HasSuffix(e.Name(), ".wal") {
			b, err := disk.ReadFile(m, "t.read", "/g/log/"+e.Name(), 1<<20)
			must(t, err)
			return b
		}
	}
	t.Fatal("no segment")
	return nil
}

// What a torn batch left must not be there when the next one is written.
func TestRepairLeavesZeros(t *testing.T) {
	whole := exampleSegment(t, 3)
	s := Store{}
	all, err := scan(bytes.NewReader(whole), int64(len(whole)), 1, s.own)
	must(t, err)
	for _, cut := range []int64{all.end - 3, all.last + 9, all.last + 1, all.end} {
		m := disktest.NewMemFS()
		torn := bytes.Clone(whole)
		torn[cut] ^= 0xff
		must(t, disk.MkdirAllDurable(m, "t.mkdir", "/g", 0o700))
		must(t, disk.WriteFileAtomic(m, "t.write", "/g/segment", torn, 0o600))
		f, err := m.OpenFile("t.open", "/g/segment", os.O_RDWR, 0)
		must(t, err)
		got, err := repairFile(m, "/g", f, &types.SegmentInfo{BaseIndex: 1, SizeLimit: 4096}, s.own)
		must(t, err)
		want := all.last
		if cut == all.end {
			want = all.end
		}
		if got.end != want || !got.dirty {
			t.Fatalf("damage at %d: the end is at %d, want %d", cut, got.end, want)
		}
		after, err := disk.ReadFile(m.Crash(nil), "t.read", "/g/segment", 1<<20)
		must(t, err)
		if !bytes.Equal(after[:want], whole[:want]) || !allZero(after[want:]) {
			t.Fatalf("damage at %d: something is left behind %d", cut, want)
		}
	}
}
