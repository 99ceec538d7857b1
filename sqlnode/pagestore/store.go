package pagestore

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// version is the content of one page as of one transaction.
type version struct {
	tx   wire.TXID
	sum  wire.Checksum
	data []byte    // the page, or nil when it lies in file
	file *pageFile // where it lies when data is nil
	off  int64
	old  bool // the base holds a newer version
}

// Store is one copy of one database: a base file and the page versions
// committed since. It serves SQLite connections through the VFS.
//
// What a reader pinned at version s sees of page p is, when p is within the
// size at s: the newest version of p at or below s, else the base.
//
// Lock order: base.mu, then mu.
type Store struct {
	id        wire.TenantID
	pageSize  int
	lock      uint32 // number of the page with SQLite's lock bytes
	budget    *Budget
	base      *base
	onCorrupt func(error) // told of every page found corrupt; may be nil

	writer sync.Mutex // held by the connection that has RESERVED

	// borrowed counts those who look at pages of versions without mu. It rises before mu is taken to find a
	// version; while it is not 0, buffers of versions that are dropped are left to the garbage collector.
	borrowed atomic.Int32
	shut     atomic.Bool // mu.closed is set

	mu struct {
		sync.RWMutex
		chains    map[uint32][]version // ascending by tx; no empty chains
		committed State                // invariant: never moves back
		spec      []State              // speculative states above committed, ascending; the last is the head
		pins      pinSet
		memory    int64     // bytes of versions in memory
		baseTX    wire.TXID // the base holds the newest versions at or below it
		basePages uint32    // size of the base at baseTX
		absorbing wire.TXID // what baseTX is about to become; copies of the old base serve readers below it
		closed    error     // why no more connections are served; nil while open
		handles   map[*Handle]struct{}
	}
	// visible wakes those who wait for a version; replaced at each commit that has waiters.
	visible struct {
		sync.Mutex
		ch chan struct{}
	}
	committedTX atomic.Uint64 // committed.TXID, for waits without mu
	// gen rises, with mu locked, when speculation is dropped: handles of older ones are refused.
	gen atomic.Uint64
}

func newStore(id wire.TenantID, pageSize int, lock uint32, st State, b *base, budget *Budget) *Store {
	s := &Store{id: id, pageSize: pageSize, lock: lock, budget: budget, base: b}
	s.mu.chains = map[uint32][]version{}
	s.mu.committed = st
	s.mu.handles = map[*Handle]struct{}{}
	s.committedTX.Store(uint64(st.TXID))
	return s
}

// PageSize is the size of a page in bytes; it never changes.
func (s *Store) PageSize() int { return s.pageSize }

// Committed is the newest state that readers may see.
func (s *Store) Committed() State {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.committed
}

// Head is the newest state of all, speculative ones included: what the writer goes on from.
func (s *Store) Head() State {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.headLocked()
}

func (s *Store) headLocked() State {
	if n := len(s.mu.spec); n > 0 {
		return s.mu.spec[n-1]
	}
	return s.mu.committed
}

// Memory is the number of bytes that versions of this store take in memory.
func (s *Store) Memory() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.memory
}

// findLocked returns the newest version of pgno at or below tx, if the chains hold one.
func (s *Store) findLocked(pgno uint32, tx wire.TXID) (version, bool) {
	c := s.mu.chains[pgno]
	for i := len(c) - 1; i >= 0; i-- {
		if c[i].tx <= tx {
			return c[i], true
		}
	}
	return version{}, false
}

// readAt copies bytes of page pgno from offset in, as of tx, to dst. The page must be
// within the size of the database at tx, and tx pinned: else its versions may go meanwhile.
func (s *Store) readAt(dst []byte, pgno uint32, in int, tx wire.TXID) error {
	s.mu.RLock()
	v, ok := s.findLocked(pgno, tx)
	if ok && v.data != nil {
		copy(dst, v.data[in:]) // under the lock: a pruned buffer is used again
		s.mu.RUnlock()
		return nil
	}
	if ok {
		v.file.acquire()
		s.mu.RUnlock()
		defer v.file.release()
		return s.readFile(dst, v, pgno, in)
	}
	s.mu.RUnlock()
	if pgno == s.lock {
		clear(dst)
		return nil
	}
	return s.readBase(dst, pgno, in, tx)
}

// readPage is readAt of a whole page, and sumAt.
func (s *Store) readPage(dst []byte, pgno uint32, tx wire.TXID) (wire.Checksum, error) {
	s.mu.RLock()
	if v, ok := s.findLocked(pgno, tx); ok && v.data != nil {
		copy(dst, v.data)
		s.mu.RUnlock()
		return v.sum, nil
	}
	s.mu.RUnlock()
	if err := s.readAt(dst, pgno, 0, tx); err != nil {
		return 0, err
	}
	return s.sumAt(pgno, tx)
}

// borrowPage returns page pgno as of tx, and its sum, without a copy, if it lies in memory. It must be called
// between rises and falls of borrowed, and the page is not to be written, nor looked at after the fall.
func (s *Store) borrowPage(pgno uint32, tx wire.TXID) ([]byte, wire.Checksum) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, ok := s.findLocked(pgno, tx)
	if !ok {
		return nil, 0
	}
	return v.data, v.sum
}

// readBase reads from the base, unless a version was put in the chain
// meanwhile: absorb copies a page out before it overwrites it.
func (s *Store) readBase(dst []byte, pgno uint32, in int, tx wire.TXID) error {
	s.base.mu.RLock()
	defer s.base.mu.RUnlock()
	s.mu.RLock()
	v, ok := s.findLocked(pgno, tx)
	if ok {
		if v.data != nil {
			copy(dst, v.data[in:])
			s.mu.RUnlock()
			return nil
		}
		v.file.acquire()
		s.mu.RUnlock()
		defer v.file.release()
		return s.readFile(dst, v, pgno, in)
	}
	s.mu.RUnlock()
	if len(dst) == s.pageSize {
		return s.base.readPageLocked(dst, pgno)
	}
	buf := s.budget.newPage(s.pageSize)
	defer s.budget.recycle(buf)
	if err := s.base.readPageLocked(buf, pgno); err != nil {
		return err
	}
	copy(dst, buf[in:])
	return nil
}

// readFile reads a version that lies in a segment, and checks its sum.
func (s *Store) readFile(dst []byte, v version, pgno uint32, in int) error {
	buf := dst
	if len(dst) != s.pageSize {
		buf = s.budget.newPage(s.pageSize)
		defer s.budget.recycle(buf)
	}
	if _, err := v.file.f.ReadAt(buf, v.off); err != nil {
		return fmt.Errorf("tenant %s: read page %d of %s: %w", s.id, pgno, v.file.name, err)
	}
	if got := txn.PageSum(pgno, buf); got != v.sum {
		return &CorruptError{Tenant: s.id, File: v.file.name, Page: pgno, What: fmt.Sprintf("its sum is %s, written was %s", got, v.sum)}
	}
	if len(dst) != s.pageSize {
		copy(dst, buf[in:])
	}
	return nil
}

// sumAt returns the sum of page pgno as of tx; the page must exist then.
func (s *Store) sumAt(pgno uint32, tx wire.TXID) (wire.Checksum, error) {
	s.mu.RLock()
	v, ok := s.findLocked(pgno, tx)
	s.mu.RUnlock()
	if ok {
		return v.sum, nil
	}
	return s.base.sum(pgno)
}

// pin keeps tx from being pruned until unpin.
func (s *Store) pin(tx wire.TXID) {
	s.mu.Lock()
	s.mu.pins.add(tx)
	s.mu.Unlock()
}

func (s *Store) unpin(tx wire.TXID) {
	s.mu.Lock()
	s.unpinLocked(tx)
	s.mu.Unlock()
}

func (s *Store) unpinLocked(tx wire.TXID) {
	for pgno := range s.mu.pins.remove(tx) {
		s.pruneLocked(pgno)
	}
}

// pinNewest pins the newest committed state, or the head.
func (s *Store) pinNewest(head bool) State {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.mu.committed
	if head {
		st = s.headLocked()
	}
	s.mu.pins.add(st.TXID)
	return st
}

// pruneLocked drops the versions of pgno that no reader can ask for any more.
// A version is needed when it is the newest that is committed, when it is
// speculative, or when a pinned reader stands between it and the next one; the
// oldest is not needed when the base holds the same. What only a pin keeps is noted
// with the pin, and looked at again when the pin goes.
func (s *Store) pruneLocked(pgno uint32) {
	c := s.mu.chains[pgno]
	committed := s.mu.committed.TXID
	kept := c[:0]
	for i, v := range c {
		next := max(s.mu.baseTX, s.mu.absorbing) // what supersedes a copy of the old base: the new one
		if i+1 < len(c) {
			next = c[i+1].tx
		} else if !v.old {
			kept = append(kept, v)
			continue
		}
		if v.tx <= committed && next <= committed {
			if !s.mu.pins.keep(pgno, v.tx, next) {
				s.dropLocked(v)
				continue
			}
		}
		kept = append(kept, v)
	}
	if len(kept) > 0 && !kept[0].old && kept[0].tx <= s.mu.baseTX && (len(kept) == 1 || kept[1].tx > s.mu.baseTX) &&
		// The base has no page that was cut off: readers from before the cut have only this.
		(pgno <= s.mu.basePages || !s.mu.pins.keep(pgno, kept[0].tx, s.mu.baseTX)) {
		s.dropLocked(kept[0])
		copy(kept, kept[1:])
		kept = kept[:len(kept)-1]
	}
	for i := len(kept); i < len(c); i++ {
		c[i] = version{}
	}
	if len(kept) == 0 {
		delete(s.mu.chains, pgno)
	} else {
		s.mu.chains[pgno] = kept
	}
}

// versionOverhead is what a version in memory costs beside its page, about.
const versionOverhead = 96

func (s *Store) dropLocked(v version) {
	if v.data != nil {
		s.accountLocked(-1)
		if s.borrowed.Load() == 0 {
			s.budget.recycle(v.data)
		}
	} else {
		v.file.release()
	}
}

func (s *Store) accountLocked(pages int) {
	n := int64(pages) * int64(s.pageSize+versionOverhead)
	s.mu.memory += n
	s.budget.used.Add(n)
}

// newVersion is a page of a transaction that is about to be published.
type newVersion struct {
	pgno uint32
	sum  wire.Checksum
	data []byte
	file *pageFile // with a reference taken for the version, when data is nil
	off  int64
}

// publishLocked adds the pages of the transaction that leads to st.
func (s *Store) publishLocked(st State, pages []newVersion) {
	for _, p := range pages {
		s.mu.chains[p.pgno] = append(s.mu.chains[p.pgno], version{tx: st.TXID, sum: p.sum, data: p.data, file: p.file, off: p.off})
		if p.data != nil {
			s.accountLocked(1)
		}
	}
}

// speculateLocked publishes a transaction of this node's own writer, which ran on prev, above the
// head. Readers don't see it before promote. It is refused when the head is
// another one now: an entry of another primary has come since.
func (s *Store) speculateLocked(gen uint64, prev, st State, pages []newVersion) error {
	if s.mu.closed != nil {
		return s.mu.closed
	}
	if gen != s.gen.Load() || s.headLocked() != prev {
		return ErrReplaced
	}
	s.publishLocked(st, pages)
	s.mu.spec = append(s.mu.spec, st)
	// What the head shadowed may be free already: prune the pages in hand while they are warm.
	for _, p := range pages {
		if len(s.mu.chains[p.pgno]) > 2 {
			s.pruneLocked(p.pgno)
		}
	}
	return nil
}

// promote makes the oldest speculative state committed if it is st, and says whether it was.
func (s *Store) promote(st State) bool {
	s.mu.Lock()
	if len(s.mu.spec) == 0 || s.mu.spec[0] != st {
		s.mu.Unlock()
		return false
	}
	n := copy(s.mu.spec, s.mu.spec[1:])
	s.mu.spec = s.mu.spec[:n]
	s.commitLocked(st)
	s.mu.Unlock()
	s.wake()
	return true
}

// commitLocked moves the committed state.
func (s *Store) commitLocked(st State) {
	s.mu.committed = st
	s.committedTX.Store(uint64(st.TXID))
}

// install publishes a transaction that was built from its entry: it follows
// the committed state and is committed. What was speculated beside it is dropped.
func (s *Store) install(st State, pages []newVersion) error {
	s.mu.Lock()
	if s.mu.closed != nil {
		s.mu.Unlock()
		return s.mu.closed
	}
	s.dropSpeculationLocked()
	s.publishLocked(st, pages)
	s.commitLocked(st)
	for _, p := range pages {
		s.pruneLocked(p.pgno)
	}
	s.mu.Unlock()
	s.wake()
	return nil
}

// dropSpeculation forgets all states above the committed one. The writer's
// connection saw them, and SQLite's change counter and schema cookie may
// repeat: so every open connection is refused from now on (ErrReplaced).
func (s *Store) dropSpeculation() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropSpeculationLocked()
}

func (s *Store) dropSpeculationLocked() {
	if len(s.mu.spec) == 0 {
		return
	}
	committed := s.mu.committed.TXID
	for pgno, c := range s.mu.chains {
		n := len(c)
		for n > 0 && c[n-1].tx > committed {
			s.dropLocked(c[n-1])
			c[n-1] = version{}
			n--
		}
		if n == 0 {
			delete(s.mu.chains, pgno)
		} else if n < len(c) {
			s.mu.chains[pgno] = c[:n]
		}
	}
	s.mu.spec = nil
	s.gen.Add(1)
}

// wait returns when the store has committed tx, when done is closed, or with the store's error.
func (s *Store) wait(done <-chan struct{}, tx wire.TXID) error {
	for {
		s.visible.Lock()
		if wire.TXID(s.committedTX.Load()) >= tx {
			s.visible.Unlock()
			return nil
		}
		s.mu.RLock()
		closed := s.mu.closed
		s.mu.RUnlock()
		if closed != nil {
			s.visible.Unlock()
			return closed
		}
		if s.visible.ch == nil {
			s.visible.ch = make(chan struct{})
		}
		ch := s.visible.ch
		s.visible.Unlock()
		select {
		case <-ch:
		case <-done:
			return errWaitEnded
		}
	}
}

func (s *Store) wake() {
	s.visible.Lock()
	if s.visible.ch != nil {
		close(s.visible.ch)
		s.visible.ch = nil
	}
	s.visible.Unlock()
}

// close refuses all use from now on with reason, gives up the memory of the
// versions that are not needed by handles still open, and closes the base when the
// last handle is closed.
func (s *Store) close(reason error) {
	s.mu.Lock()
	if s.mu.closed != nil {
		s.mu.Unlock()
		return
	}
	s.mu.closed = reason
	s.shut.Store(true)
	last := len(s.mu.handles) == 0
	s.mu.Unlock()
	s.wake()
	if last {
		s.free()
	}
}

// Closed says that no more connections are served, ever: the tenant has another store, or none.
func (s *Store) Closed() bool { return s.shut.Load() }

// free gives back everything once closed and without handles. A checkpoint may still
// write pages of the store, so their buffers are left to the garbage collector.
func (s *Store) free() {
	s.mu.Lock()
	for _, c := range s.mu.chains {
		for _, v := range c {
			if v.data != nil {
				s.accountLocked(-1)
			} else {
				v.file.release()
			}
		}
	}
	s.mu.chains = map[uint32][]version{}
	s.mu.Unlock()
	s.base.close()
}

// idle says whether nothing but the base holds state: the store can be closed
// and opened again at no cost.
func (s *Store) idle() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.mu.handles) == 0 && len(s.mu.spec) == 0 && s.mu.memory == 0
}
