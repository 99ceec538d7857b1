package localcluster

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// errNoDialler says that no process that was asked about has the connection.
var errNoDialler = errors.New("none of the processes has this connection")

// dialler says which process dialled from a loopback address to another (proc_pid_fd(5)).
func dialler(from, to netip.AddrPort, pids []int) (pid int, err error) {
	inode, err := inodeOf(from, to)
	if err != nil {
		return 0, err
	}
	link := "socket:[" + inode + "]"
	for _, pid := range pids {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // it has ended
		}
		for _, e := range entries {
			if is, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && is == link {
				return pid, nil
			}
		}
	}
	return 0, errNoDialler
}
