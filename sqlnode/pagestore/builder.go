package pagestore

import (
	"fmt"
	"iter"

	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// builder builds the transactions of a batch.
type builder struct {
	t      *Tenant
	s      *Store
	batch  []queued
	prev   State // that the store has
	at     State // after the transactions that were run
	sum    wire.Checksum
	lock   uint32
	pages  []newVersion
	places map[uint32]int  // of each page in pages; nil for a batch of one
	seg    *privateSegment // where large ones go
	done   bool
	more   bool // there is more to build
}

// run makes the pages of one transaction.
func (b *builder) run(h *txn.Header, src iter.Seq2[txn.Page, error]) error {
	var scratch []byte
	grown := uint32(0) // pages that are new
	for p, err := range src {
		if err != nil {
			return err
		}
		b.sum ^= p.Sum &^ wire.ChecksumFlag
		if i, ok := b.places[p.Pgno]; ok {
			v := &b.pages[i]
			b.sum ^= v.sum &^ wire.ChecksumFlag
			if err := p.Apply(v.data, v.data); err != nil {
				return b.wrong(p.Pgno, h.NextTXID, err)
			}
			v.sum = p.Sum
			continue
		}
		next := scratch
		if next == nil {
			next = b.s.budget.newPage(b.s.pageSize)
		}
		v := newVersion{pgno: p.Pgno, sum: p.Sum, data: next}
		if err := b.make(&v, p, h, &grown); err != nil {
			b.s.budget.recycle(next)
			return err
		}
		if b.seg != nil {
			if v.off, err = b.seg.w.page(p.Pgno, p.Sum, next); err != nil {
				return err
			}
			scratch, v.data = next, nil
		}
		if b.places != nil {
			b.places[p.Pgno] = len(b.pages)
		}
		b.pages = append(b.pages, v)
	}
	b.s.budget.recycle(scratch)
	if want := b.grows(h); grown != want {
		return &CorruptError{Tenant: b.t.id, File: storeFile, What: fmt.Sprintf("%d pages of transaction %d are new; it says %d", grown, uint64(h.NextTXID), want)}
	}
	for pgno := h.Commit + 1; pgno <= b.at.Pages; pgno++ { // of a batch of one
		if pgno == b.lock {
			continue
		}
		oldSum, err := b.s.sumAt(pgno, b.prev.TXID)
		if err != nil {
			return err
		}
		b.sum ^= oldSum &^ wire.ChecksumFlag
	}
	if b.sum != h.NextSum {
		return &CorruptError{Tenant: b.t.id, File: storeFile, What: fmt.Sprintf("its checksum after transaction %d would be %s, the log says %s", uint64(h.NextTXID), b.sum, h.NextSum)}
	}
	b.at = State{TXID: h.NextTXID, Checksum: h.NextSum, Pages: h.Commit}
	return nil
}

// make makes a page that the batch has not made yet.
func (b *builder) make(v *newVersion, p txn.Page, h *txn.Header, grown *uint32) error {
	var before []byte
	if p.Pgno <= b.at.Pages { // then the store has it, or another transaction of the batch made it
		if p.Encoding.OnPrevious() {
			if err := b.s.readAt(v.data, p.Pgno, 0, b.prev.TXID); err != nil {
				return err
			}
			before = v.data
		}
		oldSum, err := b.s.sumAt(p.Pgno, b.prev.TXID)
		if err != nil {
			return err
		}
		b.sum ^= oldSum &^ wire.ChecksumFlag
	} else {
		*grown++
	}
	err := p.Apply(v.data, before)
	if err == nil && b.places == nil {
		err = p.Check(v.data)
	}
	if err != nil {
		return b.wrong(p.Pgno, h.NextTXID, err)
	}
	return nil
}

// check compares the pages of a batch with the sums of the last transactions that changed them.
func (b *builder) check() error {
	if b.places == nil {
		return nil // they were when they were made
	}
	for _, v := range b.pages {
		if err := (txn.Page{Pgno: v.pgno, Sum: v.sum}).Check(v.data); err != nil {
			return b.wrong(v.pgno, b.at.TXID, err)
		}
	}
	return nil
}

func (b *builder) wrong(pgno uint32, tx wire.TXID, err error) error {
	return &CorruptError{Tenant: b.t.id, File: storeFile, Page: pgno, What: fmt.Sprintf("the page after transaction %d: %v", uint64(tx), err)}
}

// grows is how many pages come that were not there before: all between the old and the new end, so that none has
// content that no sum tells of.
func (b *builder) grows(h *txn.Header) uint32 {
	if h.Commit <= b.at.Pages {
		return 0
	}
	n := h.Commit - b.at.Pages
	if b.at.Pages < b.lock && b.lock <= h.Commit {
		n--
	}
	return n
}

func (b *builder) install() error {
	last := &b.batch[len(b.batch)-1].h
	if b.seg != nil {
		file, err := b.t.g.files.finishPrivate(b.seg, b.at, int64(last.TimeUnixMilli))
		if err != nil {
			return err
		}
		b.seg = nil
		for i := range b.pages {
			file.acquire()
			b.pages[i].file = file
		}
	}
	// At once for who waits: when the last is visible, nothing is being built.
	b.t.mu.Lock()
	defer b.t.mu.Unlock()
	if err := b.s.install(b.at, b.pages); err != nil {
		return err
	}
	b.more = b.t.builtLocked(b.at, len(b.batch))
	b.done = true
	return nil
}

func (b *builder) abort() {
	if b.seg != nil {
		b.seg.w.abort()
	}
	if b.done {
		return
	}
	for _, p := range b.pages {
		if p.data != nil {
			b.s.budget.recycle(p.data)
		} else if p.file != nil {
			p.file.release()
		}
	}
}
