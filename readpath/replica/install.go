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

// pieces is how many pieces of a copy may wait for its Sink: twice what a window of full ones has.
const pieces = 2 * slotWindow / stream.MaxChunk

// piece is a piece of a copy or LTX file, as it came.
type piece struct {
	ltx      bool
	min, max wire.TXID
	flags    stream.Chunk
	data     []byte
}

// install is a copy or LTX file that is coming. It reads as the file does.
type install struct {
	link  *link
	slot  stream.Slot
	head  piece // the first piece, without data
	ctx   context.Context
	end   context.CancelCauseFunc
	queue chan piece

	// Of the reader:
	rest []byte
	eof  bool // after rest

	// Guarded by Follower.mu:
	last   bool  // no more pieces are to come
	window int64 // bytes that may come
}

var (
	errNotToEnd  = errors.New("the sink did not read it to its end")
	errDetached  = errors.New("the tenant is not followed from there any more")
	errLinkEnded = errors.New("the stream has ended")
)

// chunk passes a piece on to the one who installs.
func (l *link) chunk(ctx context.Context, slot stream.Slot, p piece) error {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	s := l.slots[slot]
	if s == nil {
		l.doneLocked(len(p.data))
		return nil
	}
	t := s.t
	first := p.flags&stream.ChunkFirst != 0
	if first && t.next != nil && s != t.next {
		l.f.stayLocked(t, true)
		if s = l.freeLocked(slot); s == nil {
			l.doneLocked(len(p.data))
			return nil
		}
	}
	i := l.installs[slot]
	switch {
	case first && s == t.next:
		l.doneLocked(len(p.data))
		l.f.refusedLocked(t, true) // it has not what this copy lacks, and the feeder that there is has: no better one
		return nil
	case first && !s.joined && len(s.ahead) > 0:
		l.doneLocked(len(p.data))
		l.f.detachLocked(t, true) // it does not know how far the copy has come by another feeder
		l.f.retryLocked(t)
		return nil
	case first && (i != nil || s.joined):
		return l.refuse(s, "a copy begins out of place")
	case !first && i == nil:
		return l.refuse(s, "a copy goes on that has not begun")
	case !first && (i.last || p.ltx != i.head.ltx || p.min != i.head.min || p.max != i.head.max):
		return l.refuse(s, "a piece of another copy")
	case p.flags&stream.ChunkAborted != 0:
		l.f.log.Info("a copy was broken off by its feeder", "tenant", t.id, "feeder", l.node)
		l.f.detachLocked(t, true)
		l.f.retryLocked(t)
		return nil
	case first:
		i = &install{link: l, slot: slot, head: p, queue: make(chan piece, pieces), window: slotWindow}
		i.head.data = nil
	}
	i.last = p.flags&stream.ChunkLast != 0
	if i.window -= int64(len(p.data)); i.window < 0 {
		return l.refuse(s, "it sent %d bytes of a copy more than it may", -i.window)
	}
	select {
	case i.queue <- p:
	default:
		return l.refuse(s, "more than %d pieces of a copy at a time", pieces)
	}
	s.moved = time.Now()
	if first {
		i.ctx, i.end = context.WithCancelCause(ctx)
		l.installs[slot] = i
		t.busy = true
		if !p.ltx {
			t.before = nil // what comes may be older than what is here
		}
		group := t.group
		l.installing.Go(func() { i.run(t, group) })
	}
	return nil
}

// abortLocked breaks off what comes for a slot.
func (l *link) abortLocked(slot stream.Slot) {
	if i := l.installs[slot]; i != nil {
		i.end(errDetached)
	}
}

// Read implements io.Reader.
func (i *install) Read(b []byte) (int, error) {
	for len(i.rest) == 0 {
		if i.eof {
			return 0, io.EOF
		}
		select {
		case p := <-i.queue:
			i.rest, i.eof = p.data, p.flags&stream.ChunkLast != 0
			i.took(len(p.data))
		case <-i.ctx.Done():
			return 0, context.Cause(i.ctx)
		}
	}
	n := copy(b, i.rest)
	i.rest = i.rest[n:]
	return n, nil
}

// took gives bytes of both windows back.
func (i *install) took(n int) {
	if n == 0 {
		return
	}
	l := i.link
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	l.doneLocked(n)
	i.window += int64(n)
	if l.installs[i.slot] == i && !i.last {
		l.sendLocked(stream.Credit{Slot: i.slot, Bytes: uint32(n)})
	}
}

// run installs, and tells the feeder where that led.
func (i *install) run(t *followed, group wire.GroupID) {
	l := i.link
	f := l.f
	var (
		head Head
		err  error
	)
	if i.head.ltx {
		head, err = f.cfg.Sink.InstallLTX(i.ctx, t.id, i.head.min, i.head.max, i)
	} else {
		head, err = f.cfg.Sink.InstallCopy(i.ctx, t.id, group, i)
	}
	if err == nil && (len(i.rest) > 0 || !i.eof) {
		err = errNotToEnd
	}
	i.end(nil)
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(l.installs, i.slot)
	for len(i.queue) > 0 { // what nobody read
		l.doneLocked(len((<-i.queue).data))
	}
	f.doneLocked(t)
	if err == nil {
		t.known, t.last, t.anew = head.Index, head.Index, false
	}
	s := l.slots[i.slot]
	if s == nil {
		return
	}
	if err != nil {
		l.failedLocked(s, fmt.Errorf("install: %w", err))
		return
	}
	s.moved = time.Now()
	if i.head.ltx {
		f.Stats.LTX.Add(1)
	} else {
		f.Stats.Copies.Add(1)
	}
	if s.lane != nil {
		s.lane.tail.Renew(t.id, t.last)
	}
	l.sendLocked(stream.Ack{Slot: i.slot, Head: head.Head})
}
