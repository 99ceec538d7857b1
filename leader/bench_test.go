package leader_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/leader/leadertest"
)

// nothing is a Machine that keeps nothing.
type nothing struct{ list }

func (*nothing) Apply(uint64, uint64, []byte) any { return nil }

const benchEntry = 660 // bytes: an insert of one row into a table with an index

// BenchmarkPropose measures proposals on a real disk: one at a time is the
// latency of a lone write, many at a time the throughput of a group.
func BenchmarkPropose(b *testing.B) {
	for _, inFlight := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("inflight=%d", inFlight), func(b *testing.B) {
			cfg := config(disk.OS(), nil)
			cfg.Machine, cfg.Dir, cfg.SegmentSize = &nothing{}, filepath.Join(b.TempDir(), "g"), 0
			l := start(b, cfg)
			if !l.primary() {
				b.Fatal(<-l.ended)
			}
			entry := bytes.Repeat([]byte("x"), benchEntry)
			var failed atomic.Pointer[error]
			room := make(chan struct{}, inFlight)
			var wg sync.WaitGroup
			done := func(_ any, err error) {
				if err != nil {
					failed.Store(&err)
				}
				<-room
				wg.Done()
			}
			b.ReportAllocs()
			b.SetBytes(benchEntry)
			for b.Loop() {
				room <- struct{}{}
				wg.Add(1)
				l.Propose(entry, done)
			}
			wg.Wait()
			b.StopTimer()
			if err := failed.Load(); err != nil {
				b.Fatal(*err)
			}
			l.end(b)
		})
	}
}

// BenchmarkProposeSlowDisks is one proposal at a time to three nodes whose disks take a millisecond for a sync, over a
// network that takes no time: entries that are stored before they are sent, and beside that.
func BenchmarkProposeSlowDisks(b *testing.B) {
	for name, from := range map[string]time.Duration{"first": time.Hour, "beside": 0} {
		b.Run(name, func(b *testing.B) {
			c := leadertest.New(b, 3)
			c.Adjust = func(cfg *leader.Config) {
				slow := disktest.NewFaults(cfg.FS)
				slow.Delay("log.sync", time.Millisecond)
				cfg.FS, cfg.StoreBeside, cfg.SegmentSize = slow, from, 0
			}
			c.StartAll()
			p := c.Primary(time.Minute)
			if p == nil {
				b.Fatal("no primary")
			}
			entry := strings.Repeat("x", benchEntry)
			for b.Loop() {
				if _, err := p.Propose(entry); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRaftWAL is the floor for BenchmarkPropose: raft-wal alone, on its
// own files, storing as many entries at once.
func BenchmarkRaftWAL(b *testing.B) {
	for _, batch := range []int{1, 64} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			w, err := wal.Open(b.TempDir(), wal.WithSegmentSize(16<<20), wal.WithLogger(hclog.NewNullLogger()))
			if err != nil {
				b.Fatal(err)
			}
			defer w.Close()
			data := bytes.Repeat([]byte("x"), benchEntry)
			logs := make([]*raft.Log, batch)
			for i := range logs {
				logs[i] = &raft.Log{Term: 1, Data: data}
			}
			index := uint64(0)
			b.ReportAllocs()
			b.SetBytes(benchEntry)
			for n := 0; n < b.N; n += batch {
				for _, l := range logs {
					index++
					l.Index = index
				}
				if err := w.StoreLogs(logs); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

var _ leader.Machine = (*nothing)(nil)
