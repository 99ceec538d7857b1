package pagestore

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nearsql/nearsql/wire"
)

// A purged tenant is gone from the group at once, its files are removed later: not before a
// snapshot of the log is durable that does not list the tenant. A restart from an older one
// reads entries of the tenant's life again, which needs its files. A restart from that one, when
// the files were still there, finds files that belong to nobody; they are looked for once,
// after the first checkpoint.

// purged is a tenant whose files wait to be removed.
type purged struct {
	t     *Tenant
	index uint64 // of the entry that purged it
}

// purge takes a tenant out of the group.
func (g *Group) purge(t *Tenant, index uint64) {
	g.mu.Lock()
	delete(g.mu.tenants, t.id)
	delete(g.mu.dirty, t)
	if g.cfg.Streams { // index is no log's: a capture that has the tenant has a smaller one
		g.mu.index++
		index = g.mu.index
	}
	g.mu.purged = append(g.mu.purged, purged{t, index})
	g.mu.Unlock()
	t.mu.Lock()
	t.dropQueueLocked()
	t.forgetLocked()
	for op := range t.mu.staging {
		t.takeStagingLocked(op).drop()
	}
	s := t.mu.store
	t.mu.Unlock()
	t.forgetHave()
	if s != nil {
		s.close(fmt.Errorf("tenant %s: %w", t.id, ErrNoTenant))
	}
}

// removePurged removes the files of tenants that were purged at or below index, up to which a
// snapshot of the log is durable. What can't be removed now is tried again after the next.
func (g *Group) removePurged(index uint64) {
	if index == 0 {
		return
	}
	g.tidying.Lock() // nothing absorbs or compacts meanwhile
	defer g.tidying.Unlock()
	g.mu.Lock()
	list, swept := g.mu.purged, g.mu.swept
	g.mu.purged = nil
	g.mu.Unlock()
	var rest []purged
	for _, p := range list {
		if p.index > index || p.t.inUse() {
			rest = append(rest, p)
			continue
		}
		if err := g.files.removeTenant(p.t.id); err != nil {
			g.cfg.Log.Warn("files of a purged tenant stay", "id", p.t.id, "group", g.cfg.ID, "error", err)
			rest = append(rest, p)
			continue
		}
		g.cfg.Log.Info("files of a purged tenant removed", "id", p.t.id, "group", g.cfg.ID)
	}
	g.mu.Lock()
	g.mu.purged = append(rest, g.mu.purged...)
	g.mu.Unlock()
	if !swept {
		if err := g.sweep(); err != nil {
			g.cfg.Log.Warn("files that belong to no tenant stay", "group", g.cfg.ID, "error", err)
			return
		}
		g.mu.Lock()
		g.mu.swept = true
		g.mu.Unlock()
	}
}

// inUse says whether a builder or a checkpoint still works on the store.
func (t *Tenant) inUse() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.working || t.mu.copying || len(t.mu.holds) > 0
}

// sweep removes the files of tenants that the group does not know.
func (g *Group) sweep() error {
	ids := map[wire.TenantID]struct{}{}
	for _, dir := range []string{"bases", "ltx", "failed", "replaced"} {
		names, err := g.cfg.FS.ReadDir("purge.list", filepath.Join(g.cfg.Dir, dir))
		if err != nil {
			return err
		}
		for _, n := range names {
			name, _, _ := strings.Cut(n.Name(), ".")
			if id, err := wire.ParseTenantID(name); err == nil {
				ids[id] = struct{}{}
			}
		}
	}
	// After the list: a tenant that was made since is known now, and ids are never used again.
	for id := range ids {
		if _, err := g.Tenant(id); err == nil || g.isPurged(id) {
			continue
		}
		if err := g.files.removeTenant(id); err != nil {
			return err
		}
	}
	return nil
}

func (g *Group) isPurged(id wire.TenantID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.mu.purged, func(p purged) bool { return p.t.id == id })
}

// removeTenant removes all files of a tenant that no snapshot lists. Units that hold pages of
// it are retired in their time.
func (f *files) removeTenant(id wire.TenantID) error {
	f.dropPrivate(id)
	if err := f.cfg.FS.RemoveAll("purge.ltx", f.ltxOf(id)); err != nil {
		return fmt.Errorf("remove LTX files: %w", err)
	}
	base := f.basePath(id)
	// The mark of a failed copy last: until then the files are of no use to anyone.
	for _, name := range []string{base, base + ".sums", f.replacedPath(id), f.failedPath(id)} {
		if err := f.cfg.FS.Remove("purge.remove", name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove base: %w", err)
		}
	}
	f.mu.Lock()
	delete(f.mu.failed, id)
	delete(f.mu.replaced, id)
	f.mu.Unlock()
	return nil
}

// dropPrivate removes the segments of large transactions of a tenant that no unit has.
func (f *files) dropPrivate(id wire.TenantID) {
	f.mu.Lock()
	var private []*segment
	f.mu.private = slices.DeleteFunc(f.mu.private, func(s *segment) bool {
		if s.sections[0].Tenant != id {
			return false
		}
		private = append(private, s)
		f.mu.bytes -= s.bytes
		return true
	})
	f.mu.Unlock()
	for _, s := range private {
		f.removeSegment(s)
	}
}
