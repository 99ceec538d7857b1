package disk

import (
	"fmt"
	"io/fs"
	"os"
)

// syncEachMax is the number of files up to which SyncAll syncs each by itself:
// beyond it one call for the file system is cheaper (measured: a sync costs
// about as much as the journal commit that all of them share).
const syncEachMax = 8

// OS returns the operating system's file system.
func OS() FS { return osFS{} }

type osFS struct{}

type osFile struct{ *os.File }

func (osFS) OpenFile(_, name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Rename(_, oldname, newname string) error         { return os.Rename(oldname, newname) }
func (osFS) Remove(_, name string) error                     { return os.Remove(name) }
func (osFS) RemoveAll(_, name string) error                  { return os.RemoveAll(name) }
func (osFS) MkdirAll(_, name string, perm fs.FileMode) error { return os.MkdirAll(name, perm) }
func (osFS) ReadDir(_, name string) ([]fs.DirEntry, error)   { return os.ReadDir(name) }
func (osFS) Stat(_, name string) (fs.FileInfo, error)        { return os.Stat(name) }
func (osFS) SyncDir(_, name string) error                    { return syncByName(name) }

func (osFS) SyncAll(_ string, names ...string) error {
	if len(names) > syncEachMax {
		return syncMany(names)
	}
	return syncEach(names)
}

func syncEach(names []string) error {
	for _, name := range names {
		if err := syncByName(name); err != nil {
			return err
		}
	}
	return nil
}

// syncByName syncs a file or directory through a descriptor of its own.
func syncByName(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("close after sync: %w", cerr)
	}
	return err
}
