package pagestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// build works off the tenant's queue: one builder at a time for each tenant.
func (t *Tenant) build(ctx context.Context) {
	for alone := false; ; {
		t.mu.Lock()
		t.mu.later = nil
		if len(t.mu.queue) == 0 || t.mu.failed != nil {
			t.mu.busy = false
			t.mu.Unlock()
			return
		}
		n := 1
		if !alone {
			n = t.batchLocked()
		}
		batch := t.mu.queue[:n:n] // stays as it is until it is built
		q := batch[0]
		t.mu.working = true
		t.mu.Unlock()

		more, err := t.buildBatch(batch)
		for try := 1; t.again(err, try, &q) && ctx.Err() == nil; try++ {
			t.g.cfg.Log.Error("a committed transaction waits to be built", "tenant", t.id, "error", err)
			if try > 1 {
				select {
				case <-ctx.Done():
				case <-time.After(t.g.cfg.retry):
				}
			}
			more, err = t.buildBatch(batch)
		}
		if err == nil {
			q.parts.drop()
			t.g.Stats.Built.Add(int64(n))
			if more {
				continue
			}
			return
		}
		if n > 1 && ctx.Err() == nil {
			t.mu.Lock()
			t.restLocked() // it may be that nothing is left to build
			t.mu.Unlock()
			alone = true // one after the other: which of them is it?
			continue
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

const (
	// batchEntries and batchBytes, of entries, bound how many transactions are built together; and Config.BigTransaction
	// does, in bytes of pages.
	batchEntries = 256
	batchBytes   = 1 << 20
)

// batchLocked is how many of the queue are built together, so that a page which several of them change is copied, checked and
// published once. A state between them is not to be seen then: so a batch ends with one that a capture waits for.
func (t *Tenant) batchLocked() int {
	pages, size, made := t.mu.built.Pages, 0, int64(0)
	for i := range t.mu.queue {
		q := &t.mu.queue[i]
		size += q.size
		made += int64(q.h.Pages) * int64(q.h.PageSize)
		if i == batchEntries || q.parts != nil || q.h.Commit < pages || size > batchBytes || made > t.g.cfg.BigTransaction {
			return max(i, 1)
		}
		pages = q.h.Commit
		if slices.Contains(t.mu.holds, q.h.NextTXID) {
			return i + 1
		}
	}
	return len(t.mu.queue)
}

// builtLocked takes the first n of the queue out, whose pages are visible now, and says whether the
// builder goes on. If not, it is another's turn as soon as the lock is given up, or later.
func (t *Tenant) builtLocked(st State, n int) (more bool) {
	t.mu.built = st
	t.restLocked()
	if len(t.mu.queue) > 0 { // not when it failed, was closed or purged at this moment
		for i := range n {
			t.g.builds.add(-int64(t.mu.queue[i].size))
			t.mu.queue[i] = queued{}
		}
		t.mu.queue = t.mu.queue[n:]
	}
	t.mu.busy = len(t.mu.queue) > 0
	if !t.mu.busy {
		return false
	}
	size := 0
	for i := range t.mu.queue {
		if size += t.mu.queue[i].size; size >= batchBytes {
			break
		}
	}
	if t.mu.laterBytes = size; !t.mayDeferLocked() {
		return true
	}
	t.mu.later = t.g.builds.putLater(t, t.g.cfg.BuildDelay)
	return false
}

// buildTries is how often a transaction is tried to be built on a disk that fails.
const buildTries = 5

// again says whether to try once more after err: the log holds the transaction, so it can wait until a full disk
// has room, or there are file descriptors, and for a while for a disk that fails. What is damaged stays so.
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
	return disk.IsFull(err) || disk.NoDescriptors(err) || try < buildTries
}

// buildBatch makes the pages of transactions that follow each other from what the store has, checks
// them, and makes those of the last state visible. It says whether there is more to build.
func (t *Tenant) buildBatch(batch []queued) (more bool, _ error) {
	s, err := t.acquire(1)
	if err != nil {
		return false, err
	}
	defer t.releaseInner()
	prev := s.Committed()
	h := &batch[0].h
	if prev.TXID != h.PrevTXID || prev.Checksum != h.PrevSum {
		return false, &CorruptError{Tenant: t.id, File: storeFile, What: fmt.Sprintf("it stands at %s, the log at txid %d, checksum %s", prev, uint64(h.PrevTXID), h.PrevSum)}
	}
	b := builder{t: t, s: s, batch: batch, prev: prev, at: prev, sum: prev.Checksum | wire.ChecksumFlag, lock: s.lock}
	defer b.abort()
	if len(batch) > 1 {
		b.places = make(map[uint32]int)
	} else if int64(h.Pages)*int64(s.pageSize) > t.g.cfg.BigTransaction {
		if b.seg, err = t.g.files.createPrivate(t, prev); err != nil {
			return false, err
		}
	}
	for i := range batch {
		if err := b.run(&batch[i].h, batch[i].pages()); err != nil {
			return false, err
		}
	}
	if err := b.check(); err != nil {
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
