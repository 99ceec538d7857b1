package pagestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// build works off the tenant's queue: one builder at a time for each tenant.
func (t *Tenant) build(ctx context.Context) {
	for {
		t.mu.Lock()
		if len(t.mu.queue) == 0 || t.mu.failed != nil {
			t.mu.busy = false
			t.mu.Unlock()
			return
		}
		q := t.mu.queue[0]
		t.mu.working = true
		t.mu.Unlock()

		more, err := t.buildOne(q)
		for try := 1; t.again(err, try, &q) && ctx.Err() == nil; try++ {
			t.g.cfg.Log.Error("a committed transaction waits to be built", "tenant", t.id, "error", err)
			if try > 1 {
				select {
				case <-ctx.Done():
				case <-time.After(t.g.cfg.retry):
				}
			}
			more, err = t.buildOne(q)
		}
		if err == nil {
			q.parts.drop()
			t.g.Stats.Built.Add(1)
			if more {
				continue
			}
			return
		}
		if ctx.Err() == nil {
			t.fail(fmt.Errorf("build transaction %d: %w", uint64(q.h.NextTXID), err))
		}
		t.mu.Lock()
		t.restLocked()
		t.mu.busy = false // failed, closed, purged; or the end of Run: the log has what is left
		t.mu.Unlock()
		q.parts.drop()
		return
	}
}

// builtLocked takes the first of the queue out, whose pages are visible now, and says whether the
// builder goes on. If not, it is another's turn as soon as the lock is given up.
func (t *Tenant) builtLocked(st State) (more bool) {
	t.mu.built = st
	t.restLocked()
	if len(t.mu.queue) > 0 { // not when it failed, was closed or purged at this moment
		t.g.builds.add(-int64(t.mu.queue[0].size))
		t.mu.queue[0] = queued{}
		t.mu.queue = t.mu.queue[1:]
	}
	t.mu.busy = len(t.mu.queue) > 0
	return t.mu.busy
}

// buildTries is how often a transaction is tried to be built on a disk that fails.
const buildTries = 5

// again says whether to try once more after err: the log holds the transaction, so it can wait until a full disk
// has room, and for a while for a disk that fails. What is damaged stays so.
func (t *Tenant) again(err error, try int, q *queued) bool {
	if err == nil || q.parts.broken() || t.gone() || t.Failed() != nil {
		return false
	}
	var (
		corrupt *CorruptError
		format  *txn.FormatError
	)
	if errors.As(err, &corrupt) || errors.As(err, &format) || errors.Is(err, ErrClosed) {
		return false
	}
	return disk.IsFull(err) || try < buildTries
}

// buildOne makes the pages of one transaction from what the store has, checks
// them, and makes them visible. It says whether there is more to build.
func (t *Tenant) buildOne(q queued) (more bool, _ error) {
	s, err := t.Acquire()
	if err != nil {
		return false, err
	}
	defer t.Release()
	prev := s.Committed()
	if prev.TXID != q.h.PrevTXID || prev.Checksum != q.h.PrevSum {
		return false, &CorruptError{Tenant: t.id, File: storeFile, What: fmt.Sprintf("it stands at %s, the log at txid %d, checksum %s", prev, uint64(q.h.PrevTXID), q.h.PrevSum)}
	}
	b := builder{t: t, s: s, h: &q.h, prev: prev, sum: prev.Checksum | wire.ChecksumFlag, lock: s.lock}
	defer b.abort()
	if int64(q.h.Pages)*int64(s.pageSize) > t.g.cfg.BigTransaction {
		if b.seg, err = t.g.files.createPrivate(t, prev); err != nil {
			return false, err
		}
	}
	if err := b.run(q.pages()); err != nil {
		return false, err
	}
	err = b.install()
	return b.more, err
}

// pages are those of the body, inline or staged.
func (q *queued) pages() iter.Seq2[txn.Page, error] {
	if q.parts == nil {
		return txn.Pages(&q.h, q.body)
	}
	return func(yield func(txn.Page, error) bool) {
		r, err := q.parts.reader()
		if err != nil {
			yield(txn.Page{}, err)
			return
		}
		pages, err := txn.NewPageReader(r, q.h)
		for err == nil {
			var p txn.Page
			if p, err = pages.Next(); errors.Is(err, io.EOF) {
				return
			}
			if !yield(p, err) {
				return
			}
		}
		yield(txn.Page{}, err)
	}
}

// builder builds one transaction.
type builder struct {
	t     *Tenant
	s     *Store
	h     *txn.Header
	prev  State
	sum   wire.Checksum
	lock  uint32
	pages []newVersion
	seg   *privateSegment // where large ones go
	done  bool
	more  bool // there is more to build
}

func (b *builder) run(src iter.Seq2[txn.Page, error]) error {
	old := b.s.budget.newPage(b.s.pageSize)
	defer b.s.budget.recycle(old)
	var scratch []byte
	grown := uint32(0) // pages that are new
	for p, err := range src {
		if err != nil {
			return err
		}
		var before []byte
		if p.Pgno <= b.prev.Pages {
			if p.Encoding == txn.EncodingDelta {
				if err := b.s.readAt(old, p.Pgno, 0, b.prev.TXID); err != nil {
					return err
				}
				before = old
			}
			oldSum, err := b.s.sumAt(p.Pgno, b.prev.TXID)
			if err != nil {
				return err
			}
			b.sum ^= oldSum &^ wire.ChecksumFlag
		} else {
			grown++
		}
		next := scratch
		if next == nil {
			next = b.s.budget.newPage(b.s.pageSize)
		}
		if err := p.Build(next, before); err != nil {
			return &CorruptError{Tenant: b.t.id, File: storeFile, Page: p.Pgno, What: fmt.Sprintf("the page after transaction %d: %v", uint64(b.h.NextTXID), err)}
		}
		b.sum ^= p.Sum &^ wire.ChecksumFlag
		v := newVersion{pgno: p.Pgno, sum: p.Sum, data: next}
		if b.seg != nil {
			if v.off, err = b.seg.w.page(p.Pgno, p.Sum, next); err != nil {
				return err
			}
			scratch, v.data = next, nil
		}
		b.pages = append(b.pages, v)
	}
	if want := b.grows(); grown != want {
		return &CorruptError{Tenant: b.t.id, File: storeFile, What: fmt.Sprintf("%d pages of transaction %d are new; it says %d", grown, uint64(b.h.NextTXID), want)}
	}
	for pgno := b.h.Commit + 1; pgno <= b.prev.Pages; pgno++ {
		if pgno == b.lock {
			continue
		}
		oldSum, err := b.s.sumAt(pgno, b.prev.TXID)
		if err != nil {
			return err
		}
		b.sum ^= oldSum &^ wire.ChecksumFlag
	}
	if b.sum != b.h.NextSum {
		return &CorruptError{Tenant: b.t.id, File: storeFile, What: fmt.Sprintf("its checksum after transaction %d would be %s, the log says %s", uint64(b.h.NextTXID), b.sum, b.h.NextSum)}
	}
	return nil
}

// grows is how many pages come that were not there before: all between the old and the new end, so that none has
// content that no sum tells of.
func (b *builder) grows() uint32 {
	if b.h.Commit <= b.prev.Pages {
		return 0
	}
	n := b.h.Commit - b.prev.Pages
	if b.prev.Pages < b.lock && b.lock <= b.h.Commit {
		n--
	}
	return n
}

func (b *builder) install() error {
	next := State{TXID: b.h.NextTXID, Checksum: b.h.NextSum, Pages: b.h.Commit}
	if b.seg != nil {
		file, err := b.t.g.files.finishPrivate(b.seg, next, int64(b.h.TimeUnixMilli))
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
	if err := b.s.install(next, b.pages); err != nil {
		return err
	}
	b.more = b.t.builtLocked(next)
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
