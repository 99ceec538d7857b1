package crrfiles

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
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
	closed  crr.Head      // what the file had when w was closed; by who has the turn

	open    atomic.Bool                  // w is there
	readers atomic.Int64                 // Readers that rest on w's site
	last    atomic.Int64                 // unix ns of the newest use
	state   atomic.Pointer[schema.State] // of the file when it was last looked at; nil before
	failed  atomic.Pointer[DamagedError]
	synced  atomic.Uint64 // TXID of main that the file follows, of w's store
	number  atomic.Uint32 // site number, when it was last looked at
	ended   atomic.Bool   // main said then that its number is retired
	tainted atomic.Uint32 // a retired site of which it had then what does not count; 0: none
	sent    sentRecord

	change struct {
		sync.Mutex
		ch chan struct{} // closed by the next transaction
	}
}

// Tenant is whose file it is.
func (f *File) Tenant() wire.TenantID { return f.id }

// Path is where the file is.
func (f *File) Path() string { return f.path }

// Schema is the schema that the file was at when it was last looked at; nil before that.
func (f *File) Schema() *schema.State { return f.state.Load() }

// Number is the file's site number when it was last looked at; 0: it had none, or was not looked at.
func (f *File) Number() crr.SiteID { return crr.SiteID(f.number.Load()) }

// Ended says whether the file's number was retired when it was last looked at: nobody takes what it writes, or answers it.
func (f *File) Ended() bool { return f.ended.Load() }

// Tainted returns a retired site of which the file had more than counts when it was last looked at, so that no other site takes what it has; 0 for none.
func (f *File) Tainted() crr.SiteID { return crr.SiteID(f.tainted.Load()) }

// note takes from the writer what others ask for without a turn.
func (f *File) note(w *Writer) {
	me := w.Site.Identity().Site
	f.number.Store(uint32(me))
	f.tainted.Store(uint32(w.Site.Tainted()))
	f.ended.Store(me != 0 && slices.ContainsFunc(w.members, func(m crr.Member) bool { return m.Site == me && m.State == crr.Retired }))
}

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

func (f *File) give(used bool) {
	if used {
		f.last.Store(f.m.cfg.Now().UnixNano())
	}
	<-f.turn
}

// turnRoom is what a turn may take of the disk, in bytes; larger ones are seen when the free space is sampled again.
const turnRoom = 1 << 20

// Write gives do the file's writer, alone, with a schema and members as new as main is here. A transaction that do leaves open is rolled
// back. Errors of do are returned as they are; one that shows the file to be damaged takes it out of service, and is then a *DamagedError.
func (f *File) Write(ctx context.Context, do func(w *Writer) error) error {
	if err := f.m.cfg.Space.Take(turnRoom); err != nil {
		return fmt.Errorf("%w: %w", pagestore.ErrDiskFull, err)
	}
	return f.write(ctx, true, do)
}

// write is Write; without used it is no reason to keep the file open.
func (f *File) write(ctx context.Context, used bool, do func(w *Writer) error) error {
	if err := f.take(ctx); err != nil {
		return err
	}
	defer f.give(used)
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
	// After an I/O error a commit that failed may be on disk all the same: what the writer believes is read anew.
	if w.stale || errors.Is(err, pagestore.ErrReplaced) || sqlite.ErrorCode(err)&0xff == sqlite.CodeIOErr {
		f.m.Stats.WriterReopened.Add(1)
		f.shut()
	}
	return f.judge(err)
}

// Sync brings the file up to the strong schema as it is here: its own schema, its members, and its number.
func (f *File) Sync(ctx context.Context) error {
	return f.write(ctx, true, func(*Writer) error { return nil }) // also on a full disk: what it writes is little, and reads wait for it
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
				return nil, unopened{err}
			}
		}
		err := f.sync()
		if err == nil {
			if f.m.cfg.Ahead != nil {
				f.w.Site.SetOffset(f.m.cfg.Ahead())
			}
			f.note(f.w)
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

// announce tells of what was committed since a head.
func (f *File) announce(w *Writer, before crr.Head) {
	f.note(w)
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
		f.m.cfg.OnChange(f, before, head)
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
	e := &DamagedError{Tenant: f.id, Path: f.path, Cause: err, Unopened: errors.As(err, new(unopened))}
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
