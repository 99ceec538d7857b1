package sqlnode

import (
	"io/fs"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/disk"
)

// syncCounts counts how often the logs were made durable, and how long that took.
type syncCounts struct {
	log      atomic.Int64
	logNanos atomic.Int64
}

// countingFS is a file system whose syncs of log files are counted.
type countingFS struct {
	disk.FS
	counts *syncCounts
}

// OpenFile implements disk.FS.
func (c countingFS) OpenFile(op, name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := c.FS.OpenFile(op, name, flag, perm)
	if err != nil || !strings.HasPrefix(op, "log.") {
		return f, err
	}
	return countingFile{f, c.counts}, nil
}

type countingFile struct {
	disk.File
	counts *syncCounts
}

// Sync implements disk.File.
func (f countingFile) Sync() error {
	start := time.Now()
	err := f.File.Sync()
	f.counts.log.Add(1)
	f.counts.logNanos.Add(int64(time.Since(start)))
	return err
}

// Allocate keeps what disk.Allocate can do for the file below.
func (f countingFile) Allocate(size int64) error { return disk.Allocate(f.File, size) }
