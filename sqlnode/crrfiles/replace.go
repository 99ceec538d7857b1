package crrfiles

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/disk"
)

// LacksError is a copy of another site's file that lacks transactions which this file has of other nodes' sites.
type LacksError struct {
	Site crr.SiteID
	Have crr.HLC // here
	Got  crr.HLC // in the copy
}

func (e *LacksError) Error() string {
	return fmt.Sprintf("the copy has transactions of site %d up to %s, this file up to %s", e.Site, e.Got, e.Have)
}

// fetchEnd ends the names of fetched copies.
const fetchEnd = ".fetch" + disk.TempSuffix

// Fetch writes a copy of another site's file beside the tenant's own, as from writes it, and checks all of it. It returns the copy's path, which Replace takes. The
// copy is removed by the next Fetch, by Replace, or by the next process.
func (f *File) Fetch(ctx context.Context, from func(ctx context.Context, w io.Writer) error) (path string, err error) {
	if _, err := f.m.listKept(); err != nil { // what is removed at first must not be this
		return "", err
	}
	path = f.path + fetchEnd
	if err := f.discard(path); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.discard(path))
		}
	}()
	to, err := f.m.cfg.FS.OpenFile("crr.fetch.create", path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	err = from(ctx, roomyWriter{to, f.m.cfg.Space})
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return "", err
	}
	r, closes, err := openAlone(path)
	if err != nil {
		return "", damaged(err)
	}
	_, err = r.CheckCopy(f.id.String())
	if err := errors.Join(damaged(err), closes()); err != nil {
		return "", err
	}
	return path, nil
}

// roomyWriter writes while there is room that others don't need more.
type roomyWriter struct {
	to    io.Writer
	space *disk.Space
}

// Write implements io.Writer.
func (w roomyWriter) Write(b []byte) (int, error) {
	if err := w.space.Fits(int64(len(b))); err != nil {
		return 0, err
	}
	return w.to.Write(b)
}

// damaged says of an error that shows a file to be damaged that it is the copy's: the tenant's own stays in service.
func damaged(err error) error {
	if damage(err) {
		return &crr.CopyError{Reason: err.Error()}
	}
	return err
}

// discard removes a fetched copy.
func (f *File) discard(path string) error {
	for _, name := range []string{path, path + "-journal", path + "-wal", path + "-shm"} {
		if err := f.m.cfg.FS.Remove("crr.fetch.remove", name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Replace puts a fetched copy in the place of the file, in one transaction of SQLite: who reads sees the one or the other, and after a
// crash it is the one or the other. Of what the file alone has of sites that were this node's (own), a kept file is made before, for Salvage.
// The file has no number then, and the id that Next says.
//
// A copy that lacks what the file has of other nodes' sites is a *LacksError, unless lacking is true: those nodes have it.
func (f *File) Replace(ctx context.Context, path string, own []crr.SiteID, lacking bool) (kept bool, err error) {
	next, err := f.Next()
	if err != nil {
		return false, err
	}
	info, err := f.m.cfg.FS.Stat("crr.stat", path)
	if err != nil {
		return false, err
	}
	// The rows go through SQLite's log, and the file as it was may be kept.
	if err := f.m.cfg.Space.Fits(3 * info.Size()); err != nil {
		return false, err
	}
	err = f.Write(ctx, func(w *Writer) error {
		copied, err := headOf(path)
		if err != nil {
			return damaged(err)
		}
		if err := w.Site.Accepts(copied); err != nil {
			return err
		}
		alone, lacks := compare(w.Site.Head(), copied.Vector, w.members, own)
		if lacks != nil && !lacking {
			return lacks
		}
		if alone {
			if err := f.keep(w); err != nil {
				return fmt.Errorf("keep the file of conflict-free tables that is replaced: %w", err)
			}
			kept = true
		}
		w.stale = true                                               // what it knows of the file is of before
		return damaged(w.Site.Replace(uriOf(path)+"&mode=rw", next)) // of two files the copy is the one to be doubted
	})
	if err != nil {
		return false, err
	}
	f.m.Stats.Replaced.Add(1)
	return kept, f.discard(path)
}

func headOf(path string) (h crr.Head, err error) {
	r, closes, err := openAlone(path)
	if err != nil {
		return h, err
	}
	h, err = r.Head()
	return h, errors.Join(err, closes())
}

// compare says what a copy lacks of a file: alone, if there are transactions of the node's own sites, now and before, in the file only; and of
// what other site's. What does not count of retired sites is nothing that could be lacked.
func compare(is crr.Head, copied crr.Vector, members []crr.Member, own []crr.SiteID) (alone bool, lacks *LacksError) {
	for site, have := range is.Vector {
		got := copied[site]
		if got >= have {
			continue
		}
		if site == is.Site || slices.Contains(own, site) {
			alone = true
			continue
		}
		i := slices.IndexFunc(members, func(m crr.Member) bool { return m.Site == site })
		if i >= 0 && members[i].State == crr.Retired && got >= members[i].Final {
			continue
		}
		if lacks == nil || site < lacks.Site {
			lacks = &LacksError{site, have, got}
		}
	}
	return alone, lacks
}

// ErrNotSettled says that a kept file can't be salvaged yet: others may still take transactions of a site that was this node's, or have some that are not here.
var ErrNotSettled = errors.New("it is not settled yet which transactions of this node's former sites the others have")

// Salvage writes anew, under the file's number, what only a kept file has of sites that were this node's, in one durable transaction, and removes
// the kept file then. Those sites must be retired, and what others have of them be here: up to where they count, or as all says. Done again it does nothing twice.
func (f *File) Salvage(ctx context.Context, kept crr.FileID, own []crr.SiteID, all bool) (out crr.Salvaged, err error) {
	err = f.Write(ctx, func(w *Writer) error {
		me := w.Site.Identity()
		if me.File == kept {
			return nil // it was made, and the file was not replaced then: there is nothing in it that is not in the file
		}
		if me.Site == 0 {
			return crr.ErrNoSite
		}
		r, closes, err := openAlone(f.m.keptPath(f.id, kept))
		if err != nil {
			return damaged(err)
		}
		defer func() { err = errors.Join(err, closes()) }()
		old, err := r.Head()
		if err != nil {
			return damaged(err)
		}
		vv := w.Site.Vector()
		for _, site := range own {
			if site == me.Site || old.Vector[site] <= vv[site] {
				continue
			}
			if !settled(site, vv[site], w.members, all) {
				return fmt.Errorf("site %d: %w", site, ErrNotSettled)
			}
			got, err := w.Site.Salvage(r, site)
			if err != nil {
				return damaged(err)
			}
			out.Rows, out.Lost = out.Rows+got.Rows, out.Lost+got.Lost
		}
		return nil
	})
	if err != nil {
		return out, err
	}
	f.m.Stats.Salvaged.Add(1)
	f.m.Stats.SalvagedRows.Add(int64(out.Rows))
	f.m.Stats.SalvageLost.Add(int64(out.Lost))
	return out, f.drop(kept)
}

// settled says whether it is certain which transactions of a site that is this node's no more others have: those up to have.
func settled(site crr.SiteID, have crr.HLC, members []crr.Member, all bool) bool {
	i := slices.IndexFunc(members, func(m crr.Member) bool { return m.Site == site })
	return i >= 0 && members[i].State == crr.Retired && (all || have >= members[i].Final)
}
