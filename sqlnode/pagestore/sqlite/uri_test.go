package sqlite

import (
	"os"
	"path/filepath"
	"testing"
)

// Files are found by any path that the system takes.
func TestFileURI(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, dir := range []string{"n1", "./n2/..", ".", "a b", "50%", "q?x=1", "h#", "c:d", "é", filepath.Join(t.TempDir(), "abs ?#%")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "x?.db")
		c, err := Open(FileURI(path, "vfs=unix"), "", ReadWrite|Create|URI)
		if err == nil {
			err = c.Exec("CREATE TABLE t(a)")
			c.Close()
		}
		if err != nil {
			t.Errorf("%s: %v", path, err)
		} else if info, err := os.Stat(path); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", path, err)
		}
		os.Remove(path)
	}
}
