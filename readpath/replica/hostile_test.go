package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/readpath/readpathtest"
	"github.com/nearsql/nearsql/readpath/replica"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
)

var (
	tenantA = wire.TenantID{1}
	tenantB = wire.TenantID{2}
)

// memory is a Sink.
type memory struct {
	mu       sync.Mutex
	copies   map[wire.TenantID]readpathtest.State
	hold     bool          // Apply waits for the end of its stream
	slow     time.Duration // of Apply
	working  int           // calls of Apply under way
	at       []uint64      // indexes that Apply was called with, while there is slow
	diverged []error
	gone     []stream.GoneCode
}

func newMemory() *memory { return &memory{copies: make(map[wire.TenantID]readpathtest.State)} }

func (m *memory) state(id wire.TenantID) readpathtest.State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.copies[id]
}

func (m *memory) Head(id wire.TenantID) replica.Head {
	s := m.state(id)
	return s.Head()
}

func (m *memory) Apply(ctx context.Context, id wire.TenantID, index uint64, entry []byte) (replica.Applied, error) {
	if m.hold {
		<-ctx.Done()
		return replica.Applied{}, ctx.Err()
	}
	if m.slow > 0 {
		m.mu.Lock()
		if m.working++; m.working > 1 {
			m.diverged = append(m.diverged, fmt.Errorf("entry %d is applied beside another", index))
		}
		m.at = append(m.at, index)
		m.mu.Unlock()
		time.Sleep(m.slow)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.working = 0
	after, err := m.copies[id].Next(index, entry)
	if err != nil {
		return replica.Applied{}, err
	}
	m.copies[id] = after
	return replica.Applied{Departed: after.MovedTo != 0}, nil
}

func (m *memory) InstallLTX(ctx context.Context, id wire.TenantID, _, _ wire.TXID, r io.Reader) (replica.Head, error) {
	return m.InstallCopy(ctx, id, 0, r)
}

func (m *memory) InstallCopy(ctx context.Context, id wire.TenantID, _ wire.GroupID, r io.Reader) (replica.Head, error) {
	begin := make([]byte, 4)
	if _, err := io.ReadFull(r, begin); err != nil {
		return replica.Head{}, err
	}
	if string(begin) == "hold" {
		<-ctx.Done()
		return replica.Head{}, ctx.Err()
	}
	s, err := readpathtest.Decode(io.MultiReader(bytes.NewReader(begin), r))
	if err == nil && s.Tenant != id {
		err = errors.New("of another tenant")
	}
	if err != nil {
		return replica.Head{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.copies[id] = s
	return s.Head(), nil
}

func (m *memory) Gone(_ wire.TenantID, why stream.GoneCode, _ wire.GroupID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = append(m.gone, why)
}

func (m *memory) Diverged(_ wire.TenantID, _ string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.diverged = append(m.diverged, err)
}

// history is a tenant's entries from its creation on, at indexes from 1, and its states after each.
func history(t *testing.T, id wire.TenantID, n int) (entries [][]byte, states []readpathtest.State) {
	t.Helper()
	s := readpathtest.State{Tenant: id, Group: 2, Epoch: 1}
	for i := range n {
		var e []byte
		var err error
		if i == 0 {
			e, err = s.Control(readpathtest.CodeCreated, []byte("a"), 0)
		} else {
			e, err = s.Write(0)
		}
		if err != nil {
			t.Fatal(err)
		}
		if s, err = s.Next(uint64(i+1), e); err != nil {
			t.Fatal(err)
		}
		entries, states = append(entries, e), append(states, s)
	}
	return entries, states
}

// script is a feeder made by hand.
type script struct {
	t    *testing.T
	conn net.Conn
	r    *stream.Reader
}

func (s *script) send(frames ...stream.Frame) {
	for _, f := range frames {
		b, err := stream.Append(nil, f)
		if err != nil {
			s.t.Error(err)
			return
		}
		s.raw(b)
	}
}

func (s *script) raw(b []byte) {
	_ = s.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = s.conn.Write(b)
}

// next is the next frame but heartbeats, probes and credit.
func (s *script) next() stream.Frame {
	for {
		_ = s.conn.SetReadDeadline(time.Now().Add(4 * time.Second))
		f, err := s.r.Next()
		if err != nil {
			return nil
		}
		switch f.(type) {
		case stream.Heartbeat, stream.Probe, stream.Credit, stream.Applied:
			continue
		}
		return f
	}
}

func want[F stream.Frame](s *script) F {
	f, ok := s.next().(F)
	if !ok {
		s.t.Errorf("got %T, want %T", f, *new(F))
	}
	return f
}

// against runs a Follower of tenant A against a script. The sink has the tenant's state already, if have is not nil.
func against(t *testing.T, have *readpathtest.State, do func(s *script, f *replica.Follower, m *memory, sub stream.Subscribe)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		if have != nil {
			m.copies[tenantA] = *have
		}
		dialled := make(chan net.Conn, 100)
		ticks := readpath.NewTicks(readpath.NewSystemClock())
		f, err := replica.NewFollower(replica.FollowerConfig{
			Sink: m, Ticks: ticks, Window: 1 << 20,
			Dial: func(context.Context, string) (net.Conn, error) {
				near, far := net.Pipe()
				dialled <- far
				return near, nil
			},
			Feeders: func(wire.TenantID) []string { return []string{"feeder"} },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { _ = ticks.Run(ctx) })
		run.Go(func() { _ = f.Run(ctx) })
		f.Follow(tenantA, 2, 1)
		conn := <-dialled
		s := &script{t, conn, stream.NewReader(conn)}
		_ = want[stream.Hello](s)
		s.send(stream.Hello{Version: stream.Version})
		do(s, f, m, want[stream.Subscribe](s))
		cancel()
		conn.Close()
		run.Wait()
		for len(dialled) > 0 {
			(<-dialled).Close()
		}
	})
}

// TestHostileFeeder: what is not right is refused, the stream ends with a word about it, and the copy stays as it was.
func TestHostileFeeder(t *testing.T) {
	entries, states := history(t, tenantA, 10)
	others, _ := history(t, tenantB, 10)
	flipped := bytes.Clone(entries[3])
	flipped[len(flipped)-20] ^= 1
	copyOf := func(s readpathtest.State) []byte {
		b, err := s.Encode(0)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	frame := func(f stream.Frame) []byte {
		b, err := stream.Append(nil, f)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	badCRC := frame(stream.Through{Lane: 1, Index: 5})
	badCRC[len(badCRC)-1] ^= 1
	enter := func(sub stream.Subscribe) stream.Enter { return stream.Enter{Slot: sub.Slot, Lane: 1, Group: 2} }
	tests := []struct {
		name string
		send func(s *script, sub stream.Subscribe)
		why  string // what the error says; "" where the feeder is not to blame for more than a position
		code stream.ErrorCode
	}{
		{"wrong checksum of an entry", func(s *script, sub stream.Subscribe) {
			s.send(enter(sub), stream.Txn{Slot: sub.Slot, Index: 4, Entry: flipped})
		}, "can't be read", stream.ErrorRefused},
		{"truncated entry", func(s *script, sub stream.Subscribe) {
			s.send(enter(sub), stream.Txn{Slot: sub.Slot, Index: 4, Entry: entries[3][:len(entries[3])/2]})
		}, "can't be read", stream.ErrorRefused},
		{"entry of unknown version", func(s *script, sub stream.Subscribe) {
			e := bytes.Clone(entries[3])
			e[1] = 9
			s.send(enter(sub), stream.Txn{Slot: sub.Slot, Index: 4, Entry: e})
		}, "version 9", stream.ErrorRefused},
		{"wrong tenant", func(s *script, sub stream.Subscribe) {
			s.send(enter(sub), stream.Txn{Slot: sub.Slot, Index: 4, Entry: others[3]})
		}, "an entry of tenant", stream.ErrorRefused},
		{"wrong group", func(s *script, sub stream.Subscribe) {
			s.send(stream.Enter{Slot: sub.Slot, Lane: 1, Group: 3})
		}, "of group 3", stream.ErrorRefused},
		{"an entry before its lane", func(s *script, sub stream.Subscribe) {
			s.send(stream.Txn{Slot: sub.Slot, Index: 4, Entry: entries[3]})
		}, "before its lane", stream.ErrorRefused},
		{"a mark of no lane", func(s *script, sub stream.Subscribe) { s.send(stream.Through{Lane: 7, Index: 4}) }, "has not begun", stream.ErrorRefused},
		{"a mark that goes back", func(s *script, sub stream.Subscribe) {
			s.send(enter(sub), stream.Through{Lane: 1, Index: 4}, stream.Through{Lane: 1, Index: 3})
		}, "a mark of 3 after one of 4", stream.ErrorRefused},
		{"a frame of a receiver", func(s *script, sub stream.Subscribe) { s.send(stream.Unsubscribe{Slot: 1}) }, "no \"unsubscribe\"", stream.ErrorRefused},
		{"entry in the middle of a copy", func(s *script, sub stream.Subscribe) {
			s.send(enter(sub), stream.Snapshot{Slot: sub.Slot, Chunk: stream.ChunkFirst}, stream.Txn{Slot: sub.Slot, Index: 4, Entry: entries[3]})
		}, "in the middle of a copy", stream.ErrorRefused},
		{"a copy without a beginning", func(s *script, sub stream.Subscribe) {
			s.send(enter(sub), stream.Snapshot{Slot: sub.Slot, Data: []byte("x")})
		}, "has not begun", stream.ErrorRefused},
		{"more of a copy than its window", func(s *script, sub stream.Subscribe) {
			s.send(enter(sub), stream.Snapshot{Slot: sub.Slot, Chunk: stream.ChunkFirst, Data: []byte("hold")})
			for range 9 {
				s.send(stream.Snapshot{Slot: sub.Slot, Data: make([]byte, stream.MaxChunk)})
			}
		}, "bytes of a copy more than it may", stream.ErrorRefused},
		{"more than the connection's window", func(s *script, sub stream.Subscribe) {
			s.send(enter(sub), stream.Txn{Slot: sub.Slot, Index: 4, Entry: entries[3]}) // the sink is held up there
			for range 16 {
				s.send(stream.Txn{Slot: sub.Slot, Index: 5, Entry: make([]byte, stream.MaxEntry)})
			}
		}, "bytes more than it may", stream.ErrorRefused},
		{"an answer for another group", func(s *script, sub stream.Subscribe) {
			s.send(enter(sub))
			for {
				f, err := s.r.Next()
				if p, ok := f.(stream.Probe); ok {
					s.send(stream.Probed{ID: p.ID, Group: 3})
					return
				}
				if err != nil {
					return
				}
			}
		}, "to a question for group 2", stream.ErrorRefused},
		{"a bad CRC of a frame", func(s *script, sub stream.Subscribe) { s.raw(badCRC) }, "CRC", stream.ErrorFormat},
		{"an oversized frame", func(s *script, sub stream.Subscribe) { s.raw([]byte{byte(stream.TypeTxn), 0xff, 0xff, 0xff}) }, "more than", stream.ErrorFormat},
		{"an unknown frame", func(s *script, sub stream.Subscribe) { s.raw([]byte{77, 0, 0, 0, 0, 0, 0, 0}) }, "", stream.ErrorFormat},
		{"more hops than were asked for", func(s *script, sub stream.Subscribe) {
			s.send(stream.Enter{Slot: sub.Slot, Lane: 1, Group: 2, Hops: stream.MaxHops})
		}, "hops", stream.ErrorRefused},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			against(t, &states[2], func(s *script, f *replica.Follower, m *memory, sub stream.Subscribe) {
				m.hold = c.name == "more than the connection's window"
				c.send(s, sub)
				e, ok := s.next().(stream.Error)
				if !ok || e.Code != c.code || !strings.Contains(e.Text, c.why) {
					t.Errorf("got %+v, want %v with %q", e, c.code, c.why)
				}
				if got := m.state(tenantA); got.Head() != states[2].Head() {
					t.Errorf("the copy is at %+v now", got.Head())
				}
				if f.Fresh(tenantA).Known {
					t.Error("and it is fresh")
				}
			})
		})
	}
	// What does not fit the copy's position is no fault of the stream, but of one of the two copies.
	for _, c := range []struct {
		name  string
		send  func(s *script, sub stream.Subscribe)
		again stream.Head // what the next subscription asks from
	}{
		{"out of order", func(s *script, sub stream.Subscribe) {
			s.send(enter(sub), stream.Txn{Slot: sub.Slot, Index: 5, Entry: entries[4]})
		}, stream.Head{}},
		{"joined elsewhere", func(s *script, sub stream.Subscribe) {
			head := states[2].Head().Head
			head.Checksum ^= 1
			s.send(enter(sub), stream.Joined{Slot: sub.Slot, Head: head})
		}, stream.Head{}},
		{"a damaged copy", func(s *script, sub stream.Subscribe) {
			b := copyOf(states[8])
			b[len(b)/2] ^= 1
			s.send(enter(sub), stream.Snapshot{Slot: sub.Slot, Chunk: stream.ChunkFirst | stream.ChunkLast, Data: b})
		}, states[2].Head().Head},
		{"a copy that was cut short", func(s *script, sub stream.Subscribe) {
			b := copyOf(states[8])
			s.send(enter(sub), stream.Snapshot{Slot: sub.Slot, Chunk: stream.ChunkFirst | stream.ChunkLast, Data: b[:len(b)/2]})
		}, states[2].Head().Head},
		{"a copy of another tenant", func(s *script, sub stream.Subscribe) {
			b := copyOf(readpathtest.State{Tenant: tenantB, Epoch: 1})
			s.send(enter(sub), stream.Snapshot{Slot: sub.Slot, Chunk: stream.ChunkFirst | stream.ChunkLast, Data: b})
		}, states[2].Head().Head},
		{"a copy that is broken off", func(s *script, sub stream.Subscribe) {
			s.send(enter(sub), stream.Snapshot{Slot: sub.Slot, Chunk: stream.ChunkFirst, Data: []byte("{")}, stream.Snapshot{Slot: sub.Slot, Chunk: stream.ChunkAborted})
		}, states[2].Head().Head},
	} {
		t.Run(c.name, func(t *testing.T) {
			against(t, &states[2], func(s *script, f *replica.Follower, m *memory, sub stream.Subscribe) {
				c.send(s, sub)
				if u := want[stream.Unsubscribe](s); u.Slot != sub.Slot {
					t.Errorf("unsubscribed %d", u.Slot)
				}
				if got := m.state(tenantA); got.Head() != states[2].Head() {
					t.Errorf("the copy is at %+v now", got.Head())
				}
				if next := want[stream.Subscribe](s); next.Head != c.again || next.Slot == sub.Slot {
					t.Errorf("it asks from %+v, want %+v", next.Head, c.again)
				}
				if f.Fresh(tenantA).Known {
					t.Error("it is fresh")
				}
			})
		})
	}
}

// TestUnknownVersion: the other end is told, and nothing is done.
func TestUnknownVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		feeder, err := replica.NewFeeder(replica.FeederConfig{Source: noSource{}})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { feeder.Serve(t.Context(), "r", near); close(done) }()
		s := &script{t, far, stream.NewReader(far)}
		_ = want[stream.Hello](s)
		b, err := stream.Append(nil, stream.Hello{Version: stream.Version, Window: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		b[12] = 2
		fixCRC(b)
		s.raw(b)
		if e := want[stream.Error](s); e.Code != stream.ErrorVersion || !strings.Contains(e.Text, "version 2") {
			t.Errorf("got %+v", e)
		}
		<-done
		far.Close()
	})
}

// TestHostileReceiver: a feeder does not serve one that does not keep to the format.
func TestHostileReceiver(t *testing.T) {
	hello := stream.Hello{Version: stream.Version, Window: 1 << 20}
	sub := stream.Subscribe{Slot: 1, Tenant: tenantA, Hops: 1}
	for name, frames := range map[string][]stream.Frame{
		"small window":          {stream.Hello{Version: stream.Version, Window: 10}},
		"second slot":           {hello, sub, sub},
		"second of the tenant":  {hello, sub, stream.Subscribe{Slot: 2, Tenant: tenantA, Hops: 1}},
		"ack of nothing":        {hello, sub, stream.Ack{Slot: 1}},
		"a frame of the feeder": {hello, stream.Through{Lane: 1, Index: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				feeder, err := replica.NewFeeder(replica.FeederConfig{Source: noSource{}})
				if err != nil {
					t.Fatal(err)
				}
				done := make(chan struct{})
				go func() { feeder.Serve(t.Context(), "r", near); close(done) }()
				s := &script{t, far, stream.NewReader(far)}
				_ = want[stream.Hello](s)
				go s.send(frames...)
				if e := want[stream.Error](s); e.Code != stream.ErrorProtocol {
					t.Errorf("got %+v", e)
				}
				<-done
				far.Close()
				if n := feeder.Stats.Slots.Load() + feeder.Stats.Conns.Load(); n != 0 {
					t.Errorf("%d are left", n)
				}
			})
		})
	}
}

// noSource has one tenant, which follows nobody.
type noSource struct{}

func (noSource) Admit(wire.TenantID, string) error        { return nil }
func (noSource) Lane(wire.TenantID) (replica.Lane, error) { return replica.Lane{}, replica.ErrNoLane }
func (noSource) Head(wire.TenantID) (replica.Head, error) { return replica.Head{}, nil }
func (noSource) OpenLTX(context.Context, wire.TenantID, stream.Head) (*replica.LTX, error) {
	return nil, replica.ErrNoLTX
}
func (noSource) WriteCopy(context.Context, wire.TenantID, io.Writer) error { return fmt.Errorf("none") }
func (noSource) ReadIndex(context.Context, wire.GroupID) (uint64, error) {
	return 0, replica.ErrUnknownGroup
}
