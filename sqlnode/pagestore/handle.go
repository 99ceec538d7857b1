package pagestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// Gate stands between a store and the log: it is asked before each commit and
// given each.
type Gate interface {
	// Writable says whether transactions may begin here; ErrNotPrimary if not.
	Writable() error
	// Admit is asked when a commit is about to happen and can still be refused cleanly. Propose or Withdraw follows.
	Admit(bytes int) error
	// Withdraw says that what was admitted was rolled back.
	Withdraw()
	// Header gives the fields of a transaction that the tenant and its group decide.
	Header() txn.Header
	// Propose takes a commit that is published speculatively. It must not block for long.
	Propose(c *Commit)
}

// TxLimits bound one transaction of a handle.
type TxLimits struct {
	TxBytes  int64  // of changed pages; 0 means no limit
	MaxPages uint32 // size of the database; 0 means no limit
}

// Handle is one SQLite connection's view of a store. Its methods are called
// by the goroutine that uses the connection, but for those that say otherwise.
type Handle struct {
	store  *Store
	writer bool
	gate   Gate // nil for readers
	gen    uint64

	lock   int32
	pinned bool
	seen   State // what the connection reads; valid while pinned
	rw     bool  // holds the writer slot

	write    map[uint32][]byte // pages written by the open transaction; not empty only with rw
	order    []uint32          // of write, as they came; those that were truncated, too
	wsize    uint32            // size of the database as the open transaction sees it
	low      uint32            // smallest size in the open transaction: above it nothing old is left
	limits   TxLimits
	prepared *prepared // nil, or &room
	room     prepared
	synced   bool // prepare has seen the write set
	enc      txn.Encoder

	stamp   [stampSize]byte
	stamped State // of which stamp is; zero when it is of none

	err      error // the Go error behind the newest SQLite error
	commit   *Commit
	lastSeen State

	expired atomic.Bool  // the snapshot was taken away
	since   atomic.Int64 // unix ns when a reader's pin was taken, for expiry; 0 while not pinned
	pinTX   atomic.Uint64
	now     func() int64
}

// prepared is a commit between FCNTL_SYNC, where it can be refused, and
// COMMIT_PHASETWO, where it happens.
type prepared struct {
	next   State
	pages  []newVersion // whose array is used again
	commit *Commit
}

// keepVersions is how many entries an array of prepared may have to be kept.
const keepVersions = 64

// reset forgets the commit, and keeps the array if it is small.
func (p *prepared) reset() {
	pages := p.pages
	if cap(pages) > keepVersions {
		pages = nil
	}
	clear(pages)
	*p = prepared{pages: pages[:0]}
}

// SetLimits sets the bounds of the transactions to come.
func (h *Handle) SetLimits(l TxLimits) { h.limits = l }

// TakeErr returns the Go error behind the newest SQLite error, once.
func (h *Handle) TakeErr() error {
	err := h.err
	h.err = nil
	return err
}

// because adds the Go error behind an error of SQLite.
func (h *Handle) because(err error) error {
	if cause := h.TakeErr(); cause != nil {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// TakeCommit returns what the newest transaction committed, once; nil when it changed nothing.
func (h *Handle) TakeCommit() *Commit {
	c := h.commit
	h.commit = nil
	return c
}

// Seen is the state on which the newest transaction of the connection ran (before its own changes).
func (h *Handle) Seen() State { return h.lastSeen }

// Store is what the handle reads.
func (h *Handle) Store() *Store { return h.store }

// fail keeps err for the caller of SQLite and returns the code for SQLite.
func (h *Handle) fail(err error) int32 {
	if h.err == nil {
		h.err = err
	}
	var (
		corrupt *CorruptError
		large   *TooLargeError
		full    *FullError
	)
	switch {
	case errors.As(err, &corrupt):
		if h.store.onCorrupt != nil {
			h.store.onCorrupt(err)
		}
		return sqlite3.SQLITE_IOERR_DATA
	case errors.As(err, &large), errors.As(err, &full), errors.Is(err, ErrDiskFull):
		return sqlite3.SQLITE_FULL
	case errors.Is(err, ErrNotPrimary):
		return sqlite3.SQLITE_READONLY
	case errors.Is(err, ErrOverloaded):
		return sqlite3.SQLITE_BUSY
	}
	return sqlite3.SQLITE_IOERR
}

func (h *Handle) pageSize() int { return h.store.pageSize }

// size is what xFileSize answers, in pages.
func (h *Handle) size() uint32 {
	switch {
	case h.rw:
		return h.wsize
	case h.pinned:
		return h.seen.Pages
	case h.writer:
		return h.store.Head().Pages
	}
	return h.store.Committed().Pages
}

// take is xLock.
func (h *Handle) take(level int32) int32 {
	if level <= h.lock {
		return sqlite3.SQLITE_OK
	}
	if !h.pinned {
		if err := h.pinNewest(); err != nil {
			return h.fail(err)
		}
	}
	if level >= sqlite3.SQLITE_LOCK_RESERVED && !h.rw {
		if !h.writer {
			return h.fail(ErrNotPrimary)
		}
		if err := h.gate.Writable(); err != nil {
			return h.fail(err)
		}
		if h.gen != h.store.gen.Load() {
			return h.fail(ErrReplaced)
		}
		if !h.store.writer.TryLock() {
			return sqlite3.SQLITE_BUSY
		}
		if h.store.Head() != h.seen {
			h.store.writer.Unlock()
			return sqlite3.SQLITE_BUSY_SNAPSHOT
		}
		h.rw = true
		h.wsize, h.low = h.seen.Pages, h.seen.Pages
	}
	h.lock = level
	return sqlite3.SQLITE_OK
}

// pinNewest takes the snapshot: the newest committed version, or the head for the writer.
func (h *Handle) pinNewest() error {
	s := h.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed != nil {
		return s.mu.closed
	}
	if h.gen != s.gen.Load() {
		return ErrReplaced
	}
	h.seen = s.mu.committed
	if h.writer {
		h.seen = s.headLocked()
	}
	s.mu.pins.add(h.seen.TXID)
	h.pinned = true
	h.lastSeen = h.seen
	h.expired.Store(false)
	h.pinTX.Store(uint64(h.seen.TXID))
	if !h.writer { // whose snapshot nobody takes away
		h.since.Store(h.now())
	}
	return nil
}

// give is xUnlock.
func (h *Handle) give(level int32) {
	if level <= sqlite3.SQLITE_LOCK_SHARED && h.rw {
		h.discard()
		h.rw = false
		h.store.writer.Unlock()
	}
	if level == sqlite3.SQLITE_LOCK_NONE && h.pinned {
		s := h.store
		s.mu.Lock()
		h.since.Store(0)
		if !h.expired.Load() {
			s.unpinLocked(h.seen.TXID)
		}
		s.mu.Unlock()
		h.pinned = false
	}
	h.lock = level
}

// discard forgets the write set.
func (h *Handle) discard() {
	for _, p := range h.write {
		h.store.budget.recycle(p)
	}
	clear(h.write)
	h.order = h.order[:0]
	if h.prepared != nil {
		h.gate.Withdraw()
	}
	h.prepared, h.synced = nil, false
	h.room.reset()
	h.wsize, h.low = h.seen.Pages, h.seen.Pages
}

// read is xRead: dst from byte offset off. short says that the file ends before.
func (h *Handle) read(dst []byte, off int64) (short bool, err error) {
	size := h.pageSize()
	for len(dst) > 0 {
		pgno := uint32(off/int64(size)) + 1
		in := int(off % int64(size))
		n := min(size-in, len(dst))
		s, err := h.readPage(dst[:n], pgno, in)
		// Afterwards, since the snapshot may have been taken away while it was read.
		if gone := h.gone(); gone != nil {
			return false, gone
		}
		if err != nil {
			return false, err
		}
		short = short || s
		dst, off = dst[n:], off+int64(n)
	}
	return short, nil
}

// gone says why what the handle reads is not its snapshot any more, or nil.
func (h *Handle) gone() error {
	switch {
	case !h.pinned:
		return nil
	case h.expired.Load():
		return ErrSnapshotTooOld
	case h.writer && h.gen != h.store.gen.Load():
		return ErrReplaced // it may have stood on a speculative state
	}
	return nil
}

func (h *Handle) readPage(dst []byte, pgno uint32, in int) (short bool, err error) {
	if h.rw {
		if p, ok := h.write[pgno]; ok {
			copy(dst, p[in:])
			return false, nil
		}
		if pgno > h.wsize {
			clear(dst)
			return true, nil
		}
		if pgno > h.low {
			clear(dst)
			return false, nil
		}
		return false, h.store.readAt(dst, pgno, in, h.seen.TXID)
	}
	st := h.seen
	if !h.pinned { // the header, which SQLite reads before any lock
		st = h.store.pinNewest(h.writer)
		defer h.store.unpin(st.TXID)
	}
	if pgno > st.Pages {
		clear(dst)
		return true, nil
	}
	if pgno == 1 && in == stampOffset && len(dst) == stampSize && h.pinned {
		return false, h.readStamp(dst)
	}
	return false, h.store.readAt(dst, pgno, in, st.TXID)
}

// Where in page 1 the bytes are that SQLite reads when a transaction begins, to know whether what it has cached
// still holds (dbFileVers in pager.c).
const (
	stampOffset = 24
	stampSize   = 16
)

// readStamp reads them as of the snapshot. A page that lies in a file is read as a whole, and its sum checked: that
// would cost every transaction more than its own work, so they are kept for as long as the snapshot's state is the same.
func (h *Handle) readStamp(dst []byte) error {
	if h.stamped != h.seen {
		if err := h.store.readAt(h.stamp[:], 1, stampOffset, h.seen.TXID); err != nil {
			return err
		}
		h.stamped = h.seen
	}
	copy(dst, h.stamp[:])
	return nil
}

// put is xWrite of one whole page.
func (h *Handle) put(src []byte, off int64) error {
	size := h.pageSize()
	if !h.rw {
		return fmt.Errorf("tenant %s: a page is written without the writer's lock", h.store.id)
	}
	if len(src) != size || off%int64(size) != 0 {
		return fmt.Errorf("tenant %s: %d bytes are written at %d; pages of %d bytes are fixed when a tenant is created", h.store.id, len(src), off, size)
	}
	pgno := uint32(off/int64(size)) + 1
	p, ok := h.write[pgno]
	if !ok {
		if n := int64(len(h.write)+1) * int64(size); h.limits.TxBytes > 0 && n > h.limits.TxBytes {
			return &TooLargeError{Bytes: n, Limit: h.limits.TxBytes}
		}
		if h.write == nil {
			h.write = map[uint32][]byte{}
		}
		p = h.store.budget.newPage(size)
		h.write[pgno] = p
		h.order = append(h.order, pgno)
	}
	copy(p, src)
	h.wsize = max(h.wsize, pgno)
	return nil
}

// truncate is xTruncate, which also grows.
func (h *Handle) truncate(bytes int64) error {
	if !h.rw {
		return fmt.Errorf("tenant %s: the size is set without the writer's lock", h.store.id)
	}
	n := uint32((bytes + int64(h.pageSize()) - 1) / int64(h.pageSize()))
	if n < h.wsize {
		for pgno, p := range h.write {
			if pgno > n {
				h.store.budget.recycle(p)
				delete(h.write, pgno)
			}
		}
		h.low = min(h.low, n)
	}
	h.wsize = n
	return nil
}

// prepare is FCNTL_SYNC of a write transaction: everything that can refuse it
// refuses here, where SQLite still rolls back cleanly.
func (h *Handle) prepare() error {
	h.prepared, h.synced = nil, true
	if !h.rw || len(h.write) == 0 {
		return nil
	}
	prev := h.seen
	if err := h.current(); err != nil {
		return err
	}
	commit := h.wsize
	if p1, ok := h.write[1]; ok {
		// The size in the header is what SQLite cuts the file to, after this call.
		if n := binary.BigEndian.Uint32(p1[28:]); n != 0 {
			commit = n
		}
	}
	if h.limits.MaxPages > 0 && commit > h.limits.MaxPages && commit > prev.Pages {
		return &FullError{Bytes: int64(commit) * int64(h.pageSize()), Limit: int64(h.limits.MaxPages) * int64(h.pageSize())}
	}
	if err := h.fillGaps(commit); err != nil {
		return err
	}
	p, err := h.encode(prev, commit)
	if gone := h.gone(); gone != nil {
		return gone
	}
	if err != nil || p == nil {
		return err
	}
	if err := h.gate.Admit(p.commit.Bytes); err != nil {
		return err
	}
	h.prepared = p
	return nil
}

// current refuses a commit that can't follow the head any more.
func (h *Handle) current() error {
	if err := h.gone(); err != nil {
		return err
	}
	if head := h.store.Head(); head != h.seen {
		return fmt.Errorf("tenant %s: the log has brought %s over %s, on which the transaction ran: %w", h.store.id, head, h.seen, ErrNotPrimary)
	}
	return nil
}

// fillGaps adds pages of zeros where the database ends larger than it was and
// SQLite wrote nothing (pages that were made and freed in one transaction), so
// that every copy has the same bytes there.
func (h *Handle) fillGaps(commit uint32) error {
	lock := h.store.lock
	for pgno := h.low + 1; pgno <= commit; pgno++ {
		if _, ok := h.write[pgno]; ok || pgno == lock {
			continue
		}
		if n := int64(len(h.write)+1) * int64(h.pageSize()); h.limits.TxBytes > 0 && n > h.limits.TxBytes {
			return &TooLargeError{Bytes: n, Limit: h.limits.TxBytes}
		}
		p := h.store.budget.newPage(h.pageSize())
		clear(p)
		h.write[pgno] = p
		h.order = append(h.order, pgno)
	}
	return nil
}

// encode makes the log entries of the write set. It returns nil when no page differs.
func (h *Handle) encode(prev State, commit uint32) (*prepared, error) {
	slices.Sort(h.order)
	h.order = slices.Compact(h.order)
	lock := h.store.lock
	hd := h.gate.Header()
	hd.PrevTXID, hd.PrevSum = prev.TXID, prev.Checksum
	hd.Commit = commit
	hd.PageSize = uint32(h.pageSize())
	if err := h.enc.Begin(hd); err != nil {
		return nil, err
	}
	sum := prev.Checksum | wire.ChecksumFlag
	p := &h.room
	p.reset()
	p.pages = slices.Grow(p.pages, len(h.write))
	h.store.borrowed.Add(1)
	defer h.store.borrowed.Add(-1)
	var scratch []byte
	defer func() { h.store.budget.recycle(scratch) }()
	for _, pgno := range h.order {
		next := h.write[pgno]
		if next == nil || pgno > commit || pgno == lock {
			continue
		}
		var newSum wire.Checksum
		if pgno <= prev.Pages {
			old, oldSum := h.store.borrowPage(pgno, prev.TXID)
			if old == nil {
				if scratch == nil {
					scratch = h.store.budget.newPage(h.pageSize())
				}
				old = scratch
				var err error
				if oldSum, err = h.store.readPage(old, pgno, prev.TXID); err != nil {
					return nil, err
				}
			}
			var (
				different bool
				err       error
			)
			if newSum, different, err = h.enc.ChangeIfDifferent(pgno, old, next, oldSum); err != nil {
				return nil, err
			}
			if !different {
				continue
			}
			sum ^= oldSum &^ wire.ChecksumFlag
		} else {
			newSum = txn.PageSum(pgno, next)
			if err := h.enc.Page(pgno, nil, next, newSum); err != nil {
				return nil, err
			}
		}
		sum ^= newSum &^ wire.ChecksumFlag
		p.pages = append(p.pages, newVersion{pgno: pgno, sum: newSum, data: next})
	}
	for pgno := commit + 1; pgno <= prev.Pages; pgno++ {
		if pgno == lock {
			continue
		}
		oldSum, err := h.store.sumAt(pgno, prev.TXID)
		if err != nil {
			return nil, err
		}
		sum ^= oldSum &^ wire.ChecksumFlag
	}
	if len(p.pages) == 0 && commit == prev.Pages {
		return nil, nil
	}
	p.next = State{TXID: prev.TXID + 1, Checksum: sum, Pages: commit}
	h.enc.SetNext(p.next.TXID, p.next.Checksum)
	hd.NextTXID, hd.NextSum = p.next.TXID, p.next.Checksum
	c := &Commit{Prev: prev, Next: p.next}
	var err error
	if c.Entries, err = finishEntries(&h.enc, &hd, uint64(p.next.TXID), c.one[:0]); err != nil {
		return nil, err
	}
	for _, e := range c.Entries {
		c.Bytes += len(e)
	}
	p.commit = c
	return p, nil
}

// finishEntries ends the transaction of enc as one entry, or as parts and the entry that
// closes them when it is large. They are appended to entries.
func finishEntries(enc *txn.Encoder, hd *txn.Header, operation uint64, entries [][]byte) ([][]byte, error) {
	if enc.Size() <= txn.MaxEntry {
		e, err := enc.Finish()
		if err != nil {
			return nil, err
		}
		return append(entries, slices.Clone(e)), nil
	}
	for n, payload := range txn.SplitParts(enc.Body()) {
		ph := txn.PartHeader(hd, operation, n)
		e, err := txn.AppendEntry(nil, &ph, payload)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	e, err := enc.FinishParts(operation, uint32(len(entries)))
	if err != nil {
		return nil, err
	}
	return append(entries, slices.Clone(e)), nil
}

// publish is COMMIT_PHASETWO: the commit point. Its only failure is a store
// that was replaced or closed meanwhile, after which the connection is of no use.
func (h *Handle) publish() error {
	if !h.synced && len(h.write) > 0 {
		// SQLite always asks FCNTL_SYNC first; should it not, nothing may be lost in silence.
		if err := h.prepare(); err != nil {
			return err
		}
	}
	p := h.prepared
	if p == nil {
		return nil
	}
	h.prepared = nil
	s := h.store
	s.mu.Lock()
	if err := s.speculateLocked(h.gen, h.seen, p.next, p.pages); err != nil {
		s.mu.Unlock()
		h.gate.Withdraw()
		return err
	}
	s.mu.pins.add(p.next.TXID)
	s.unpinLocked(h.seen.TXID)
	s.mu.Unlock()
	for _, pg := range p.pages {
		delete(h.write, pg.pgno) // the store has these buffers now
	}
	h.seen = p.next
	h.pinTX.Store(uint64(p.next.TXID))
	c := p.commit
	h.discard()
	h.commit = c
	h.gate.Propose(c)
	return nil
}

// close is xClose.
func (h *Handle) close() {
	h.give(sqlite3.SQLITE_LOCK_NONE)
	s := h.store
	s.mu.Lock()
	delete(s.mu.handles, h)
	free := s.mu.closed != nil && len(s.mu.handles) == 0
	s.mu.Unlock()
	if free {
		s.free()
	}
}
