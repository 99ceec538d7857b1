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
		t.mu.Unlock()

		err := t.buildOne(q)
		for disk.IsFull(err) && ctx.Err() == nil {
			// The log holds the transaction: it waits until there is room.
			t.g.cfg.Log.Error("disk full: a committed transaction waits to be built", "tenant", t.id, "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			err = t.buildOne(q)
		}
		if err != nil {
			t.fail(fmt.Errorf("build transaction %d: %w", uint64(q.h.NextTXID), err))
			continue
		}
		q.parts.drop()
		t.mu.Lock()
		t.mu.queue[0] = queued{}
		t.mu.queue = t.mu.queue[1:]
		t.mu.queuedB -= int64(q.size)
		t.mu.built = State{TXID: q.h.NextTXID, Checksum: q.h.NextSum, Pages: q.h.Commit}
		t.mu.Unlock()
		t.g.Stats.Built.Add(1)
	}
}

// buildOne makes the pages of one transaction from what the store has, checks
// them, and makes them visible.
func (t *Tenant) buildOne(q queued) error {
	s, err := t.Acquire()
	if err != nil {
		return err
	}
	defer t.Release()
	prev := s.Committed()
	if prev.TXID != q.h.PrevTXID || prev.Checksum != q.h.PrevSum {
		return &CorruptError{Tenant: t.id, File: "store", What: fmt.Sprintf("it stands at %s, the log at txid %d, checksum %s", prev, uint64(q.h.PrevTXID), q.h.PrevSum)}
	}
	b := builder{t: t, s: s, h: &q.h, prev: prev, sum: prev.Checksum | wire.ChecksumFlag, lock: lockPgno(s.pageSize)}
	defer b.abort()
	if int64(q.h.Pages)*int64(s.pageSize) > t.g.cfg.BigTransaction {
		if b.seg, err = t.g.files.createPrivate(t, prev); err != nil {
			return err
		}
	}
	if err := b.run(q.pages()); err != nil {
		return err
	}
	return b.install()
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
}

func (b *builder) run(src iter.Seq2[txn.Page, error]) error {
	old := b.s.budget.newPage(b.s.pageSize)
	defer b.s.budget.recycle(old)
	var scratch []byte
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
		}
		next := scratch
		if next == nil {
			next = b.s.budget.newPage(b.s.pageSize)
		}
		if err := p.Build(next, before); err != nil {
			return &CorruptError{Tenant: b.t.id, File: "store", Page: p.Pgno, What: fmt.Sprintf("the page after transaction %d: %v", uint64(b.h.NextTXID), err)}
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
		return &CorruptError{Tenant: b.t.id, File: "store", What: fmt.Sprintf("its checksum after transaction %d would be %s, the log says %s", uint64(b.h.NextTXID), b.sum, b.h.NextSum)}
	}
	return nil
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
	if err := b.s.install(next, b.pages); err != nil {
		return err
	}
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
