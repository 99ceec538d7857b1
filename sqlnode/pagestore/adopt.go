package pagestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"

	"github.com/nearsql/nearsql/wire"
)

// ReadTenant takes what Tenant.WriteCopy of another node wrote as this node's copy of a tenant, in a group with streams: there may
// be none here, an older one, or one that is not of the same history. r ends with the copy. It is checked and made durable beside what is here, which serves
// until then; then it counts, at once and whole, and all connections to the old one are refused (ErrReplaced). If it is refused (*CopyError), or
// anything fails, nothing has changed. Methods for one tenant are not called at the same time.
func (g *Group) ReadTenant(ctx context.Context, id wire.TenantID, r io.Reader) (Head, error) {
	if !g.cfg.Streams {
		return Head{}, fmt.Errorf("group %d: %w", g.cfg.ID, ErrStreams)
	}
	h, err := g.readStreamedHeader(id, r)
	if err != nil {
		return Head{}, err
	}
	if h.prev != (State{}) {
		return Head{}, &CopyError{id, errors.New("it is not whole")}
	}
	if err := g.finishDrop(id); err != nil {
		return Head{}, err
	}
	t, err := g.Tenant(id)
	if err != nil {
		t = newTenant(g, id)
	}
	came := g.files.numberedBase(id, g.files.takeSeq())
	if err := t.readBase(ctx, r, &h, came); err != nil {
		g.files.removeBase(came)
		return Head{}, err
	}
	if err := atEnd(r); err != nil {
		g.files.removeBase(came)
		return Head{}, &CopyError{id, err}
	}
	if err := t.adopt(&h, came); err != nil {
		return Head{}, fmt.Errorf("copy of tenant %s: %w", id, err)
	}
	return Head{h.rec, h.state, h.index}, nil
}

// readStreamedHeader reads a header, and checks what can be checked without a copy.
func (g *Group) readStreamedHeader(id wire.TenantID, r io.Reader) (copyHeader, error) {
	h, err := readCopyHeader(r)
	switch {
	case err != nil:
	case h.rec.ID != id:
		err = fmt.Errorf("it is of tenant %s", h.rec.ID)
	case h.group != g.cfg.ID || h.rec.Group != g.cfg.ID:
		err = fmt.Errorf("it is of group %d, its record of group %d", h.group, h.rec.Group)
	default:
		err = h.rec.Validate()
	}
	if err != nil {
		return h, &CopyError{id, err}
	}
	return h, nil
}

// atEnd wants nothing more to come.
func atEnd(r io.Reader) error {
	if n, err := io.ReadFull(r, make([]byte, 1)); n > 0 || err != io.EOF {
		return fmt.Errorf("it does not end where it should (%d bytes, %v)", n, err)
	}
	return nil
}

// adopt makes a base that is whole and durable the tenant's. No checkpoint is made meanwhile, so that each manifest is
// of the copy before or of this one as a whole, and its newest unit's number tells which; nothing absorbs or opens the store.
func (t *Tenant) adopt(h *copyHeader, came string) (err error) {
	g, f := t.g, &t.g.files
	g.checkpointing.Lock()
	defer g.checkpointing.Unlock()
	g.tidying.Lock()
	defer g.tidying.Unlock()
	p := replacement{f.takeSeq(), h.manifestTenant}
	path := f.numberedBase(t.id, p.number)
	useless := true
	defer func() {
		if err != nil && useless {
			f.removeBase(came)
			f.removeBase(path)
		}
	}()
	if err := f.settle(); err != nil {
		return err
	}
	if err := t.adoptable(); err != nil {
		return err
	}
	// LTX files may tell of another history. They only save others a copy.
	if err := g.cfg.FS.RemoveAll("adopt.ltx", f.ltxOf(t.id)); err != nil {
		return fmt.Errorf("remove LTX files: %w", err)
	}
	if h.state.TXID > 0 {
		for _, suffix := range []string{".sums", ""} {
			if err := g.cfg.FS.Rename("adopt.rename", came+suffix, path+suffix); err != nil {
				return err
			}
		}
		if err := g.cfg.FS.SyncDir("adopt.syncdir", f.basesDir()); err != nil {
			return err
		}
	}
	if err := f.replace(p); err != nil {
		useless = false // none can tell which base the next start finds named
		f.doubt(t.id, path)
		return err
	}
	t.takeOver(&p)
	g.Stats.Copied.Add(1)
	g.cfg.Log.Info("copy taken from another node", "id", t.id, "group", g.cfg.ID, "state", p.state.String(), "index", p.index)
	return nil
}

func (t *Tenant) adoptable() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.mu.gone:
		return ErrNoTenant
	case t.mu.closed:
		return ErrClosed
	}
	return nil
}

// takeOver puts a copy in service in place of what was here. A builder at work is waited for: it finds its store closed.
func (t *Tenant) takeOver(p *replacement) {
	g, f := t.g, &t.g.files
	t.mu.Lock()
	if t.mu.failed == nil {
		t.mu.failed = ErrReplaced // for the moment
	}
	s := t.mu.store
	t.dropQueueLocked()
	for op := range t.mu.staging {
		t.takeStagingLocked(op).drop()
	}
	var rest chan struct{}
	if t.mu.working {
		if t.mu.rest == nil {
			t.mu.rest = make(chan struct{})
		}
		rest = t.mu.rest
	}
	t.mu.Unlock()
	if s != nil {
		s.close(ErrReplaced)
	}
	if rest != nil {
		<-rest
	}
	t.fileMu.Lock() // nobody is opening the store
	defer t.fileMu.Unlock()
	old := f.basePath(t.id)
	f.mu.Lock()
	f.mu.replaced[t.id] = *p
	f.mu.Unlock()
	f.marks.Lock()
	if err := f.unmarkFailed(t.id); err != nil {
		g.cfg.Log.Warn("the mark of a failed copy that was replaced stays: a restart takes it out of service again", "id", t.id, "group", g.cfg.ID, "error", err)
	}
	f.marks.Unlock()
	t.mu.Lock()
	t.mu.rec, t.mu.log, t.mu.logTime, t.mu.index = p.rec, p.state, p.time, p.index
	t.mu.built, t.mu.durable = p.state, p.state
	t.mu.gen = p.number
	t.mu.store = nil
	t.mu.rot, t.mu.floor = nil, 0
	if !t.mu.closed {
		t.mu.failed = nil
	}
	t.mu.Unlock()
	t.corruptions.Store(0)
	g.mu.Lock()
	g.mu.index++
	g.mu.tenants[t.id] = t
	g.mu.Unlock()
	g.changed()
	f.removeBase(old)
	f.dropPrivate(t.id)
}

// doubt remembers that the record of a copy on disk may be one that doesn't count, which names the base at path: no manifest is
// written until settle has made it sure.
func (f *files) doubt(id wire.TenantID, path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.unsure == nil {
		f.mu.unsure = map[wire.TenantID]string{}
	}
	f.mu.unsure[id] = path
}

// settle writes the records again of which doubt told.
func (f *files) settle() error {
	f.mu.Lock()
	l := maps.Clone(f.mu.unsure)
	f.mu.Unlock()
	for id, path := range l {
		f.mu.Lock()
		p, ok := f.mu.replaced[id]
		f.mu.Unlock()
		var err error
		if ok {
			err = f.replace(p)
		} else if err = f.cfg.FS.Remove("replaced.remove", f.replacedPath(id)); err == nil || errors.Is(err, fs.ErrNotExist) {
			err = f.cfg.FS.SyncDir("replaced.syncdir", f.replacedDir())
		}
		if err != nil {
			return fmt.Errorf("the record of tenant %s's copy: %w", id, err)
		}
		f.removeBase(path)
		f.mu.Lock()
		delete(f.mu.unsure, id)
		f.mu.Unlock()
	}
	return nil
}
