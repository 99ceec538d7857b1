package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
)

const (
	// inboxFrames is how many frames may wait to be applied; the window bounds the bytes of those that have any.
	inboxFrames = 16384
	// asksMax is how many questions are under way to one feeder.
	asksMax = 64
	// asksPerGroup is how many of them are sent for a group because it is time.
	asksPerGroup = 8
	// linkIdle is how long a stream without tenants is kept.
	linkIdle = 10 * time.Second
)

// link is the stream from one feeder, and what is to be had from there. What is not constant is guarded by Follower.mu.
type link struct {
	f     *Follower
	node  string
	inbox chan stream.Frame // to be applied; of the newest connection
	wake  chan struct{}     // holds one: the writer has something to do

	installing sync.WaitGroup

	running   bool
	connected bool
	failures  int
	notBefore time.Time

	nextSlot stream.Slot
	slots    map[stream.Slot]*sub
	fresh    []stream.Slot // to be subscribed
	lanes    map[stream.Lane]*laneIn
	installs map[stream.Slot]*install
	asked    map[wire.GroupID]struct{} // groups whose index is asked for here, and whose tenants come from elsewhere
	rounds   map[wire.GroupID]*readpath.Rounds
	out      []stream.Frame
	window   int64 // bytes of data that the feeder may send
	taken    int64 // of them, done with and not granted again yet
	asks     map[uint64]*ask
	nextAsk  uint64
	sent     map[wire.GroupID]time.Time // when the newest question was sent here
	look     bool                       // who is asked for what may have changed
}

// laneIn is a lane of a feeder. What is not constant is guarded by Follower.mu.
type laneIn struct {
	id      stream.Lane
	group   wire.GroupID
	hops    uint8 // of the feeder
	tail    *Tail // for those that follow this node
	pairs   *readpath.Pairs
	tenants map[wire.TenantID]*sub // that are followed by it
	double  map[*sub]struct{}      // of tenants that have two feeders, or have had until now
	through uint64                 // of the newest mark applied
	marks   uint64
	head    uint64 // how far the feeder says it is
}

func newLink(f *Follower, node string) *link {
	l := &link{f: f, node: node, wake: make(chan struct{}, 1)}
	l.resetLocked()
	return l
}

// resetLocked makes a link ready for a new connection.
func (l *link) resetLocked() {
	l.inbox = make(chan stream.Frame, inboxFrames)
	l.connected = false
	l.slots = make(map[stream.Slot]*sub)
	l.lanes = make(map[stream.Lane]*laneIn)
	l.installs = make(map[stream.Slot]*install)
	l.asked = make(map[wire.GroupID]struct{})
	l.rounds = make(map[wire.GroupID]*readpath.Rounds)
	l.asks = make(map[uint64]*ask)
	l.sent = make(map[wire.GroupID]time.Time)
	l.fresh, l.out, l.nextSlot, l.taken = nil, nil, 0, 0
	l.window = int64(l.f.cfg.Window)
}

// startLocked lets the link run, if it does not.
func (l *link) startLocked(start func(*link)) {
	if !l.running {
		l.running = true
		start(l)
	}
}

func (l *link) sendLocked(f stream.Frame) {
	if l.connected {
		l.out = append(l.out, f)
		kick(l.wake)
	}
}

// run connects once, and keeps the stream until it breaks.
func (l *link) run(ctx context.Context) {
	err := l.connect(ctx)
	f := l.f
	f.mu.Lock()
	rounds := l.rounds
	for _, i := range l.installs {
		i.end(errLinkEnded)
	}
	for _, s := range l.slots {
		if s == s.t.next {
			f.refusedLocked(s.t, false)
			continue
		}
		f.detachLocked(s.t, false)
		if err != nil {
			f.retryLocked(s.t)
		}
	}
	for id := range l.asked {
		if g := f.mu.groups[id]; g != nil && g.asker == l {
			g.asker = nil
		}
	}
	f.mu.reseat = true
	for _, lane := range l.lanes {
		lane.tail.End()
	}
	for _, a := range l.asks {
		a.answer(0, ErrUnconfirmed)
	}
	if l.connected {
		f.Stats.Streams.Add(-1)
	}
	l.resetLocked()
	l.running = false
	if err != nil {
		d := f.cfg.Timing.BackoffMax
		if l.failures < 10 {
			d = min(d, f.cfg.Timing.Backoff<<l.failures)
		}
		l.failures++
		l.notBefore = time.Now().Add(jitter(d))
	}
	f.announceLocked()
	f.mu.Unlock()
	for _, r := range rounds {
		r.End()
	}
	var refused *RefusedError
	switch {
	case errors.As(err, &refused):
		f.Stats.Refused.Add(1)
		f.log.Error("a feeder sent what it should not have", "feeder", l.node, "error", err)
	case err != nil && ctx.Err() == nil:
		f.log.Info("stream from a feeder ended", "feeder", l.node, "error", err)
	}
	kick(f.wake)
}

// connect dials and serves; nil if the stream was not wanted any more.
func (l *link) connect(ctx context.Context) error {
	dial, cancel := context.WithTimeout(ctx, 2*l.f.cfg.Timing.Dead)
	conn, err := l.f.cfg.Dial(dial, l.node)
	cancel()
	if err != nil {
		return fmt.Errorf("dial %s: %w", l.node, err)
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	l.f.mu.Lock()
	l.connected = true
	now := time.Now()
	for _, s := range l.slots {
		s.moved = now
	}
	l.lookLocked()
	l.f.mu.Unlock()
	l.f.Stats.Streams.Add(1)
	// The first of the three that fails says why.
	var parts sync.WaitGroup
	first := make(chan error, 3)
	written := make(chan struct{})
	parts.Go(func() {
		first <- l.write(ctx, conn)
		close(written)
	})
	parts.Go(func() { first <- l.read(ctx, conn) })
	parts.Go(func() { first <- l.apply(ctx) })
	err = <-first
	if l.sayWhy(err) {
		select {
		case <-written:
		case <-time.After(l.f.cfg.Timing.Heartbeat):
		}
	}
	end(err)
	_ = conn.Close()
	l.f.mu.Lock()
	for _, i := range l.installs {
		i.end(errLinkEnded)
	}
	l.f.mu.Unlock()
	parts.Wait()
	l.installing.Wait()
	if errors.Is(err, errIdle) {
		return nil
	}
	return err
}

// sayWhy lets a feeder whose frames were refused know so; false if it is not to blame.
func (l *link) sayWhy(err error) bool {
	e := stream.Error{Code: stream.ErrorFormat}
	switch {
	case errors.As(err, new(*RefusedError)):
		e.Code = stream.ErrorRefused
	case errors.As(err, new(*stream.VersionError)):
		e.Code = stream.ErrorVersion
	case errors.As(err, new(*stream.FormatError)):
	default:
		return false
	}
	e.Text = shorten(err.Error())
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	l.out = append(l.out[:0], e)
	kick(l.wake)
	return true
}

var (
	errIdle = errors.New("nothing is followed from here")
	errSaid = errors.New("the feeder was told why")
)
