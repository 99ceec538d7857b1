package crrfiles

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

// A kept file is a copy of what a tenant's file was before it was replaced, with the identity that it had then. It is
// there until Salvage has brought what only it has into the new one. Its name says whose it is and what file it was:
// ID.old-FILE.db.

const (
	keptMark = ".old-"
	keptEnd  = ".db"
)

func (m *Manager) keptPath(id wire.TenantID, file crr.FileID) string {
	return filepath.Join(m.cfg.Dir, id.String()+keptMark+file.String()+keptEnd)
}

// parseKept reads a name.
func parseKept(name string) (id wire.TenantID, file crr.FileID, ok bool) {
	name, ok = strings.CutSuffix(name, keptEnd)
	if !ok {
		return id, file, false
	}
	whose, which, ok := strings.Cut(name, keptMark)
	if !ok {
		return id, file, false
	}
	id, err := wire.ParseTenantID(whose)
	b, herr := hex.DecodeString(which)
	if err != nil || herr != nil || copy(file[:], b) != len(file) || len(b) != len(file) {
		return id, file, false
	}
	return id, file, true
}

// listKept reads the directory once: which files are kept, and what an earlier process left half made, which goes.
func (m *Manager) listKept() (map[wire.TenantID][]crr.FileID, error) {
	m.making.Lock()
	defer m.making.Unlock()
	if m.kept != nil {
		return m.kept, nil
	}
	names, err := m.cfg.FS.ReadDir("crr.list", m.cfg.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list files of conflict-free tables: %w", err)
	}
	kept := map[wire.TenantID][]crr.FileID{}
	for _, n := range names {
		half := n.Name()
		for _, end := range []string{"-journal", "-wal", "-shm"} {
			half = strings.TrimSuffix(half, end)
		}
		if strings.HasSuffix(half, fetchEnd) || strings.Contains(half, keptMark) && strings.HasSuffix(half, disk.TempSuffix) {
			if err := m.cfg.FS.Remove("crr.remove", filepath.Join(m.cfg.Dir, n.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		} else if id, file, ok := parseKept(n.Name()); ok {
			kept[id] = append(kept[id], file)
		}
	}
	m.kept = kept
	return kept, nil
}

// Kept returns the ids of the tenant's files that are to be salvaged.
func (f *File) Kept() ([]crr.FileID, error) {
	all, err := f.m.listKept()
	if err != nil {
		return nil, err
	}
	f.m.making.Lock()
	defer f.m.making.Unlock()
	return slices.Clone(all[f.id]), nil
}

// keep makes a copy of the file as it is, under its own id. Under the turn.
func (f *File) keep(w *Writer) error {
	if _, err := f.m.listKept(); err != nil {
		return err
	}
	me := w.Site.Identity().File
	path := f.m.keptPath(f.id, me)
	tmp := path + disk.TempSuffix
	for _, name := range []string{tmp, tmp + "-journal"} {
		if err := f.m.cfg.FS.Remove("crr.keep.clear", name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// A connection of its own: the writer's may be under rules that VACUUM breaks.
	c, err := w.store.OpenCRRWriter(f.path, nil)
	if err != nil {
		return err
	}
	err = errors.Join(c.Exec("VACUUM crr INTO '"+strings.ReplaceAll(uriOf(tmp), "'", "''")+"'"), c.Close())
	if err != nil {
		return err
	}
	return f.keepAs(tmp, me)
}

// drop removes a kept file.
func (f *File) drop(file crr.FileID) error {
	if _, err := f.m.unlink(f.m.keptPath(f.id, file)); err != nil {
		return err
	}
	f.m.making.Lock()
	defer f.m.making.Unlock()
	f.m.kept[f.id] = slices.DeleteFunc(f.m.kept[f.id], func(k crr.FileID) bool { return k == file })
	if len(f.m.kept[f.id]) == 0 {
		delete(f.m.kept, f.id)
	}
	return nil
}

func syncFile(fsys disk.FS, op, name string) error {
	f, err := fsys.OpenFile(op, name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func uriOf(path string) string {
	return sqlite.FileURI(path, "vfs=unix")
}

// openAlone opens a reader of a file that nobody else uses, on a connection that knows no tenant's store.
func openAlone(path string) (_ *crr.Reader, closes func() error, err error) {
	c, err := sqlite.Open(":memory:", "", sqlite.ReadWrite|sqlite.Create|sqlite.URI)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if err := configure(c); err != nil {
		return nil, nil, err
	}
	if err := c.Exec("ATTACH '" + strings.ReplaceAll(uriOf(path)+"&mode=rw", "'", "''") + "' AS crr"); err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", path, err)
	}
	r := crr.OpenReader(Adapt(c))
	return r, func() error { r.Close(); return c.Close() }, nil
}
