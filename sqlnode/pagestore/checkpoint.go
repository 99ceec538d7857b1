package pagestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// Capture is the state of a group at one index of its log, to be made durable beside the
// entries that follow.
type Capture struct {
	g       *Group
	number  uint64 // counts captures
	index   uint64
	logged  int64
	tenants []capturedTenant
	dirty   []*Tenant
	seq     uint64
	written *unit
}

type capturedTenant struct {
	t       *Tenant
	rec     tenant.Tenant
	log     State
	logTime int64
	index   uint64
	gen     uint64 // of the store
	dirty   bool
	held    bool
}

// Capture takes the group's state after the newest entry applied. It is called by
// the goroutine that calls Apply, and is quick. While parts of a large transaction
// are still coming it returns ErrStagingOpen: only the log has them. While tenants are hollow
// it returns ErrHollow: a manifest promises pages. While a copy comes in it returns ErrCopying: the copy may
// need entries that the log could drop then.
func (g *Group) Capture() (*Capture, error) {
	if l := g.Hollow(); len(l) > 0 {
		return nil, fmt.Errorf("snapshot of group %d: %d tenants are hollow: %w", g.cfg.ID, len(l), ErrHollow)
	}
	if err := g.files.settle(); err != nil {
		return nil, fmt.Errorf("snapshot of group %d: %w", g.cfg.ID, err)
	}
	if g.copying() {
		return nil, fmt.Errorf("snapshot of group %d: %w", g.cfg.ID, ErrCopying)
	}
	g.mu.Lock()
	if g.mu.staging > 0 && !g.cfg.Streams {
		g.mu.Unlock()
		return nil, ErrStagingOpen
	}
	c := &Capture{g: g, index: g.mu.index, logged: g.mu.logged}
	all := make([]*Tenant, 0, len(g.mu.tenants))
	for _, t := range g.mu.tenants {
		all = append(all, t)
	}
	dirty := g.mu.dirty
	g.mu.dirty = map[*Tenant]struct{}{}
	g.mu.logged = 0
	g.mu.changed = time.Time{}
	g.mu.Unlock()
	c.number, c.seq = g.files.beginCapture(), g.files.takeSeq()
	for _, t := range all {
		_, isDirty := dirty[t]
		t.mu.Lock()
		ct := capturedTenant{t: t, rec: t.mu.rec, log: t.mu.log, logTime: t.mu.logTime, index: t.containedLocked(), gen: t.mu.gen, dirty: isDirty}
		if t.mu.failed != nil {
			// The log may drop its entries up to here, so a copy that takes this one's place must have them.
			t.forgetLocked()
		}
		if isDirty && t.mu.log != t.mu.durable {
			ct.held = true
			t.mu.holds = append(t.mu.holds, ct.log.TXID)
			if s := t.mu.store; s != nil {
				s.pin(ct.log.TXID)
			}
		}
		t.mu.Unlock()
		c.tenants = append(c.tenants, ct)
	}
	for t := range dirty {
		c.dirty = append(c.dirty, t)
	}
	return c, nil
}

// Persist writes a segment with all that changed up to the capture, syncs it, and
// writes the manifest to w. It runs beside Apply. The log may drop its entries up
// to the capture when what was written to w is durable.
func (c *Capture) Persist(w io.Writer) error {
	if err := c.writeUnit(); err != nil {
		return err
	}
	m := manifest{group: c.g.cfg.ID, origin: c.g.files.origin, index: c.index, units: c.g.files.list()}
	for _, ct := range c.tenants {
		m.tenants = append(m.tenants, manifestTenant{rec: ct.rec, state: ct.log, time: ct.logTime, index: ct.index})
	}
	b, err := m.encode()
	if err != nil {
		return err
	}
	// Before the units count as recorded: bases are never ahead of what a start begins with.
	if err := c.g.files.saveManifest(b); err != nil {
		return err
	}
	if _, err = w.Write(b); err != nil {
		return fmt.Errorf("write manifest of group %d: %w", c.g.cfg.ID, err)
	}
	c.g.files.listed(c.number, c.seq, c.index)
	return nil
}

// Release ends the capture, whether persisted or not.
func (c *Capture) Release() {
	for i := range c.tenants {
		c.tenants[i].release()
	}
	if c.written == nil {
		// Nothing was written: what was dirty still is.
		dirty := slices.DeleteFunc(c.dirty, (*Tenant).gone)
		c.g.mu.Lock()
		for _, t := range dirty {
			c.g.mu.dirty[t] = struct{}{}
		}
		c.g.mu.logged += c.logged
		c.g.mu.Unlock()
		c.g.changed()
		c.dirty, c.logged = nil, 0
	}
}

func (t *Tenant) gone() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.gone
}

func (ct *capturedTenant) release() {
	if !ct.held {
		return
	}
	ct.held = false
	t := ct.t
	t.mu.Lock()
	if i := slices.Index(t.mu.holds, ct.log.TXID); i >= 0 {
		t.mu.holds = slices.Delete(t.mu.holds, i, i+1)
	}
	s := t.mu.store
	t.mu.Unlock()
	if s != nil {
		s.unpin(ct.log.TXID)
	}
}

// writeUnit writes the segment of the capture.
func (c *Capture) writeUnit() error {
	g := c.g
	w, err := createSegment(g.cfg.FS, g.files.segmentDir(), g.cfg.ID, c.seq, g.cfg.Now().UnixMilli())
	if err != nil {
		return err
	}
	var moved []movedPages
	for i := range c.tenants {
		ct := &c.tenants[i]
		if !ct.held || ct.replaced() {
			continue
		}
		m, err := c.writeTenant(w, ct)
		if err != nil {
			if err = c.skip(ct, err); err != nil {
				w.abort()
				return err
			}
			continue
		}
		moved = append(moved, m)
	}
	sg, err := w.finish()
	if err != nil {
		w.abort()
		return err
	}
	u := &unit{seq: c.seq, made: g.cfg.Now().UnixMilli()}
	captured := map[wire.TenantID]wire.TXID{}
	for _, ct := range c.tenants {
		captured[ct.t.id] = ct.log.TXID
	}
	f := &g.files
	f.mu.Lock()
	// Large transactions up to the capture belong to this unit, later ones to the next.
	f.mu.private = slices.DeleteFunc(f.mu.private, func(p *segment) bool {
		sec := p.sections[0]
		if tx, ok := captured[sec.Tenant]; !ok || sec.Next.TXID > tx {
			return false
		}
		u.segments = append(u.segments, p)
		return true
	})
	f.mu.bytes += sg.bytes
	f.mu.Unlock()
	u.segments = append(u.segments, sg)
	f.addUnit(u)
	c.written = u
	g.Stats.SegmentBytes.Add(sg.bytes)
	for _, m := range moved {
		m.store.moveToFile(sg.file, m.pages)
	}
	for i := range c.tenants {
		ct := &c.tenants[i]
		if ct.held {
			ct.t.mu.Lock()
			if ct.t.mu.gen == ct.gen && ct.t.mu.failed == nil {
				ct.t.mu.durable = ct.log
			}
			ct.t.mu.Unlock()
			ct.release()
		}
	}
	return nil
}

// skip goes on without a tenant that is gone, or whose copy is out of service. Otherwise it returns err.
func (c *Capture) skip(ct *capturedTenant, err error) error {
	t := ct.t
	if t.gone() || ct.replaced() {
		return nil
	}
	if failed := t.broken(); failed != nil && !errors.Is(failed, ErrHollow) {
		return c.g.files.markFailed(t)
	}
	return err
}

// replaced says whether another node's copy took the place of what was captured. It contains all that the
// capture tells of: what goes to the segment of the capture is not of it, and a start knows that by its number.
func (ct *capturedTenant) replaced() bool {
	ct.t.mu.Lock()
	defer ct.t.mu.Unlock()
	return ct.t.mu.gen != ct.gen
}

// movedPages are versions that lie in a segment now.
type movedPages struct {
	store *Store
	pages []movedPage
}

type movedPage struct {
	pgno uint32
	tx   wire.TXID
	off  int64
}

// writeTenant writes the section of one tenant, once the builders have brought it there.
func (c *Capture) writeTenant(w *segmentWriter, ct *capturedTenant) (movedPages, error) {
	t := ct.t
	s, err := t.Acquire()
	if err != nil {
		return movedPages{}, fmt.Errorf("checkpoint of tenant %s: %w", t.id, err)
	}
	defer t.Release()
	if err := s.wait(nil, ct.log.TXID); err != nil {
		return movedPages{}, fmt.Errorf("checkpoint of tenant %s: %w", t.id, err)
	}
	t.mu.Lock()
	prev, gen := t.mu.durable, t.mu.gen
	t.mu.Unlock()
	if gen != ct.gen {
		return movedPages{}, fmt.Errorf("checkpoint of tenant %s: %w", t.id, ErrReplaced)
	}
	pages, err := s.inMemory(ct.log)
	if err != nil {
		return movedPages{}, fmt.Errorf("checkpoint of tenant %s: %w", t.id, err)
	}
	w.begin(&section{Tenant: t.id, Epoch: ct.rec.Epoch, PageSize: s.pageSize, Prev: prev, Next: ct.log, Time: ct.logTime})
	m := movedPages{store: s}
	for _, p := range pages {
		off, err := w.page(p.pgno, p.sum, p.data)
		if err != nil {
			return m, err
		}
		m.pages = append(m.pages, movedPage{p.pgno, p.tx, off})
	}
	return m, nil
}

// memoryPage is a version that a checkpoint has to write.
type memoryPage struct {
	pgno uint32
	version
}

// inMemory returns, ascending, the pages whose newest version at st lies in memory. st must be pinned,
// which keeps the buffers as they are.
func (s *Store) inMemory(st State) ([]memoryPage, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.mu.closed != nil {
		return nil, s.mu.closed
	}
	var l []memoryPage
	for pgno := range s.mu.chains {
		if pgno > st.Pages {
			continue
		}
		if v, ok := s.findLocked(pgno, st.TXID); ok && v.data != nil && v.tx > 0 {
			l = append(l, memoryPage{pgno, v})
		}
	}
	slices.SortFunc(l, func(a, b memoryPage) int { return cmp.Compare(a.pgno, b.pgno) })
	return l, nil
}

// moveToFile lets versions go from memory that lie in file now.
func (s *Store) moveToFile(file *pageFile, pages []movedPage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range pages {
		c := s.mu.chains[p.pgno]
		for i := range c {
			if c[i].tx == p.tx && c[i].data != nil {
				file.acquire()
				c[i].data, c[i].file, c[i].off = nil, file, p.off // the buffer may still be read: it is not recycled
				s.accountLocked(-1)
			}
		}
	}
}

// absorbAll brings the bases up to all recorded units.
func (g *Group) absorbAll(ctx context.Context) error {
	g.tidying.Lock()
	defer g.tidying.Unlock()
	for ctx.Err() == nil {
		u := g.files.pending()
		if u == nil {
			return nil
		}
		if err := g.absorb(ctx, u); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// absorb writes the pages of a unit to the bases, syncs them all at once, and records that.
func (g *Group) absorb(ctx context.Context, u *unit) error {
	var synced []string
	for _, id := range u.ids() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t, err := g.Tenant(id)
		if err != nil {
			continue // purged meanwhile
		}
		sections := g.files.sections(u, id)
		if len(sections) == 0 {
			continue // it was replaced since
		}
		if err := g.absorbTenant(ctx, t, sections); err != nil {
			if t.gone() || errors.Is(t.Failed(), ErrHollow) {
				t.passUnit()
				continue
			}
			if t.broken() == nil {
				return fmt.Errorf("absorb segments: %w", err)
			}
			if err := g.files.markFailed(t); err != nil {
				return fmt.Errorf("absorb segments: %w", err)
			}
			continue
		}
		t.closeIfIdle()
		p := g.files.basePath(id)
		synced = append(synced, p, p+".sums")
	}
	fsys := g.cfg.FS
	if len(synced) > 0 {
		if err := fsys.SyncAll("base.sync", synced...); err != nil {
			return fmt.Errorf("sync bases: %w", err)
		}
		if err := fsys.SyncDir("base.syncdir", g.cfg.Dir+"/bases"); err != nil {
			return fmt.Errorf("sync bases: %w", err)
		}
	}
	g.files.shift.Lock()
	defer g.files.shift.Unlock()
	g.files.mu.Lock()
	retired := g.files.mu.retired
	g.files.mu.Unlock()
	if err := g.files.saveProgress(u.seq, retired); err != nil {
		return err
	}
	g.files.mu.Lock()
	g.files.mu.absorbed = u.seq
	g.files.mu.Unlock()
	for id := range u.tenants {
		sections := g.files.sections(u, id)
		if t, err := g.Tenant(id); err == nil && t.Failed() == nil && len(sections) > 0 {
			if s := t.openStore(); s != nil {
				s.base.settled()
				s.absorbed(sections)
			}
		}
	}
	return nil
}

// absorbTenant brings the base of one tenant up to a unit. A copy that proves corrupt
// is taken out of service.
func (g *Group) absorbTenant(ctx context.Context, t *Tenant, sections []located) error {
	s, err := t.acquire(1)
	if err != nil {
		return err
	}
	defer t.releaseInner()
	n, err := s.absorb(ctx, sections)
	var corrupt *CorruptError
	if errors.As(err, &corrupt) {
		t.fail(err)
	}
	g.Stats.AbsorbedPages.Add(int64(n))
	return err
}

// absorbBatch is how many pages are written to a base at a time.
const absorbBatch = 64

// absorb writes the newest page of each number in sections to the base. Readers at older
// versions keep what they need: it is copied out first.
func (s *Store) absorb(ctx context.Context, sections []located) (int, error) {
	type place struct {
		l location
		n uint32
	}
	newest := newestPages(sections)
	last := sections[len(sections)-1].Next
	if err := s.base.begin(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	s.mu.absorbing = last.TXID
	s.mu.Unlock()
	places := make([]place, 0, len(newest))
	for pgno, l := range newest {
		if pgno <= last.Pages {
			places = append(places, place{l, pgno})
		}
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(a.n, b.n) })
	batch := make([]basePage, 0, absorbBatch)
	buf := make([]byte, min(absorbBatch, len(places))*s.pageSize)
	for len(places) > 0 {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		n := min(absorbBatch, len(places))
		batch = batch[:0]
		for i, p := range places[:n] {
			data := buf[i*s.pageSize : (i+1)*s.pageSize]
			v := version{sum: p.l.sum, file: p.l.file, off: p.l.off}
			if err := s.readFile(data, v, p.n, 0); err != nil {
				return 0, err
			}
			batch = append(batch, basePage{p.n, p.l.sum, data})
			if err := s.copyOut(p.n, last.TXID); err != nil {
				return 0, err
			}
		}
		if err := s.base.write(batch); err != nil {
			return 0, err
		}
		places = places[n:]
	}
	for pgno := last.Pages + 1; pgno <= s.base.pages(); pgno++ {
		if err := s.copyOut(pgno, last.TXID); err != nil {
			return 0, err
		}
	}
	return len(newest), s.base.resize(last.Pages)
}

type location struct {
	file *pageFile
	off  int64
	sum  wire.Checksum
}

// newestPages is where the newest content of each page in sections lies: a later section counts.
func newestPages(sections []located) map[uint32]location {
	newest := map[uint32]location{}
	for _, l := range sections {
		for i, p := range l.pages {
			newest[p.pgno] = location{l.file, l.pageOffset(i), p.sum}
		}
	}
	return newest
}

// copyOut puts the base's page in the chain, as older than all, if a reader
// below tx may still want it.
func (s *Store) copyOut(pgno uint32, tx wire.TXID) error {
	if pgno == s.lock || pgno > s.base.pages() {
		return nil
	}
	s.mu.RLock()
	oldest, ok := s.mu.pins.min()
	needed := ok && oldest < tx
	if c := s.mu.chains[pgno]; needed && len(c) > 0 && c[0].tx <= oldest {
		needed = false
	}
	s.mu.RUnlock()
	if !needed {
		return nil
	}
	data := s.budget.newPage(s.pageSize)
	s.base.mu.RLock()
	sum := s.base.mu.sums[pgno-1]
	err := s.base.readPageLocked(data, pgno)
	s.base.mu.RUnlock()
	if err != nil {
		s.budget.recycle(data)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.mu.chains[pgno]
	s.mu.chains[pgno] = append([]version{{tx: 0, sum: sum, data: data, old: true}}, c...)
	s.accountLocked(1)
	s.mu.pins.keep(pgno, 0, tx)
	return nil
}

// absorbed drops the versions that the base holds now.
func (s *Store) absorbed(sections []located) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := sections[len(sections)-1].Next
	s.mu.baseTX, s.mu.basePages = last.TXID, last.Pages
	// What the base got lies in the unit's files, as all of a unit left memory before. Other versions that
	// are no newer are old; the one between them and the next may be pruned already.
	for pgno, l := range newestPages(sections) {
		for i, v := range s.mu.chains[pgno] {
			if v.tx <= last.TXID && (v.file != l.file || v.off != l.off) {
				s.mu.chains[pgno][i].old = true
			}
		}
	}
	// All of them, since pages that were made and cut off again are in no section.
	for pgno := range s.mu.chains {
		s.pruneLocked(pgno)
	}
}

// expire takes the snapshots away that readers have held since before the time given (unix ns),
// with what only they kept, and says how many.
func (s *Store) expire(before int64) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for h := range s.mu.handles {
		since, tx := h.since.Load(), wire.TXID(h.pinTX.Load())
		if !h.writer && since != 0 && since < before && tx < s.mu.committed.TXID && h.expired.CompareAndSwap(false, true) {
			s.unpinLocked(tx)
			n++
		}
	}
	return n
}
