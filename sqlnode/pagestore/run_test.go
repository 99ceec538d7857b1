package pagestore

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/disk/disktest"
)

// TestRun lets a group run for hours of virtual time: checkpoints by age, absorption, compaction, retention,
// and stores that close when idle.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := memDisk(disktest.NewMemFS())
		cfg.CheckpointAge, cfg.LTXAge, cfg.LTXRetention = time.Minute, time.Hour, 5*time.Hour
		log := newTestLog()
		g, err := log.start(cfg)
		must(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- g.Run(ctx) }()
		r := &rig{t: t, log: log, g: g, cfg: cfg}
		tn := r.create(1, 4096)
		s, err := tn.Acquire()
		must(t, err)
		w, err := tn.OpenWriter(s, nil)
		must(t, err)
		mustExec(t, w, "create table t(a)")
		time.Sleep(30 * time.Second)
		if n := g.Stats.Checkpoints.Load(); n != 0 {
			t.Fatalf("%d checkpoints before their time", n)
		}
		time.Sleep(time.Minute)
		if n := g.Stats.Checkpoints.Load(); n != 1 || g.files.pending() != nil {
			t.Fatalf("%d checkpoints", n)
		}
		time.Sleep(10 * time.Minute) // nothing to do
		if n := g.Stats.Checkpoints.Load(); n != 1 {
			t.Fatalf("%d checkpoints of one change", n)
		}
		// One that fails is tried again.
		mustExec(t, w, "insert into t values(1)")
		log.refuse = true
		time.Sleep(2 * time.Minute)
		log.refuse = false
		time.Sleep(2 * time.Minute)
		if n := g.Stats.Checkpoints.Load(); n != 2 {
			t.Fatalf("%d checkpoints", n)
		}
		time.Sleep(time.Hour)
		l, err := g.LTXFiles(tn.ID(), 1)
		must(t, err)
		if len(l) != 1 || g.files.segmentBytes() != 0 {
			t.Fatalf("%d LTX files, %d bytes of segments", len(l), g.files.segmentBytes())
		}
		must(t, w.Close())
		tn.Release()
		time.Sleep(2 * time.Second)
		if tn.openStore() != nil {
			t.Fatal("an idle store stays open")
		}
		// Memory above the mark makes a checkpoint at once.
		s, err = tn.Acquire()
		must(t, err)
		w, err = tn.OpenWriter(s, nil)
		must(t, err)
		mustExec(t, w, "insert into t values(2)")
		g.cfg.Budget.Soft = 1
		time.Sleep(3 * time.Second)
		if n := g.Stats.Checkpoints.Load(); n != 3 || g.cfg.Budget.Used() != 0 {
			t.Fatalf("%d checkpoints, %d bytes", n, g.cfg.Budget.Used())
		}
		time.Sleep(7 * time.Hour) // the first file is past its retention when the second is made
		mustExec(t, w, "insert into t values(3)")
		time.Sleep(2 * time.Hour)
		if l, err = g.LTXFiles(tn.ID(), 1); err != nil || len(l) != 1 || l[0].Max != 4 {
			t.Fatalf("got %v, %v", l, err)
		}
		must(t, w.Close())
		tn.Release()
		cancel()
		<-ended
		g.Close()
	})
}
