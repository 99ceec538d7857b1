package crrfiles

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

// A damaged file is put aside as it is, under the name ID.damaged-FILE.db, where FILE is the id that it had. Nobody reads it again but people; the newest
// damagedMost of a tenant stay.

const (
	damagedMark = ".damaged-"
	damagedMost = 2
)

// ErrWhole says that a file is in service: there is nothing to be rebuilt.
var ErrWhole = errors.New("the file of conflict-free tables is not damaged")

// unopened is an error that was met before the file could be used at all.
type unopened struct{ error }

// Unwrap returns what was met.
func (e unopened) Unwrap() error { return e.error }

// Rebuilt is what became of a damaged file.
type Rebuilt struct {
	Aside string // where it is now
	// Kept: it can be opened, and what can be read of it and only it has is to be salvaged.
	Kept bool
}

// Examine reads all of the file, and takes it out of service if it is damaged. It returns why it is out of service; nil if it is not.
func (f *File) Examine(ctx context.Context) (*DamagedError, error) {
	if why := f.Failed(); why != nil {
		return why, nil
	}
	r, err := f.NewReader(ctx)
	if err == nil {
		err = examine(r)
		r.Close()
		f.Suspect(err)
	}
	if why := f.Failed(); why != nil {
		return why, nil
	}
	return nil, err
}

func examine(r *Reader) error {
	verdict := ""
	err := each(r.conn.Conn, "PRAGMA crr.integrity_check(1)", func(s *sqlite.Stmt) error { verdict = s.Column(0).Str(); return nil })
	if err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s", crr.ErrCorrupt, verdict)
	}
	tables, err := r.Check()
	for _, t := range tables {
		if len(t.Faults) > 0 {
			return fmt.Errorf("%w: table %s: %s", crr.ErrCorrupt, t.Name, t.Faults[0])
		}
	}
	return err
}

// OwnSent returns the file that was here last, as far as is known, and up to where its own transactions have left this node.
func (f *File) OwnSent() (file crr.FileID, upto crr.HLC, known bool, err error) {
	is, known, err := f.sent.load()
	return is.file, is.upto, known, err
}

// Rebuild puts a fetched copy of another site's file in the place of one that is out of service, which it puts aside, and takes the file into service. It has
// another id then, and no number. If the damaged file can be opened, a copy of it is kept for Salvage. Connections to the damaged file see nothing of the new one.
//
// After a crash on the way the file is missing, or damaged as it was, or rebuilt.
func (f *File) Rebuild(ctx context.Context, fetched string) (out Rebuilt, err error) {
	if _, err := f.m.listKept(); err != nil {
		return out, err
	}
	if err := f.take(ctx); err != nil {
		return out, err
	}
	defer f.give(true)
	if f.removed {
		return out, ErrNone
	}
	if f.failed.Load() == nil {
		return out, ErrWhole
	}
	f.shut()
	id, err := f.keepDamaged(&out)
	if err != nil {
		return out, fmt.Errorf("keep what can be read of a damaged file of conflict-free tables: %w", err)
	}
	if out.Aside, err = f.putAside(id); err != nil {
		return out, fmt.Errorf("put a damaged file of conflict-free tables aside: %w", err)
	}
	if err := f.m.cfg.FS.Rename("crr.rebuild.rename", fetched, f.path); err != nil {
		return out, err
	}
	if err := f.m.cfg.FS.SyncDir("crr.rebuild.dir", f.m.cfg.Dir); err != nil {
		return out, err
	}
	f.state.Store(nil)
	f.synced.Store(0)
	f.number.Store(0)
	f.tainted.Store(0)
	f.ended.Store(false)
	f.failed.Store(nil)
	f.m.Stats.Rebuilt.Add(1)
	return out, f.m.prune(f.id)
}

// keepDamaged makes a kept file of what is damaged, if it can be opened. It returns the id that the damaged file had, or another one where that is not known.
func (f *File) keepDamaged(out *Rebuilt) (crr.FileID, error) {
	info, err := f.m.cfg.FS.Stat("crr.stat", f.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return crr.FileID{}, err
	}
	tmp := f.path + keptMark + "damaged" + disk.TempSuffix
	if err == nil {
		if err := f.m.cfg.Space.Fits(2 * info.Size()); err != nil {
			return crr.FileID{}, err
		}
		for _, end := range []string{"", "-wal"} {
			if err := f.m.copyFile(f.path+end, tmp+end); err != nil {
				return crr.FileID{}, err
			}
		}
		head, err := headOf(tmp)
		if err == nil && head.Tenant == f.id.String() && head.File != (crr.FileID{}) {
			out.Kept = head.Site != 0
			if out.Kept {
				err = f.keepAs(tmp, head.File)
			}
			return head.File, err
		}
		if err != nil && !damage(err) {
			f.m.cfg.Log.Info("a damaged file of conflict-free tables can't be opened", "id", f.id, "error", err)
		}
	}
	if _, err := f.m.unlink(tmp); err != nil {
		return crr.FileID{}, err
	}
	is, there, err := f.sent.load()
	if err == nil && there {
		return is.file, nil
	}
	return crr.NewFileID()
}

// keepAs makes tmp, which is closed, a kept file.
func (f *File) keepAs(tmp string, file crr.FileID) error {
	if err := syncFile(f.m.cfg.FS, "crr.keep.sync", tmp); err != nil {
		return err
	}
	if f.m.exists(tmp + "-wal") {
		return fmt.Errorf("%s has a log that was not written back", tmp)
	}
	if err := f.m.cfg.FS.Rename("crr.keep.rename", tmp, f.m.keptPath(f.id, file)); err != nil {
		return err
	}
	if err := f.m.cfg.FS.SyncDir("crr.keep.dir", f.m.cfg.Dir); err != nil {
		return err
	}
	f.m.making.Lock()
	defer f.m.making.Unlock()
	if !slices.Contains(f.m.kept[f.id], file) {
		f.m.kept[f.id] = append(f.m.kept[f.id], file)
	}
	return nil
}

// putAside gives the damaged file another name. Its log goes first: another file in its place must not find it.
func (f *File) putAside(file crr.FileID) (string, error) {
	aside := f.m.damagedPath(f.id, file)
	for _, end := range []string{"-wal", "-shm", ""} {
		err := f.m.cfg.FS.Rename("crr.aside.rename", f.path+end, aside+end)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return aside, err
		}
	}
	return aside, f.m.cfg.FS.SyncDir("crr.aside.dir", f.m.cfg.Dir)
}

func (m *Manager) damagedPath(id wire.TenantID, file crr.FileID) string {
	return filepath.Join(m.cfg.Dir, id.String()+damagedMark+file.String()+keptEnd)
}

// copyFile copies a file byte by byte; one that does not exist leaves none.
func (m *Manager) copyFile(from, to string) error {
	if err := m.cfg.FS.Remove("crr.keep.clear", to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r, err := m.cfg.FS.OpenFile("crr.keep.read", from, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	w, err := m.cfg.FS.OpenFile("crr.keep.write", to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return errors.Join(err, r.Close())
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close(), r.Close())
}

// FromDamaged says whether a kept file is a copy of a damaged one.
func (f *File) FromDamaged(kept crr.FileID) bool { return f.m.exists(f.m.damagedPath(f.id, kept)) }

// GiveUp removes a kept file of which nothing can be salvaged; the damaged one that it is a copy of stays aside.
func (f *File) GiveUp(kept crr.FileID) (aside string, err error) {
	return f.m.damagedPath(f.id, kept), f.drop(kept)
}

// damagedFiles are the names of a tenant's files that were put aside, the oldest first.
func (m *Manager) damagedFiles(id wire.TenantID) ([]string, error) {
	names, err := m.cfg.FS.ReadDir("crr.list", m.cfg.Dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	type aged struct {
		path string
		at   int64
	}
	var found []aged
	for _, n := range names {
		if strings.HasPrefix(n.Name(), id.String()+damagedMark) && strings.HasSuffix(n.Name(), keptEnd) {
			path := filepath.Join(m.cfg.Dir, n.Name())
			info, err := m.cfg.FS.Stat("crr.stat", path)
			if err != nil {
				return nil, err
			}
			found = append(found, aged{path, info.ModTime().UnixNano()})
		}
	}
	slices.SortFunc(found, func(a, b aged) int { return cmp.Compare(a.at, b.at) })
	out := make([]string, len(found))
	for i, x := range found {
		out[i] = x.path
	}
	return out, nil
}

// prune removes damaged files but for the newest.
func (m *Manager) prune(id wire.TenantID) error {
	list, err := m.damagedFiles(id)
	for err == nil && len(list) > damagedMost {
		_, err = m.unlink(list[0])
		list = list[1:]
	}
	return err
}

// SitesOf returns a tenant's own sites, all that ever were, as main shows them here; it needs no file.
func SitesOf(t *pagestore.Tenant) ([]Site, error) {
	s, err := t.Acquire()
	if err != nil {
		return nil, err
	}
	defer t.Release()
	c, err := s.OpenReader(nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return sitesOf(c.Conn, t.ID())
}
