package sqlnode

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nearsql/nearsql/disk"
)

// newSpace watches the disk that the data is on; nil if it need not be watched.
func newSpace(cfg *Config) *disk.Space {
	dir := cfg.DataDir
	return disk.NewSpace(disk.SpaceConfig{Free: func() (int64, error) { return freeSpace(dir) }, Reserve: cfg.MinFreeSpace, Log: cfg.Log})
}

// freeSpace is the number of bytes that dir's file system has left for this process.
func freeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
