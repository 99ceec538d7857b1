package disk_test

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
)

// exhausted is a file system that has no descriptors for so many more operations, less those that spares gave back.
type exhausted struct {
	disk.FS
	left  *atomic.Int64
	cause error
}

func (e exhausted) OpenFile(op, name string, flag int, perm fs.FileMode) (disk.File, error) {
	if e.left.Add(-1) >= 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: e.cause}
	}
	return e.FS.OpenFile(op, name, flag, perm)
}

func TestSpares(t *testing.T) {
	for _, cause := range []error{syscall.EMFILE, syscall.ENFILE, syscall.EIO} {
		for _, c := range []struct {
			op   string
			busy int64 // operations until there is a descriptor
			ok   bool
			held int
		}{{"log.create", 1, true, 3}, {"logmeta.append", 4, true, 0}, {"log.create", 6, true, 0}, {"segment.create", 1, false, 4}, {"log.create", 1 << 40, false, 0}} {
			synctest.Test(t, func(t *testing.T) {
				var said strings.Builder
				s, err := disk.NewSpares(4, slog.New(slog.NewTextHandler(&said, nil)))
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				left := &atomic.Int64{}
				left.Store(c.busy)
				fsys := s.FS(exhausted{disktest.NewMemFS(), left, cause})
				began := time.Now()
				f, err := fsys.OpenFile(c.op, "f", os.O_CREATE|os.O_RDWR, 0o600)
				ok := c.ok && cause != syscall.EIO
				if (err == nil) != ok || err != nil && disk.NoDescriptors(err) != (cause != syscall.EIO) {
					t.Fatalf("%v, %+v: got %v", cause, c, err)
				}
				if took := time.Since(began); took > 11*time.Second {
					t.Errorf("%v, %+v: it took %s", cause, c, took)
				}
				if err == nil {
					f.Close()
				}
				if cause != syscall.EIO {
					if held := disk.Held(s); held != c.held {
						t.Errorf("%v, %+v: %d are held, want %d", cause, c, held, c.held)
					}
				}
				left.Store(0)
				if f, err := fsys.OpenFile("log.create", "g", os.O_CREATE|os.O_RDWR, 0o600); err != nil || disk.Held(s) != 4 {
					t.Errorf("%+v: afterwards: %v, %d are held", c, err, disk.Held(s))
				} else {
					f.Close()
				}
				if ok && strings.Count(said.String(), "no file descriptors left") != 1 {
					t.Errorf("it logged %q", said.String())
				}
			})
		}
	}
	if disk.NoDescriptors(fmt.Errorf("x: %w", syscall.ENOSPC)) || !disk.NoDescriptors(fmt.Errorf("x: %w", syscall.EMFILE)) {
		t.Error("NoDescriptors")
	}
}
