package crr

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/wire"
)

// Reader makes batches of a site's file, each from one snapshot. It has a connection of its own, which
// may be read-only, and is used by one goroutine at a time; not the one of the site.
type Reader struct {
	conn Conn
	ring *ring // nil: of a file that nobody writes; all metadata is read
	rows int   // most rows in a batch
	run  uint32

	me     self
	state  *schema.State
	tables []*readTable
	batch  uint64 // batches made
}

// NewReader returns a reader of the site's file over another connection.
func (s *Site) NewReader(c Conn) *Reader {
	return &Reader{conn: c, ring: s.ring, rows: s.cfg.BatchRows, run: s.cfg.Run}
}

// OpenReader returns a reader of a file that no site of this process has open, for salvage.
func OpenReader(c Conn) *Reader { return &Reader{conn: c, rows: math.MaxInt} }

// readTable is a live table as a reader sees it.
type readTable struct {
	*table
	meta, scan, cells Stmt
}

// Close gives up the reader's statements; the connection is the caller's to close.
func (r *Reader) Close() {
	for _, t := range r.tables {
		for _, st := range []Stmt{t.meta, t.scan, t.cells} {
			if st != nil {
				st.Finalize()
			}
		}
	}
	r.tables, r.state = nil, nil
}

// snapshot runs f on one committed state of the file, with its vector.
func (r *Reader) snapshot(f func(v Vector) error) (err error) {
	if err := r.conn.Exec("BEGIN"); err != nil {
		return err
	}
	defer func() {
		if !r.conn.Autocommit() {
			err = errors.Join(err, r.conn.Exec("ROLLBACK"))
		}
	}()
	if r.me, err = readSelf(r.conn); err != nil {
		return err
	}
	v, err := readVector(r.conn, r.me)
	if err != nil {
		return err
	}
	if r.state == nil || r.state.Version != r.me.schema {
		if err := r.load(); err != nil {
			return err
		}
	}
	return f(v)
}

func (r *Reader) load() (err error) {
	r.Close()
	if r.state, err = readState(r.conn, r.me.schema); err != nil {
		return err
	}
	for _, def := range r.state.Tables {
		if def.Gone == 0 {
			r.tables = append(r.tables, &readTable{table: newTable(def)})
		}
	}
	return nil
}

// BehindError is an asker whose state can't be brought up by a batch. It takes a snapshot of
// a file (Reader.Snapshot) instead, under a new number, and salvages what it alone has.
type BehindError struct{ Reason string }

func (e *BehindError) Error() string { return "crr: a snapshot of the file is needed: " + e.Reason }

// Answer makes the batch that brings the asker to this file's state: frames go out as they are
// full, good until emit returns. It fails with a *BehindError when the asker misses tombstones that are collected
// here, or too much.
func (r *Reader) Answer(q *Request, emit func(frame []byte) error) error {
	return r.snapshot(func(v Vector) error {
		if q.Tenant != r.me.Tenant {
			return fmt.Errorf("crr: a request of tenant %q came to %q", q.Tenant, r.me.Tenant)
		}
		if r.me.Site == 0 {
			return ErrNoSite // nobody could say whose answer it is
		}
		// An asker without anything has no row that a collected tombstone should have removed.
		if len(q.Vector.sites()) > 0 && !q.Vector.Covers(r.me.collected) {
			return &BehindError{"it has not seen deletes that all others had, and that were forgotten since"}
		}
		h := &Header{Kind: Pull, Tenant: r.me.Tenant, Site: r.me.Site, File: r.me.File, Schema: r.me.schema, After: v, Cursor: cursorAt(r.run, r.me.lseq), Collected: r.me.collected}
		after := int64(0)
		if q.Of == r.me.File {
			after = cursorAfter(q.Cursor, r.run, r.me.lseq)
		}
		w := r.writer(h, emit)
		if err := r.collect(w, q.Vector, after); err != nil {
			return err
		}
		return w.close()
	})
}

// Pushed is what a push took with it.
type Pushed struct {
	Mark      // where it ends, and the next one begins
	Sent bool // false: there was nothing, or too much to push
}

// errTooLarge is a push that takes more than a frame.
var errTooLarge = errors.New("crr: too much to push")

// ErrOtherFile is a push from a mark of another file, or of the file under another number: it has been replaced, or has renounced its number.
var ErrOtherFile = errors.New("crr: the file has another identity than that from which a push was to go on")

// Push makes the batch of the site's own transactions after from, with the newest value of each cell only.
// What fits in no frame is not pushed: the others pull it. It fails with ErrOtherFile.
func (r *Reader) Push(from Mark, emit func(frame []byte) error) (p Pushed, err error) {
	err = r.snapshot(func(v Vector) error {
		if from != (Mark{}) && !from.Of(r.me.Identity) {
			return ErrOtherFile
		}
		p.Mark = Head{Identity: r.me.Identity, Vector: v, Seq: r.me.lseq}.Mark()
		if r.me.Site == 0 || p.upto <= from.upto {
			return nil
		}
		h := &Header{Kind: Push, Tenant: r.me.Tenant, Site: r.me.Site, File: r.me.File, Schema: r.me.schema, After: Vector{r.me.Site: p.upto}, Prev: from.upto, Deps: v.Clone()}
		delete(h.Deps, r.me.Site)
		// To this vector everything of the others is known.
		known := Vector{r.me.Site: from.upto}
		for s := range h.Deps {
			known[s] = math.MaxUint64
		}
		var only []byte
		w := r.writer(h, func(f []byte) error {
			if only != nil {
				return errTooLarge
			}
			only = append([]byte{}, f...)
			return nil
		})
		err := r.collect(w, known, from.seq)
		if err == nil {
			err = w.close()
		}
		if err == nil {
			p.Sent = true
			return emit(only)
		}
		if behind := new(BehindError); errors.Is(err, errTooLarge) || errors.As(err, &behind) {
			return nil
		}
		return err
	})
	return p, err
}

func (r *Reader) writer(h *Header, emit func([]byte) error) *batchWriter {
	r.batch++
	w := &batchWriter{emit: emit, id: binary.BigEndian.Uint64(r.me.File[:8]) + r.batch}
	w.header(h)
	return w
}

// collect writes what a holder of v lacks of the rows changed after a transaction.
func (r *Reader) collect(w *batchWriter, v Vector, after int64) error {
	if r.ring != nil && after > 0 {
		if rows, ok := r.ring.since(after, r.me.lseq); ok {
			return r.collectRows(w, v, rows)
		}
	}
	for _, t := range r.tables {
		if err := prepared(r.conn, &t.scan, func() string { return "SELECT k,st FROM crr." + t.table.meta() + " WHERE lseq>?" }); err != nil {
			return err
		}
		err := run(t.scan, func(s Stmt) error { return r.row(w, t, v, s.Column(0), s.ColumnBytes(1)) }, wire.Integer(after))
		if err != nil {
			return err
		}
	}
	return nil
}

// collectRows looks at some rows only.
func (r *Reader) collectRows(w *batchWriter, v Vector, rows []rowID) error {
	for _, t := range r.tables {
		for _, id := range rows {
			if id.table != t.def.ID {
				continue
			}
			if err := prepared(r.conn, &t.meta, func() string { return "SELECT st FROM crr." + t.table.meta() + " WHERE k=?" }); err != nil {
				return err
			}
			if err := run(t.meta, func(s Stmt) error { return r.row(w, t, v, id.key, s.ColumnBytes(0)) }, id.key); err != nil {
				return err
			}
		}
	}
	return nil
}

// row writes what a holder of v lacks of one row.
func (r *Reader) row(w *batchWriter, t *readTable, v Vector, key wire.Value, st []byte) error {
	var state Row
	if err := state.decode(st); err != nil {
		return fmt.Errorf("table %s, key %s: %w", t.def.Name, key, err)
	}
	state.forget(t.gone)
	d, some := state.Since(v, t.lww)
	if !some {
		return nil
	}
	if int(w.rows) >= r.rows {
		return &BehindError{fmt.Sprintf("more than %d rows have changed", r.rows)}
	}
	if len(d.Cells) > 0 {
		values, err := r.values(t, key)
		if err != nil {
			return err
		}
		for i := range d.Cells {
			d.Cells[i].Value = values[t.place(d.Cells[i].Col)]
		}
	}
	return w.row(&RowChange{Table: t.def.ID, Key: key, Delta: d})
}

// values reads the row of the tenant's table, by place.
func (r *Reader) values(t *readTable, key wire.Value) ([]wire.Value, error) {
	// The plus hides the declared type, by which database/sql drivers make other types of DATE and BOOLEAN.
	err := prepared(r.conn, &t.cells, func() string {
		return fmt.Sprintf("SELECT %s FROM crr.%s WHERE %s", names(t.cols, columnName, "+%", ","), schema.Quote(t.def.Name), t.keyNames("%=?", " AND "))
	})
	if err != nil {
		return nil, err
	}
	keys, err := t.keyArgs(key)
	if err != nil {
		return nil, err
	}
	var values []wire.Value
	err = run(t.cells, func(s Stmt) error {
		values = make([]wire.Value, len(t.cols))
		for i := range values {
			values[i] = s.Column(i)
		}
		return nil
	}, keys...)
	if err == nil && values == nil {
		err = fmt.Errorf("%w: table %s, key %s: there is metadata of a live row, and no row", ErrCorrupt, t.def.Name, key)
	}
	return values, err
}
