package leader_test

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/leader/logstore"
)

// A group that ends tells everybody what became of their proposals first.
func TestEndWithProposalsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := disktest.NewMemFS()
		faults := disktest.NewFaults(m)
		l := start(t, config(faults, &list{}))
		l.primary()
		faults.Delay("log.sync", 10*time.Millisecond)
		o := &outcomes{}
		var wg sync.WaitGroup
		unknown := 0
		for i := range 1000 {
			wg.Add(1)
			l.Propose([]byte(numberedEntry(i)), func(r any, err error) {
				defer wg.Done()
				o.mu.Lock()
				defer o.mu.Unlock()
				switch {
				case err == nil:
					o.acked = append(o.acked, i)
					o.indexes = append(o.indexes, r.(uint64))
				case errors.As(err, new(*leader.NotPrimaryError)):
					o.refused = append(o.refused, i)
				default:
					unknown++
				}
			})
		}
		l.end(t)
		wg.Wait()
		if len(o.acked) < 200 || unknown > 0 {
			t.Fatalf("%d acknowledged, %d refused, %d unknown", len(o.acked), len(o.refused), unknown)
		}
		recovered(t, m.Crash(nil), o, "restart")
	})
}

// A group whose newest snapshot is damaged must not go on from an older one as
// if the entries in between had never been.
func TestDamagedSnapshotIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := disktest.NewMemFS()
		l := start(t, config(m, &list{}))
		l.primary()
		for range 2 {
			for range 3 { // of which the log keeps one: less than what is between the snapshots
				if _, err := l.propose("x"); err != nil {
					t.Fatal(err)
				}
			}
			must(t, l.Snapshot())
		}
		l.end(t)
		files, err := m.ReadDir("t.list", "/g7/snapshots")
		must(t, err)
		if len(files) != 2 || !strings.HasSuffix(files[1].Name(), ".snap") {
			t.Fatalf("files %v", files)
		}
		f, err := m.OpenFile("t.open", "/g7/snapshots/"+files[1].Name(), os.O_RDWR, 0)
		must(t, err)
		_, err = f.WriteAt([]byte("rotten"), 30)
		must(t, err)
		l = start(t, config(m, &list{}))
		err = <-l.ended
		if !errors.As(err, new(*leader.LogError)) || !errors.Is(err, logstore.ErrCorrupt) {
			t.Fatalf("started with %v", err)
		}
		if got := l.machine.all(); len(got) != 0 {
			t.Fatalf("the machine got %q", got)
		}
		l.ended <- nil
	})
}
