package crrfiles

import (
	"fmt"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
)

// Writer is the connection that writes a file, for the time of one turn.
type Writer struct {
	// Conn has main attached read-only and the file as crr. Outside of a turn nobody may use it.
	Conn *pagestore.Conn
	// Site merges, and brackets local transactions.
	Site *crr.Site
	// Keep is for whoever runs statements of its own on the connection.
	Keep Dress

	t       *pagestore.Tenant
	store   *pagestore.Store
	members []crr.Member // as main says
	stale   bool         // main was replaced: the connection is of no more use
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
	pc, err := store.OpenCRRWriter(f.path, f.m.temp())
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
	site, err := crr.Open(Adapt(pc.Conn), crr.Config{Tenant: f.id.String(), Now: f.m.cfg.Now, Run: f.m.run})
	if err != nil {
		return nil, err
	}
	// Package crr keeps what is temporary in SQLite's memory, not knowing of a better place; in this connection's there is a bound, and statement journals are cheaper.
	if err := pc.Exec("PRAGMA temp_store=FILE"); err != nil {
		site.Close()
		return nil, fmt.Errorf("prepare connection: %w", err)
	}
	if err := f.checkSent(site); err != nil {
		site.Close()
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

// shut closes the writer. Under the turn.
func (f *File) shut() {
	w := f.w
	if w == nil {
		return
	}
	f.w = nil
	f.open.Store(false)
	f.synced.Store(0)
	f.closed = w.Site.Head()
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
