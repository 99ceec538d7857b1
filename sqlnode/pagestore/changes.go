package pagestore

import (
	"context"
	"fmt"
	"io"

	"github.com/superfly/ltx"

	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// ReadChanges takes what a PinnedCopy of another node wrote that is Partial: the pages that changed since the state of this copy, in a
// group with streams. r ends with it. Readers go on, and see the new state at once and whole when all of it has been checked. If it
// is refused, with a *CopyError or a *PositionError, or anything fails, nothing has changed. Methods for one tenant are not called at the same time.
func (t *Tenant) ReadChanges(ctx context.Context, r io.Reader) (Head, error) {
	g := t.g
	if !g.cfg.Streams {
		return Head{}, fmt.Errorf("group %d: %w", g.cfg.ID, ErrStreams)
	}
	h, err := g.readStreamedHeader(t.id, r)
	if err != nil {
		return Head{}, err
	}
	s, prev, err := t.settled(ctx, &h)
	if err != nil {
		return Head{}, err
	}
	defer t.Release()
	c := changes{t: t, s: s, h: &h, prev: prev, sum: prev.Checksum | wire.ChecksumFlag}
	defer c.abort()
	if c.seg, err = g.files.createPrivate(t, prev); err != nil {
		return Head{}, fmt.Errorf("changes of tenant %s: %w", t.id, err)
	}
	if err := c.read(ctx, r); err != nil {
		return Head{}, err
	}
	if err := c.install(); err != nil {
		return Head{}, fmt.Errorf("changes of tenant %s: %w", t.id, err)
	}
	g.followed(t, len(c.pages)*s.pageSize)
	g.Stats.Changed.Add(1)
	return Head{h.rec, h.state, h.index}, nil
}

// settled opens the store, once all that came before is built, if the changes follow it.
func (t *Tenant) settled(ctx context.Context, h *copyHeader) (*Store, State, error) {
	head, err := t.Head()
	if err != nil {
		return nil, State{}, fmt.Errorf("changes of tenant %s: %w", t.id, err)
	}
	rec, st := &head.Record, head.State
	switch {
	case h.prev.TXID == 0:
		return nil, State{}, &CopyError{t.id, fmt.Errorf("it is whole, and should be of changes")}
	case h.rec.Epoch != rec.Epoch || h.prev.TXID != st.TXID || h.prev.Checksum != st.Checksum:
		return nil, State{}, &PositionError{Tenant: t.id, Epoch: rec.Epoch, Have: st, Want: fmt.Sprintf("epoch %d, %s", h.rec.Epoch, h.prev)}
	case h.rec.PageSize != rec.PageSize:
		return nil, State{}, &CopyError{t.id, fmt.Errorf("it has pages of %d bytes, not %d", h.rec.PageSize, rec.PageSize)}
	case h.index <= head.Index:
		return nil, State{}, &CopyError{t.id, fmt.Errorf("it contains entries up to %d; here are those up to %d", h.index, head.Index)}
	}
	s, err := t.Acquire()
	if err != nil {
		return nil, State{}, fmt.Errorf("changes of tenant %s: %w", t.id, err)
	}
	if err := s.wait(ctx.Done(), st.TXID); err != nil {
		t.Release()
		return nil, State{}, fmt.Errorf("changes of tenant %s: %w", t.id, err)
	}
	return s, st, nil
}

// changes builds a state from the pages that changed since another.
type changes struct {
	t     *Tenant
	s     *Store
	h     *copyHeader
	prev  State
	sum   wire.Checksum
	seg   *privateSegment
	pages []newVersion
}

// read takes all pages to the segment, and checks what they lead to.
func (c *changes) read(ctx context.Context, r io.Reader) error {
	t, size := c.t, c.s.pageSize
	bad := func(format string, args ...any) error { return &CopyError{t.id, fmt.Errorf(format, args...)} }
	dec := ltx.NewDecoder(&blockGuard{r: r, limit: uint32(size + size/128 + 64)})
	dec.SetRetainPageIndex(false)
	if err := dec.DecodeHeader(); err != nil {
		return bad("LTX header: %w", noEOF(err))
	}
	if got, want := dec.Header(), c.h.ltxHeader(); got != want {
		return bad("its LTX header says %+v, its own header %+v", got, want)
	}
	buf := make([]byte, size)
	grown := c.prev.Pages // all pages up to it are here or came
	for at := uint32(0); ; {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("changes of tenant %s: %w", t.id, context.Cause(ctx))
		}
		var ph ltx.PageHeader
		err := dec.DecodePage(&ph, buf)
		if err == io.EOF && ph == (ltx.PageHeader{}) {
			break
		}
		if err != nil {
			return bad("after page %d: %w", at, noEOF(err))
		}
		if ph.Pgno > c.prev.Pages && grown+1 == c.s.lock {
			grown++
		}
		if ph.Flags != ltx.PageHeaderFlagSize || ph.Pgno <= at || ph.Pgno > c.h.state.Pages || ph.Pgno == c.s.lock || ph.Pgno > grown+1 {
			return bad("page %d with flags %x after page %d of %d", ph.Pgno, ph.Flags, at, c.h.state.Pages)
		}
		at = ph.Pgno
		grown = max(grown, at)
		if err := c.page(at, buf); err != nil {
			return fmt.Errorf("changes of tenant %s: %w", t.id, err)
		}
	}
	if grown+1 == c.s.lock {
		grown++
	}
	if grown < c.h.state.Pages {
		return bad("it ends with page %d of %d", grown, c.h.state.Pages)
	}
	if err := dec.Close(); err != nil {
		return bad("end of LTX: %w", noEOF(err))
	}
	if err := atEnd(r); err != nil {
		return bad("%w", err)
	}
	for pgno := c.h.state.Pages + 1; pgno <= c.prev.Pages; pgno++ {
		if err := c.without(pgno); err != nil {
			return fmt.Errorf("changes of tenant %s: %w", t.id, err)
		}
	}
	if post := wire.Checksum(dec.Trailer().PostApplyChecksum); c.sum != c.h.state.Checksum || post != c.sum {
		return bad("%w: that of its pages is %s, its end says %s, its header %s", errMismatch, c.sum, post, c.h.state.Checksum)
	}
	return nil
}

func (c *changes) page(pgno uint32, data []byte) error {
	if pgno <= c.prev.Pages {
		if err := c.without(pgno); err != nil {
			return err
		}
	}
	v := newVersion{pgno: pgno, sum: txn.PageSum(pgno, data)}
	c.sum ^= v.sum &^ wire.ChecksumFlag
	var err error
	if v.off, err = c.seg.w.page(pgno, v.sum, data); err != nil {
		return err
	}
	c.pages = append(c.pages, v)
	return nil
}

// without takes a page of the state before out of the sum.
func (c *changes) without(pgno uint32) error {
	if pgno == c.s.lock {
		return nil
	}
	old, err := c.s.sumAt(pgno, c.prev.TXID)
	c.sum ^= old &^ wire.ChecksumFlag
	return err
}

// install makes the state visible.
func (c *changes) install() error {
	t, h := c.t, c.h
	seg := c.seg
	file, err := t.g.files.finishPrivate(seg, h.state, h.time)
	if err != nil {
		return err
	}
	c.seg = nil
	for i := range c.pages {
		file.acquire()
		c.pages[i].file = file
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	err = t.mu.failed
	if t.mu.gone || t.mu.log != c.prev || t.mu.store != c.s || t.mu.busy {
		err = ErrReplaced
	}
	if err == nil {
		err = c.s.install(h.state, c.pages)
	}
	if err != nil {
		for _, p := range c.pages {
			p.file.release()
		}
		return err
	}
	for op := range t.mu.staging {
		t.takeStagingLocked(op).drop()
	}
	t.mu.rec, t.mu.log, t.mu.logTime, t.mu.index = h.rec, h.state, h.time, h.index
	t.mu.built = h.state
	return nil
}

func (c *changes) abort() {
	if c.seg != nil {
		c.seg.w.abort()
	}
}
