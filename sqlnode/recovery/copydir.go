package recovery

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/nearsql/nearsql/disk"
)

// copyDir copies a directory and all below it, durably. Links would not do: the log goes on in the files that it has.
func copyDir(fsys disk.FS, from, to string) error {
	if err := disk.MkdirAllDurable(fsys, "recover.mkdir", to, 0o700); err != nil {
		return err
	}
	entries, err := fsys.ReadDir("recover.list", from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		src, dst := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		if e.IsDir() {
			err = copyDir(fsys, src, dst)
		} else {
			err = copyFile(fsys, src, dst)
		}
		if err != nil {
			return err
		}
	}
	return fsys.SyncDir("recover.syncdir", to)
}

func copyFile(fsys disk.FS, from, to string) (err error) {
	src, err := fsys.OpenFile("recover.read", from, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := fsys.OpenFile("recover.copy", to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	n, err := io.CopyBuffer(writer{dst}, reader{io.NewSectionReader(src, 0, info.Size())}, make([]byte, 1<<20))
	if err == nil && n != info.Size() {
		err = fmt.Errorf("copy %s: %d bytes of %d", from, n, info.Size())
	}
	if err == nil {
		err = dst.Sync()
	}
	return err
}

// writer and reader keep io.CopyBuffer to its buffer.
type (
	writer struct{ io.Writer }
	reader struct{ io.Reader }
)
