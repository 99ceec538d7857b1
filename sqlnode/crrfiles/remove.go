package crrfiles

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/nearsql/nearsql/wire"
)

// Remove closes and removes the tenant's file: for a tenant that is purged. What was written here and has reached no other site is gone.
func (m *Manager) Remove(id wire.TenantID) error {
	m.mu.Lock()
	f := m.mu.files[id]
	delete(m.mu.files, id)
	m.mu.Unlock()
	if f != nil {
		f.remove()
	}
	found, err := m.removeAll(id)
	if err != nil {
		return fmt.Errorf("remove the conflict-free tables of tenant %s: %w", id, err)
	}
	if found {
		m.Stats.Removed.Add(1)
		m.cfg.Log.Info("file of conflict-free tables removed", "id", id)
	}
	return nil
}

// removeAll removes what there is of a tenant: the file first, what is kept of earlier ones, and the record of what it sent last.
func (m *Manager) removeAll(id wire.TenantID) (found bool, err error) {
	kept, err := m.listKept()
	if err != nil {
		return false, err
	}
	m.making.Lock()
	old := slices.Clone(kept[id])
	m.making.Unlock()
	paths := []string{m.Path(id), m.Path(id) + fetchEnd}
	damaged, err := m.damagedFiles(id)
	if err != nil {
		return false, err
	}
	paths = append(paths, damaged...)
	for _, file := range old {
		paths = append(paths, m.keptPath(id, file))
	}
	for _, path := range append(paths, m.sentPath(id)) {
		was, err := m.unlink(path)
		if err != nil {
			return found, err
		}
		found = found || was
	}
	m.making.Lock()
	delete(m.kept, id)
	m.making.Unlock()
	return found, nil
}

// unlink removes a file and what SQLite keeps beside it; the file itself first, since without its log it would be an older one.
func (m *Manager) unlink(path string) (found bool, err error) {
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		switch err := m.cfg.FS.Remove("crr.remove", name); {
		case err == nil:
			found = true
		case !errors.Is(err, fs.ErrNotExist):
			return found, err
		}
	}
	if !found {
		return false, nil
	}
	return true, m.cfg.FS.SyncDir("crr.sync", m.cfg.Dir)
}

// List is the tenants of which there is a file. A file is not opened for that.
func (m *Manager) List() ([]wire.TenantID, error) {
	names, err := m.cfg.FS.ReadDir("crr.list", m.cfg.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list files of conflict-free tables: %w", err)
	}
	var list []wire.TenantID
	for _, n := range names {
		name, isFile := strings.CutSuffix(n.Name(), ".db")
		if !isFile {
			continue
		}
		if id, err := wire.ParseTenantID(name); err == nil {
			list = append(list, id)
		}
	}
	return list, nil
}

// Sweep removes the files of tenants that gone says are purged for good. It must be sure: what was written here and has reached no other site is lost.
func (m *Manager) Sweep(gone func(wire.TenantID) bool) error {
	names, err := m.cfg.FS.ReadDir("crr.list", m.cfg.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list files of conflict-free tables: %w", err)
	}
	for _, n := range names {
		name, _, _ := strings.Cut(n.Name(), ".")
		if id, err := wire.ParseTenantID(name); err == nil && gone(id) {
			if err := m.Remove(id); err != nil {
				return err
			}
		}
	}
	return nil
}
