package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
)

// Bounds of copies.
const (
	// copiesPerConn is how many are read for one receiver at a time.
	copiesPerConn = 2
	// copyStall is how long a receiver may take none of a copy until it is broken off: it holds a snapshot, and others wait.
	copyStall = 30 * time.Second
)

var errStalled = errors.New("the receiver takes no more of the copy")

// copySource is a copy or LTX file on its way. All but the channel belongs to the connection's goroutine.
type copySource struct {
	ltx    bool
	from   stream.Head
	chunks chan chunk // nil until it begins
	cancel context.CancelFunc
	sent   bool // the first piece
	next   *chunk
}

// chunk is a piece; the last has err io.EOF, or why there is no more.
type chunk struct {
	data     []byte
	err      error
	min, max wire.TXID
}

func (c *feedConn) copyTurn(ctx context.Context, s *slot) (progress bool, err error) {
	src := s.source
	if src.chunks == nil && c.producing < copiesPerConn {
		select {
		case c.f.copies <- struct{}{}:
			c.produce(ctx, s.tenant, src)
		default: // others are being read
		}
	}
	if src.next == nil && src.chunks != nil {
		select {
		case k := <-src.chunks:
			src.next = &k
		default:
		}
	}
	k := src.next
	if k == nil || int64(len(k.data)) > min(c.credit, s.credit) {
		c.turns = append(c.turns, s)
		return false, nil
	}
	src.next = nil
	var flags stream.Chunk
	if !src.sent {
		flags = stream.ChunkFirst
	}
	switch {
	case errors.Is(k.err, ErrNoLTX) && src.ltx && !src.sent:
		c.copy(s)
		return true, nil
	case k.err == io.EOF:
		flags |= stream.ChunkLast
	case k.err != nil && !src.sent:
		// There will be a copy later: the tenant is in the middle of something, or its copy here has failed.
		c.f.log.Info("a copy could not be begun", "tenant", s.tenant, "node", c.node, "error", k.err)
		return true, c.again(s)
	case k.err != nil:
		c.f.log.Warn("a copy was broken off", "tenant", s.tenant, "node", c.node, "error", k.err)
		flags |= stream.ChunkAborted
	}
	n := int64(len(k.data))
	c.credit -= n
	s.credit -= n
	if src.ltx {
		s.noLTX = flags&stream.ChunkLast != 0 && k.max <= s.at.TXID
		err = c.w.Write(stream.LTX{Slot: s.id, Min: k.min, Max: k.max, Chunk: flags, Data: k.data})
	} else {
		s.noLTX = false
		err = c.w.Write(stream.Snapshot{Slot: s.id, Chunk: flags, Data: k.data})
	}
	src.sent = true
	switch {
	case err != nil:
	case flags&stream.ChunkLast != 0:
		c.stopCopy(s)
		s.state = slotAsked
	case flags&stream.ChunkAborted != 0:
		err = c.again(s)
	default:
		c.turns = append(c.turns, s)
	}
	return true, err
}

// again begins with a slot anew, a little later.
func (c *feedConn) again(s *slot) error {
	c.leaveLane(s)
	c.stopCopy(s)
	c.park(s)
	return nil
}

// produce reads a copy beside the connection, a few pieces ahead. The caller has taken a place in Feeder.copies.
func (c *feedConn) produce(ctx context.Context, id wire.TenantID, src *copySource) {
	ctx, src.cancel = context.WithCancel(ctx)
	c.producing++
	chunks := make(chan chunk, 2)
	src.chunks = chunks
	ltx, from := src.ltx, src.from
	if ltx {
		c.f.Stats.LTX.Add(1)
	} else {
		c.f.Stats.Copies.Add(1)
	}
	c.work.Go(func() {
		w := &chunkWriter{ctx: ctx, chunks: chunks, wake: c.wake, patience: copyStall}
		var err error
		if ltx {
			err = c.readLTX(ctx, id, from, w)
		} else {
			err = c.f.cfg.Source.WriteCopy(ctx, id, w)
		}
		<-c.f.copies
		if err == nil {
			err = io.EOF
		}
		w.patience = 0 // nothing is held any more
		_ = w.send(err)
	})
}

func (c *feedConn) readLTX(ctx context.Context, id wire.TenantID, from stream.Head, w *chunkWriter) error {
	l, err := c.f.cfg.Source.OpenLTX(ctx, id, from)
	if err != nil {
		return err
	}
	defer l.Close()
	if l.Min > from.TXID+1 || l.Max <= from.TXID || l.Min == 0 {
		return fmt.Errorf("LTX %d to %d does not lead on from %d: %w", uint64(l.Min), uint64(l.Max), uint64(from.TXID), ErrNoLTX)
	}
	w.min, w.max = l.Min, l.Max
	_, err = io.Copy(w, l)
	return err
}

// chunkWriter cuts what is written to it into pieces.
type chunkWriter struct {
	ctx      context.Context
	chunks   chan<- chunk
	wake     chan struct{}
	buf      []byte
	min, max wire.TXID
	patience time.Duration // for a receiver that takes nothing; 0 for ever
}

// Write implements io.Writer.
func (w *chunkWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if w.buf == nil {
			w.buf = make([]byte, 0, stream.MaxChunk)
		}
		k := min(len(p), cap(w.buf)-len(w.buf))
		w.buf = append(w.buf, p[:k]...)
		p = p[k:]
		if len(w.buf) == cap(w.buf) {
			if err := w.send(nil); err != nil {
				return n - len(p), err
			}
		}
	}
	return n, nil
}

// send passes on what has been written, and err with it.
func (w *chunkWriter) send(err error) error {
	k := chunk{data: w.buf, err: err, min: w.min, max: w.max}
	if err != nil && err != io.EOF {
		k.data = nil
	}
	w.buf = nil
	var stalled <-chan time.Time
	if w.patience > 0 {
		timer := time.NewTimer(w.patience)
		defer timer.Stop()
		stalled = timer.C
	}
	select {
	case w.chunks <- k:
		kick(w.wake)
		return nil
	case <-stalled:
		return errStalled
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
}
