package pagestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/wire"
)

// ErrInService says that a copy is not out of service, and takes no other in its place.
var ErrInService = errors.New("the copy is in service and is not replaced")

// ErrCopying says that a copy is coming in: another of the tenant has to wait, and so has a snapshot of the group.
var ErrCopying = errors.New("a copy from another node is being read")

// CopyError refuses a copy: it is damaged, was cut short, or is of something else.
type CopyError struct {
	Tenant wire.TenantID
	Err    error
}

func (e *CopyError) Error() string { return fmt.Sprintf("copy of tenant %s: %v", e.Tenant, e.Err) }

// Unwrap returns what is wrong with the copy.
func (e *CopyError) Unwrap() error { return e.Err }

// StaleCopyError refuses a copy that lacks entries which this node does not have either: a newer
// one is to be fetched.
type StaleCopyError struct {
	Tenant     wire.TenantID
	Have, Want uint64 // index of the newest entry of the tenant in the copy, and of what it must contain
}

func (e *StaleCopyError) Error() string {
	return fmt.Sprintf("copy of tenant %s: it contains entries up to %d, wanted are those up to %d", e.Tenant, e.Have, e.Want)
}

// ReadCopy takes what WriteCopy or a PinnedCopy of another node wrote in place of this copy, which is hollow or has failed. r ends with the copy. The
// copy is checked and made durable beside the old one; then it counts, at once and whole, and later entries of the
// log are built on it. The group takes no snapshot meanwhile, so ctx should bound how long r may stand still. If it is refused (*CopyError, *StaleCopyError), or anything fails, nothing has changed.
func (t *Tenant) ReadCopy(ctx context.Context, r io.Reader) error {
	if err := t.beginCopy(ctx); err != nil {
		return fmt.Errorf("copy of tenant %s: %w", t.id, err)
	}
	defer t.endCopy()
	h, err := readCopyHeader(r)
	if err != nil {
		return &CopyError{t.id, err}
	}
	if h.group != t.g.cfg.ID {
		return &CopyError{t.id, fmt.Errorf("it is of group %d, not %d", h.group, t.g.cfg.ID)}
	}
	if err := t.acceptable(&h); err != nil {
		return err
	}
	p := replacement{t.g.files.takeSeq(), h.manifestTenant}
	path := t.g.files.numberedBase(t.id, p.number)
	if err := t.readBase(ctx, r, &h, path); err != nil {
		t.g.files.removeBase(path)
		var corrupt *CorruptError
		if h.prev != (State{}) && (errors.Is(err, errMismatch) || errors.As(err, &corrupt)) || errors.Is(err, ErrDiskFull) || disk.IsFull(err) {
			t.forgetHave() // it may be what is wrong, or in the way: the next copy is to be whole
		}
		return err
	}
	return t.swap(&p, path)
}

// beginCopy lets one copy in at a time, and waits until no builder works on the old one.
func (t *Tenant) beginCopy(ctx context.Context) error {
	for {
		t.mu.Lock()
		err := t.replaceableLocked()
		if err == nil && t.mu.copying {
			err = ErrCopying
		}
		if err != nil || !t.mu.working {
			t.mu.copying = t.mu.copying || err == nil
			t.mu.Unlock()
			return err
		}
		if t.mu.rest == nil {
			t.mu.rest = make(chan struct{})
		}
		rest := t.mu.rest
		t.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-rest:
		}
	}
}

func (t *Tenant) endCopy() {
	t.mu.Lock()
	t.mu.copying = false
	t.mu.Unlock()
}

// copying says whether a copy of any tenant comes in.
func (g *Group) copying() bool {
	return slices.ContainsFunc(g.Tenants(), func(t *Tenant) bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.mu.copying
	})
}

func (t *Tenant) replaceableLocked() error {
	switch {
	case t.mu.gone:
		return ErrNoTenant
	case t.mu.closed:
		return ErrClosed
	case t.mu.failed == nil:
		return ErrInService
	}
	return nil
}

func (t *Tenant) acceptable(h *copyHeader) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.prev != (State{}) && (t.mu.have.State != h.prev || t.mu.have.Epoch != h.rec.Epoch) {
		return &CopyError{t.id, fmt.Errorf("it changes %s; what is here is %s", h.prev, t.mu.have.State)}
	}
	return t.acceptableLocked(&h.manifestTenant)
}

// acceptableLocked says whether a copy with this header, if it is what it says, may take the place of this one.
func (t *Tenant) acceptableLocked(h *manifestTenant) error {
	if err := t.replaceableLocked(); err != nil {
		return fmt.Errorf("copy of tenant %s: %w", t.id, err)
	}
	bad := func(what string, args ...any) error { return &CopyError{t.id, fmt.Errorf(what, args...)} }
	rec := &t.mu.rec
	switch {
	case h.rec.ID != t.id:
		return bad("it is of tenant %s", h.rec.ID)
	case h.rec.Epoch != rec.Epoch:
		return bad("it is of epoch %d, not %d", h.rec.Epoch, rec.Epoch)
	case h.rec.PageSize != rec.PageSize:
		return bad("it has pages of %d bytes, not %d", h.rec.PageSize, rec.PageSize)
	case h.index < t.mu.floor:
		return &StaleCopyError{t.id, h.index, t.mu.floor}
	}
	for i := range t.mu.kept {
		if q := &t.mu.kept[i]; q.index > h.index {
			if q.h.PrevTXID != h.state.TXID || q.h.PrevSum != h.state.Checksum {
				return bad("it stands at %s; the next entry, %d, follows txid %d, checksum %s", h.state, q.index, uint64(q.h.PrevTXID), q.h.PrevSum)
			}
			return nil
		}
	}
	if h.index <= t.mu.index && h.state != t.mu.log || h.state.TXID < t.mu.log.TXID {
		return bad("it stands at %s; the log says %s", h.state, t.mu.log)
	}
	return nil
}

// readBase writes the pages of a copy, verified and durable, to a new base.
func (t *Tenant) readBase(ctx context.Context, r io.Reader, h *copyHeader, path string) (err error) {
	cfg := &t.g.cfg
	size := int(h.rec.PageSize)
	if err := cfg.Space.Fits(int64(h.state.Pages) * int64(size)); err != nil {
		return fmt.Errorf("copy of tenant %s: %w: %w", t.id, ErrDiskFull, err)
	}
	if h.state.TXID == 0 { // an empty database has no base
		if err := copyPages(r, h, 0, nil, nil); err != nil {
			return &CopyError{t.id, err}
		}
		return nil
	}
	b, err := openBase(cfg.FS, t.id, path, size)
	if err != nil {
		return err
	}
	defer b.close()
	var (
		batch  []basePage
		failed error // of this node's disk, or ctx: no fault of the copy
		buf    = make([]byte, absorbBatch*size)
	)
	flush := func() error {
		if failed = b.write(batch); failed == nil {
			failed = ctx.Err()
		}
		batch = batch[:0]
		return failed
	}
	var old func(uint32, []byte) error
	if h.prev != (State{}) {
		s, err := t.openHave(h.prev, size)
		if err != nil {
			return fmt.Errorf("copy of tenant %s: %w", t.id, err)
		}
		defer s.close(ErrClosed)
		old = func(pgno uint32, data []byte) error {
			failed = s.readAt(data, pgno, 0, h.prev.TXID)
			return failed
		}
	}
	err = copyPages(r, h, t.g.files.lockPgno(size), old, func(pgno uint32, sum wire.Checksum, data []byte) error {
		own := buf[len(batch)*size:][:size]
		copy(own, data)
		if batch = append(batch, basePage{pgno, sum, own}); len(batch) < absorbBatch {
			return nil
		}
		return flush()
	})
	switch {
	case failed != nil:
		return fmt.Errorf("copy of tenant %s: %w", t.id, failed)
	case ctx.Err() != nil:
		return fmt.Errorf("copy of tenant %s: %w", t.id, ctx.Err())
	case err != nil:
		return &CopyError{t.id, err}
	}
	if err := flush(); err != nil {
		return fmt.Errorf("copy of tenant %s: %w", t.id, err)
	}
	if err := b.resize(h.state.Pages); err != nil {
		return err
	}
	if err := cfg.FS.SyncAll("copy.sync", path, path+".sums"); err != nil {
		return fmt.Errorf("copy of tenant %s: %w", t.id, err)
	}
	if err := cfg.FS.SyncDir("copy.syncdir", t.g.files.basesDir()); err != nil {
		return fmt.Errorf("copy of tenant %s: %w", t.id, err)
	}
	return nil
}

// swap makes a base that is whole and durable the tenant's. Nothing absorbs, opens the store or marks the copy meanwhile.
func (t *Tenant) swap(p *replacement, path string) error {
	g, f := t.g, &t.g.files
	g.tidying.Lock()
	defer g.tidying.Unlock()
	t.fileMu.Lock()
	defer t.fileMu.Unlock()
	f.marks.Lock()
	defer f.marks.Unlock()
	t.mu.Lock()
	err := t.acceptableLocked(&p.manifestTenant)
	t.mu.Unlock()
	if err != nil {
		t.late(err, p, path)
		return err
	}
	old := f.basePath(t.id)
	if err := f.replace(*p); err != nil {
		// None can tell which base the next start finds named: both stay until then.
		return fmt.Errorf("copy of tenant %s: %w", t.id, err)
	}
	f.mu.Lock()
	f.mu.replaced[t.id] = *p
	f.mu.Unlock()
	// From here on the old base is of no use, whether the tenant can use the new one or has been passed by again.
	defer f.removeBase(old)
	if err := t.serve(p); err != nil {
		t.late(err, p, "")
		return err
	}
	t.forgetHave()
	if err := f.unmarkFailed(t.id); err != nil {
		g.cfg.Log.Warn("the mark of a failed copy that was replaced stays: a restart takes it out of service again", "id", t.id, "group", g.cfg.ID, "error", err)
	}
	g.Stats.Copied.Add(1)
	g.cfg.Log.Info("copy taken from another node", "id", t.id, "group", g.cfg.ID, "state", p.state.String(), "index", p.index)
	return nil
}

// late keeps a copy that came whole and is refused, if only for being too old: what changed since is enough then. So a
// tenant that is written faster than it is copied is caught up with in the end. path is its base, or empty when it is the tenant's.
func (t *Tenant) late(err error, p *replacement, path string) {
	var stale *StaleCopyError
	switch {
	case errors.As(err, &stale) && p.state.TXID > 0:
		t.keepHave(Have{p.rec.Epoch, p.state}, path)
		return
	case path != "":
		t.g.files.removeBase(path)
	default:
		t.forgetHave() // the files are others now
	}
}

// serve puts the tenant in service on the base of a copy, with the entries of the log that it lacks.
func (t *Tenant) serve(p *replacement) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.acceptableLocked(&p.manifestTenant); err != nil {
		return err // a snapshot, its end, or too many entries came meanwhile
	}
	t.dropKeptLocked(p.index)
	if p.index > t.mu.index {
		defer t.g.observeRenewed(t.id, p.index) // the source is ahead of this node's log
		t.mu.rec, t.mu.log, t.mu.logTime, t.mu.index = p.rec, p.state, p.time, p.index
		for op := range t.mu.staging {
			t.takeStagingLocked(op).drop()
		}
	}
	t.mu.gen = p.number
	t.mu.store = nil // it was closed when the copy went out of service
	t.mu.built, t.mu.durable = p.state, p.state
	t.mu.failed = nil
	t.mu.floor = 0
	t.mu.rot = nil
	t.corruptions.Store(0)
	for i := range t.mu.kept {
		q := t.mu.kept[i]
		t.g.kept.add(-q.weight())
		t.g.builds.add(int64(q.size))
		t.mu.queue = append(t.mu.queue, q)
	}
	t.mu.kept = nil
	if len(t.mu.queue) > 0 {
		t.g.mu.Lock()
		t.g.mu.dirty[t] = struct{}{}
		t.g.mu.Unlock()
		if !t.mu.busy {
			t.mu.busy = true
			t.g.builds.put(t)
		}
	}
	return nil
}
