package logstore

import (
	"strings"
	"testing"

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
