package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// smallDisk mounts a file system of its own, in memory.
func smallDisk(t *testing.T, mib int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=700", mib))
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		t.Skipf("a small disk can't be mounted here (it takes root): %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// fill takes up the room of a disk but for left bytes, and returns what gives it back.
func fill(t *testing.T, dir string, left int64) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		room := int64(st.Bavail)*st.Bsize - left
		if room <= 0 {
			break
		}
		if _, err := f.Write(block[:min(room, int64(len(block)))]); errors.Is(err, syscall.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return func() { os.Remove(path) }
}

// TestDiskFull fills the disk under a node: writes are refused and reads go on, and writes go on
// when there is room again.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 160)
	flags := append([]string{"--min-free-space", "24MiB"}, hasty...)
	n := nodeIn(t, filepath.Join(disk, "data"), flags...)
	n.start()
	n.create("full")
	n.mustRows("full", "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
	written := int64(0)
	write := func() error {
		_, err := n.rows("full", "INSERT INTO t VALUES(?, randomblob(20000))", wire.Integer(written+1))
		if err == nil {
			written++
		}
		return err
	}
	check := func() {
		t.Helper()
		rows := n.mustRows("full", "SELECT count(*), max(id), sum(length(v)) FROM t")
		if got := rows[0]; got[0].Int() != written || got[1].Int() != written || got[2].Int() != written*20000 {
			t.Fatalf("got %v, want %d rows", got, written)
		}
	}
	refused := func() {
		t.Helper()
		eventually(t, soonMax, "writes are refused", func() error {
			err := write()
			if codeOf(err) != wire.CodeDiskFull {
				return fmt.Errorf("got %w", err)
			}
			return nil
		})
	}
	goesOn := func() {
		t.Helper()
		eventually(t, soonMax, "writes go on", write)
		check()
	}
	for range 50 {
		if err := write(); err != nil {
			t.Fatal(err)
		}
	}
	check()
	for _, left := range []int64{20 << 20, 4 << 20} {
		free := fill(t, disk, left)
		refused()
		check()
		for range 20 { // they stay refused, and harm nothing
			if err := write(); codeOf(err) != wire.CodeDiskFull {
				t.Fatalf("%d bytes left: got %v", left, err)
			}
		}
		if a := n.post("full", "", `{"sql":"DELETE FROM t"}`); a.status != 507 {
			t.Errorf("got %s", a)
		}
		if _, err := n.Import(t.Context(), "import", client.SQLite, bytes.NewReader(goodFile(t, "CREATE TABLE t(a)")), tenant.CreateOptions{}); codeOf(err) != wire.CodeDiskFull {
			t.Errorf("import: got %v", err)
		}
		check()
		free()
		goesOn()
		free = fill(t, disk, left)
		refused()
		n.restart() // it starts on a disk that is full
		check()
		refused()
		free()
		goesOn()
	}
	// The disk fills at once, to its very end, under load: the log itself may meet it. The process ends
	// then, rather than say what it does not know.
	var mu sync.Mutex
	acked := map[int64]bool{}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	node := n.Client
	for c := range int64(4) {
		wg.Go(func() {
			for i := int64(0); ctx.Err() == nil; i++ {
				id := 1_000_000*(c+1) + i
				late, cancel := context.WithTimeout(context.Background(), soonMax)
				_, _, err := node.Query(late, "full", "INSERT INTO t VALUES(?, randomblob(20000))", wire.Integer(id))
				cancel()
				if err == nil {
					mu.Lock()
					acked[id] = true
					mu.Unlock()
				} else if lost(err) {
					return
				}
			}
		})
	}
	eventually(t, soonMax, "some writes", func() error {
		mu.Lock()
		defer mu.Unlock()
		if len(acked) < 20 {
			return errors.New("too few")
		}
		return nil
	})
	free := fill(t, disk, 0)
	settle := time.NewTimer(1500 * time.Millisecond)
	defer settle.Stop()
	select {
	case <-n.ended:
		t.Logf("the node ended when the disk had no byte left, with exit code %d: %s", n.state.ExitCode(), lastLine(n.logText()))
		if n.state.ExitCode() != exitFailed || strings.Contains(n.logText(), "panic:") {
			t.Errorf("it did not end in order")
		}
	case <-settle.C:
		check := n.one("full", "SELECT count(*) FROM t WHERE id < 1000000")
		if check.Int() != written {
			t.Errorf("reads on a full disk: got %s rows, want %d", check, written)
		}
	}
	cancel()
	wg.Wait()
	n.kill()
	free()
	n.start()

	for id := range acked {
		if got := n.one("full", "SELECT count(*) FROM t WHERE id=? AND length(v)=20000", wire.Integer(id)); got.Int() != 1 {
			t.Fatalf("row %d was acknowledged, and is lost", id)
		}
	}
	if got := n.one("full", "SELECT count(*) FROM t WHERE id < 1000000"); got.Int() != written {
		t.Errorf("got %s rows, want %d", got, written)
	}
	if got := n.one("full", "PRAGMA integrity_check"); got.Str() != "ok" {
		t.Errorf("integrity_check: %s", got)
	}
	eventually(t, soonMax, "writes go on", write)
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
