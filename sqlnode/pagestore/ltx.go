package pagestore

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/superfly/ltx"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/wire"
)

// ltxDir is where the LTX files of a tenant's epoch lie.
func (f *files) ltxDir(id wire.TenantID, epoch wire.Epoch) string {
	return filepath.Join(f.ltxOf(id), fmt.Sprintf("%08x", uint32(epoch)))
}

// ltxOf is where the LTX files of all epochs of a tenant lie.
func (f *files) ltxOf(id wire.TenantID) string { return filepath.Join(f.cfg.Dir, "ltx", id.String()) }

// compactLTX turns absorbed units into one LTX file for each tenant once they are
// large or old enough, removes them, and removes LTX files past their retention.
func (g *Group) compactLTX(ctx context.Context, now time.Time) error {
	units := g.files.absorbedUnits()
	var bytes int64
	for _, u := range units {
		bytes += u.bytes()
	}
	if len(units) == 0 || bytes < g.cfg.LTXBytes && now.Sub(time.UnixMilli(units[0].made)) < g.cfg.LTXAge {
		return nil
	}
	return g.CompactLTX(ctx)
}

// CompactLTX turns all absorbed units into LTX files now, however few.
func (g *Group) CompactLTX(ctx context.Context) error {
	g.tidying.Lock()
	defer g.tidying.Unlock()
	units := g.files.absorbedUnits()
	if len(units) == 0 {
		return nil
	}
	byTenant := map[wire.TenantID][]located{}
	for _, u := range units {
		for id := range u.tenants {
			if sections := g.files.sections(u, id); len(sections) > 0 {
				byTenant[id] = append(byTenant[id], sections...)
			}
		}
	}
	var (
		enc   ltxEncoder
		paths []string
		names []string // until they are whole and durable
		dirs  []string
	)
	all := unit{tenants: byTenant}
	for _, id := range all.ids() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t, err := g.Tenant(id)
		if err != nil {
			continue // purged
		}
		made, err := g.files.writeLTX(&enc, id, byTenant[id])
		var corrupt *CorruptError
		if errors.As(err, &corrupt) {
			// The base has the right page, or the tenant has failed already: what is lost is a link of the chain.
			t.corrupt(fmt.Errorf("the chain of LTX files has a gap: %w", err))
			err = nil
		}
		if err != nil {
			return fmt.Errorf("LTX of tenant %s: %w", id, err)
		}
		for _, m := range made {
			paths = append(paths, m.path)
			names = append(names, m.path+disk.TempSuffix)
			dirs = append(dirs, g.files.unsyncedDirs(m.path)...)
			g.Stats.LTXFiles.Add(1)
			g.Stats.LTXBytes.Add(m.bytes)
		}
	}
	if len(names) > 0 {
		if err := g.cfg.FS.SyncAll("ltx.sync", names...); err != nil {
			return fmt.Errorf("sync LTX files: %w", err)
		}
		for i, p := range paths {
			if err := g.cfg.FS.Rename("ltx.rename", names[i], p); err != nil {
				return fmt.Errorf("name LTX file: %w", err)
			}
		}
		slices.Sort(dirs)
		for _, d := range slices.Compact(dirs) {
			if err := g.cfg.FS.SyncDir("ltx.syncdir", d); err != nil {
				return fmt.Errorf("sync LTX files: %w", err)
			}
		}
		g.files.syncedDirs(dirs)
	}
	if err := g.files.retire(units); err != nil {
		return err
	}
	before := g.cfg.Now().Add(-g.cfg.LTXRetention)
	for _, t := range g.Tenants() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		g.files.expireLTX(t.id, before)
	}
	return nil
}

// unsyncedDirs are the directories whose names must be durable for path to be: its own,
// and those above it that this process has not synced yet.
func (f *files) unsyncedDirs(path string) []string {
	epoch := filepath.Dir(path)
	dirs := []string{epoch}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.mu.ltxDirs[epoch]; !ok {
		dirs = append(dirs, filepath.Dir(epoch), filepath.Dir(filepath.Dir(epoch)))
	}
	return dirs
}

// syncedDirs remembers the directories of epochs among dirs.
func (f *files) syncedDirs(dirs []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.ltxDirs == nil {
		f.mu.ltxDirs = map[string]struct{}{}
	}
	for _, d := range dirs {
		f.mu.ltxDirs[d] = struct{}{}
	}
}

// absorbedUnits returns the units that all bases contain.
func (f *files) absorbedUnits() []*unit {
	f.mu.Lock()
	defer f.mu.Unlock()
	var l []*unit
	for _, u := range f.mu.units {
		if u.seq <= f.mu.absorbed {
			l = append(l, u)
		}
	}
	return l
}

type madeLTX struct {
	path  string
	bytes int64
}

// writeLTX writes one file for each epoch in sections: the newest content of each page. Its name
// ends in disk.TempSuffix until it is durable.
func (f *files) writeLTX(enc *ltxEncoder, id wire.TenantID, sections []located) ([]madeLTX, error) {
	var made []madeLTX
	for len(sections) > 0 {
		n := 1
		for n < len(sections) && sections[n].Epoch == sections[0].Epoch {
			n++
		}
		m, err := f.writeOneLTX(enc, id, sections[:n])
		if err != nil {
			return nil, err
		}
		if m.path != "" {
			made = append(made, m)
		}
		sections = sections[n:]
	}
	return made, nil
}

func (f *files) writeOneLTX(enc *ltxEncoder, id wire.TenantID, sections []located) (madeLTX, error) {
	prev, last := sections[0].Prev, sections[0].Next
	var when int64
	for _, l := range sections {
		if l.Prev.TXID < prev.TXID {
			prev = l.Prev
		}
		if l.Next.TXID > last.TXID {
			last = l.Next
		}
		when = max(when, l.Time)
	}
	newest := newestPages(sections)
	if last.TXID == prev.TXID {
		return madeLTX{}, nil
	}
	pgnos := make([]uint32, 0, len(newest))
	for pgno := range newest {
		if pgno <= last.Pages {
			pgnos = append(pgnos, pgno)
		}
	}
	slices.Sort(pgnos)
	size := sections[0].PageSize
	dir := f.ltxDir(id, sections[0].Epoch)
	if err := f.cfg.FS.MkdirAll("ltx.mkdir", dir, 0o700); err != nil {
		return madeLTX{}, err
	}
	path := filepath.Join(dir, ltx.FormatFilename(ltx.TXID(prev.TXID+1), ltx.TXID(last.TXID)))
	file, err := f.cfg.FS.OpenFile("ltx.create", path+disk.TempSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return madeLTX{}, err
	}
	defer file.Close()
	w := bufio.NewWriterSize(file, 256<<10)
	h := ltx.Header{Version: ltx.Version, PageSize: uint32(size), Commit: last.Pages,
		MinTXID: ltx.TXID(prev.TXID + 1), MaxTXID: ltx.TXID(last.TXID), Timestamp: when}
	if prev.TXID > 0 {
		h.PreApplyChecksum = ltx.Checksum(prev.Checksum)
	}
	if err := enc.begin(w, h); err != nil {
		return madeLTX{}, err
	}
	s := &Store{id: id, pageSize: size} // for readFile alone
	buf := make([]byte, size)
	for _, pgno := range pgnos {
		l := newest[pgno]
		if err := s.readFile(buf, version{sum: l.sum, file: l.file, off: l.off}, pgno, 0); err != nil {
			return madeLTX{}, err
		}
		if err := enc.page(pgno, buf); err != nil {
			return madeLTX{}, err
		}
	}
	if err := enc.finish(last.Checksum); err != nil {
		return madeLTX{}, err
	}
	if err := w.Flush(); err != nil {
		return madeLTX{}, err
	}
	return madeLTX{path, enc.off}, nil
}

// LTXFile is one LTX file of a tenant.
type LTXFile struct {
	Path     string
	Min, Max wire.TXID
	Bytes    int64
	Time     time.Time // when it was written
}

// LTXFiles lists the LTX files of a tenant's epoch, oldest first. No two tell of the same transaction.
func (g *Group) LTXFiles(id wire.TenantID, epoch wire.Epoch) ([]LTXFile, error) {
	l, _, err := g.files.listLTX(id, epoch)
	return l, err
}

// listLTX returns the chain, and the paths of files that are no part of it: compaction was cut short after
// it made them.
func (f *files) listLTX(id wire.TenantID, epoch wire.Epoch) (chain []LTXFile, leftover []string, _ error) {
	dir := f.ltxDir(id, epoch)
	entries, err := f.cfg.FS.ReadDir("ltx.list", dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, nil
		}
		return nil, nil, err
	}
	var l []LTXFile
	for _, e := range entries {
		lo, hi, err := ltx.ParseFilename(e.Name())
		if err != nil {
			if strings.HasSuffix(e.Name(), disk.TempSuffix) {
				leftover = append(leftover, filepath.Join(dir, e.Name()))
			}
			continue
		}
		var fi fs.FileInfo
		if fi, err = e.Info(); err != nil {
			return nil, nil, err
		}
		l = append(l, LTXFile{Path: filepath.Join(dir, e.Name()), Min: wire.TXID(lo), Max: wire.TXID(hi), Bytes: fi.Size(), Time: fi.ModTime()})
	}
	slices.SortFunc(l, func(a, b LTXFile) int { return cmp.Or(cmp.Compare(a.Min, b.Min), cmp.Compare(b.Max, a.Max)) })
	for _, x := range l {
		if n := len(chain); n > 0 && x.Max <= chain[n-1].Max {
			leftover = append(leftover, x.Path)
			continue
		}
		chain = append(chain, x)
	}
	return chain, leftover, nil
}

// expireLTX removes the files of all epochs of a tenant that were written before the time given.
// What remains of an epoch is a chain without gaps.
func (f *files) expireLTX(id wire.TenantID, before time.Time) {
	epochs, err := f.cfg.FS.ReadDir("ltx.list", filepath.Join(f.cfg.Dir, "ltx", id.String()))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			f.cfg.Log.Warn("LTX files past their retention stay", "tenant", id, "error", err)
		}
		return
	}
	for _, e := range epochs {
		if n, err := strconv.ParseUint(e.Name(), 16, 32); err == nil {
			f.expireEpoch(id, wire.Epoch(n), before)
		}
	}
}

func (f *files) expireEpoch(id wire.TenantID, epoch wire.Epoch, before time.Time) {
	l, leftover, err := f.listLTX(id, epoch)
	if err != nil {
		f.cfg.Log.Warn("LTX files past their retention stay", "tenant", id, "error", err)
		return
	}
	for _, path := range leftover {
		if err := f.cfg.FS.Remove("ltx.remove", path); err != nil {
			f.cfg.Log.Warn("LTX file that another contains stays", "file", path, "error", err)
		}
	}
	for _, x := range l {
		if !x.Time.Before(before) {
			break
		}
		if err := f.cfg.FS.Remove("ltx.remove", x.Path); err != nil {
			f.cfg.Log.Warn("LTX file past its retention stays", "file", x.Path, "error", err)
			break
		}
	}
}
