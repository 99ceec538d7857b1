package pagestore

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// Tenant is one tenant's copy in a group: where the log has brought it, and
// its store while it is open.
//
// Lock order: fileMu, then mu, then the store's locks. Apply takes mu only.
type Tenant struct {
	g  *Group
	id wire.TenantID

	fileMu sync.Mutex // held while the store is opened or closed

	mu struct {
		sync.Mutex
		rec        tenant.Tenant
		log        State  // after the newest entry applied
		logTime    int64  // unix ms of the newest transaction
		index      uint64 // of the newest entry contained
		durable    State  // as of the newest unit that is written
		queue      []queued
		busy       bool    // a builder is at work, or will be
		later      *putOff // when it will be, if that may be hurried; else nil
		laterBytes int     // of queue, while later is not nil
		working    bool    // it builds the first of queue
		built      State   // what the store has committed, also while it is closed
		store      *Store
		refs       int         // who uses the store
		inner      int         // of refs, those that don't ask for the newest state: builders, and what tidies up
		holds      []wire.TXID // captures that wait for a version
		staging    map[uint64]*staging
		// unstaged is, while staging is not empty in a group with streams, the index before the first of its parts.
		unstaged uint64
		failed   error // why the copy is out of service; a *HollowError while it waits for its first pages
		gone     bool
		closed   bool // for good: the group ends

		// While the copy is out of service:
		kept    []queued // entries of the log since floor, for the copy to come
		floor   uint64   // index of the newest entry that the copy to come must contain
		copying bool     // ReadCopy runs
		have    Have     // what is here of an older state, as far as is known; the pages prove it
		// havePath is the base that holds it; empty when the tenant's files do.
		havePath string
		rest     chan struct{} // closed when working becomes false; nil when nobody waits for it

		rot error // a corrupt page that was found since the copy came; nil while none is known

		gen uint64 // number of the copy that the store began with; 0 if it was never replaced
	}
	waiting     atomic.Int64 // bytes of own commits on their way through the log
	admitted    atomic.Int64 // bytes of the disk that are kept for a commit that the log was not given yet
	corruptions atomic.Int64 // times that a page was found corrupt
}

// queued is a committed transaction that is not built yet.
type queued struct {
	h     txn.Header
	body  []byte
	parts *staging // when the body came in parts
	size  int
	index uint64 // of the log
}

func newTenant(g *Group, id wire.TenantID) *Tenant {
	t := &Tenant{g: g, id: id}
	t.mu.staging = map[uint64]*staging{}
	return t
}

// ID is the tenant's id.
func (t *Tenant) ID() wire.TenantID { return t.id }

// Record is what the log says of the tenant's life.
func (t *Tenant) Record() tenant.Tenant {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.rec
}

// Epoch is that of Record.
func (t *Tenant) Epoch() wire.Epoch {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.rec.Epoch
}

// Failed returns why the copy is out of service, or nil.
func (t *Tenant) Failed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.failed
}

// broken returns why the copy is of no use; nil also when it was only closed.
func (t *Tenant) broken() error {
	if err := t.Failed(); !errors.Is(err, ErrClosed) {
		return err
	}
	return nil
}

// Logged is the state after the newest entry of the log, visible or not yet.
func (t *Tenant) Logged() State {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.log
}

// Position is the newest state that readers see.
func (t *Tenant) Position() wire.Pos {
	t.mu.Lock()
	defer t.mu.Unlock()
	st := t.mu.built
	if t.mu.store != nil {
		st = t.mu.store.Committed()
	}
	return wire.Pos{Tenant: t.id, Epoch: t.mu.rec.Epoch, TXID: st.TXID, Checksum: st.Checksum}
}

func (t *Tenant) openStore() *Store {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.store
}

// apply is Group.Apply for one tenant.
func (t *Tenant) apply(index uint64, h *txn.Header, body, entry []byte) (State, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if index <= t.mu.index {
		return t.mu.log, nil // the files contain it already
	}
	if t.mu.gone {
		return State{}, fmt.Errorf("tenant %s: %w", t.id, ErrNoTenant)
	}
	if h.Kind == txn.Part {
		t.mu.index = index
		return t.mu.log, t.stageLocked(h, body)
	}
	var parts *staging
	if h.Flags&txn.FlagParts != 0 {
		parts = t.takeStagingLocked(h.Operation)
	}
	err := t.checkLocked(h, parts)
	if err == nil && h.Kind == txn.Control {
		err = t.controlLocked(h, body)
		t.hurryLocked() // who is told of it may look
	}
	t.mu.index = index
	if err != nil {
		parts.drop()
		t.g.Stats.Refused.Add(1)
		return State{}, err
	}
	if h.Kind == txn.Control {
		return t.mu.log, nil
	}
	next := State{TXID: h.NextTXID, Checksum: h.NextSum, Pages: h.Commit}
	t.mu.log, t.mu.logTime = next, int64(h.TimeUnixMilli)
	q := queued{h: *h, body: body, parts: parts, size: len(entry), index: index}
	if t.mu.failed != nil {
		t.keepLocked(q)
		return next, nil
	}
	if s := t.mu.store; s != nil && len(t.mu.queue) == 0 && !t.mu.busy {
		if s.promote(next) {
			parts.drop()
			t.mu.built = next
			t.g.Stats.Promoted.Add(1)
			return next, nil
		}
		s.dropSpeculation() // what it speculated on is not what the log says
	}
	t.mu.queue = append(t.mu.queue, q)
	t.g.builds.add(int64(len(entry)))
	t.wakeBuilderLocked(len(entry))
	return next, nil
}

// wakeBuilderLocked has the queue built, to which bytes were added: at once if somebody wants what is in it, else with what
// comes in the next moment.
func (t *Tenant) wakeBuilderLocked(bytes int) {
	switch {
	case t.mu.later != nil:
		if t.mu.laterBytes += bytes; !t.mayDeferLocked() {
			t.hurryLocked()
		}
	case !t.mu.busy:
		t.mu.busy = true
		t.scheduleLocked(bytes)
	}
}

// scheduleLocked gives the tenant to the builders, with a queue of some bytes.
func (t *Tenant) scheduleLocked(bytes int) {
	if t.mu.laterBytes = bytes; t.mayDeferLocked() {
		t.mu.later = t.g.builds.putLater(t, t.g.cfg.BuildDelay)
	} else {
		t.g.builds.put(t)
	}
}

// mayDeferLocked says whether what is in the queue may wait. It is bounded, so that who opens the store next does not wait long.
func (t *Tenant) mayDeferLocked() bool {
	return t.g.cfg.BuildDelay > 0 && t.mu.refs == t.mu.inner && len(t.mu.holds) == 0 &&
		int64(t.mu.laterBytes) < min(batchBytes, t.g.cfg.BuildBytes/4)
}

// hurryLocked has at once what waits to be built with others.
func (t *Tenant) hurryLocked() {
	if t.mu.later != nil {
		t.g.builds.hurry(t.mu.later)
		t.mu.later = nil
	}
}

// checkLocked decides, from the header alone and alike on every copy, whether
// the entry follows what the tenant is.
func (t *Tenant) checkLocked(h *txn.Header, parts *staging) error {
	if h.Kind == txn.Control && tenant.Code(h.Code) == tenant.CodeCreated {
		if t.mu.rec != (tenant.Tenant{}) {
			return fmt.Errorf("tenant %s exists already", t.id)
		}
		return nil
	}
	if h.Epoch != t.mu.rec.Epoch || h.PrevTXID != t.mu.log.TXID || h.PrevSum != t.mu.log.Checksum {
		return &PositionError{Tenant: t.id, Epoch: t.mu.rec.Epoch, Have: t.mu.log,
			Want: fmt.Sprintf("epoch %d, txid %d, checksum %s", h.Epoch, uint64(h.PrevTXID), h.PrevSum)}
	}
	if h.Kind == txn.Control {
		return nil
	}
	switch {
	case h.PageSize != t.mu.rec.PageSize:
		return fmt.Errorf("tenant %s has pages of %d bytes; the entry has %d", t.id, t.mu.rec.PageSize, h.PageSize)
	case t.mu.rec.State != tenant.StateActive:
		return fmt.Errorf("tenant %s is %s: %w", t.id, t.mu.rec.State, ErrNotPrimary)
	case h.NextTXID != h.PrevTXID+1:
		return fmt.Errorf("tenant %s: txid %d does not follow %d", t.id, uint64(h.NextTXID), uint64(h.PrevTXID))
	case h.Flags&txn.FlagParts != 0:
		return parts.complete(h)
	}
	return nil
}

// controlLocked changes what the tenant is.
func (t *Tenant) controlLocked(h *txn.Header, payload []byte) error {
	e, err := tenant.DecodeEvent(tenant.Code(h.Code), payload)
	if err != nil {
		return fmt.Errorf("tenant %s: %w", t.id, err)
	}
	rec, err := t.mu.rec.Apply(e)
	if err != nil {
		return err
	}
	if rec.ID != t.id {
		return fmt.Errorf("tenant %s: the entry creates tenant %s", t.id, rec.ID)
	}
	created := t.mu.rec == (tenant.Tenant{})
	t.mu.rec = rec
	switch {
	case created:
		t.g.add(t)
	case e.Code() == tenant.CodePurged:
		t.mu.gone = true
	}
	return nil
}

// Acquire opens the store if need be and keeps it open until Release.
func (t *Tenant) Acquire() (*Store, error) { return t.acquire(0) }

// acquire is Acquire; inner is 1 for who does not ask for the newest state, and calls releaseInner.
func (t *Tenant) acquire(inner int) (*Store, error) {
	t.mu.Lock()
	if inner == 0 {
		t.hurryLocked()
	}
	if s := t.mu.store; s != nil && t.mu.failed == nil && !t.mu.gone {
		t.mu.refs++
		t.mu.inner += inner
		t.mu.Unlock()
		return s, nil
	}
	t.mu.Unlock()
	t.fileMu.Lock()
	defer t.fileMu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.failed != nil {
		return nil, t.mu.failed
	}
	if t.mu.gone {
		return nil, fmt.Errorf("tenant %s: %w", t.id, ErrNoTenant)
	}
	if t.mu.store == nil {
		rec, durable := t.mu.rec, t.mu.built
		t.mu.Unlock()
		s, err := t.g.files.openStore(t.id, int(rec.PageSize), durable, t.g.cfg.Budget)
		t.mu.Lock()
		if err != nil {
			return nil, err
		}
		if t.mu.failed != nil || t.mu.gone { // meanwhile
			s.close(ErrClosed)
			if t.mu.failed != nil {
				return nil, t.mu.failed
			}
			return nil, fmt.Errorf("tenant %s: %w", t.id, ErrNoTenant)
		}
		for _, tx := range t.mu.holds {
			s.pin(tx)
		}
		s.onCorrupt = t.rotten
		t.mu.store = s
	}
	t.mu.refs++
	t.mu.inner += inner
	if inner == 0 {
		t.hurryLocked() // what was put off while the files were opened
	}
	return t.mu.store, nil
}

func (t *Tenant) releaseInner() {
	t.mu.Lock()
	t.mu.refs--
	t.mu.inner--
	t.mu.Unlock()
}

// Release ends what Acquire began.
func (t *Tenant) Release() {
	t.mu.Lock()
	t.mu.refs--
	t.mu.Unlock()
}

// closeIfIdle closes the store when nobody uses it and its files hold all.
func (t *Tenant) closeIfIdle() {
	t.fileMu.Lock()
	defer t.fileMu.Unlock()
	t.mu.Lock()
	s := t.mu.store
	if s == nil || t.mu.refs > 0 || t.mu.busy || len(t.mu.holds) > 0 || t.mu.durable != t.mu.built || !s.idle() {
		t.mu.Unlock()
		return
	}
	t.mu.store = nil
	t.mu.Unlock()
	s.close(ErrClosed)
}

// shut closes the store for good.
func (t *Tenant) shut(reason error) {
	t.fileMu.Lock()
	defer t.fileMu.Unlock()
	t.mu.Lock()
	s := t.mu.store
	t.mu.store = nil
	if t.mu.failed == nil {
		t.mu.failed = reason
	}
	t.mu.closed = true
	t.dropQueueLocked()
	t.forgetLocked()
	for op := range t.mu.staging {
		t.takeStagingLocked(op).drop()
	}
	t.mu.Unlock()
	if s != nil {
		s.close(reason)
	}
}

// fail takes the copy out of service.
func (t *Tenant) fail(err error) {
	t.mu.Lock()
	if t.mu.failed != nil || t.mu.gone {
		t.mu.Unlock()
		return
	}
	t.mu.failed = err
	t.dropQueueLocked()
	t.mu.floor = t.mu.index
	s := t.mu.store
	name := t.mu.rec.Name
	t.mu.Unlock()
	t.g.Stats.Failures.Add(1)
	t.g.someAil()
	t.g.cfg.Log.Error("copy taken out of service", "tenant", string(name), "id", t.id, "group", t.g.cfg.ID, "error", err)
	if s != nil {
		s.close(err)
	}
}

// restLocked says that no builder works on the tenant any more.
func (t *Tenant) restLocked() {
	t.mu.working = false
	if t.mu.rest != nil {
		close(t.mu.rest)
		t.mu.rest = nil
	}
}

// dropQueueLocked forgets what is not built. A builder at work finds its entry gone, and drops its parts.
func (t *Tenant) dropQueueLocked() {
	for i, q := range t.mu.queue {
		if i > 0 || !t.mu.working {
			q.parts.drop()
		}
		t.g.builds.add(-int64(q.size))
	}
	t.mu.queue = nil
}

// rotten is told of each page that was found corrupt when it was read for somebody.
func (t *Tenant) rotten(err error) {
	t.mu.Lock()
	first := t.mu.rot == nil && t.mu.failed == nil
	if first {
		t.mu.rot = err
	}
	t.mu.Unlock()
	if first {
		t.g.someAil()
	}
	t.corrupt(err)
}

// corrupt counts and logs a corrupt page.
func (t *Tenant) corrupt(err error) {
	t.g.Stats.Corrupt.Add(1)
	if n := t.corruptions.Add(1); n&(n-1) != 0 {
		return // the page may be read again and again: log the 1st, 2nd, 4th, 8th time
	}
	t.g.cfg.Log.Error("corrupt page", "tenant", string(t.Record().Name), "id", t.id, "group", t.g.cfg.ID, "error", err)
}

// Failure reports an error that SQLite met in a handle of this tenant; a copy that
// is corrupt is taken out of service.
func (t *Tenant) Failure(err error) { t.fail(err) }

// Bears says whether the tenant has the name and is not deleted.
func (t *Tenant) Bears(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.mu.rec.Name) == name && t.mu.rec.State != tenant.StateDeleted && !t.mu.gone
}
