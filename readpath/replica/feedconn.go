package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
)

const (
	// quantum is about how many bytes one lane or slot gets before it is another's turn.
	quantum = 64 << 10
	// windowMin is the smallest window that a receiver may have.
	windowMin = 2 * stream.MaxEntry
	// answersMax is how many questions of one receiver are asked at a time.
	answersMax = 64
)

// feedConn is one receiver. All but the channels belongs to the goroutine of run.
type feedConn struct {
	f    *Feeder
	node string
	conn net.Conn
	w    *stream.Writer

	commands chan stream.Frame // of the receiver
	readErr  chan error        // holds one: why no more commands come
	answers  chan answer
	wake     chan struct{} // holds one: a lane or a copy goes on
	work     sync.WaitGroup

	credit   int64 // bytes of data that may be sent
	slots    map[stream.Slot]*slot
	tenants  map[wire.TenantID]*slot
	turns    []*slot // those that are parked or copying, in turn
	lanes    []*feedLane
	nextLane stream.Lane
	asking   int   // questions under way
	backlog  int64 // bytes of all slots
	// producing counts the copies that are being read.
	producing int

	marksDue time.Time // when a lane is due to say how far it is; zero for none

	cancel context.CancelFunc // constant before run
	open   atomic.Int64       // len(slots), for Receivers
	behind atomic.Int64       // entries, of the lane where that is most
}

type answer struct {
	probe stream.Probe
	index uint64
	err   error
}

func newFeedConn(f *Feeder, node string, conn net.Conn) *feedConn {
	return &feedConn{
		f: f, node: node, conn: conn, w: stream.NewWriter(conn),
		commands: make(chan stream.Frame, 64), readErr: make(chan error, 1), answers: make(chan answer, answersMax), wake: make(chan struct{}, 1),
		slots: make(map[stream.Slot]*slot), tenants: make(map[wire.TenantID]*slot),
	}
}

// run serves until something ends it.
func (c *feedConn) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	c.work.Go(func() { c.readErr <- c.read(ctx) })
	stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	err := c.write(ctx)
	c.sayWhy(err)
	cancel()
	stop()
	_ = c.conn.Close()
	for _, s := range c.slots {
		c.drop(s)
	}
	for _, l := range c.lanes {
		l.tail.unwatch(c.wake)
	}
	c.work.Wait()
	return err
}

// sayWhy tells the receiver why the connection ends, if that is of use to it.
func (c *feedConn) sayWhy(err error) {
	e := stream.Error{Code: stream.ErrorProtocol}
	var format *stream.FormatError
	var protocol *protocolError
	switch {
	case errors.As(err, new(*stream.VersionError)):
		e.Code = stream.ErrorVersion
	case errors.As(err, &format):
		e.Code = stream.ErrorFormat
	case errors.As(err, &protocol):
		e.Code = protocol.code
	default:
		return
	}
	e.Text = shorten(err.Error())
	_ = c.conn.SetWriteDeadline(time.Now().Add(c.f.cfg.Timing.Heartbeat))
	if c.w.Write(e) == nil {
		_ = c.w.Flush()
	}
}

// shorten makes a text fit an Error.
func shorten(s string) string {
	if len(s) > stream.MaxText {
		s = s[:stream.MaxText]
	}
	b := []byte(s)
	for i := range b {
		if b[i] < ' ' || b[i] > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

// protocolError ends a connection.
type protocolError struct {
	code stream.ErrorCode
	what string
}

func (e *protocolError) Error() string { return e.what }

func outOfPlace(format string, args ...any) error {
	return &protocolError{stream.ErrorProtocol, fmt.Sprintf(format, args...)}
}

// read passes on what the receiver sends.
func (c *feedConn) read(ctx context.Context) error {
	r := stream.NewReader(c.conn)
	for {
		_ = c.conn.SetReadDeadline(time.Now().Add(c.f.cfg.Timing.Dead))
		f, err := r.Next()
		if err != nil {
			return err
		}
		switch f.(type) {
		case stream.Heartbeat:
			continue
		case stream.Hello, stream.Subscribe, stream.Unsubscribe, stream.Ack, stream.Applied, stream.Credit, stream.Probe, stream.Error:
		default:
			return outOfPlace("a receiver sent %q", f.Type())
		}
		select {
		case c.commands <- f:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// write sends what there is to send.
func (c *feedConn) write(ctx context.Context) error {
	t := &c.f.cfg.Timing
	c.deadline()
	if err := c.w.Write(stream.Hello{Version: stream.Version, Heartbeat: uint32(t.Heartbeat / time.Millisecond)}); err != nil {
		return err
	}
	beat := time.NewTicker(t.Heartbeat)
	defer beat.Stop()
	parked := time.NewTicker(retryParked)
	defer parked.Stop()
	marks := time.NewTimer(time.Hour)
	defer marks.Stop()
	for {
		progress, err := c.step(ctx)
		if err != nil {
			return err
		}
		if progress {
			continue
		}
		if c.w.Buffered() > 0 {
			c.deadline()
			if err := c.w.Flush(); err != nil {
				return err
			}
		}
		if !c.marksDue.IsZero() {
			marks.Reset(time.Until(c.marksDue))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-marks.C:
		case err := <-c.readErr:
			if err == io.EOF {
				return nil
			}
			return err
		case f := <-c.commands:
			err = c.command(ctx, f)
		case a := <-c.answers:
			err = c.answer(a)
		case <-c.wake:
		case <-parked.C:
		case <-beat.C:
			err = c.beat()
		}
		if err != nil {
			return err
		}
	}
}

func (c *feedConn) deadline() { _ = c.conn.SetWriteDeadline(time.Now().Add(c.f.cfg.Timing.Dead)) }

// beat says that this node is there, and how far.
func (c *feedConn) beat() error {
	var heads []stream.LaneHead
	behind := uint64(0)
	for _, l := range c.lanes {
		through := l.tail.throughNow()
		if l.applied > 0 {
			behind = max(behind, through-min(through, l.applied))
		}
		if len(heads) < stream.MaxHeads {
			heads = append(heads, stream.LaneHead{Lane: l.id, Index: through})
		}
	}
	c.behind.Store(int64(behind))
	c.open.Store(int64(len(c.slots)))
	c.deadline()
	if len(heads) > 0 {
		return c.w.Write(stream.Heads{Heads: heads})
	}
	return c.w.Write(stream.Heartbeat{})
}

// step does what can be done now: all commands and answers, then a turn for each lane and each slot that catches up.
func (c *feedConn) step(ctx context.Context) (progress bool, err error) {
	c.deadline()
	for more := true; more; {
		select {
		case f := <-c.commands:
			progress, err = true, c.command(ctx, f)
		case a := <-c.answers:
			progress, err = true, c.answer(a)
		default:
			more = false
		}
		if err != nil {
			return progress, err
		}
	}
	c.marksDue = time.Time{}
	for _, l := range append([]*feedLane(nil), c.lanes...) {
		did, err := c.laneTurn(l)
		if err != nil {
			return progress, err
		}
		progress = progress || did
	}
	turns := c.turns
	c.turns = nil
	for _, s := range turns {
		did, err := c.slotTurn(ctx, s)
		if err != nil {
			return progress, err
		}
		progress = progress || did
	}
	return progress, nil
}

func (c *feedConn) command(ctx context.Context, f stream.Frame) error {
	switch f := f.(type) {
	case stream.Hello:
		if f.Window < windowMin {
			return outOfPlace("a window of %d bytes is below %d", f.Window, windowMin)
		}
		c.credit = int64(f.Window)
	case stream.Subscribe:
		return c.subscribe(f)
	case stream.Unsubscribe:
		if s := c.slots[f.Slot]; s != nil {
			c.drop(s)
		}
	case stream.Ack:
		s := c.slots[f.Slot]
		if s == nil {
			return nil // it has gone meanwhile
		}
		if s.state != slotAsked {
			return outOfPlace("an ack for slot %d, which has no copy", f.Slot)
		}
		return c.resume(s, f.Head)
	case stream.Credit:
		if f.Slot == 0 {
			c.credit += int64(f.Bytes)
		} else if s := c.slots[f.Slot]; s != nil {
			s.credit += int64(f.Bytes)
		}
	case stream.Probe:
		c.probe(ctx, f)
	case stream.Applied:
		for _, l := range c.lanes {
			if l.id == f.Lane {
				l.applied = max(l.applied, f.Index)
			}
		}
	case stream.Error:
		return fmt.Errorf("the receiver ended the stream: %v: %q", f.Code, f.Text)
	}
	return nil
}

// probe asks, beside the stream.
func (c *feedConn) probe(ctx context.Context, p stream.Probe) {
	if c.asking >= answersMax {
		_ = c.w.Write(stream.Probed{ID: p.ID, Group: p.Group, Code: stream.ProbeBusy}) // a write that failed shows at the next
		return
	}
	c.asking++
	c.work.Go(func() {
		index, err := c.f.readIndex(ctx, p.Group)
		c.answers <- answer{p, index, err}
	})
}

// answer passes an answer on, and sees to it that marks follow.
func (c *feedConn) answer(a answer) error {
	c.asking--
	out := stream.Probed{ID: a.probe.ID, Group: a.probe.Group}
	switch {
	case errors.Is(a.err, ErrUnknownGroup):
		out.Code = stream.ProbeUnknown
	case a.err != nil:
		out.Code = stream.ProbeUnconfirmed
	default:
		out.Index = a.index
		for _, l := range c.lanes {
			if l.tail.group == a.probe.Group {
				l.want = max(l.want, a.index)
			}
		}
	}
	return c.w.Write(out)
}
