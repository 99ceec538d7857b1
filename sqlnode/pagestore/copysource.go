package pagestore

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/superfly/ltx"
)

// PinnedCopy is a copy of a tenant as it is at one index of the log, for ReadCopy on another node. It holds its pages
// until Close. It is used by one goroutine at a time.
type PinnedCopy struct {
	t     *Tenant
	store *Store
	snap  *Snapshot
	head  []byte // encoded
	h     copyHeader
	pages []uint32 // ascending, which come; nil means all
	tag   string

	enc   ltxEncoder
	marks []copyMark // ascending
}

// copyMark is where a copy can be gone on with, without its pages before being read again.
type copyMark struct {
	next int // ordinal of the next page
	at   ltxMark
}

// markEvery is how many bytes of a copy lie between two marks.
const markEvery = 4 << 20

// copyEncoding is part of a copy's tag. It rises when the same pages would be written as other bytes.
const copyEncoding = "1"

// PinCopy pins the tenant as it is. Writers and readers go on meanwhile. While parts of a large transaction are
// coming it returns ErrStagingOpen. When have is the state of an older copy of the epoch, and the files of this node
// tell all that changed since, only that comes; else all pages do.
func (t *Tenant) PinCopy(ctx context.Context, have Have) (*PinnedCopy, error) {
	s, err := t.Acquire()
	if err != nil {
		return nil, err
	}
	p := &PinnedCopy{t: t, store: s}
	if err := p.pin(ctx, have); err != nil {
		p.Close()
		return nil, fmt.Errorf("copy of tenant %s: %w", t.id, err)
	}
	return p, nil
}

func (p *PinnedCopy) pin(ctx context.Context, have Have) (err error) {
	if p.h, p.snap, err = p.t.pinCopy(ctx, p.store); err != nil {
		return err
	}
	if have.Epoch == p.h.rec.Epoch && have.State.TXID > 0 && have.State.TXID < p.h.state.TXID {
		pages, ok, err := p.t.changedSince(p.store, have, p.h.state)
		if err != nil {
			return err
		}
		if ok {
			p.h.prev, p.pages = have.State, pages
		}
	}
	if p.head, err = p.h.append(nil); err != nil {
		return err
	}
	sum := sha256.New()
	sum.Write(p.head)
	var n [4]byte
	for _, pgno := range p.pages {
		binary.BigEndian.PutUint32(n[:], pgno)
		sum.Write(n[:])
	}
	p.tag = copyEncoding + "-" + hex.EncodeToString(sum.Sum(nil)[:16])
	return nil
}

// Tag tells copies apart: those with the same tag are the same bytes, on whatever node.
func (p *PinnedCopy) Tag() string { return p.tag }

// State is what the copy is of.
func (p *PinnedCopy) State() State { return p.h.state }

// Index is that of the newest entry of the tenant which the copy contains.
func (p *PinnedCopy) Index() uint64 { return p.h.index }

// Partial says that only what changed since an older state comes.
func (p *PinnedCopy) Partial() bool { return p.h.prev != State{} }

// WriteTo writes the copy from byte offset on. When it wrote up to there before, it goes on near that; else it reads and drops
// the pages before.
func (p *PinnedCopy) WriteTo(ctx context.Context, w io.Writer, offset int64) error {
	head := int64(len(p.head))
	var from *copyMark
	for i := range p.marks {
		if head+p.marks[i].at.off <= offset {
			from = &p.marks[i]
		}
	}
	skip := &skipper{w: w, left: offset}
	bw := bufio.NewWriterSize(skip, 256<<10)
	var err error
	if from != nil {
		skip.left -= head + from.at.off
	} else {
		_, err = bw.Write(p.head)
	}
	if err == nil && p.h.state.TXID > 0 {
		err = p.writePages(ctx, bw, from)
	}
	if err == nil {
		err = bw.Flush()
	}
	if err == nil && skip.left > 0 {
		err = fmt.Errorf("the copy ends before byte %d", offset)
	}
	if err != nil {
		return fmt.Errorf("write copy of tenant %s: %w", p.t.id, err)
	}
	return nil
}

// Close gives the pages up.
func (p *PinnedCopy) Close() {
	if p.snap != nil {
		p.snap.Close()
	}
	p.t.Release()
}

// WriteCopy writes the tenant whole, as it is at one index of the log: PinCopy, WriteTo and Close.
func (t *Tenant) WriteCopy(ctx context.Context, w io.Writer) error {
	p, err := t.PinCopy(ctx, Have{})
	if err != nil {
		return err
	}
	defer p.Close()
	return p.WriteTo(ctx, w, 0)
}

// skipper drops what comes first.
type skipper struct {
	w    io.Writer
	left int64 // bytes
}

func (s *skipper) Write(b []byte) (int, error) {
	n := int(min(s.left, int64(len(b))))
	s.left -= int64(n)
	if n == len(b) {
		return n, nil
	}
	m, err := s.w.Write(b[n:])
	return n + m, err
}

// pinCopy waits until all that is logged is built, and pins it.
func (t *Tenant) pinCopy(ctx context.Context, s *Store) (copyHeader, *Snapshot, error) {
	for {
		h, snap, err := t.tryPinCopy(s)
		if snap != nil || err != nil {
			return h, snap, err
		}
		if err := s.wait(ctx.Done(), h.state.TXID); err != nil {
			if ctx.Err() != nil {
				return h, nil, ctx.Err()
			}
			return h, nil, err
		}
	}
}

// tryPinCopy returns no snapshot while transactions wait to be built.
func (t *Tenant) tryPinCopy(s *Store) (h copyHeader, snap *Snapshot, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h = copyHeader{group: t.g.cfg.ID, manifestTenant: manifestTenant{rec: t.mu.rec, state: t.mu.log, time: t.mu.logTime, index: t.mu.index}}
	switch {
	case t.mu.failed != nil:
		return h, nil, t.mu.failed
	case t.mu.gone:
		return h, nil, ErrNoTenant
	case t.mu.store != s:
		return h, nil, ErrReplaced
	case len(t.mu.staging) > 0:
		return h, nil, ErrStagingOpen // the index stands in the middle of the transaction
	case s.Committed() != t.mu.log:
		return h, nil, nil
	}
	snap, err = s.Snapshot()
	return h, snap, err
}

// writePages writes the LTX file, from a mark on if there is one.
func (p *PinnedCopy) writePages(ctx context.Context, w io.Writer, from *copyMark) error {
	i := 0
	if from != nil {
		if err := p.enc.resume(w, from.at); err != nil {
			return err
		}
		i = from.next
	} else if err := p.enc.begin(w, p.h.ltxHeader()); err != nil {
		return err
	}
	buf := make([]byte, p.h.rec.PageSize)
	for ; i < p.count(); i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		pgno := p.page(i)
		if pgno == p.store.lock {
			continue
		}
		if err := p.mark(i); err != nil {
			return err
		}
		if err := p.snap.ReadPage(buf, pgno); err != nil {
			return errors.Join(err, p.snap.h.TakeErr())
		}
		if err := p.enc.page(pgno, buf); err != nil {
			return err
		}
	}
	return p.enc.finish(p.h.state.Checksum)
}

// count is how many pages may come, and page the number of the i-th of them.
func (p *PinnedCopy) count() int {
	if p.Partial() {
		return len(p.pages)
	}
	return int(p.h.state.Pages)
}

func (p *PinnedCopy) page(i int) uint32 {
	if p.Partial() {
		return p.pages[i]
	}
	return uint32(i) + 1
}

// mark sets a mark before the i-th page, if it is far enough from the one before.
func (p *PinnedCopy) mark(i int) error {
	var last int64
	if n := len(p.marks); n > 0 {
		last = p.marks[n-1].at.off
	}
	if p.enc.off < last+markEvery {
		return nil
	}
	at, err := p.enc.mark()
	if err != nil {
		return err
	}
	p.marks = append(p.marks, copyMark{i, at})
	return nil
}

// ltxHeader is what the LTX file after the header begins with.
func (h *copyHeader) ltxHeader() ltx.Header {
	l := ltx.Header{Version: ltx.Version, PageSize: h.rec.PageSize, Commit: h.state.Pages, MinTXID: 1, MaxTXID: ltx.TXID(h.state.TXID), Timestamp: h.time}
	if h.prev != (State{}) {
		l.MinTXID, l.PreApplyChecksum = ltx.TXID(h.prev.TXID)+1, ltx.Checksum(h.prev.Checksum)
	}
	return l
}
