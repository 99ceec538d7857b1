package pagestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// A group with Config.Streams has no log: this node does not vote in it, and gets what its tenants do by
// streams of other nodes, each tenant's entries in their order, those of different tenants in any. What counts is each
// tenant's own index. Nobody keeps entries for such a group, so its newest manifest says where to go on: what came
// after it is fetched again. Group.Index counts changes, and is no index of a log.

// ErrStreams says that what was asked for is not for a group with, or without, Config.Streams.
var ErrStreams = errors.New("the group is of another kind")

// streamLog is the Log of a group with streams.
type streamLog struct{ g *Group }

// errOnlyFollowed is why nothing is proposed here.
var errOnlyFollowed = fmt.Errorf("%w: this node only follows the tenant", ErrNotPrimary)

// Propose implements Log.
func (l streamLog) Propose(_ []byte, done func(any, error)) { go done(nil, errOnlyFollowed) }

// Primary implements Log.
func (l streamLog) Primary() error { return errOnlyFollowed }

// Snapshot implements Log: the manifest that Persist keeps is all that is needed.
func (l streamLog) Snapshot() error {
	c, err := l.g.Capture()
	if err != nil {
		return err
	}
	defer c.Release()
	var b bytes.Buffer
	return c.Persist(&b)
}

// Resume brings a group with streams to where its files are. It is called once, before Run.
func (g *Group) Resume() error {
	if !g.cfg.Streams {
		return fmt.Errorf("group %d: %w", g.cfg.ID, ErrStreams)
	}
	m, err := g.files.loadManifest()
	if err != nil {
		return fmt.Errorf("group %d: %w", g.cfg.ID, err)
	}
	if m.origin != (origin{}) && m.group != g.cfg.ID {
		return fmt.Errorf("group %d: %w", g.cfg.ID, &CorruptError{File: g.files.manifestPath(), What: fmt.Sprintf("it is of group %d", m.group)})
	}
	return g.restoreOwn(m, nil)
}

// Head is how far a tenant's copy has got.
type Head struct {
	Record tenant.Tenant
	State  State  // after the newest entry, visible or not yet
	Index  uint64 // of the newest entry of the tenant that it contains, in its group's log
}

// Head returns how far the copy has got, or why it is of no use.
func (t *Tenant) Head() (Head, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.mu.failed != nil:
		return Head{}, t.mu.failed
	case t.mu.gone:
		return Head{}, fmt.Errorf("tenant %s: %w", t.id, ErrNoTenant)
	case t.mu.rot != nil:
		return Head{t.mu.rec, t.mu.log, t.mu.index}, t.mu.rot
	}
	return Head{t.mu.rec, t.mu.log, t.mu.index}, nil
}

// Follow gives a tenant of a group with streams its next entry, whose CRC has been checked. Methods for one tenant are not called at
// the same time. An entry that does not follow is refused, with a *PositionError or another, and nothing has
// changed; one that is contained is passed over. While page versions take more memory than there is for them, it is ErrOverloaded. Like Apply it looks at the header alone, and entry must stay as it is.
func (g *Group) Follow(index uint64, entry []byte) (Applied, error) {
	if !g.cfg.Streams {
		return Applied{}, fmt.Errorf("group %d: %w", g.cfg.ID, ErrStreams)
	}
	h, body, err := txn.Split(entry)
	if err != nil {
		return Applied{}, &EntryError{Index: index, Err: err}
	}
	if h.Group != g.cfg.ID {
		return Applied{}, fmt.Errorf("entry %d is of group %d, not %d", index, h.Group, g.cfg.ID)
	}
	t, err := g.Tenant(h.Tenant)
	if err != nil {
		return Applied{}, fmt.Errorf("tenant %s: %w", h.Tenant, err)
	}
	if b := g.cfg.Budget; b.Used() > b.Hard {
		g.kickCheckpoint()
		return Applied{}, fmt.Errorf("page versions take %d bytes of memory: %w", b.Used(), ErrOverloaded)
	}
	st, err := t.follow(index, &h, body, entry)
	if err != nil {
		return Applied{}, err
	}
	if t.gone() {
		g.forget(t)
		return Applied{Tenant: t, State: st}, nil
	}
	g.followed(t, len(entry))
	g.builds.throttle(g.cfg.BuildBytes)
	return Applied{Tenant: t, State: st}, nil
}

// followed notes a change of a tenant by that many bytes.
func (g *Group) followed(t *Tenant, n int) {
	g.mu.Lock()
	g.mu.index++
	if g.mu.tenants[t.id] == t {
		g.mu.dirty[t] = struct{}{}
	}
	g.mu.logged += int64(n)
	if g.mu.changed.IsZero() {
		g.mu.changed = g.cfg.Now()
	}
	kick := g.mu.logged >= g.cfg.CheckpointBytes
	g.mu.Unlock()
	if kick {
		g.kickCheckpoint()
	}
}

// follow is Follow for one tenant.
func (t *Tenant) follow(index uint64, h *txn.Header, body, entry []byte) (State, error) {
	t.mu.Lock()
	before := t.mu.index
	err := t.followsLocked(index, h)
	if err == nil && index > before {
		t.partsLocked(h)
	}
	t.mu.Unlock()
	if err != nil {
		return State{}, err
	}
	st, err := t.apply(index, h, body, entry)
	if err != nil {
		t.mu.Lock()
		t.mu.index = before // there is no log that says that all refuse it
		t.mu.Unlock()
	}
	return st, err
}

// followsLocked says whether the header follows where the copy is.
func (t *Tenant) followsLocked(index uint64, h *txn.Header) error {
	switch {
	case t.mu.failed != nil:
		return t.mu.failed
	case t.mu.gone:
		return fmt.Errorf("tenant %s: %w", t.id, ErrNoTenant)
	case index <= t.mu.index:
		return nil
	case h.Kind == txn.Control && tenant.Code(h.Code) == tenant.CodeCreated:
		return fmt.Errorf("tenant %s exists already", t.id)
	case h.Epoch != t.mu.rec.Epoch || h.PrevTXID != t.mu.log.TXID || h.PrevSum != t.mu.log.Checksum:
		return &PositionError{Tenant: t.id, Epoch: t.mu.rec.Epoch, Have: t.mu.log,
			Want: fmt.Sprintf("epoch %d, txid %d, checksum %s", h.Epoch, uint64(h.PrevTXID), h.PrevSum)}
	}
	return nil
}

// partsLocked ends operations whose other parts don't come any more: who sent them was deposed, which voters see by the term. The
// parts of one operation come with nothing of the tenant but control entries between them.
func (t *Tenant) partsLocked(h *txn.Header) {
	if h.Kind == txn.Control {
		return
	}
	for op := range t.mu.staging {
		if op != h.Operation {
			t.takeStagingLocked(op).drop()
		}
	}
	if len(t.mu.staging) == 0 {
		t.mu.unstaged = t.mu.index
	}
}

// containedLocked is the index from which a start goes on: parts that are not followed by their transaction come again.
func (t *Tenant) containedLocked() uint64 {
	if t.g.cfg.Streams && len(t.mu.staging) > 0 {
		return t.mu.unstaged
	}
	return t.mu.index
}

// Drop ends that a group with streams has a copy of a tenant: its connections are refused from now on, and its base, records
// and LTX files are removed durably, unless it returns an error; a later checkpoint tries again then. Pages of it
// may stay in segments until RetireUnits.
func (g *Group) Drop(id wire.TenantID) error {
	if !g.cfg.Streams {
		return fmt.Errorf("group %d: %w", g.cfg.ID, ErrStreams)
	}
	if t, err := g.Tenant(id); err == nil {
		t.mu.Lock()
		t.mu.gone = true
		t.mu.Unlock()
		g.forget(t)
	}
	return g.finishDrop(id)
}

// finishDrop removes the files of a tenant that is not known any more.
func (g *Group) finishDrop(id wire.TenantID) error {
	for range 2 { // a builder may have been at work
		if !g.isPurged(id) {
			return nil
		}
		if err := g.Checkpoint(); err != nil {
			return fmt.Errorf("drop tenant %s: %w", id, err)
		}
	}
	if g.isPurged(id) {
		return fmt.Errorf("drop tenant %s: %w", id, ErrOverloaded)
	}
	return nil
}

// forget takes a tenant out of a group with streams. Its files go after a checkpoint that began later.
func (g *Group) forget(t *Tenant) {
	g.purge(t, 0)
	g.changed()
}

// RetireUnits makes a checkpoint and removes all segments, for what was dropped to be nowhere any more. What others have in
// them goes to their bases and LTX files.
func (g *Group) RetireUnits(ctx context.Context) error {
	if err := g.Checkpoint(); err != nil {
		return err
	}
	if err := g.absorbAll(ctx); err != nil {
		return err
	}
	return g.CompactLTX(ctx)
}
