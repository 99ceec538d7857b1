package disk_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/disk/disktest"
)

func TestOSIsAnFS(t *testing.T) {
	disktest.TestFS(t, disk.OS(), t.TempDir())
}

func TestMemFSIsAnFS(t *testing.T) {
	disktest.TestFS(t, disktest.NewMemFS(), "/")
}

func TestFaultsIsAnFS(t *testing.T) {
	disktest.TestFS(t, disktest.NewFaults(disktest.NewMemFS()), "/")
}

func TestSyncAllOfMany(t *testing.T) {
	dir := t.TempDir()
	var names []string
	for i := range 20 {
		name := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := disk.OS().SyncAll("test.sync", names...); err != nil {
		t.Fatal(err)
	}
	names[7] = filepath.Join(dir, "missing")
	if err := disk.OS().SyncAll("test.sync", names...); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("with a missing file: %v", err)
	}
}

func TestIsFull(t *testing.T) {
	if !disk.IsFull(fmt.Errorf("write: %w", &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC})) {
		t.Error("ENOSPC is not full")
	}
	if disk.IsFull(syscall.EIO) || disk.IsFull(nil) {
		t.Error("EIO or nil is full")
	}
}
