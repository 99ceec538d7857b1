package pagestore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/wire"
)

// maxManifest bounds a manifest, in bytes.
const maxManifest = 1 << 30

// Restore brings the group to a manifest that Persist wrote: at the start, or, when the log of another node
// passed this one by, at any time; by the goroutine that calls Apply. It reads and writes no pages.
//
// A tenant that stands where the manifest says, or further ahead, stays as it is. Others are hollow until ReadCopy. Tenants that
// are not in the manifest are removed. Nothing of that needs to be written: a restart finds the same manifest,
// and the newest one of its own.
func (g *Group) Restore(r io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return fmt.Errorf("read manifest of group %d: %w", g.cfg.ID, err)
	}
	if len(b) > maxManifest {
		return fmt.Errorf("the manifest of group %d has more than %d bytes", g.cfg.ID, maxManifest)
	}
	m, err := decodeManifest(b)
	if err != nil {
		return fmt.Errorf("manifest of group %d: %w", g.cfg.ID, err)
	}
	if m.group != g.cfg.ID {
		return fmt.Errorf("the manifest is of group %d, not %d", m.group, g.cfg.ID)
	}
	g.mu.Lock()
	fresh := g.mu.index == 0 && len(g.mu.tenants) == 0
	g.mu.Unlock()
	if g.cfg.Streams {
		return fmt.Errorf("group %d: %w", g.cfg.ID, ErrStreams)
	}
	defer g.observeBegun()
	if fresh {
		if m.origin == g.files.origin || m.origin == (origin{}) {
			return g.restoreOwn(m, nil)
		}
		// The newest own manifest tells what the files of this node hold.
		own, err := g.files.loadManifest()
		if err != nil {
			return err
		}
		if err := g.restoreOwn(own, m); err != nil {
			return err
		}
	}
	g.follow(m)
	return nil
}

// restoreOwn makes the tenants known that a manifest of this node lists, as its files hold them. What came as a copy later
// counts instead, if the manifest, or next, that of another node which comes after it, can have it.
func (g *Group) restoreOwn(m, next *manifest) error {
	if next == nil || len(m.units) > 0 {
		if err := g.files.loadUnits(m.units); err != nil {
			return err
		}
	}
	replaced := g.files.replacements()
	add := func(mt manifestTenant) {
		t := newTenant(g, mt.rec.ID)
		t.mu.failed = g.files.failedBefore(t.id)
		t.mu.rec, t.mu.log, t.mu.logTime, t.mu.index = mt.rec, mt.state, mt.time, mt.index
		t.mu.durable, t.mu.built = mt.state, mt.state
		t.mu.floor = mt.index
		g.add(t)
	}
	// newer says whether a copy came after the manifest was begun, given that its tenant is there with an index. Without a log
	// indexes don't tell; each checkpoint is wholly before or after.
	newest := uint64(0)
	for _, u := range m.units {
		newest = max(newest, u.seq)
	}
	newer := func(p *replacement, index uint64) bool {
		if g.cfg.Streams {
			return p.number > newest
		}
		return p.index > index
	}
	for _, mt := range m.tenants {
		if p, ok := replaced[mt.rec.ID]; ok && newer(&p, mt.index) {
			mt = p.manifestTenant
		}
		delete(replaced, mt.rec.ID)
		add(mt)
	}
	listed := map[wire.TenantID]struct{}{}
	if next != nil {
		for i := range next.tenants {
			listed[next.tenants[i].rec.ID] = struct{}{}
		}
	}
	for id, p := range replaced {
		// It was made after the manifest; else it was purged before, and ids are not used again.
		if _, ok := listed[id]; ok || newer(&p, m.index) {
			add(p.manifestTenant)
		}
	}
	g.mu.Lock()
	g.mu.index = m.index
	g.mu.Unlock()
	return nil
}

// follow brings the group, as far as its pages allow, to a manifest of another node.
func (g *Group) follow(m *manifest) {
	g.mu.Lock()
	at := g.mu.index
	g.mu.Unlock()
	if m.index <= at {
		g.cfg.Log.Info("snapshot of the log is contained", "group", g.cfg.ID, "index", m.index, "have", at)
		return
	}
	g.dropStaging() // who made the manifest had no operation open
	listed := make(map[wire.TenantID]struct{}, len(m.tenants))
	hollow := 0
	for i := range m.tenants {
		mt := &m.tenants[i]
		listed[mt.rec.ID] = struct{}{}
		t, err := g.Tenant(mt.rec.ID)
		if err != nil {
			t = newTenant(g, mt.rec.ID)
		}
		t.mu.Lock()
		s := t.mu.store
		missing := t.followLocked(mt)
		if missing {
			hollow++
			t.mu.store = nil
		}
		reason := t.mu.failed
		t.mu.Unlock()
		if missing && s != nil {
			s.close(reason)
		}
		if err != nil {
			g.add(t)
		}
	}
	if hollow > 0 {
		g.someAil()
	}
	removed := 0
	for _, t := range g.Tenants() {
		if _, ok := listed[t.id]; ok {
			continue
		}
		t.mu.Lock()
		gone := t.mu.index <= m.index // else it was made later
		t.mu.gone = gone
		t.mu.Unlock()
		if gone {
			removed++
			g.purge(t, m.index)
		}
	}
	g.mu.Lock()
	g.mu.index = m.index
	// The log has nothing new until its next entry, and would refuse a snapshot.
	g.mu.logged, g.mu.changed = 0, time.Time{}
	g.mu.Unlock()
	g.cfg.Log.Warn("the log went on without this node", "group", g.cfg.ID, "index", m.index, "was", at,
		"tenants", len(m.tenants), "hollow", hollow, "removed", removed)
}

func (f *files) manifestPath() string { return filepath.Join(f.cfg.Dir, "manifest") }

// saveManifest keeps the newest manifest of this node beside its files.
func (f *files) saveManifest(b []byte) error {
	if err := disk.WriteFileAtomic(f.cfg.FS, "manifest.write", f.manifestPath(), b, 0o600); err != nil {
		return fmt.Errorf("keep the manifest: %w", err)
	}
	return nil
}

// loadManifest reads what saveManifest wrote; an empty one if there is none. One that is damaged costs a copy of all tenants.
func (f *files) loadManifest() (*manifest, error) {
	b, err := disk.ReadFile(f.cfg.FS, "manifest.read", f.manifestPath(), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return &manifest{}, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := decodeManifest(b)
	if err != nil || m.origin != f.origin {
		f.cfg.Log.Error("the newest manifest of this node is of no use", "group", f.cfg.ID, "file", f.manifestPath(), "error", err)
		return &manifest{}, nil
	}
	return m, nil
}

// replacements are the copies that came whole.
func (f *files) replacements() map[wire.TenantID]replacement {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.mu.replaced)
}
