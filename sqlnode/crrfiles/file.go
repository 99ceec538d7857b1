package crrfiles

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

const openNew = os.O_RDWR | os.O_CREATE

// File is one tenant's file of conflict-free tables. Its methods may be called by any goroutine.
type File struct {
	m    *Manager
	id   wire.TenantID
	path string

	tenant *pagestore.Tenant // under the manager's mu

	turn    chan struct{} // full while somebody has the writer; see take
	w       *Writer       // by who has the turn; nil while it is closed
	removed bool          // by who has the turn

	open    atomic.Bool                  // w is there
	readers atomic.Int64                 // Readers that rest on w's site
	last    atomic.Int64                 // unix ns of the newest use
	state   atomic.Pointer[schema.State] // of the file when it was last looked at; nil before
	failed  atomic.Pointer[DamagedError]
	synced  atomic.Uint64 // TXID of main that the file follows, of w's store

	change struct {
		sync.Mutex
		ch chan struct{} // closed by the next transaction
	}
}

// Writer is the connection that writes a file, for the time of one turn.
type Writer struct {
	// Conn has main attached read-only and the file as crr. Outside of a turn nobody may use it.
	Conn *pagestore.Conn
	// Site merges, and brackets local transactions.
	Site *crr.Site
	// Keep is for whoever runs statements of its own on the connection.
	Keep Dress

	t     *pagestore.Tenant
	store *pagestore.Store
	stale bool // main was replaced: the connection is of no more use
}

// Dress is what somebody keeps with a Writer's connection, as long as that lives.
type Dress interface {
	// Undress gives up the statements that were prepared on the connection: it is about to be closed.
	Undress()
}

// Committed is the newest state of main that readers see.
func (w *Writer) Committed() pagestore.State { return w.store.Committed() }

// Stale says that the connection must be opened anew after this turn.
func (w *Writer) Stale() { w.stale = true }

// Tenant is whose file it is.
func (f *File) Tenant() wire.TenantID { return f.id }

// Path is where the file is.
func (f *File) Path() string { return f.path }

// Schema is the schema that the file was at when it was last looked at; nil before that.
func (f *File) Schema() *schema.State { return f.state.Load() }

// Failed returns why the file is out of service; nil when it is not.
func (f *File) Failed() *DamagedError { return f.failed.Load() }

// Changed returns a channel that is closed by the file's next transaction.
func (f *File) Changed() <-chan struct{} {
	f.change.Lock()
	defer f.change.Unlock()
	return f.change.ch
}

func (f *File) setTenantLocked(t *pagestore.Tenant) { f.tenant = t }

func (f *File) used() time.Time { return time.Unix(0, f.last.Load()) }

// take waits for the turn.
func (f *File) take(ctx context.Context) error {
	select {
	case f.turn <- struct{}{}:
		return nil
	default:
	}
	select {
	case f.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *File) give() {
	f.last.Store(f.m.cfg.Now().UnixNano())
	<-f.turn
}

// Write gives do the file's writer, alone, with a schema and members as new as main is here. A transaction that do leaves open is rolled
// back. Errors of do are returned as they are; one that shows the file to be damaged takes it out of service, and is then a *DamagedError.
func (f *File) Write(ctx context.Context, do func(w *Writer) error) error {
	if err := f.take(ctx); err != nil {
		return err
	}
	defer f.give()
	w, err := f.ready()
	if err != nil {
		return f.judge(err)
	}
	before := w.Site.Head()
	err = do(w)
	if rerr := w.Site.Rollback(); rerr != nil {
		err = errors.Join(err, rerr)
		w.stale = true
	}
	f.announce(w, before)
	if w.stale || errors.Is(err, pagestore.ErrReplaced) {
		f.m.Stats.WriterReopened.Add(1)
		f.shut()
	}
	return f.judge(err)
}

// Sync brings the file up to the strong schema as it is here: its own schema, its members, and its number.
func (f *File) Sync(ctx context.Context) error {
	return f.Write(ctx, func(*Writer) error { return nil })
}

// ready opens the writer if need be, and brings the file up to main. Under the turn.
func (f *File) ready() (*Writer, error) {
	if e := f.failed.Load(); e != nil {
		return nil, e
	}
	if f.removed {
		return nil, ErrNone
	}
	f.m.mu.Lock()
	t, closed := f.tenant, f.m.mu.closed
	f.m.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if f.w != nil && f.w.t != t {
		f.shut()
	}
	for again := f.w != nil; ; again = false {
		if f.w == nil {
			if err := f.start(t); err != nil {
				return nil, err
			}
		}
		err := f.sync()
		if err == nil {
			return f.w, nil
		}
		if cause := f.w.Conn.TakeErr(); cause != nil {
			err = fmt.Errorf("%w: %w", err, cause)
		}
		f.shut()
		if !again || damage(err) {
			return nil, err
		}
		f.m.Stats.WriterReopened.Add(1) // main may have been replaced under the connection
	}
}

// start opens the writer.
func (f *File) start(t *pagestore.Tenant) error {
	store, err := t.Acquire()
	if err != nil {
		return err
	}
	w, err := f.openWriter(t, store)
	if err != nil {
		t.Release()
		return err
	}
	f.w = w
	f.open.Store(true)
	f.last.Store(f.m.cfg.Now().UnixNano())
	f.synced.Store(0)
	f.state.Store(w.Site.Schema())
	f.m.Stats.Open.Add(1)
	f.m.shed(f)
	return nil
}

func (f *File) openWriter(t *pagestore.Tenant, store *pagestore.Store) (_ *Writer, err error) {
	pc, err := store.OpenCRRWriter(f.path, nil)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			if cause := pc.TakeErr(); cause != nil {
				err = fmt.Errorf("%w: %w", err, cause)
			}
			pc.Close()
		}
	}()
	if err := configure(pc.Conn); err != nil {
		return nil, err
	}
	if err := pc.Exec(fmt.Sprintf("PRAGMA busy_timeout=%d; PRAGMA crr.cache_size=-%d; PRAGMA crr.journal_size_limit=%d", busyMillis, f.m.cfg.CacheKiB, walBytes)); err != nil {
		return nil, fmt.Errorf("prepare connection: %w", err)
	}
	site, err := crr.Open(Adapt(pc.Conn), crr.Config{Tenant: f.id.String(), Now: f.m.cfg.Now})
	if err != nil {
		return nil, err
	}
	return &Writer{Conn: pc, Site: site, t: t, store: store}, nil
}

const (
	// busyMillis is how long a connection waits for a lock of the file, which others hold for moments only: to recover its log, or to close it as the last.
	busyMillis = 2000
	// walBytes is how large the file's log stays after it was written back.
	walBytes = 16 << 20
)

// sync makes the file follow main. Under the turn.
func (f *File) sync() error {
	w := f.w
	at := uint64(w.store.Committed().TXID)
	if at == f.synced.Load() && at != 0 {
		return nil
	}
	c := w.Conn.Conn
	have := w.Site.Schema().Version
	changes, err := Changes(c, have)
	if err != nil {
		return err
	}
	if len(changes) == 0 && have > 0 {
		main, err := newest(c)
		if err == nil && main < have {
			err = &AheadError{have, main}
		}
		if err != nil {
			return err
		}
	}
	for _, ch := range changes {
		if err := w.Site.ApplySchema(ch); err != nil {
			return err
		}
		f.m.Stats.SchemaChanges.Add(1)
		f.m.cfg.Log.Info("conflict-free schema changed", "id", f.id, "version", ch.Version)
	}
	members, err := Members(c, f.id)
	if err != nil {
		return err
	}
	w.Site.SetMembers(members)
	if err := adopt(w.Site, members); err != nil {
		return err
	}
	f.state.Store(w.Site.Schema())
	f.synced.Store(at)
	return nil
}

// adopt takes the number that the strong schema has for the file.
func adopt(s *crr.Site, members []crr.Member) error {
	me := s.Identity()
	if me.Site != 0 {
		return nil
	}
	for _, m := range members {
		if m.File == me.File && m.State == crr.Active {
			return s.Adopt(m.File, m.Site)
		}
	}
	return nil
}

// behind says whether main has moved since the file was brought up to it.
func (f *File) behind() bool {
	if !f.open.Load() || f.failed.Load() != nil {
		return false
	}
	f.m.mu.Lock()
	t := f.tenant
	f.m.mu.Unlock()
	return uint64(t.Position().TXID) != f.synced.Load()
}

// announce tells of what was committed since a head.
func (f *File) announce(w *Writer, before crr.Head) {
	head := w.Site.Head()
	if head.Seq == before.Seq && head.Hash == before.Hash && head.Identity == before.Identity {
		return
	}
	f.m.Stats.Transactions.Add(1)
	f.change.Lock()
	close(f.change.ch)
	f.change.ch = make(chan struct{})
	f.change.Unlock()
	if f.m.cfg.OnChange != nil {
		f.m.cfg.OnChange(f, head)
	}
}

// judge takes the file out of service when err shows that it is damaged.
func (f *File) judge(err error) error {
	var known *DamagedError
	if errors.As(err, &known) || !damage(err) {
		return err
	}
	return f.condemn(err)
}

// Suspect is told of an error that a connection met which has the file attached. It says whether the file is out of service now.
func (f *File) Suspect(err error) bool {
	if !damage(err) {
		return false
	}
	f.condemn(err)
	return true
}

func (f *File) condemn(err error) *DamagedError {
	e := &DamagedError{Tenant: f.id, Path: f.path, Cause: err}
	if !f.failed.CompareAndSwap(nil, e) {
		return f.failed.Load()
	}
	f.m.Stats.Damaged.Add(1)
	f.m.cfg.Log.Error("file of conflict-free tables taken out of service", "id", f.id, "file", f.path, "error", err)
	return e
}

// closeNow closes the writer if nobody has the turn; with wait it waits for it. It says whether it is closed.
func (f *File) closeNow(wait bool) bool {
	if wait {
		f.turn <- struct{}{}
	} else {
		select {
		case f.turn <- struct{}{}:
		default:
			return false
		}
	}
	defer func() { <-f.turn }()
	if !wait && f.readers.Load() > 0 {
		return false
	}
	f.shut()
	return true
}

// remove closes the file for good.
func (f *File) remove() {
	f.turn <- struct{}{}
	defer func() { <-f.turn }()
	f.removed = true
	f.shut()
}

// shut closes the writer. Under the turn.
func (f *File) shut() {
	w := f.w
	if w == nil {
		return
	}
	f.w = nil
	f.open.Store(false)
	f.synced.Store(0)
	w.Site.Close()
	if w.Keep != nil {
		w.Keep.Undress()
	}
	if err := w.Conn.Close(); err != nil {
		f.m.cfg.Log.Warn("close file of conflict-free tables", "id", f.id, "error", err)
	}
	w.t.Release()
	f.m.Stats.Open.Add(-1)
}
