package pagestore

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/superfly/ltx"

	"github.com/nearsql/nearsql/wire"
)

// ltxDir is where the LTX files of a tenant's epoch lie.
func (f *files) ltxDir(id wire.TenantID, epoch wire.Epoch) string {
	return filepath.Join(f.cfg.Dir, "ltx", id.String(), fmt.Sprintf("%08x", uint32(epoch)))
}

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
	units := g.files.absorbedUnits()
	if len(units) == 0 {
		return nil
	}
	byTenant := map[wire.TenantID][]located{}
	for _, u := range units {
		for id, sections := range u.tenants {
			byTenant[id] = append(byTenant[id], sections...)
		}
	}
	var (
		enc   ltxEncoder
		names []string
		dirs  []string
	)
	for id, sections := range byTenant {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t, err := g.Tenant(id)
		if err != nil {
			continue
		}
		made, err := g.files.writeLTX(&enc, id, sections)
		if err != nil {
			return fmt.Errorf("LTX of tenant %s: %w", id, err)
		}
		for _, m := range made {
			names = append(names, m.path)
			dirs = append(dirs, filepath.Dir(m.path))
			g.Stats.LTXFiles.Add(1)
			g.Stats.LTXBytes.Add(m.bytes)
		}
		g.files.expireLTX(t.id, t.Record().Epoch, g.cfg.Now().Add(-g.cfg.LTXRetention))
	}
	if len(names) > 0 {
		if err := g.cfg.FS.SyncAll("ltx.sync", names...); err != nil {
			return fmt.Errorf("sync LTX files: %w", err)
		}
		slices.Sort(dirs)
		for _, d := range slices.Compact(dirs) {
			if err := g.cfg.FS.SyncDir("ltx.syncdir", d); err != nil {
				return fmt.Errorf("sync LTX files: %w", err)
			}
		}
	}
	return g.files.retire(units)
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

// writeLTX writes one file for each epoch in sections: the newest content of each page. A file that
// exists already, from an attempt that was cut short, is written anew.
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
	newest := map[uint32]location{}
	for _, l := range sections {
		if l.Prev.TXID < prev.TXID {
			prev = l.Prev
		}
		if l.Next.TXID > last.TXID {
			last = l.Next
		}
		when = max(when, l.Time)
		for i, p := range l.pages {
			newest[p.pgno] = location{l.file, l.pageOffset(i), p.sum}
		}
	}
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
	file, err := f.cfg.FS.OpenFile("ltx.create", path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
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
	s := &Store{id: id, pageSize: size}
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

// LTXFiles lists the LTX files of a tenant's epoch, oldest first.
func (g *Group) LTXFiles(id wire.TenantID, epoch wire.Epoch) ([]LTXFile, error) {
	return g.files.listLTX(id, epoch)
}

func (f *files) listLTX(id wire.TenantID, epoch wire.Epoch) ([]LTXFile, error) {
	dir := f.ltxDir(id, epoch)
	entries, err := f.cfg.FS.ReadDir("ltx.list", dir)
	if err != nil {
		if os.IsNotExist(err) {
			return nil, nil
		}
		return nil, err
	}
	var l []LTXFile
	for _, e := range entries {
		lo, hi, err := ltx.ParseFilename(e.Name())
		if err != nil {
			continue
		}
		var fi fs.FileInfo
		if fi, err = e.Info(); err != nil {
			return nil, err
		}
		l = append(l, LTXFile{Path: filepath.Join(dir, e.Name()), Min: wire.TXID(lo), Max: wire.TXID(hi), Bytes: fi.Size(), Time: fi.ModTime()})
	}
	slices.SortFunc(l, func(a, b LTXFile) int { return int(int64(a.Min) - int64(b.Min)) })
	return l, nil
}

// expireLTX removes the files written before the time given. What remains is a chain without gaps.
func (f *files) expireLTX(id wire.TenantID, epoch wire.Epoch, before time.Time) {
	l, err := f.listLTX(id, epoch)
	if err != nil {
		return
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
