package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// resize gives a smallDisk another size.
func resize(t *testing.T, dir string, mib int) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Fatal(err)
	}
}

// refusal says whether an error is one that a client may get from a full disk.
func refusal(err error) bool {
	switch codeOf(err) {
	case wire.CodeDiskFull, wire.CodeOverloaded, wire.CodeUnknownOutcome, wire.CodeTimeout:
		return true
	}
	return false
}

// TestDiskFullFast has everything that grows write as fast as it can until the disk is full, several times: all of it is refused in time, so
// that the log never meets the end of the disk and the node runs on.
func TestDiskFullFast(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 220)
	n := nodeIn(t, filepath.Join(disk, "data"), "--min-free-space", "48MiB", "--checkpoint-bytes", "8MiB", "--checkpoint-age", "200ms", "--ltx-bytes", "4MiB", "--ltx-age", "1s")
	n.start()
	for _, name := range []string{"a", "b", "c"} {
		n.create(name)
		n.mustRows(name, "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
	}
	n.mustRows("a", "CREATE TABLE crr.k(id TEXT PRIMARY KEY NOT NULL, v TEXT)")
	file := goodFile(t, "CREATE TABLE x(v); WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<2000) INSERT INTO x SELECT randomblob(1000) FROM c")
	acked, ids := map[string]*atomic.Int64{}, map[string]*atomic.Int64{}
	for _, name := range []string{"a", "b", "c"} {
		acked[name], ids[name] = &atomic.Int64{}, &atomic.Int64{}
	}
	for round, mib := range []int{220, 320} {
		resize(t, disk, mib)
		ctx, stop := context.WithTimeout(t.Context(), soonMax)
		var wg sync.WaitGroup
		var refused atomic.Int64
		wg.Go(func() { // for 4 seconds at least, and until the disk was full
			tick := time.NewTicker(4 * time.Second)
			defer tick.Stop()
			for ctx.Err() == nil {
				select {
				case <-tick.C:
					if refused.Load() > 0 {
						stop()
					}
				case <-ctx.Done():
				}
			}
		})
		// loop calls do again and again; what is refused is tried again soon.
		loop := func(what string, do func(ctx context.Context) error) {
			wg.Go(func() {
				for ctx.Err() == nil {
					late, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerMax)
					err := do(late)
					cancel()
					switch {
					case err == nil:
					case refusal(err):
						refused.Add(1)
					default:
						t.Errorf("round %d, %s: %v", round, what, err)
						return
					}
				}
			})
		}
		for i, name := range []string{"a", "a", "b", "b", "c", "c"} {
			bytes := []int{900, 400_000, 60_000}[i%3]
			loop("write", func(ctx context.Context) error {
				_, _, err := n.Query(ctx, name, "INSERT INTO t VALUES(?, randomblob(?))", wire.Integer(ids[name].Add(1)), wire.Integer(int64(bytes)))
				if err == nil {
					acked[name].Add(1)
				}
				return err
			})
		}
		loop("large transaction", func(ctx context.Context) error {
			_, _, err := n.Query(ctx, "b", "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<20) INSERT INTO t SELECT -abs(random()), randomblob(500000) FROM c")
			return err
		})
		loop("sort", func(ctx context.Context) error {
			_, _, err := n.Query(ctx, "c", "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<300000) SELECT count(*) FROM (SELECT i, randomblob(100) r FROM c ORDER BY r LIMIT 299999)")
			return err
		})
		loop("conflict-free tables", func(ctx context.Context) error {
			_, _, err := n.Query(ctx, "a", "INSERT INTO crr.k VALUES(hex(randomblob(8)), hex(randomblob(20000)))")
			return err
		})
		loop("import", func(ctx context.Context) error {
			name := fmt.Sprintf("import-%d-%d", round, time.Now().UnixNano())
			_, err := n.Import(ctx, name, client.SQLite, bytes.NewReader(file), tenant.CreateOptions{})
			return err
		})
		wg.Wait()
		stop()
		if !n.runs() {
			t.Fatalf("the node ended: %s", n.logTail(2000))
		}
		if refused.Load() == 0 {
			t.Errorf("round %d: nothing was refused: the disk was never full", round)
		}
		for name, want := range acked {
			if got := n.one(name, "SELECT count(*) FROM t WHERE id > 0"); got.Int() < want.Load() {
				t.Errorf("round %d, tenant %s: %d rows, of %d that were acknowledged", round, name, got.Int(), want.Load())
			}
		}
		t.Logf("round %d: %d and %d and %d rows acknowledged, %d requests refused", round, acked["a"].Load(), acked["b"].Load(), acked["c"].Load(), refused.Load())
	}
	if log := n.logText(); !strings.Contains(log, "writes_refused=true") || strings.Contains(log, "no space left on device") {
		t.Error("the log does not tell of a full disk, or something met its end")
	}
	resize(t, disk, 1000)
	eventually(t, soonMax, "writes go on", func() error {
		_, err := n.rows("a", "DELETE FROM t WHERE id=1")
		return err
	})
	n.restart()
	for name, want := range acked {
		if got := n.one(name, "SELECT count(*) FROM t WHERE id > 0"); got.Int() < want.Load()-1 {
			t.Errorf("after a restart, tenant %s: %d rows, of %d that were acknowledged", name, got.Int(), want.Load())
		}
		if got := n.one(name, "PRAGMA integrity_check"); got.Str() != "ok" {
			t.Errorf("integrity_check of %s: %s", name, got)
		}
	}
}

// TestClusterDiskFull fills the disks of followers: one that has no room takes no entries and runs on, the others go on without it, and it
// catches up when it has room again.
func TestClusterDiskFull(t *testing.T) {
	t.Parallel()
	// The one whose disk is filled must not be elected on a busy machine: then nobody could write.
	m := newMesh(t, append([]string{"--min-free-space", "48MiB", "--heartbeat-timeout", "5s"}, hasty...)...)
	ids := []string{"n1", "n2", "n3"}
	disks := map[string]string{}
	for _, id := range ids {
		n := m.prepare(id, ids[0])
		disks[id] = smallDisk(t, 300)
		n.dir = filepath.Join(disks[id], "data")
		n.start()
	}
	m.settled("system", ids...)
	m.settled("default", ids...)
	primary := m.primary("default")
	others := withoutNode(ids, primary)
	at := m.nodes[primary]
	at.create("full")
	at.mustRows("full", "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
	written := int64(0)
	write := func(n int) error {
		for range n {
			_, _, err := at.once("full", "INSERT INTO t VALUES(?, randomblob(30000))", wire.Integer(written+1))
			if err != nil {
				return err
			}
			written++
		}
		return nil
	}
	if err := write(20); err != nil {
		t.Fatal(err)
	}
	free := fill(t, disks[others[0]], 1<<20)
	// More than the room that the log of the full one was given before.
	if err := write(1000); err != nil {
		t.Fatalf("writes with one follower's disk full: %v", err)
	}
	slow := m.nodes[others[0]]
	eventually(t, soonMax, "the full follower says so, and runs", func() error {
		if !slow.runs() || !strings.Contains(slow.logText(), "log entries of other nodes wait for disk space") {
			return fmt.Errorf("it runs: %v; its log ends with %s", slow.runs(), slow.logTail(1500))
		}
		return nil
	})
	free2 := fill(t, disks[others[1]], 1<<20)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	before := written
	var err error
	for err == nil {
		if _, _, err = at.Query(ctx, "full", "INSERT INTO t VALUES(?, randomblob(30000))", wire.Integer(written+1)); err == nil {
			written++
		}
	}
	cancel()
	if !refusal(err) && !lost(err) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a write without a majority that has room, after %d: %v", written-before, err)
	}
	if !m.nodes[others[1]].runs() || !at.runs() {
		t.Fatal("a node ended")
	}
	free()
	free2()
	eventually(t, catchMax, "writes go on", func() error {
		// The one without an answer may have happened.
		_, err := at.rows("full", "INSERT OR REPLACE INTO t VALUES(?, randomblob(30000))", wire.Integer(written+1))
		return err
	})
	written++
	for _, id := range ids {
		m.caughtUp(id, "full")
	}
	m.wantCount("full", "t", written)
	m.wantEqual("full")
	for _, id := range ids {
		if strings.Contains(m.nodes[id].logText(), "no space left on device") {
			t.Errorf("something met the end of the disk of %s", id)
		}
	}
}
