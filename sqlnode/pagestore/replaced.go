package pagestore

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/wire"
)

// A copy that came from another node lies beside the base that it replaces, under a name with a
// number. The file in `replaced`, named by the tenant's id, makes it the base: that is one atomic write.

func (f *files) replacedDir() string { return filepath.Join(f.cfg.Dir, "replaced") }

func (f *files) replacedPath(id wire.TenantID) string {
	return filepath.Join(f.replacedDir(), id.String())
}

// loadReplaced reads the records of all copies, and removes bases that are of no use any more.
func (f *files) loadReplaced() error {
	f.mu.replaced = map[wire.TenantID]replacement{}
	names, err := f.cfg.FS.ReadDir("replaced.list", f.replacedDir())
	if err != nil {
		return fmt.Errorf("list replaced copies: %w", err)
	}
	for _, n := range names {
		id, err := wire.ParseTenantID(n.Name())
		if err != nil {
			continue // one that was not finished
		}
		b, err := disk.ReadFile(f.cfg.FS, "replaced.read", f.replacedPath(id), 2*maxRecord)
		if err != nil {
			return fmt.Errorf("replaced copy of tenant %s: %w", id, err)
		}
		p, err := decodeReplacement(b, id)
		if err != nil {
			// What it named can't be told from what was not finished. Another copy heals that.
			f.mu.failed[id] = fmt.Sprintf("the record of a copy, %s: %v", f.replacedPath(id), err)
			f.cfg.Log.Error("the record of a copy is damaged", "id", id, "group", f.cfg.ID, "error", err)
			continue
		}
		f.mu.replaced[id] = p
		f.mu.nextSeq = max(f.mu.nextSeq, p.number+1)
	}
	return f.removeLeftBases()
}

// removeLeftBases removes copies that were not finished, and bases that were replaced.
func (f *files) removeLeftBases() error {
	names, err := f.cfg.FS.ReadDir("base.list", f.basesDir())
	if err != nil {
		return fmt.Errorf("list bases: %w", err)
	}
	for _, n := range names {
		path := filepath.Join(f.basesDir(), n.Name())
		head, _, _ := strings.Cut(n.Name(), ".")
		id, err := wire.ParseTenantID(head)
		if base := strings.TrimSuffix(path, ".sums"); err != nil || base == f.basePathLocked(id) {
			continue
		}
		if err := f.cfg.FS.Remove("base.remove", path); err != nil {
			return fmt.Errorf("remove a base that was replaced: %w", err)
		}
	}
	return nil
}

// replace makes the base with the number the tenant's.
func (f *files) replace(p replacement) error {
	b, err := p.encode(f.cfg.ID)
	if err != nil {
		return err
	}
	return disk.WriteFileAtomic(f.cfg.FS, "replaced.write", f.replacedPath(p.rec.ID), b, 0o600)
}

// removeBase removes a base that nothing names, as far as that works: the next start does the rest.
func (f *files) removeBase(path string) {
	for _, name := range []string{path, path + ".sums"} {
		if err := f.cfg.FS.Remove("base.remove", name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.cfg.Log.Warn("base that is not used any more stays", "file", name, "error", err)
		}
	}
}
